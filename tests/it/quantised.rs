//! Training on quantised bases: the same numbers as on the weights that they stand for.

use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::init::{self, LoraOptions};
use gemma_tune::adapter::{Adapter, Init};
use gemma_tune::model::LanguageModel;
use gemma_tune::model::gemma3::{Gemma3, TextConfig};
use gemma_tune::model::load::Loader;
use gemma_tune::nn::Segments;
use gemma_tune::ops::Weight;
use gemma_tune::progress::Silent;
use gemma_tune::random::{Label, Rng};
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::recompute::Recompute;
use gemma_tune::train::step::{self, StepSettings};
use gemma_tune::weights::names::TensorId;
use gemma_tune::weights::{Compression, Holding, HostDtype, Source, TensorInfo};

use crate::bench::{Bench, lines, tensors};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tiny models, each with a holding that quantises it.
fn cases() -> Vec<(&'static str, Holding)> {
    let holding = |projections, embedding_int8| Holding { projections, embedding_int8, ..Holding::default() };
    vec![
        ("model/lora/model", holding(Compression::Int8, false)),
        ("model/lora/model", holding(Compression::Nf4, true)),
        ("model/lora/model", holding(Compression::Nf4Double, false)),
        ("model/lora/model", holding(Compression::None, true)),
        ("quant/nf4", holding(Compression::None, false)),
        ("quant/nf4_double", holding(Compression::Nf4Double, true)),
        ("gguf/tiny-gemma3.gguf", holding(Compression::AsStored, false)),
        ("gguf/tiny-gemma3.gguf", holding(Compression::AsStored, true)),
        ("gguf/tiny-gemma3.gguf", holding(Compression::Nf4, false)),
    ]
}

fn open(name: &str) -> Source {
    let path = folder(name);
    if name.ends_with(".gguf") { Source::open_gguf(&path).unwrap() } else { Source::open_folder(&path).unwrap() }
}

fn load(name: &str, holding: &Holding) -> Gemma3 {
    let (path, source) = (folder(name), open(name));
    let config = match source.gguf() {
        Some(gguf) => TextConfig::from_gguf(gguf.metadata(), &path),
        None => TextConfig::from_folder(&path),
    };
    let config = config.unwrap().0;
    source.check(holding).unwrap();
    let device = Device::flex();
    let mut parts = Loader { source: &source, holding, device: &device, progress: &Silent };
    Gemma3::assemble(config, &mut parts, &device).unwrap()
}

/// All matrices of a model.
fn weights(model: &mut Gemma3) -> Vec<&mut Weight> {
    let layers = model.layers.iter_mut().flat_map(|layer| {
        let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
        let attention = [&mut attention.q_proj, &mut attention.k_proj, &mut attention.v_proj, &mut attention.o_proj];
        attention.into_iter().chain([&mut mlp.gate_proj, &mut mlp.up_proj, &mut mlp.down_proj])
    });
    let layers = layers.map(|linear| &mut linear.weight);
    layers.chain([&mut model.embed_tokens, &mut model.lm_head]).collect()
}

/// The model whose matrices are plain f32 with the same values.
fn dense(mut model: Gemma3) -> Gemma3 {
    weights(&mut model).into_iter().for_each(|weight| *weight = Weight::new(weight.to_f32()));
    model
}

fn quantised(model: &mut Gemma3) -> usize {
    weights(model).iter().filter(|weight| weight.is_quantized()).count()
}

/// An adapter whose every tensor is random, so that all gradients are there.
fn adapter(model: &Gemma3, init: Init, use_dora: bool) -> Adapter {
    let options = LoraOptions { r: 4, lora_alpha: 8.0, use_rslora: false, use_dora, init };
    let mut adapter = init::create(model, &model.sites(), options, Rng::new(3));
    let mut random = Rng::new(4).stream(&[Label::Purpose("test")]);
    let moved = adapter.parameters().into_iter().map(|parameter| {
        let shape = parameter.dims();
        let noise = random.uniform_f32(shape[0] * shape[1], -0.1, 0.1);
        parameter.clone() + Tensor::from_data(TensorData::new(noise, shape), &parameter.device())
    });
    let moved = moved.collect();
    adapter.set_parameters(moved);
    adapter
}

fn gradients(model: &Gemma3, adapter: &Adapter) -> (f64, Vec<Vec<f32>>) {
    let ids: Vec<u32> = (0..34).map(|i| 2 + (i * 7) % 60).collect();
    let labels: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let batch = MicroBatch::new(ids, &labels, Segments::from_lengths([20, 14]));
    let settings = StepSettings {
        objective: Arc::new(Sft),
        max_grad_norm: 0.0,
        recompute: Recompute::ALL,
        lora_dropout: 0.0,
        rng: Rng::new(0),
    };
    let (loss, gradients) = step::gradients(model, adapter, &[batch], 0, &settings);
    (loss, gradients.into_iter().map(|g| g.into_data().iter::<f32>().collect()).collect())
}

#[test]
fn losses_and_gradients_are_those_of_the_dequantised_weights() {
    for (name, holding) in cases() {
        let mut model = load(name, &holding);
        assert!(quantised(&mut model) > 0, "{name} {holding:?}");
        let twin = dense(model.clone());
        for (init, use_dora) in [(Init::Kaiming, false), (Init::Kaiming, true), (Init::Pissa, false)] {
            let adapter = adapter(&model, init, use_dora);
            let (loss, got) = gradients(&model, &adapter);
            let (expected_loss, expected) = gradients(&twin, &adapter);
            let what = format!("{name} {holding:?} {init:?} dora {use_dora}");
            assert!((loss - expected_loss).abs() <= 1e-6 * expected_loss, "{what}: {loss} {expected_loss}");
            for (got, expected) in got.iter().zip(expected) {
                let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
                assert!(expected.iter().any(|g| *g != 0.0), "{what}");
                let gap = l2_relative(got, &expected);
                assert!(gap <= 1e-6, "{what}: {gap:e}");
            }
        }
    }
}

#[test]
fn lookups_and_slices_are_those_of_the_whole() {
    let holding = Holding { projections: Compression::AsStored, ..Holding::default() };
    for holding in [holding, Holding { embedding_int8: true, ..holding }] {
        let weight = load("gguf/tiny-gemma3.gguf", &holding).embed_tokens;
        let whole = weight.to_f32();
        let [_, width] = whole.dims();
        let equal = |a: Tensor<2>, b: Tensor<2>| assert_eq!(a.into_data(), b.into_data());
        equal(weight.rows(3..9), whole.clone().slice([3..9, 0..width]));
        let indices = [5u32, 0, 5, 63];
        let rows = indices.map(|i| whole.clone().slice([i as usize..i as usize + 1, 0..width]));
        equal(weight.select(&indices), Tensor::cat(rows.to_vec(), 0));
    }
}

#[test]
fn a_holding_takes_the_memory_that_the_headers_promise() {
    for (name, holding) in cases().into_iter().chain([("model/lora/model", Holding::default())]) {
        let mut model = load(name, &holding);
        let source = open(name);
        let projections = model.sites().into_iter().map(|site| {
            let id = site.weight;
            source.form(&id, &holding).unwrap().bytes([site.out_features, site.in_features])
        });
        let promised = source.form(&TensorId::EmbedTokens, &holding).unwrap().bytes(model.embed_tokens.dims());
        let promised = promised + projections.sum::<u64>();
        let mut held: Vec<u64> = weights(&mut model).into_iter().map(|weight| weight.bytes()).collect();
        held.pop(); // the head, which is the embedding
        assert_eq!(promised, held.into_iter().sum::<u64>(), "{name} {holding:?}");
    }
}

/// The weights of a tiny model as they are stored: those of bitsandbytes as it dequantises them.
fn stored(name: &str) -> BTreeMap<String, Vec<f32>> {
    let source = open(name);
    let named = |info: TensorInfo| {
        let id = match source.gguf() {
            Some(_) => TensorId::parse_gguf(&info.name),
            None => TensorId::parse_hf(&info.name),
        };
        let id = id.unwrap_or_else(|| panic!("{}", info.name));
        (id.hf(), source.read(&id, &info.shape, Some(HostDtype::F32)).unwrap().into_f32())
    };
    let mut stored: BTreeMap<String, Vec<f32>> = source.tensors().into_iter().map(named).collect();
    if name.starts_with("quant/") {
        let golden = Golden::read(&folder(&format!("{name}.safetensors")));
        for name in golden.names() {
            stored.insert(name.into(), golden.values(name).iter().map(|&x| x as f32).collect());
        }
    }
    stored
}

/// Makes sure that the folder `merged` holds `W + s B A` of the stored weights, to the last bit, and all else as it
/// was.
fn assert_merged(stored: &BTreeMap<String, Vec<f32>>, bench: &Bench, adapter: &str, merged: &str) {
    const SCALING: f32 = 2.0; // lora_alpha / r of the recipe
    let adapter = tensors(&bench.read(&format!("{adapter}/adapter_model.safetensors")));
    let part = |name: &str, part: &str| {
        let key = format!("base_model.model.{}", name.replace(".weight", &format!(".lora_{part}.weight")));
        adapter.iter().find(|tensor| tensor.0 == key)
    };
    let merged = tensors(&bench.read(&format!("{merged}/model.safetensors")));
    assert!(merged.iter().map(|tensor| &tensor.0).eq(stored.keys()));
    let mut modules = 0;
    for (name, shape, got) in &merged {
        let mut expected = stored[name].clone();
        if let (Some((_, _, a)), Some((_, _, b))) = (part(name, "A"), part(name, "B")) {
            let (inputs, r) = (shape[1], a.len() / shape[1]);
            modules += 1;
            for (at, weight) in expected.iter_mut().enumerate() {
                let (row, column) = (at / inputs, at % inputs);
                let products = (0..r).map(|k| b[row * r + k] * a[k * inputs + column]);
                *weight += SCALING * products.fold(0.0, |sum, product| sum + product);
            }
        }
        assert!(*got == expected, "{name}");
    }
    assert_eq!(modules * 2, adapter.len());
}

#[test]
fn a_run_learns_on_each_kind_of_base() {
    let bench = Bench::new();
    let gguf = folder("gguf/tiny-gemma3.gguf");
    let rows = (0..12u64).map(|i| {
        let ids: Vec<u64> = (0..12).map(|t| 2 + (i * 5 + t * 3) % 60).collect();
        json!({"input_ids": ids, "labels": ids})
    });
    bench.write("rows.jsonl", lines(&rows.collect::<Vec<_>>()));
    let packed = folder("quant/nf4_double");
    let bases = ["m".to_owned(), "m".to_owned(), gguf.display().to_string(), packed.display().to_string()];
    for (i, set) in [
        "--set model.quantization=nf4_double --set model.embedding_quantization=int8".to_owned(),
        "--set model.quantization=int8".to_owned(),
        format!("--set model.base={} --set model.quantization=as_stored", gguf.display()),
        format!("--set model.base={}", packed.display()),
    ]
    .iter()
    .enumerate()
    {
        let set = format!("{set} --set output.dir=out{i} --set model.dtype=auto");
        bench.run(&format!("train r.yaml {set}")).ok();
        let found = bench.run(&format!("evaluate r.yaml {set} --adapter out{i}/adapter --json")).json();
        let loss = |key: &str| found[key].as_f64().unwrap();
        assert!(loss("loss") < loss("base_loss") - 0.1, "{set}: {found}");
        let record: serde_json::Value =
            serde_json::from_str(&bench.text(&format!("out{i}/adapter/gemma_tune.json"))).unwrap();
        let of_the_file = (i == 2).then(|| format!("{:x}", Sha256::digest(std::fs::read(&gguf).unwrap())));
        assert_eq!(record["base_sha256"].as_str(), of_the_file.as_deref());
        // What is merged are the weights as stored, so that it equals base and adapter where those were trained on.
        let merge = format!("merge --model {} --adapter out{i}/adapter --dtype f32 --output merged{i}", bases[i]);
        bench.run(&merge).ok();
        let original = if i < 2 { "model/lora/model" } else { ["gguf/tiny-gemma3.gguf", "quant/nf4_double"][i - 2] };
        assert_merged(&stored(original), &bench, &format!("out{i}/adapter"), &format!("merged{i}"));
        let plain = format!(
            "evaluate r.yaml {set} --set model.quantization=none --set model.embedding_quantization=none \
             --set model.dtype=f32 --json --adapter out{i}/adapter --set model.base="
        );
        let merged = bench.run(&format!("{plain}merged{i}"));
        let said = merged.stderr.clone();
        let base_loss = merged.json()["base_loss"].as_f64().unwrap();
        let expected = bench.run(&format!("{plain}{}", bases[i])).json()["loss"].as_f64().unwrap();
        assert!((base_loss - expected).abs() < 1e-5, "{set}: {base_loss} {expected}");
        let is_as_stored = i >= 2;
        assert!(!is_as_stored || (base_loss - loss("loss")).abs() < 1e-4, "{set}: {base_loss} {found}");
        assert!(said.contains("Warning: this adapter was trained on other weights than `merged"), "{said}");
    }
}

#[test]
fn contradictions_are_refused_before_anything_is_loaded() {
    let bench = Bench::new();
    let refused = |set: &str| {
        let said = bench.run(&format!("train r.yaml {set}"));
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        said.problem().to_owned()
    };
    let text = refused("--set model.quantization=as_stored");
    assert!(text.contains("`as_stored` keeps a file's own blocks") && text.contains("nf4_double"), "{text}");
    let base = format!("--set model.base={}", folder("quant/nf4").display());
    let text = refused(&format!("{base} --set model.quantization=nf4_double"));
    assert!(text.contains("stored as NF4, and cannot be quantised again"), "{text}");
    let text = refused(&format!("{base} --set model.quantization=int8"));
    assert!(text.contains("leave `quantization` out"), "{text}");
}

#[test]
fn rounded_inputs_say_nearly_the_same_and_are_refused_where_nothing_rounds() {
    let bench = Bench::new().with_text();
    std::fs::copy(folder("gguf/tiny-gemma3.gguf"), bench.path("g.gguf")).unwrap();
    bench.write(
        "rows.jsonl",
        lines(&[json!({"input_ids": [2, 10, 11, 12, 13, 14]}), json!({"input_ids": [2, 20, 21]})]),
    );
    let logits = |options: &str| {
        bench.run(&format!("score --input rows.jsonl --logits l.safetensors --output s.jsonl {options}")).ok();
        tensors(&bench.read("l.safetensors"))
    };
    let (exact, rounded) = (logits("--model g.gguf"), logits("--model g.gguf --compute-dtype int8"));
    for ((name, _, exact), (_, _, rounded)) in exact.iter().zip(&rounded) {
        let exact: Vec<f64> = exact.iter().copied().map(f64::from).collect();
        let gap = l2_relative(rounded, &exact);
        assert!(gap > 1e-5 && gap < 3e-2, "{name}: {gap}");
    }
    for (options, what) in [
        ("--model t --compute-dtype int8", "has none"),
        ("--model g.gguf --compute-dtype int8 --dtype f32", "leave `--dtype` out"),
        ("--model t --compute-dtype f16", "the CPU multiplies in f32 and bf16"),
    ] {
        let said = bench.run(&format!("score --input rows.jsonl {options}"));
        assert_eq!(said.code, Some(2), "{options}: {}", said.stderr);
        assert!(said.problem().contains(what) && said.problem().contains("--compute-dtype"), "{}", said.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_base_that_is_written_to_while_it_is_trained_on_ends_the_run() {
    use std::os::unix::fs::FileExt;
    let gguf = std::fs::read(folder("gguf/tiny-gemma3.gguf")).unwrap();
    let rows = (0..12u64).map(|i| {
        let ids: Vec<u64> = (0..12).map(|t| 2 + (i * 5 + t * 3) % 60).collect();
        json!({"input_ids": ids, "labels": ids})
    });
    let rows = lines(&rows.collect::<Vec<_>>());
    let begin = |change: &dyn Fn(&Bench)| {
        let bench = Bench::new();
        bench.write("rows.jsonl", &rows);
        bench.write("g.gguf", &gguf);
        let sets = "--set model.base=g.gguf --set model.quantization=as_stored --set model.dtype=auto --set training.max_steps=100000";
        let log = std::fs::File::create(bench.path("said")).unwrap();
        let mut child = bench.command(&format!("train r.yaml {sets}")).stderr(log).spawn().unwrap();
        let ready = || bench.path("out/checkpoints/step-2/manifest.json").exists();
        assert_eq!(crate::bench::wait_until(&mut child, ready), None, "{}", bench.text("said"));
        change(&bench);
        let ended = crate::bench::wait_until(&mut child, || bench.text("said").contains("step-60"));
        if ended.is_none() {
            child.kill().unwrap();
        }
        (ended.and_then(|status| status.code()), bench.text("said"))
    };
    // Other weights under the same size: the header of the file stays, its last tensors do not.
    let (code, said) = begin(&|bench| {
        let file = std::fs::File::options().write(true).open(bench.path("g.gguf")).unwrap();
        let half = gguf.len() / 2;
        file.write_all_at(&vec![0x11; gguf.len() - half], half as u64).unwrap();
    });
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the base is no longer what this run is trained on: the file was written to while it was in use"),
        "{said}"
    );
    assert!(said.contains("then `--resume` goes on from the last checkpoint"), "{said}");
    // Cut within its last page, where nothing is read that is gone.
    let (code, said) = begin(&|bench| {
        let file = std::fs::File::options().write(true).open(bench.path("g.gguf")).unwrap();
        file.set_len(gguf.len() as u64 - 1).unwrap();
    });
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("this run is trained on: the file was cut from "), "{said}");
    // Another file in its place, and a new date, change nothing for the run.
    let (code, said) = begin(&|bench| {
        bench.write("other", "x");
        std::fs::File::options()
            .write(true)
            .open(bench.path("g.gguf"))
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        std::fs::rename(bench.path("other"), bench.path("g.gguf")).unwrap();
    });
    assert_eq!(code, None, "{said}");
}
