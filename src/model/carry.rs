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

    /// Some rows of the streams.
    pub fn select(self, rows: &Tensor<1, Int>) -> Self {
        self.map_streams(|stream| stream.select(0, rows.clone()))
    }
}
