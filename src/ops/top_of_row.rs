//! The largest numbers of each row with their own gradient.

use super::cpu::top_of_row as kernel;
use super::node::{Cpu, Kept, finish, tensor};
use super::plain;
use burn::tensor::Tensor;

/// `relu(x - mean - cutoff * deviation)` of each row, the deviation that of the row's own numbers (with `n`, not
/// `n - 1`). Keeps `x`.
///
/// # Shapes
/// - `x`, output: `[n, f]`
///
/// # Source
/// You et al. 2025, "Spark Transformer", section 3: statistical top-k.
pub fn top_of_row(x: Tensor<2>, cutoff: f32) -> Tensor<2> {
    let Some(on_cpu) = Cpu::new(&x) else { return plain::top_of_row(x, cutoff) };
    let (shape, width) = (on_cpu.shape(), on_cpu.shape()[1]);
    let mut y = vec![0.0; on_cpu.values().len()];
    kernel::forward(on_cpu.values(), cutoff, width, &mut y);
    let state: (Kept, f32) = (on_cpu.keep(), cutoff);
    finish([on_cpu], tensor(y, shape), state, |(x, cutoff), dy, [wanted]| {
        let backward = || {
            let mut dx = dy.to_vec();
            kernel::backward(x.values(), cutoff, x.shape()[1], &mut dx);
            tensor(dx, x.shape())
        };
        [wanted.then(backward)]
    })
}
