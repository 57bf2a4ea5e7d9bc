//! Rows that weights are multiplied with.

use super::cpu::bf16::Left;
#[cfg(feature = "gpu")]
use super::factor::Factor;
use crate::quant::{FloatRows, PlainRows, RoundedRows};
#[cfg(feature = "gpu")]
use burn::tensor::FloatDType;
use burn::tensor::Tensor;
use std::sync::{Arc, OnceLock};

/// Rows `[n, in]` that weights are multiplied with. What products make of them first, rounded, or in the order in which they are read,
/// is made once for all weights that get a clone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Input {
    rows: Tensor<2>,
    ready: Arc<Ready>,
}

impl From<Tensor<2>> for Input {
    fn from(rows: Tensor<2>) -> Self {
        Input { rows, ready: Arc::default() }
    }
}

impl Input {
    /// The rows as they are.
    ///
    /// # Shapes
    /// - output: `[n, in]`
    pub fn rows(&self) -> &Tensor<2> {
        &self.rows
    }

    /// Rows that a GPU has rounded to a dtype when it made them.
    #[cfg(feature = "gpu")]
    pub(super) fn rounded(rows: Tensor<2>, dtype: FloatDType, factor: Factor<2>) -> Self {
        let ready = Ready { factor: OnceLock::from((dtype, factor)), ..Ready::default() };
        Input { rows, ready: Arc::new(ready) }
    }

    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }
}

/// What products have made of rows so far. It is asked by the thread that runs the layers alone: what makes these waits for tasks of
/// the pool, and would wait for itself if two of them shared an input.
#[derive(Debug, Default)]
pub(super) struct Ready {
    left: OnceLock<Left>,
    plain: OnceLock<PlainRows>,
    floats: OnceLock<FloatRows>,
    rounded: OnceLock<RoundedRows>,
    #[cfg(feature = "gpu")]
    factor: OnceLock<(FloatDType, Factor<2>)>,
}

#[cfg(feature = "gpu")]
impl Ready {
    /// The rows, outside of any gradient graph, rounded to a dtype on their device.
    pub fn factor(&self, rows: &Tensor<2>, dtype: FloatDType) -> Factor<2> {
        let (of, factor) = self.factor.get_or_init(|| (dtype, Factor::new(rows, dtype)));
        if *of == dtype { factor.clone() } else { Factor::new(rows, dtype) }
    }
}

/// Rows in main memory, and what is made of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    /// `[n, in]`.
    pub values: &'a [f32],
    /// `n`.
    pub n: usize,
    width: usize,
    ready: &'a Ready,
}

impl<'a> Rows<'a> {
    pub fn new(values: &'a [f32], width: usize, ready: &'a Ready) -> Self {
        Rows { values, n: values.len() / width.max(1), width, ready }
    }

    /// Rounded to bf16.
    pub fn left(&self) -> &'a Left {
        self.ready.left.get_or_init(|| Left::new(self.values, [self.n, self.width]))
    }

    /// For products with blocks, one by one.
    pub fn plain(&self) -> &'a PlainRows {
        self.ready.plain.get_or_init(|| PlainRows::new(self.values, self.width))
    }

    /// For products with floats.
    pub fn floats(&self) -> &'a FloatRows {
        self.ready.floats.get_or_init(|| FloatRows::new(self.values, self.width))
    }

    /// Rounded to signed bytes.
    pub fn rounded(&self) -> &'a RoundedRows {
        self.ready.rounded.get_or_init(|| RoundedRows::new(self.values, self.width))
    }
}
