//! Keys that are misspelt, misplaced, missing or given twice.

use super::*;

#[test]
fn misspelt() {
    assert_snapshot!(wrong_after("adapter:\n  lora_aplha: 32\n"), @r##"
error: unknown key `lora_aplha` in `adapter`
  --> recipe.yaml:5:3
  5 |   lora_aplha: 32
    |   ^^^^^^^^^^
  hint: did you mean `lora_alpha`?
"##);
}

#[test]
fn misspelt_section() {
    assert_snapshot!(wrong_after("traning:\n  seed: 1\n"), @r##"
error: unknown section or key `traning`
  --> recipe.yaml:4:1
  4 | traning:
    | ^^^^^^^
  hint: did you mean `training`?
"##);
}

#[test]
fn in_the_wrong_section() {
    assert_snapshot!(wrong_after("adapter:\n  learning_rate: 2e-4\n"), @r##"
error: unknown key `learning_rate` in `adapter`
  --> recipe.yaml:5:3
  5 |   learning_rate: 2e-4
    |   ^^^^^^^^^^^^^
  hint: it belongs in `training`: `training.learning_rate`
"##);
}

#[test]
fn without_a_section() {
    assert_snapshot!(wrong_after("r: 16\n"), @r##"
error: unknown section or key `r`
  --> recipe.yaml:4:1
  4 | r: 16
    | ^
  hint: it belongs in `adapter`: `adapter.r`
"##);
}

#[test]
fn section_within_a_section() {
    assert_snapshot!(wrong_after("adapter:\n  training:\n    seed: 1\n"), @r##"
error: unknown key `training` in `adapter`
  --> recipe.yaml:5:3
  5 |   training:
    |   ^^^^^^^^
  hint: `training` is a section of its own: write it at the left margin
"##);
}

#[test]
fn of_another_tool() {
    assert_snapshot!(wrong_after("training:\n  micro_batch_size: 2\n  optim: adamw_torch\n"), @r##"
error: unknown key `micro_batch_size` in `training`
  --> recipe.yaml:5:3
  5 |   micro_batch_size: 2
    |   ^^^^^^^^^^^^^^^^
  hint: it is called `training.per_device_train_batch_size` here

error: unknown key `optim` in `training`
  --> recipe.yaml:6:3
  6 |   optim: adamw_torch
    |   ^^^^^
  hint: it is called `training.optimizer` here

2 problems
"##);
}

#[test]
fn misspelt_and_of_another_section() {
    assert_snapshot!(wrong_after("training:\n  max_lenght: 512\n"), @r##"
error: unknown key `max_lenght` in `training`
  --> recipe.yaml:5:3
  5 |   max_lenght: 512
    |   ^^^^^^^^^^
  hint: did you mean `data.max_length`?
"##);
}

#[test]
fn unheard_of() {
    assert_snapshot!(wrong_after("evaluation:\n  colour: red\n"), @r##"
error: unknown key `colour` in `evaluation`
  --> recipe.yaml:5:3
  5 |   colour: red
    |   ^^^^^^
  hint: `evaluation` has: eval_steps, eval_on_start, early_stopping_patience, load_best_model_at_end, metric_for_best_model, greater_is_better, samples
"##);
}

#[test]
fn unheard_of_section() {
    assert_snapshot!(wrong_after("wandb: {project: mine}\n"), @r##"
error: unknown section or key `wandb`
  --> recipe.yaml:4:1
  4 | wandb: {project: mine}
    | ^^^^^
  hint: write `output.report_to: [tensorboard]`
"##);
}

#[test]
fn unknown_in_a_source() {
    assert_snapshot!(wrong(
        "model: {base: m}\noutput: {dir: o}\ndata:\n  train:\n    - a.jsonl\n    - {path: b.jsonl, fromat: text}\n"
    ), @r##"
error: unknown key `fromat` in `data.train[]`
  --> recipe.yaml:6:23
  6 |     - {path: b.jsonl, fromat: text}
    |                       ^^^^^^
  hint: did you mean `format`?
"##);
}

#[test]
fn given_twice() {
    assert_snapshot!(wrong_after("training:\n  seed: 1\n  seed: 2\n"), @r##"
error: the key `seed` is given twice
  --> recipe.yaml:6:3
  6 |   seed: 2
    |   ^^^^
  hint: it is first given in line 5; keep one
"##);
}

#[test]
fn missing() {
    assert_snapshot!(wrong("model:\n  dtype: bf16\ndata:\n  packing: true\n"), @r##"
error: `model.base` is missing
  --> recipe.yaml:1:1
  1 | model:
    | ^^^^^
  hint: for example `base: google/gemma-3-1b-it`

error: `data.train` is missing
  --> recipe.yaml:3:1
  3 | data:
    | ^^^^
  hint: for example `train: data/my_rows.jsonl`

error: `output.dir` is missing
  --> recipe.yaml
  hint: for example `dir: out/my_run`

3 problems
"##);
}

#[test]
fn not_a_word() {
    assert_snapshot!(wrong("? [a, b]\n: 1\n"), @r##"
error: a key must be a word, not a list or a mapping
  --> recipe.yaml:1:3
  1 | ? [a, b]
    |   ^
"##);
}
