//! Frozen linear layers, with and without a low-rank adapter beside them.

use super::cpu::bf16::{Left, run_of, times, times_transposed};
use super::cpu::geglu;
use super::cpu::matmul::{Mat, MatMut, Store, matmul};
use super::cpu::scattered::Scattered;
use super::factor::Factor;
#[cfg(feature = "gpu")]
use super::gpu;
use super::inference;
use super::input::{Input, Ready, Rows};
use super::node::{Cpu, Kept, finish, tensor};
use super::passing::Sparse;
use super::plain;
use super::product::product;
use super::weight::Weight;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;

impl Weight {
    /// `y = x W^T`. Keeps nothing but the weight for its gradient `dx = dy W`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn project(&self, x: impl Into<Input>) -> Tensor<2> {
        let x = x.into();
        if let Some(rows) = Cpu::new(x.rows()) {
            return cpu_linear(rows, x.ready(), self);
        }
        if self.is_on_cpu() {
            let w = self.to_f32().to_device(&x.rows().device().inner());
            return product(x.rows().clone(), w.transpose());
        }
        #[cfg(feature = "gpu")]
        if let Some(y) = gpu::linear(&x, self) {
            return y;
        }
        self.times_tiles(&Factor::new(x.rows(), self.compute_dtype()))
    }

    /// `y = x W^T + s (x A^T) B^T`. Keeps `x` and `s x A^T` for its gradients
    /// `dx = dy W + s (dy B) A`, `dA = s (dy B)^T x`, `dB = s dy^T (x A^T)`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `a`: `[r, in]`, `b`: `[out, r]`
    /// - output: `[n, out]`
    ///
    /// # Source
    /// Hu et al. 2021, equation 3.
    pub fn project_adapted(&self, x: impl Into<Input>, a: &Tensor<2>, b: &Tensor<2>, scaling: f64) -> Tensor<2> {
        let x = x.into();
        if let (Some(rows), Some(a), Some(b)) = (Cpu::new(x.rows()), Cpu::new(a), Cpu::new(b)) {
            return cpu_lora_linear(rows, x.ready(), self, a, b, scaling as f32);
        }
        #[cfg(feature = "gpu")]
        if !self.is_on_cpu()
            && let Some(y) = gpu::lora_linear(&x, self, a, b, scaling)
        {
            return y;
        }
        plain::add_low_rank(self.project(x.clone()), x.rows(), a, b, scaling)
    }

    /// As [`Weight::project_adapted`], of `act = gelu_tanh(gate) * up`. Keeps `gate`, `up` and `s act A^T`; `act` is
    /// made again on the way back.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[n, in]`
    /// - `a`: `[r, in]`, `b`: `[out, r]`
    /// - output: `[n, out]`
    pub fn project_gated(
        &self,
        gate: Tensor<2>,
        up: Tensor<2>,
        a: &Tensor<2>,
        b: &Tensor<2>,
        scaling: f64,
    ) -> Tensor<2> {
        if let (Some(gate), Some(up), Some(a), Some(b)) = (Cpu::new(&gate), Cpu::new(&up), Cpu::new(a), Cpu::new(b)) {
            return cpu_geglu_lora_linear(gate, up, self, a, b, scaling as f32);
        }
        #[cfg(feature = "gpu")]
        if !self.is_on_cpu()
            && let Some(y) = gpu::geglu_lora_linear(&gate, &up, self, a, b, scaling)
        {
            return y;
        }
        self.project_adapted(plain::geglu(gate, up), a, b, scaling)
    }
}

fn cpu_linear(x: Cpu, ready: &Ready, w: &Weight) -> Tensor<2> {
    let [out, input] = w.dims();
    let rows = Rows::new(x.values(), input, ready);
    let y = tensor(project(rows, w), [rows.n, out]);
    finish([x], y, w.clone(), |w, dy, [wanted]| {
        let [out, input] = w.dims();
        let n = dy.len() / out.max(1);
        [wanted.then(|| tensor(project_back(dy, n, &w), [n, input]))]
    })
}

fn cpu_lora_linear(x: Cpu, ready: &Ready, w: &Weight, a: Cpu, b: Cpu, scaling: f32) -> Tensor<2> {
    let (lora, y) = Lora::forward(Rows::new(x.values(), w.dims()[1], ready), w, &a, &b, scaling);
    let kept = x.keep();
    finish([x, a, b], y, (kept, lora), |(x, lora), dy, [dx, da, db]| {
        let d_narrow = lora.d_narrow(dy);
        [dx.then(|| lora.dx(dy, &d_narrow)), da.then(|| lora.da(x.values(), &d_narrow)), db.then(|| lora.db(dy))]
    })
}

fn cpu_geglu_lora_linear(gate: Cpu, up: Cpu, w: &Weight, a: Cpu, b: Cpu, scaling: f32) -> Tensor<2> {
    let width = w.dims()[1];
    let act = move |gate: &[f32], up: &[f32]| {
        let mut act = vec![0.0; gate.len()];
        geglu::forward(gate, up, width, &mut act);
        act
    };
    let (act, ready) = (act(gate.values(), up.values()), Ready::default());
    let (lora, y) = Lora::forward(Rows::new(&act, width, &ready), w, &a, &b, scaling);
    let state = Gated { gate: gate.keep(), up: up.keep(), lora };
    finish([gate, up, a, b], y, state, Gated::backward)
}

#[derive(Debug, Clone)]
struct Gated {
    gate: Kept,
    up: Kept,
    lora: Lora,
}

impl Gated {
    fn backward(self, dy: &[f32], [d_gate, d_up, da, db]: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let Gated { gate, up, lora } = self;
        let (shape, width) = (gate.shape(), lora.w.dims()[1]);
        let d_narrow = lora.d_narrow(dy);
        let da = da.then(|| {
            let mut act = vec![0.0; gate.values().len()];
            geglu::forward(gate.values(), up.values(), width, &mut act);
            lora.da(&act, &d_narrow)
        });
        let db = db.then(|| lora.db(dy));
        if !d_gate && !d_up {
            return [None, None, da, db];
        }
        let mut gate_gradient = lora.dx_values(dy, &d_narrow);
        let mut up_gradient = vec![0.0; gate_gradient.len()];
        geglu::backward(gate.values(), up.values(), width, &mut gate_gradient, &mut up_gradient);
        let gradient = |wanted: bool, values| wanted.then(|| tensor(values, shape.clone()));
        [gradient(d_gate, gate_gradient), gradient(d_up, up_gradient), da, db]
    }
}

/// What an adapted layer keeps beside its input.
#[derive(Debug, Clone)]
struct Lora {
    w: Weight,
    a: Kept,
    b: Kept,
    /// `s x A^T`, `[n, r]`.
    narrow: Vec<f32>,
    scaling: f32,
}

impl Lora {
    fn forward(x: Rows, w: &Weight, a: &Cpu, b: &Cpu, scaling: f32) -> (Self, FlexTensor) {
        let ([out, input], n) = (w.dims(), x.n);
        let r = b.values().len() / out.max(1);
        let (x_matrix, a_matrix) = (Mat::new(x.values, [n, input]), Mat::new(a.values(), [r, input]));
        let mut narrow = vec![0.0; n * r];
        matmul(MatMut::new(&mut narrow, [n, r]), Store::Replace, scaling, x_matrix, a_matrix.t());
        let mut y = project(x, w);
        let b_matrix = Mat::new(b.values(), [out, r]);
        matmul(MatMut::new(&mut y, [n, out]), Store::Add, 1.0, Mat::new(&narrow, [n, r]), b_matrix.t());
        let lora = Lora { w: w.clone(), a: a.keep(), b: b.keep(), narrow, scaling };
        (lora, tensor(y, [n, out]))
    }

    /// Tokens and rank.
    fn sizes(&self) -> [usize; 2] {
        let r = self.b.values().len() / self.w.dims()[0].max(1);
        [self.narrow.len() / r.max(1), r]
    }

    /// `s dy B`, `[n, r]`.
    fn d_narrow(&self, dy: &[f32]) -> Vec<f32> {
        let ([n, r], [out, _]) = (self.sizes(), self.w.dims());
        let mut d_narrow = vec![0.0; n * r];
        let (dy, b) = (Mat::new(dy, [n, out]), Mat::new(self.b.values(), [out, r]));
        matmul(MatMut::new(&mut d_narrow, [n, r]), Store::Replace, self.scaling, dy, b);
        d_narrow
    }

    fn dx(&self, dy: &[f32], d_narrow: &[f32]) -> FlexTensor {
        tensor(self.dx_values(dy, d_narrow), [self.sizes()[0], self.w.dims()[1]])
    }

    /// `dy W + s (dy B) A`.
    fn dx_values(&self, dy: &[f32], d_narrow: &[f32]) -> Vec<f32> {
        let ([n, r], [_, input]) = (self.sizes(), self.w.dims());
        let mut dx = project_back(dy, n, &self.w);
        let a = Mat::new(self.a.values(), [r, input]);
        matmul(MatMut::new(&mut dx, [n, input]), Store::Add, 1.0, Mat::new(d_narrow, [n, r]), a);
        dx
    }

    /// `s (dy B)^T x`.
    fn da(&self, x: &[f32], d_narrow: &[f32]) -> FlexTensor {
        let ([n, r], [_, input]) = (self.sizes(), self.w.dims());
        let mut da = vec![0.0; r * input];
        let (d_narrow, x) = (Mat::new(d_narrow, [n, r]), Mat::new(x, [n, input]));
        matmul(MatMut::new(&mut da, [r, input]), Store::Replace, 1.0, d_narrow.t(), x);
        tensor(da, [r, input])
    }

    /// `dy^T (s x A^T)`.
    fn db(&self, dy: &[f32]) -> FlexTensor {
        let ([n, r], [out, _]) = (self.sizes(), self.w.dims());
        let mut db = vec![0.0; out * r];
        let (dy, narrow) = (Mat::new(dy, [n, out]), Mat::new(&self.narrow, [n, r]));
        matmul(MatMut::new(&mut db, [out, r]), Store::Replace, 1.0, dy.t(), narrow);
        tensor(db, [out, r])
    }
}

/// `x W^T`, a tile of outputs at a time.
fn project(x: Rows, w: &Weight) -> Vec<f32> {
    match w.sparse() {
        Some(Sparse::Inputs(passing)) => return passing.project(x.values, w),
        Some(Sparse::Outputs(passing)) => return passing.project_here(x.values, w),
        None => {}
    }
    let ([out, input], n) = (w.dims(), x.n);
    if let Some(matrix) = w.rounding_inputs() {
        let x = x.rounded();
        return by_outputs(n, out, |rows, y| matrix.times_rounded(rows, x, y));
    }
    let are_few = inference::is_on() && n <= Weight::FEW_ROWS;
    if n <= w.rows_alone().max(3) || (are_few && w.is_in_blocks()) {
        // Each token's numbers are those that it has alone.
        let x = x.plain();
        return by_outputs(n, out, |rows, y| w.dot_rows(rows, x, y));
    }
    if are_few && !w.rounds() {
        let x = x.floats();
        return by_outputs(n, out, |rows, y| w.times_floats(rows, x, y));
    }
    let mut y = vec![0.0; n * out];
    if w.rounds() {
        // Rows of the weight that a tile of the product has as columns, of whichever kernel.
        const COLUMNS: usize = 32;
        let x = x.left();
        w.rounded_runs(COLUMNS, |rows, tile| times_transposed(x, tile, Store::Replace, &mut y[rows.start..], out));
        return y;
    }
    w.tiles(|rows, tile| {
        let tile = Mat::new(tile, [rows.len(), input]).t();
        let y = MatMut::new(&mut y, [n, out]).columns(rows);
        matmul(y, Store::Replace, 1.0, Mat::new(x.values, [n, input]), tile);
    });
    y
}

/// `[n, out]`, made by a handful of outputs per task: `of` gets their range, and `[n, outputs]` to fill.
fn by_outputs(n: usize, out: usize, of: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    const OUTPUTS: usize = 32;
    if n == 1 {
        let mut y = vec![0.0; out];
        y.par_chunks_mut(OUTPUTS).enumerate().for_each(|(task, y)| {
            let first = task * OUTPUTS;
            of(first..first + y.len(), y);
        });
        return y;
    }
    // Of words there are a quarter of a million: every element is written, so none is made 0 before.
    let mut y = Vec::with_capacity(n * out);
    let scattered = Scattered::in_room_of(&mut y, out);
    let room = || vec![0.0; n * OUTPUTS];
    (0..out.div_ceil(OUTPUTS)).into_par_iter().for_each_init(room, |made, task| {
        let outputs = task * OUTPUTS..((task + 1) * OUTPUTS).min(out);
        let made = &mut made[..n * outputs.len()];
        made.fill(0.0); // as new as that of the first task
        of(outputs.clone(), made);
        for (row, made) in made.chunks_exact(outputs.len()).enumerate() {
            // SAFETY: these outputs are this task's alone.
            unsafe { scattered.write(row, outputs.start, made) };
        }
    });
    // SAFETY: there is room for them, and the tasks above have written all outputs of all rows.
    unsafe { y.set_len(n * out) };
    y
}

/// `dy W`, summed over tiles of outputs in their order.
fn project_back(dy: &[f32], n: usize, w: &Weight) -> Vec<f32> {
    match w.sparse() {
        Some(Sparse::Inputs(passing)) => return passing.project_back_here(dy, w),
        Some(Sparse::Outputs(passing)) => return passing.project_back(dy, w),
        None => {}
    }
    let [out, input] = w.dims();
    let mut dx = vec![0.0; n * input];
    if w.rounds() {
        let dy = Left::new(dy, [n, out]);
        w.rounded_runs(run_of(out), |rows, tile| times(&dy, rows, tile, Store::Add, &mut dx, input));
        return dx;
    }
    w.tiles(|rows, tile| {
        let dy = Mat::new(dy, [n, out]).columns(rows.clone());
        let tile = Mat::new(tile, [rows.len(), input]);
        matmul(MatMut::new(&mut dx, [n, input]), Store::Add, 1.0, dy, tile);
    });
    dx
}
