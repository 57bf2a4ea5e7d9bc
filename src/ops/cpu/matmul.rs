//! Products of matrices that live in slices.

use std::ops::Range;

/// A matrix in a slice, `row_stride` and `col_stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// The matrix `[rows, cols]` whose rows follow one another.
    pub fn new(values: &'a [f32], [rows, cols]: [usize; 2]) -> Self {
        assert!(values.len() >= rows * cols, "{rows} x {cols} values, not {}", values.len());
        Mat { values, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Its columns `range`, of a matrix whose rows follow one another.
    pub fn columns(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.cols);
        let first = (range.start * self.col_stride).min(self.values.len());
        Mat { values: &self.values[first..], cols: range.len(), ..self }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            values: self.values,
        }
    }
}

/// A matrix to write to, its rows `row_stride` elements apart.
#[derive(Debug)]
pub struct MatMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// The matrix `[rows, cols]` whose rows follow one another.
    pub fn new(values: &'a mut [f32], [rows, cols]: [usize; 2]) -> Self {
        assert!(values.len() >= rows * cols, "{rows} x {cols} values, not {}", values.len());
        MatMut { values, rows, cols, row_stride: cols }
    }

    /// Its columns `range`.
    pub fn columns(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.cols);
        let first = range.start.min(self.values.len());
        MatMut { values: &mut self.values[first..], rows: self.rows, cols: range.len(), row_stride: self.row_stride }
    }
}

/// What a product does with the values that are already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Overwrites them.
    Replace,
    /// Is added to them.
    Add,
}

impl Store {
    /// Puts or adds sums where they belong, each times `factor`.
    pub fn put(self, sums: &[f32], factor: f32, out: &mut [f32]) {
        match self {
            Store::Replace => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor),
            Store::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum * factor),
        }
    }
}

/// A matrix in a slice, whose size stands elsewhere: `m[i, j] = data[i · strides[0] + j · strides[1]]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub strides: [usize; 2],
}

/// A product of two of them, `factor · lhs rhs`, and what becomes of what the result held.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// `m`, `n`, `k`.
    pub dims: [usize; 3],
    pub factor: f32,
    /// `[m, k]`.
    pub lhs: Matrix<'a>,
    /// `[k, n]`.
    pub rhs: Matrix<'a>,
    pub store: Store,
}

impl<'a> Product<'a> {
    /// One that overwrites what the result held.
    pub fn replacing(dims: [usize; 3], factor: f32, lhs: Matrix<'a>, rhs: Matrix<'a>) -> Self {
        Product { dims, factor, lhs, rhs, store: Store::Replace }
    }

    /// One that is added to it.
    pub fn added(dims: [usize; 3], factor: f32, lhs: Matrix<'a>, rhs: Matrix<'a>) -> Self {
        Product { dims, factor, lhs, rhs, store: Store::Add }
    }
}

/// `out = scale a b`, or `out += scale a b`, on all threads. Each element is summed in the same order on any number of
/// them.
pub fn matmul(out: MatMut, into: Store, scale: f32, a: Mat, b: Mat) {
    // Below this many multiplications, handing work to other threads costs more than it saves.
    const PARALLEL: usize = 1 << 21;
    let [m, k, n] = [a.rows, a.cols, b.cols];
    assert!(out.rows == m && out.cols == n && b.rows == k, "[{m}, {k}] x [{}, {n}] into {out:?}", b.rows);
    if m == 0 || n == 0 {
        return;
    }
    let threads = if m * n * k < PARALLEL { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(0) };
    let last = |rows: usize, cols: usize, rs: usize, cs: usize| (rows.max(1) - 1) * rs + (cols.max(1) - 1) * cs;
    assert!(last(m, n, out.row_stride, 1) < out.values.len());
    assert!(k == 0 || last(m, k, a.row_stride, a.col_stride) < a.values.len());
    assert!(k == 0 || last(k, n, b.row_stride, b.col_stride) < b.values.len());
    let add = into == Store::Add;
    // SAFETY: the three matrices are inside their slices (checked above), and `out` is borrowed mutably, so it overlaps
    // neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            add,
            a.values.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}
