//! Products of a matrix in blocks with inputs that are rounded to signed bytes: sums of whole numbers, as llama.cpp does it.
//!
//! An input is rounded in runs of 32 with an f32 scale each: `x ~ scale * q`, `q` in `-127..=127`. A run of a row of the matrix
//! is `scale * code + offset` with `code` a signed byte, so that `sum w x = scale_w scale_x sum code q + offset scale_x sum q`.

use super::int8::quantize_run;
use super::simd;

/// Elements that share a scale of the input.
pub const CHUNK: usize = 32;
/// Partial sums: two registers of eight, so that none waits for the last.
const SUMS: usize = 16;

/// Inputs `[n, width]`, rounded.
#[derive(Debug, Clone)]
pub struct RoundedRows {
    chunks: usize,
    codes: Vec<[i8; CHUNK]>,
    scales: Vec<f32>,
    /// Scale times sum of the codes: of each 16, and of each 32.
    sums: [Vec<f32>; 2],
}

impl RoundedRows {
    /// Rounds the rows of `x`, each to its own numbers whatever is beside it. What is not finite makes every product with it
    /// NaN.
    ///
    /// # Shapes
    /// - `x`: `[n, width]`
    ///
    /// # Numerics
    /// To nearest, ties to even.
    pub fn new(x: &[f32], width: usize) -> Self {
        let (width, chunks) = (width.max(1), width.div_ceil(CHUNK));
        let rows = x.len() / width;
        let mut to = RoundedRows {
            chunks,
            codes: vec![[0; CHUNK]; rows * chunks],
            scales: vec![0.0; rows * chunks],
            sums: [vec![0.0; 2 * rows * chunks], vec![0.0; rows * chunks]],
        };
        let runs = x.chunks_exact(width).flat_map(|row| row.chunks(CHUNK));
        for (at, run) in runs.enumerate() {
            let codes = &mut to.codes[at];
            to.scales[at] = quantize_run(run, &mut codes[..run.len()]).unwrap_or(f32::NAN);
            let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>() as f32;
            let (low, high) = codes.split_at(CHUNK / 2);
            let halves = [sum(low), sum(high)];
            to.sums[0][2 * at..2 * at + 2].copy_from_slice(&halves.map(|sum| sum * to.scales[at]));
            to.sums[1][at] = (halves[0] + halves[1]) * to.scales[at];
        }
        to
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.codes.len() / self.chunks.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A row of a matrix as signed bytes.
#[derive(Debug, Default)]
pub(super) struct CodeRow {
    /// Zeros behind the last.
    pub codes: Vec<[i8; CHUNK]>,
    /// Of each run.
    pub scales: Vec<f32>,
    /// Of each run; none where the form has no offsets.
    pub offsets: Vec<f32>,
}

impl CodeRow {
    /// Its product with a row of `x`.
    pub(super) fn times(&self, x: &RoundedRows, row: usize) -> f32 {
        let own = row * x.chunks..(row + 1) * x.chunks;
        let runs = self.scales.len().checked_div(x.chunks).unwrap_or(1).clamp(1, 2); // in a chunk
        let (codes, scales) = (&x.codes[own.clone()], &x.scales[own.clone()]);
        let product = match runs {
            1 => whole_sums::<1>(&self.codes, &self.scales, codes, scales),
            _ => whole_sums::<2>(&self.codes, &self.scales, codes, scales),
        };
        if self.offsets.is_empty() {
            return product;
        }
        let sums = if runs == 1 { &x.sums[1] } else { &x.sums[0] };
        product + simd::dot(&self.offsets, &sums[runs * own.start..runs * own.end])
    }
}

/// The sum of `scale_w scale_x sum code q` over all runs, of which a chunk has `RUNS`.
///
/// # Numerics
/// Four products each are summed in whole numbers, so every processor gives the same bits.
fn whole_sums<const RUNS: usize>(w: &[[i8; CHUNK]], w_scales: &[f32], x: &[[i8; CHUNK]], x_scales: &[f32]) -> f32 {
    let (w_scales, _) = w_scales.as_chunks::<RUNS>();
    #[cfg(target_arch = "x86_64")]
    let sums = match x86::whole_sums(w, w_scales, x, x_scales) {
        Some(sums) => sums,
        None => portable(w, w_scales, x, x_scales),
    };
    #[cfg(not(target_arch = "x86_64"))]
    let sums = portable(w, w_scales, x, x_scales);
    let eight: [f32; 8] = std::array::from_fn(|i| sums[i] + sums[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// As any processor can.
fn portable<const RUNS: usize>(
    w: &[[i8; CHUNK]],
    w_scales: &[[f32; RUNS]],
    x: &[[i8; CHUNK]],
    x_scales: &[f32],
) -> [f32; SUMS] {
    let mut sums = [0f32; SUMS];
    for (at, (((w, w_scales), x), x_scale)) in w.iter().zip(w_scales).zip(x).zip(x_scales).enumerate() {
        let (w, x) = (w.as_chunks::<4>().0, x.as_chunks::<4>().0);
        for (lane, sum) in sums[8 * (at % 2)..][..8].iter_mut().enumerate() {
            let products = w[lane].iter().zip(x[lane]).map(|(w, x)| i32::from(*w) * i32::from(x));
            let scale = w_scales[lane * RUNS / 8] * x_scale;
            *sum = (products.sum::<i32>() as f32).mul_add(scale, *sum);
        }
    }
    sums
}

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;
