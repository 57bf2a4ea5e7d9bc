//! Losses of pairs and of judged answers against TRL (goldens by `scripts/make_preference_goldens.py`).

use crate::fidelity::{Case, case};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, TrainedTensor};
use gemma_tune::infer::score;
use gemma_tune::model::{LanguageModel, WholeTensor};
use gemma_tune::nn::{BaseOnly, Segments};
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::{Cpo, CpoLoss, Dpo, DpoLoss, Kto, KtoLoss, Objective, Orpo, Reward};
use gemma_tune::train::recompute::Recompute;
use gemma_tune::train::step::{self, Computed, OneDevice, StepSettings, Watch, WindowGradients};
use std::collections::BTreeMap;
use std::sync::Arc;

/// As in the script.
const BETA: f64 = 0.4;
const SMOOTHING: f64 = 0.1;
const STRIDE: usize = 11;
pub const METRICS: [&str; 6] =
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
    batch.reference = batch.log_probabilities(&losses);
    batch
}

/// The same, with what both sequences of a pair begin with once.
fn sharing(model: &dyn LanguageModel, sequences: &[(Vec<u32>, Vec<i32>)]) -> MicroBatch {
    let (mut ids, mut labels, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for pair in sequences.chunks(2) {
        let [chosen, rejected] = pair else { panic!("a pair") };
        let prompt = chosen.1.iter().zip(&rejected.1).take_while(|both| *both == (&-100, &-100)).count();
        assert!(prompt > 1 && chosen.0[..prompt] == rejected.0[..prompt]);
        for ((own, of_own), shared) in [(chosen, 0), (rejected, prompt)] {
            ids.extend_from_slice(&own[shared..]);
            labels.extend_from_slice(&of_own[shared..]);
            lengths.push((own.len() - shared, shared));
        }
    }
    let mut batch = MicroBatch::new(ids, &labels, Segments::sharing(lengths));
    let losses = backprop::losses(model, &BaseOnly, &batch);
    batch.reference = batch.log_probabilities(&losses);
    batch
}

pub fn computed(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    window: &[MicroBatch],
    objective: Arc<dyn Objective>,
) -> Computed {
    let settings = StepSettings {
        objective,
        max_grad_norm: 0.0,
        recompute: Recompute::NOTHING,
        lora_dropout: 0.0,
        rng: Rng::new(0),
    };
    let watch = Watch { stop: &backprop::NEVER, on_progress: &mut |_| {} };
    OneDevice(model).gradients(adapter, window, 0, &settings, watch).unwrap()
}

/// What the golden has of gradients: every [`STRIDE`]th value of all of them, in the order of PEFT's names.
pub fn sampled(adapter: &Adapter, gradients: &[Tensor<2>]) -> Vec<f32> {
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
    // Nor does it matter whether a prompt is computed once or twice.
    let shared = sharing(model.as_ref(), &sequences);
    let prompts: f64 = golden.values("prompts").iter().step_by(2).sum();
    assert_eq!(shared.tokens() + prompts as usize, at_once[0].tokens());
    for activation_checkpointing in [false, true] {
        let objective = Dpo { beta: BETA, label_smoothing: 0.0, losses: vec![(DpoLoss::Sigmoid, 1.0)] };
        let settings = StepSettings {
            objective: Arc::new(objective),
            max_grad_norm: 0.0,
            recompute: activation_checkpointing.into(),
            lora_dropout: 0.0,
            rng: Rng::new(0),
        };
        let of = |batch: &MicroBatch| {
            let (loss, gradients) =
                step::gradients(model.as_ref(), &adapter, std::slice::from_ref(batch), 0, &settings);
            (loss, sampled(&adapter, &gradients))
        };
        let ((loss, gradient), (expected, twice)) = (of(&shared), of(&at_once[0]));
        let twice: Vec<f64> = twice.into_iter().map(f64::from).collect();
        let gap = l2_relative(&gradient, &twice);
        assert!(gap <= 1e-5 && (loss - expected).abs() <= 1e-6 * expected, "{gap:e}: {loss} {expected}");
    }
    let windows = [windows.to_vec(), vec![vec![shared]]].concat();
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
            let objective = Dpo { beta: BETA, label_smoothing: SMOOTHING, losses: losses.to_vec() };
            let computed = computed(model.as_ref(), &adapter, window, Arc::new(objective));
            check(&golden, &format!("{name} in {parts}"), name, &adapter, &computed, ("metrics", &METRICS));
        }
    }
}

/// Holds what was computed of a window against the golden called `name`, whose metrics `kept` these are.
fn check(
    golden: &Golden,
    what: &str,
    name: &str,
    adapter: &Adapter,
    Computed { loss, metrics, gradients }: &Computed,
    (kept, names): (&str, &[&str]),
) {
    let expected = golden.values(&format!("{name}.loss"))[0];
    assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "{what}: {loss}, expected {expected}");
    let gap = l2_relative(&sampled(adapter, gradients), golden.values(&format!("{name}.gradient")));
    assert!(gap <= 1e-4, "{what}: the gradient is {gap:e} off");
    for (metric, expected) in names.iter().zip(golden.values(kept)) {
        let got = metrics[*metric];
        assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{metric} of {what}: {got} {expected}");
    }
}

#[test]
fn losses_without_a_reference_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    let cpo = |loss, label_smoothing| -> Arc<dyn Objective> {
        Arc::new(Cpo { beta: BETA, label_smoothing, cpo_alpha: 0.3, loss, simpo_gamma: 0.5, alpha: 0.0 })
    };
    let alphapo = Cpo {
        beta: BETA,
        label_smoothing: SMOOTHING,
        cpo_alpha: 0.3,
        loss: CpoLoss::Simpo,
        simpo_gamma: 0.5,
        alpha: 0.25,
    };
    let of_pair = [
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/rejected",
        "logps/chosen",
        "nll_loss",
    ];
    let of_odds = [of_pair.as_slice(), &["log_odds_ratio", "log_odds_chosen"]].concat();
    let kinds: [(&str, Arc<dyn Objective>, &[&str]); 7] = [
        ("orpo", Arc::new(Orpo { beta: BETA, nll_on_prompt: true }), &of_odds),
        ("orpo_answer", Arc::new(Orpo { beta: BETA, nll_on_prompt: false }), &["nll_loss"]),
        ("cpo", cpo(CpoLoss::Cpo, SMOOTHING), &of_pair),
        ("cpo_hinge", cpo(CpoLoss::CpoHinge, 0.0), &of_pair),
        ("cpo_ipo", cpo(CpoLoss::CpoIpo, 0.0), &of_pair),
        ("simpo", cpo(CpoLoss::Simpo, SMOOTHING), &of_pair),
        ("alphapo", Arc::new(alphapo), &of_pair),
    ];
    for (name, objective, metrics) in kinds {
        let batch = |sequences: &[(Vec<u32>, Vec<i32>)]| {
            let batch = micro_batch(model.as_ref(), sequences);
            if objective.needs().prompts { batch.with_prompts() } else { batch }
        };
        // However a window is divided, its loss is the mean of all its pairs, and that of its tokens.
        let shared = sharing(model.as_ref(), &sequences);
        let shared = if objective.needs().prompts { shared.with_prompts() } else { shared };
        for window in [vec![batch(&sequences)], sequences.chunks(2).map(batch).collect(), vec![shared]] {
            let computed = computed(model.as_ref(), &adapter, &window, objective.clone());
            let what = format!("{name} in {}", window.len());
            check(&golden, &what, name, &adapter, &computed, (&format!("{name}.metrics"), metrics));
        }
    }
}

#[test]
fn losses_of_judged_answers_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    // Each prompt with the answer to the one before it.
    let others: Vec<(Vec<u32>, Vec<i32>)> = (0..sequences.len())
        .map(|at| {
            let (own, other) = (&sequences[at], &sequences[(at + sequences.len() - 1) % sequences.len()]);
            let start = |row: &(Vec<u32>, Vec<i32>)| row.1.iter().position(|&label| label != -100).expect("an answer");
            let ids = [&own.0[..start(own)], &other.0[start(other)..]].concat();
            let labels = [&own.1[..start(own)], &other.1[start(other)..]].concat();
            (ids, labels)
        })
        .collect();
    let batch = |range: std::ops::Range<usize>| {
        let mut batch = micro_batch(model.as_ref(), &sequences[range.clone()]);
        batch.desirable = range.clone().map(|at| at % 2 == 0).collect();
        let mut mismatched = micro_batch(model.as_ref(), &others[range.clone()]);
        mismatched.reference = golden.values("mismatched")[range].to_vec();
        batch.mismatched = Some(Box::new(mismatched));
        batch
    };
    let kto = |loss| Kto { beta: BETA, loss, desirable_weight: 1.5, undesirable_weight: 0.7 };
    let metrics = ["kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"];
    let whole = vec![batch(0..6)];
    let parts = vec![batch(0..2), batch(2..5), batch(5..6)];
    // What is estimated of a batch is its own; without that, windows may be divided.
    for (name, loss, windows) in
        [("kto", KtoLoss::Kto, vec![&whole]), ("apo_zero_unpaired", KtoLoss::ApoZeroUnpaired, vec![&whole, &parts])]
    {
        for window in windows {
            let computed = computed(model.as_ref(), &adapter, window, Arc::new(kto(loss)));
            let what = format!("{name} in {}", window.len());
            check(&golden, &what, name, &adapter, &computed, (&format!("{name}.metrics"), &metrics));
        }
    }
    // What nobody judged, or asked the reference about, makes no loss that looks like one.
    let of = |change: &dyn Fn(&mut MicroBatch)| {
        let mut batch = whole[0].clone();
        change(&mut batch);
        computed(model.as_ref(), &adapter, &[batch], Arc::new(kto(KtoLoss::Kto))).loss
    };
    assert!(of(&|_| {}).is_finite());
    assert!(of(&|batch| batch.desirable.truncate(5)).is_nan());
    assert!(of(&|batch| batch.reference.clear()).is_nan());
    assert!(of(&|batch| batch.mismatched = None).is_nan());
}

#[test]
fn rewards_of_pairs_and_their_gradients_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    let values: Vec<f32> = golden.values("head").iter().map(|&x| x as f32).collect();
    let tensor = WholeTensor::score(values.len());
    let head = Tensor::from_data(TensorData::new(values, tensor.dims), &Device::flex());
    let without = adapter.clone();
    let adapter = adapter.with_whole(vec![TrainedTensor { tensor, value: head }]);
    let metrics = ["accuracy", "margin", "mean_reward", "min_reward", "max_reward"];
    for (name, center_rewards_coefficient, margins) in
        [("reward", 0.0, Vec::new()), ("reward_centred", 0.25, golden.values("margins").to_vec())]
    {
        let batch = |first: usize, sequences: &[(Vec<u32>, Vec<i32>)]| {
            let batch = micro_batch(model.as_ref(), sequences).at_ends();
            let margins = margins.iter().skip(first).take(sequences.len() / 2).copied().collect();
            MicroBatch { margins, ..batch }
        };
        let parts = sequences.chunks(2).enumerate().map(|(pair, sequences)| batch(pair, sequences)).collect();
        let shared = MicroBatch { margins: margins.clone(), ..sharing(model.as_ref(), &sequences).at_ends() };
        for window in [vec![batch(0, &sequences)], parts, vec![shared]] {
            let computed = computed(model.as_ref(), &adapter, &window, Arc::new(Reward { center_rewards_coefficient }));
            let what = format!("{name} in {}", window.len());
            check(&golden, &what, name, &adapter, &computed, (&format!("{name}.metrics"), &metrics));
            let of_head = computed.gradients.last().unwrap().to_data().try_to_vec::<f32>().unwrap();
            let gap = l2_relative(&of_head, golden.values(&format!("{name}.head_gradient")));
            assert!(gap <= 1e-4, "{what}: the gradient of the head is {gap:e} off");
        }
    }
    // What is asked of the same sequences by themselves.
    let inputs = micro_batch(model.as_ref(), &sequences).inputs;
    let rewards = score::rewards(model.as_ref(), &adapter, &inputs).unwrap();
    let least = rewards.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((least - golden.values("reward.metrics")[3]).abs() < 1e-5, "{rewards:?}");
    // Without a head there is no reward, and no loss that looks like one.
    assert_eq!(score::rewards(model.as_ref(), &without, &inputs), None);
    let window = [micro_batch(model.as_ref(), &sequences).at_ends()];
    let reward = Arc::new(Reward { center_rewards_coefficient: 0.0 });
    assert!(computed(model.as_ref(), &without, &window, reward).loss.is_nan());
}
