//! What is done with blocks, whatever their type, and whatever the processor.

use super::runs::{Format, Scales, units};
use super::vector::{UNIT, Vector};

/// Something that is done with the instructions of a processor.
pub(super) trait Work {
    /// Whether it sums products of bytes, for which some processors have instructions of their own.
    const SUMS_BYTES: bool = false;

    /// Does it with the instructions `V`; inlined where they are known.
    fn with<V: Vector>(self);
}

/// Something that is done with blocks.
pub(super) trait BlockWork {
    /// As of [`Work`].
    const SUMS_BYTES: bool = false;

    /// Does it with the instructions `V` to blocks of the type `F`.
    fn run<V: Vector, F: Format<BYTES, RUNS>, const BYTES: usize, const RUNS: usize>(self);
}

/// Writes the elements as f32.
pub(super) struct Unpack<'a> {
    pub bytes: &'a [u8],
    pub out: &'a mut [f32],
}

impl BlockWork for Unpack<'_> {
    #[inline(always)]
    fn run<V: Vector, F: Format<BYTES, RUNS>, const BYTES: usize, const RUNS: usize>(self) {
        let (blocks, outs) = (self.bytes.as_chunks::<BYTES>().0, self.out.chunks_exact_mut(UNIT * units(RUNS)));
        for (block, out) in blocks.iter().zip(outs) {
            let Scales { scales, offsets } = F::scales::<V>(block);
            for (unit, out) in out.as_chunks_mut::<UNIT>().0.iter_mut().enumerate() {
                let codes = V::widened(F::codes::<V>(block, unit));
                for (part, (out, codes)) in out.as_chunks_mut::<8>().0.iter_mut().zip(codes).enumerate() {
                    let run = unit * RUNS / units(RUNS) + part * (RUNS / units(RUNS)) / 4;
                    let product = V::multiply(V::all(scales[run]), codes);
                    V::write(if F::HAS_OFFSETS { V::add(product, V::all(offsets[run])) } else { product }, out);
                }
            }
        }
    }
}

/// Rows `[n, in]` that blocks are multiplied with.
pub(in crate::quant) trait Inputs {
    /// Whether products of bytes are summed, for which some processors have instructions of their own.
    const SUMS_BYTES: bool;
    /// How many times too large codes are that were made ready.
    const TOO_LARGE: f32;
    /// A unit of codes as it is multiplied.
    type Ready<V: Vector>: Copy;
    /// What a unit of codes is multiplied with.
    type Unit;

    /// How many there are.
    fn len(&self) -> usize;

    /// Units in each.
    fn units(&self) -> usize;

    /// The units of all inputs, as [`lay`] lays them.
    fn laid(&self) -> &[Self::Unit];

    /// Makes codes ready, once for all inputs.
    fn ready<V: Vector>(codes: V::Bytes) -> Self::Ready<V>;

    /// Adds to `sum` what a unit of codes, which have one scale or one for each half, makes with a unit of an input.
    fn add<V: Vector>(unit: &Self::Unit, codes: Self::Ready<V>, scales: &[f32], sum: &mut V::Floats);

    /// The sums of runs of an input: of 16, or of 32.
    fn sums(&self, input: usize, are_whole: bool) -> &[f32];
}

/// A unit of inputs, on a line of the cache of its own: what is read across two lines takes twice as long.
#[repr(align(64))]
#[derive(Debug, Clone, Copy)]
pub(in crate::quant) struct FloatUnit(pub [f32; UNIT]);

/// The most inputs that are multiplied at a time: so many sums stay in registers beside the codes of a unit.
const MOST: usize = 8;

/// How many inputs are multiplied at a time where so many are left. Beside the last of them may stand some that are nothing: to
/// multiply those too takes less than to take the codes out of their blocks once more.
pub(super) const fn at_a_time(left: usize) -> usize {
    match left {
        0..=1 => left,
        2..=4 => 4,
        _ => MOST,
    }
}

/// The units of `n` inputs in the order in which products read them: of those that are multiplied at a time, units of one number
/// are neighbours. `unit` gets the numbers of an input and of its unit.
pub(in crate::quant) fn lay<U: Copy>(n: usize, units: usize, nothing: U, unit: impl Fn(usize, usize) -> U) -> Vec<U> {
    let mut laid = Vec::with_capacity(n.next_multiple_of(MOST) * units);
    for first in (0..n).step_by(MOST) {
        let beside = first..first + at_a_time(n - first);
        for number in 0..units {
            laid.extend(beside.clone().map(|input| if input < n { unit(input, number) } else { nothing }));
        }
    }
    laid
}

/// The products of rows with `N` inputs.
pub(super) struct Dots<'a, I, const N: usize> {
    /// Whole blocks.
    pub rows: &'a [u8],
    pub x: &'a I,
    /// The first of the inputs; there may be fewer than `N` from it on.
    pub first: usize,
    pub outputs: usize,
    /// `[N, outputs]`.
    pub out: &'a mut [f32],
}

impl<I: Inputs, const N: usize> BlockWork for Dots<'_, I, N> {
    const SUMS_BYTES: bool = I::SUMS_BYTES;

    /// # Numerics
    /// `sum_run scale (sum code x) + sum_run offset (sum x)`, each sum in a fixed order that does not depend on `N`.
    #[inline(always)]
    fn run<V: Vector, F: Format<BYTES, RUNS>, const BYTES: usize, const RUNS: usize>(self) {
        let (units, in_unit) = (units(RUNS), RUNS / units(RUNS));
        let (in_input, used) = (self.x.units(), (self.x.len() - self.first).min(N));
        let inputs = self.x.laid().get(self.first * in_input..).unwrap_or_default().as_chunks::<N>().0;
        let inputs = inputs.get(..in_input).unwrap_or_default();
        for (row, blocks) in self.rows.as_chunks::<BYTES>().0.chunks_exact((in_input / units).max(1)).enumerate() {
            let (mut sums, mut ones, mut eights) = ([V::all(0.0); N], [0f32; N], [V::all(0.0); N]);
            for (block, (bytes, inputs)) in blocks.iter().zip(inputs.chunks_exact(units)).enumerate() {
                if N < MOST {
                    V::read_soon(bytes);
                }
                let Scales { scales, offsets } = F::scales::<V>(bytes);
                let mut scales = scales;
                scales.iter_mut().for_each(|scale| *scale *= 1.0 / I::TOO_LARGE);
                for (unit, inputs) in inputs.iter().enumerate() {
                    let codes = I::ready::<V>(F::codes::<V>(bytes, unit));
                    let scales = &scales[unit * in_unit..(unit + 1) * in_unit];
                    for (input, sum) in inputs.iter().zip(&mut sums) {
                        I::add::<V>(input, codes, scales, sum);
                    }
                }
                if F::HAS_OFFSETS {
                    for (n, (one, eight)) in ones.iter_mut().zip(&mut eights).enumerate().take(used) {
                        let of_x = self.x.sums(self.first + n, in_unit == 1);
                        if let Some(of_x) = of_x[block * RUNS..].first_chunk() {
                            add_products::<V, RUNS>(&offsets, of_x, one, eight);
                        }
                    }
                }
            }
            let sums = sums.into_iter().zip(ones).zip(eights);
            for (n, ((sum, one), eight)) in sums.enumerate().take(used) {
                if let Some(out) = self.out.get_mut(n * self.outputs + row) {
                    *out = V::sum(V::add(sum, eight)) + one;
                }
            }
        }
    }
}

/// Adds the products of eight numbers or of sixteen to `eight`, whose sum is made once a row; the product of one to `one`.
#[inline(always)]
fn add_products<V: Vector, const RUNS: usize>(a: &[f32; RUNS], b: &[f32; RUNS], one: &mut f32, eight: &mut V::Floats) {
    if RUNS == 1 {
        *one += a[0] * b[0];
    }
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        *eight = V::multiply_add(V::read(a), V::read(b), *eight);
    }
}
