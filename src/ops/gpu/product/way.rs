//! The ways to multiply, and which of them a product may take.

use crate::ops::gpu::CubeTensor;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use cubecl::client::Client;
use cubecl::features::Tma;
use cubecl::ir::{ElemType, FloatKind};
use cubek::matmul::multi_level;
use cubek::matmul::strategy::Strategy;

/// A way to multiply; the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Matrix units, while a unit of their own copies the next tiles (NVIDIA's TMA, from sm_90 on).
    Copied,
    /// Matrix units, while the next tiles are loaded.
    Ahead,
    /// Matrix units, a tile after the other.
    Tiles,
    /// Ordinary units, a tile after the other. Of f32 nothing is lost.
    Units,
    /// A unit for each element.
    Naive,
}

impl Way {
    /// Its name in cubek.
    pub fn strategy(self) -> Strategy {
        use multi_level::Strategy::{DoubleCyclicCmma, Naive, SimpleCyclicCmma, SimpleUnit, SpecializedTmaCmma};
        Strategy::MultiLevel(match self {
            Way::Copied => SpecializedTmaCmma(Default::default()),
            Way::Ahead => DoubleCyclicCmma(Default::default()),
            Way::Tiles => SimpleCyclicCmma(Default::default()),
            Way::Units => SimpleUnit(Default::default()),
            Way::Naive => Naive,
        })
    }
}

/// What of a device decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    /// It has matrix units for these factors.
    pub multiplies: bool,
    /// It copies tiles by itself.
    pub copies: bool,
}

impl Kinds {
    /// Of the device where these factors are.
    pub fn of(factors: &CubeTensor) -> Self {
        let copies = factors.client.properties().features.tma.contains(Tma::Base);
        Kinds { multiplies: has_units_for(&factors.client, factors.dtype), copies }
    }
}

/// Whether a device has matrix units that multiply factors of a dtype and sum in f32.
pub fn has_units_for(client: &Client, factor: DType) -> bool {
    let (factor, sum) = (dtype_to_storage_type(factor), ElemType::Float(FloatKind::F32));
    let units = &client.properties().features.matmul;
    let mut units = units.cmma.iter().chain(&units.mma);
    units.any(|unit| (unit.a_type, unit.b_type, unit.cd_type) == (factor, factor, sum))
}

/// What of two matrices decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Of the factors.
    pub dtype: DType,
    /// Products that are made at once.
    pub batches: usize,
    /// Rows.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Columns.
    pub m: usize,
    /// Whether the left, and the right factor lie column after column.
    pub turned: [bool; 2],
    /// Whether every row of both begins at a multiple of [`ALIGNMENT`].
    pub is_aligned: bool,
}

/// Bytes, as units that copy by themselves want them.
const ALIGNMENT: u64 = 16;

impl Matrices {
    /// Of `x w`.
    pub fn of(x: &CubeTensor, w: &CubeTensor) -> Self {
        let (x_shape, w_shape) = (x.meta.shape(), w.meta.shape());
        let rank = x_shape.len();
        Matrices {
            dtype: x.dtype,
            batches: x_shape[..rank - 2].iter().product(),
            n: x_shape[rank - 2],
            k: x_shape[rank - 1],
            m: w_shape[rank - 1],
            turned: [x, w].map(|factor| factor.meta.strides()[rank - 1] != 1),
            is_aligned: [x, w].into_iter().all(is_aligned),
        }
    }

    /// Whether there is nothing to multiply.
    pub fn is_nothing(&self) -> bool {
        self.batches * self.n * self.k * self.m == 0
    }

    /// Whether its factors have fewer bits than f32.
    pub fn is_narrow(&self) -> bool {
        self.dtype != DType::F32
    }

    /// Whether there is so much to do that loading ahead is worth its start.
    fn is_large(&self) -> bool {
        const SMALLEST: usize = 64;
        const LARGEST: usize = 512;
        let sides = [self.n, self.k, self.m];
        sides.iter().all(|&side| side >= SMALLEST) && sides.iter().any(|&side| side >= LARGEST)
    }
}

fn is_aligned(factor: &CubeTensor) -> bool {
    let size = factor.dtype.size() as u64;
    let mut strides = factor.meta.strides().iter().map(|&stride| stride as u64);
    let starts = factor.handle.offset_start.unwrap_or(0).is_multiple_of(ALIGNMENT);
    starts && strides.all(|stride| stride == 1 || (stride * size).is_multiple_of(ALIGNMENT))
}

/// The ways that a product may take, best first; the last one asks nothing of a device. Matrix units never see factors
/// of f32: they would cut them to TF32.
pub fn ways(of: &Matrices, device: Kinds) -> Vec<Way> {
    let by_units = of.is_narrow() && device.multiplies;
    let is_open = |way: &Way| match way {
        Way::Copied => by_units && of.is_large() && device.copies && of.is_aligned,
        Way::Ahead => by_units && of.is_large(),
        Way::Tiles => by_units,
        Way::Units | Way::Naive => true,
    };
    [Way::Copied, Way::Ahead, Way::Tiles, Way::Units, Way::Naive].into_iter().filter(is_open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranks of adapters and some widths of models.
    const OTHERS: [usize; 9] = [1, 3, 8, 16, 64, 256, 640, 1152, 6912];

    fn matrices(dtype: DType, [n, k, m]: [usize; 3], is_aligned: bool) -> Matrices {
        Matrices { dtype, batches: 1, n, k, m, turned: [false; 2], is_aligned }
    }

    #[test]
    fn every_size_has_ways_that_end_with_the_simplest() {
        for device in [(false, false), (true, false), (true, true)] {
            let device = Kinds { multiplies: device.0, copies: device.1 };
            for n in 1..=4096 {
                for other in OTHERS {
                    for sizes in [[n, other, 640], [n, 640, other], [other, n, 640]] {
                        for (dtype, is_aligned) in [(DType::F32, true), (DType::BF16, true), (DType::F16, false)] {
                            let ways = ways(&matrices(dtype, sizes, is_aligned), device);
                            assert!(ways.is_sorted() && ways.ends_with(&[Way::Units, Way::Naive]));
                            let units = ways.len() > 2;
                            assert_eq!(units, dtype != DType::F32 && device.multiplies, "{sizes:?} {dtype:?}");
                            assert!(ways[0] != Way::Copied || (device.copies && is_aligned));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn large_products_load_ahead_and_those_of_a_few_rows_do_not() {
        let hopper = Kinds { multiplies: true, copies: true };
        let best = |sizes, is_aligned| ways(&matrices(DType::BF16, sizes, is_aligned), hopper)[0];
        assert_eq!(best([4096, 1152, 6912], true), Way::Copied);
        assert_eq!(best([4095, 1152, 6912], false), Way::Ahead);
        assert_eq!(best([4096, 1152, 16], true), Way::Tiles);
        assert_eq!(best([1, 1152, 6912], true), Way::Tiles);
        assert!(matrices(DType::F32, [4, 0, 3], true).is_nothing());
    }
}
