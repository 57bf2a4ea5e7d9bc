//! Whether this machine computes what it should.

use crate::device::{self, Backend, Compute, Found, host};
use crate::error::{Error, Kind, Result};
use crate::jobs::self_check::{self, Agreement, Difference};
use crate::nn::RmsNorm;
use crate::nn::cross_entropy::{Head, linear_cross_entropy};
use crate::ops::{Peaks, Weight, cpu_bf16_products, geglu, instruction_set, peaks};
use crate::random::{Label, Rng};
use crate::report::summary;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Program and library versions.
    pub versions: BTreeMap<String, String>,
    /// The device that was asked for, or that `auto` chooses.
    pub device: String,
    /// The devices that were checked: that one alone where it was named, else all.
    pub devices: Vec<Checked>,
    /// CPU threads.
    pub threads: usize,
    /// The vector instructions that the CPU computes with ([`instruction_set`]).
    pub instruction_set: &'static str,
    /// What it makes products of bf16 numbers of ([`cpu_bf16_products`]).
    pub bf16_products: &'static str,
    /// Memory that can still be had.
    pub available_bytes: Option<u64>,
    /// Billions of f32 operations that the CPU does in a second of a large matrix product: what training is made of.
    pub gemm_gflops: f64,
    /// What the CPU could do at most.
    pub peaks: Peaks,
    /// Backends and features in this build.
    pub compiled_in: Vec<&'static str>,
    /// Largest relative error of a gradient on the CPU, against differences of the loss.
    pub gradient_error: f64,
}

/// A device beside the CPU.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// As in `--device`, with what it calls itself.
    pub name: String,
    /// How far it is from the CPU, for each form of weights that it can hold.
    pub differences: Vec<Difference>,
    /// What it makes of the factors of products in f32: f32, or tf32 where they lose bits; `None` where it failed.
    pub f32_products: Option<&'static str>,
    /// Kernels for large products that fail there or give wrong numbers, and are not used.
    pub unusable: Vec<String>,
    /// Why it must not be used; `None` where it is good.
    pub problem: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
}

impl Checked {
    fn new(compute: Result<Compute>, name: String) -> Self {
        let name = compute.as_ref().map_or(name, Compute::describe);
        match compute.and_then(|compute| self_check::compare(&compute)) {
            Ok(Agreement { differences, f32_products, unusable }) => Checked {
                name,
                differences,
                f32_products: Some(f32_products.name()),
                unusable,
                problem: None,
                hint: None,
            },
            Err(error) => {
                let (problem, hint) = (Some(error.what().into()), error.hint_text().map(Into::into));
                Checked { name, differences: Vec::new(), f32_products: None, unusable: Vec::new(), problem, hint }
            }
        }
    }
}

/// The largest error of a gradient that passes: far above f32 rounding, far below a wrong kernel.
const TOLERANCE: f64 = 1e-2;

/// Checks gradients on the CPU against differences of the loss, and the other devices against the CPU: the one that is
/// named, or with `auto` all that there are.
///
/// # Errors
/// [`Kind::Device`] when the device that was named is missing, or the CPU computes wrong gradients.
pub fn examine(name: &str) -> Result<Report> {
    let compute = device::open(name)?;
    let gradient_error = accept(gradient_error(&Device::flex()))?;
    let chosen = |found: &Found| name == "auto" || found.name() == compute.name;
    let found = device::all().into_iter().filter(|found| found.backend != Backend::Cpu && chosen(found));
    let devices = found.map(|found| Checked::new(Compute::new(&found), found.name())).collect();
    let backends = Backend::ALL.into_iter().filter(|backend| backend.is_compiled_in()).map(Backend::name);
    let features =
        [(cfg!(feature = "hub"), "hub"), (cfg!(feature = "serve"), "serve"), (cfg!(feature = "studio"), "studio")];
    let features = features.into_iter().filter(|(is_in, _)| *is_in).map(|(_, name)| name);
    Ok(Report {
        versions: summary::versions(),
        device: compute.describe(),
        devices,
        threads: compute.threads,
        instruction_set: instruction_set(),
        bf16_products: cpu_bf16_products(),
        available_bytes: host::available_bytes(),
        gemm_gflops: gemm_gflops(),
        peaks: peaks(),
        compiled_in: backends.chain(features).collect(),
        gradient_error,
    })
}

/// The error of a gradient on the CPU, where it is small enough.
fn accept(gradient_error: f64) -> Result<f64> {
    if gradient_error.is_nan() || gradient_error > TOLERANCE {
        let what = format!("the CPU computes wrong gradients: relative error {gradient_error:.1e}");
        return Err(Error::new(Kind::Device, what).hint("report this with your CPU's name"));
    }
    Ok(gradient_error)
}

/// The rate of the best of several large products on all threads.
fn gemm_gflops() -> f64 {
    const SIZE: usize = 1024;
    const RUNS: usize = 8;
    let mut random = Rng::new(2).stream(&[Label::Purpose("gemm")]);
    let mut matrix = || {
        let values = random.normal_f32(SIZE * SIZE);
        Tensor::<2>::from_data(TensorData::new(values, [SIZE, SIZE]), &Device::flex())
    };
    let (a, b) = (matrix(), matrix());
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        drop(a.clone().matmul(b.clone()).into_data());
        start.elapsed().as_secs_f64()
    });
    2.0 * SIZE.pow(3) as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e9
}

/// The gradient of a small network (norm, linear, GELU, cross-entropy) along a direction, against the difference of two
/// losses in that direction.
fn gradient_error(device: &Device) -> f64 {
    const ROWS: usize = 5;
    const WIDTH: usize = 12;
    const WORDS: usize = 32;
    let mut random = Rng::new(1).stream(&[Label::Purpose("self-check")]);
    let mut matrix = |rows: usize, columns: usize| {
        let values = random.normal_f32(rows * columns);
        Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), device)
    };
    let (x, direction) = (matrix(ROWS, WIDTH), matrix(ROWS, WIDTH));
    let (inner, head) = (Weight::new(matrix(WIDTH, WIDTH)), Weight::new(matrix(WORDS, WIDTH)));
    let norm = RmsNorm::new(Tensor::ones([WIDTH], device), 1e-6);
    let targets: Vec<u32> = (0..ROWS as u32).map(|row| row * 5).collect();
    let network = |x: Tensor<2>| {
        let y = inner.project(norm.forward(x));
        geglu(y.clone(), y)
    };
    let loss = |x: Tensor<2>| linear_cross_entropy(&network(x), Head::plain(&head), &targets, None).sum;

    let leaf = x.clone().autodiff().require_grad();
    let output = network(leaf.clone());
    let upstream = linear_cross_entropy(&output.clone().inner(), Head::plain(&head), &targets, Some(1.0)).gradient;
    let Some(upstream) = upstream else { return f64::NAN };
    let mut tape = (output * upstream).sum().backward();
    let Some(gradient) = leaf.grad_remove(&mut tape) else { return f64::NAN };
    let slope = f64::from((gradient * direction.clone()).sum().into_scalar::<f32>());
    const STEP: f64 = 1e-2;
    let moved = |by: f64| loss(x.clone() + direction.clone().mul_scalar(by));
    // Fourth order: the error of the difference itself stays below f32 rounding.
    let (near, far) = (moved(STEP) - moved(-STEP), moved(2.0 * STEP) - moved(-2.0 * STEP));
    let difference = (8.0 * near - far) / (12.0 * STEP);
    (slope - difference).abs() / difference.abs().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_gradient_is_refused() {
        assert_eq!(accept(1e-4).unwrap(), 1e-4);
        for wrong in [0.02, 1.0, f64::INFINITY, f64::NAN] {
            let error = accept(wrong).unwrap_err();
            assert!(error.what().starts_with("the CPU computes wrong gradients: relative error "), "{error}");
        }
    }

    #[test]
    fn the_cpu_passes() {
        assert!(gradient_error(&Device::flex()) < 1e-3);
    }
}
