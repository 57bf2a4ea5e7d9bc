//! Inputs of products with blocks as they are.

use super::gguf_blocks::{FROM_TOP, FloatUnit, Inputs, UNIT, Vector, lay};
use std::sync::OnceLock;

/// Inputs `[n, width]`, and the sums of their runs, which offsets of blocks are multiplied with.
#[derive(Debug, Clone)]
pub struct PlainRows {
    x: Vec<f32>,
    width: usize,
    /// The whole units of all, laid for products, the numbers of each in the order of [`Vector::fours`].
    units: Vec<FloatUnit>,
    /// Of each 16, and of each 32; of whole ones. Made where they are asked for: most types have no offsets.
    sums: OnceLock<[Vec<f32>; 2]>,
}

impl PlainRows {
    /// Of the rows of `x`.
    ///
    /// # Shapes
    /// - `x`: `[n, width]`
    pub fn new(x: &[f32], width: usize) -> Self {
        let width = width.max(1);
        let unit = |row, number| in_fours(&x[row * width + number * UNIT..][..UNIT]);
        let units = lay(x.len() / width, width / UNIT, FloatUnit([0.0; UNIT]), unit);
        PlainRows { x: x.to_vec(), width, units, sums: OnceLock::new() }
    }

    fn sums_of_runs(&self) -> &[Vec<f32>; 2] {
        self.sums.get_or_init(|| {
            let halves = self.rows().flat_map(|row| row.chunks_exact(UNIT / 2));
            let halves: Vec<f32> = halves.map(|run| run.iter().sum()).collect();
            let whole = halves.as_chunks::<2>().0.iter().map(|[a, b]| a + b).collect();
            [halves, whole]
        })
    }

    /// The rows, one after the other.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.x.chunks_exact(self.width)
    }
}

/// A unit in the order of [`Vector::fours`].
fn in_fours(unit: &[f32]) -> FloatUnit {
    let mut laid = [0.0; UNIT];
    let (low, high) = unit.split_at(UNIT / 2);
    let fours = low.as_chunks::<4>().0.iter().zip(high.as_chunks::<4>().0);
    for (to, (low, high)) in laid.as_chunks_mut::<8>().0.iter_mut().zip(fours) {
        to[..4].copy_from_slice(low);
        to[4..].copy_from_slice(high);
    }
    FloatUnit(laid)
}

impl Inputs for PlainRows {
    const SUMS_BYTES: bool = false;
    const TOO_LARGE: f32 = FROM_TOP;
    type Ready<V: Vector> = [V::Floats; 4];
    type Unit = FloatUnit;

    fn len(&self) -> usize {
        self.x.len() / self.width
    }

    #[inline(always)]
    fn units(&self) -> usize {
        self.width / UNIT
    }

    #[inline(always)]
    fn laid(&self) -> &[FloatUnit] {
        &self.units
    }

    #[inline(always)]
    fn ready<V: Vector>(codes: V::Bytes) -> [V::Floats; 4] {
        V::fours(codes)
    }

    #[inline(always)]
    fn add<V: Vector>(x: &FloatUnit, codes: [V::Floats; 4], scales: &[f32], sum: &mut V::Floats) {
        let x = x.0.as_chunks::<8>().0;
        let mut products = V::multiply(codes[0], V::read(&x[0]));
        for four in 1..4 {
            products = V::multiply_add(codes[four], V::read(&x[four]), products);
        }
        let scale = match *scales {
            [low, high] => V::halves(low, high),
            [scale] => V::all(scale),
            _ => return,
        };
        *sum = V::multiply_add(scale, products, *sum);
    }

    #[inline(always)]
    fn sums(&self, input: usize, are_whole: bool) -> &[f32] {
        let per_row = self.units() * if are_whole { 1 } else { 2 };
        &self.sums_of_runs()[usize::from(are_whole)][input * per_row..(input + 1) * per_row]
    }
}
