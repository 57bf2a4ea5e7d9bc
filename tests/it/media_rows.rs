//! Rows with pictures and sounds that people have, from what is said of them to what is trained and measured.

use crate::bench::{Bench, lines, wait_until};
use crate::multimodal::{bench, hearing_bench, ids_of, wav};
use serde_json::{Value, json};

/// A row of the user's words beside a sound, and an answer.
fn heard(file: &str, answer: &str) -> Value {
    json!({"messages": [
        {"role": "user", "content": [{"type": "audio", "audio": file}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": answer},
    ]})
}

#[test]
fn a_sound_of_more_soft_tokens_than_it_has_places_is_a_bad_row() {
    let bench = hearing_bench();
    // The model has places for 6, each of 16 frames of 10 ms.
    bench.write("media/fits.wav", wav(0.98));
    bench.write("media/long.wav", wav(2.0));
    bench.write("seen.jsonl", lines(&[heard("media/fits.wav", "x"), heard("media/long.wav", "y")]));
    for verb in ["data preview v.yaml --json", "train v.yaml", "score --model n --input seen.jsonl --output s.jsonl"] {
        let refused = bench.run(verb);
        assert_eq!(refused.code, Some(2), "{verb}: {}", refused.stderr);
        let told = "`media/long.wav`: the tower makes 13 soft tokens of the sound, and the model has places for 6";
        assert!(refused.problem().contains(told), "{verb}: {}", refused.stderr);
        assert!(refused.problem().contains("seen.jsonl, row 2"), "{verb}: {}", refused.stderr);
    }
    let stats = bench.run("data stats v.yaml --json --set data.on_bad_row=skip").json();
    assert_eq!((&stats["rows"], &stats["skipped"]), (&json!(1), &json!({"broken_media": 1})), "{stats}");
    bench.run("train v.yaml --set data.on_bad_row=skip --set training.max_steps=1").ok();
}

#[test]
fn a_file_that_goes_while_towers_train_is_named_with_its_row() {
    let gone = |change: &dyn Fn(&Bench), code: i32, told: &str| {
        let bench = bench();
        let sets = "--set adapter.vision_target_modules=[q_proj] --set training.max_steps=100000";
        let mut run = bench.command(&format!("train v.yaml {sets}"));
        let mut child = run.stderr(std::process::Stdio::piped()).spawn().expect("the program");
        let has_stepped = || std::fs::metadata(bench.path("out/metrics.jsonl")).is_ok_and(|file| file.len() > 0);
        assert_eq!(wait_until(&mut child, has_stepped), None, "it ended before its first step");
        change(&bench);
        let output = child.wait_with_output().expect("the program ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(told) && said.contains("pictures/red.png`"), "{said}");
        assert!(said.contains("--> seen.jsonl, row 1"), "{said}");
    };
    gone(&|bench| std::fs::remove_file(bench.path("pictures/red.png")).unwrap(), 1, "cannot be read any more");
    gone(&|bench| bench.write("pictures/red.png", b"x"), 2, "changed since the rows were prepared");
}

#[test]
fn what_stands_beside_media_is_learnt_as_the_answer_to_the_recipes_prompt() {
    let bench = hearing_bench();
    let preview = |more: &str| -> Vec<Value> {
        let said = bench.run(&format!("data preview v.yaml --json {more}")).ok();
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let with_prompt = |file: &str| preview(&format!("--set data.train={file} --set data.prompt=What?"));
    let turns = |medium: Value| {
        json!({"messages": [
            {"role": "user", "content": [medium, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "A low tone."},
        ]})
    };
    bench.write("a.jsonl", lines(&[turns(json!({"type": "audio", "audio": "media/low.wav"}))]));
    bench.write("b.jsonl", lines(&[turns(json!({"type": "image", "image": "media/disc.png"}))]));
    let [sound, picture] = ["a.jsonl", "b.jsonl"].map(|file| preview(&format!("--set data.train={file}")));
    bench.write("c.jsonl", lines(&[json!({"audio": "media/low.wav", "transcription": "A low tone.", "id": 7})]));
    bench.write("d.jsonl", lines(&[json!({"audio": {"path": "media/low.wav", "bytes": null}, "text": "A low tone."})]));
    bench.write("e.csv", "file_name,sentence\nmedia/low.wav,A low tone.\n");
    bench.write("f.jsonl", lines(&[json!({"image": "media/disc.png", "caption": "A low tone."})]));
    bench.write("g.jsonl", lines(&[json!({"image": "media/disc.png", "text": "A low tone."})]));
    for (file, expected) in
        [("c.jsonl", &sound), ("d.jsonl", &sound), ("e.csv", &sound), ("f.jsonl", &picture), ("g.jsonl", &picture)]
    {
        let seen = with_prompt(file);
        assert_eq!(ids_of(&seen[0]), ids_of(&expected[0]), "{file}");
        assert_eq!(seen[0]["labels"], expected[0]["labels"], "{file}");
    }
    // Each source may ask its own.
    let own = "--set data.train=[{\"path\":\"c.jsonl\",\"prompt\":\"What?\"}]";
    assert_eq!(ids_of(&preview(own)[0]), ids_of(&sound[0]));
    // Trained, evaluated, answered.
    let run = bench.run("train v.yaml --set data.train=c.jsonl --set data.prompt=What? --set data.eval=d.jsonl --set training.max_steps=2");
    assert!(run.stderr.contains("audio, transcription -> prompt_completion, asked `data.prompt`"), "{}", run.stderr);
    run.ok();

    // Without it nothing is asked of them; where nothing needs it, it is in vain: each is told, with the key.
    let refused = |sets: &str, told: &[&str]| {
        let said = bench.run(&format!("data preview v.yaml --json {sets}"));
        assert_eq!(said.code, Some(2), "{sets}: {}", said.stderr);
        told.iter().for_each(|part| assert!(said.problem().contains(part), "{part}: {}", said.stderr));
    };
    refused("--set data.train=c.jsonl", &["`transcription` describes", "`data.prompt: Transcribe this recording.`"]);
    refused("--set data.train=f.jsonl", &["`caption` describes", "data.prompt"]);
    refused("--set data.train=d.jsonl", &["the row has `audio`", "data.prompt"]);
    refused("--set data.prompt=What?", &["`data.prompt` is asked of no row", "format `messages`"]);
    refused("--set data.train=seen.jsonl --set data.prompt=What?", &["`data.prompt` is asked of no row", "`messages`"]);
    bench.write("h.jsonl", lines(&[json!({"prompt": "a", "completion": "b"})]));
    refused("--set data.train=h.jsonl --set data.prompt=What?", &["asked of no row", "a prompt in each row"]);
    let lost = [json!({"audio": "media/low.wav", "text": "a"}), json!({"audio": null, "text": "b"})];
    bench.write("i.jsonl", lines(&lost));
    refused(
        "--set data.train=i.jsonl --set data.prompt=What?",
        &["i.jsonl, row 2", "neither a prompt nor a picture or sound"],
    );
    bench.write("j.jsonl", lines(&[json!({"audio": "media/low.wav", "text": "a", "sentence": "b"})]));
    refused("--set data.train=j.jsonl --set data.prompt=What?", &["more than one format", "completion: "]);
}

#[test]
fn answers_to_sounds_are_measured_by_their_error_rates() {
    let bench = hearing_bench();
    let said = [("media/low.wav", "low"), ("media/long.wav", "high tone")];
    let rows: Vec<Value> = said.iter().map(|(file, text)| json!({"audio": file, "text": text})).collect();
    bench.write("said.jsonl", lines(&rows));
    let sets = "--set data.train=said.jsonl --set data.eval=said.jsonl --set data.prompt=Say --set data.packing=false";
    bench.run(&format!("train v.yaml {sets} --set training.max_steps=60 --set adapter.r=8")).ok();
    let report = bench
        .run(&format!(
            "evaluate v.yaml {sets} --adapter out --generate --metrics wer,cer --max-tokens 12 --output rows.out --json"
        ))
        .json();
    let metrics = report["metrics"].as_array().expect("metrics");
    for name in ["wer", "cer"] {
        let found = metrics.iter().find(|metric| metric["metric"] == name).expect(name);
        let value = |at: usize| found["values"][at]["value"].as_f64().expect("a rate");
        assert_eq!((&found["rows"], &found["more_is_better"]), (&json!(2), &json!(false)), "{found}");
        assert!(value(0) >= 0.9 && value(1) == 0.0, "{found}: {}", bench.text("rows.out"));
    }
    let answered = bench.text("rows.out");
    let first: Value = serde_json::from_str(answered.lines().next().expect("a row")).expect("JSON");
    assert_eq!((&first["reference"], &first["answers"][1]), (&json!("low"), &json!("low")), "{answered}");
    assert!(!report["latency"].as_array().expect("latency").is_empty());
}

#[test]
fn media_in_a_column_of_another_name_are_told_how_to_be_read() {
    let bench = bench();
    bench.write("a.csv", "picture,prompt,completion\npictures/red.png,What?,Red.\n");
    bench.write("b.csv", "picture,caption\npictures/red.png,Red.\n");
    let parts = json!([{"type": "image"}, {"type": "text", "text": "What?"}]);
    let turns = json!([{"role": "user", "content": parts}, {"role": "assistant", "content": "Red."}]);
    bench.write("c.jsonl", lines(&[json!({"messages": turns, "picture": "pictures/red.png"})]));
    let preview = |sets: &str| bench.run(&format!("data preview v.yaml --json {sets}"));
    let hint = "`picture` seems to hold pictures: `data.columns: {image: picture}` reads them";
    for (file, code, told) in [
        ("a.csv", 0, "unused: picture; "),
        ("b.csv", 2, "the columns fit no format that is known"),
        ("c.jsonl", 2, "1 placeholder without a picture"),
    ] {
        let said = preview(&format!("--set data.train={file}"));
        assert_eq!(said.code, Some(code), "{file}: {}", said.stderr);
        assert!(said.stderr.contains(told) && said.stderr.contains(hint), "{file}: {}", said.stderr);
        // What is told is what helps.
        let asked = if file == "b.csv" { "--set data.prompt=What?" } else { "" };
        let said = preview(&format!("--set data.train={file} --set data.columns={{\"image\":\"picture\"}} {asked}"));
        assert!(!said.stderr.contains("seems to hold"), "{file}: {}", said.stderr);
        let placeholders = ids_of(&said.json()).into_iter().filter(|id| *id == 512).count();
        assert_eq!(placeholders, 4, "{file}");
    }
    // Verbs without a recipe say the same, with a name in the place of a key.
    bench.write("d.jsonl", lines(&[json!({"prompt": "What?", "completion": "Red.", "picture": "pictures/red.png"})]));
    for (verb, file) in [("score", "d.jsonl"), ("score", "a.csv"), ("generate --max-tokens 1", "d.jsonl")] {
        let said = bench.run(&format!("{verb} --model v --input {file}"));
        let told = format!("{file}: `picture` seems to hold pictures: call it `image`; ");
        assert!(said.stderr.contains(&told), "{verb} {file}: {}", said.stderr);
        said.ok();
    }
}

#[test]
fn the_recipes_run_on_the_small_models_that_a_script_makes() {
    // As `scripts/make_small_media_model.py` does: those of the tests, with places for sounds of 30 seconds.
    let bench = hearing_bench();
    bench.set("n/config.json", "audio_soft_tokens_per_image", json!(188));
    bench.set("n/processor_config.json", "audio_seq_length", json!(188));
    for (recipe, model, said) in [
        ("vision_sft", "v", "Pictures count: "),
        ("vision_dpo", "v", "Pictures count: "),
        ("audio_sft", "n", "Sounds count: "),
    ] {
        let [base, out] = [model, recipe].map(|name| bench.path(name).display().to_string());
        let sets = format!("--set model.base={base} --set output.dir={out} --set training.max_steps=1");
        let mut command = bench.command(&format!("train recipes/{recipe}.yaml {sets}"));
        let run = bench.said(command.current_dir(env!("CARGO_MANIFEST_DIR")));
        assert!(run.stderr.contains(said), "{recipe}: {}", run.stderr);
        run.ok();
    }
}

#[test]
fn a_picture_in_an_answer_is_shown_and_not_learnt() {
    let bench = bench();
    let row = |answer: Value| json!({"messages": [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": answer}]});
    let picture = || json!({"type": "image", "image": "pictures/red.png"});
    let labels = |answer: Value| -> Vec<i64> {
        bench.write("seen.jsonl", lines(&[row(answer), row(json!("Red it is."))]));
        let said = bench.run("data preview v.yaml --json").ok();
        let row: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        row["labels"].as_array().unwrap().iter().filter_map(Value::as_i64).filter(|&label| label >= 0).collect()
    };
    let (end, words) = (labels(json!([picture()])), labels(json!("Red it is.")));
    // The end of the turn and its newline, as of every turn.
    assert!(words.ends_with(&end) && end.len() == 2, "{end:?} of {words:?}");
    assert_eq!(labels(json!([picture(), {"type": "text", "text": "Red it is."}])), words);
    bench.write("seen.jsonl", lines(&[row(json!([picture()])), row(json!("Red it is."))]));
    let stats = bench.run("data stats v.yaml").ok();
    assert!(stats.contains("empty answers"), "{stats}");
    bench.write("seen.jsonl", lines(&[row(json!([picture()]))]));
    let refused = bench.run("data stats v.yaml");
    assert!(refused.problem().contains("the tuned model would say nothing"), "{}", refused.stderr);
}
