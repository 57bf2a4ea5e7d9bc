//! From pixels to a vector for each patch.

use crate::ops::Weight;
use burn::tensor::Tensor;

/// A patch's pixels times a matrix, and the vector of its place: the convolution of the reference, whose steps are as long
/// as its kernel, as one product.
#[derive(Debug, Clone)]
pub struct VisionEmbeddings {
    /// `[w, channels side side]`.
    pub patch_embedding: Weight,
    /// `[w]`.
    pub patch_bias: Tensor<1>,
    /// `[p, w]`, rows of patches one after the other.
    pub position_embedding: Tensor<2>,
    /// Pixels on a side of a patch.
    pub patch_size: usize,
}

impl VisionEmbeddings {
    /// Embeds one picture.
    ///
    /// # Shapes
    /// - `pixels`: `[channels, height, width]`
    /// - output: `[p, w]`
    pub fn forward(&self, pixels: Tensor<3>) -> Tensor<2> {
        let embedded = self.patch_embedding.project(patches(pixels, self.patch_size));
        embedded + self.patch_bias.clone().unsqueeze() + self.position_embedding.clone()
    }
}

/// The pixels of each whole patch, in the order of a kernel's numbers.
///
/// # Shapes
/// - `pixels`: `[channels, height, width]`
/// - output: `[p, channels side side]`
fn patches(pixels: Tensor<3>, side: usize) -> Tensor<2> {
    let [channels, height, width] = pixels.dims();
    let (rows, columns) = (height / side, width / side);
    let whole = pixels.slice([0..channels, 0..rows * side, 0..columns * side]);
    let split = whole.reshape([channels, rows, side, columns, side]);
    split.permute([1, 3, 0, 2, 4]).reshape([rows * columns, channels * side * side])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    #[test]
    fn patches_are_rows_of_rows_with_their_colours_apart() {
        let pixels = Tensor::<1, Int>::arange(0..40, &Device::flex()).float().reshape([2, 4, 5]);
        let got: Vec<f32> = patches(pixels, 2).into_data().iter().collect();
        let corner = |row: u32, column: u32| {
            [0, 20]
                .into_iter()
                .flat_map(move |colour| [0, 1, 5, 6].map(|at| (colour + at + 10 * row + 2 * column) as f32))
        };
        let expected: Vec<f32> = [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().flat_map(|(r, c)| corner(r, c)).collect();
        assert_eq!(got, expected, "the fifth column is in no whole patch");
    }
}
