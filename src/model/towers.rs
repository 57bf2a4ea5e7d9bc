//! What looks at pictures and listens to sounds, without the language model that reads what it says.

use crate::model::inputs::Modality;
use burn::tensor::Tensor;
use std::fmt;

/// Frozen towers and projectors.
pub trait Towers: fmt::Debug + Send + Sync {
    /// What the tower of this modality gives for one piece, as [`crate::model::Features::Encoded`] holds it; `None` without
    /// such a tower.
    ///
    /// # Shapes
    /// - `prepared`: `[3, height, width]` of a picture, `[1, frames, mel bins]` of a sound, of which the first `valid` frames
    ///   begin within it
    /// - output: `[p, w]`
    fn encode(&self, modality: Modality, prepared: Tensor<3>, valid: usize) -> Option<Tensor<2>>;
}
