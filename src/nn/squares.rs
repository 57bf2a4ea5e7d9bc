//! What comes into each matrix of a model while it reads.

use super::linear::SidePath;
use crate::ops::{Input, Weight};
use burn::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Runs what another side path runs, and adds up the squares of what comes into each projection.
pub struct InputSquares<'a> {
    inner: &'a dyn SidePath,
    sums: Mutex<BTreeMap<usize, (Vec<f64>, u64)>>,
}

impl<'a> InputSquares<'a> {
    /// With nothing read yet.
    pub fn new(inner: &'a dyn SidePath) -> Self {
        InputSquares { inner, sums: Mutex::default() }
    }

    /// The sums of squares of the inputs of each projection, by its number in the model, and the tokens.
    pub fn into_sums(self) -> BTreeMap<usize, (Vec<f64>, u64)> {
        self.sums.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SidePath for InputSquares<'_> {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        let [rows, width] = x.rows().dims();
        let data = x.rows().clone().into_data();
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let (sums, tokens) = sums.entry(site).or_insert_with(|| (vec![0.0; width], 0));
        *tokens += rows as u64;
        for (i, value) in data.iter::<f32>().enumerate() {
            sums[i % width] += f64::from(value) * f64::from(value);
        }
        self.inner.project(site, x, base)
    }

    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        self.inner.whole(tensor)
    }
}
