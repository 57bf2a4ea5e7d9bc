//! Several adapters beside one model in the same pass.

use crate::nn::SidePath;
use crate::ops::{Input, Weight, geglu};
use burn::tensor::Tensor;

/// Runs of rows, each with what runs beside the model for it. The frozen weight is read once for all of them. It is for the
/// decoder: every projection of that sees the rows of the whole batch, and no tensor of it is trained as it is.
pub struct ByRows<'a>(pub Vec<(usize, &'a dyn SidePath)>);

impl SidePath for ByRows<'_> {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        let frozen = base.project(x.clone());
        let mut start = 0;
        let runs = self.0.iter().map(|(rows, side)| {
            let run = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, *rows);
            let (x, frozen) = (run(x.rows()), run(&frozen));
            start += rows;
            side.beside(site, x, frozen, base)
        });
        Tensor::cat(runs.collect(), 0)
    }

    fn project_gated(&self, site: usize, gate: Tensor<2>, up: Tensor<2>, base: &Weight) -> Tensor<2> {
        self.project(site, geglu(gate, up).into(), base)
    }
}
