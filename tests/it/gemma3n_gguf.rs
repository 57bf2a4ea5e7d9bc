//! Gemma 3n as a GGUF file: written, read back as the model that it was made from, and used by every verb.

use crate::bench::{Bench, copy, lines, rows, safetensors_bytes};
use crate::exports::{Exports, mean_gap, random};
use crate::gemma3n::bench;
use gemma_tune::testkit::golden::folder;
use gemma_tune::weights::gguf::{Array, Gguf, Value};
use gemma_tune::weights::names::{LayerNorm, Projection, TensorId};
use gemma_tune::weights::{HostDtype, Source};
use serde_json::json;

/// The logits of the rows of `few.jsonl`, as bytes.
fn logits(bench: &Bench, model: &str) -> Vec<u8> {
    bench
        .run(&format!(
            "score --model {model} --dtype f32 --input few.jsonl --output scores.jsonl --logits l.safetensors"
        ))
        .ok();
    bench.read("l.safetensors")
}

fn floats(gguf: &Gguf, name: &str) -> (Vec<usize>, Vec<f32>) {
    let entry = gguf.header().tensors.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name}"));
    let bytes = gguf.bytes(entry).chunks_exact(4);
    (entry.shape.clone(), bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn with_few(bench: Bench) -> Bench {
    let few: String = bench.text("rows.jsonl").lines().take(6).map(|line| format!("{line}\n")).collect();
    bench.write("few.jsonl", few);
    bench
}

#[test]
fn a_file_in_f32_is_the_model_to_the_last_bit() {
    let bench = with_few(bench());
    let said = bench.run("export gguf --model m --quant f32 --output m.gguf");
    for part in [
        "Warning: llama.cpp does not load this file: `laurel_rank` is fixed there: 64",
        "Warning: llama.cpp computes another model from this file: `num_kv_shared_layers` is fixed there",
        "The GGUF file holds the language model",
        "9 tensors that the model computes without and llama.cpp asks for",
    ] {
        assert!(said.stderr.contains(part), "{part}\n{}", said.stderr);
    }
    said.ok();
    assert_eq!(logits(&bench, "m"), logits(&bench, "m.gguf"));

    let (gguf, source) = (Gguf::open(&bench.path("m.gguf")).unwrap(), Source::open_folder(&bench.path("m")).unwrap());
    let stored = |id: TensorId| {
        let shape = source.shape(&id).unwrap().to_vec();
        source.read(&id, &shape, Some(HostDtype::F32)).unwrap().into_f32()
    };
    // Each list is one tensor, norms are what they are, and a scale is called a weight.
    let streams: Vec<f32> = (0..3).flat_map(|place| stored(TensorId::AltupUnembedProjection(place))).collect();
    assert_eq!(floats(&gguf, "altup_unembd_proj.weight"), (vec![3, 32, 32], streams));
    for norm in [LayerNorm::InputLayernorm, LayerNorm::CorrectScale, LayerNorm::QNorm] {
        let id = TensorId::LayerNorm(2, norm);
        assert_eq!(floats(&gguf, &id.gguf()).1, stored(id), "{id}");
    }
    // Words beyond the table are told what the first one is.
    let (shape, table) = floats(&gguf, "per_layer_token_embd.weight");
    assert_eq!(shape, [64, 56]);
    assert_eq!(table[..56 * 56], stored(TensorId::EmbedTokensPerLayer));
    assert!(table[56 * 56..].chunks(56).all(|row| row == &table[..56]));
    // Layers that read others' keys and values have some that nobody reads.
    for (name, shape) in [("attn_k", vec![16, 32]), ("attn_v", vec![16, 32]), ("attn_k_norm", vec![8])] {
        let zeros = vec![0.0; shape.iter().product()];
        assert_eq!(floats(&gguf, &format!("blk.4.{name}.weight")), (shape, zeros));
    }
    let key = |name: &str| gguf.metadata().get(&format!("gemma3n.{name}")).cloned();
    assert_eq!(key("attention.shared_kv_layers"), Some(Value::Unsigned(3)));
    let scale = [1.644_853_5, 0.524_400_5];
    let Some(Value::Array(Array::F32(cutoffs))) = key("activation_sparsity_scale") else { panic!() };
    assert!((cutoffs[0] - scale[0]).abs() < 1e-6 && (cutoffs[1] - scale[1]).abs() < 1e-6, "{cutoffs:?}");
    assert_eq!((cutoffs[2], cutoffs[6]), (f32::NEG_INFINITY, 0.0));
    let slides = [true, true, false, true, true, false, true];
    assert_eq!(key("attention.sliding_window_pattern"), Some(Value::Array(Array::Bool(slides.to_vec()))));
    let widths = Value::Array(Array::I32(vec![24, 40, 24, 24, 32, 24, 24]));
    assert_eq!(key("feed_forward_length"), Some(widths));

    // Again from the file: the same file, but for what it says of where it comes from.
    bench.run("export gguf --model m.gguf --quant f32 --output again.gguf").ok();
    let again = Gguf::open(&bench.path("again.gguf")).unwrap();
    assert_eq!(gguf.header().tensors.len(), again.header().tensors.len());
    for (one, other) in gguf.header().tensors.iter().zip(&again.header().tensors) {
        assert_eq!((&one.name, gguf.bytes(one)), (&other.name, again.bytes(other)));
    }
}

#[test]
fn every_verb_takes_the_file() {
    let bench = with_few(bench());
    bench.run("export gguf --model m --quant bf16 --output m.gguf").ok();
    let model = bench.run("inspect m.gguf --json").json();
    assert_eq!((&model["architecture"], &model["multimodal"]), (&json!("Gemma 3n"), &json!(false)));
    assert_eq!((&model["unused_tensors"], &model["vocab_size"]), (&json!(0), &json!(64)));
    let forecast = bench.run("estimate r.yaml --set model.base=m.gguf --json").json();
    assert!(forecast["memory"]["base_bytes"].as_u64().unwrap() > 0);
    bench.run("train r.yaml --set model.base=m.gguf --set training.max_steps=3").ok();
    bench.run("train r.yaml --set model.base=m --set training.max_steps=3 --set output.dir=of-folder").ok();
    let weights = |dir: &str| bench.read(&format!("{dir}/adapter/adapter_model.safetensors"));
    let sorted = |bytes: Vec<u8>| {
        crate::bench::tensors(&bytes).into_iter().map(|(name, _, values)| {
            (name.replace("language_model.", ""), values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        })
    };
    assert!(sorted(weights("out")).eq(sorted(weights("of-folder"))), "trained from the file as from the folder");
    bench.run("merge --model m.gguf --adapter out/adapter --output merged --dtype f32").ok();
    let gap = mean_gap(&bench.logprobs("merged"), &bench.logprobs("m.gguf --adapter out/adapter"));
    assert!(gap < 1e-5, "{gap:e}");

    bench.run("export gguf --model t --quant f16 --output t.gguf").ok();
    let answers = |model: &str| {
        bench.run(&format!("generate --model {model} --dtype f32 --input prompts.jsonl --max-tokens 6")).ok()
    };
    assert_eq!(answers("t.gguf"), answers("t"));
}

#[test]
fn an_adapter_on_every_module_is_in_the_file() {
    let bench = with_few(bench());
    bench.run("train r.yaml --set training.max_steps=4").ok();
    bench.run("export gguf --model m --adapter out --quant f32 --output tuned.gguf").ok();
    bench.run("merge --model m --adapter out --output merged --dtype f32").ok();
    assert_eq!(logits(&bench, "tuned.gguf"), logits(&bench, "merged"));
    let (file, base) = (bench.logprobs("tuned.gguf"), bench.logprobs("m"));
    assert!(mean_gap(&file, &base) > 1e-2, "the adapter does something");
}

/// A model `w` with the tiny tokenizer whose rows are whole blocks of every type.
fn wide() -> Bench {
    let bench = Bench::new();
    copy(&folder("tokenizer"), &bench.path("w"));
    let (d, f, p, e, laurel, words, layers) = (256, 256, 256, 64, 64, 512, 6);
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder("gemma3n/model/config.json")).unwrap()).unwrap();
    let types = (0..layers).map(|layer| if layer % 3 == 2 { "full_attention" } else { "sliding_attention" });
    for (key, value) in [
        ("hidden_size", json!(d)),
        ("hidden_size_per_layer_input", json!(p)),
        ("intermediate_size", json!(f)),
        ("head_dim", json!(e)),
        ("laurel_rank", json!(laurel)),
        ("num_hidden_layers", json!(layers)),
        ("num_key_value_heads", json!(1)),
        ("num_kv_shared_layers", json!(2)),
        ("activation_sparsity_pattern", json!([0.95, 0.0, 0.0, 0.0, 0.0, 0.0])),
        ("layer_types", types.collect()),
        ("vocab_size", json!(words)),
        ("vocab_size_per_layer_input", json!(words)),
    ] {
        config[key] = value;
    }
    bench.write("w/config.json", config.to_string());
    let mut all: Vec<(TensorId, Vec<usize>, f32)> = vec![
        (TensorId::EmbedTokens, vec![words, d], 0.25),
        (TensorId::EmbedTokensPerLayer, vec![words, layers * p], 0.25),
        (TensorId::PerLayerModelProjection, vec![layers * p, d], 0.1),
        (TensorId::PerLayerProjectionNorm, vec![p], 0.5),
        (TensorId::Norm, vec![d], 0.5),
    ];
    for place in 0..3 {
        all.push((TensorId::AltupProjection(place), vec![d, d], 0.1));
        all.push((TensorId::AltupUnembedProjection(place), vec![d, d], 0.1));
    }
    for layer in 0..layers {
        let own = |id: &TensorId| {
            layer < 4
                || !matches!(id, TensorId::Projection(_, Projection::K | Projection::V))
                    && *id != TensorId::LayerNorm(layer, LayerNorm::KNorm)
        };
        let dims = |part: Projection| match part {
            Projection::Q => vec![4 * e, d],
            Projection::K | Projection::V => vec![e, d],
            Projection::O => vec![d, 4 * e],
            Projection::Gate | Projection::Up => vec![f, d],
            Projection::Down => vec![d, f],
            Projection::PerLayerGate => vec![p, d],
            Projection::PerLayerProjection => vec![d, p],
            Projection::LaurelLeft => vec![laurel, d],
            Projection::LaurelRight => vec![d, laurel],
            Projection::AltupRouter => vec![4, d],
            Projection::AltupPrediction => vec![16, 4],
            Projection::AltupCorrection => vec![4, 4],
        };
        let projections = Projection::ALL.map(|part| (TensorId::Projection(layer, part), dims(part), 0.1));
        let width = |norm| if matches!(norm, LayerNorm::QNorm | LayerNorm::KNorm) { e } else { d };
        let norms = LayerNorm::ALL.map(|norm| (TensorId::LayerNorm(layer, norm), vec![width(norm)], 0.5));
        all.extend(projections.into_iter().chain(norms).filter(|(id, ..)| own(id)));
    }
    let made = all.into_iter().enumerate().map(|(seed, (id, shape, size))| {
        let values = random(seed as u64 + 1, shape.iter().product(), size);
        // A norm is a gain here.
        let values = values.into_iter().map(|x| if shape.len() == 1 { 1.0 + x } else { x }).collect();
        (id.hf(), shape, values)
    });
    bench.write("w/model.safetensors", safetensors_bytes(&made.collect::<Vec<_>>()));
    bench.write("few.jsonl", lines(&rows(4)));
    bench
}

#[test]
fn kinds_with_blocks_leave_what_llama_cpp_leaves_and_are_read_as_they_are() {
    let bench = wide();
    let expected = bench.logprobs("w");
    for (kind, limit) in [("F32", 1e-6), ("Q8_0", 0.15), ("Q4_K_M", 0.9), ("Q4_0", 1.2)] {
        bench.run(&format!("export gguf --model w --quant {kind} --output w.gguf")).ok();
        let gap = mean_gap(&bench.logprobs("w.gguf"), &expected);
        assert!(gap <= limit && (kind == "F32" || gap > 0.0), "{kind}: {gap}");
    }
    bench.run("export gguf --model w --quant q4_k_m --output one.gguf").ok();
    let gguf = Gguf::open(&bench.path("one.gguf")).unwrap();
    for (name, of) in [
        ("token_embd.weight", "Q6_K"),
        ("per_layer_token_embd.weight", "Q6_K"),
        ("per_layer_model_proj.weight", "F32"),
        ("altup_proj.weight", "F32"),
        ("altup_unembd_proj.weight", "F32"),
        ("blk.0.altup_router.weight", "F32"),
        ("blk.0.laurel_l.weight", "F32"),
        ("blk.0.laurel_r.weight", "F32"),
        ("blk.0.inp_gate.weight", "Q4_K"),
        ("blk.0.proj.weight", "Q4_K"),
        ("blk.3.attn_q.weight", "Q4_K"),
        ("blk.5.attn_v.weight", "Q6_K"),
    ] {
        let entry = gguf.header().tensors.iter().find(|entry| entry.name == name).expect(name);
        assert_eq!(entry.type_name(), of, "{name}");
    }
    // What has its type already is copied.
    bench.run("export gguf --model one.gguf --quant q4_k_m --output two.gguf").ok();
    let two = Gguf::open(&bench.path("two.gguf")).unwrap();
    for (a, b) in gguf.header().tensors.iter().zip(&two.header().tensors) {
        assert_eq!((&a.name, gguf.bytes(a)), (&b.name, two.bytes(b)));
    }
    // Trained on the file's own blocks.
    let sets = "--set model.base=one.gguf --set model.quantization=as_stored --set training.max_steps=2 \
                --set evaluation.eval_steps=null --set data.eval_fraction=0";
    bench.run(&format!("train r.yaml {sets}")).ok();
}

#[test]
fn an_adapter_alone_is_for_what_llama_cpp_applies_one_to() {
    let bench = with_few(bench());
    bench.run("train r.yaml --set training.max_steps=2 --set adapter.target_modules=[q_proj,k_proj,down_proj,linear_left,per_layer_projection,correction_coefs]").ok();
    bench.run("export gguf --model m --quant bf16 --output m.gguf").ok();
    let said = bench.run("export gguf-lora --adapter out --model m.gguf --output a.gguf --json").json();
    assert_eq!(said["modules"], json!(7 * 5 + 4));
    let gguf = Gguf::open(&bench.path("a.gguf")).unwrap();
    assert_eq!(gguf.architecture(), Some("gemma3n"));
    assert!(gguf.entry("blk.6.laurel_l.weight.lora_a").is_some());
    for target in
        ["modality_router", "per_layer_model_projection", "altup_projections.0", "altup_unembed_projections.2"]
    {
        bench
            .run(&format!(
                "train r.yaml --set training.max_steps=1 --set adapter.target_modules=[{target}] --set output.dir=out2"
            ))
            .ok();
        let refused = bench.run("export gguf-lora --adapter out2 --model m.gguf --output b.gguf");
        assert_eq!(refused.code, Some(2), "{target}: {}", refused.stderr);
        assert!(refused.problem().contains("llama.cpp applies no adapter"), "{}", refused.stderr);
        assert!(refused.problem().contains("export gguf --adapter"), "{}", refused.stderr);
        std::fs::remove_dir_all(bench.path("out2")).unwrap();
    }
    // All kinds at once, one sentence.
    let all = "[modality_router,per_layer_model_projection,altup_projections.0,altup_projections.1,q_proj]";
    let train =
        format!("train r.yaml --set training.max_steps=1 --set adapter.target_modules={all} --set output.dir=out2");
    bench.run(&train).ok();
    let refused = bench.run("export gguf-lora --adapter out2 --model m.gguf --output b.gguf");
    let refused = refused.problem();
    let told = "llama.cpp applies no adapter to what this one changes: 10 modules: `altup.modality_router` in 7 layers, \
                `per_layer_model_projection`, `altup_projections.*` (2)";
    assert!(refused.contains(told) && refused.matches("hint:").count() == 1, "{refused}");
    assert!(!bench.path("b.gguf").exists());
}

#[test]
fn a_folder_for_ollama_holds_a_gemma3n() {
    let bench = bench();
    bench.run("export ollama --model t --quant q8_0 --output o").ok();
    let gguf = Gguf::open(&bench.path("o/model.gguf")).unwrap();
    assert_eq!(gguf.architecture(), Some("gemma3n"));
    assert!(bench.text("o/Modelfile").starts_with("FROM ./model.gguf\n"));
}
