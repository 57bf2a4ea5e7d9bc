//! Logits, losses, activations and gradients against transformers + PEFT (goldens by `scripts/make_model_goldens.py`),
//! on every device that this build has and this machine can use.

use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, LoraModule};
use gemma_tune::device;
use gemma_tune::model::{self, Inputs, LanguageModel, ModelConfig};
use gemma_tune::nn::{BaseOnly, Segments, SidePath};
use gemma_tune::progress::Silent;
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative, max_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::step::{self, StepSettings};
use gemma_tune::weights::{Holding, Source};
use std::sync::Arc;

/// A tiny model with an adapter, and what the reference computes on them.
pub struct Case {
    golden: Golden,
    pub model: Box<dyn LanguageModel>,
    pub adapter: Adapter,
    /// The rows without their padding.
    rows: Vec<(Vec<u32>, Vec<i32>)>,
}

const CASES: [&str; 3] = ["lora", "rslora_scaled_rope", "dora"];

/// Every case on every device, each with a name.
fn cases() -> impl Iterator<Item = (String, Case)> {
    let on = |name: &'static str| {
        move |found: device::Found| (format!("{name} on {}", found.name()), case(name, &found.device))
    };
    CASES.into_iter().flat_map(move |name| device::all().into_iter().map(on(name)))
}

pub fn case(name: &str, device: &Device) -> Case {
    let dir = folder("model").join(name);
    let golden = Golden::read(&dir.join("golden.safetensors"));
    let (config, _) = ModelConfig::from_folder(&dir.join("model")).unwrap();
    let source = Source::open_folder(&dir.join("model")).unwrap();
    let model = model::load(config, &source, &Holding::default(), device, &Silent).unwrap();
    let tensors = Golden::read(&dir.join("adapter/adapter_model.safetensors"));
    let tensor = |key: &str| {
        let values: Vec<f32> = tensors.values(key).iter().map(|&x| x as f32).collect();
        let shape = match tensors.shape(key) {
            [out] => [1, *out],
            [rows, columns] => [*rows, *columns],
            other => panic!("{other:?}"),
        };
        Tensor::<2>::from_data(TensorData::new(values, shape), device)
    };
    let modules = model.sites().into_iter().map(|site| {
        let key = format!("base_model.model.{}", site.module_path(false));
        LoraModule {
            site,
            a: tensor(&format!("{key}.lora_A.weight")),
            b: tensor(&format!("{key}.lora_B.weight")),
            magnitude: (name == "dora").then(|| tensor(&format!("{key}.lora_magnitude_vector"))),
            scaling: if name.starts_with("rslora") { 8.0 / 2.0 } else { 8.0 / 4.0 },
            subtracted: None,
        }
    });
    let adapter = Adapter::new(modules.collect());
    let [b, s] = *golden.shape("input_ids") else { panic!() };
    let row = |name: &str, i: usize| golden.values(name)[i * s..(i + 1) * s].to_vec();
    let rows = (0..b)
        .map(|i| {
            let len = row("attention_mask", i).iter().sum::<f64>() as usize;
            let ids = row("input_ids", i)[..len].iter().map(|&x| x as u32).collect();
            let labels = row("labels", i)[..len].iter().map(|&x| x as i32).collect();
            (ids, labels)
        })
        .collect();
    Case { golden, model, adapter, rows }
}

fn batch(rows: &[(Vec<u32>, Vec<i32>)]) -> MicroBatch {
    let ids = rows.iter().flat_map(|(ids, _)| ids.clone()).collect();
    let labels: Vec<i32> = rows.iter().flat_map(|(_, labels)| labels.clone()).collect();
    MicroBatch::new(ids, &labels, Segments::from_lengths(rows.iter().map(|(ids, _)| ids.len())))
}

/// A golden's values for the tokens that are not padding.
fn unpadded(case: &Case, name: &str) -> Vec<f64> {
    let [_, s, width] = *case.golden.shape(name) else { panic!() };
    let values = case.golden.values(name);
    let rows = case.rows.iter().enumerate();
    rows.flat_map(|(i, (ids, _))| values[i * s * width..][..ids.len() * width].to_vec()).collect()
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

#[test]
fn activations_and_logits_equal_the_reference() {
    for (name, case) in cases() {
        for (variant, side) in [("base", &BaseOnly as &dyn SidePath), ("lora", &case.adapter)] {
            let all = batch(&case.rows);
            let layout = case.model.layout(&all.inputs);
            let mut x = case.model.embed(&all.inputs, side);
            for layer in 0..case.model.num_layers() {
                x = case.model.layer(layer, x, &layout, side);
                let expected = unpadded(&case, &format!("{variant}.model.layers.{layer}"));
                let gap = max_relative(&x.hidden.to_data().try_to_vec::<f32>().unwrap(), &expected);
                assert!(gap <= 1e-5, "{name} {variant} layer {layer}: {gap:e}");
            }
            let logits = case.model.logits(case.model.last_hidden(x, side)).into_data().try_to_vec::<f32>().unwrap();
            let gap = max_relative(&logits, &unpadded(&case, &format!("{variant}.logits")));
            assert!(gap <= 1e-5, "{name} {variant} logits: {gap:e}");
        }
    }
}

#[test]
fn losses_equal_the_reference() {
    for (name, case) in cases() {
        let all = batch(&case.rows);
        for (variant, side) in [("base", &BaseOnly as &dyn SidePath), ("lora", &case.adapter)] {
            let loss = backprop::loss(case.model.as_ref(), side, &all) / all.supervised() as f64;
            let expected = case.golden.values(&format!("{variant}.loss"))[0];
            assert!((loss - expected).abs() <= 1e-5 * expected, "{name} {variant}: {loss} {expected}");
        }
    }
}

#[test]
fn gradients_equal_the_reference() {
    for (name, case) in cases() {
        let (loss, gradients) =
            step::gradients(case.model.as_ref(), &case.adapter, &[batch(&case.rows)], 0, &settings(true));
        let expected = case.golden.values("lora.loss")[0];
        assert!((loss - expected).abs() <= 1e-5 * expected, "{name}: {loss} {expected}");
        let mut kinds = vec!["lora_A.weight", "lora_B.weight"];
        if name.starts_with("dora") {
            kinds.push("lora_magnitude_vector");
        }
        let keys = case.adapter.modules().iter().flat_map(|m| {
            let path = format!("grad.base_model.model.{}", m.site.module_path(false));
            kinds.iter().map(move |kind| format!("{path}.{kind}"))
        });
        let keys: Vec<String> = keys.collect();
        assert_eq!(keys.len(), gradients.len());
        assert_eq!(keys.len(), case.golden.names().filter(|n| n.starts_with("grad.")).count());
        for (key, gradient) in keys.iter().zip(gradients) {
            let gap = l2_relative(&gradient.into_data().try_to_vec::<f32>().unwrap(), case.golden.values(key));
            assert!(gap <= 1e-4, "{name} {key}: {gap:e}");
        }
    }
}

fn assert_close(got: Vec<Tensor<2>>, expected: Vec<Tensor<2>>) {
    for (got, expected) in got.into_iter().zip(expected) {
        let expected: Vec<f64> = expected.into_data().iter::<f32>().map(f64::from).collect();
        let gap = l2_relative(&got.into_data().try_to_vec::<f32>().unwrap(), &expected);
        assert!(gap <= 1e-5, "{gap:e}");
    }
}

#[test]
fn checkpointing_changes_nothing() {
    for found in device::all() {
        let case = case("lora", &found.device);
        let window = [batch(&case.rows)];
        let (_, on) = step::gradients(case.model.as_ref(), &case.adapter, &window, 0, &settings(true));
        let (_, off) = step::gradients(case.model.as_ref(), &case.adapter, &window, 0, &settings(false));
        assert_close(on, off);
    }
}

#[test]
fn accumulated_packed_and_single_gradients_are_equal() {
    for found in device::all() {
        let case = case("lora", &found.device);
        let packed = [batch(&case.rows)];
        let accumulated: Vec<MicroBatch> = case.rows.iter().map(|row| batch(std::slice::from_ref(row))).collect();
        let (loss_packed, packed) = step::gradients(case.model.as_ref(), &case.adapter, &packed, 0, &settings(true));
        let (loss_accumulated, split) =
            step::gradients(case.model.as_ref(), &case.adapter, &accumulated, 0, &settings(true));
        assert!((loss_packed - loss_accumulated).abs() <= 1e-6 * loss_packed);
        assert_close(split, packed);
    }
}

#[test]
fn cached_decoding_equals_the_whole_sequence() {
    for found in device::all() {
        let case = case("lora", &found.device);
        let all = batch(&case.rows);
        let whole = case.model.logits(case.model.hidden(&all.inputs, &case.adapter));
        let whole = whole.into_data().try_to_vec::<f32>().unwrap();
        // Both rows at once: five tokens first, then one by one; the shorter row ends earlier.
        let mut cache = case.model.cache(case.rows.len());
        let width = case.model.config().vocab_size();
        let mut got = vec![Vec::new(); case.rows.len()];
        let mut at = 0;
        while at < 24 {
            let new = if at == 0 { 5 } else { 1 };
            let takes: Vec<&[u32]> =
                case.rows.iter().map(|(ids, _)| &ids[at.min(ids.len())..(at + new).min(ids.len())]).collect();
            let lengths: Vec<usize> = takes.iter().map(|t| t.len()).collect();
            let hidden = case.model.hidden_cached(&Inputs::of(takes.concat()), &lengths, &mut cache, &case.adapter);
            let logits = case.model.logits(hidden).into_data().try_to_vec::<f32>().unwrap();
            let mut logits = logits.chunks(width);
            for (row, &len) in lengths.iter().enumerate() {
                (0..len).for_each(|_| got[row].extend_from_slice(logits.next().unwrap()));
            }
            at += new;
        }
        let expected: Vec<f64> = whole.iter().map(|&x| f64::from(x)).collect();
        let gap = max_relative(&got.concat(), &expected);
        assert!(gap <= 1e-5, "{gap:e}");
    }
}

#[test]
fn dropout_reaches_every_adapter_in_training() {
    for found in device::all() {
        for name in ["lora", "dora"] {
            let case = case(name, &found.device);
            let window = [batch(&case.rows)];
            let under = |lora_dropout, activation_checkpointing| {
                let settings = StepSettings { lora_dropout, ..settings(activation_checkpointing) };
                step::gradients(case.model.as_ref(), &case.adapter, &window, 3, &settings)
            };
            // With every input dropped the base is left, whatever DoRA's magnitudes say, and nothing to learn.
            let (loss, gradients) = under(1.0, false);
            let base = case.golden.values("base.loss")[0];
            assert!((loss - base).abs() <= 1e-5 * base, "{name} on {}: {loss} {base}", found.name());
            assert_eq!(step::norm(&gradients), 0.0, "{name} on {}", found.name());
            // A layer that is run again drops the same inputs.
            let ((kept, from_kept), (again, from_again)) = (under(0.5, false), under(0.5, true));
            assert!((kept - again).abs() <= 1e-6 * kept, "{name} on {}: {kept} {again}", found.name());
            assert_close(from_again, from_kept);
            let whole = under(0.0, false).0;
            assert!((kept - whole).abs() > 1e-3 * whole, "{name} on {}: {kept} {whole}", found.name());
        }
    }
}
