//! Pan and scan: a long picture is also shown in pieces.

use super::pixels::Picture;

/// When a picture is cut into pieces, and into how many; the names are those of `preprocessor_config.json`, without
/// `pan_and_scan_`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PanAndScan {
    /// Pieces that would be smaller on a side are not made.
    pub min_crop_size: usize,
    /// At most so many pieces.
    pub max_num_crops: usize,
    /// Only pictures whose longer side is so many times the shorter are cut.
    pub min_ratio_to_activate: f64,
}

impl Default for PanAndScan {
    /// As `Gemma3Processor` sets it.
    fn default() -> Self {
        PanAndScan { min_crop_size: 256, max_num_crops: 4, min_ratio_to_activate: 1.2 }
    }
}

/// A piece of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crop {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl PanAndScan {
    /// The pieces of a picture of this size, none where it is shown whole.
    ///
    /// # Source
    /// `Gemma3ImageProcessor.pan_and_scan`.
    pub(super) fn crops(&self, width: usize, height: usize) -> Vec<Crop> {
        let (long, short) = (width.max(height), width.min(height));
        let ratio = long as f64 / short as f64;
        if short == 0 || self.min_crop_size == 0 || ratio < self.min_ratio_to_activate {
            return Vec::new();
        }
        // Half is rounded up, as there.
        let ideal = (ratio + 0.5) as usize;
        let count = ideal.min(long / self.min_crop_size).max(2).min(self.max_num_crops.max(1));
        let length = long.div_ceil(count);
        if length.min(short) < self.min_crop_size {
            return Vec::new();
        }
        let piece = |i: usize| {
            let start = length * i;
            let rest = length.min(long.checked_sub(start)?);
            let (crop_x, crop_y) =
                (Crop { x: start, y: 0, width: rest, height }, Crop { x: 0, y: start, width, height: rest });
            Some(if width >= height { crop_x } else { crop_y }).filter(|_| rest > 0)
        };
        (0..count).filter_map(piece).collect()
    }
}

/// The piece as a picture of its own.
pub(super) fn cut(picture: &Picture, crop: Crop) -> Picture {
    let Crop { x, y, width, height } = crop;
    let rows = picture.rgb.chunks_exact(3 * picture.width).skip(y).take(height);
    Picture { width, height, rgb: rows.flat_map(|row| &row[3 * x..3 * (x + width)]).copied().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(width: usize, height: usize) -> Vec<(usize, usize, usize, usize)> {
        let crops = PanAndScan::default().crops(width, height);
        crops.into_iter().map(|c| (c.x, c.y, c.width, c.height)).collect()
    }

    #[test]
    fn crops_are_those_of_the_processor() {
        assert_eq!(sizes(640, 427), [(0, 0, 320, 427), (320, 0, 320, 427)]);
        assert_eq!(sizes(427, 641), [(0, 0, 427, 321), (0, 321, 427, 320)]);
        assert_eq!(sizes(500, 500), []);
        assert_eq!(sizes(448, 172), []); // pieces of 224 would be too small
        assert_eq!(sizes(3000, 400).len(), 4);
        assert_eq!(sizes(768, 300), [(0, 0, 256, 300), (256, 0, 256, 300), (512, 0, 256, 300)]);
    }

    #[test]
    fn pieces_cover_the_picture_once() {
        for (width, height) in [(1000, 300), (301, 1803), (2999, 257), (515, 256)] {
            let crops = PanAndScan::default().crops(width, height);
            let area: usize = crops.iter().map(|c| c.width * c.height).sum();
            assert!(crops.is_empty() || area == width * height, "{width}x{height}: {crops:?}");
        }
        let tiny = PanAndScan { min_crop_size: 1, max_num_crops: 4, min_ratio_to_activate: 1.0 };
        assert!(tiny.crops(5, 1).iter().all(|c| c.x + c.width <= 5 && c.width > 0));
        assert_eq!(tiny.crops(0, 5), []);
    }
}
