//! Pictures as a vision tower takes them: the numbers of an image processor's configuration.

use super::crops::{PanAndScan, cut};
use super::pixels::Picture;
use super::resize::resize;
use rayon::prelude::*;

/// What `preprocessor_config.json` says of images, as far as Gemma's processors use it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    /// Every image is resized to so many pixels in a row.
    pub width: usize,
    /// And to so many rows.
    pub height: usize,
    /// Subtracted from each channel, and what it is then divided by; without them a channel is 0 to 1.
    pub normalize: Option<Normalization>,
    /// Whether long pictures are also shown in pieces.
    pub pan_and_scan: Option<PanAndScan>,
    /// How they would be, where they are not; `None` where a model does not know such pieces.
    pub limits: Option<PanAndScan>,
    /// Tokens that each image, whole or piece, takes in the text.
    pub image_seq_length: usize,
}

/// `image_mean` and `image_std`, of channels of 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Of red, green and blue.
    pub mean: [f32; 3],
    /// Of red, green and blue.
    pub std: [f32; 3],
}

/// One picture's images, whole first, then its pieces.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelValues {
    /// Whole picture and pieces.
    pub images: usize,
    /// Rows of each.
    pub height: usize,
    /// Pixels in a row of each.
    pub width: usize,
    /// `[images, 3, height, width]`.
    pub values: Vec<f32>,
}

impl ImageProcessor {
    /// Gemma 3's: 896 x 896, -1 to 1, 256 tokens.
    pub fn gemma3() -> Self {
        let normalize = Some(Normalization { mean: [0.5; 3], std: [0.5; 3] });
        ImageProcessor {
            width: 896,
            height: 896,
            normalize,
            pan_and_scan: None,
            limits: Some(PanAndScan::default()),
            image_seq_length: 256,
        }
    }

    /// Gemma 3n's: 768 x 768, 0 to 1, 256 tokens.
    pub fn gemma3n() -> Self {
        ImageProcessor {
            width: 768,
            height: 768,
            normalize: None,
            pan_and_scan: None,
            limits: None,
            image_seq_length: 256,
        }
    }

    /// The images that a picture of this size becomes: itself and its pieces.
    pub fn images(&self, width: usize, height: usize) -> usize {
        1 + self.pan_and_scan.map_or(0, |pan| pan.crops(width, height).len())
    }

    /// The tokens that a picture of this size takes.
    pub fn soft_tokens(&self, width: usize, height: usize) -> usize {
        self.images(width, height) * self.image_seq_length
    }

    /// The numbers of a picture.
    pub fn prepare(&self, picture: &Picture) -> PixelValues {
        let crops = self.pan_and_scan.map_or(Vec::new(), |pan| pan.crops(picture.width, picture.height));
        let mut values = self.scaled(picture);
        for crop in &crops {
            values.extend(self.scaled(&cut(picture, *crop)));
        }
        PixelValues { images: 1 + crops.len(), height: self.height, width: self.width, values }
    }

    /// One image, channel by channel.
    fn scaled(&self, picture: &Picture) -> Vec<f32> {
        let resized = resize(picture, self.width, self.height);
        let channel = |c: usize| {
            let shades: Vec<f32> = (0..=255u8).map(|shade| self.number(c, shade)).collect();
            resized.rgb.as_chunks::<3>().0.iter().map(|pixel| shades[usize::from(pixel[c])]).collect::<Vec<f32>>()
        };
        (0..3).into_par_iter().flat_map_iter(channel).collect()
    }

    /// A shade of a channel as the tower takes it.
    fn number(&self, channel: usize, shade: u8) -> f32 {
        let shade = f32::from(shade);
        match self.normalize {
            // One subtraction and one division in steps of 255, as the processor fuses them.
            Some(Normalization { mean, std }) => (shade - mean[channel] * 255.0) / (std[channel] * 255.0),
            None => shade * (1.0 / 255.0),
        }
    }
}
