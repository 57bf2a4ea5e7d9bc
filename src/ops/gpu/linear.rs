//! Frozen linear layers, with and without a low-rank adapter beside them.

use super::geglu::Halves;
use super::low_rank::Added;
use super::{CubeTensor, Gpu, primitive, tall, tensor};
use crate::ops::factor::Factor;
use crate::ops::graph::finish;
use crate::ops::input::Input;
use crate::ops::product::product;
use crate::ops::weight::Weight;
use burn::tensor::Tensor;

/// See [`Weight::project`].
pub fn linear(x: &Input, w: &Weight) -> Option<Tensor<2>> {
    let rows = Gpu::open(x.rows())?;
    let y = primitive(w.times_tiles(&x.ready().factor(&tensor(&rows.keep()), w.compute_dtype())));
    Some(finish([rows], y, w.clone(), |w, dy, [wanted]| [wanted.then(|| primitive(w.times_tiles_back(&tensor(&dy))))]))
}

/// See [`Weight::project_adapted`].
pub fn lora_linear(x: &Input, w: &Weight, a: &Tensor<2>, b: &Tensor<2>, scaling: f64) -> Option<Tensor<2>> {
    let (rows, a, b) = (Gpu::open(x.rows())?, Gpu::open(a)?, Gpu::open(b)?);
    let values = tensor(&rows.keep());
    // Of the input the factor is kept, which in f32 is the input itself.
    let factor = x.ready().factor(&values, w.compute_dtype());
    let (lora, y) = Lora::forward(&values, &factor, w, &a, &b, scaling);
    Some(finish([rows, a, b], y, (factor, lora), |(x, lora), upstream, [dx, da, db]| {
        let dy = tensor(&upstream);
        let d_narrow = lora.d_narrow(&dy);
        [dx.then(|| lora.dx(&dy, &d_narrow)), da.then(|| lora.da(&x, &d_narrow)), db.then(|| lora.db(&upstream))]
    }))
}

/// See [`Weight::project_gated`].
pub fn geglu_lora_linear(
    gate: &Tensor<2>,
    up: &Tensor<2>,
    w: &Weight,
    a: &Tensor<2>,
    b: &Tensor<2>,
    scaling: f64,
) -> Option<Tensor<2>> {
    let (gate, up, a, b) = (Gpu::open(gate)?, Gpu::open(up)?, Gpu::open(a)?, Gpu::open(b)?);
    let (halves, act, factor) = Halves::rounded(gate.keep(), up.keep(), w.compute_dtype());
    let (lora, y) = Lora::forward(&tensor(&act), &factor, w, &a, &b, scaling);
    Some(finish([gate, up, a, b], y, (halves, lora), |(halves, lora), upstream, [d_gate, d_up, da, db]| {
        let dy = tensor(&upstream);
        let d_narrow = lora.d_narrow(&dy);
        let da = da.then(|| lora.da(&Factor::as_is(tensor(&halves.product())), &d_narrow));
        let db = db.then(|| lora.db(&upstream));
        if !d_gate && !d_up {
            return [None, None, da, db];
        }
        let (gate_gradient, up_gradient) = halves.gradients(&lora.dx(&dy, &d_narrow));
        [d_gate.then_some(gate_gradient), d_up.then_some(up_gradient), da, db]
    }))
}

/// What an adapted layer keeps beside its input.
#[derive(Debug, Clone)]
struct Lora {
    w: Weight,
    a: CubeTensor,
    b: CubeTensor,
    /// `x A^T`, `[n, r]`.
    narrow: CubeTensor,
    scaling: f64,
}

impl Lora {
    /// `factor` is `x` rounded to what `w` is multiplied in.
    fn forward(x: &Tensor<2>, factor: &Factor<2>, w: &Weight, a: &Gpu, b: &Gpu, scaling: f64) -> (Self, CubeTensor) {
        let (a, b) = (a.keep(), b.keep());
        let narrow = primitive(product(x.clone(), tensor(&a).transpose()));
        let (y, scales) = w.times_tiles_unscaled(factor);
        let y = primitive(y);
        let added = Added { left: &narrow, right: &b, is_transposed: false, scale: scaling };
        added.to(&y, scales.map(primitive).as_ref());
        (Lora { w: w.clone(), a, b, narrow, scaling }, y)
    }

    /// `dy B`, `[n, r]`.
    fn d_narrow(&self, dy: &Tensor<2>) -> CubeTensor {
        primitive(product(dy.clone(), tensor(&self.b)))
    }

    /// `dy W + s (dy B) A`.
    fn dx(&self, dy: &Tensor<2>, d_narrow: &CubeTensor) -> CubeTensor {
        let (dx, scales) = self.w.times_tiles_back_unscaled(dy);
        let dx = primitive(dx);
        let added = Added { left: d_narrow, right: &self.a, is_transposed: true, scale: self.scaling };
        added.to(&dx, scales.map(primitive).as_ref());
        dx
    }

    /// `s (dy B)^T x`.
    fn da(&self, x: &Factor<2>, d_narrow: &CubeTensor) -> CubeTensor {
        let scales = x.scales().map(primitive);
        tall::product(d_narrow, &primitive(x.values()), scales.as_ref(), self.scaling, false)
    }

    /// `s dy^T (x A^T)`.
    fn db(&self, dy: &CubeTensor) -> CubeTensor {
        tall::product(&self.narrow, dy, None, self.scaling, true)
    }
}
