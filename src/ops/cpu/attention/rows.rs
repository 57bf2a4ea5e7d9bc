//! Rows of heads: taking them apart for tasks, and gathering those of one key head.

use std::ops::Range;

use crate::ops::attention::shape::AttentionShape;

/// Hands out runs of rows of a slice, front to back, and fills the rows in between.
pub(super) struct RowRuns<'a> {
    rest: &'a mut [f32],
    width: usize,
    next_row: usize,
    filler: f32,
}

impl<'a> RowRuns<'a> {
    /// Rows of `width` numbers; those that no run takes become `filler`.
    pub fn new(data: &'a mut [f32], width: usize, filler: f32) -> Self {
        Self { rest: data, width, next_row: 0, filler }
    }

    /// The rows `rows`, which lie behind all those taken before.
    pub fn take(&mut self, rows: &Range<usize>) -> &'a mut [f32] {
        let (skipped, rest) = std::mem::take(&mut self.rest).split_at_mut((rows.start - self.next_row) * self.width);
        skipped.fill(self.filler);
        let (run, rest) = rest.split_at_mut(rows.len() * self.width);
        self.rest = rest;
        self.next_row = rows.end;
        run
    }
}

impl Drop for RowRuns<'_> {
    fn drop(&mut self) {
        self.rest.fill(self.filler);
    }
}

/// The rows `rows` of `all` with the heads of one key head alone: a row per query and folded head.
///
/// With a single key head that is what `all` holds; otherwise they are copied to `copy`.
///
/// # Shapes
/// - `all`: `[n, h, e]`
/// - result: `[rows · fold, e]`
pub(super) fn gather<'a>(
    shape: &AttentionShape,
    kv_head: usize,
    all: &'a [f32],
    rows: &Range<usize>,
    copy: &'a mut Vec<f32>,
) -> &'a [f32] {
    let all = &all[rows.start * shape.query_width()..rows.end * shape.query_width()];
    if shape.kv_heads == 1 {
        return all;
    }
    let width = shape.fold() * shape.head_dim;
    copy.clear();
    for row in all.chunks_exact(shape.query_width()) {
        copy.extend_from_slice(&row[kv_head * width..][..width]);
    }
    copy
}

/// Brings rows of one key head back between those of the others: the reverse of [`gather`].
pub(super) fn scatter(shape: &AttentionShape, kv_head: usize, rows: &[f32], all: &mut [f32]) {
    let width = shape.fold() * shape.head_dim;
    for (row, to) in rows.chunks_exact(width).zip(all.chunks_exact_mut(shape.query_width())) {
        to[kv_head * width..][..width].copy_from_slice(row);
    }
}

/// Writes the transpose of `rows`, `[r, e]`, to the front of `transposed`, `[e, r]`, and returns it.
pub(super) fn transpose<'a>(rows: &[f32], e: usize, transposed: &'a mut Vec<f32>) -> &'a [f32] {
    let transposed = room(transposed, rows.len());
    let count = rows.len() / e;
    let first = count / BLOCK * BLOCK;
    for (i, block) in rows[..first * e].chunks_exact(BLOCK * e).enumerate() {
        let rows: [&[f32]; BLOCK] = std::array::from_fn(|row| &block[row * e..][..e]);
        transpose_block(rows, count, &mut transposed[i * BLOCK..]);
    }
    for (i, row) in rows.chunks_exact(e).enumerate().skip(first) {
        transposed[i..].iter_mut().step_by(count).zip(row).for_each(|(to, from)| *to = *from);
    }
    transposed
}

/// Rows that are transposed together, so that their numbers are written side by side.
const BLOCK: usize = 8;

/// Writes each number of `rows` `stride` behind the one before.
fn transpose_block(rows: [&[f32]; BLOCK], stride: usize, transposed: &mut [f32]) {
    let [a, b, c, d, e, f, g, h] = rows.map(|row| row.iter());
    let columns = a.zip(b).zip(c.zip(d)).zip(e.zip(f).zip(g.zip(h)));
    for ((((a, b), (c, d)), ((e, f), (g, h))), to) in columns.zip(transposed.chunks_mut(stride)) {
        to[..BLOCK].copy_from_slice(&[*a, *b, *c, *d, *e, *f, *g, *h]);
    }
}

/// The first `len` numbers of `buffer`, which grows when it must; what they hold is left over from before.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
