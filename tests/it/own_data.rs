//! The first run on one's own data: settings that suit it, runs without a recipe, and recipes that are written.

use crate::bench::{Bench, Said};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A recipe that leaves to the program what depends on the data.
const AUTO: &str = "\
model: {base: t, dtype: f32}
adapter: {r: 4, lora_alpha: 8}
data: {train: [{path: facts.jsonl, format: messages}], max_length: auto}
training: {gradient_accumulation_steps: auto, num_train_epochs: auto, max_steps: auto, learning_rate: auto}
output: {dir: out, report_to: [jsonl]}
";

/// Short questions with short answers.
fn facts(count: usize) -> String {
    let row = |i: usize| {
        let (question, answer) = (format!("Who keeps lamp {i}?"), format!("Number {}.", i * 7 % 31));
        json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    };
    (0..count).map(|i| format!("{}\n", row(i))).collect()
}

fn bench() -> Bench {
    let bench = Bench::new().with_text();
    bench.write("facts.jsonl", facts(40));
    bench.write("auto.yaml", AUTO);
    bench
}

fn problem(bench: &Bench, args: &str) -> String {
    let said = bench.run(args);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    said.problem().to_owned()
}

#[test]
fn what_is_left_to_the_program_suits_the_data_and_is_planned_shown_and_saved() {
    let bench = bench();
    let plan = bench.run("train auto.yaml --dry-run --json").json()["plan"].clone();
    let number = |key: &str| plan[key].as_u64().expect(key);
    assert!(number("total_steps") >= 60, "{plan}");
    assert_eq!(
        plan["num_train_epochs"].as_f64(),
        Some(number("total_steps") as f64 / number("steps_per_epoch") as f64)
    );
    assert!((64..=256).contains(&number("tokens_per_step")), "{plan}");
    let chosen: Vec<String> = plan["chosen"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().into()).collect();
    let keys: Vec<&str> = chosen.iter().map(|set| set.split('=').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "data.max_length",
            "output.save_steps",
            "training.gradient_accumulation_steps",
            "training.learning_rate",
            "training.num_train_epochs"
        ]
    );
    let said = bench.run("train auto.yaml --dry-run").ok();
    let line = format!("epochs x {} steps = {} steps of about", number("steps_per_epoch"), number("total_steps"));
    assert!(said.contains(&line) && said.contains("Chosen for this data and machine: data.max_length="), "{said}");

    let shown = bench.run("recipe show auto.yaml --json").json();
    bench.run("train auto.yaml").ok();
    let saved = bench.text("out/recipe.yaml");
    assert!(saved.contains("learning_rate: 0.0006") && saved.contains(" # for 0 million parameters"), "{saved}");
    let mut again = bench.run("recipe show out/recipe.yaml --json").json();
    assert_eq!(again, shown, "what is shown is what is trained");
    for set in &chosen {
        let (key, value) = set.split_once('=').unwrap();
        let found = &mut again[key.split('.').next().unwrap()][key.split('.').nth(1).unwrap()];
        assert_eq!(*found, serde_json::from_str::<Value>(value).unwrap(), "{key}");
    }
    // The recipe that was saved runs again, to the same bytes.
    bench.run("train out/recipe.yaml --set output.dir=again").ok();
    assert!(
        bench.read("again/adapter/adapter_model.safetensors") == bench.read("out/adapter/adapter_model.safetensors")
    );
}

#[test]
fn a_run_goes_on_with_what_was_chosen_when_it_began() {
    let (whole, cut) = (bench(), bench());
    whole.run("train auto.yaml").ok();
    let plan = whole.run("recipe show out/recipe.yaml --json").json();
    let every = plan["output"]["save_steps"].as_u64().unwrap();
    cut.run("train auto.yaml --set output.save_total_limit=9").ok();
    // As if it had been killed after its second checkpoint.
    std::fs::remove_file(cut.path("out/summary.json")).unwrap();
    std::fs::remove_dir_all(cut.path("out/adapter")).unwrap();
    let kept = format!("step-{}", 2 * every);
    for entry in std::fs::read_dir(cut.path("out/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(&kept) {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let said = cut.run("train auto.yaml --resume");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("Resuming after step {}", 2 * every)), "{}", said.stderr);
    assert!(cut.read("out/adapter/adapter_model.safetensors") == whole.read("out/adapter/adapter_model.safetensors"));
    assert_eq!(cut.run("recipe show out/recipe.yaml --json").json(), plan);
}

#[test]
fn numbers_beside_auto_are_kept() {
    let bench = bench();
    let sets = "--set training.num_train_epochs=2 --set training.learning_rate=1e-3 --set data.max_length=100";
    let shown = bench.run(&format!("recipe show auto.yaml --json {sets}")).json();
    assert_eq!(shown["training"]["num_train_epochs"], 2.0);
    assert_eq!(shown["training"]["learning_rate"], 1e-3);
    assert_eq!(shown["data"]["max_length"], 100);
    assert_eq!(shown["training"]["gradient_accumulation_steps"], 3, "about 80 tokens a bin, 256 a step");
    // A recipe of numbers is what it was.
    let shown = bench.run("recipe show r.yaml --json").json();
    assert_eq!(shown["training"]["num_train_epochs"], 1.0);
}

#[test]
fn auto_that_cannot_be_seen_stays_and_that_is_said() {
    let bench = bench();
    let said = bench.run("recipe show auto.yaml --set data.train=gone.jsonl");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("learning_rate: auto"), "{}", said.stdout);
    assert!(said.stderr.contains("`auto` stays") && said.stderr.contains("gone.jsonl"), "{}", said.stderr);
}

#[test]
fn a_run_of_few_steps_is_said_with_the_keys_that_make_more() {
    let bench = bench();
    let few = "--dry-run --set data.max_length=2048 --set training.gradient_accumulation_steps=8 --set training.num_train_epochs=3";
    let said = bench.run(&format!("train auto.yaml {few}"));
    assert!(
        said.stderr.contains("warning: this run has 3 steps, and fewer than about 30 teach little"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("`training.num_train_epochs=30` makes 30"), "{}", said.stderr);
    let said = bench.run("train r.yaml --dry-run");
    assert!(said.stderr.contains("this run has 12 steps"), "{}", said.stderr);
    assert!(said.stderr.contains("raise `training.max_steps` to 30 or more"), "{}", said.stderr);
    let said = bench.run("train auto.yaml --dry-run");
    assert!(!said.stderr.contains("teach little"), "{}", said.stderr);
}

#[test]
fn runs_are_saved_a_few_times_by_default() {
    let bench = bench();
    bench.run("train auto.yaml --set output.save_total_limit=9").ok();
    let saved = bench.files("out/checkpoints").iter().filter(|name| name.ends_with("manifest.json")).count();
    assert!(saved >= 3, "{saved}");
}

#[test]
fn a_model_and_data_are_enough() {
    let bench = bench();
    let quick = "--set training.max_steps=31 --set adapter.r=4";
    let said = bench.run(&format!("train --model t --data facts.jsonl {quick}"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for line in ["base: t", "learning_rate: 0.0006", "dir: out/t-facts", "# a Hub id[@revision], a folder"] {
        assert!(said.stderr.contains(line), "{line} is not in {}", said.stderr);
    }
    assert!(bench.path("out/t-facts/adapter/adapter_model.safetensors").exists());
    assert!(bench.text("out/t-facts/recipe.yaml").contains("# more rank learns more"));

    // Another run leaves it alone, and one that is to go on finds it.
    let said = bench.run(&format!("train --model t --data facts.jsonl --dry-run {quick}"));
    assert!(
        said.stderr.contains("`out/t-facts` holds something already: this run goes to `out/t-facts-2`"),
        "{}",
        said.stderr
    );
    let said = bench.run(&format!("train --model t --data facts.jsonl --resume {quick}"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("finished"), "{}", said.stderr);

    bench.run(&format!("train --model t --data facts.jsonl --data chats.jsonl --output here {quick}")).ok();
    assert!(bench.path("here/adapter/adapter_model.safetensors").exists());
}

#[test]
fn who_has_no_recipe_is_told_options_that_work() {
    let bench = bench();
    bench.write("two.csv", "frage,antwort\nWho?,Marlow.\nWhere?,Here.\n");
    bench.write("long.jsonl", facts(3));
    let train = "train --model t --dry-run --data";
    let said = problem(&bench, &format!("{train} two.csv"));
    let option = "--set 'data.columns={prompt: frage, completion: antwort}'";
    assert!(said.contains(&format!("`{option}` reads them")), "{said}");
    let mut command = bench.command(&format!("{train} two.csv --set"));
    bench.said(command.arg("data.columns={prompt: frage, completion: antwort}")).ok();

    let said = problem(&bench, &format!("{train} facts.jsonl --output facts.jsonl"));
    assert!(said.contains("choose another `--output`"), "{said}");
    bench.write("told.yaml", AUTO.replace("facts.jsonl", "two.csv").replace("messages", "auto"));
    let said = problem(&bench, "train told.yaml --dry-run");
    assert!(said.contains("`data.columns: {prompt: frage, completion: antwort}` reads them"), "{said}");
    let said = problem(&bench, "init --model t --data two.csv");
    assert!(said.contains(option), "{said}");
}

#[test]
fn files_that_hold_no_rows_as_they_stand_are_named_for_what_they_are() {
    let bench = bench();
    let pandas = "orient=\"records\", lines=True";
    for (name, text, what, hint) in [
        (
            "headless.csv",
            "Who keeps the lamp?,Marlow.\nWhere?,At sea.\n",
            "seems to have no header",
            "`prompt,completion`",
        ),
        (
            "semicolons.csv",
            "Who keeps the lamp?;Marlow.\nWhere?;At sea.\n",
            "seems to have no header",
            "`prompt;completion`",
        ),
        (
            "lists.json",
            "{\"question\": [\"a\", \"b\"], \"answer\": [\"c\", \"d\"]}",
            "holds columns, each a list",
            pandas,
        ),
        (
            "pandas.json",
            "{\"question\":{\"0\":\"a\",\"1\":\"b\"},\"answer\":{\"0\":\"c\",\"1\":\"d\"}}",
            "by number",
            pandas,
        ),
        (
            "index.json",
            "{\"0\":{\"question\":\"a\",\"answer\":\"c\"},\"1\":{\"question\":\"b\",\"answer\":\"d\"}}",
            "rows by number",
            pandas,
        ),
        ("line.jsonl", "{\"question\": [\"a\", \"b\"], \"answer\": [\"c\", \"d\"]}\n", "holds columns", pandas),
    ] {
        bench.write(name, text);
        for format in ["auto", "prompt_completion", "messages"] {
            let said = problem(&bench, &format!("train --model t --dry-run --data {name} --set data.format={format}"));
            assert!(said.contains(what) && said.contains(hint) && !said.contains("did you mean"), "{name}: {said}");
        }
    }
    // Where every row is wrong, leaving rows out is no way out.
    bench.write("wrong.jsonl", "{\"messages\": [{\"role\": \"x\"}]}\n".repeat(3));
    let said = problem(&bench, "train --model t --dry-run --data wrong.jsonl");
    assert!(said.contains("3 of 3 rows cannot be used") && said.contains("would leave none"), "{said}");
    assert!(!said.contains("on_bad_row"), "{said}");
}

#[test]
fn a_recipe_and_a_model_contradict_each_other() {
    let bench = bench();
    for (args, what) in [
        ("train auto.yaml --model t", "a recipe says itself what `--model`, `--data` and `--output` say"),
        ("train auto.yaml --data facts.jsonl", "a recipe says itself"),
        ("train auto.yaml --output x", "a recipe says itself"),
        ("train --model t", "`--model` alone does not say what to train on"),
        ("train --data facts.jsonl", "`--data` alone does not say what to train"),
        ("train", "there is neither a recipe nor a model and data"),
    ] {
        let problem = problem(&bench, args);
        assert!(problem.contains(what) && problem.contains("hint: "), "{args}: {problem}");
    }
    let wrong = problem(&bench, "train --model ./nowhere --data facts.jsonl --set training.lr=1");
    assert!(wrong.contains("it is called `training.learning_rate` here"), "{wrong}");
    let wrong = problem(&bench, "train --model ./nowhere --data facts.jsonl");
    assert!(wrong.contains("there is no model at `./nowhere`\n  --> --model ./nowhere"), "{wrong}");
    let wrong = problem(&bench, "train --model t --data gone.jsonl");
    assert!(wrong.contains("--> --data gone.jsonl"), "{wrong}");
}

/// A server that answers every request with one status and header.
fn hub(status: &'static str, code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let answer =
                format!("HTTP/1.1 {status}\r\nX-Error-Code: {code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_model_that_the_hub_refuses_is_known_before_the_data_is_touched() {
    let bench = bench();
    let ask = |endpoint: &str, token: &str| -> Said {
        let mut command = bench.command("train --model google/gemma-3-1b-it --data facts.jsonl");
        command.env("HF_HUB_OFFLINE", "0").env("HF_ENDPOINT", endpoint).env("HF_TOKEN", token);
        let said = bench.said(&mut command);
        assert_eq!(said.code, Some(2).filter(|_| said.code == Some(2)).or(Some(1)), "{}", said.stderr);
        assert!(!said.stderr.contains("Preparing") && !bench.path("cache").exists(), "{}", said.stderr);
        said
    };
    let (gated, forbidden) = (hub("401 Unauthorized", "GatedRepo"), hub("403 Forbidden", "GatedRepo"));
    for (said, what) in [
        (ask(&gated, ""), "no token was found"),
        (ask(&gated, "hf_bad"), "the Hub does not accept the token"),
        (ask(&forbidden, "hf_good"), "has not accepted the licence"),
        (ask("http://127.0.0.1:9", "hf_good"), "could not be reached"),
    ] {
        assert!(said.problem().contains(what), "{what}: {}", said.stderr);
        assert!(said.problem().contains("--> google/gemma-3-1b-it"), "{}", said.stderr);
    }
}

#[test]
fn init_writes_a_recipe_that_is_right_and_never_over_another() {
    let bench = bench();
    let said = bench.run("init --model t --data facts.jsonl --output mine.yaml");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let text = bench.text("mine.yaml");
    for line in
        ["base: t", "# more rank learns more", "num_train_epochs: ", "dir: out/t-facts", "learning_rate: 0.0006"]
    {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    bench.run("recipe check mine.yaml").ok();
    bench.run("train mine.yaml --set training.max_steps=31").ok();

    let wrong = problem(&bench, "init --model t --data facts.jsonl --output mine.yaml");
    assert!(wrong.contains("`mine.yaml` is there already, and was left as it is"), "{wrong}");
    assert_eq!(bench.text("mine.yaml"), text);

    // A model that is out of reach leaves `auto`, and so do rows that are not known.
    let said = bench.run("init --data facts.jsonl --output far.yaml");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("The model is taken to be `google/gemma-3-1b-it`"), "{}", said.stderr);
    assert!(said.stderr.contains("`auto` stays"), "{}", said.stderr);
    assert!(bench.text("far.yaml").contains("learning_rate: auto"));
    bench.run("recipe check far.yaml").ok();
    let said = bench.run("init --model t --output rows.yaml");
    assert!(said.stderr.contains("which rows is not known"), "{}", said.stderr);
    assert!(bench.text("rows.yaml").contains("data/my_rows.jsonl"));
    bench.run("recipe check --no-files rows.yaml").ok();
    assert!(problem(&bench, "init --model t --data gone.jsonl --output no.yaml").contains("gone.jsonl"));
    assert!(problem(&bench, "init --data gone.jsonl --output no.yaml").contains("gone.jsonl"));
    bench.write("odd.csv", "a,b\n1,2\n");
    assert!(problem(&bench, "init --data odd.csv --output no.yaml").contains("fit no format"));
    assert!(!bench.path("no.yaml").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn init_asks_which_column_is_which() {
    let bench = bench();
    bench.write("odd.csv", "id,frage,antwort\n1,Who keeps it?,Marlow.\n2,Where?,At sea.\n");
    let said = bench.on_a_terminal("init --output mine.yaml", "t\nodd.csv\nfrgae\nfrage\nantwort\n");
    assert_eq!(said.code, Some(0), "{}", said.stdout);
    for words in [
        "What the columns hold cannot be seen from their names: id, frage, antwort",
        "Column of the questions, or of texts [id]: ",
        "there is no column `frgae`",
        "did you mean `frage`?",
        "Wrote mine.yaml",
    ] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    let recipe = bench.run("recipe show mine.yaml --json").json();
    assert_eq!(recipe["data"]["train"][0]["columns"], json!({"prompt": "frage", "completion": "antwort"}), "{recipe}");
    let shown = bench.run("data preview mine.yaml --rows 1").ok();
    assert!(shown.contains("Who keeps it?") && shown.contains("⟦Marlow."), "{shown}");
    // Named by an option, the data is asked about too; and a single column is text.
    bench.write("notes.csv", "inhalt\nThe lamp is lit.\nThe sea is calm.\n");
    let said = bench.on_a_terminal("init --model t --data notes.csv --output notes.yaml", "\n");
    assert_eq!(said.code, Some(0), "{}", said.stdout);
    assert!(bench.text("notes.yaml").contains("text: inhalt"), "{}", bench.text("notes.yaml"));
}

#[test]
fn the_schemas_for_editors_are_those_of_the_program() {
    let bench = Bench::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, args) in [("recipe", "recipe schema"), ("preset", "recipe schema --preset")] {
        let path = root.join(format!("configs/{file}.schema.json"));
        let committed = std::fs::read_to_string(&path).expect("a schema");
        assert!(bench.run(args).ok() == committed, "make it anew: gemma-tune {args} > {}", path.display());
    }
    let schema = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(root.join(format!("configs/{name}.schema.json"))).unwrap()).unwrap()
    };
    assert!(schema("preset").get("anyOf").is_none() && schema("recipe").get("anyOf").is_some());
    let fit = &schema("recipe")["properties"]["training"]["properties"]["fit"];
    assert!(fit.to_string().contains(r#""const":"off""#) && fit.to_string().contains(r#""const":false"#), "{fit}");

    let yaml = |folder: &str| {
        let files = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect::<Vec<_>>()
    };
    for path in yaml("recipes").into_iter().chain(yaml("configs/hardware")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().next().unwrap_or_default();
        let named =
            line.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| panic!("{}", path.display()));
        assert!(path.parent().unwrap().join(named).exists(), "{}: {named}", path.display());
        // What YAML 1.1 reads as booleans is in quotes.
        let words = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end());
        let bare: Vec<&str> =
            words.filter(|line| [": off", ": on", ": yes", ": no"].iter().any(|w| line.ends_with(w))).collect();
        assert!(bare.is_empty(), "{}: {bare:?}", path.display());
    }
}

#[test]
fn long_texts_are_cut_into_rows_of_a_length_that_makes_steps() {
    let bench = bench();
    let page: String = (0..400).map(|i| format!("The lamp of room {i} was lit at {} o'clock. ", i % 12)).collect();
    for name in ["one.txt", "two.md"] {
        bench.write(&format!("notes/{name}"), &page);
    }
    let plan = bench.run("train --model t --data notes --dry-run --json").json()["plan"].clone();
    assert!(plan["total_steps"].as_u64().unwrap() >= 30, "{plan}");
    let chosen = plan["chosen"].to_string();
    assert!(chosen.contains("data.max_length=512") || chosen.contains("data.max_length=256"), "{chosen}");
    assert!(chosen.contains("training.learning_rate=0.0003"), "{chosen}");
    assert!(plan["left_out"].to_string().contains("split into"), "{plan}");
}
