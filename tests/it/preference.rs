//! Losses of pairs against TRL (goldens by `scripts/make_preference_goldens.py`).

use crate::bench::{Bench, lines};
use crate::fidelity::{Case, case};
use burn::tensor::{Device, Tensor};
use gemma_tune::adapter::Adapter;
use gemma_tune::model::LanguageModel;
use gemma_tune::nn::{BaseOnly, Segments};
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::{Dpo, DpoLoss};
use gemma_tune::train::step::{Computed, OneDevice, StepSettings, Watch, WindowGradients};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// As in the script.
const BETA: f64 = 0.4;
const SMOOTHING: f64 = 0.1;
const STRIDE: usize = 11;
const METRICS: [&str; 6] =
    ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"];

/// The golden's sequences, each pair's two in turn: ids and labels.
fn sequences(golden: &Golden) -> Vec<(Vec<u32>, Vec<i32>)> {
    let mut ids = golden.values("ids").iter().map(|&id| id as u32);
    let numbers = |name: &str| golden.values(name).iter().map(|&n| n as usize).collect::<Vec<_>>();
    let sequence = |(length, prompt): (usize, usize)| {
        let ids: Vec<u32> = ids.by_ref().take(length).collect();
        let label = |(at, &id): (usize, &u32)| if at < prompt { -100 } else { id as i32 };
        let labels = ids.iter().enumerate().map(label).collect();
        (ids, labels)
    };
    numbers("lengths").into_iter().zip(numbers("prompts")).map(sequence).collect()
}

/// Sequences in one micro-batch, with what the model says of them without an adapter.
fn micro_batch(model: &dyn LanguageModel, sequences: &[(Vec<u32>, Vec<i32>)]) -> MicroBatch {
    let ids = sequences.iter().flat_map(|(ids, _)| ids.clone()).collect();
    let labels: Vec<i32> = sequences.iter().flat_map(|(_, labels)| labels.clone()).collect();
    let segments = Segments::from_lengths(sequences.iter().map(|(ids, _)| ids.len()));
    let mut batch = MicroBatch::new(ids, &labels, segments);
    let losses = backprop::losses(model, &BaseOnly, &batch);
    batch.reference = batch.sequences().into_iter().map(|tokens| -losses[tokens].iter().sum::<f64>()).collect();
    batch
}

fn computed(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    window: &[MicroBatch],
    losses: &[(DpoLoss, f64)],
) -> Computed {
    let settings = StepSettings {
        objective: Arc::new(Dpo { beta: BETA, label_smoothing: SMOOTHING, losses: losses.to_vec() }),
        max_grad_norm: 0.0,
        activation_checkpointing: false,
        lora_dropout: 0.0,
        rng: Rng::new(0),
    };
    let watch = Watch { stop: &backprop::NEVER, on_progress: &mut |_| {} };
    OneDevice(model).gradients(adapter, window, 0, &settings, watch).unwrap()
}

/// What the golden has of gradients: every [`STRIDE`]th value of all of them, in the order of PEFT's names.
fn sampled(adapter: &Adapter, gradients: &[Tensor<2>]) -> Vec<f32> {
    let names = adapter.modules().iter().flat_map(|module| {
        let path = module.site.module_path(false);
        ["A", "B"].map(|part| format!("{path}.lora_{part}.weight"))
    });
    let named: BTreeMap<String, &Tensor<2>> = names.zip(gradients).collect();
    let all = named.values().flat_map(|gradient| gradient.to_data().iter::<f32>().collect::<Vec<_>>());
    all.step_by(STRIDE).collect()
}

#[test]
fn losses_of_pairs_and_their_gradients_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    let batch = |sequences: &[(Vec<u32>, Vec<i32>)]| micro_batch(model.as_ref(), sequences);
    let at_once = [batch(&sequences)];
    for (got, expected) in at_once[0].reference.iter().zip(golden.values("reference")) {
        assert!((got - expected).abs() <= 1e-5 * expected.abs(), "the reference says {got}, expected {expected}");
    }
    // However a window is divided, its loss is the mean of all its pairs, and that of their answers' tokens.
    let windows =
        [at_once.to_vec(), sequences.chunks(2).map(batch).collect(), sequences.chunks(4).map(batch).collect()];
    for (name, losses) in [
        ("sigmoid", &[(DpoLoss::Sigmoid, 1.0)][..]),
        ("hinge", &[(DpoLoss::Hinge, 1.0)]),
        ("ipo", &[(DpoLoss::Ipo, 1.0)]),
        ("exo_pair", &[(DpoLoss::ExoPair, 1.0)]),
        ("nca_pair", &[(DpoLoss::NcaPair, 1.0)]),
        ("robust", &[(DpoLoss::Robust, 1.0)]),
        ("bco_pair", &[(DpoLoss::BcoPair, 1.0)]),
        ("sppo_hard", &[(DpoLoss::SppoHard, 1.0)]),
        ("apo_zero", &[(DpoLoss::ApoZero, 1.0)]),
        ("apo_down", &[(DpoLoss::ApoDown, 1.0)]),
        ("sigmoid_norm", &[(DpoLoss::SigmoidNorm, 1.0)]),
        ("mix", &[(DpoLoss::Sigmoid, 1.0), (DpoLoss::Sft, 0.3)]),
    ] {
        for window in &windows {
            let parts = window.len();
            let Computed { loss, metrics, gradients } = computed(model.as_ref(), &adapter, window, losses);
            let expected = golden.values(&format!("{name}.loss"))[0];
            assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "{name} in {parts}: {loss}, expected {expected}");
            let gap = l2_relative(&sampled(&adapter, &gradients), golden.values(&format!("{name}.gradient")));
            assert!(gap <= 1e-4, "{name} in {parts}: the gradient is {gap:e} off");
            for (metric, expected) in METRICS.iter().zip(golden.values("metrics")) {
                let got = metrics[*metric];
                assert!(
                    (got - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                    "{metric} in {parts}: {got} {expected}"
                );
            }
        }
    }
}

const RECIPE: &str = "\
task: dpo
model: {base: t}
adapter: {r: 4}
data: {train: pairs.jsonl, eval: pairs.jsonl}
preference: {beta: 0.5}
training:
  max_steps: 6
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 3
  learning_rate: 1.0e-2
  lr_scheduler_type: constant
  warmup_steps: 0
output: {dir: out, report_to: [jsonl]}
";

#[test]
fn a_run_learns_what_is_preferred() {
    let bench = Bench::new().with_text();
    let said = |role: &str, text: String| json!([{"role": role, "content": text}]);
    let pair = |i: usize| {
        let (chosen, rejected) =
            (said("assistant", format!("It is {i}.")), said("assistant", "No idea at all.".into()));
        json!({"prompt": said("user", format!("What is {i}?")), "chosen": chosen, "rejected": rejected})
    };
    bench.write("pairs.jsonl", lines(&(0..6).map(pair).collect::<Vec<_>>()));
    bench.write("dpo.yaml", RECIPE);
    let preview = bench.run("data preview dpo.yaml --rows 1 --json").json();
    assert_eq!(preview["segments"].as_array().map(Vec::len), Some(2), "{preview}");

    bench.run("train dpo.yaml").ok();
    let metrics = bench.text("out/metrics.jsonl");
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let number = |line: &Value, name: &str| line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"));
    let steps: Vec<&Value> = metrics.iter().filter(|line| !line["loss"].is_null()).collect();
    let [first, .., last] = steps[..] else { panic!("{metrics:?}") };
    // The policy begins where its reference stays.
    let ln2 = 2.0_f64.ln();
    assert!((number(first, "loss") - ln2).abs() < 1e-4, "{first}");
    for name in METRICS {
        assert!(number(first, name).is_finite());
    }
    assert!(number(first, "rewards/margins").abs() < 1e-3 && number(first, "logps/chosen") < -1.0, "{first}");
    assert!(number(last, "loss") < ln2 && number(last, "rewards/margins") > 0.0, "{last}");
    let evaluations: Vec<f64> = metrics.iter().filter_map(|line| line["eval_loss"].as_f64()).collect();
    let [before, .., after] = evaluations[..] else { panic!("{metrics:?}") };
    assert!((before - ln2).abs() < 1e-4 && after < before, "{evaluations:?}");
    let measured = metrics.iter().rfind(|line| !line["eval_loss"].is_null()).expect("an evaluation");
    assert!(number(measured, "eval_rewards/margins") > 0.0, "{measured}");
}
