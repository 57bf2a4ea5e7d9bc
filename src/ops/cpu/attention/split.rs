//! Groups whose backward pass several tasks share: each sums `dk` and `dv` on its own, and the sums are added at the
//! end.

use std::ops::Range;

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::visible::VisibleGroup;
use crate::quant::simd::widest;

/// Rows of keys whose sums are added at a time.
const ROWS: usize = 16;

/// A group that several tasks share.
pub(super) struct Split<'a> {
    pub parts: Vec<Part<'a>>,
    pub keys: Range<usize>,
    pub dk: &'a mut [f32],
    pub dv: &'a mut [f32],
}

/// A run of queries of a group, with sums of its own.
pub(super) struct Part<'a> {
    pub group: &'a VisibleGroup,
    pub queries: Range<usize>,
    pub dq: &'a mut [f32],
    /// Rows of the keys that the queries see.
    pub keys: Range<usize>,
    /// `dk`, then `dv` of those keys.
    pub sums: Vec<f32>,
}

impl Split<'_> {
    /// Adds the sums of the parts, in their order.
    pub fn sum(self, width: usize) {
        let Self { parts, keys, dk, dv } = self;
        let blocks = dk.par_chunks_mut(ROWS * width).zip(dv.par_chunks_mut(ROWS * width));
        blocks.enumerate().for_each(|(i, (dk, dv))| {
            dk.fill(0.0);
            dv.fill(0.0);
            let start = keys.start + i * ROWS;
            let block = start..start + dk.len() / width;
            for part in &parts {
                let (part_dk, part_dv) = part.sums.split_at(part.keys.len() * width);
                let rows = block.start.max(part.keys.start)..block.end.min(part.keys.end);
                if rows.is_empty() {
                    continue;
                }
                let to = (rows.start - block.start) * width..(rows.end - block.start) * width;
                let from = (rows.start - part.keys.start) * width..(rows.end - part.keys.start) * width;
                for (to, from) in [(&mut dk[to.clone()], &part_dk[from.clone()]), (&mut dv[to], &part_dv[from])] {
                    widest(
                        #[inline(always)]
                        || to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
                    );
                }
            }
        });
    }
}
