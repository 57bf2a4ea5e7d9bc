//! Keys that contradict each other, or need each other.

use super::*;
use crate::train::objective::DpoLoss;

#[test]
fn two_warmups() {
    assert_snapshot!(wrong_after("training:\n  warmup_steps: 10\n  warmup_ratio: 0.1\n"), @r##"
error: `training.warmup_ratio` and `training.warmup_steps` both say how long to warm up
  --> recipe.yaml:6:17
  6 |   warmup_ratio: 0.1
    |                 ^^^
  hint: keep one, or set this one to 0
"##);
}

#[test]
fn two_sources_of_eval_rows() {
    assert_snapshot!(wrong("model: {base: m}\noutput: {dir: o}\ndata:\n  train: a\n  eval: b\n  eval_fraction: 0.1\n"), @r##"
error: `data.eval_fraction` and `data.eval` both say where evaluation rows come from
  --> recipe.yaml:6:18
  6 |   eval_fraction: 0.1
    |                  ^^^
  hint: keep one, or set this one to 0
"##);
}

#[test]
fn evaluation_without_rows() {
    assert_snapshot!(wrong_after(
        "evaluation:\n  eval_steps: 10\n  early_stopping_patience: 3\n  load_best_model_at_end: true\n  eval_on_start: true\n"
    ), @r##"
error: `evaluation.eval_steps` has no rows to evaluate on
  --> recipe.yaml:5:15
  5 |   eval_steps: 10
    |               ^^
  hint: give `data.eval`, or hold rows back with `data.eval_fraction: 0.05`

error: `evaluation.early_stopping_patience` has no rows to evaluate on
  --> recipe.yaml:6:28
  6 |   early_stopping_patience: 3
    |                            ^
  hint: give `data.eval`, or hold rows back with `data.eval_fraction: 0.05`

error: `evaluation.load_best_model_at_end` has no rows to evaluate on
  --> recipe.yaml:7:27
  7 |   load_best_model_at_end: true
    |                           ^^^^
  hint: give `data.eval`, or hold rows back with `data.eval_fraction: 0.05`

error: `evaluation.eval_on_start` has no rows to evaluate on
  --> recipe.yaml:8:18
  8 |   eval_on_start: true
    |                  ^^^^
  hint: give `data.eval`, or hold rows back with `data.eval_fraction: 0.05`

4 problems
"##);
}

#[test]
fn evaluation_without_steps() {
    assert_snapshot!(wrong(
        "model: {base: m}\noutput: {dir: o}\ndata: {train: a, eval: b}\nevaluation:\n  early_stopping_patience: 3\n  \
         load_best_model_at_end: true\n"
    ), @r##"
error: `evaluation.early_stopping_patience` needs `evaluation.eval_steps`
  --> recipe.yaml:5:28
  5 |   early_stopping_patience: 3
    |                            ^
  hint: for example `evaluation.eval_steps: 100`

error: `evaluation.load_best_model_at_end` needs `evaluation.eval_steps`
  --> recipe.yaml:6:27
  6 |   load_best_model_at_end: true
    |                           ^^^^
  hint: for example `evaluation.eval_steps: 100`

2 problems
"##);
}

#[test]
fn settings_of_the_other_optimizer() {
    assert_snapshot!(wrong_after("training:\n  optimizer: sgd\n  adam_beta1: 0.8\n"), @r##"
error: `training.adam_beta1` does nothing with `optimizer: sgd`
  --> recipe.yaml:6:15
  6 |   adam_beta1: 0.8
    |               ^^^
  hint: leave it out
"##);
    assert_snapshot!(wrong_after("training:\n  sgd_momentum: 0.9\n"), @r##"
error: `training.sgd_momentum` does nothing with `optimizer: adamw`
  --> recipe.yaml:5:17
  5 |   sgd_momentum: 0.9
    |                 ^^^
  hint: leave it out
"##);
}

#[test]
fn a_rate_of_one_or_more_with_adamw() {
    assert_snapshot!(wrong_after("training:\n  learning_rate: 5\n"), @r##"
error: `training.learning_rate` must be below 1 with `optimizer: adamw`, which moves each weight that far in a step
  --> recipe.yaml:5:18
  5 |   learning_rate: 5
    |                  ^
  hint: adapters learn at 1.0e-5 to 1.0e-3; the default is 2.0e-4
"##);
    for wrong in ["1", "1e300"] {
        assert!(read(&format!("{MINIMAL}training: {{learning_rate: {wrong}}}"), &[]).is_err(), "{wrong}");
    }
    right_after("training: {learning_rate: 0.99}");
    right_after("training: {learning_rate: 5, optimizer: sgd}");
    // The word for the optimiser is what is wrong here.
    assert!(!wrong_after("training: {learning_rate: 5, optimizer: sdg}").contains("must be below 1"));
}

#[test]
fn decay_of_all_there_is() {
    assert_snapshot!(wrong_after("training: {learning_rate: 0.1, weight_decay: 10}\n"), @r##"
error: `training.weight_decay` times `training.learning_rate` is 1 or more: each step would wipe out every weight
  --> recipe.yaml:4:46
  4 | training: {learning_rate: 0.1, weight_decay: 10}
    |                                              ^^
  hint: usual decays are 0 to 0.1
"##);
    right_after("training: {learning_rate: 0.1, weight_decay: 9}");
}

#[test]
fn pissa_with_dora() {
    assert_snapshot!(wrong_after("adapter:\n  init_lora_weights: pissa\n  use_dora: true\n"), @r##"
error: `init_lora_weights: pissa` and `use_dora` cannot be combined
  --> recipe.yaml:5:22
  5 |   init_lora_weights: pissa
    |                      ^^^^^
  hint: PiSSA moves the principal part of each weight into the adapter; choose one of the two
"##);
}

#[test]
fn a_start_for_an_adapter_that_is_continued() {
    let text = "adapter:\n  init_from: old/adapter\n  init_lora_weights: pissa\n";
    assert_snapshot!(wrong_after(text), @r##"
error: `adapter.init_lora_weights` contradicts `adapter.init_from`: an adapter that is continued starts as it is
  --> recipe.yaml:6:22
  6 |   init_lora_weights: pissa
    |                      ^^^^^
  hint: leave one of the two out
"##);
    right_after(&text.replace("pissa", "true"));
}

#[test]
fn how_to_push_what_is_not_pushed() {
    let recipe = |output: &str| format!("model: {{base: m}}\ndata: {{train: a}}\noutput:\n  dir: o\n{output}");
    assert_snapshot!(wrong(&recipe("  hub_private_repo: true\n  hub_overwrite: true\n  hub_base_model: a/b\n")), @r##"
error: `output.hub_private_repo` needs `output.push_to_hub`
  --> recipe.yaml:5:21
  5 |   hub_private_repo: true
    |                     ^^^^
  hint: for example `output.push_to_hub: my-name/my-model`; else leave it out

error: `output.hub_overwrite` needs `output.push_to_hub`
  --> recipe.yaml:6:18
  6 |   hub_overwrite: true
    |                  ^^^^
  hint: for example `output.push_to_hub: my-name/my-model`; else leave it out

error: `output.hub_base_model` needs `output.push_to_hub`
  --> recipe.yaml:7:19
  7 |   hub_base_model: a/b
    |                   ^^^
  hint: for example `output.push_to_hub: my-name/my-model`; else leave it out

3 problems
"##);
    // What says nothing is what `recipe show` writes, and what is pushed has a use for all three.
    for right in [
        "  push_to_hub: null\n  hub_private_repo: false\n  hub_overwrite: false\n  hub_base_model: null\n",
        "  push_to_hub: ann/tiny\n  hub_private_repo: true\n  hub_overwrite: true\n  hub_base_model: a/b\n",
    ] {
        read(&recipe(right), &[]).unwrap();
    }
    // The name of the repository is what is wrong here.
    assert!(!wrong(&recipe("  push_to_hub: tiny\n  hub_overwrite: true\n")).contains("needs"));
}

#[test]
fn one_mistake_is_not_reported_twice() {
    let message = wrong(
        "model: {base: m}\noutput: {dir: o}\ndata: {train: a, eval: [7]}\nevaluation: {eval_steps: x, \
         load_best_model_at_end: true}\n",
    );
    assert_snapshot!(message, @r##"
error: `data.eval[0]` must be text, found the number `7`
  --> recipe.yaml:3:25
  3 | data: {train: a, eval: [7]}
    |                         ^
  hint: put quotes around it: `"7"`

error: `evaluation.eval_steps` must be a whole number, found `x`
  --> recipe.yaml:4:26
  4 | evaluation: {eval_steps: x, load_best_model_at_end: true}
    |                          ^

2 problems
"##);
}

#[test]
fn a_task_has_its_rows_and_its_keys() {
    let recipe =
        right_after("task: dpo\npreference: {beta: 0.2, loss_type: [sigmoid, sft], loss_weights: [1.0, 0.5]}\n");
    assert_eq!(recipe.data.train[0].format, RowFormat::Preference);
    assert!(!recipe.data.packing);
    assert_eq!((recipe.data.max_length, recipe.training.learning_rate), (1024, 1.0e-6));
    let preference = recipe.preference.clone().unwrap();
    assert_eq!(
        preference.losses().collect::<Vec<_>>(),
        [(LossType::Dpo(DpoLoss::Sigmoid), 1.0), (LossType::Dpo(DpoLoss::Sft), 0.5)]
    );
    assert_eq!((preference.beta, preference.label_smoothing), (Some(0.2), Some(0.0)));
    let again = read(&recipe.to_yaml(), &[]).unwrap();
    assert_eq!((again.task, again.preference, again.data), (recipe.task, recipe.preference, recipe.data));
    // The usual task has neither.
    let usual = right_after("task: sft\n");
    assert!(usual.preference.is_none() && usual.data.packing && !usual.to_yaml().contains("preference"));

    for (lines, what) in [
        ("preference: {beta: 0.2}\n", "`preference.beta` needs `task: dpo` or `task: orpo` or `task: kto`"),
        ("task: dpo\npreference: {loss_type: exo_pair}\n", "`loss_type: exo_pair` needs `preference.label_smoothing`"),
        ("task: dpo\npreference: {label_smoothing: 0.1}\n", "`preference.label_smoothing` does nothing with this"),
        ("task: dpo\npreference: {loss_type: robust, label_smoothing: 0.5}\n", "must be at least 0 and below 0.5"),
        ("task: dpo\npreference: {loss_type: sft}\n", "`loss_type: sft` alone learns no preference"),
        ("task: dpo\npreference: {loss_type: []}\n", "`preference.loss_type` must be at least one loss"),
        ("task: dpo\npreference: {loss_weights: [1.0, 2.0]}\n", "`preference.loss_weights` has 2 weights for 1 losses"),
        ("task: ppo\n", "`task` must be one of `sft`, `dpo`, `orpo`, `kto`, `reward`, `grpo`, `rloo`, found `ppo`"),
    ] {
        let said = wrong_after(lines);
        assert!(said.contains(what), "{said}");
    }
    let with_data = |task: &str, data: &str| {
        wrong(&format!("task: {task}\nmodel: {{base: m}}\ndata: {{train: rows.jsonl, {data}}}\noutput: {{dir: out}}\n"))
    };
    assert!(with_data("sft", "format: preference").contains("`task: sft` does not train rows of `preference`"));
    assert!(with_data("dpo", "format: messages").contains("`task: dpo` does not train rows of `messages`"));
    assert!(with_data("dpo", "train_on: all").contains("`data.train_on: all` would prefer prompts too"));
}

#[test]
fn tasks_without_pairs_or_reference_have_theirs() {
    let orpo = right_after("task: orpo\npreference: {beta: 0.2}\n");
    assert_eq!((orpo.data.train[0].format, orpo.data.packing), (RowFormat::Preference, false));
    let keys = orpo.to_json()["preference"].clone();
    assert_eq!(keys, serde_json::json!({"beta": 0.2, "nll_on_prompt": true}));

    let kto = right_after("task: kto\npreference: {undesirable_weight: 0.5}\n");
    assert_eq!((kto.data.train[0].format, kto.data.max_length), (RowFormat::Unpaired, 1024));
    let Training { per_device_train_batch_size, gradient_accumulation_steps, learning_rate, .. } = kto.training;
    assert_eq!((per_device_train_batch_size, gradient_accumulation_steps, learning_rate), (8, 1, 1.0e-6));
    let keys = kto.to_json()["preference"].clone();
    let expected =
        serde_json::json!({"beta": 0.1, "loss_type": "kto", "desirable_weight": 1.0, "undesirable_weight": 0.5});
    assert_eq!(keys, expected);

    let simpo = right_after("task: dpo\npreference: {loss_type: simpo, beta: 2.0, cpo_alpha: 0}\n");
    let keys = simpo.to_json()["preference"].clone();
    let expected = serde_json::json!(
        {"beta": 2.0, "loss_type": "simpo", "label_smoothing": 0.0, "cpo_alpha": 0.0, "simpo_gamma": 0.5, "alpha": 0.0}
    );
    assert_eq!(keys, expected);
    for recipe in [orpo, kto, simpo] {
        let again = read(&recipe.to_yaml(), &[]).unwrap();
        assert_eq!((again.task, again.preference, again.training), (recipe.task, recipe.preference, recipe.training));
    }

    for (lines, what) in [
        (
            "task: reward\npreference: {beta: 0.2}\n",
            "`preference.beta` needs `task: dpo` or `task: orpo` or `task: kto`",
        ),
        ("task: reward\npreference: {loss_type: sigmoid}\n", "`preference.loss_type` needs `task: dpo` or `task: kto`"),
        (
            "task: dpo\npreference: {center_rewards_coefficient: 0.01}\n",
            "`preference.center_rewards_coefficient` needs `task: reward`",
        ),
        (
            "task: reward\npreference: {center_rewards_coefficient: -1}\n",
            "`preference.center_rewards_coefficient` must be at least 0",
        ),
        ("task: orpo\npreference: {loss_type: sigmoid}\n", "`preference.loss_type` needs `task: dpo` or `task: kto`"),
        ("task: dpo\npreference: {nll_on_prompt: false}\n", "`preference.nll_on_prompt` needs `task: orpo`"),
        ("task: dpo\npreference: {desirable_weight: 2.0}\n", "`preference.desirable_weight` needs `task: kto`"),
        ("task: dpo\npreference: {loss_type: kto}\n", "`loss_type: kto` needs `task: kto`"),
        ("task: dpo\npreference: {loss_type: [sigmoid, simpo]}\n", "`loss_type: simpo` stands alone"),
        ("task: dpo\npreference: {cpo_alpha: 0.5}\n", "`preference.cpo_alpha` does nothing with this `loss_type`"),
        ("task: dpo\npreference: {loss_type: cpo, simpo_gamma: 1}\n", "`preference.simpo_gamma` does nothing"),
        ("task: dpo\npreference: {loss_type: cpo_hinge, alpha: 0.2}\n", "`preference.alpha` does nothing"),
        (
            "task: dpo\npreference: {loss_type: cpo_ipo, label_smoothing: 0.1}\n",
            "`preference.label_smoothing` does nothing",
        ),
        ("task: dpo\npreference: {loss_type: [cpo_ipo, sft]}\n", "`loss_type: cpo_ipo` stands alone"),
        ("task: dpo\npreference: {loss_type: cpo, loss_weights: [2]}\n", "`preference.loss_weights` does nothing"),
        ("task: kto\npreference: {loss_type: sigmoid}\n", "`loss_type: sigmoid` needs `task: dpo`"),
        ("task: kto\npreference: {loss_type: [kto, apo_zero_unpaired]}\n", "`task: kto` has one loss"),
        ("task: kto\npreference: {desirable_weight: 0}\n", "`preference.desirable_weight` must be above 0"),
        ("task: kto\ntraining: {per_device_train_batch_size: 1}\n", "must be at least 2 with `task: kto`"),
        ("task: kto\ntraining: {fit: auto}\n", "`training.fit: auto` does not go with `task: kto`"),
    ] {
        let said = wrong_after(lines);
        assert!(said.contains(what) && !said.contains("problems"), "{said}");
    }
    let judged = "task: reward\nmodel: {base: m}\ndata: {train: a, format: unpaired}\noutput: {dir: out}\n";
    let recipe = read(judged, &[]).unwrap();
    assert!(!recipe.has_pairs() && !recipe.data.packing && right_after("task: reward\n").has_pairs());
    let centred = wrong(&format!("{judged}preference: {{center_rewards_coefficient: 0.01}}\n"));
    assert!(
        centred.contains("`preference.center_rewards_coefficient` does nothing with rows of `unpaired`"),
        "{centred}"
    );
    let pairs = "task: kto\nmodel: {base: m}\ndata: {train: a, format: preference}\noutput: {dir: out}\n";
    assert_eq!(read(pairs, &[]).unwrap().data.train[0].format, RowFormat::Preference);
    right_after(
        "task: kto\npreference: {loss_type: apo_zero_unpaired}\ntraining: {per_device_train_batch_size: 1, fit: auto}\n",
    );
    let with_data = |task: &str, data: &str| {
        wrong(&format!("task: {task}\nmodel: {{base: m}}\ndata: {{{data}}}\noutput: {{dir: out}}\n"))
    };
    for (task, data, what) in [
        ("kto", "train: a, format: messages", "`task: kto` does not train rows of `messages`"),
        ("orpo", "train: a, format: unpaired", "`task: orpo` does not train rows of `unpaired`"),
        ("sft", "train: a, format: unpaired", "`task: kto` trains good and bad answers"),
        (
            "kto",
            "train: a, packing: true",
            "`data.packing: true` does not go with `task: kto`, whose batches count rows",
        ),
        ("dpo", "train: a, packing: true", "does not go with `task: dpo`, whose batches count pairs"),
        ("orpo", "train: a, packing: true", "does not go with `task: orpo`, whose batches count pairs"),
        ("reward", "train: a, packing: true", "does not go with `task: reward`, whose batches count pairs"),
        ("reward", "train: a, format: unpaired, packing: true", "with `task: reward`, whose batches count rows"),
        ("reward", "train: a, format: messages", "its rows are `preference`, or `unpaired`"),
        (
            "reward",
            "train: [a, {path: b, format: unpaired}]",
            "learns from pairs or from single texts, and `data.train[1]` is `unpaired` beside `preference`",
        ),
        ("kto", "train: a, train_on: all", "`data.train_on: all` would judge prompts too"),
        ("kto", "train: [{path: a, weight: 2}]", "`data.train[0].weight` must be 1 with `task: kto`"),
    ] {
        let said = with_data(task, data);
        assert!(said.contains(what), "{said}");
    }
}
