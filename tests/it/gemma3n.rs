//! Gemma 3n against transformers + PEFT (goldens by `scripts/make_gemma3n_goldens.py`): every part of every layer, logits,
//! losses, gradients; the same numbers however a batch is run and however a checkpoint spells its tensors.

use crate::bench::{Bench, copy, lines, rows};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, LoraModule};
use gemma_tune::device;
use gemma_tune::model::load::Loader;
use gemma_tune::model::{self, Carry, Gemma3n, Inputs, LanguageModel, ModelConfig};
use gemma_tune::nn::{BaseOnly, Kv, Segments, SidePath};
use gemma_tune::progress::Silent;
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative, max_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::step::{self, StepSettings};
use gemma_tune::weights::names::{LayerNorm, Projection, Spelling, TensorId};
use gemma_tune::weights::{Compression, Holding, HostDtype, Source};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A part of a layer may be this far from transformers, relative to its largest number.
const PARTS: f64 = 1e-4;

struct Case {
    golden: Golden,
    model: Gemma3n,
    adapter: Adapter,
    rows: Vec<(Vec<u32>, Vec<i32>)>,
}

fn case(device: &Device) -> Case {
    let dir = folder("gemma3n");
    let golden = Golden::read(&dir.join("golden.safetensors"));
    let (config, _) = ModelConfig::from_folder(&dir.join("model")).unwrap();
    let ModelConfig::Gemma3n(config) = config else { panic!("{config:?}") };
    let source = Source::open_folder(&dir.join("model")).unwrap();
    let holding = Holding::dense(Some(HostDtype::F32));
    let mut parts = Loader { source: &source, holding: &holding, device, progress: &Silent };
    let model = Gemma3n::assemble(config, &mut parts, device).unwrap();
    let tensors = Golden::read(&dir.join("adapter/adapter_model.safetensors"));
    let modules = model.sites().into_iter().map(|site| {
        let tensor = |part: &str| {
            let key = format!("base_model.model.{}.{part}.weight", site.module_path(false));
            let values: Vec<f32> = tensors.values(&key).iter().map(|&x| x as f32).collect();
            let [rows, columns] = *tensors.shape(&key) else { panic!("{key}") };
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), device)
        };
        let (a, b) = (tensor("lora_A"), tensor("lora_B"));
        LoraModule { site, a, b, magnitude: None, scaling: 4.0 / 2.0, subtracted: None }
    });
    let adapter = Adapter::new(modules.collect());
    assert_eq!(tensors.names().count(), 2 * adapter.modules().len(), "the sites are those of PEFT's `all-linear`");
    let row = |i: usize| {
        let of = |name: &str| golden.values(&format!("row.{i}.{name}"));
        (of("input_ids").iter().map(|&x| x as u32).collect(), of("labels").iter().map(|&x| x as i32).collect())
    };
    let rows = (0..2).map(row).collect();
    Case { golden, model, adapter, rows }
}

fn batch(rows: &[(Vec<u32>, Vec<i32>)]) -> MicroBatch {
    let ids = rows.iter().flat_map(|(ids, _)| ids.clone()).collect();
    let labels: Vec<i32> = rows.iter().flat_map(|(_, labels)| labels.clone()).collect();
    MicroBatch::new(ids, &labels, Segments::from_lengths(rows.iter().map(|(ids, _)| ids.len())))
}

fn settings(activation_checkpointing: bool) -> StepSettings {
    StepSettings {
        objective: Arc::new(Sft),
        max_grad_norm: 0.0,
        recompute: activation_checkpointing.into(),
        lora_dropout: 0.0,
        rng: Rng::new(0),
    }
}

fn floats<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().iter().collect()
}

fn check(golden: &Golden, name: &str, got: &[Tensor<2>]) {
    let got: Vec<f32> = got.iter().flat_map(floats).collect();
    let gap = max_relative(&got, golden.values(name));
    assert!(gap <= PARTS, "{name}: {gap:e}");
}

#[test]
fn every_part_of_every_layer_equals_the_reference() {
    for found in device::all() {
        let Case { golden, model, adapter, rows } = case(&found.device);
        let side = &adapter;
        let all = batch(&rows);
        let layout = model.layout(&all.inputs);
        let mut carry = model.embed(&all.inputs, side);
        check(&golden, "lora.streams", &carry.streams().cloned().collect::<Vec<_>>());
        let told = Tensor::cat(carry.shared.clone(), 1);
        check(&golden, "lora.per_layer_inputs", &[told]);
        for (index, layer) in model.layers.iter().enumerate() {
            let name = |part: &str| format!("lora.layers.{index}{part}");
            let streams: Vec<Tensor<2>> = carry.streams().cloned().collect();
            let predictions = layer.altup.predict(&streams, side);
            if golden.names().any(|known| known == name(".altup.predict")) {
                check(&golden, &name(".altup.predict"), &predictions);
            }
            let active = predictions[layer.altup.active].clone();
            let normed = layer.input_layernorm.forward(active.clone());
            let laurel = layer.laurel.forward(normed.clone(), side);
            check(&golden, &name(".laurel"), std::slice::from_ref(&laurel));

            let (config, rope) = (&layer.queries.config, layout.rotations.of(layer.queries.config.kind));
            let kv = match &layer.keys_values {
                Some(own) => own.of(normed.clone().into(), config, rope, side),
                None => {
                    let makers = model.config.kv_makers();
                    let rank = makers.iter().position(|&maker| maker == model.config.kv_source(index)).unwrap();
                    let at = model.layers.len() + 2 * rank;
                    Kv { keys: carry.shared[at].clone(), values: carry.shared[at + 1].clone() }
                }
            };
            let attended = layer.queries.attend(normed.into(), kv, rope, &layout.plan, side);
            check(&golden, &name(".self_attn"), std::slice::from_ref(&attended));
            let x = layer.post_attention_layernorm.forward_onto(active, attended) + laurel;
            let x = layer.pre_feedforward_layernorm.forward(x.div_scalar(2_f64.sqrt()));
            check(&golden, &name(".mlp"), &[layer.mlp.forward(x, side)]);

            carry = model.layer(index, carry, &layout, side);
            check(&golden, &name(""), &carry.streams().cloned().collect::<Vec<_>>());
        }
        let normed = model.norm.forward(model.last_hidden(carry, side));
        check(&golden, "lora.norm", &[normed]);
    }
}

#[test]
fn logits_and_losses_equal_the_reference_in_evaluation() {
    for found in device::all() {
        let Case { golden, model, adapter, rows } = case(&found.device);
        let all = batch(&rows);
        for (variant, side) in [("base", &BaseOnly as &dyn SidePath), ("lora", &adapter)] {
            let logits = model.logits(model.hidden(&all.inputs, side));
            check(&golden, &format!("{variant}.logits"), std::slice::from_ref(&logits));
            let loss = backprop::loss(&model, side, &all) / all.supervised() as f64;
            let expected = golden.values(&format!("{variant}.loss"))[0];
            assert!((loss - expected).abs() <= 1e-5 * expected, "{variant}: {loss} {expected}");
            if variant == "base" {
                // Where coefficients are beyond the clip, transformers trains beside another base.
                let gap = max_relative(&floats(&logits), golden.values("train.logits"));
                assert!(gap > 0.05, "{gap:e}");
            }
        }
    }
}

#[test]
fn gradients_equal_the_reference() {
    for found in device::all() {
        let Case { golden, model, adapter, rows } = case(&found.device);
        for activation_checkpointing in [true, false] {
            let (loss, gradients) =
                step::gradients(&model, &adapter, &[batch(&rows)], 0, &settings(activation_checkpointing));
            let expected = golden.values("lora.loss")[0];
            assert!((loss - expected).abs() <= 1e-5 * expected, "{loss} {expected}");
            let keys = adapter.modules().iter().flat_map(|module| {
                let path = module.site.module_path(false);
                ["lora_A", "lora_B"].map(|part| format!("grad.base_model.model.{path}.{part}.weight"))
            });
            let keys: Vec<String> = keys.collect();
            assert_eq!(keys.len(), golden.names().filter(|name| name.starts_with("grad.")).count());
            for (key, gradient) in keys.iter().zip(&gradients) {
                let gap = l2_relative(&floats(gradient), golden.values(key));
                assert!(gap <= 1e-3, "{key}: {gap:e}");
            }
        }
    }
}

/// How far the reference's logits in f32 are from those in f64.
fn reference_noise() -> f64 {
    let meta = std::fs::read_to_string(folder("gemma3n").join("meta.json")).unwrap();
    serde_json::from_str::<Value>(&meta).unwrap()["relative_noise_f32_against_f64"].as_f64().unwrap()
}

fn assert_close(got: &[Tensor<2>], expected: &[Tensor<2>]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let expected: Vec<f64> = floats(expected).into_iter().map(f64::from).collect();
        let gap = l2_relative(&floats(got), &expected);
        assert!(gap <= 1e-5, "{gap:e}");
    }
}

#[test]
fn however_a_batch_is_run_its_gradients_are_the_same() {
    let Case { model, adapter, rows, .. } = case(&Device::flex());
    let packed = [batch(&rows)];
    let single: Vec<MicroBatch> = rows.iter().map(|row| batch(std::slice::from_ref(row))).collect();
    let (loss, want) = step::gradients(&model, &adapter, &packed, 0, &settings(false));
    for (micro_batches, recomputing) in [(&packed[..], true), (&single[..], false), (&single[..], true)] {
        let (again, got) = step::gradients(&model, &adapter, micro_batches, 0, &settings(recomputing));
        assert!((again - loss).abs() <= 1e-6 * loss, "{again} {loss}");
        if micro_batches.len() == packed.len() {
            assert_close(&got, &want);
        }
        // Products of other sizes round otherwise: no more than the reference does in f32.
        let noise = 2.0 * reference_noise();
        let whole = |gradients: &[Tensor<2>]| gradients.iter().flat_map(floats).collect::<Vec<f32>>();
        let expected: Vec<f64> = whole(&want).into_iter().map(f64::from).collect();
        let gap = l2_relative(&whole(&got), &expected);
        assert!(gap <= noise, "{} micro-batches: {gap:e}, {noise:e}", micro_batches.len());
    }
}

/// Adapters on the seven projections alone leave nothing to learn before and after the layers, and shared keys and values
/// bring their makers' gradients all the same.
#[test]
fn the_seven_projections_learn_what_they_learn_among_all() {
    let Case { model, adapter, rows, .. } = case(&Device::flex());
    let is_seven = |module: &&LoraModule| matches!(module.site.weight, TensorId::Projection(_, id) if Projection::SEVEN.contains(&id));
    let seven = Adapter::new(adapter.modules().iter().filter(is_seven).cloned().collect());
    assert_eq!(seven.modules().len(), 4 * 7 + 3 * 5, "three layers make no keys and values");
    let (_, kept) = step::gradients(&model, &seven, &[batch(&rows)], 0, &settings(false));
    let (_, recomputed) = step::gradients(&model, &seven, &[batch(&rows)], 0, &settings(true));
    assert_close(&recomputed, &kept);
    assert!(kept.iter().all(|gradient| floats(gradient).iter().any(|&x| x != 0.0)));
}

#[test]
fn dropout_drops_the_same_where_a_layer_is_run_again() {
    let Case { model, adapter, rows, golden } = case(&Device::flex());
    let under = |lora_dropout, activation_checkpointing| {
        let settings = StepSettings { lora_dropout, ..settings(activation_checkpointing) };
        step::gradients(&model, &adapter, &[batch(&rows)], 3, &settings)
    };
    let ((kept, from_kept), (again, from_again)) = (under(0.3, false), under(0.3, true));
    assert!((kept - again).abs() <= 1e-6 * kept, "{kept} {again}");
    assert_close(&from_again, &from_kept);
    let (none, _) = under(1.0, true);
    let base = golden.values("base.loss")[0];
    assert!((none - base).abs() <= 1e-5 * base, "with every input dropped the base is left: {none} {base}");
}

#[test]
fn cached_decoding_equals_the_whole_sequence() {
    for found in device::all() {
        let Case { model, adapter, rows, .. } = case(&found.device);
        let all = batch(&rows);
        let whole: Vec<f64> = floats(&model.hidden(&all.inputs, &adapter)).into_iter().map(f64::from).collect();
        for first in [1, 3, 6] {
            let mut cache = model.cache(rows.len());
            assert_eq!(cache.layers.len(), 4, "layers that read others' keys and values cache none");
            let mut got = vec![Vec::new(); rows.len()];
            let mut at = 0;
            while at < 10 {
                let new = if at == 0 { first } else { 1 };
                let take = |(ids, _): &(Vec<u32>, Vec<i32>)| ids[at.min(ids.len())..(at + new).min(ids.len())].to_vec();
                let takes: Vec<Vec<u32>> = rows.iter().map(take).collect();
                let lengths: Vec<usize> = takes.iter().map(Vec::len).collect();
                let hidden = model.hidden_cached(&Inputs::of(takes.concat()), &lengths, &mut cache, &adapter);
                let mut hidden = floats(&hidden).into_iter();
                for (got, len) in got.iter_mut().zip(lengths) {
                    got.extend(hidden.by_ref().take(len * model.config.hidden_size));
                }
                at += new;
            }
            let gap = max_relative(&got.concat(), &whole);
            assert!(gap <= 1e-5, "{first} tokens at first: {gap:e}");
        }
    }
}

/// The golden's model as another folder: its tensors under the names that `spelled` gives, and some that are not read.
fn respelled(spelled: impl Fn(&TensorId) -> String, config: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(folder("gemma3n/model/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, TensorView> = BTreeMap::new();
    for (name, view) in file.tensors() {
        tensors.insert(spelled(&TensorId::parse_hf(&name).unwrap_or_else(|| panic!("{name}"))), view);
    }
    let zeros = [0u8; 4];
    let one = |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &zeros).unwrap();
    for unread in [
        spelled(&TensorId::Projection(5, Projection::K)),
        spelled(&TensorId::LayerNorm(6, LayerNorm::KNorm)),
        "model.vision_tower.timm_model.conv_stem.conv.weight".into(),
        "model.embed_audio.embedding.weight".into(),
    ] {
        tensors.insert(unread, one(&[1, 1]));
    }
    let packed = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), packed).unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

fn config_json() -> Value {
    serde_json::from_slice(&std::fs::read(folder("gemma3n/model/config.json")).unwrap()).unwrap()
}

fn multimodal() -> Value {
    json!({"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n", "text_config": config_json(),
           "vision_config": {"model_type": "gemma3n_vision", "vocab_offset": 56, "vocab_size": 4}, "audio_config": {"model_type": "gemma3n_audio"}})
}

fn open(dir: &Path) -> gemma_tune::Result<(ModelConfig, Source, Vec<String>)> {
    let (mut config, _) = ModelConfig::from_folder(dir)?;
    let source = Source::open_folder(dir)?;
    let warnings = config.agree_with(&source)?;
    Ok((config, source, warnings))
}

fn hidden(config: ModelConfig, source: &Source, holding: &Holding) -> Vec<f32> {
    let model = model::load(config.of_text(), source, holding, &Device::flex(), &Silent).unwrap();
    floats(&model.hidden(&batch(&case(&Device::flex()).rows).inputs, &BaseOnly))
}

#[test]
fn every_spelling_is_the_same_model() {
    let dense = Holding::dense(Some(HostDtype::F32));
    let (config, source, warnings) = open(&folder("gemma3n/model")).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let want = hidden(config, &source, &dense);
    for spelling in Spelling::ALL {
        let config = if spelling == Spelling::Text { config_json() } else { multimodal() };
        let dir = respelled(|id| spelling.name(id), &config);
        let (config, source, warnings) = open(dir.path()).unwrap();
        assert_eq!(config.multimodal(), spelling != Spelling::Text);
        assert!(warnings[0].contains("not its `vision_tower`, `embed_audio`"), "{warnings:?}");
        let path = config.sites()[0].module_path(config.multimodal());
        let prefix = if config.multimodal() { "model.language_model" } else { "model" };
        assert_eq!(path, format!("{prefix}.layers.0.self_attn.q_proj"));
        assert_eq!(hidden(config, &source, &dense), want, "{spelling:?}");
    }
}

#[test]
fn weights_that_are_not_those_of_the_config_are_refused() {
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut config = config_json();
        change(&mut config);
        let dir = respelled(TensorId::hf, &config);
        let error = open(dir.path()).unwrap_err();
        assert!(error.iter().any(|e| e.what().contains(expected)), "{expected}: {error:?}");
    };
    refused(&|c| c["laurel_rank"] = json!(5), "laurel.linear_left");
    refused(&|c| c["vocab_size_per_layer_input"] = json!(50), "embed_tokens_per_layer");
    refused(&|c| c["altup_num_inputs"] = json!(5), "layers.0.altup.modality_router.weight`: expected [5, 32]");
    refused(&|c| c["num_kv_shared_layers"] = json!(2), "layers.4.self_attn.k_proj");
    // Of a Gemma 3, what a Gemma 3n has in its layers is nothing that may be left out.
    let gemma3 = |c: &mut Value| {
        for (key, value) in [("model_type", json!("gemma3_text")), ("intermediate_size", json!(24))] {
            c[key] = value;
        }
        for key in ["architectures", "final_logit_softcapping"] {
            c.as_object_mut().unwrap().remove(key);
        }
        let is_3n = |key: &str| key.starts_with("altup") || key.contains("laurel") || key.contains("per_layer");
        c.as_object_mut()
            .unwrap()
            .retain(|key, _| !is_3n(key) && !key.contains("sparsity") && !key.contains("num_kv_shared"));
    };
    refused(&gemma3, "the layers hold tensors that this program does not compute with");
}

#[test]
fn every_holding_holds_the_matrices_of_layers_and_no_coefficients() {
    let dir = folder("gemma3n/model");
    let exact = {
        let (config, source, _) = open(&dir).unwrap();
        hidden(config, &source, &Holding::dense(Some(HostDtype::F32)))
    };
    let exact: Vec<f64> = exact.into_iter().map(f64::from).collect();
    for (projections, embedding_int8, farthest) in [
        (Compression::None, false, 1e-6),
        (Compression::Int8, false, 0.5),
        (Compression::Int8, true, 0.5),
        (Compression::Nf4, false, 1.5),
        (Compression::Nf4Double, false, 1.5),
    ] {
        let (config, source, _) = open(&dir).unwrap();
        let holding = Holding { projections, embedding_int8, ..Holding::default() };
        let ModelConfig::Gemma3n(of_3n) = config.clone() else { panic!() };
        let device = Device::flex();
        let mut parts = Loader { source: &source, holding: &holding, device: &device, progress: &Silent };
        let model = Gemma3n::assemble(of_3n, &mut parts, &device).unwrap();
        for site in model.sites() {
            let weight = &model.linear(site.index).weight;
            let expected = projections != Compression::None && site.weight.is_compressible();
            assert_eq!(weight.is_quantized(), expected, "{projections:?} {}", site.weight);
            let form = source.form(&site.weight, &holding).unwrap();
            assert_eq!(form.bytes(site.dims()), weight.bytes(), "{projections:?} {}", site.weight);
        }
        assert!(model.embed_tokens_per_layer.is_quantized(), "in its file, as it is stored");
        assert_eq!(model.embed_tokens.is_quantized(), embedding_int8);
        let gap = l2_relative(&hidden(config, &source, &holding), &exact);
        assert!(gap <= farthest, "{projections:?}: {gap:e}");
    }
}

/// The golden says which tokens the per-layer table has no row of; they are there.
#[test]
fn some_ids_are_beyond_the_per_layer_table() {
    let Case { rows, model, .. } = case(&Device::flex());
    let words = model.config.vocab_size_per_layer_input as u32;
    assert!(rows.iter().flat_map(|(ids, _)| ids).any(|&id| id >= words));
    let Carry { shared, .. } = model.embed(&Inputs::of(vec![0, words]), &BaseOnly);
    assert_eq!(shared.len(), 7);
}

/// A folder whose models `m` (64 words) and `t` (512, with the tiny tokenizer) are the golden's, as parts of multimodal
/// checkpoints.
pub fn bench() -> Bench {
    let bench = Bench::new();
    let source = folder("gemma3n/model/model.safetensors");
    let bytes = std::fs::read(source).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, repeated) in [("m", 1), ("t", 8)] {
        let mut owned: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, view) in file.tensors() {
            let id = TensorId::parse_hf(&name).unwrap();
            let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
            if id == TensorId::EmbedTokens {
                shape[0] *= repeated;
                data = data.repeat(repeated);
            }
            owned.push((Spelling::LanguageModelInside.name(&id), view.dtype(), shape, data));
        }
        owned.push((
            "model.vision_tower.timm_model.conv_stem.conv.weight".into(),
            Dtype::F32,
            vec![1],
            vec![0, 0, 0, 0],
        ));
        let views = owned
            .iter()
            .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        bench.write(&format!("{name}/model.safetensors"), safetensors::serialize(views, None).unwrap());
        let mut config = multimodal();
        config["text_config"]["vocab_size"] = json!(64 * repeated);
        bench.write(&format!("{name}/config.json"), config.to_string());
    }
    copy(&folder("tokenizer"), &bench.path("t"));
    let mut rows = rows(40);
    for key in ["input_ids", "labels"] {
        for row in &mut rows {
            for id in row[key].as_array_mut().unwrap() {
                *id = json!(if id.as_i64().unwrap() < 0 { -100 } else { 2 + id.as_i64().unwrap() % 62 });
            }
        }
    }
    bench.write("rows.jsonl", lines(&rows));
    bench.write("prompts.jsonl", lines(&[json!({"prompt": "What is two and two?"}), json!({"prompt": "And a cat?"})]));
    bench
}

#[test]
fn every_verb_takes_a_gemma3n() {
    let bench = bench();
    let model = bench.run("inspect m --json").json();
    assert_eq!((&model["architecture"], &model["multimodal"]), (&json!("Gemma 3n"), &json!(true)));
    assert_eq!((&model["tower_tensors"], &model["unused_tensors"]), (&json!(1), &json!(0)));
    let forecast = bench.run("estimate r.yaml --json").json();
    assert!(
        forecast["memory"]["base_bytes"].as_u64().unwrap() > 0 && forecast["seconds_per_step"].as_f64().unwrap() > 0.0
    );

    let said = bench.run("train r.yaml");
    assert!(said.stderr.contains("the language model is used, not its `vision_tower`"), "{}", said.stderr);
    said.ok();
    let adapter = bench.read("out/adapter/adapter_model.safetensors");
    let adapter = SafeTensors::deserialize(&adapter).unwrap();
    let keys = adapter.names();
    for part in ["layers.0.altup.modality_router", "layers.6.self_attn.q_proj", "altup_unembed_projections.2"] {
        let key = format!("base_model.model.model.language_model.{part}.lora_A.weight");
        assert!(keys.iter().any(|name| **name == key), "{key}");
    }
    assert!(!keys.iter().any(|name| name.contains("layers.6.self_attn.k_proj")));

    // The merged folder, in the names of its base and with its towers, scores as base and adapter do.
    bench.run("merge --model m --adapter out/adapter --output merged --dtype f32").ok();
    bench.run("score --model m --adapter out/adapter --dtype f32 --input rows.jsonl --output one.jsonl").ok();
    bench.run("score --model merged --input rows.jsonl --output other.jsonl").ok();
    let losses = |name: &str| -> Vec<f64> {
        let lines = bench.text(name);
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["nll"].as_f64().unwrap()).collect()
    };
    for (one, other) in losses("one.jsonl").into_iter().zip(losses("other.jsonl")) {
        assert!((one - other).abs() <= 1e-4 * one, "{one} {other}");
    }
    let merged = bench.read("merged/model.safetensors");
    let merged = SafeTensors::deserialize(&merged).unwrap();
    assert!(merged.tensor("model.vision_tower.timm_model.conv_stem.conv.weight").is_ok());
    assert!(merged.tensor("model.language_model.layers.3.altup.correct_output_scale").is_ok());

    let together = bench.run("generate --model t --input prompts.jsonl --max-tokens 6").ok();
    let alone = bench.run("generate --model t --input prompts.jsonl --batch-size 1 --max-tokens 6").ok();
    assert_eq!(alone, together);
    bench.run("train r.yaml --set model.quantization=nf4_double --set output.dir=packed --set adapter.target_modules=[q_proj]").ok();
}

#[test]
fn a_smaller_model_is_cut_out_of_a_larger_one() {
    let bench = bench();
    let said = bench.run("export slice --model m --output s --without-layers 1,4 --intermediate-size 16 --json").json();
    assert_eq!((&said["layers"], &said["intermediate_size"]), (&json!([0, 2, 3, 5, 6]), &json!([16, 16, 16, 16, 16])));
    let config: Value = serde_json::from_slice(&bench.read("s/config.json")).unwrap();
    let text = &config["text_config"];
    assert_eq!((&text["num_hidden_layers"], &text["num_kv_shared_layers"]), (&json!(5), &json!(2)));
    assert_eq!(text["activation_sparsity_pattern"], json!([0.95, 0.0, 0.0, 0.0, 0.5]));

    let [large, small] = ["m", "s"].map(|name| bench.read(&format!("{name}/model.safetensors")));
    let [large, small] = [&large, &small].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let of = |file: &SafeTensors, name: &str| -> (Vec<usize>, Vec<u16>) {
        let view = file.tensor(&format!("model.language_model.{name}")).unwrap();
        let values = view.data().as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        (view.shape().to_vec(), values)
    };
    for (at, from) in [0usize, 2, 3, 5, 6].into_iter().enumerate() {
        let name = |layer: usize, part: &str| format!("layers.{layer}.{part}.weight");
        let pair = |part: &str| (of(&small, &name(at, part)), of(&large, &name(from, part)));
        let (cut, whole) = pair("self_attn.q_proj");
        assert_eq!(cut, whole);
        let ((shape, cut), (_, whole)) = pair("mlp.up_proj");
        assert_eq!((shape, &cut[..]), (vec![16, 32], &whole[..16 * 32]));
        let ((shape, cut), ([_, width], whole)) = (pair("mlp.down_proj").0, {
            let (shape, values) = pair("mlp.down_proj").1;
            ([shape[0], shape[1]], values)
        });
        assert_eq!(shape, [32, 16]);
        for row in 0..32 {
            assert_eq!(cut[row * 16..][..16], whole[row * width..][..16], "layer {from}, row {row}");
        }
        let ((_, cut), (_, whole)) =
            (of(&small, "embed_tokens_per_layer.weight"), of(&large, "embed_tokens_per_layer.weight"));
        for word in 0..56 {
            assert_eq!(cut[word * 40 + at * 8..][..8], whole[word * 56 + from * 8..][..8], "layer {from}, word {word}");
        }
        let ((_, cut), (_, whole)) =
            (of(&small, "per_layer_model_projection.weight"), of(&large, "per_layer_model_projection.weight"));
        assert_eq!(cut[at * 8 * 32..][..8 * 32], whole[from * 8 * 32..][..8 * 32]);
    }
    bench.run("train r.yaml --set model.base=s --set training.max_steps=1").ok();

    let refused = |more: &str| bench.run(&format!("export slice --model m --output x {more}")).problem().to_owned();
    assert!(refused("--without-layers 2").contains("layer 5 reads the keys and values of layer 2"));
    assert!(refused("--intermediate-size 32").contains("layer 0 cannot be 32 wide"));
    assert!(!bench.path("x").exists());
}
