//! The largest micro-batch, tried once before a long run.

use crate::adapter::Adapter;
use crate::process;
use crate::progress::Progress;
use crate::report::text;
use crate::train::backprop::NEVER;
use crate::train::micro_batch::MicroBatch;
use crate::train::run::StepPlan;
use crate::train::step::{Watch, WindowGradients};
use std::time::Instant;

/// Runs of fewer steps are not worth a probe: their longest rows come soon enough.
const LONG_RUN_STEPS: u64 = 200;

/// Whether to try the largest micro-batch before the first step. Packed bins are all nearly full, so that the first
/// step already shows what the others need.
pub fn is_worthwhile(plan: &StepPlan, packing: bool) -> bool {
    !packing && plan.total_steps > LONG_RUN_STEPS
}

/// Runs the largest micro-batch, or as many of it as replicas compute at once, forwards and backwards and drops the
/// gradients: where memory is too short, a run dies now, not in hours. Nothing of the run changes, so that steps, order
/// and random numbers stay the same.
pub fn run(
    compute: &dyn WindowGradients,
    adapter: &Adapter,
    largest: &[MicroBatch],
    plan: &StepPlan,
    progress: &dyn Progress,
) {
    let (started, tokens) = (Instant::now(), largest.first().map_or(0, MicroBatch::tokens) as u64);
    let watch = Watch { stop: &NEVER, on_progress: &mut |_| {} };
    drop(compute.gradients(adapter, largest, 0, &plan.step, watch));
    let peak = process::peak_bytes().map_or("unknown".into(), text::bytes);
    let (tokens, took) = (text::counted(tokens, "token"), text::duration(started.elapsed()));
    progress.note(&format!("Tried the longest micro-batch: {tokens} in {took}; peak memory so far {peak}"));
}
