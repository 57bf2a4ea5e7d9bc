//! Rows with pictures, from their files to the loss, against transformers (goldens by `scripts/make_multimodal_goldens.py`).

use crate::bench::{Bench, copy, golden as golden_path, lines, tensors};
use gemma_tune::testkit::golden::{Golden, max_relative};
use serde_json::{Value, json};

const LOGITS: f64 = 1e-5;

/// Name, shape, values.
type Tensor = (String, Vec<usize>, Vec<f32>);

/// Tokens at a row's end whose logits are in the golden.
const LAST: usize = 12;

/// A folder with the model `v`, which sees, its rows and pictures, and a recipe.
pub fn bench() -> Bench {
    let bench = Bench::new();
    copy(&golden_path("multimodal/model"), &bench.path("v"));
    copy(&golden_path("multimodal/pictures"), &bench.path("pictures"));
    std::fs::copy(golden_path("multimodal/rows.jsonl"), bench.path("seen.jsonl")).unwrap();
    bench.write("v.yaml", RECIPE);
    bench
}

const RECIPE: &str = "\
model: {base: v, dtype: f32}
adapter: {r: 4, lora_alpha: 8, target_modules: all-linear}
data: {train: [{path: seen.jsonl, format: messages}], max_length: 256, packing: true}
training: {gradient_accumulation_steps: 1, max_steps: 3, learning_rate: 1.0e-2, seed: 7}
output: {dir: out, report_to: [jsonl]}
";

fn golden() -> Golden {
    Golden::read(&golden_path("multimodal/golden.safetensors"))
}

fn ids(golden: &Golden, name: &str) -> Vec<u64> {
    golden.values(&format!("{name}.input_ids")).iter().map(|&id| id as u64).collect()
}

pub fn ids_of(row: &Value) -> Vec<u64> {
    row["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// The rows of `data preview --json`, and the tensors that it saves.
fn preview(bench: &Bench, more: &str) -> (Vec<Value>, Vec<Tensor>) {
    let said = bench.run(&format!("data preview v.yaml --rows 9 --json --media-tensors media.safetensors {more}")).ok();
    let rows = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (rows, tensors(&bench.read("media.safetensors")))
}

#[test]
fn rows_have_the_ids_and_pixels_of_the_processor() {
    let (bench, golden) = (bench(), golden());
    for (name, more) in [("row", ""), ("pan", "--set data.do_pan_and_scan=true --set data.max_length=512")] {
        let (rows, tensors) = preview(&bench, more);
        assert_eq!(rows.len(), 4);
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(ids_of(row), ids(&golden, &format!("{name}.{i}")), "{name} {i}");
            let pixels = format!("{name}.{i}.pixel_values");
            let mut seen = Vec::new();
            for (_, _, values) in tensors.iter().filter(|(name, ..)| name.starts_with(&format!("image.{i}."))) {
                seen.extend(values);
            }
            if golden.names().any(|name| name == pixels) {
                assert_eq!(seen.len(), golden.values(&pixels).len(), "{pixels}");
                assert!(max_relative(&seen, golden.values(&pixels)) <= 1e-6, "{pixels}");
            } else {
                assert!(seen.is_empty(), "{pixels}");
            }
        }
    }
    let (rows, _) = preview(&bench, "");
    let shown = |row: usize| rows[row]["images"].as_array().unwrap().len();
    assert_eq!([0, 1, 2, 3].map(shown), [1, 0, 3, 1]);
    assert!(rows[0]["images"][0]["file"].as_str().unwrap().ends_with("pictures/red.png"));
    let labels = rows[0]["labels"].as_array().unwrap();
    assert!(labels.iter().all(|label| ![510, 511, 512].contains(&label.as_i64().unwrap())));
}

#[test]
fn logits_are_those_of_transformers() {
    let (bench, golden) = (bench(), golden());
    bench.run("score --model v --dtype f32 --input seen.jsonl --output scores.jsonl --logits logits.safetensors").ok();
    let scores: Vec<Value> =
        bench.text("scores.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (name, shape, values) in tensors(&bench.read("logits.safetensors")) {
        let row = name.trim_start_matches("logits.");
        let [tokens, words] = shape[..] else { panic!("{shape:?}") };
        let last = &values[(tokens - LAST) * words..];
        let error = max_relative(last, golden.values(&format!("row.{row}.logits")));
        assert!(error <= LOGITS, "row {row}: {error}");
        assert_eq!(ids_of(&scores[row.parse::<usize>().unwrap()]), ids(&golden, &format!("row.{row}")));
    }
    // The same rows, tokenised already.
    let row = |i: usize, images: Value| json!({"input_ids": ids(&golden, &format!("row.{i}")), "images": images});
    let pictures = |names: &[&str]| names.iter().map(|name| json!(format!("pictures/{name}"))).collect::<Value>();
    let tokens = [
        row(0, pictures(&["red.png"])),
        row(1, json!([])),
        row(2, pictures(&["wide.png", "grey.jpg", "red.png"])),
        row(3, pictures(&["grey.jpg"])),
    ];
    bench.write("tokens.jsonl", lines(&tokens));
    bench.run("score --model v --dtype f32 --input tokens.jsonl --output tokens.scores.jsonl").ok();
    let tokens = bench.text("tokens.scores.jsonl");
    for (line, score) in tokens.lines().zip(&scores) {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["logprobs"], score["logprobs"]);
    }
    // One block too few, and one that no picture stands for.
    for (images, said) in [(json!([]), "0 blocks"), (pictures(&["red.png", "red.png"]), "2 blocks")] {
        bench.write("wrong.jsonl", lines(&[row(0, images)]));
        let refused = bench.run("score --model v --input wrong.jsonl --output no.jsonl");
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.problem().contains("4 placeholders of `image` (token 512)"), "{}", refused.stderr);
        assert!(refused.problem().contains(said), "{}", refused.stderr);
    }
}

#[test]
fn a_run_proves_that_pictures_count_and_looks_at_each_once() {
    let bench = bench();
    let run = bench.run("train v.yaml");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("Pictures count: the loss of seen.jsonl, row 1 is "), "{}", run.stderr);
    let adapter = bench.read("out/adapter/adapter_model.safetensors");
    let kept = bench.files("cache").iter().filter(|name| name.contains("/features/")).count();
    assert_eq!(kept, 4, "three pictures and an empty one");
    let again = bench.run("train v.yaml --set output.dir=again");
    assert!(again.stderr.contains("seen before"), "{}", again.stderr);
    assert_eq!(bench.read("again/adapter/adapter_model.safetensors"), adapter);
    // Unpacked, and one row at a time: the same first step but for rounding.
    let loss = |dir: &str, more: &str| -> f64 {
        bench.run(&format!("train v.yaml --set output.dir={dir} --set training.max_steps=1 {more}")).ok();
        let metrics = bench.text(&format!("{dir}/metrics.jsonl"));
        let step = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        step.filter_map(|event| event["loss"].as_f64()).next().unwrap()
    };
    let packed = loss("packed", "");
    let unpacked = loss("rows", "--set data.packing=false --set training.gradient_accumulation_steps=4");
    assert!((packed - unpacked).abs() <= 1e-5 * packed, "{packed} {unpacked}");
}

#[test]
fn a_picture_that_changed_is_looked_at_again() {
    let bench = bench();
    bench.run("train v.yaml --set training.max_steps=1").ok();
    let red = bench.read("pictures/red.png");
    bench.write("pictures/red.png", bench.read("pictures/wide.png"));
    bench.run("train v.yaml --set training.max_steps=1 --set output.dir=b").ok();
    bench.write("pictures/red.png", red);
    bench.run("train v.yaml --set training.max_steps=1 --set output.dir=c").ok();
    let adapter = |dir: &str| bench.read(&format!("{dir}/adapter/adapter_model.safetensors"));
    assert_ne!(adapter("out"), adapter("b"));
    assert_eq!(adapter("out"), adapter("c"));
}

#[test]
fn broken_media_are_named_by_row_before_anything_runs() {
    let bench = bench();
    let part = |image: Value| json!([{"type": "image", "image": image}, {"type": "text", "text": "?"}]);
    let row = |content: Value| json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "x"}]});
    let with = |column: &str, value: Value| {
        let mut row = row(json!("?"));
        row[column] = value;
        row
    };
    bench.write("pictures/empty.png", b"");
    bench.write("pictures/cut.png", &bench.read("pictures/red.png")[..60]);
    bench.write("pictures/page.png", b"<html>not found</html>");
    let mut two_columns = with("image", json!("pictures/red.png"));
    two_columns["images"] = json!(["pictures/red.png"]);
    let cases: Vec<(Value, &str)> = vec![
        (row(part(json!("pictures/missing.png"))), "there is no file `pictures/missing.png`"),
        (row(part(json!("pictures/rad.png"))), "did you mean `pictures/red.png`?"),
        (row(part(json!("pictures/empty.png"))), "`pictures/empty.png`: the picture is empty"),
        (row(part(json!("pictures/cut.png"))), "`pictures/cut.png`: the PNG cannot be decoded"),
        (row(part(json!("pictures/page.png"))), "`pictures/page.png`: this is"),
        (row(part(json!("pictures"))), "it is no file"),
        (row(part(json!("https://example.com/a.png"))), "an address on the web"),
        (row(part(json!("data:image/png;base64,!!"))), "is no base64"),
        (row(part(json!("data:image/png,abc"))), "without `;base64,`"),
        (row(part(json!({"bytes": null, "path": null}))), "1 placeholder without a picture"),
        (row(json!([{"type": "image"}])), "1 placeholder without a picture"),
        (row(json!([{"type": "video", "video": "a.mp4"}])), "is a video"),
        (row(part(json!("iVBOR".repeat(80)))), "begin with `data:image/png;base64,`"),
        (with("images", json!(["pictures/red.png", null])), "`images[1]` holds no image"),
        (with("file_name", json!("pictures/rad.png")), "did you mean `pictures/red.png`?"),
        (row(json!([{"type": "audio", "audio": "a.wav"}])), "the model does not hear"),
        (two_columns, "both `images` and `image` hold pictures"),
        (row(json!([{"type": "image", "image": "pictures/red.png", "path": "a.png"}])), "has both `image` and `path`"),
    ];
    for (row, said) in &cases {
        bench.write("seen.jsonl", lines(std::slice::from_ref(row)));
        let refused = bench.run("train v.yaml");
        assert_eq!(refused.code, Some(2), "{said}: {}", refused.stderr);
        assert!(refused.problem().contains(said), "{said}: {}", refused.stderr);
        assert!(refused.problem().contains("seen.jsonl, row 1"), "{said}: {}", refused.stderr);
    }
    // Left out where that is asked for, and said.
    let good = row(part(json!("pictures/red.png")));
    let rows: Vec<Value> = cases.iter().map(|(row, _)| row.clone()).chain([good]).collect();
    bench.write("seen.jsonl", lines(&rows));
    let stats = bench.run("data stats v.yaml --json --set data.on_bad_row=skip").json();
    assert_eq!(stats["rows"], 1);
    assert_eq!(stats["skipped"], json!({"wrong_layout": 9, "broken_media": 9}), "{stats}");
}

#[test]
fn columns_words_and_bytes_stand_for_pictures_as_parts_do() {
    let bench = bench();
    let expected = ids(&golden(), "row.0");
    let (user, model) = ("What is this?", "A red disc.");
    let turns = |content: Value| json!([{"role": "user", "content": content}, {"role": "assistant", "content": model}]);
    let list: Vec<u8> = bench.read("pictures/red.png");
    let rows = [
        json!({"messages": turns(json!(user)), "images": ["pictures/red.png"]}),
        json!({"messages": turns(json!(format!("<image>{user}"))), "image": "pictures/red.png"}),
        json!({"messages": turns(json!([{"type": "image"}, {"type": "text", "text": user}])), "images": [{"path": "pictures/red.png", "bytes": null}]}),
        json!({"messages": turns(json!([{"type": "image_url", "image_url": {"url": "pictures/red.png"}}, {"type": "text", "text": user}]))}),
        json!({"messages": turns(json!([{"type": "image", "image": {"bytes": list}}, {"type": "text", "text": user}]))}),
        json!({"prompt": user, "completion": model, "image": "pictures/red.png"}),
        json!({"prompt": user, "completion": model, "file_name": "pictures/red.png"}),
        json!({"messages": turns(json!(format!("<image>{user}"))), "file_name": "pictures/red.png"}),
        json!({"messages": turns(json!(user)), "images": ["pictures/red.png"], "file_name": "pictures/blue.png"}),
        json!({"instruction": user, "output": model, "images": "pictures/red.png"}),
        json!({"messages": turns(json!(user)), "images": [], "image": "pictures/red.png"}),
        json!({"messages": turns(json!([{"type": "image", "path": "red.png", "bytes": list}, {"type": "text", "text": user}]))}),
        json!({"conversations": [{"from": "human", "value": format!("<image>\n{user}")}, {"from": "gpt", "value": model}], "images": ["pictures/red.png"]}),
    ];
    for (i, row) in rows.iter().enumerate() {
        bench.write("seen.jsonl", lines(std::slice::from_ref(row)));
        let said = bench.run("data preview v.yaml --json --set data.train=seen.jsonl").ok();
        let row: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        assert_eq!(ids_of(&row), expected, "row {i}");
    }
    // Words that stand for nothing are text, and said.
    bench.write("seen.jsonl", lines(&[json!({"messages": turns(json!(format!("<image>{user}")))})]));
    let stats = bench.run("data stats v.yaml --json --set data.train=seen.jsonl").json();
    let said = "`<image>` or `<audio>` without a picture or sound, taken as text";
    assert_eq!((&stats["left_out"][0]["what"], &stats["left_out"][0]["rows"]), (&json!(said), &json!(1)), "{stats}");
}

/// A folder with the model `n`, a Gemma 3n that sees and hears, its rows and media, and a recipe.
pub fn hearing_bench() -> Bench {
    let bench = bench();
    copy(&golden_path("multimodal3n/model"), &bench.path("n"));
    copy(&golden_path("multimodal3n/media"), &bench.path("media"));
    std::fs::copy(golden_path("multimodal3n/rows.jsonl"), bench.path("seen.jsonl")).unwrap();
    bench.edit("v.yaml", |recipe| {
        *recipe = String::from_utf8_lossy(recipe).replace("base: v", "base: n").into_bytes();
    });
    bench
}

#[test]
fn sounds_and_pictures_of_a_gemma_3n_have_the_ids_and_features_of_its_processor() {
    let (bench, golden) = (hearing_bench(), Golden::read(&golden_path("multimodal3n/golden.safetensors")));
    let (rows, tensors) = preview(&bench, "");
    assert_eq!(rows.len(), 4);
    let mut heard = 0;
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(ids_of(row), ids(&golden, &format!("row.{i}")), "row {i}");
        let seen: Vec<f32> = tensors
            .iter()
            .filter(|(name, ..)| name.starts_with(&format!("image.{i}.")))
            .flat_map(|(_, _, values)| values.iter().copied())
            .collect();
        let pixels = format!("row.{i}.pixel_values");
        if golden.names().any(|name| name == pixels) {
            assert!(max_relative(&seen, golden.values(&pixels)) <= 1e-6, "{pixels}");
        }
        for (name, shape, values) in tensors.iter().filter(|(name, ..)| name.starts_with(&format!("audio.{i}."))) {
            let expected = format!("row.{i}.input_features.{}", name.rsplit('.').next().unwrap());
            assert_eq!(shape, golden.shape(&expected), "{expected}");
            let worst =
                values.iter().zip(golden.values(&expected)).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-4, "{expected}: {worst}");
            heard += 1;
        }
    }
    assert_eq!(heard, 3);
}

#[test]
fn logits_of_a_gemma_3n_that_sees_and_hears_are_those_of_transformers() {
    let (bench, golden) = (hearing_bench(), Golden::read(&golden_path("multimodal3n/golden.safetensors")));
    bench.run("score --model n --dtype f32 --input seen.jsonl --output scores.jsonl --logits logits.safetensors").ok();
    for (name, shape, values) in tensors(&bench.read("logits.safetensors")) {
        let row = name.trim_start_matches("logits.");
        let [tokens, words] = shape[..] else { panic!("{shape:?}") };
        let error = max_relative(&values[(tokens - LAST) * words..], golden.values(&format!("row.{row}.logits")));
        assert!(error <= 1e-4, "row {row}: {error}");
    }
}

#[test]
fn a_run_on_pictures_and_sounds_proves_that_both_count() {
    let bench = hearing_bench();
    let run = bench.run("train v.yaml");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("Pictures count: the loss of seen.jsonl, row 1 is "), "{}", run.stderr);
    assert!(run.stderr.contains("Sounds count: the loss of seen.jsonl, row 2 is "), "{}", run.stderr);
    let kept = bench.files("cache").iter().filter(|name| name.contains("/features/")).count();
    assert_eq!(kept, 6, "two pictures, two sounds, an empty picture and silence");
    // What was trained speaks: an answer to a row with both.
    let row = json!({"messages": [{"role": "user", "content": [
        {"type": "audio", "audio": "media/low.wav"}, {"type": "image", "image": "media/disc.png"}, {"type": "text", "text": "?"},
    ]}]});
    bench.write("ask.jsonl", lines(&[row]));
    let answers = bench.run("generate --model n --adapter out --input ask.jsonl --max-tokens 4 --temperature 0");
    assert_eq!(answers.code, Some(0), "{}", answers.stderr);
    assert!(answers.stdout.contains("\"completion\""), "{}", answers.stdout);
}

/// A tone of so many seconds, at 16 kHz.
pub fn wav(secs: f64) -> Vec<u8> {
    let sample = |i: usize| (((i as f32 * 0.2).sin() * 9000.0) as i16).to_le_bytes();
    let samples: Vec<u8> = (0..(secs * 16e3) as usize).flat_map(sample).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + samples.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    wav.extend((samples.len() as u32).to_le_bytes());
    wav.extend(samples);
    wav
}

#[test]
fn long_sounds_are_refused_split_or_cut_as_the_recipe_says() {
    let bench = hearing_bench();
    bench.set("n/config.json", "audio_soft_tokens_per_image", json!(188));
    bench.edit("v.yaml", |recipe| {
        *recipe = String::from_utf8_lossy(recipe).replace("max_length: 256", "max_length: 512").into_bytes();
    });
    let long = |secs: usize| wav(secs as f64);
    bench.write("media/long.wav", long(31));
    let row = json!({"messages": [
        {"role": "user", "content": [{"type": "audio", "audio": "media/long.wav"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "x"},
    ]});
    bench.write("seen.jsonl", lines(&[row]));
    let refused = bench.run("data preview v.yaml --json");
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.problem().contains("`media/long.wav`: the sound lasts 31.0 s, a model hears 30 s at once"),
        "{}",
        refused.stderr
    );
    let sounds = |keys: &str| {
        let said = bench.run(&format!("data preview v.yaml --json --set data.on_long_audio={keys}")).ok();
        let row: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        row["audio"].as_array().unwrap().len()
    };
    assert_eq!((sounds("truncate"), sounds("split")), (1, 2));
    let stats = bench.run("data stats v.yaml --json --set data.on_long_audio=truncate").json();
    assert_eq!((&stats["sounds"], &stats["images"]), (&json!(1), &json!(0)));
    let left_out = stats["left_out"].as_array().unwrap();
    assert_eq!(left_out[0]["what"], "ends of long sounds cut off, 1.0 s in all", "{stats}");
    let stats = bench.run("data stats v.yaml --json --set data.on_long_audio=split").json();
    assert_eq!(stats["left_out"][0]["what"], "long sounds split into several, 31.0 s in all", "{stats}");
    // A single sample of 16 kHz is something that was cut off, too.
    bench.write("media/long.wav", wav(30.0001));
    let stats = bench.run("data stats v.yaml --json --set data.on_long_audio=truncate").json();
    assert_eq!(stats["left_out"][0]["what"], "ends of long sounds cut off, 0.001 s in all", "{stats}");
}

#[test]
fn adapters_go_on_towers_that_are_named_and_are_merged_with_the_rest() {
    let cases = [
        (bench(), "v", "--set adapter.vision_target_modules=[q_proj,fc1]", ".vision_tower."),
        (hearing_bench(), "n", "--set adapter.audio_target_modules=[q_proj,ffw_layer_1]", ".audio_tower."),
        (hearing_bench(), "n", "--set adapter.train_projector=true", ".embed_audio."),
    ];
    for (bench, model, keys, tower) in cases {
        let run = bench.run(&format!("train v.yaml {keys}"));
        assert_eq!(run.code, Some(0), "{keys}: {}", run.stderr);
        let adapter = tensors(&bench.read("out/adapter/adapter_model.safetensors"));
        let trained = |(name, _, values): &&Tensor| {
            name.contains(tower) && name.ends_with("lora_B.weight") && values.iter().any(|value| *value != 0.0)
        };
        assert!(
            adapter.iter().filter(trained).count() > 0,
            "{keys}: {:?}",
            adapter.iter().map(|t| &t.0).collect::<Vec<_>>()
        );
        let nll = |options: &str| -> Vec<f64> {
            bench.run(&format!("score {options} --dtype f32 --input seen.jsonl --output scores.jsonl")).ok();
            let scores = bench.text("scores.jsonl");
            scores.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["nll"].as_f64().unwrap()).collect()
        };
        let tuned = nll(&format!("--model {model} --adapter out/adapter"));
        assert_ne!(tuned, nll(&format!("--model {model}")));
        bench.run(&format!("merge --model {model} --adapter out/adapter --output merged --dtype f32")).ok();
        for (merged, tuned) in nll("--model merged").iter().zip(&tuned) {
            assert!((merged - tuned).abs() <= 1e-4 * tuned, "{keys}: {merged} {tuned}");
        }
    }
    let bench = bench();
    let misspelt = bench.run("train v.yaml --set adapter.vision_target_modules=[q_porj]");
    assert_eq!(misspelt.code, Some(2));
    assert!(misspelt.problem().contains("did you mean `q_proj`?"), "{}", misspelt.stderr);
}

#[test]
fn the_projector_of_gemma_3_is_trained_whole_and_saved_as_peft_saves_it() {
    let bench = bench();
    let train = |options: &str| bench.run(&format!("train v.yaml --set adapter.train_projector=true {options}"));
    assert_eq!(train("").code, Some(0));
    let config: Value = serde_json::from_str(&bench.text("out/adapter/adapter_config.json")).unwrap();
    assert_eq!(config["modules_to_save"], json!(["multi_modal_projector"]));
    // With next to no rate it is what it begins with: the model's own.
    assert_eq!(train("--set output.dir=still --set training.learning_rate=1e-12").code, Some(0));
    let still = tensors(&bench.read("still/adapter/adapter_model.safetensors"));
    bench.run("merge --model v --adapter still/adapter --output same --dtype bf16").ok();
    let stored = |file: &str, name: &str| {
        let bytes = bench.read(file);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor(name).unwrap().data().to_vec()
    };
    let adapter = tensors(&bench.read("out/adapter/adapter_model.safetensors"));
    for tensor in ["multi_modal_projector.mm_input_projection_weight", "multi_modal_projector.mm_soft_emb_norm.weight"]
    {
        let of = |tensors: &[Tensor], name: String| {
            let found = tensors.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("no {name}"));
            (found.1.clone(), found.2.clone())
        };
        let key = format!("base_model.model.model.{tensor}");
        let (before, after) = (of(&still, key.clone()), of(&adapter, key));
        assert_eq!(stored("v/model.safetensors", tensor), stored("same/model.safetensors", tensor), "{tensor}");
        assert_eq!(before.0, after.0, "{tensor}");
        let moved = before.1.iter().zip(&after.1).filter(|(before, after)| (*before - *after).abs() > 1e-6).count();
        assert!(moved * 2 > before.1.len(), "{tensor}: {moved} of {} moved", before.1.len());
    }

    let nll = |options: &str| -> Vec<f64> {
        bench.run(&format!("score {options} --dtype f32 --input seen.jsonl --output scores.jsonl")).ok();
        let scores = bench.text("scores.jsonl");
        scores.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["nll"].as_f64().unwrap()).collect()
    };
    let tuned = nll("--model v --adapter out/adapter");
    assert_ne!(tuned, nll("--model v"));
    bench.run("merge --model v --adapter out/adapter --output merged --dtype f32").ok();
    for (merged, tuned) in nll("--model merged").iter().zip(&tuned) {
        assert!((merged - tuned).abs() <= 1e-4 * tuned, "{merged} {tuned}");
    }

    // Stopped and resumed it is the same; continued, it begins where it was.
    let whole = bench.read("out/adapter/adapter_model.safetensors");
    let twice = |options: &str| train(&format!("--set output.dir=twice --set output.save_steps=1 {options}"));
    assert_eq!(twice("").code, Some(0));
    for part in ["adapter", "checkpoints/step-3"] {
        std::fs::remove_dir_all(bench.path("twice").join(part)).unwrap();
    }
    std::fs::remove_file(bench.path("twice/summary.json")).unwrap();
    let resumed = twice("--resume");
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert!(bench.read("twice/adapter/adapter_model.safetensors") == whole, "resumed it is another adapter");
    let continued =
        train("--set output.dir=more --set adapter.init_from=out/adapter --set training.learning_rate=1e-7");
    assert_eq!(continued.code, Some(0), "{}", continued.stderr);
    let more = tensors(&bench.read("more/adapter/adapter_model.safetensors"));
    for ((name, _, before), (_, _, after)) in tensors(&whole).iter().zip(&more) {
        let close = before.iter().zip(after).all(|(before, after)| (before - after).abs() <= 1e-6);
        assert!(close, "{name}");
    }

    // Half an adapter, and one for a model that sees nothing.
    let mut without = config.clone();
    without["modules_to_save"] = Value::Null;
    bench.write("out/adapter/adapter_config.json", without.to_string());
    let unexpected = bench.run("score --model v --adapter out/adapter --input seen.jsonl --output scores.jsonl");
    assert_eq!(unexpected.code, Some(2));
    assert!(unexpected.problem().contains("multi_modal_projector"), "{}", unexpected.stderr);
    without["modules_to_save"] = json!(["lm_head"]);
    bench.write("out/adapter/adapter_config.json", without.to_string());
    let refused = bench.run("score --model v --adapter out/adapter --input seen.jsonl --output scores.jsonl");
    assert!(refused.problem().contains("`modules_to_save` entry `lm_head` cannot be used"), "{}", refused.stderr);
}

#[test]
fn what_towers_said_is_kept_where_it_can_be_and_made_again_where_it_is_damaged() {
    let bench = bench();
    let score = "score --model v --dtype f32 --input seen.jsonl --output scores.jsonl";
    bench.run(score).ok();
    let scores = bench.text("scores.jsonl");
    // Without a folder for it, it is kept as long as the program runs, and that is said.
    let said = bench.said(bench.command(score).env("GEMMA_TUNE_CACHE", "/proc/none"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("not kept for later runs"), "{}", said.stderr);
    assert_eq!(bench.text("scores.jsonl"), scores);
    // As after a power cut: files of no length, and one that is cut short.
    let kept = bench.files("cache/data/features");
    assert!(kept.len() >= 4, "{kept:?}");
    for (i, file) in kept.iter().enumerate() {
        let path = bench.path(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, if i == 0 { &bytes[..bytes.len() - 1] } else { &[] }).unwrap();
    }
    bench.run(score).ok();
    assert_eq!(bench.text("scores.jsonl"), scores);
    // Another number in each of them is noticed before anything is done with it.
    for file in &kept {
        let path = bench.path(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let mended = bench.run(score);
    assert_eq!(mended.code, Some(0), "{}", mended.stderr);
    assert!(mended.stderr.contains(&format!("made again: {} files of", kept.len())), "{}", mended.stderr);
    assert_eq!(bench.text("scores.jsonl"), scores);
    assert!(!bench.run(score).stderr.contains("damaged"));
    // A folder of somebody's in the place of one is left, and the run goes on.
    let path = bench.path(&kept[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(path.join("theirs")).unwrap();
    let beside = bench.run(score);
    assert_eq!(beside.code, Some(0), "{}", beside.stderr);
    assert!(beside.stderr.contains("made again: 1 file of"), "{}", beside.stderr);
    assert!(beside.stderr.contains("kept for this run alone"), "{}", beside.stderr);
    assert_eq!(bench.text("scores.jsonl"), scores);
}

#[test]
fn towers_without_media_and_keys_against_the_adapter_are_said() {
    let bench = bench();
    let train = |options: &str| bench.run(&format!("train v.yaml {options}"));
    bench.write("text.jsonl", lines(&[json!({"prompt": "1 + 1", "completion": "2"})]));
    // A model without ears has none to train, which its configuration shows before anything is read.
    let deaf = "--set adapter.audio_target_modules=[q_proj]";
    for verb in ["recipe check", "train"] {
        let refused = bench.run(&format!("{verb} v.yaml {deaf}"));
        assert_eq!(refused.code, Some(2), "{verb}: {}", refused.stderr);
        let told = "`audio_target_modules` entry `q_proj` matches no module of the tower";
        assert_eq!(refused.problem().matches(told).count(), 1, "{verb}: {}", refused.stderr);
    }
    let both = bench.run(&format!("recipe check v.yaml {deaf} --set adapter.target_modules=[q_prj]"));
    let problem = both.problem();
    assert!(problem.contains("`audio_target_modules` entry") && problem.matches("q_prj").count() >= 1, "{problem}");
    let mut command = bench.command("train v.yaml --set adapter.train_projector=true --set output.dir=text");
    let said = bench.said(command.args(["--set", "data.train=[{path: text.jsonl}]"]));
    assert!(said.stderr.contains("no row has a picture or sound"), "{}", said.stderr);
    assert_eq!(train("--set adapter.train_projector=true").code, Some(0));
    let more = |dir: &str| format!("--set output.dir={dir} --set adapter.init_from=out/adapter");
    assert_eq!(train(&more("more")).code, Some(0));
    let refused = train(&format!("{} --set adapter.train_projector=false", more("not")));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("`adapter.train_projector` contradicts"), "{}", refused.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_chat_takes_files_alone_and_only_what_the_model_takes() {
    let bench = bench();
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe.png")).status().unwrap().success());
    std::fs::copy(bench.path("pictures/red.png"), bench.path("a b.png")).unwrap();
    bench.write("page.png", b"<html>not found</html>");
    let typed =
        "/image \"a b.png\"\n/image pipe.png\n/image page.png\n/audio pictures/red.png\nHi\n/save said.jsonl\n/quit\n";
    let said = bench.on_a_terminal("chat --model v --max-tokens 1", typed);
    for expected in ["it is no file", "`page.png`: this is", "the model does not hear", "`a b.png` goes along"] {
        assert!(said.stdout.contains(expected), "{expected}: {}", said.stdout);
    }
    let saved = String::from_utf8(bench.read("said.jsonl")).unwrap();
    assert!(saved.contains("a b.png") && !saved.contains("page.png"), "one bad file takes no other along: {saved}");
}
