//! Products of two factors that are no weight's, on the calling thread.

use super::kernel::{Kernel, by};
use super::pack;
use super::product::Sums;
use super::runs::runs;
use super::tile::{Pair, Tile};
use crate::ops::cpu::matmul::{Product, Store};
use std::cell::RefCell;

thread_local! {
    /// What a thread packs factors in, kept from call to call.
    static ROOM: RefCell<Room> = RefCell::default();
}

#[derive(Default)]
struct Room {
    left: Vec<u32>,
    panel: Vec<Pair>,
    scratch: Vec<Pair>,
}

/// The product, or what `out` held and the product, where the columns of `out` are runs of `m` numbers, `column_stride` apart. Both
/// factors are rounded, after a power of two has brought the largest number of each near 1.
///
/// # Shapes
/// - `lhs`: `[m, k]`, whose columns lie together
/// - `rhs`: `[k, n]`, whose rows or columns lie together
/// - `out`: `[m, n]`
///
/// # Panics
/// When a slice is too short for its matrix, or a factor lies otherwise.
pub fn product(product: Product, out: &mut [f32], column_stride: usize) {
    by(Kernel::best(), product, out, column_stride);
}

/// As [`product`], by this kernel.
pub(super) fn by(kernel: Kernel, product: Product, out: &mut [f32], column_stride: usize) {
    ROOM.with_borrow_mut(|room| by!(kernel, multiply(product, out, column_stride, room)));
}

/// The rows of the tile's left factor are the columns of `rhs`, and its columns the rows of `lhs`, so that its sums lie as `out`
/// does.
fn multiply<T: Tile>(product: Product, out: &mut [f32], column_stride: usize, room: &mut Room) {
    let Product { dims: [m, n, k], factor, lhs, rhs, mut store } = product;
    let Room { left, panel, scratch } = room;
    assert!(lhs.strides[0] == 1 && rhs.strides.contains(&1) && column_stride >= m, "{m} x {k} x {n}");
    let in_rows = rhs.strides[0] != 1;
    let of_right = pack::power(lines(lhs.data, lhs.strides[1], [k, m]));
    let of_left = match in_rows {
        true => pack::power(lines(rhs.data, rhs.strides[0], [k, n])),
        false => pack::power(lines(rhs.data, rhs.strides[1], [n, k])),
    };
    let factor = factor * (1.0 / of_left) * (1.0 / of_right);
    let mut sums = Sums::default();
    let sums = &mut sums.0[..T::ROWS * T::COLUMNS];
    for run in runs(k) {
        let pairs = run.len().div_ceil(2);
        let words = pairs * T::ROWS * T::WORDS;
        left.resize(n.div_ceil(T::ROWS) * words, 0);
        for (tile, out) in left.chunks_exact_mut(words).enumerate() {
            let first = tile * T::ROWS;
            let rows = (n - first).min(T::ROWS);
            if in_rows {
                let x = &rhs.data[run.start * rhs.strides[0] + first..];
                pack::turned_rows::<T>(x, rhs.strides[0], rows, of_left, run.len(), out);
            } else {
                let x = &rhs.data[first * rhs.strides[1] + run.start..];
                pack::rows::<T>(x, rhs.strides[1], std::iter::repeat_n(&of_left, rows), run.len(), scratch, out);
            }
        }
        for first in (0..m).step_by(T::COLUMNS) {
            let columns = (m - first).min(T::COLUMNS);
            panel.resize(pairs * T::COLUMNS, 0);
            let x = &lhs.data[run.start * lhs.strides[1] + first..];
            pack::float_columns::<T>(x, lhs.strides[1], columns, of_right, run.len(), panel);
            for (tile, left) in left.chunks_exact(words).enumerate() {
                T::multiply(pairs, left, panel, sums);
                let rows = tile * T::ROWS..((tile + 1) * T::ROWS).min(n);
                for (row, sums) in rows.zip(sums.chunks_exact(T::COLUMNS)) {
                    store.put(&sums[..columns], factor, &mut out[row * column_stride + first..][..columns]);
                }
            }
        }
        store = Store::Add;
    }
}

/// So many lines of so many numbers, `stride` apart.
fn lines(data: &[f32], stride: usize, [lines, len]: [usize; 2]) -> impl Iterator<Item = &[f32]> {
    (0..lines).map(move |line| &data[line * stride..][..len])
}
