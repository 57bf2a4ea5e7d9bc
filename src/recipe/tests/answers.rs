//! Recipes whose model learns from its own answers.

use super::*;
use crate::data::options::RowFormat;
use crate::recipe::{RewardKind, ScaleRewards, Task};
use crate::train::objective::GrpoLoss;

const REWARD: &str = "rewards: [{kind: regex, pattern: '[0-9]'}]\n";

fn of_task(task: &str, lines: &str) -> String {
    format!("task: {task}\n{REWARD}{lines}")
}

#[test]
fn tasks_with_own_answers_have_the_defaults_of_trl() {
    let grpo = right_after(&of_task("grpo", ""));
    assert_eq!(
        (grpo.data.train[0].format, grpo.data.packing, grpo.data.max_length),
        (RowFormat::PromptOnly, false, 1024)
    );
    let keys = grpo.grpo.clone().unwrap();
    assert_eq!((keys.num_generations, keys.max_completion_length, keys.num_iterations, keys.top_k), (8, 512, 1, 0));
    assert_eq!(
        (keys.temperature, keys.top_p, keys.epsilon, keys.upper_epsilon(), keys.beta),
        (1.0, 1.0, 0.2, 0.2, 0.0)
    );
    assert_eq!((keys.loss_type, keys.scale_rewards), (Some(GrpoLoss::Dapo), Some(ScaleRewards::Group)));
    assert_eq!((keys.normalize_advantages, keys.prompts_in_a_step(&grpo.training)), (None, 1));
    // Groups of 8: 3 answers from the 7th on, or 12 from the 5th on, are of two prompts and of two.
    assert_eq!([1, 2, 3, 4, 8, 12, 16, 20].map(|answers| keys.prompts_of(answers)), [1, 1, 2, 1, 1, 2, 2, 3]);
    assert!(grpo.preference.is_none() && grpo.training.learning_rate == 1.0e-6);
    let reward = &grpo.rewards[0];
    assert_eq!(
        (reward.kind, reward.name.as_str(), reward.weight, &reward.column),
        (RewardKind::Regex, "regex", 1.0, &None)
    );

    let rloo = right_after(&of_task("rloo", "grpo: {temperature: 0.7, stop: ['\\n\\n'], epsilon_high: 0.3}\n"));
    let keys = rloo.grpo.clone().unwrap();
    assert_eq!((keys.num_generations, keys.beta, keys.loss_type, keys.upper_epsilon()), (2, 0.05, None, 0.3));
    assert_eq!((keys.normalize_advantages, keys.prompts_in_a_step(&rloo.training)), (Some(false), 4));
    let rewards = "rewards:\n  - {kind: program, command: [python3, judge.py, -x], weight: 2}\n  - {kind: number, tolerance: 0.5}\n";
    let two = right_after(&format!("task: grpo\n{rewards}"));
    assert_eq!((two.rewards[0].timeout, two.rewards[1].column.as_deref()), (Some(60.0), Some("answer")));
    let served = "{kind: http, url: 'http://[::1]:8000/a?b=$C', headers: {X-Who: me, Authorization: 'Bearer $T'}}";
    let served = right_after(&format!("task: grpo\nrewards: [{served}]\n"));
    assert_eq!((served.rewards[0].timeout, served.rewards[0].name.as_str()), (Some(60.0), "http"));
    let valid = "{type: [object, 'null'], properties: {'a b': {enum: [1, 1.5, 'no', yes, null]}}, $defs: {}}";
    let valid = right_after(&format!("task: grpo\nrewards: [{{kind: json_schema, schema: {valid}}}]\n"));
    let schema = serde_json::to_value(valid.rewards[0].schema.clone()).unwrap();
    assert_eq!(schema["properties"]["a b"]["enum"], serde_json::json!([1, 1.5, "no", "yes", null]));
    for recipe in [grpo, rloo, two, served, valid] {
        let again = read(&recipe.to_yaml(), &[]).unwrap_or_else(|error| panic!("{error}\n{}", recipe.to_yaml()));
        assert_eq!((again.task, &again.grpo, &again.rewards), (recipe.task, &recipe.grpo, &recipe.rewards));
        assert_eq!(again.to_yaml(), recipe.to_yaml());
    }
    let sft = right_after("");
    assert!(sft.task == Task::Sft && sft.grpo.is_none() && !sft.to_yaml().contains("rewards"));
}

#[test]
fn what_goes_with_no_own_answers_is_named() {
    let accumulation = |n: usize| format!("training: {{gradient_accumulation_steps: {n}}}\n");
    for (lines, what) in [
        ("task: grpo\n".to_owned(), "`task: grpo` needs `rewards`: without them no answer is better than another"),
        ("task: rloo\nrewards: []\n".into(), "`task: rloo` needs `rewards`"),
        (REWARD.into(), "`rewards` needs `task: grpo` or `task: rloo`"),
        ("grpo: {epsilon: 0.1}\n".into(), "`grpo.epsilon` needs `task: grpo` or `task: rloo`"),
        (
            of_task("grpo", "preference: {beta: 0.1}\n"),
            "`preference.beta` needs `task: dpo` or `task: orpo` or `task: kto`",
        ),
        (of_task("rloo", "grpo: {loss_type: dapo}\n"), "`grpo.loss_type` needs `task: grpo`"),
        (of_task("grpo", "grpo: {normalize_advantages: true}\n"), "`grpo.normalize_advantages` needs `task: rloo`"),
        (
            of_task("grpo", "grpo: {num_generations_eval: 1}\n"),
            "`grpo.num_generations_eval` has no rows to evaluate on",
        ),
        (of_task("grpo", "grpo: {num_generations: 1}\n"), "`grpo.num_generations` must be at least 2"),
        (of_task("grpo", "grpo: {temperature: 0}\n"), "`grpo.temperature` must be above 0"),
        (of_task("grpo", "grpo: {top_p: 0}\n"), "`grpo.top_p` must be above 0"),
        (of_task("grpo", "grpo: {epsilon: -0.1}\n"), "`grpo.epsilon` must be above 0"),
        (of_task("grpo", "grpo: {beta: -1}\n"), "`grpo.beta` must be at least 0"),
        (of_task("grpo", "grpo: {loss_type: ppo}\n"), "`grpo.loss_type` must be one of `dapo`"),
        (of_task("grpo", "grpo: {loss_type: cispo}\n"), "`loss_type: cispo` needs `grpo.epsilon_high`"),
        (of_task("grpo", "grpo: {stop: ['']}\n"), "`grpo.stop` must hold no empty text"),
        (of_task("grpo", "grpo: {num_completions_to_print: 2}\n"), "needs `grpo.log_completions: true`"),
        (of_task("grpo", &accumulation(12)), "a step has 1 x 12 answers"),
        (of_task("grpo", "grpo: {num_generations: 6}\n"), "these are no whole groups of 6"),
        (of_task("grpo", "training: {gradient_accumulation_steps: auto}\n"), "whose batches count answers"),
        (of_task("grpo", "grpo: {max_completion_length: 2000}\n"), "there is no room for a prompt before its answer"),
        (of_task("grpo", "grpo: {loss_type: bnpo}\ntraining: {fit: auto}\n"), "does not go with `loss_type: bnpo`"),
        ("task: grpo\nrewards: [{kind: regex, pattern: a, weight: 0}]\n".into(), "`rewards`: all weights are 0"),
        ("task: grpo\nrewards: {kind: regex}\n".into(), "`rewards` must be a list of rewards"),
        ("task: grpo\nrewards: [regex]\n".into(), "`rewards[0]` must be `{kind: ..}`"),
        ("task: grpo\nrewards: [{pattern: a}]\n".into(), "`rewards[0].kind` is missing"),
        (
            "task: grpo\nrewards: [{kind: regexp, pattern: a}]\n".into(),
            "`rewards[0].kind` must be one of `exact_match`",
        ),
        ("task: grpo\nrewards: [{kind: regex}]\n".into(), "`rewards[0].pattern` is missing"),
        (
            "task: grpo\nrewards: [{kind: regex, pattern: '('}]\n".into(),
            "`rewards[0].pattern` must be a regular expression",
        ),
        (
            "task: grpo\nrewards: [{kind: json, pattern: a}]\n".into(),
            "`rewards[0].pattern` does nothing with `kind: json`",
        ),
        ("task: grpo\nrewards: [{kind: program}]\n".into(), "`rewards[0].command` is missing"),
        ("task: grpo\nrewards: [{kind: program, command: []}]\n".into(), "`rewards[0].command` must name a program"),
        (
            "task: grpo\nrewards: [{kind: program, command: [a], timeout: 0}]\n".into(),
            "`rewards[0].timeout` must be above 0",
        ),
        (
            "task: grpo\nrewards: [{kind: json_schema}]\n".into(),
            "`rewards[0]`: `kind: json_schema` needs `schema` or `schema_file`",
        ),
        (
            "task: grpo\nrewards: [{kind: json_schema, schema: {type: object}, schema_file: a.json}]\n".into(),
            "both say what is valid",
        ),
        (
            "task: grpo\nrewards: [{kind: json_schema, schema: a.json}]\n".into(),
            "the schema of a file is `schema_file: a.json`",
        ),
        (
            "task: grpo\nrewards:\n  - kind: json_schema\n    schema:\n      properties:\n        a: {type: strin}\n"
                .into(),
            "recipe.yaml:9:19",
        ),
        (
            "task: grpo\nrewards: [{kind: json_schema, schema: {$ref: 'https://a.b/c'}}]\n".into(),
            "`rewards[0].schema` is no JSON Schema: `$ref: https://a.b/c` leads out of it",
        ),
        ("task: grpo\nrewards: [{kind: http}]\n".into(), "`rewards[0].url` is missing"),
        (
            "task: grpo\nrewards: [{kind: http, url: 'http://127.0.0.1:99999/'}]\n".into(),
            "`rewards[0].url` has `99999` as its port",
        ),
        ("task: grpo\nrewards: [{kind: http, url: 'http://a:b:80/'}]\n".into(), "has `b:80` as its port"),
        ("task: grpo\nrewards: [{kind: http, url: 'http://a:0/'}]\n".into(), "ports are from 1 to 65535"),
        ("task: grpo\nrewards: [{kind: http, url: 'http://[::1'}]\n".into(), "has a `[` without its `]`"),
        ("task: grpo\nrewards: [{kind: http, url: 'http://[::g]/'}]\n".into(), "must have an IPv6 address"),
        ("task: grpo\nrewards: [{kind: http, url: 'http://:80/'}]\n".into(), "must be the address of a server"),
        (of_task("grpo", "grpo: {scale_rewards: true}\n"), "write `group`, which is what TRL's `true` is"),
        (of_task("grpo", "grpo: {scale_rewards: false}\n"), "write `none`, which is what TRL's `false` is"),
        ("task: cpo\n".into(), "write `task: dpo` with `preference: {loss_type: cpo}`"),
        ("task: dpo\npreference: {loss_type: alphapo}\n".into(), "write `loss_type: simpo` with `alpha`"),
        ("task: grpo\nrewards: [{kind: http, url: a.b}]\n".into(), "`rewards[0].url` must begin with `http://`"),
        (
            "task: grpo\nrewards: [{kind: http, url: 'https://me:it@a.b/c'}]\n".into(),
            "`rewards[0].url` must hold no login",
        ),
        (
            "task: grpo\nrewards: [{kind: http, url: 'http://a', headers: {Authorization: Bearer abc}}]\n".into(),
            "`rewards[0].headers.Authorization` must not hold its secret itself",
        ),
        (
            "task: grpo\nrewards: [{kind: http, url: 'http://a', headers: {Host: b}}]\n".into(),
            "`rewards[0].headers.Host` is said by the request itself",
        ),
        ("task: grpo\nrewards: [{kind: length}]\n".into(), "`kind: length` needs `min` or `max`"),
        ("task: grpo\nrewards: [{kind: length, min: 3, max: 2}]\n".into(), "`rewards[0].min` is 3, and `max` is 2"),
        ("task: grpo\nrewards: [{kind: json}, {kind: json}]\n".into(), "are both called `json` in logs"),
        ("task: grpo\nrewards: [{kind: json, name: 'a b'}]\n".into(), "`rewards[0].name` must be of letters"),
        ("task: grpo\nrewards: [{kind: json, wieght: 2}]\n".into(), "did you mean `weight`?"),
    ] {
        let said = wrong_after(&lines);
        assert!(said.contains(what), "{lines}: {said}");
    }
    let with_data = |data: &str| {
        wrong(&format!("task: grpo\n{REWARD}model: {{base: m}}\ndata: {{{data}}}\noutput: {{dir: out}}\n"))
    };
    for (data, what) in [
        ("train: a, format: preference", "`task: grpo` does not train rows of `preference`"),
        ("train: a, packing: true", "`data.packing: true` does not go with `task: grpo`"),
        ("train: a, train_on: all", "`data.train_on` does nothing with `task: grpo`"),
        ("train: a, on_long: truncate", "a prompt that is cut asks something else"),
        ("train: a, max_length: auto", "`data.max_length: auto` does not go with `task: grpo`"),
        ("train: a, eval: {path: b, format: preference}", "`task: grpo` does not train rows of `preference`"),
    ] {
        let said = with_data(data);
        assert!(said.contains(what), "{data}: {said}");
    }
    let prompts = wrong("model: {base: m}\ndata: {train: a, format: prompt_only}\noutput: {dir: out}\n");
    assert!(prompts.contains("`task: grpo` trains the model's own answers to prompts"), "{prompts}");
}

#[test]
fn a_task_that_nobody_knows_brings_no_problems_of_other_keys() {
    let keys = "preference: {beta: 0.1}\ngrpo: {beta: 0.1, num_generations: 6}\n";
    for (task, hint) in
        [("GRPO", "did you mean `grpo`?"), ("groo", "did you mean `grpo`?"), ("DPO", "did you mean `dpo`?")]
    {
        let rows = "model: {base: m}\ndata: {train: a, format: preference, packing: true}\noutput: {dir: out}\n";
        let said = wrong(&format!("task: {task}\n{rows}{REWARD}{keys}"));
        assert!(said.contains("`task` must be one of") && said.contains(hint), "{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
    }
}

#[test]
fn a_command_is_a_list_and_the_hint_says_how() {
    for (command, list) in [
        ("python3 judge.py", "[python3, judge.py]"),
        ("'./judge --fast  2'", "[./judge, \"--fast\", \"2\"]"),
        ("python3 judge.py | tail", "[sh, \"-c\", \"python3 judge.py | tail\"]"),
    ] {
        let said = wrong_after(&format!("task: grpo\nrewards: [{{kind: program, command: {command}}}]\n"));
        assert!(said.contains("`rewards[0].command` must be a list: a program and its arguments"), "{said}");
        assert!(said.contains(&format!("write `{list}`")) && said.matches("error: ").count() == 1, "{said}");
    }
}
