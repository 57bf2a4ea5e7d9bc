//! Products of packed factors, on all threads.

use super::kernel::{Kernel, by};
use super::pack;
use super::runs::{run_of, runs};
use super::tile::{Pair, Tile};
use crate::ops::cpu::matmul::Store;
use crate::ops::cpu::scattered::Scattered;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// The left factor of products, `[rows, width]`: rounded and packed once.
#[derive(Debug)]
pub struct Left {
    kernel: Kernel,
    rows: usize,
    width: usize,
    /// Run after run of the width, and in each tile after tile of rows.
    packed: Vec<u32>,
    /// What each row was multiplied by ([`pack::scale`]).
    scales: Vec<f32>,
}

/// The right one: a matrix `[rows, width]` in bf16.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a> {
    /// Row after row.
    pub values: &'a [u16],
    /// How many.
    pub rows: usize,
    /// Numbers of a row.
    pub width: usize,
}

thread_local! {
    /// What a thread packs a panel in, kept from call to call.
    static PANEL: RefCell<[Vec<Pair>; 2]> = RefCell::default();
}

impl Left {
    /// Rounds and packs a matrix `[rows, width]` for the fastest kernel.
    pub fn new(x: &[f32], dims: [usize; 2]) -> Self {
        Self::packed_for(Kernel::best(), x, dims)
    }

    /// As [`Left::new`], for this kernel.
    pub fn packed_for(kernel: Kernel, x: &[f32], [rows, width]: [usize; 2]) -> Self {
        assert!(x.len() >= rows * width, "{rows} x {width} values, not {}", x.len());
        let mut scales = vec![1.0; rows];
        if width > 0 {
            let lines = x.par_chunks_exact(width).with_min_len(16);
            scales.par_iter_mut().with_min_len(16).zip(lines).for_each(|(to, row)| *to = pack::scale(row));
        }
        let packed = by!(kernel, pack_left(x, width, &scales));
        Left { kernel, rows, width, packed, scales }
    }
}

fn pack_left<T: Tile>(x: &[f32], width: usize, scales: &[f32]) -> Vec<u32> {
    let rows = scales.len();
    let tiles = rows.div_ceil(T::ROWS);
    let mut packed = vec![0; tiles * T::ROWS * T::WORDS * width.next_multiple_of(2) / 2];
    let mut rest = packed.as_mut_slice();
    for run in runs(width) {
        let tile = run.len().div_ceil(2) * T::ROWS * T::WORDS;
        let (own, others) = rest.split_at_mut(tiles * tile);
        rest = others;
        own.par_chunks_exact_mut(tile.max(1)).enumerate().for_each(|(at, out)| {
            let first = at * T::ROWS;
            PANEL.with_borrow_mut(|[scratch, _]| {
                let scales = &scales[first..(first + T::ROWS).min(rows)];
                pack::rows::<T>(&x[first * width + run.start..], width, scales.iter(), run.len(), scratch, out);
            });
        });
    }
    packed
}

/// `out = x w^T` or `out += x w^T`, in columns of rows of `stride` numbers.
///
/// # Shapes
/// - `x`: `[n, width]`, `w`: `[columns, width]`
/// - `out`: `n` rows, of which the first `columns` numbers are written
///
/// # Panics
/// When the widths differ, or `out` is too short.
pub fn times_transposed(x: &Left, w: Right, into: Store, out: &mut [f32], stride: usize) {
    assert!(x.width == w.width, "[{}, {}] x [{}, {}]^T", x.rows, x.width, w.rows, w.width);
    let job = Job { x, terms: 0..x.width, w, transposed: true, columns: w.rows, into };
    by!(x.kernel, run(&job, out, stride));
}

/// As [`times_transposed`], `x w` where `w` is rows `terms` of the right factor, whole runs of it (see [`run_of`]).
///
/// # Shapes
/// - `x`: `[n, k]`, `w`: `[terms.len(), columns]`
pub fn times(x: &Left, terms: Range<usize>, w: Right, into: Store, out: &mut [f32], stride: usize) {
    let of = run_of(x.width);
    let whole = terms.start.is_multiple_of(of) && (terms.end.is_multiple_of(of) || terms.end == x.width);
    assert!(whole && terms.end <= x.width && terms.len() == w.rows, "{terms:?} of {} x {}", x.width, w.rows);
    let job = Job { x, terms, w, transposed: false, columns: w.width, into };
    by!(x.kernel, run(&job, out, stride));
}

/// A product.
struct Job<'a> {
    x: &'a Left,
    /// What of the left factor's width is multiplied.
    terms: Range<usize>,
    w: Right<'a>,
    transposed: bool,
    columns: usize,
    into: Store,
}

fn run<T: Tile>(job: &Job, out: &mut [f32], stride: usize) {
    let (rows, columns) = (job.x.rows, job.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= stride && out.len() >= (rows - 1) * stride + columns, "{rows} x {columns} of {}", out.len());
    assert!(job.w.values.len() >= job.w.rows * job.w.width);
    let (tiles, panels) = (rows.div_ceil(T::ROWS), columns.div_ceil(T::COLUMNS));
    // Enough tasks for all threads; of each the panel is packed, so no more than that.
    let parts = (2 * rayon::current_num_threads()).div_ceil(panels).min(tiles);
    let tall = tiles.div_ceil(parts);
    let out = Scattered::new(out, stride);
    (0..panels * parts).into_par_iter().for_each(|task| {
        let (panel, part) = (task % panels, task / panels);
        let columns = panel * T::COLUMNS..((panel + 1) * T::COLUMNS).min(columns);
        let tiles = part * tall..((part + 1) * tall).min(tiles);
        PANEL.with_borrow_mut(|[scratch, packed]| multiply::<T>(job, tiles, columns, scratch, packed, &out));
    });
}

/// Some tiles of rows times one panel of columns.
fn multiply<T: Tile>(
    job: &Job,
    tiles: Range<usize>,
    columns: Range<usize>,
    scratch: &mut Vec<Pair>,
    panel: &mut Vec<Pair>,
    out: &Scattered,
) {
    let (x, w) = (job.x, job.w);
    let all_tiles = x.rows.div_ceil(T::ROWS);
    let mut sums = Sums::default();
    let sums = &mut sums.0[..T::ROWS * T::COLUMNS];
    let mut into = job.into;
    for run in runs(x.width).filter(|run| job.terms.start <= run.start && run.end <= job.terms.end) {
        let pairs = run.len().div_ceil(2);
        panel.resize(pairs * T::COLUMNS, 0);
        let len = columns.len();
        if job.transposed {
            let w = &w.values[columns.start * w.width + run.start..];
            pack::rows_as_columns::<T>(w, job.w.width, len, run.len(), scratch, panel);
        } else {
            let w = &w.values[(run.start - job.terms.start) * w.width + columns.start..];
            pack::columns::<T>(w, job.w.width, len, run.len(), panel);
        }
        let of_run = &x.packed[run.start / 2 * all_tiles * T::ROWS * T::WORDS..];
        let tile_words = pairs * T::ROWS * T::WORDS;
        for tile in tiles.clone() {
            T::multiply(pairs, &of_run[tile * tile_words..][..tile_words], panel, sums);
            let rows = tile * T::ROWS..((tile + 1) * T::ROWS).min(x.rows);
            for (row, sums) in rows.zip(sums.chunks_exact(T::COLUMNS)) {
                // SAFETY: the row and its columns are inside of `out` (checked by `run`), and no other task has both.
                let out = unsafe { out.row(row, columns.clone()) };
                into.put(&sums[..len], 1.0 / x.scales[row], out);
            }
        }
        into = Store::Add;
    }
}

/// Sums of the largest tile.
const MOST: usize = 12 * 32;

/// Where a tile's sums are put, each register's at once.
#[repr(align(64))]
pub(super) struct Sums(pub [f32; MOST]);

impl Default for Sums {
    fn default() -> Self {
        Sums([0.0; MOST])
    }
}
