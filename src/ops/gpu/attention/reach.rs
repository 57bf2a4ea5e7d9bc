//! The mask as numbers on the device.

use super::tile::TILE;
use crate::ops::attention::visibility::Visibility;
use crate::ops::gpu::{CubeTensor, Numbers};
use burn_cubecl::CubeDevice;
use cubecl::prelude::BufferArg;
use std::ops::Range;
use std::sync::Arc;

/// Which rows see which: pairs of a first row and the row after the last, `[.., 2]`.
#[derive(Debug, Clone)]
pub struct Reach {
    device: CubeDevice,
    runs: Arc<[Range<usize>]>,
    /// The keys that each query sees.
    of_queries: Numbers,
    /// The keys that one or more of each tile of queries see.
    of_query_tiles: Numbers,
    /// The queries that see one or more of each tile of keys.
    of_key_tiles: Numbers,
}

impl Reach {
    /// The reach of this mask, for and beside the queries `[n, h, e]`.
    pub fn new(visibility: &Visibility, queries: &CubeTensor) -> Self {
        let mut of_queries = visibility.runs();
        // Those after the last group see nothing.
        of_queries.resize(queries.meta.shape()[0].max(of_queries.len()), 0..0);
        let upload = |runs: &[Range<usize>]| {
            let numbers: Vec<u32> = runs.iter().flat_map(|run| [run.start as u32, run.end as u32]).collect();
            Numbers::upload(bytemuck::cast_slice(&numbers), queries)
        };
        Reach {
            device: queries.device.clone(),
            of_query_tiles: upload(&query_tiles(&of_queries)),
            of_key_tiles: upload(&key_tiles(&of_queries)),
            of_queries: upload(&of_queries),
            runs: of_queries.into(),
        }
    }

    /// Whether it is where `tensor` is.
    pub fn is_beside(&self, tensor: &CubeTensor) -> bool {
        self.device == tensor.device
    }

    /// The keys that each query sees.
    pub(super) fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    pub(super) fn of_queries(&self) -> BufferArg {
        self.of_queries.buffer()
    }

    pub(super) fn of_query_tiles(&self) -> BufferArg {
        self.of_query_tiles.buffer()
    }

    pub(super) fn of_key_tiles(&self) -> BufferArg {
        self.of_key_tiles.buffer()
    }
}

/// The keys that one or more of each [`TILE`] queries see, and perhaps some between them.
fn query_tiles(of_queries: &[Range<usize>]) -> Vec<Range<usize>> {
    of_queries.chunks(TILE).map(|tile| hull(tile.iter().filter(|run| !run.is_empty()).cloned())).collect()
}

/// The queries that see one or more of each [`TILE`] keys, and perhaps some between them.
fn key_tiles(of_queries: &[Range<usize>]) -> Vec<Range<usize>> {
    let keys = of_queries.iter().map(|run| run.end).max().unwrap_or(0);
    let mut tiles = vec![0..0; keys.div_ceil(TILE)];
    for (query, run) in of_queries.iter().enumerate().filter(|(_, run)| !run.is_empty()) {
        for tile in &mut tiles[run.start / TILE..run.end.div_ceil(TILE)] {
            let first = if tile.end == 0 { query } else { tile.start };
            *tile = first..query + 1;
        }
    }
    tiles
}

/// The smallest range that holds all of these.
pub(super) fn hull(runs: impl Iterator<Item = Range<usize>>) -> Range<usize> {
    runs.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::visibility::Group;

    #[test]
    fn tiles_reach_what_their_rows_reach() {
        let whole = |rows: Range<usize>| Group { queries: rows.clone(), keys: rows };
        let visibility =
            Visibility { groups: vec![whole(0..40), whole(40..100)], window: 8, spans: vec![60..80, 90..91] };
        let of_queries = visibility.runs();
        assert_eq!((of_queries[39].clone(), of_queries[40].clone(), of_queries[61].clone()), (32..40, 40..41, 54..80));
        assert_eq!(query_tiles(&of_queries), [0..32, 25..80, 57..96, 89..100]);
        assert_eq!(key_tiles(&of_queries), [0..39, 32..71, 60..100, 96..100]);
        assert!(key_tiles(&[]).is_empty());
        assert_eq!(query_tiles(&[3..3, 5..7]).first(), Some(&(5..7)));
    }
}
