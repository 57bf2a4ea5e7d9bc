//! Who may look at whom, cut into tiles.

use crate::nn::Segments;
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;

/// How far a layer's tokens look back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionKind {
    /// At the last `sliding_window` tokens, itself included.
    Sliding,
    /// At every earlier token of its sequence.
    Full,
}

/// Queries that are handled together, the keys that any of them may see, and the mask between them.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Rows of the stream whose queries this tile answers.
    pub queries: Range<usize>,
    /// Rows of the stream whose keys and values it needs.
    pub keys: Range<usize>,
    /// `[1, queries, keys]`: 0 where a query sees a key, minus infinity elsewhere. `None` where every query sees every key.
    pub mask: Option<Tensor<3>>,
}

/// The tiles of one batch, for both kinds of layers. Made once per batch, shared by all layers.
///
/// Short neighbouring segments share a tile; a long segment is cut into tiles of queries, each with only the keys inside
/// its reach, so that a sliding layer's work grows linearly with the length.
#[derive(Debug, Clone)]
pub struct AttentionPlan {
    sliding: Vec<Tile>,
    full: Vec<Tile>,
}

/// Queries in a tile: large enough for efficient products, small enough that a tile's scores stay in cache reach.
const TILE_QUERIES: usize = 512;

impl AttentionPlan {
    /// Plans the attention over `segments` with this sliding `window` (in tokens, itself included).
    pub fn new(segments: &Segments, window: usize, device: &Device) -> Self {
        let full = tiles(segments, usize::MAX, device);
        let longest = segments.ranges().iter().map(Range::len).max().unwrap_or(0);
        let sliding = if longest <= window { full.clone() } else { tiles(segments, window, device) };
        AttentionPlan { sliding, full }
    }

    /// The tiles for layers of this kind.
    pub fn tiles(&self, kind: AttentionKind) -> &[Tile] {
        match kind {
            AttentionKind::Sliding => &self.sliding,
            AttentionKind::Full => &self.full,
        }
    }
}

fn tiles(segments: &Segments, window: usize, device: &Device) -> Vec<Tile> {
    groups(segments)
        .into_iter()
        .flat_map(|group| {
            let span = group[0].start..group[group.len() - 1].end;
            let cuts = span.clone().step_by(TILE_QUERIES);
            let end = span.end;
            cuts.map(move |start| {
                let queries = start..(start + TILE_QUERIES).min(end);
                let reach = start.saturating_sub(window.saturating_sub(1));
                let keys = reach.max(span.start)..queries.end;
                let mask = mask(&group, &queries, &keys, window, device);
                Tile { queries, keys, mask }
            })
            .collect::<Vec<_>>()
        })
        .collect()
}

/// Neighbouring segments that fit one tile together; longer ones alone.
fn groups(segments: &Segments) -> Vec<Vec<Range<usize>>> {
    let mut groups: Vec<Vec<Range<usize>>> = Vec::new();
    for range in segments.ranges() {
        match groups.last_mut() {
            Some(group) if range.end - group[0].start <= TILE_QUERIES => group.push(range.clone()),
            _ => groups.push(vec![range.clone()]),
        }
    }
    groups
}

fn mask(
    group: &[Range<usize>],
    queries: &Range<usize>,
    keys: &Range<usize>,
    window: usize,
    device: &Device,
) -> Option<Tensor<3>> {
    if queries.len() == 1 && keys.len() == 1 {
        return None;
    }
    let mut values = vec![f32::NEG_INFINITY; queries.len() * keys.len()];
    let mut segment = group.iter();
    let mut current = segment.next()?;
    for (row, query) in queries.clone().enumerate() {
        while query >= current.end {
            current = segment.next()?;
        }
        let first = current.start.max((query + 1).saturating_sub(window)).max(keys.start);
        let row = &mut values[row * keys.len()..][..keys.len()];
        row[first - keys.start..=query - keys.start].fill(0.0);
    }
    Some(Tensor::from_data(TensorData::new(values, [1, queries.len(), keys.len()]), device))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tiles together allow exactly the pairs that the definition allows, each query in exactly one tile.
    fn check(lengths: &[usize], window: usize) {
        let segments = Segments::from_lengths(lengths.iter().copied());
        let n = segments.tokens();
        let plan = AttentionPlan::new(&segments, window, &Device::flex());
        for (kind, reach) in [(AttentionKind::Sliding, window), (AttentionKind::Full, usize::MAX)] {
            let mut seen = vec![false; n * n];
            let mut answered = vec![0; n];
            for tile in plan.tiles(kind) {
                let values = match &tile.mask {
                    Some(mask) => mask.to_data().try_to_vec::<f32>().unwrap(),
                    None => vec![0.0; tile.queries.len() * tile.keys.len()],
                };
                for (i, q) in tile.queries.clone().enumerate() {
                    answered[q] += 1;
                    for (j, k) in tile.keys.clone().enumerate() {
                        seen[q * n + k] = values[i * tile.keys.len() + j] == 0.0;
                    }
                }
            }
            assert!(answered.iter().all(|&times| times == 1));
            for segment in segments.ranges() {
                for q in segment.clone() {
                    for k in 0..n {
                        let allowed = segment.contains(&k) && k <= q && q - k < reach;
                        assert_eq!(seen[q * n + k], allowed, "{lengths:?} {kind:?} query {q} key {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_allow_what_the_definition_allows() {
        check(&[1], 4);
        check(&[5, 1, 9, 3], 4);
        check(&[400, 100, 30, 700, 12], 64);
        check(&[1300], 512);
        check(&[1300], 700);
    }
}
