//! Products with matrices of which little is not zero, or of which little is asked for.
//!
//! A frozen weight is cut into panels: [`BLOCK`] columns (or rows) of which some are needed, by [`WIDE`] of the other
//! side, all of which are. What a token needs of a panel is a few of its rows, whole.

use super::simd::vectorised;
use crate::ops::passing::{BLOCK, Entries};
use crate::ops::weight::Weight;
use rayon::prelude::*;
use std::ops::Range;

/// Elements of a panel's row: as many sums as fit the registers.
const WIDE: usize = 64;
/// Partial sums of a product, side by side.
const LANES: usize = 8;
/// Products whose partial sums are added up at once.
const TOGETHER: usize = 16;

/// A panel's place: a block of the sparse side, and columns of the dense one.
#[derive(Debug, Clone)]
struct Place {
    block: usize,
    wide: Range<usize>,
}

impl Entries {
    /// `s W^T` of the `s` that is zero wherever this matrix is.
    ///
    /// # Shapes
    /// - `s`: `[n, f]`, `w`: `[out, f]`
    /// - output: `[n, out]`
    pub fn project(&self, s: &[f32], w: &Weight) -> Vec<f32> {
        let out = w.dims()[0];
        let (s, mut y) = (self.gather(s), vec![0.0; self.rows * out]);
        self.by_outputs(w, |places, panels| self.add(places, panels, &s, &mut y, out));
        y
    }

    /// `dy W` where this matrix is not zero, and zero elsewhere.
    ///
    /// # Shapes
    /// - `dy`: `[n, out]`, `w`: `[out, f]`
    /// - output: `[n, f]`
    pub fn project_back_here(&self, dy: &[f32], w: &Weight) -> Vec<f32> {
        let mut ds = vec![0.0; self.columns.len()];
        self.by_outputs(w, |places, panels| self.dot(places, panels, dy, w.dims()[0], &mut ds));
        self.scatter(&ds)
    }

    /// `x W^T` where this matrix is not zero, and zero elsewhere.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`, `w`: `[f, in]`
    /// - output: `[n, f]`
    pub fn project_here(&self, x: &[f32], w: &Weight) -> Vec<f32> {
        let mut y = vec![0.0; self.columns.len()];
        self.by_inputs(w, |places, panels| self.dot(places, panels, x, w.dims()[1], &mut y));
        self.scatter(&y)
    }

    /// `dy W` of the `dy` that is read only where this matrix is not zero.
    ///
    /// # Shapes
    /// - `dy`: `[n, f]`, `w`: `[f, in]`
    /// - output: `[n, in]`
    pub fn project_back(&self, dy: &[f32], w: &Weight) -> Vec<f32> {
        let input = w.dims()[1];
        let (dy, mut dx) = (self.gather(dy), vec![0.0; self.rows * input]);
        self.by_inputs(w, |places, panels| self.add(places, panels, &dy, &mut dx, input));
        dx
    }

    /// Calls `visit` with the panels of a weight `[out, f]`, [`WIDE`] outputs at a time: of each block of inputs the
    /// transposed one.
    fn by_outputs(&self, w: &Weight, mut visit: impl FnMut(&[Place], &[f32])) {
        let input = w.dims()[1];
        let mut panels = vec![0.0; self.blocks * BLOCK * WIDE];
        w.tiles_of(WIDE, |outputs, tile| {
            panels.par_chunks_exact_mut(BLOCK * WIDE).enumerate().for_each(|(block, panel)| {
                transpose(tile, input, block * BLOCK..((block + 1) * BLOCK).min(input), panel);
            });
            let place = |block| Place { block, wide: outputs.clone() };
            let places: Vec<_> = (0..self.blocks).map(place).collect();
            visit(&places, &panels);
        });
    }

    /// Calls `visit` with the panels of a weight `[f, in]`, a block of outputs at a time.
    fn by_inputs(&self, w: &Weight, mut visit: impl FnMut(&[Place], &[f32])) {
        let input = w.dims()[1];
        let mut panels = vec![0.0; input.div_ceil(WIDE) * BLOCK * WIDE];
        w.tiles_of(BLOCK, |outputs, tile| {
            panels.par_chunks_exact_mut(BLOCK * WIDE).enumerate().for_each(|(at, panel)| {
                let wide = at * WIDE..((at + 1) * WIDE).min(input);
                for (row, to) in tile.chunks_exact(input).zip(panel.chunks_exact_mut(WIDE)) {
                    to[..wide.len()].copy_from_slice(&row[wide.clone()]);
                }
            });
            let place = |first: usize| Place { block: outputs.start / BLOCK, wide: first..(first + WIDE).min(input) };
            let places: Vec<_> = (0..input).step_by(WIDE).map(place).collect();
            visit(&places, &panels);
        });
    }

    /// Adds to each row of `y` the rows of the panels that its entries name, times the entries.
    fn add(&self, places: &[Place], panels: &[f32], entries: &[f32], y: &mut [f32], width: usize) {
        let run = self.run();
        y.par_chunks_mut(run * width).enumerate().for_each(|(at, y)| {
            for (place, panel) in places.iter().zip(panels.chunks_exact(BLOCK * WIDE)) {
                for (row, y) in (at * run..).zip(y.chunks_exact_mut(width)) {
                    let own = self.entries(row, place.block);
                    add_rows(panel, &self.columns[own.clone()], &entries[own], &mut y[place.wide.clone()]);
                }
            }
        });
    }

    /// Adds to each entry the product of its row of `x` and its row of the panels.
    fn dot(&self, places: &[Place], panels: &[f32], x: &[f32], width: usize, entries: &mut [f32]) {
        self.each_run(entries, |rows, entries| {
            let first = self.entries_of(&rows).start;
            for (place, panel) in places.iter().zip(panels.chunks_exact(BLOCK * WIDE)) {
                for row in rows.clone() {
                    let own = self.entries(row, place.block);
                    let x = &x[row * width..][place.wide.clone()];
                    dot_rows(panel, &self.columns[own.clone()], x, &mut entries[own.start - first..own.end - first]);
                }
            }
        });
    }
}

/// Columns `columns` of the rows of a tile, as rows of [`WIDE`].
fn transpose(tile: &[f32], input: usize, columns: Range<usize>, panel: &mut [f32]) {
    // Of so many rows and columns: whole lines of the cache are read, and few of them lie on one another.
    const ROWS: usize = 8;
    const COLUMNS: usize = 16;
    for (group, rows) in tile.chunks(ROWS * input).enumerate() {
        for first in columns.clone().step_by(COLUMNS) {
            let run = first..(first + COLUMNS).min(columns.end);
            let to = &mut panel[(first - columns.start) * WIDE + group * ROWS..];
            for (r, row) in rows.chunks_exact(input).enumerate() {
                row[run.clone()].iter().enumerate().for_each(|(c, value)| to[c * WIDE + r] = *value);
            }
        }
    }
}

vectorised! {
    /// `y += sum_e s_e panel[column_e]`.
    fn add_rows(panel: &[f32], columns: &[u16], s: &[f32], y: &mut [f32]) {
        if columns.is_empty() {
            return;
        }
        let mut sums = [0f32; WIDE];
        sums[..y.len()].copy_from_slice(y);
        let (panel, _) = panel.as_chunks::<WIDE>();
        for (column, s) in columns.iter().zip(s) {
            let row = &panel[usize::from(*column)];
            for i in 0..WIDE {
                sums[i] = s.mul_add(row[i], sums[i]);
            }
        }
        y.copy_from_slice(&sums[..y.len()]);
    }

    /// `s_e += x . panel[column_e]`.
    fn dot_rows(panel: &[f32], columns: &[u16], x: &[f32], s: &mut [f32]) {
        let mut wide = [0f32; WIDE];
        wide[..x.len()].copy_from_slice(x);
        let (panel, _) = panel.as_chunks::<WIDE>();
        let mut sums = [[0f32; LANES]; TOGETHER];
        for (columns, s) in columns.chunks(TOGETHER).zip(s.chunks_mut(TOGETHER)) {
            for (column, sums) in columns.iter().zip(&mut sums) {
                let row = &panel[usize::from(*column)];
                let mut lanes = [0f32; LANES];
                for (x, row) in wide.as_chunks::<LANES>().0.iter().zip(row.as_chunks::<LANES>().0) {
                    for i in 0..LANES {
                        lanes[i] = x[i].mul_add(row[i], lanes[i]);
                    }
                }
                *sums = lanes;
            }
            add_up(&sums, s);
        }
    }
}

/// Adds to each number its lanes. Inlined, it makes the compiler cut the loop before it into vectors of two.
#[inline(never)]
fn add_up(sums: &[[f32; LANES]; TOGETHER], s: &mut [f32]) {
    for ([a, b, c, d, e, f, g, h], s) in sums.iter().zip(s) {
        *s += ((a + e) + (c + g)) + ((b + f) + (d + h));
    }
}
