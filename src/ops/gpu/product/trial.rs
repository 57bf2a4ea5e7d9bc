//! Whether kernels for matrix units multiply rightly on a device: what is too large for the self-check's small model.

use super::way::{self, Kinds, Matrices, Way};
use super::{launch, table};
use crate::guard::caught;
use crate::ops::gpu::{CubeTensor, empty, primitive, somewhere, tensor};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

/// Tries the ways that large products of narrow factors take on a device, with whole numbers that every dtype holds,
/// and leaves out from then on those that fail or give other numbers. What they are and why; nothing where ordinary
/// units are wrong too, for then it is not the way.
pub fn unusable_ways(device: &Device) -> Vec<String> {
    let Some(beside) = somewhere(device) else { return Vec::new() };
    let device = device.clone().inner();
    let mut wrong: Vec<(Way, String)> = Vec::new();
    for dtype in [FloatDType::BF16, FloatDType::F16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
        for turned in [[false, false], [false, true], [true, false]] {
            let trial = Trial::new(turned);
            let [x, w] = trial.factors(dtype, &device);
            for way in way::ways(&Matrices::of(&x, &w), Kinds::of(&x)).into_iter().filter(|way| *way != Way::Naive) {
                let (name, is_new) = (tensor::<2>(&x).dtype().name(), wrong.iter().all(|(other, _)| *other != way));
                if let Some(why) = trial.problem(way, &x, &w).filter(|_| is_new) {
                    wrong.push((way, format!("products of {name} factors, {way:?}: {why}")));
                }
            }
        }
    }
    if wrong.iter().any(|(way, _)| *way == Way::Units) {
        return Vec::new();
    }
    table().unusable.extend(wrong.iter().map(|(way, _)| (beside.device.clone(), *way)));
    wrong.into_iter().map(|(_, why)| why).collect()
}

/// A product of whole numbers, larger than a tile along each side and of no whole number of tiles.
struct Trial {
    turned: [bool; 2],
    factors: [Vec<f32>; 2],
    product: Vec<f32>,
}

const N: usize = 200;
const K: usize = 648;
const M: usize = 264;

impl Trial {
    fn new(turned: [bool; 2]) -> Self {
        // From -4 to 4: products are whole numbers below 2^24.
        let whole = |count: usize, step: usize| (0..count).map(|at| (at * step % 9) as f32 - 4.0).collect::<Vec<f32>>();
        let factors = [whole(N * K, 7), whole(K * M, 31)];
        let [x, w] = factors.each_ref();
        let matrix =
            |values: &[f32], shape| Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &Device::flex());
        let product = matrix(x, [N, K]).matmul(matrix(w, [K, M])).into_data().iter().collect();
        Trial { turned, factors, product }
    }

    /// Both factors on a device, each laid out as it is to be.
    fn factors(&self, dtype: FloatDType, device: &Device) -> [CubeTensor; 2] {
        let [x, w] = &self.factors;
        let [x_turned, w_turned] = self.turned;
        [laid_out(x, [N, K], x_turned, dtype, device), laid_out(w, [K, M], w_turned, dtype, device)]
    }

    /// What is wrong with a way; `None` where its numbers are right.
    fn problem(&self, way: Way, x: &CubeTensor, w: &CubeTensor) -> Option<String> {
        let product = empty(x, [N, M]);
        if let Err(why) = launch(way, x, w, &product) {
            return Some(why);
        }
        match caught(|| tensor::<2>(&product).into_data().iter::<f32>().collect::<Vec<f32>>()) {
            Err(panic) => Some(panic.to_string()),
            Ok(got) => {
                let wrong = got.iter().zip(&self.product).filter(|(got, want)| got != want).count();
                (wrong > 0 || got.len() != N * M).then(|| format!("{wrong} of {} numbers are wrong", N * M))
            }
        }
    }
}

/// A matrix on a device, row after row, or column after column where it is turned.
fn laid_out(values: &[f32], shape: [usize; 2], turned: bool, dtype: FloatDType, device: &Device) -> CubeTensor {
    let rows = Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device).cast(dtype);
    if !turned {
        return primitive(rows);
    }
    let columns = primitive(rows.transpose());
    super::turned::<2>(&columns)
}
