//! Optimisers, clipping, schedules and a warm start over 50 updates, against PyTorch in f64 (goldens by
//! `scripts/make_optimizer_goldens.py`).

use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, LoraModule};
use gemma_tune::model::{Site, Stage};
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::checkpoint::{self, Fingerprint};
use gemma_tune::train::optimizer::{Optimizer, Rule};
use gemma_tune::train::resume;
use gemma_tune::train::run::State;
use gemma_tune::train::schedule::{Kind, Schedule};
use gemma_tune::train::step::{self, StepResult};
use gemma_tune::weights::names::{Projection, TensorId};
use serde_json::Value;

/// The largest distance of all parameters from PyTorch's, relative to the norm of PyTorch's (L2).
///
/// Ours are f32, whose roundoff is 6e-8 of a number: 50 updates that each round a parameter anew add up to about `6e-8
/// sqrt(50 / 3)`, or 2.5e-7 of it. What is rounded in an update itself (moments, rates, norms) weighs less, as no
/// update is larger than its parameter. A mistake in a formula is of the size of the updates.
const TOLERANCE: f64 = 1e-6;

const UPDATES: usize = 50;

/// Updates before the state is put away and taken up again.
const WARM_START: usize = 20;

/// A case as the maker of the goldens has it.
struct Case {
    name: &'static str,
    rule: Rule,
    max_grad_norm: f64,
    schedule: Schedule,
}

fn cases() -> Vec<Case> {
    let adamw = |beta1, beta2, epsilon, weight_decay| Rule::AdamW { beta1, beta2, epsilon, weight_decay };
    let sgd = |momentum, weight_decay| Rule::Sgd { momentum, weight_decay };
    let case = |name, rule, max_grad_norm, kind, warmup_steps| {
        let schedule = Schedule::new(kind, 0.05, warmup_steps, UPDATES as u64);
        Case { name, rule, max_grad_norm, schedule }
    };
    vec![
        case("adamw", adamw(0.9, 0.999, 1e-8, 0.0), 0.0, Kind::Constant, 0),
        case("adamw_decay_clip_cosine", adamw(0.9, 0.999, 1e-8, 0.1), 1.0, Kind::Cosine, 5),
        case("adamw_other_betas_linear", adamw(0.8, 0.95, 1e-3, 0.01), 0.5, Kind::Linear, 3),
        case("sgd", sgd(0.0, 0.0), 0.0, Kind::Constant, 4),
        case("sgd_clip", sgd(0.0, 0.0), 0.5, Kind::Cosine, 0),
        case("sgd_momentum_decay_clip_linear", sgd(0.9, 0.05), 1.0, Kind::Linear, 2),
    ]
}

const PARAMETERS: [&str; 2] = ["A", "B"];

/// Entry `index` of a golden `[.., rows, columns]`.
fn entry(golden: &Golden, name: &str, index: usize) -> Tensor<2> {
    let [.., rows, columns] = *golden.shape(name) else { panic!("{name} is no matrix") };
    let values = &golden.values(name)[index * rows * columns..][..rows * columns];
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
}

/// An adapter with the parameters that every case begins with.
fn adapter(golden: &Golden) -> Adapter {
    let [a, b] = PARAMETERS.map(|name| entry(golden, &format!("start.{name}"), 0));
    let ([_, in_features], [out_features, _]) = (a.dims(), b.dims());
    let query = TensorId::Projection(0, Projection::Q);
    let site = Site::numbered([(query, Stage::Layer(0), [out_features, in_features])])[0];
    Adapter::new(vec![LoraModule { site, a, b, magnitude: None, scaling: 1.0, subtracted: None }])
}

/// The state as a checkpoint gives it back.
fn warm_started(golden: &Golden, rule: Rule, state: &State) -> State {
    let dir = tempfile::tempdir().unwrap();
    resume::save(dir.path(), state, Value::Null, &Fingerprint::new()).unwrap();
    let saved = checkpoint::latest_good(dir.path()).unwrap().checkpoint.unwrap();
    resume::load(&saved, adapter(golden), rule).unwrap().0
}

fn values(adapter: &Adapter) -> Vec<f32> {
    adapter.parameters().into_iter().flat_map(|p| p.into_data().iter::<f32>().collect::<Vec<_>>()).collect()
}

/// Does all updates of a case, through a checkpoint after some of them where `warm_start` says so, and calls `visit`
/// after each.
fn updates(golden: &Golden, case: &Case, warm_start: bool, mut visit: impl FnMut(usize, f64, StepResult, &Adapter)) {
    let mut state = State::new(adapter(golden), Optimizer::new(case.rule));
    for update in 0..UPDATES {
        if warm_start && update == WARM_START {
            state.position.step = update as u64;
            state = warm_started(golden, case.rule, &state);
        }
        let gradients = PARAMETERS.map(|name| entry(golden, &format!("gradients.{name}"), update)).to_vec();
        let rate = case.schedule.at(update as u64);
        let State { adapter, optimizer, .. } = &mut state;
        let result = step::update(adapter, optimizer, (1.0, gradients), rate, case.max_grad_norm);
        visit(update, rate, result, adapter);
    }
}

#[test]
fn parameters_follow_pytorch() {
    let golden = Golden::read(&folder("train").join("optimizer.safetensors"));
    let compared: Vec<usize> = golden.values("steps").iter().map(|&step| step as usize).collect();
    for case in cases() {
        let name = case.name;
        let start = values(&adapter(&golden));
        updates(&golden, &case, true, |update, rate, StepResult { grad_norm, skipped, .. }, adapter| {
            let expected = |what: &str| golden.values(&format!("{name}.{what}"))[update];
            assert_eq!(skipped, None);
            assert!((rate - expected("rates")).abs() <= 1e-15, "{name} update {update}: rate {rate}");
            let norm = expected("norms");
            assert!((grad_norm - norm).abs() <= TOLERANCE * norm, "{name} update {update}: norm {grad_norm} {norm}");
            let Some(index) = compared.iter().position(|&step| step == update + 1) else { return };
            let expected = PARAMETERS.map(|parameter| {
                let values = golden.values(&format!("{name}.{parameter}"));
                let len = values.len() / compared.len();
                values[index * len..][..len].to_vec()
            });
            let (got, expected) = (values(adapter), expected.concat());
            let gap = l2_relative(&got, &expected);
            println!(
                "{name}: {gap:.1e} after {} updates, {:.1e} from the start",
                update + 1,
                l2_relative(&start, &expected)
            );
            assert!(gap <= TOLERANCE, "{name}: {gap:e} after {} updates", update + 1);
        });
    }
}

#[test]
fn a_warm_start_changes_no_bit() {
    let golden = Golden::read(&folder("train").join("optimizer.safetensors"));
    for case in cases() {
        let [whole, warm] = [false, true].map(|warm_start| {
            let mut ends = Vec::new();
            updates(&golden, &case, warm_start, |_, _, _, adapter| ends.push(values(adapter)));
            ends
        });
        assert_eq!(whole, warm, "{}", case.name);
    }
}
