//! Adapters under dropout against PEFT's (goldens by `scripts/make_dropout_goldens.py`).

use super::*;
use crate::model::Stage;
use crate::testkit::golden::{Golden, folder, l2_relative};
use crate::weights::names::{Projection, TensorId};
use burn::tensor::{Device, TensorData};

const CASES: [&str; 6] = ["lora", "rslora", "dora", "dora_rslora", "pissa", "pissa_rslora"];

/// A mask that is the same each time.
struct Mask(Vec<f32>);

impl Dropout for Mask {
    fn drop_from(&self, site: usize, x: &Tensor<2>) -> Tensor<2> {
        assert_eq!((site, x.shape().num_elements()), (0, self.0.len()));
        x.clone() * Tensor::from_data(TensorData::new(self.0.clone(), x.dims()), &x.device().inner())
    }
}

fn golden() -> Golden {
    Golden::read(&folder("train").join("dropout.safetensors"))
}

fn tensor(golden: &Golden, name: &str) -> Tensor<2> {
    let shape = match *golden.shape(name) {
        [rows, columns] => [rows, columns],
        [columns] => [1, columns],
        ref other => panic!("{name}: {other:?}"),
    };
    let values: Vec<f32> = golden.values(name).iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The adapter of a case, on one projection.
fn adapter(golden: &Golden, case: &str) -> Adapter {
    let part = |name: &str| tensor(golden, &format!("{case}.{name}"));
    let [out_features, in_features] = tensor(golden, "weight").dims();
    Adapter::new(vec![LoraModule {
        site: Site::numbered([(TensorId::Projection(0, Projection::Q), Stage::Layer(0), [out_features, in_features])])
            [0],
        a: part("A"),
        b: part("B"),
        magnitude: case.starts_with("dora").then(|| part("m")),
        scaling: golden.values(&format!("{case}.scaling"))[0],
        subtracted: case.starts_with("pissa").then(|| (part("A0"), part("B0"))),
    }])
}

/// The output, and the gradients of A, B, the magnitudes where there are any, and the input where it is tracked.
fn run(golden: &Golden, adapter: &Adapter, mask: &Mask, tracked: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let floats = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    let x = tensor(golden, "x").autodiff();
    let x = if tracked { x.require_grad() } else { x };
    let layer = adapter.track(Stage::Layer(0), Some(mask));
    let y = layer.project(0, x.clone().into(), &Weight::new(tensor(golden, "weight")));
    let mut tape = (y.clone() * tensor(golden, "upstream")).sum().backward();
    let mut gradients: Vec<_> = layer.take_gradients(&mut tape).into_iter().map(|(_, g)| floats(g)).collect();
    if tracked {
        gradients.push(floats(x.grad_remove(&mut tape).unwrap()));
    }
    (floats(y.inner()), gradients)
}

#[test]
fn outputs_and_gradients_under_dropout_are_those_of_peft() {
    let golden = golden();
    let mask = Mask(golden.values("mask").iter().map(|&x| x as f32).collect());
    for case in CASES {
        let (y, gradients) = run(&golden, &adapter(&golden, case), &mask, true);
        let parts: &[&str] = if case.starts_with("dora") { &["A", "B", "m", "x"] } else { &["A", "B", "x"] };
        let names = parts.iter().map(|part| format!("{case}.grad.{part}"));
        let expected: Vec<String> = [format!("{case}.y")].into_iter().chain(names).collect();
        assert_eq!(gradients.len() + 1, expected.len(), "{case}");
        for (name, got) in expected.iter().zip([y].iter().chain(&gradients)) {
            let gap = l2_relative(got, golden.values(name));
            assert!(gap <= 1e-6, "{name}: {gap:e}");
        }
    }
}

#[test]
fn an_input_without_a_gradient_changes_none_of_the_adapters() {
    let golden = golden();
    let mask = Mask(golden.values("mask").iter().map(|&x| x as f32).collect());
    for case in CASES {
        let adapter = adapter(&golden, case);
        let (y, mut with_input) = run(&golden, &adapter, &mask, true);
        with_input.pop();
        assert_eq!(run(&golden, &adapter, &mask, false), (y, with_input), "{case}");
    }
}

/// Also DoRA's rescaling: what it rescales is computed from the dropped input.
#[test]
fn an_adapter_whose_whole_input_is_dropped_adds_nothing() {
    let golden = golden();
    let nothing = Mask(vec![0.0; golden.values("mask").len()]);
    let (x, weight) = (tensor(&golden, "x"), tensor(&golden, "weight"));
    for case in CASES {
        let adapter = adapter(&golden, case);
        let frozen = match &adapter.modules()[0].subtracted {
            Some((a0, b0)) => weight.clone() - b0.clone().matmul(a0.clone()).mul_scalar(adapter.modules()[0].scaling),
            None => weight.clone(),
        };
        let expected: Vec<f64> =
            x.clone().matmul(frozen.transpose()).into_data().iter::<f32>().map(f64::from).collect();
        let (y, gradients) = run(&golden, &adapter, &nothing, false);
        let gap = l2_relative(&y, &expected);
        assert!(gap <= 1e-6, "{case}: {gap:e}");
        assert!(gradients.concat().iter().all(|&g| g == 0.0), "{case}: {gradients:?}");
    }
}
