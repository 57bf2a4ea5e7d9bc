//! Values of the wrong type, word or range.

use super::*;

#[test]
fn misspelt_word() {
    assert_snapshot!(wrong_after("training:\n  lr_scheduler_type: cosinus\n"), @r##"
error: `training.lr_scheduler_type` must be one of `constant`, `linear`, `cosine`, found `cosinus`
  --> recipe.yaml:5:22
  5 |   lr_scheduler_type: cosinus
    |                      ^^^^^^^
  hint: did you mean `cosine`?
"##);
}

#[test]
fn no_word_like_it() {
    assert_snapshot!(wrong_after("training:\n  optimizer: rmsprop\n"), @r##"
error: `training.optimizer` must be one of `adamw`, `sgd`, found `rmsprop`
  --> recipe.yaml:5:14
  5 |   optimizer: rmsprop
    |              ^^^^^^^
"##);
}

#[test]
fn word_of_a_mixed_kind() {
    assert_snapshot!(wrong_after(
        "adapter:\n  init_lora_weights: gausian\ntraining:\n  activation_checkpointing: yes\n"
    ), @r##"
error: `adapter.init_lora_weights` must be one of `true`, `gaussian`, `pissa`, found `gausian`
  --> recipe.yaml:5:22
  5 |   init_lora_weights: gausian
    |                      ^^^^^^^
  hint: did you mean `gaussian`?

error: `training.activation_checkpointing` must be one of `auto`, `true`, `false`, found `yes`
  --> recipe.yaml:7:29
  7 |   activation_checkpointing: yes
    |                             ^^^
  hint: write `true`

2 problems
"##);
}

#[test]
fn of_the_wrong_type() {
    assert_snapshot!(wrong_after(
        "adapter:\n  r: sixteen\n  lora_alpha: \"32\"\n  use_dora: yes\n  target_modules: {q_proj: true}\n  \
         exclude_modules: lm_head\ntraining:\n  seed: 4.5\n  max_steps: 1e3\n  learning_rate: fast\n"
    ), @r##"
error: `adapter.r` must be a whole number, found `sixteen`
  --> recipe.yaml:5:6
  5 |   r: sixteen
    |      ^^^^^^^

error: `adapter.lora_alpha` must be a number, found the text `32`
  --> recipe.yaml:6:15
  6 |   lora_alpha: "32"
    |               ^^^^
  hint: remove the quotes: `32`

error: `adapter.use_dora` must be `true` or `false`, found `yes`
  --> recipe.yaml:7:13
  7 |   use_dora: yes
    |             ^^^
  hint: write `true`

error: `adapter.target_modules` must be a list of names, `all-linear` or a regex, found keys and values
  --> recipe.yaml:8:19
  8 |   target_modules: {q_proj: true}
    |                   ^

error: `adapter.exclude_modules` must be a list, found `lm_head`
  --> recipe.yaml:9:20
  9 |   exclude_modules: lm_head
    |                    ^^^^^^^
  hint: write `[lm_head]`

error: `training.seed` must be a whole number, found the number `4.5`
  --> recipe.yaml:11:9
  11 |   seed: 4.5
     |         ^^^

error: `training.max_steps` must be a whole number, found the number `1e3`
  --> recipe.yaml:12:14
  12 |   max_steps: 1e3
     |              ^^^
  hint: write `1000`

error: `training.learning_rate` must be a number, found `fast`
  --> recipe.yaml:13:18
  13 |   learning_rate: fast
     |                  ^^^^

8 problems
"##);
}

#[test]
fn text_that_is_a_number() {
    assert_snapshot!(wrong("model: {base: 270}\ndata: {train: 2024}\noutput: {dir: null}\n"), @r##"
error: `model.base` must be text, found the number `270`
  --> recipe.yaml:1:15
  1 | model: {base: 270}
    |               ^^^
  hint: put quotes around it: `"270"`

error: `data.train` must be text, found the number `2024`
  --> recipe.yaml:2:15
  2 | data: {train: 2024}
    |               ^^^^
  hint: put quotes around it: `"2024"`

error: `output.dir` is missing
  --> recipe.yaml:3:15
  3 | output: {dir: null}
    |               ^^^^
  hint: for example `dir: out/my_run`

3 problems
"##);
}

#[test]
fn out_of_range() {
    assert_snapshot!(wrong_after(
        "adapter:\n  r: 0\n  lora_dropout: 1.0\n  lora_alpha: -1\ntraining:\n  learning_rate: 0\n  warmup_ratio: 1.5\n  \
         max_grad_norm: -1.0\n  gradient_accumulation_steps: 0\n  num_train_epochs: 0\n"
    ), @r##"
error: `adapter.r` must be at least 1 and at most 4096, found the number `0`
  --> recipe.yaml:5:6
  5 |   r: 0
    |      ^

error: `adapter.lora_dropout` must be at least 0 and below 1, found the number `1.0`
  --> recipe.yaml:6:17
  6 |   lora_dropout: 1.0
    |                 ^^^

error: `adapter.lora_alpha` must be above 0, found the number `-1`
  --> recipe.yaml:7:15
  7 |   lora_alpha: -1
    |               ^^

error: `training.learning_rate` must be above 0, found the number `0`
  --> recipe.yaml:9:18
  9 |   learning_rate: 0
    |                  ^

error: `training.warmup_ratio` must be at least 0 and at most 1, found the number `1.5`
  --> recipe.yaml:10:17
  10 |   warmup_ratio: 1.5
     |                 ^^^

error: `training.max_grad_norm` must be at least 0, found the number `-1.0`
  --> recipe.yaml:11:18
  11 |   max_grad_norm: -1.0
     |                  ^^^^

error: `training.gradient_accumulation_steps` must be at least 1 and at most 65536, found the number `0`
  --> recipe.yaml:12:32
  12 |   gradient_accumulation_steps: 0
     |                                ^

error: `training.num_train_epochs` must be above 0 and at most 1000000, found the number `0`
  --> recipe.yaml:13:21
  13 |   num_train_epochs: 0
     |                     ^

8 problems
"##);
}

#[test]
fn not_finite() {
    assert_snapshot!(wrong_after("training:\n  learning_rate: .nan\n  weight_decay: .inf\n  adam_epsilon: 1e999\n"), @r##"
error: `training.learning_rate` must be a finite number, found the number `.nan`
  --> recipe.yaml:5:18
  5 |   learning_rate: .nan
    |                  ^^^^

error: `training.weight_decay` must be a finite number, found the number `.inf`
  --> recipe.yaml:6:17
  6 |   weight_decay: .inf
    |                 ^^^^

error: `training.adam_epsilon` must be a finite number, found the number `1e999`
  --> recipe.yaml:7:17
  7 |   adam_epsilon: 1e999
    |                 ^^^^^

3 problems
"##);
}

#[test]
fn too_large_or_negative() {
    assert_snapshot!(wrong_after(
        "training:\n  seed: -1\n  max_steps: 99999999999999999999999999999999999999999999\nadapter:\n  r: 5000000\n"
    ), @r##"
error: `training.seed` must be a whole number from 0, found the number `-1`
  --> recipe.yaml:5:9
  5 |   seed: -1
    |         ^^

error: `training.max_steps` must be a whole number below 2^64, found the number `99999999999999999999999999999999999999999999`
  --> recipe.yaml:6:14
  6 |   max_steps: 99999999999999999999999999999999999999999999
    |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error: `adapter.r` must be at least 1 and at most 4096, found the number `5000000`
  --> recipe.yaml:8:6
  8 |   r: 5000000
    |      ^^^^^^^

3 problems
"##);
}

#[test]
fn left_empty() {
    assert_snapshot!(wrong_after("adapter:\n  r:\n  lora_alpha: ~\n"), @r##"
error: `adapter.r` has no value
  --> recipe.yaml:5:3
  5 |   r:
    |   ^
  hint: leave the key out for its default, `16`

error: `adapter.lora_alpha` has no value
  --> recipe.yaml:6:15
  6 |   lora_alpha: ~
    |               ^
  hint: leave the key out for its default, `32.0`

2 problems
"##);
}

#[test]
fn section_that_is_a_value() {
    assert_snapshot!(wrong_after("training: fast\nadapter: [16]\n"), @r##"
error: `training` must be keys and values, found `fast`
  --> recipe.yaml:4:11
  4 | training: fast
    |           ^^^^
  hint: write its keys indented below `training:`

error: `adapter` must be keys and values, found a list
  --> recipe.yaml:5:10
  5 | adapter: [16]
    |          ^
  hint: write its keys indented below `adapter:`

2 problems
"##);
}

#[test]
fn no_targets() {
    assert_snapshot!(wrong_after("adapter:\n  target_modules: []\n"), @r##"
error: `adapter.target_modules` must name at least one module, found an empty list
  --> recipe.yaml:5:19
  5 |   target_modules: []
    |                   ^
  hint: `all-linear` takes every projection
"##);
}

#[test]
fn empty_item() {
    assert_snapshot!(wrong_after("adapter:\n  target_modules: [q_proj, , v_proj]\n"), @r##"
error: this is not valid YAML: while parsing a node, did not find expected node content
  --> recipe.yaml:5:28
  5 |   target_modules: [q_proj, , v_proj]
    |                            ^
"##);
}

#[test]
fn targets_that_are_no_regex() {
    assert_snapshot!(wrong_after("adapter:\n  target_modules: \".*(q_proj\"\n"), @r##"
error: `adapter.target_modules` must be a list of names, `all-linear` or a valid regex, found the text `.*(q_proj`
  --> recipe.yaml:5:19
  5 |   target_modules: ".*(q_proj"
    |                   ^^^^^^^^^^^
  hint: as a regex: unclosed group
"##);
}

#[test]
fn targets_with_a_regex_of_python() {
    assert_snapshot!(wrong_after("adapter:\n  target_modules: \".*(?!vision).*proj\"\n"), @r##"
error: `adapter.target_modules` must be a list of names, `all-linear` or a valid regex, found the text `.*(?!vision).*proj`
  --> recipe.yaml:5:19
  5 |   target_modules: ".*(?!vision).*proj"
    |                   ^^^^^^^^^^^^^^^^^^^^
  hint: as a regex: look-around, including look-ahead and look-behind, is not supported
"##);
}

#[test]
fn sources() {
    assert_snapshot!(wrong(
        "model: {base: m}\noutput: {dir: o}\ndata:\n  train:\n    - {format: sharegtp, path: a}\n    - {weight: 0}\n    \
         - [b]\n    - 7\n  eval: \"\"\n"
    ), @r##"
error: `data.train[0].format` must be one of `auto`, `messages`, `prompt_completion`, `alpaca`, `sharegpt`, `text`, `tokens`, `preference`, `unpaired`, `prompt_only`, found `sharegtp`
  --> recipe.yaml:5:16
  5 |     - {format: sharegtp, path: a}
    |                ^^^^^^^^
  hint: did you mean `sharegpt`?

error: `data.train[1].path` is missing
  --> recipe.yaml:6:7
  6 |     - {weight: 0}
    |       ^
  hint: for example `path: data/my_rows.jsonl`

error: `data.train[1].weight` must be above 0 and at most 10000, found the number `0`
  --> recipe.yaml:6:16
  6 |     - {weight: 0}
    |                ^

error: `data.train[2]` must be a path or `{path: ..}`, found a list
  --> recipe.yaml:7:7
  7 |     - [b]
    |       ^

error: `data.train[3]` must be text, found the number `7`
  --> recipe.yaml:8:7
  8 |     - 7
    |       ^
  hint: put quotes around it: `"7"`

error: `data.eval` must be a path or `{path: ..}`, found an empty text
  --> recipe.yaml:9:9
  9 |   eval: ""
    |         ^^

6 problems
"##);
}

#[test]
fn no_sources() {
    assert_snapshot!(wrong("model: {base: \" \"}\noutput: {dir: \"\"}\ndata: {train: []}\n"), @r##"
error: `model.base` must not be empty, found an empty text
  --> recipe.yaml:1:15
  1 | model: {base: " "}
    |               ^^^

error: `output.dir` must not be empty, found an empty text
  --> recipe.yaml:2:15
  2 | output: {dir: ""}
    |               ^^

error: `data.train` must name at least one source, found an empty list
  --> recipe.yaml:3:15
  3 | data: {train: []}
    |               ^

3 problems
"##);
}

#[test]
fn sinks() {
    assert_snapshot!(wrong_set("output.report_to=[jsonl, wandb]"), @r##"
error: `output.report_to[1]` must be one of `jsonl`, `tensorboard`, found `wandb`
  --> --set output.report_to=[jsonl, wandb]
  hint: runs are not sent to Weights & Biases; write `tensorboard` logs: `wandb sync --sync-tensorboard` uploads them
"##);
}

#[test]
fn repositories() {
    assert_snapshot!(wrong(
        "model: {base: m}\ndata: {train: d}\noutput: {dir: o, push_to_hub: true, hub_base_model: models/g/f}\n"
    ), @r##"
error: `output.push_to_hub` must be a repository of the Hub, found `true`
  --> recipe.yaml:3:31
  3 | output: {dir: o, push_to_hub: true, hub_base_model: models/g/f}
    |                               ^^^^
  hint: write its id: `my-name/my-model`

error: `output.hub_base_model` must be the id of a model on the Hub, found `models/g/f`
  --> recipe.yaml:3:53
  3 | output: {dir: o, push_to_hub: true, hub_base_model: models/g/f}
    |                                                     ^^^^^^^^^^
  hint: write its id: `google/gemma-3-1b-it`

2 problems
"##);
    let right_set = |text: &str| read(MINIMAL, &[text]).unwrap();
    let output = right_set("output.push_to_hub=ann/tiny").output;
    assert_eq!((output.push_to_hub.as_deref(), output.hub_private_repo), (Some("ann/tiny"), false));
    let pushed = read(MINIMAL, &["output.push_to_hub=ann/tiny", "output.hub_base_model=a/b@v1"]).unwrap();
    assert_eq!(pushed.output.hub_base_model.as_deref(), Some("a/b@v1"));
}

#[test]
fn a_hint_that_is_followed_is_accepted() {
    // What is wrong, what is said, and what is right after doing exactly that.
    for (wrong, said, right) in [
        ("training:\n  learning_rate: 0,0002", "write `0.0002`", "training:\n  learning_rate: 0.0002"),
        (
            "training: {learning_rate: 0,0002}",
            "a comma begins the next key: write `learning_rate: 0.0002`",
            "training: {learning_rate: 0.0002}",
        ),
        ("training:\n  max_steps: 1,000", "write `1000`", "training:\n  max_steps: 1000"),
        ("evaluation: {eval_steps: off}", "leave the key out: then only", "evaluation: {}"),
        ("evaluation: {eval_steps: 0}", "leave the key out: then only", "evaluation: {}"),
        ("evaluation: {early_stopping_patience: never}", "leave the key out: then nothing", "evaluation: {}"),
        ("evaluation: {eval_strategy: steps}", "write `evaluation.eval_steps: auto`", "evaluation: {eval_steps: auto}"),
        ("evaluation: {early_stopping: true}", "early_stopping_patience: 3`", "evaluation: {samples: 0}"),
        ("training: {max_grad_norm: off}", "write `0`", "training: {max_grad_norm: 0}"),
        ("training: {warmup_steps: none}", "write `0`", "training: {warmup_steps: 0}"),
        ("training: {max_steps: -1}", "for no limit leave the key out", "training: {}"),
        ("training: {max_steps: off}", "for no limit leave the key out", "training: {}"),
        ("training: {scheduler: cosine}", "`training.lr_scheduler_type`", "training: {lr_scheduler_type: cosine}"),
        ("scheduler: cosine", "`training.lr_scheduler_type`", "training: {lr_scheduler_type: cosine}"),
        ("push_to_hub: true", "it belongs in `output`: `output.push_to_hub`", ""),
        ("training: {hub_model_id: me/mine}", "it is called `output.push_to_hub` here", ""),
        ("wandb: true", "write `output.report_to: [tensorboard]`", ""),
    ] {
        let message = wrong_after(wrong);
        assert!(message.contains(said), "{wrong}: {message}");
        right_after(right);
    }
    // The same for keys of the three sections that are there already.
    for (wrong, said, right) in [
        ("output.save_steps=off", "write more steps than there are: `1000000`", "output.save_steps=1000000"),
        ("output.save_steps=-1", "write more steps than there are: `1000000`", "output.save_steps=1000000"),
        ("output.save_steps=0", "write more steps than there are: `1000000`", "output.save_steps=1000000"),
        ("output.logging_steps=0", "write more steps than there are: `1000000`", "output.logging_steps=1000000"),
        ("output.save_total_limit=none", "write more than there will be: `1000000`", "output.save_total_limit=1000000"),
        ("output.report_to=wandb", "write `[tensorboard]` logs", "output.report_to=[tensorboard]"),
        ("output.report_to=tensorboard", "write `[tensorboard]`", "output.report_to=[tensorboard]"),
        ("output.report_to=tensorbord", "did you mean `[tensorboard]`?", "output.report_to=[tensorboard]"),
        ("output.report_to=none", "write `[]`", "output.report_to=[]"),
        ("output.push_to_hub=true", "write its id: `my-name/my-model`", "output.push_to_hub=my-name/my-model"),
        ("output.push_to_hub=tiny", "write its id: `my-name/my-model`", "output.push_to_hub=my-name/my-model"),
        ("output.push_to_hub=false", "leave the key out", "output.dir=out"),
        ("output.push_to_hub=ann/tiny@v1", "write its id: `my-name/my-model`", "output.push_to_hub=my-name/my-model"),
        ("output.save_strategy=epoch", "write `output.save_steps: auto`", "output.save_steps=auto"),
        ("data.format=csv", "write `auto`", "data.format=auto"),
        ("data.format=JSONL", "write `auto`", "data.format=auto"),
        ("model.quantization=4", "it is called `nf4` here", "model.quantization=nf4"),
        ("training.learning_rate=0,0002", "write `0.0002`", "training.learning_rate=0.0002"),
    ] {
        let message = wrong_set(wrong);
        assert!(message.contains(said), "{wrong}: {message}");
        read(MINIMAL, &[right]).unwrap();
    }
}
