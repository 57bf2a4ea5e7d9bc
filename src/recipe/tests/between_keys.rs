//! Keys that contradict each other, or need each other.

use super::*;

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
