//! What a training step asks of a device, counted: kernels that are launched, results that are waited for, bytes that are
//! uploaded.

use super::*;
use crate::model::gemma3::TextConfig;
use crate::nn::AttentionKind;
use crate::ops::Traffic;
use crate::train::optimizer::{Optimizer, Rule};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// Counts the kernels that this thread launches.
struct Launches {
    thread: ThreadId,
    of_kernels: Mutex<BTreeMap<&'static str, usize>>,
}

impl cubecl::logging::LaunchObserver for Launches {
    fn launched(&self, kernel: &'static str) {
        if thread::current().id() == self.thread {
            *self.of_kernels.lock().unwrap().entry(kernel).or_default() += 1;
        }
    }
}

/// How the step is taken.
#[derive(Debug, Clone, Copy)]
struct Way {
    compute_dtype: HostDtype,
    lora_dropout: f64,
    activation_checkpointing: bool,
}

/// What a step asked for.
#[derive(Debug, Clone, Default)]
struct Counted {
    launches: BTreeMap<&'static str, usize>,
    traffic: Traffic,
}

impl Counted {
    fn launches(&self) -> usize {
        self.launches.values().sum()
    }

    /// How many more of each kernel than another.
    fn beyond(&self, other: &Counted, parts: usize) -> BTreeMap<&'static str, usize> {
        let more = self.launches.iter().map(|(kernel, count)| {
            let other = other.launches.get(kernel).copied().unwrap_or(0);
            (*kernel, count.saturating_sub(other).div_ceil(parts))
        });
        more.filter(|(_, count)| *count > 0).collect()
    }
}

/// Matrices so small that each is one tile in tests as well, where tiles are little.
fn config(layers: usize) -> ModelConfig {
    let kinds = [AttentionKind::Sliding, AttentionKind::Full];
    ModelConfig::Gemma3(TextConfig {
        vocab_size: 100,
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: layers,
        head_dim: 8,
        layer_types: (0..layers).map(|layer| kinds[layer % 2]).collect(),
        ..TextConfig::small()
    })
}

/// The second step of a run: forward, loss, backward, clipping, AdamW. What the first one makes once is there then.
fn second_step(found: &Found, layers: usize, tokens: [usize; 2], way: Way) -> Counted {
    let form_of = |_: &TensorId| Form::Nf4 { double: true };
    let mut maker = RandomModel::new(&form_of, &found.device);
    maker.compute_dtype = Some(way.compute_dtype);
    let model = model::assemble(config(layers), &mut maker, &found.device).unwrap();
    let model = model.as_ref();
    let mut adapter = adapter(model, &mut maker, false);
    let ids: Vec<u32> = (0..tokens.iter().sum()).map(|i: usize| (i * 37 % 100) as u32).collect();
    let labels: Vec<i32> = ids.iter().map(|&id| id.cast_signed()).collect();
    let batch = MicroBatch::new(ids, &labels, Segments::from_lengths(tokens));
    let Way { lora_dropout, activation_checkpointing, .. } = way;
    let settings = StepSettings { lora_dropout, recompute: activation_checkpointing.into(), ..settings() };
    let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
    let mut optimizer = Optimizer::new(rule);
    let mut take = |number: u64| {
        let computed = step::gradients(model, &adapter, std::slice::from_ref(&batch), number, &settings);
        let result = step::update(&mut adapter, &mut optimizer, computed, 1e-3, 1e-3);
        assert_eq!(result.skipped, None);
        assert!(result.grad_norm > 1e-3, "nothing to clip: {}", result.grad_norm);
    };
    take(0);
    let launches = Arc::new(Launches { thread: thread::current().id(), of_kernels: Mutex::default() });
    let (before, watching) = (Traffic::of_this_thread(), cubecl::logging::LaunchObservation::new(launches.clone()));
    take(1);
    drop(watching);
    let launches = launches.of_kernels.lock().unwrap().clone();
    Counted { launches, traffic: Traffic::of_this_thread().since(before) }
}

/// A launch costs some microseconds and small ones add up, a result that is waited for empties the queue, and an upload
/// goes over a bus: what a step asks for is printed, and must not creep back.
#[test]
fn a_step_asks_little_of_a_device() {
    /// Tokens of a micro-batch of a real run.
    const TOKENS: u64 = 4096;
    let exact = Way { compute_dtype: HostDtype::F32, lora_dropout: 0.0, activation_checkpointing: false };
    let narrow = Way { compute_dtype: HostDtype::F16, ..exact };
    let ways = [
        (exact, 130),
        (Way { lora_dropout: 0.1, ..exact }, 200),
        (narrow, 160),
        (Way { activation_checkpointing: true, ..narrow }, 210),
    ];
    for found in others() {
        for (way, bar) in ways {
            if way.compute_dtype == HostDtype::F16 && !found.device.supports_dtype(FloatDType::F16) {
                continue;
            }
            let [two, four] = [2, 4].map(|layers| second_step(&found, layers, [19, 10], way));
            let a_layer = (four.launches() - two.launches()).div_ceil(2);
            let beside = two.launches() - 2 * a_layer;
            println!(
                "{} {way:?}: {a_layer} launches a layer, {beside} beside: {:?}",
                found.name(),
                four.beyond(&two, 2)
            );
            let longer = second_step(&found, 2, [38, 20], way);
            // Of attention by products: as many tokens make one tile of queries more.
            let a_tile = longer.launches().saturating_sub(two.launches()).div_ceil(2);
            println!("{}: {a_tile} launches a layer more for a second tile", found.name());
            assert!(a_tile <= 30, "{}: {a_tile} launches a tile and layer", found.name());
            let a_token = (longer.traffic.uploaded_bytes - two.traffic.uploaded_bytes).div_ceil(29);
            let uploaded = two.traffic.uploaded_bytes + TOKENS * a_token;
            println!("{}: {:?}, {a_token} bytes a token, {uploaded} of {TOKENS}", found.name(), two.traffic);
            println!("{}: all launches of two layers: {:?}", found.name(), two.launches);
            assert!((1..=bar).contains(&a_layer), "{}: {a_layer} launches a layer", found.name());
            assert!(two.traffic.readbacks <= 3, "{}: {:?}", found.name(), two.traffic);
            assert!(uploaded <= 1_000_000, "{}: {uploaded} bytes", found.name());
        }
    }
}
