use super::*;

fn wanted(method: Method) -> Wanted {
    Wanted { method, epochs: None, batch: None, rate_multiplier: None, beta: None, seed: 7, has_validation: false }
}

fn recipe(wanted: &Wanted) -> Recipe {
    let folder = Path::new("/store/runs/a$b");
    let text = BaseOrders::of("google/gemma-3-1b-it").recipe(wanted, folder).unwrap();
    recipe::parse(Path::new("recipe.yaml"), text.into_bytes(), &[]).unwrap()
}

#[test]
fn what_is_not_said_is_left_to_the_run() {
    let made = recipe(&wanted(Method::Supervised));
    assert_eq!((made.task, made.model.base.as_str()), (Task::Sft, "google/gemma-3-1b-it"));
    assert_eq!(made.data.train[0].path, "/store/runs/a$b/train.jsonl");
    assert_eq!(made.output.dir, Path::new("/store/runs/a$b/run"));
    assert!(made.data.eval.is_empty());
    for key in ["num_train_epochs", "learning_rate", "gradient_accumulation_steps", "max_steps"] {
        assert!(made.auto.contains(&format!("training.{key}")), "{key}");
    }
    assert_eq!(made.training.seed, 7);
}

#[test]
fn what_is_said_is_in_the_recipe() {
    let said = Wanted {
        epochs: Some(3),
        batch: Some(12),
        rate_multiplier: Some(0.5),
        has_validation: true,
        ..wanted(Method::Supervised)
    };
    let made = recipe(&said);
    assert_eq!((made.training.num_train_epochs, made.training.max_steps), (3.0, None));
    assert_eq!((made.training.per_device_train_batch_size, made.training.gradient_accumulation_steps), (6, 2));
    assert!(!made.data.packing, "rows, and not sequences that share them out");
    assert!((made.training.learning_rate - 1e-4).abs() < 1e-12, "half of 2e-4");
    assert_eq!(made.data.eval[0].path, "/store/runs/a$b/validation.jsonl");
    for (batch, at_once, passes) in [(1, 1, 1), (7, 7, 1), (13, 1, 13), (64, 8, 8)] {
        let training = recipe(&Wanted { batch: Some(batch), ..wanted(Method::Supervised) }).training;
        assert_eq!((training.per_device_train_batch_size, training.gradient_accumulation_steps), (at_once, passes));
    }
    let pairs = recipe(&Wanted { beta: Some(0.3), rate_multiplier: Some(2.0), ..wanted(Method::Dpo) });
    assert_eq!((pairs.task, pairs.preference.unwrap().beta), (Task::Dpo, Some(0.3)));
    assert!((pairs.training.learning_rate - 4e-5).abs() < 1e-15, "twice what adapters take");
}

#[test]
fn what_was_chosen_is_that_of_the_runs_own_recipe() {
    let (dir, orders) = (tempfile::tempdir().unwrap(), BaseOrders::of("m"));
    assert_eq!(orders.chosen(dir.path()), None);
    let said = Wanted { epochs: Some(2), batch: Some(4), rate_multiplier: Some(3.0), ..wanted(Method::Supervised) };
    std::fs::create_dir(dir.path().join(RUN)).unwrap();
    let write = |wanted: &Wanted| {
        std::fs::write(dir.path().join(RUN).join("recipe.yaml"), orders.recipe(wanted, dir.path()).unwrap()).unwrap();
    };
    write(&wanted(Method::Supervised));
    assert_eq!(orders.chosen(dir.path()), None, "it has not been chosen yet");
    write(&said);
    let Chosen { epochs, batch, rate_multiplier, beta } = orders.chosen(dir.path()).unwrap();
    assert_eq!((epochs, batch, rate_multiplier, beta), (2.0, 4, 3.0, None));
    for times in [0.1, 0.3, 1.5, 7.0, 1e-12, 250.0] {
        write(&Wanted { rate_multiplier: Some(times), ..said.clone() });
        assert_eq!(orders.chosen(dir.path()).unwrap().rate_multiplier, times, "as it was said");
    }
}

fn read(text: &str) -> Result<(Rows, String)> {
    let mut into = Vec::new();
    read_rows(&mut text.as_bytes(), &mut into).map(|rows| (rows, String::from_utf8(into).unwrap()))
}

const CHAT: &str =
    r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}]}"#;

#[test]
fn chats_stay_as_they_are_and_pairs_become_ours() {
    let (rows, text) = read(&format!("\u{feff}{CHAT}\r\n\n{CHAT}")).unwrap();
    assert_eq!(rows, Rows { method: Method::Supervised, count: 2 });
    assert_eq!(text, format!("{CHAT}\n{CHAT}\n"));

    let functions = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null,
        "function_call": {"name": "f", "arguments": "{}"}}], "functions": [{"name": "f"}]}"#
        .replace('\n', " ");
    let (_, text) = read(&functions).unwrap();
    let row: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(row["tools"], json!([{"type": "function", "function": {"name": "f"}}]));
    assert!(row.get("functions").is_none());

    let said = |text: &str| json!([{"role": "assistant", "content": text}]);
    let pair = json!({
        "input": {"messages": [{"role": "user", "content": "a"}], "tools": [], "parallel_tool_calls": true},
        "preferred_output": said("b"), "non_preferred_output": said("c"),
    });
    let (rows, text) = read(&pair.to_string()).unwrap();
    assert_eq!(rows, Rows { method: Method::Dpo, count: 1 });
    let row: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(row["prompt"], json!([{"role": "user", "content": "a"}]));
    assert_eq!((&row["chosen"], &row["rejected"], &row["tools"]), (&said("b"), &said("c"), &json!([])));
}

#[test]
fn what_is_no_row_is_named_by_its_line() {
    let chat = |message: Value| json!({"messages": [{"role": "user", "content": "a"}, message]}).to_string();
    let picture = |url: &str| {
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        json!({"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "b"}]}).to_string()
    };
    for (line, what) in [
        ("{".to_owned(), "line 2: it is no JSON"),
        ("[1]".into(), "line 2: it is JSON, and no object"),
        (json!({"messages": []}).to_string(), "line 2: `messages` is empty"),
        (json!({"message": []}).to_string(), "line 2: `message` is not known here (did you mean `messages`?)"),
        (chat(json!({"role": "robot", "content": "b"})), "line 2: `messages[1]` has the unknown role `robot`"),
        (chat(json!({"role": "user", "content": "b"})), "nothing to learn"),
        (chat(json!({"role": "assistant", "content": "b", "weight": 0})), "nothing to learn"),
        (chat(json!({"role": "assistant", "content": "b", "weight": 0.5})), "line 2: `messages[1].weight` must be 0 or 1"),
        (chat(json!({"role": "assistant", "content": 4})), "line 2: `messages[1].content`"),
        (picture("/etc/passwd"), "come in the row itself"),
        (picture("file:///etc/passwd"), "come in the row itself"),
        (picture("http://169.254.169.254/x.png"), ""),
        (json!({"input": {"messages": []}, "preferred_output": []}).to_string(), "line 2: `non_preferred_output` is missing"),
        (
            json!({"input": {"message": []}, "preferred_output": [], "non_preferred_output": []}).to_string(),
            "line 2: `input.message` is not known here (did you mean `input.messages`?)",
        ),
        (
            json!({"input": {"messages": [{"role": "user", "content": "a"}]}, "preferred_output": [], "non_preferred_output": []})
                .to_string(),
            "line 2: `preferred_output` must be a list of messages that begins with one of the assistant",
        ),
    ] {
        let error = read(&format!("{CHAT}\n{line}\n{CHAT}\n")).unwrap_err();
        assert!(error.kind() == Kind::Data && error.what().contains(what), "{line}: {}", error.what());
        assert!(error.what().starts_with("line 2: "), "{}", error.what());
    }
    assert!(read(" \n").unwrap_err().what().contains("no rows"));
    let pair = json!({
        "input": {"messages": [{"role": "user", "content": "a"}]},
        "preferred_output": [{"role": "assistant", "content": "b"}],
        "non_preferred_output": [{"role": "assistant", "content": "c"}],
    });
    let mixed = read(&format!("{CHAT}\n{pair}\n")).unwrap_err();
    assert!(mixed.what().contains("it is for `dpo`, and those before it are for `supervised`"), "{}", mixed.what());
}
