//! Products of rows of floats with a few inputs: too few for what packs both factors first, too many to take one by one.

use super::gguf_blocks::{ByInputs, FloatUnit, UNIT, Vector, lay, with_inputs_at_a_time};

/// Inputs `[n, width]` in the order in which products read them.
#[derive(Debug, Clone)]
pub struct FloatRows {
    rows: usize,
    width: usize,
    /// Laid for products; the last of each input has zeros at its end.
    units: Vec<FloatUnit>,
}

impl FloatRows {
    /// Of the rows of `x`.
    ///
    /// # Shapes
    /// - `x`: `[n, width]`
    pub fn new(x: &[f32], width: usize) -> Self {
        let width = width.max(1);
        let rows = x.len() / width;
        let unit = |row: usize, number: usize| {
            let mut unit = [0.0; UNIT];
            let of_row = &x[row * width..(row + 1) * width];
            unit.iter_mut().zip(&of_row[number * UNIT..]).for_each(|(unit, x)| *unit = *x);
            FloatUnit(unit)
        };
        FloatRows { rows, width, units: lay(rows, width.div_ceil(UNIT), FloatUnit([0.0; UNIT]), unit) }
    }

    /// Writes the products with rows of a matrix, on this thread. Those of an input do not depend on what is beside it.
    ///
    /// # Shapes
    /// - `matrix`: `[m, width]`
    /// - `out`: `[n, outputs]`, of which the columns `first..first + m` are written; what has no place is left out
    ///
    /// # Numerics
    /// f32, each product added with one rounding, in a fixed order.
    pub fn times(&self, matrix: &[f32], first: usize, outputs: usize, out: &mut [f32]) {
        with_inputs_at_a_time(self.rows, Dots { x: self, matrix, first, outputs, out });
    }
}

/// The products of a matrix with all inputs.
struct Dots<'a> {
    x: &'a FloatRows,
    matrix: &'a [f32],
    first: usize,
    outputs: usize,
    out: &'a mut [f32],
}

impl ByInputs for Dots<'_> {
    #[inline(always)]
    fn run<V: Vector, const N: usize>(&mut self, input: usize) {
        let FloatRows { rows, width, ref units } = *self.x;
        let in_input = width.div_ceil(UNIT);
        let inputs = units.get(input * in_input..).unwrap_or_default().as_chunks::<N>().0;
        let inputs = inputs.get(..in_input).unwrap_or_default();
        for (strip, w) in self.matrix.chunks(STRIP * width).enumerate() {
            let mut sums = [[[0f32; 8]; N]; STRIP];
            for (piece, inputs) in inputs.chunks(PIECE).enumerate() {
                for (w, sums) in w.chunks_exact(width).zip(&mut sums) {
                    sum_piece::<V, N>(w.get(piece * PIECE * UNIT..).unwrap_or_default(), inputs, sums);
                }
            }
            for (row, sums) in sums.iter().enumerate().take(w.len() / width) {
                for (n, sum) in sums.iter().enumerate().take(rows - input) {
                    if let Some(out) = self.out.get_mut((input + n) * self.outputs + self.first + strip * STRIP + row) {
                        *out = V::sum(V::read(sum));
                    }
                }
            }
        }
    }
}

/// Rows that are multiplied with a piece of the inputs while it is near.
const STRIP: usize = 8;
/// Units of the inputs in a piece: eight inputs of so many leave room in the nearest cache for what passes through.
const PIECE: usize = 20;

/// Adds the products of a piece of a row with a piece of each input.
#[inline(always)]
fn sum_piece<V: Vector, const N: usize>(w: &[f32], inputs: &[[FloatUnit; N]], to: &mut [[f32; 8]; N]) {
    let mut sums = [V::all(0.0); N];
    for (sum, to) in sums.iter_mut().zip(&*to) {
        *sum = V::read(to);
    }
    let (whole, last) = w.as_chunks::<UNIT>();
    for (w, inputs) in whole.iter().zip(inputs) {
        add::<V, N>(w, inputs, &mut sums);
    }
    if let Some(inputs) = inputs.get(whole.len())
        && !last.is_empty()
    {
        let mut w = [0.0; UNIT];
        w[..last.len()].copy_from_slice(last);
        add::<V, N>(&w, inputs, &mut sums);
    }
    for (sum, to) in sums.iter().zip(to) {
        V::write(*sum, to);
    }
}

/// Adds the products of a unit with a unit of each input.
#[inline(always)]
fn add<V: Vector, const N: usize>(w: &[f32; UNIT], inputs: &[FloatUnit; N], sums: &mut [V::Floats; N]) {
    let [a, b, c, d] = w.as_chunks::<8>().0 else { return };
    let w = [V::read(a), V::read(b), V::read(c), V::read(d)];
    for (input, sum) in inputs.iter().zip(sums) {
        for (w, x) in w.into_iter().zip(input.0.as_chunks::<8>().0) {
            *sum = V::multiply_add(w, V::read(x), *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::numbers;

    #[test]
    fn products_are_right_for_any_number_of_inputs_and_any_width() {
        for (width, rows) in [(1, 3), (31, 2), (32, 5), (77, 4), (640, 3)] {
            let matrix = numbers(rows * width, 1);
            let x = numbers(21 * width, 2);
            let alone: Vec<Vec<f32>> = x.chunks(width).map(|x| products(x, width, &matrix)).collect();
            for n in 1..=21 {
                let found = products(&x[..n * width], width, &matrix);
                assert_eq!(found, alone[..n].concat(), "{n} inputs of width {width}, as each alone");
            }
            for (found, x) in alone.iter().zip(x.chunks(width)) {
                for (found, w) in found.iter().zip(matrix.chunks(width)) {
                    let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    assert!((f64::from(*found) - expected).abs() <= 1e-6 * size, "{found} for {expected}");
                }
            }
        }
    }

    fn products(x: &[f32], width: usize, matrix: &[f32]) -> Vec<f32> {
        let rows = matrix.len() / width;
        // In two pieces, each beside the other.
        let (n, outputs, cut) = (x.len() / width, rows, rows / 2);
        let laid = FloatRows::new(x, width);
        let mut out = vec![f32::NAN; n * outputs];
        laid.times(&matrix[..cut * width], 0, outputs, &mut out);
        laid.times(&matrix[cut * width..], cut, outputs, &mut out);
        out
    }
}
