//! What passes a gate that lets little through.

use super::cpu::passing::Passing as Entries;
use super::node::Cpu;
use super::weight::Weight;
use burn::tensor::Tensor;
use std::sync::Arc;

/// Where a gate `[n, f]` is not zero, so that the products around it compute nothing else. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Passing(Arc<Entries>);

/// The side of a weight on which only some of the elements of each token count.
#[derive(Debug, Clone)]
pub(super) enum Sparse {
    /// The others of its inputs are zero, and the gradients of the others are not read.
    Inputs(Arc<Entries>),
    /// The others of its outputs are not read, and the gradients of the others are zero.
    Outputs(Arc<Entries>),
}

impl Passing {
    /// Where this gate is not zero; `None` where products that skip nothing are as fast: of few tokens, of a gate that
    /// lets more than an eighth pass, on a device other than the CPU.
    ///
    /// # Shapes
    /// - `gate`: `[n, f]`
    pub fn of(gate: &Tensor<2>) -> Option<Self> {
        let gate = Cpu::new(gate)?;
        Entries::of(gate.values(), gate.shape()[1]).map(|entries| Passing(Arc::new(entries)))
    }
}

impl Weight {
    /// The same weight `[f, in]` for products whose outputs are read where something passes only. The others of
    /// `x W^T` may be anything, and of its gradient `dy` they are taken to be zero.
    pub fn with_outputs(&self, passing: &Passing) -> Self {
        self.clone().with_sparse(Sparse::Outputs(passing.0.clone()))
    }

    /// The same weight `[out, f]` for products whose inputs are zero where nothing passes. The others of the gradient
    /// `dx = dy W` may be anything.
    pub fn with_inputs(&self, passing: &Passing) -> Self {
        self.clone().with_sparse(Sparse::Inputs(passing.0.clone()))
    }
}
