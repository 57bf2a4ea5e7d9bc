//! Keys that say `auto`, recipes that are made of options, and what other programs write.

use super::*;

const AUTO: &str = "training: {gradient_accumulation_steps: auto, num_train_epochs: auto, max_steps: auto, \
                    learning_rate: auto}\nevaluation: {eval_steps: auto}\n";

#[test]
fn auto_is_noted_written_and_read_back() {
    let recipe = read(&format!("{MINIMAL}{AUTO}"), &["data.max_length=auto", "data.eval=e.jsonl"]).unwrap();
    let open: Vec<&str> = recipe.auto.iter().collect();
    let expected = [
        "data.max_length",
        "evaluation.eval_steps",
        "output.save_steps",
        "training.gradient_accumulation_steps",
        "training.learning_rate",
        "training.max_steps",
        "training.num_train_epochs",
    ];
    assert_eq!(open, expected);
    let yaml = recipe.to_yaml();
    assert_eq!(
        yaml.matches(": auto\n").count() - yaml.matches("dtype: auto\n").count(),
        expected.len() + 2,
        "and `format`: {yaml}"
    );
    assert_eq!(read(&yaml, &[]).unwrap(), recipe);
    assert!(recipe.chosen().is_empty());
}

#[test]
fn what_was_chosen_is_a_number_with_a_remark() {
    let mut recipe = right_after(AUTO);
    assert!(recipe.auto.choose("training.learning_rate") && !recipe.auto.choose("training.learning_rate"));
    assert!(!recipe.auto.choose("training.seed"));
    recipe.training.learning_rate = 6e-4;
    recipe.remark("training.learning_rate", "for the\n270M");
    assert_eq!(recipe.chosen(), ["training.learning_rate=0.0006"]);
    let yaml = recipe.to_yaml();
    assert!(yaml.contains("\n  learning_rate: 0.0006             # for the 270M\n"), "{yaml}");
    assert_eq!(read(&yaml, &[]).unwrap().training, recipe.training);
}

#[test]
fn what_a_file_says_beside_its_keys_is_said_again() {
    let text = "\
model:
  base: \"a # b\"
data: {train: rows.jsonl}
output: {dir: out} # where it goes
training:
  learning_rate: 1.0e-4 # for 268 million parameters
  seed: 7 #
  # a line of its own
  max_steps: 5   # it's \"few\" #2
adapter: {r: 4, lora_alpha: 8} # of which?
";
    let show = |sets: &[&str]| read(text, sets).unwrap().with_comments().to_yaml();
    let shown = show(&[]);
    let said = |shown: &str, key: &str| {
        let line = shown.lines().find(|line| line.trim_start().starts_with(&format!("{key}: "))).unwrap().to_owned();
        line.split_once(" # ").filter(|_| key != "base").map(|(_, comment)| comment.to_owned())
    };
    assert_eq!(said(&shown, "learning_rate").as_deref(), Some("for 268 million parameters"));
    assert_eq!(said(&shown, "max_steps").as_deref(), Some("it's \"few\" #2"));
    assert_eq!(said(&shown, "dir").as_deref(), Some("where it goes"));
    for key in ["seed", "r", "lora_alpha"] {
        assert_eq!(said(&shown, key), None, "{key}");
    }
    assert_eq!(shown.matches(" # ").count(), 3 + 1, "and the one in quotes: {shown}");
    assert_eq!(read(&shown, &[]).unwrap().with_comments().to_yaml(), shown);
    // What is said of another value, or was found out since, is another thing.
    assert_eq!(said(&show(&["training.max_steps=9"]), "max_steps"), None);
    let mut recipe = read(text, &[]).unwrap();
    recipe.remark("training.learning_rate", "chosen");
    assert_eq!(said(&recipe.with_comments().to_yaml(), "learning_rate").as_deref(), Some("chosen"));
}

#[test]
fn comments_stay_with_the_entries_and_texts_that_they_stand_beside() {
    let text = "\
model: {base: a}
data:
  train: # what is learnt

    # first of all
    - path: a.jsonl # the first
      weight: 2 # twice
    - {path: b.jsonl, weight: 3} # the second: \"b\"
    - c # 3.jsonl
  eval: [{path: d.jsonl}] # the only one
  columns: {text: words} # renamed
  system: | # how to be
    Ticket #5: be kind # or not
training: {
  seed: 7, # lucky
  \"max_steps\": 5 # few
  }
output:
  dir: >-
    # o # 1
";
    let recipe = read(text, &[]).unwrap().with_comments();
    let shown = recipe.to_yaml();
    let comments: Vec<(String, &str)> = shown
        .lines()
        .filter_map(|line| line.rsplit_once(" # "))
        .map(|(line, comment)| (line.split([':', ',']).take(2).collect::<String>().trim().to_owned(), comment))
        .collect();
    let expected = [
        ("train", "what is learnt"),
        ("- {path a.jsonl", "the first"),
        ("- {path b.jsonl", "the second: \"b\""),
        ("- {path c", "3.jsonl"),
        ("eval", "the only one"),
        ("columns", "renamed"),
        ("system \"Ticket #5", "how to be"),
        ("max_steps 5", "few"),
        ("seed 7", "lucky"),
        ("dir \"# o", "1\""),
    ];
    let found: Vec<(&str, &str)> = comments.iter().map(|(line, comment)| (line.trim_end(), *comment)).collect();
    assert_eq!(found, expected, "{shown}");
    assert_eq!(recipe.data.system.as_deref(), Some("Ticket #5: be kind # or not\n"));
    assert_eq!(recipe.output.dir, Path::new("# o # 1"));
    let again = read(&shown, &[]).unwrap();
    assert_eq!(again, recipe);
    assert_eq!(again.with_comments().to_yaml(), shown);
}

#[test]
fn auto_is_for_these_keys_alone_and_spelt_so() {
    assert_snapshot!(wrong_after("adapter: {r: auto}\ntraining: {learning_rate: Auto, num_train_epochs: autp}"), @r"
error: `adapter.r` must be a whole number, found `auto`
  --> recipe.yaml:4:14
  4 | adapter: {r: auto}
    |              ^^^^

error: `training.learning_rate` must be a number or `auto`, found `Auto`
  --> recipe.yaml:5:27
  5 | training: {learning_rate: Auto, num_train_epochs: autp}
    |                           ^^^^
  hint: write `auto`

error: `training.num_train_epochs` must be a number, found `autp`
  --> recipe.yaml:5:51
  5 | training: {learning_rate: Auto, num_train_epochs: autp}
    |                                                   ^^^^

3 problems
");
}

#[test]
fn early_stopping_goes_with_steps_that_are_chosen() {
    let keys = "evaluation: {eval_steps: auto, early_stopping_patience: 2, load_best_model_at_end: true}\n";
    assert!(read(&format!("{MINIMAL}{keys}"), &["data.eval=e.jsonl"]).is_ok());
}

#[test]
fn other_programs_words_for_no_limit_and_off_are_understood() {
    assert_snapshot!(wrong_after("training:\n  max_steps: -1\n"), @r"
error: `training.max_steps` must be a whole number from 1, found the number `-1`
  --> recipe.yaml:5:14
  5 |   max_steps: -1
    |              ^^
  hint: for no limit leave the key out: then `training.num_train_epochs` decides
");
    assert_snapshot!(wrong_after("training:\n  max_steps: 0\n  fit: true\n"), @r"
error: `training.max_steps` must be at least 1 and at most 1099511627776, found the number `0`
  --> recipe.yaml:5:14
  5 |   max_steps: 0
    |              ^
  hint: for no limit leave the key out: then `training.num_train_epochs` decides

error: `training.fit` must be one of `off`, `auto`, found `true`
  --> recipe.yaml:6:8
  6 |   fit: true
    |        ^^^^

2 problems
");
    assert_eq!(right_after("training: {fit: false}").training.fit, Fit::Off);
    assert_eq!(right_after("training: {fit: off}").training.fit, Fit::Off);
    assert!(right_after("").to_yaml().contains("fit: \"off\""));
}

// rustfmt indents the macro further each time.
#[rustfmt::skip]
#[test]
fn numbers_that_a_float_does_not_hold_are_refused() {
    let training = "training:\n  learning_rate: 1e-50\n  adam_epsilon: 1e-60\n  max_grad_norm: 1e39\n";
    let wrong = wrong_after(&format!("{training}adapter: {{lora_alpha: 1e300}}\n"));
    assert_snapshot!(wrong, @r"
error: `training.learning_rate` must be a number that a 32-bit float can tell from 0, 1.4e-45 or more, found the number `1e-50`
  --> recipe.yaml:5:18
  5 |   learning_rate: 1e-50
    |                  ^^^^^

error: `training.adam_epsilon` must be a number that a 32-bit float can tell from 0, 1.4e-45 or more, found the number `1e-60`
  --> recipe.yaml:6:17
  6 |   adam_epsilon: 1e-60
    |                 ^^^^^

error: `training.max_grad_norm` must be below 3.4e38, the largest number that a 32-bit float holds, found the number `1e39`
  --> recipe.yaml:7:18
  7 |   max_grad_norm: 1e39
    |                  ^^^^

error: `adapter.lora_alpha` must be below 3.4e38, the largest number that a 32-bit float holds, found the number `1e300`
  --> recipe.yaml:8:23
  8 | adapter: {lora_alpha: 1e300}
    |                       ^^^^^

4 problems
"
    );
    let held = right_after("training: {adam_epsilon: 1e-40, max_grad_norm: 0}").training;
    assert_eq!((held.adam_epsilon, held.max_grad_norm), (1e-40, 0.0));
}

#[test]
fn values_of_other_programs_lead_to_ours() {
    let hint = |text: &str| {
        let message = wrong_after(text);
        message.lines().rev().find_map(|line| line.trim().strip_prefix("hint: ").map(str::to_owned)).unwrap_or(message)
    };
    for (text, expected) in [
        ("wandb: true", "write `output.report_to: [tensorboard]`"),
        ("training: {4bit: true}", "write `model.quantization: nf4`"),
        ("load_in_4bit: true", "write `model.quantization: nf4`"),
        ("rank: 8", "it is called `adapter.r` here"),
        ("lora: {rank: 8}", "it is called `adapter` here"),
        ("adapter: {rank: 8}", "it is called `adapter.r` here"),
        ("training: {lr: 1e-4}", "it is called `training.learning_rate` here"),
        ("epochs: 3", "it is called `training.num_train_epochs` here"),
        ("training: {batch-size: 3}", "it is called `training.per_device_train_batch_size` here"),
        ("training: {optimizer: adamw_8bit}", "it is called `adamw` here"),
    ] {
        assert_eq!(hint(text), expected, "{text}");
    }
    let set = |text: &str| wrong_set(text);
    assert!(set("output.report_to=[wandb]").contains("`wandb sync --sync-tensorboard` uploads them"));
    assert!(set("model.quantization=4bit").contains("it is called `nf4` here"));
    assert!(set("model.dtype=float16").contains("it is called `f16` here"));
}

#[test]
fn options_make_a_recipe_that_reads_back_as_itself() {
    let given = |option, key, values: &[&str], is_list| Given {
        option,
        key,
        values: values.iter().map(|value| value.to_string()).collect(),
        is_list,
    };
    let options = |model: &str| {
        [
            given("--model", "model.base", &[model], false),
            given("--data", "data.train", &["a: b.csv", "[c].csv"], true),
            given("--output", "output.dir", &["out/x"], false),
        ]
    };
    let sets = ["training.seed=7".to_owned(), "training.learning_rate=1e-3".to_owned()];
    let recipe = Reading::made(&options("null"), &sets).finish().unwrap();
    assert_eq!((recipe.model.base.as_str(), recipe.data.train.len(), recipe.training.seed), ("null", 2, 7));
    assert!(recipe.auto.contains("training.num_train_epochs") && !recipe.auto.contains("training.learning_rate"));
    let brief = recipe.to_brief_yaml(&["Made.", ""]);
    assert!(brief.starts_with("# Made.\n#\nmodel:\n  base: \"null\"") && !brief.contains("adam_beta1"), "{brief}");
    for yaml in [brief, recipe.to_yaml()] {
        assert_eq!(read(&yaml, &[]).unwrap(), recipe, "{yaml}");
    }
    let wrong = Reading::made(&options(" "), &["training.lr=1".into()]).finish().unwrap_err().to_string();
    assert!(wrong.contains("`model.base` must not be empty, found an empty text\n  --> --model "), "{wrong}");
    assert!(wrong.contains("\n  --> --set training.lr=1\n"), "{wrong}");
}
