//! What passes a gate that lets little through.

use super::node::Cpu;
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Columns of a sparse matrix that are handled together: their panel stays in a core's cache.
pub(super) const BLOCK: usize = 512;
/// One in so many may be other than zero; of more, a product that skips nothing is as fast.
const SPARSE: usize = 8;
/// Fewer tokens than this wait for the weight to arrive whatever is computed with it.
const TOKENS: usize = 4;

/// Where a gate `[n, f]` is not zero, so that the products around it compute nothing else. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Passing(Arc<Entries>);

/// The side of a weight on which only some of the elements of each token count.
#[derive(Debug, Clone)]
pub(super) enum Sparse {
    /// The others of its inputs are zero, and the gradients of the others are not read.
    Inputs(Arc<Entries>),
    /// The others of its outputs are not read, and the gradients of the others are zero.
    Outputs(Arc<Entries>),
}

impl Passing {
    /// Where this gate is not zero; `None` where products that skip nothing are as fast: of few tokens, of a gate that
    /// lets more than an eighth pass, on a device other than the CPU.
    ///
    /// # Shapes
    /// - `gate`: `[n, f]`
    pub fn of(gate: &Tensor<2>) -> Option<Self> {
        let gate = Cpu::new(gate)?;
        Entries::of(gate.values(), gate.shape()[1]).map(|entries| Passing(Arc::new(entries)))
    }

    /// That the others of a weight's inputs are zero.
    pub(super) fn as_inputs(&self) -> Sparse {
        Sparse::Inputs(self.0.clone())
    }

    /// That the others of its outputs are not read.
    pub(super) fn as_outputs(&self) -> Sparse {
        Sparse::Outputs(self.0.clone())
    }
}

/// Where a matrix `[n, f]` is not zero: the columns of each row, block by block.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) rows: usize,
    pub(super) blocks: usize,
    width: usize,
    /// Where the entries of each row's block end, `[n, blocks]`.
    ends: Vec<u32>,
    /// The column of each entry within its block.
    pub(super) columns: Vec<u16>,
}

impl Entries {
    /// Where this matrix is not zero; `None` where it is so too often, or too small, to gain by it.
    fn of(values: &[f32], width: usize) -> Option<Self> {
        let rows = values.len() / width.max(1);
        let few = values.len() / SPARSE;
        if rows < TOKENS || u32::try_from(few).is_err() {
            return None;
        }
        let blocks = width.div_ceil(BLOCK);
        let (mut ends, mut columns) = (Vec::with_capacity(rows * blocks), Vec::with_capacity(few / 2));
        for block in values.chunks_exact(width).flat_map(|row| row.chunks(BLOCK)) {
            columns.extend((0u16..).zip(block).filter(|(_, value)| **value != 0.0).map(|(column, _)| column));
            if columns.len() > few {
                return None;
            }
            ends.push(columns.len() as u32);
        }
        Some(Entries { rows, blocks, width, ends, columns })
    }

    /// The entries of a row's block.
    pub(super) fn entries(&self, row: usize, block: usize) -> Range<usize> {
        let at = row * self.blocks + block;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[at] as usize
    }

    /// The entries of a run of rows.
    pub(super) fn entries_of(&self, rows: &Range<usize>) -> Range<usize> {
        if rows.is_empty() || self.blocks == 0 {
            return 0..0;
        }
        self.entries(rows.start, 0).start..self.entries(rows.end - 1, self.blocks - 1).end
    }

    /// The values of a matrix where there are entries.
    pub(super) fn gather(&self, values: &[f32]) -> Vec<f32> {
        let mut entries = vec![0.0; self.columns.len()];
        self.each_run(&mut entries, |rows, entries| {
            let first = self.entries_of(&rows).start;
            for (row, block) in rows.flat_map(|row| (0..self.blocks).map(move |block| (row, block))) {
                let values = &values[row * self.width + block * BLOCK..];
                let own = self.entries(row, block);
                let to = &mut entries[own.start - first..own.end - first];
                to.iter_mut().zip(&self.columns[own]).for_each(|(to, column)| *to = values[usize::from(*column)]);
            }
        });
        entries
    }

    /// The matrix of these entries.
    pub(super) fn scatter(&self, entries: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.width];
        values.par_chunks_exact_mut(self.width).enumerate().for_each(|(row, values)| {
            for (block, values) in values.chunks_mut(BLOCK).enumerate() {
                let own = self.entries(row, block);
                let (entries, columns) = (&entries[own.clone()], &self.columns[own]);
                entries.iter().zip(columns).for_each(|(entry, column)| values[usize::from(*column)] = *entry);
            }
        });
        values
    }

    /// Calls `body` with runs of rows and their entries, a run per thread.
    pub(super) fn each_run(&self, entries: &mut [f32], body: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        let mut rest = entries;
        let mut runs = Vec::new();
        for rows in self.runs() {
            let (own, others) = rest.split_at_mut(self.entries_of(&rows).len());
            runs.push((rows, own));
            rest = others;
        }
        runs.into_par_iter().for_each(|(rows, own)| body(rows, own));
    }

    /// A run of rows per thread: each reads every panel once.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, run) = (self.rows, self.run());
        (0..rows).step_by(run).map(move |first| first..(first + run).min(rows))
    }

    pub(super) fn run(&self) -> usize {
        self.rows.div_ceil(rayon::current_num_threads()).max(1)
    }
}
