//! Convolutions over a grid of cells, each a row of channels.

use super::rows;
use super::simd::vectorised;
use crate::ops::conv::steps::Steps;

/// Channels that are summed side by side in registers.
const LANES: usize = 32;

/// `out[y, x] = sum_ij in[y stride + i, x stride + j] kernel[i, j]`, channel by channel.
pub fn depthwise(input: &[f32], kernel: &[f32], steps: [Steps; 2], channels: usize, out: &mut [f32]) {
    let width = steps[1].len() * channels;
    rows::each(out, width, |rows, out| {
        let lines = rows.zip(out.chunks_exact_mut(width.max(1)));
        lines.for_each(|(row, line)| depthwise_line(input, kernel, steps, channels, row, line));
    });
}

/// What a kernel sees at each step, from the row `first` of steps on: its cells one after the other, each with its
/// channels; zeros of those that lie around the grid.
pub fn patches(input: &[f32], steps: [Steps; 2], channels: usize, first: usize, out: &mut [f32]) {
    let [down, across] = steps;
    let patch = down.kernel * across.kernel * channels;
    let width = across.len() * patch;
    rows::each(out, width, |rows, out| {
        for (row, line) in rows.zip(out.chunks_exact_mut(width.max(1))) {
            for (column, patch) in line.chunks_exact_mut(patch.max(1)).enumerate() {
                let cells = patch.chunks_exact_mut(channels.max(1)).enumerate();
                for (tap, cell) in cells {
                    let y = at(down, first + row, tap / across.kernel);
                    let x = at(across, column, tap % across.kernel);
                    if let (Some(y), Some(x)) = (y, x) {
                        cell.copy_from_slice(&input[(y * across.cells + x) * channels..][..channels]);
                    }
                }
            }
        }
    });
}

/// The cell of the input that one of the kernel lies on at a step; `None` of those around it.
#[inline(always)]
fn at(steps: Steps, step: usize, tap: usize) -> Option<usize> {
    let [before, _] = steps.padding();
    (step * steps.stride + tap).checked_sub(before).filter(|&cell| cell < steps.cells)
}

vectorised! {
    fn depthwise_line(input: &[f32], kernel: &[f32], steps: [Steps; 2], channels: usize, row: usize, line: &mut [f32]) {
        let [down, across] = steps;
        for (column, out) in line.chunks_exact_mut(channels).enumerate() {
            for first in (0..channels).step_by(LANES) {
                let lanes = LANES.min(channels - first);
                let mut sums = [0.0_f32; LANES];
                for i in 0..down.kernel {
                    let Some(y) = at(down, row, i) else { continue };
                    for j in 0..across.kernel {
                        let Some(x) = at(across, column, j) else { continue };
                        let cell = &input[(y * across.cells + x) * channels + first..][..lanes];
                        let weight = &kernel[(i * across.kernel + j) * channels + first..][..lanes];
                        match (cell.as_chunks::<LANES>().0, weight.as_chunks::<LANES>().0) {
                            ([cell], [weight]) => {
                                for lane in 0..LANES {
                                    sums[lane] += cell[lane] * weight[lane];
                                }
                            }
                            _ => sums.iter_mut().zip(cell.iter().zip(weight)).for_each(|(sum, (x, w))| *sum += x * w),
                        }
                    }
                }
                out[first..first + lanes].copy_from_slice(&sums[..lanes]);
            }
        }
    }
}
