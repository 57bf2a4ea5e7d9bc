//! A whole run, step by step, against PEFT's (goldens by `scripts/make_training_goldens.py`).

use crate::fidelity::{Case, case};
use burn::tensor::{Device, Tensor};
use gemma_tune::Result;
use gemma_tune::nn::Segments;
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::event::{Event, Sink, StepEvent};
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::optimizer::{Optimizer, Rule};
use gemma_tune::train::recompute::Recompute;
use gemma_tune::train::run::{self, BestBy, Ending, Outputs, State, StepPlan, Window, Windows};
use gemma_tune::train::schedule::{Kind, Schedule};
use gemma_tune::train::step::{OneDevice, StepSettings};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const STEPS: u64 = 20;
const ROWS: usize = 3;
const UNSUPERVISED: usize = 3;

/// The rows of each step: the first two packed into one micro-batch, the third in another.
struct Rows(Vec<Window>);

impl Rows {
    fn new(golden: &Golden) -> Self {
        let mut ids = golden.values("ids").iter().map(|&id| id as u32);
        let lengths = golden.values("lengths").iter().map(|&length| length as usize);
        let rows: Vec<Vec<u32>> = lengths.map(|length| ids.by_ref().take(length).collect()).collect();
        let batch = |rows: &[Vec<u32>]| {
            let label = |(at, &id): (usize, &u32)| if at < UNSUPERVISED { -100 } else { id as i32 };
            let labels: Vec<i32> = rows.iter().flat_map(|row| row.iter().enumerate().map(label)).collect();
            MicroBatch::new(rows.concat(), &labels, Segments::from_lengths(rows.iter().map(Vec::len)))
        };
        let window = |rows: &[Vec<u32>]| Window {
            batches: rows.chunks(2).map(batch).collect(),
            rows: vec![0],
            ..Window::default()
        };
        Rows(rows.chunks(ROWS).map(window).collect())
    }
}

impl Windows for Rows {
    fn len(&mut self, _: u64) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn window(&mut self, _: u64, index: u64) -> Result<Window> {
        Ok(self.0[index as usize].clone())
    }

    fn origins(&self, _: &[u32]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// The steps that a run tells of.
#[derive(Default)]
struct Steps(Vec<StepEvent>);

impl Sink for Steps {
    fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::Step(step) = event {
            self.0.push(step.clone());
        }
        Ok(())
    }
}

impl Outputs for Steps {
    fn save(&mut self, _: &State) -> Result<PathBuf> {
        Ok(PathBuf::new())
    }
}

#[test]
fn twenty_steps_follow_peft() {
    let golden = Golden::read(&folder("train").join("run.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let rule = Rule::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };
    let plan = StepPlan {
        total_steps: STEPS,
        schedule: Schedule::new(Kind::Cosine, 5e-3, 3, STEPS),
        step: StepSettings {
            objective: Arc::new(Sft),
            max_grad_norm: 1.0,
            recompute: Recompute::ALL,
            lora_dropout: 0.0,
            rng: Rng::new(0),
        },
        eval_steps: None,
        eval_on_start: false,
        best_by: BestBy::default(),
        early_stopping_patience: None,
        keep_best: false,
        save_steps: 0,
    };
    let floats = |tensor: &Tensor<2>| tensor.to_data().iter::<f32>().collect::<Vec<_>>();
    let start: Vec<f32> = adapter.parameters().iter().flat_map(floats).collect();
    let (mut state, mut steps) = (State::new(adapter, Optimizer::new(rule)), Steps::default());
    let stop = AtomicBool::new(false);
    let ending =
        run::run(&OneDevice(&*model), &mut state, &plan, &mut Rows::new(&golden), None, &mut steps, &stop).unwrap();
    assert_eq!((ending, steps.0.len()), (Ending::Done, STEPS as usize));

    for (at, step) in steps.0.iter().enumerate() {
        for (name, got, tolerance) in
            [("losses", step.loss, 1e-5), ("norms", step.grad_norm, 1e-4), ("rates", step.learning_rate, 1e-13)]
        {
            let expected = golden.values(name)[at];
            assert!((got - expected).abs() <= tolerance * expected, "step {} {name}: {got} {expected}", at + 1);
        }
    }
    let keys = state.adapter.modules().iter().flat_map(|module| {
        let path = format!("base_model.model.{}", module.site.module_path(false));
        ["A", "B"].map(|part| format!("{path}.lora_{part}.weight"))
    });
    let expected: Vec<f64> = keys.flat_map(|key| golden.values(&key).to_vec()).collect();
    let end: Vec<f32> = state.adapter.parameters().iter().flat_map(floats).collect();
    // Of the way that the parameters went.
    let way: Vec<f64> = expected.iter().zip(&start).map(|(end, start)| end - f64::from(*start)).collect();
    let went: Vec<f32> = end.iter().zip(&start).map(|(end, start)| end - start).collect();
    let gap = l2_relative(&went, &way);
    println!("{gap:.1e} of the way from the end that PEFT comes to");
    assert!(gap < 5e-5, "{gap:e}");
}
