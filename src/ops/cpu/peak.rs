//! What a processor could do at most: products in registers, and reading.

use super::bf16::Kernel;
use crate::quant::{QuantType, QuantizedMatrix, RoundedRows, SharedBytes};
use pulp::{Arch, Simd, WithSimd};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What all threads together reach.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Peaks {
    /// Billions of multiplications and additions a second in f32, of multiply-adds whose numbers never leave the registers.
    pub f32_gflops: f64,
    /// The same of factors in bf16, by the kernel that multiplies them here, whose tiles lie in the nearest cache.
    pub bf16_gflops: f64,
    /// The same of signed bytes, by the kernel of rounded inputs.
    pub int8_gops: f64,
    /// Billions of bytes a second that come from memory.
    pub read_gbytes: f64,
}

/// Measures the [`Peaks`], for a fifth of a second and as long as a quarter of a gigabyte takes to be written and read.
pub fn peaks() -> Peaks {
    Peaks { f32_gflops: f32_gflops(), bf16_gflops: bf16_gflops(), int8_gops: int8_gops(), read_gbytes: read_gbytes() }
}

/// Billions of operations a second, of which a batch on each thread has so many: of the fastest batch in a while.
fn fastest(operations: usize, batch: impl Fn() + Sync) -> f64 {
    const WHILE: Duration = Duration::from_millis(50);
    let (began, mut least) = (Instant::now(), f64::INFINITY);
    while least.is_infinite() || began.elapsed() < WHILE {
        let start = Instant::now();
        rayon::broadcast(|_| batch());
        least = least.min(start.elapsed().as_secs_f64());
    }
    (operations * rayon::current_num_threads()) as f64 / least / 1e9
}

/// So many multiply-adds in each of [`CHAINS`] registers.
struct Chains(usize);

/// As many as hide how long one takes, and no more than every processor has room for.
const CHAINS: usize = 12;

impl WithSimd for Chains {
    /// The lanes of a register.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (by, plus) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut sums = [simd.splat_f32s(black_box(3.0)); CHAINS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, by, plus);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
        S::F32_LANES
    }
}

fn f32_gflops() -> f64 {
    const TIMES: usize = 1 << 17;
    let arch = Arch::new();
    let lanes = arch.dispatch(Chains(1));
    fastest(2 * TIMES * CHAINS * lanes, || {
        arch.dispatch(Chains(TIMES));
    })
}

fn bf16_gflops() -> f64 {
    const TIMES: usize = 64;
    let kernel = Kernel::best();
    fastest(TIMES * kernel.operations(), || kernel.repeat(TIMES))
}

fn int8_gops() -> f64 {
    const TIMES: usize = 32;
    const INPUTS: usize = 8;
    const DIMS: [usize; 2] = [32, 256];
    let bytes = vec![17; QuantType::Q8_0.bytes_of(DIMS[0] * DIMS[1]).unwrap_or_default()];
    let Ok(matrix) = QuantizedMatrix::blocks(DIMS, QuantType::Q8_0, SharedBytes::from(bytes)) else { return 0.0 };
    let x = RoundedRows::new(&[0.5; INPUTS * DIMS[1]], DIMS[1]);
    fastest(2 * TIMES * INPUTS * DIMS[0] * DIMS[1], || {
        let mut out = [0.0; INPUTS * DIMS[0]];
        (0..TIMES).for_each(|_| matrix.times_rounded(0..DIMS[0], black_box(&x), black_box(&mut out)));
    })
}

/// Of numbers that no cache holds.
fn read_gbytes() -> f64 {
    const NUMBERS: usize = 1 << 25;
    const RUNS: usize = 3;
    let numbers = vec![1u64; NUMBERS];
    let threads = rayon::current_num_threads();
    let share = NUMBERS.div_ceil(threads);
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        rayon::broadcast(|thread| {
            let own = &numbers[(thread.index() * share).min(NUMBERS)..((thread.index() + 1) * share).min(NUMBERS)];
            black_box(Arch::new().dispatch(|| own.iter().fold(0u64, |sum, number| sum.wrapping_add(*number))));
        });
        start.elapsed().as_secs_f64()
    });
    size_of_val(&*numbers) as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_one_that_a_machine_can_have() {
        let found = peaks();
        println!("{found:?}");
        let Peaks { f32_gflops, bf16_gflops, int8_gops, read_gbytes } = found;
        for rate in [f32_gflops, bf16_gflops, int8_gops, read_gbytes] {
            assert!((0.01..1e6).contains(&rate), "{rate}");
        }
        assert_eq!(Arch::new().dispatch(Chains(1)).count_ones(), 1, "lanes");
    }
}
