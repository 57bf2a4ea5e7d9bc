//! PIL's bilinear resampling with antialiasing, to the bit.
//!
//! # Source
//! Pillow's `Resample.c`: a triangle as wide as the reduction, weights in 22-bit fixed point, each pass rounded to
//! 8 bits. It is one of the two backends of Hugging Face; torchvision's weights have fewer bits, and differ by one or two
//! steps of 255.

use super::pixels::Picture;
use rayon::prelude::*;
use std::borrow::Cow;

/// Bits after the point of a weight.
const PRECISION: u32 = 32 - 8 - 2;

/// The weights of one output position, from the input position `first` on.
struct Weights {
    first: usize,
    weights: Vec<i32>,
}

/// The picture at another size.
pub fn resize(picture: &Picture, width: usize, height: usize) -> Picture {
    // Seen in Pillow 13: the height goes first where it loses more than twice what the width does.
    let (lost_height, lost_width) = (picture.height as f64 - height as f64, picture.width as f64 - width as f64);
    let sideways_first = lost_height <= 0.0 || lost_height <= 2.0 * lost_width;
    if sideways_first {
        vertical(&horizontal(picture, width), height).into_owned()
    } else {
        horizontal(&vertical(picture, height), width).into_owned()
    }
}

/// How each of `to` positions is made of `from` positions.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0); // half the base of the triangle
    let narrowing = 1.0 / support;
    let of = |position: usize| {
        let center = (position as f64 + 0.5) * scale;
        // `as` cuts off the fraction, and negative numbers become 0, as in C.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle = |x: usize| (1.0 - ((x as f64 - center + 0.5) * narrowing).abs()).max(0.0);
        let exact: Vec<f64> = (first..end).map(triangle).collect();
        let sum: f64 = exact.iter().sum();
        let fixed = |w: f64| (0.5 + w / sum * f64::from(1 << PRECISION)) as i32;
        Weights { first, weights: exact.into_iter().map(|w| if sum == 0.0 { 0 } else { fixed(w) }).collect() }
    };
    (0..to).map(of).collect()
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn horizontal(picture: &Picture, width: usize) -> Cow<'_, Picture> {
    if width == picture.width {
        return Cow::Borrowed(picture);
    }
    let weights = weights(picture.width, width);
    let row = |row: &[u8]| -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * weights.len());
        for Weights { first, weights } in &weights {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[3 * first..].as_chunks::<3>().0.iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sums.map(rounded));
        }
        out
    };
    let rgb = picture.rgb.par_chunks_exact(3 * picture.width).flat_map_iter(row).collect();
    Cow::Owned(Picture { width, height: picture.height, rgb })
}

fn vertical(picture: &Picture, height: usize) -> Cow<'_, Picture> {
    if height == picture.height {
        return Cow::Borrowed(picture);
    }
    let stride = 3 * picture.width;
    let row = |Weights { first, weights }: &Weights| -> Vec<u8> {
        let mut sums = vec![HALF; stride];
        for (row, weight) in picture.rgb[stride * first..].chunks_exact(stride).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        sums.into_iter().map(rounded).collect()
    };
    let rgb = weights(picture.height, height).par_iter().flat_map_iter(row).collect();
    Cow::Owned(Picture { width: picture.width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_stays_flat() {
        let flat = Picture { width: 7, height: 5, rgb: [10, 200, 255].repeat(35) };
        for (width, height) in [(1, 1), (3, 9), (20, 2), (7, 5), (64, 64)] {
            let Picture { rgb, .. } = resize(&flat, width, height);
            assert_eq!(rgb, [10, 200, 255].repeat(width * height), "{width}x{height}");
        }
    }

    #[test]
    fn weights_of_every_position_sum_to_one() {
        for (from, to) in [(1, 896), (3000, 896), (895, 896), (897, 896), (5, 3)] {
            for Weights { first, weights } in weights(from, to) {
                assert!(first + weights.len() <= from && !weights.is_empty());
                let sum: i32 = weights.iter().sum();
                assert!((sum - (1 << PRECISION)).unsigned_abs() as usize <= weights.len(), "{from} to {to}: {sum}");
            }
        }
    }
}
