//! What one decoder layer hands on to the next.

use burn::tensor::{Int, Tensor};

/// What one decoder layer hands on to the next.
#[derive(Debug, Clone)]
pub struct Carry {
    /// The residual stream, `[n, d]`, which every layer changes.
    pub hidden: Tensor<2>,
    /// Further streams `[n, d]` that every layer changes, as AltUp has them.
    pub beside: Vec<Tensor<2>>,
    /// What was made once for the layers to come, such as keys and values, `[n, ..]`. A layer may add to it at its end; what
    /// is there it hands on untouched.
    pub shared: Vec<Tensor<2>>,
}

impl Carry {
    /// One stream and nothing else.
    pub fn new(hidden: Tensor<2>) -> Self {
        Carry { hidden, beside: Vec::new(), shared: Vec::new() }
    }

    /// What every layer changes.
    pub fn streams(&self) -> impl Iterator<Item = &Tensor<2>> {
        std::iter::once(&self.hidden).chain(&self.beside)
    }

    /// The streams, each changed by `change`, without what is shared.
    pub fn map_streams(self, mut change: impl FnMut(Tensor<2>) -> Tensor<2>) -> Self {
        let hidden = change(self.hidden);
        Carry { hidden, beside: self.beside.into_iter().map(change).collect(), shared: Vec::new() }
    }

    /// Carries with the same streams, of which there is at least one, one after the other.
    pub fn joined(mut parts: Vec<Carry>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let stream =
            |of: &dyn Fn(&Carry) -> &Tensor<2>| Tensor::cat(parts.iter().map(|part| of(part).clone()).collect(), 0);
        let first = parts.first();
        let (beside, shared) = first.map_or((0, 0), |part| (part.beside.len(), part.shared.len()));
        Carry {
            hidden: stream(&|part| &part.hidden),
            beside: (0..beside).map(|at| stream(&|part| &part.beside[at])).collect(),
            shared: (0..shared).map(|at| stream(&|part| &part.shared[at])).collect(),
        }
    }

    /// Some rows of the streams.
    pub fn select(self, rows: &Tensor<1, Int>) -> Self {
        self.map_streams(|stream| stream.select(0, rows.clone()))
    }
}
