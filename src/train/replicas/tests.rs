use super::*;
use crate::adapter::Init;
use crate::adapter::init::{self, LoraOptions};
use crate::adapter::peft::testing::golden;
use crate::fence::fenced;
use crate::model::{self, ModelConfig};
use crate::nn::Segments;
use crate::progress::Silent;
use crate::random::Rng;
use crate::train::backprop::NEVER;
use crate::train::objective::Sft;
use crate::train::recompute::Recompute;
use crate::train::step::OneDevice;
use crate::weights::{Holding, Source};
use burn::tensor::Device;
use std::sync::Arc;

fn model() -> Box<dyn LanguageModel> {
    let source = Source::open_folder(&golden("text")).unwrap();
    let (config, _) = ModelConfig::from_folder(&golden("text")).unwrap();
    model::load(config, &source, &Holding::default(), &Device::flex(), &Silent).unwrap()
}

/// An adapter whose B is not zero, so that its A has gradients.
fn adapter(model: &dyn LanguageModel) -> Adapter {
    let options = LoraOptions { r: 2, lora_alpha: 4.0, use_rslora: false, use_dora: false, init: Init::Gaussian };
    let mut adapter = init::create(model, &model.sites(), options, Rng::new(1));
    let filled = adapter.parameters().into_iter().map(|parameter| parameter.add_scalar(0.01)).collect();
    adapter.set_parameters(filled);
    adapter
}

/// Micro-batches of other lengths and words each; in the second one word alone has a loss.
fn window(micro_batches: usize) -> Vec<MicroBatch> {
    let batch = |micro: usize| {
        let length = 4 + 5 * micro % 11;
        let ids: Vec<u32> = (0..length).map(|at| 2 + ((7 * micro + at * at) % 11) as u32).collect();
        let is_learnt = |at: usize| micro != 1 || at == 3;
        let label = |(at, id): (usize, &u32)| if is_learnt(at) { id.cast_signed() } else { -100 };
        let labels: Vec<i32> = ids.iter().enumerate().map(label).collect();
        MicroBatch::new(ids, &labels, Segments::from_lengths([length]))
    };
    (0..micro_batches).map(batch).collect()
}

fn settings() -> StepSettings {
    StepSettings {
        objective: Arc::new(Sft),
        max_grad_norm: 1.0,
        recompute: Recompute::NOTHING,
        lora_dropout: 0.2,
        rng: Rng::new(3),
    }
}

/// The loss and the gradients of a window, to the bit.
fn bits(compute: &dyn WindowGradients, adapter: &Adapter, window: &[MicroBatch]) -> (u64, Vec<Vec<u32>>) {
    let watch = Watch { stop: &NEVER, on_progress: &mut |_| {} };
    let Computed { loss, gradients, .. } = compute.gradients(adapter, window, 5, &settings(), watch).unwrap();
    let bits = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().map(f32::to_bits).collect();
    (loss.to_bits(), gradients.into_iter().map(bits).collect())
}

#[test]
fn any_number_of_replicas_gives_the_bits_of_one_whatever_the_window() {
    let model = model();
    let adapter = adapter(model.as_ref());
    for micro_batches in [1, 2, 3, 5, 8] {
        let window = window(micro_batches);
        let expected = bits(&OneDevice(model.as_ref()), &adapter, &window);
        assert!(expected.1.iter().flatten().any(|bits| *bits != 0), "there are gradients");
        for count in 1..=4 {
            let replicas = Replicas::new(&vec![model.as_ref(); count], 1).unwrap();
            // The same threads for one window after the other.
            for _ in 0..2 {
                let got = bits(&replicas, &adapter, &window);
                assert!(got == expected, "{count} replicas, {micro_batches} micro-batches");
            }
        }
    }
    let several_threads = Replicas::new(&[model.as_ref(), model.as_ref()], 2).unwrap();
    assert!(bits(&several_threads, &adapter, &window(5)) == bits(&OneDevice(model.as_ref()), &adapter, &window(5)));
}

#[test]
fn a_window_is_watched_as_if_its_micro_batches_followed_one_another() {
    let model = model();
    let adapter = adapter(model.as_ref());
    let window = window(5);
    let watched = |compute: &dyn WindowGradients| {
        let (mut parts, mut batches) = (Vec::new(), Vec::new());
        let mut on_progress = |passed| match passed {
            Passed::Part { micro_batch, part } => parts.push(micro_batch as f64 - 1.0 + part),
            Passed::Batches { done, loss } => batches.push((done, loss.to_bits())),
        };
        let watch = Watch { stop: &NEVER, on_progress: &mut on_progress };
        compute.gradients(&adapter, &window, 0, &settings(), watch).unwrap();
        (parts, batches)
    };
    let (_, expected) = watched(&OneDevice(model.as_ref()));
    for count in [2, 3] {
        let (parts, batches) = watched(&Replicas::new(&vec![model.as_ref(); count], 1).unwrap());
        assert_eq!(batches, expected, "{count}");
        assert!(parts.is_sorted() && parts.iter().all(|part| (0.0..5.0).contains(part)), "{count}: {parts:?}");
    }
}

#[test]
fn all_replicas_stop_between_layers() {
    let model = model();
    let adapter = adapter(model.as_ref());
    let replicas = Replicas::new(&[model.as_ref(); 3], 1).unwrap();
    for after in [1, 2, 7, 20] {
        let (stop, mut heard) = (AtomicBool::new(false), 0);
        let mut on_progress = |_| {
            heard += 1;
            stop.store(heard >= after, Ordering::SeqCst);
        };
        let watch = Watch { stop: &stop, on_progress: &mut on_progress };
        assert!(replicas.gradients(&adapter, &window(64), 0, &settings(), watch).is_none(), "{after}");
        // The next window begins anew.
        assert!(bits(&replicas, &adapter, &window(3)) == bits(&OneDevice(model.as_ref()), &adapter, &window(3)));
    }
}

#[test]
fn a_replica_that_fails_ends_the_window_as_a_failure_here_does() {
    let model = model();
    let adapter = adapter(model.as_ref());
    let replicas = Replicas::new(&[model.as_ref(); 2], 1).unwrap();
    for failing in 0..4 {
        let mut window = window(4);
        window[failing].inputs.input_ids[1] = u32::MAX; // no word
        let failed = fenced("step 1", || bits(&replicas, &adapter, &window)).unwrap_err();
        assert_eq!(failed.kind(), Kind::Bug, "{failing}: not of the device");
        assert!(failed.what().starts_with("step 1: a mistake in gemma-tune"), "{failing}: {failed}");
    }
    assert!(bits(&replicas, &adapter, &window(2)) == bits(&OneDevice(model.as_ref()), &adapter, &window(2)));
}
