//! What looks at pictures and listens to sounds, without the language model that reads what it says.

use crate::model::inputs::Modality;
use burn::tensor::Tensor;
use std::fmt;

/// Frozen towers and projectors.
pub trait Towers: fmt::Debug {
    /// The rows of the model's width that stand for the soft tokens of one piece; `None` without a tower for it.
    ///
    /// # Shapes
    /// - `prepared`: `[3, height, width]` of a picture, `[1, frames, mel bins]` of a sound, of which the first `valid` frames
    ///   begin within it
    /// - output: `[tokens, d]`
    fn soft_rows(&self, modality: Modality, prepared: Tensor<3>, valid: usize) -> Option<Tensor<2>>;
}
