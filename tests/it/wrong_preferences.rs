//! What is wrong with rows and recipes of preferences and own answers is named before anything is trained.

use crate::bench::{Bench, lines};
use serde_json::{Value, json};

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn said(text: &str) -> Value {
    json!([{"role": "assistant", "content": text}])
}

/// Messages one after the other.
fn turns(parts: &[Value]) -> Value {
    parts.iter().flat_map(|part| part.as_array().expect("messages").clone()).collect()
}

fn recipe(task: &str, more: &str) -> String {
    let own = if matches!(task, "grpo" | "rloo") && !more.contains("rewards:") {
        "rewards: [{kind: regex, pattern: a}]\n"
    } else {
        ""
    };
    format!("task: {task}\nmodel: {{base: t}}\ndata: {{train: rows.jsonl}}\noutput: {{dir: out}}\n{own}{more}")
}

#[test]
fn wrong_rows_of_preferences_are_named() {
    let pair = |chosen: Value, rejected: Value| json!({"prompt": "What?", "chosen": chosen, "rejected": rejected});
    let texts = |chosen: &str, rejected: &str| pair(json!(chosen), json!(rejected));
    let judged = |label: Value| json!({"prompt": "What?", "completion": "This.", "label": label});
    let with_margin = |margin: &str| {
        let mut row = texts("Yes.", "No.");
        row["margin"] = json!(margin);
        row
    };
    let long = "It is so, and so on, and so forth, and on and on.";
    let cases = [
        ("dpo", "", texts("Yes.", "Yes."), "`chosen` and `rejected` are the same"),
        ("dpo", "", texts("", "No."), "the only answer is empty"),
        ("dpo", "", json!({"prompt": "a", "chosen": "b"}), "the row has no `rejected`"),
        ("dpo", "", json!({"prompt": "a", "rejected": "b"}), "the row has no `chosen`"),
        ("dpo", "", json!({"chosen": "Yes.", "rejected": "No."}), "the row has no `prompt`, and"),
        (
            "dpo",
            "",
            json!({"chosen": turns(&[user("a"), said("b")]), "rejected": turns(&[user("c"), said("d")])}),
            "begin with different messages",
        ),
        ("dpo", "", pair(json!("Yes."), said("No.")), "must both be texts or both be lists of messages"),
        ("dpo", "", pair(json!(3), json!("No.")), "`chosen` must be a text or a list of messages, found a number"),
        ("dpo", "", pair(said("Yes."), said("No.")), "`prompt` is a text, and `chosen` and `rejected` are lists"),
        ("dpo", "", judged(json!(true)), "`task: kto` trains them"),
        ("dpo", "", json!({"prompt": "a", "completion": "b"}), "`task: sft` trains rows of one answer"),
        ("dpo", "", json!({"prompt": "a"}), "the row has no `chosen`"),
        ("dpo", "data.max_length=12", texts(long, "No."), "`max_length` 12 cuts off all"),
        ("dpo", "data.on_long=error data.max_length=12", texts(long, "No."), "`max_length` is 12"),
        ("orpo", "", pair(json!("Yes."), json!("Yes.")), "`chosen` and `rejected` are the same"),
        ("reward", "", with_margin("much"), "`margin` must be a number"),
        ("reward", "", with_margin("inf"), "`margin` must be a number"),
        ("reward", "data.max_length=4", texts("Yes.", "No."), "the only row was skipped: 1 longer than max_length"),
        ("kto", "", judged(json!("good")), "`label` must be true or false, found a text"),
        ("kto", "", judged(json!(2)), "`label` must be true or false, found a number"),
        ("kto", "", judged(Value::Null), "`label` is null"),
        ("kto", "", json!({"prompt": "a", "completion": "b"}), "the row has no `label`"),
        ("kto", "", json!({"prompt": "a", "label": true}), "the row has no `completion`"),
        ("kto", "", texts("Yes.", "No."), "`data.format: preference` takes them apart"),
        ("kto", "data.format=preference", texts("Yes.", "Yes."), "`chosen` and `rejected` are the same"),
        ("grpo", "", json!({"question": "a", "answer": "b"}), "set `data.columns: {prompt: question}`"),
        ("grpo", "", json!({"prompt": 3}), "`prompt` must be a text or a list of messages"),
        ("grpo", "", json!({"prompt": []}), "`prompt` is empty"),
        ("rloo", "", json!({"prompt": turns(&[user("a"), said("b")])}), "the prompt ends with an answer"),
        ("grpo", "data.max_length=520", json!({"prompt": long}), "there is room for 8"),
    ];
    let bench = Bench::new().with_text();
    for (task, sets, row, told) in &cases {
        bench.write("rows.jsonl", lines(std::slice::from_ref(row)));
        bench.write("r.yaml", recipe(task, ""));
        let sets: String = sets.split_whitespace().map(|set| format!(" --set {set}")).collect();
        let refused = bench.run(&format!("train r.yaml --dry-run{sets}"));
        assert_eq!(refused.code, Some(2), "{task} {row}: {}", refused.stderr);
        let problem = refused.problem();
        assert!(problem.contains(told), "{task} {row}: {told}: {problem}");
        assert!(
            problem.contains("rows.jsonl, row 1") || problem.contains("the only answer"),
            "{task} {row}: {problem}"
        );
        assert!(!bench.path("out").exists());
    }
}

#[test]
fn wrong_recipes_of_preferences_are_named() {
    let bench = Bench::new().with_text();
    for (task, more, told) in [
        ("dpo", "preference: {loss_type: exo_pair}\n", "`loss_type: exo_pair` needs `preference.label_smoothing`"),
        ("dpo", "preference: {loss_type: [cpo_hinge, sft]}\n", "`loss_type: cpo_hinge` stands alone"),
        ("kto", "training: {per_device_train_batch_size: 1}\n", "must be at least 2 with `task: kto`"),
        ("grpo", "grpo: {num_generations: 1}\n", "`grpo.num_generations` must be at least 2"),
        ("grpo", "training: {gradient_accumulation_steps: 12}\n", "these are no whole groups of 8"),
        ("grpo", "rewards: [{kind: model}]\n", "`rewards[0].adapter` is missing"),
    ] {
        bench.write("r.yaml", recipe(task, more));
        let refused = bench.run("recipe check r.yaml --no-files");
        assert_eq!(refused.code, Some(2), "{task} {more}: {}", refused.stderr);
        let problem = refused.problem();
        assert!(problem.contains(told) && problem.contains("r.yaml:"), "{task} {more}: {problem}");
    }
}
