//! The gated activation with its own gradient.

use super::cpu::geglu as kernel;
use super::node::{Cpu, Kept, finish, tensor};
use super::plain;
use burn::tensor::Tensor;

/// `gelu_tanh(gate) * up`. Keeps both.
///
/// # Shapes
/// - `gate`, `up`, output: `[n, f]`
///
/// # Source
/// Hendrycks & Gimpel 2016, section 2; Shazeer 2020, equation 6.
pub fn geglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    match (Cpu::new(&gate), Cpu::new(&up)) {
        (Some(gate), Some(up)) => cpu_geglu(gate, up),
        _ => {
            #[cfg(feature = "gpu")]
            if let Some(y) = super::gpu::geglu(&gate, &up) {
                return y;
            }
            plain::geglu(gate, up)
        }
    }
}

fn cpu_geglu(gate: Cpu, up: Cpu) -> Tensor<2> {
    let shape = gate.shape();
    let mut y = vec![0.0; gate.values().len()];
    kernel::forward(gate.values(), up.values(), shape[1], &mut y);
    let state: (Kept, Kept) = (gate.keep(), up.keep());
    finish([gate, up], tensor(y, shape), state, |(gate, up), dy, [gate_wanted, up_wanted]| {
        let shape = gate.shape();
        let (mut d_gate, mut d_up) = (dy.to_vec(), vec![0.0; dy.len()]);
        kernel::backward(gate.values(), up.values(), shape[1], &mut d_gate, &mut d_up);
        [gate_wanted.then(|| tensor(d_gate, shape.clone())), up_wanted.then(|| tensor(d_up, shape))]
    })
}
