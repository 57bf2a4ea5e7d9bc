//! Attention with explicit scores and masks, cut into tiles.

use crate::ops::attention::shape::AttentionShape;
use crate::ops::attention::visibility::{Group, Visibility};
use crate::ops::product::product;
use crate::ops::traffic::upload;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;

/// Queries that are handled together, the keys that any of them may see, and the mask between them.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Rows of the queries that this tile answers.
    pub queries: Range<usize>,
    /// Rows of the keys and values it needs.
    pub keys: Range<usize>,
    /// `[1, queries, keys]`: 0 where a query sees a key, minus infinity elsewhere. `None` where every query sees every
    /// key.
    pub mask: Option<Tensor<3>>,
}

/// Queries in a tile: large enough for efficient products, small enough that a tile's scores stay in cache reach.
const TILE_QUERIES: usize = 512;

/// See [`super::super::attention::attention`].
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, shape: &AttentionShape, tiles: &[Tile]) -> Tensor<2> {
    let take = |t: &Tensor<3>, rows: &Range<usize>| {
        if *rows == (0..t.dims()[0]) { t.clone() } else { t.clone().narrow(0, rows.start, rows.len()) }
    };
    let mut mixed: Vec<Tensor<2>> = tiles
        .iter()
        .map(|tile| {
            let (q, k, v) = (take(&q, &tile.queries), take(&k, &tile.keys), take(&v, &tile.keys));
            mix(q, k, v, shape, tile.mask.clone())
        })
        .collect();
    if mixed.len() == 1 { mixed.remove(0) } else { Tensor::cat(mixed, 0) }
}

/// `softmax(scaling * q k^T + mask) v`.
///
/// The query heads that share a key head are folded into one product, so that keys are never repeated.
///
/// # Shapes
/// - `q`: `[s, h, e]`
/// - `k`, `v`: `[t, g, e]`
/// - `mask`: `[1, s, t]`
/// - output: `[s, h e]`
fn mix(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, shape: &AttentionShape, mask: Option<Tensor<3>>) -> Tensor<2> {
    let &AttentionShape { heads: h, kv_heads: g, scaling, softcap, .. } = shape;
    let [s, _, e] = q.dims();
    let [t, _, _] = k.dims();
    let fold = h / g;
    let q = q.mul_scalar(scaling).reshape([s, g, fold, e]).permute([1, 2, 0, 3]).reshape([g, fold * s, e]);
    let k = k.permute([1, 2, 0]); // [g, e, t]
    let v = v.swap_dims(0, 1); // [g, t, e]
    let mut scores = product(q, k).reshape([h, s, t]);
    if let Some(cap) = softcap {
        scores = scores.div_scalar(cap).tanh().mul_scalar(cap);
    }
    if let Some(mask) = mask {
        scores = scores + mask;
    }
    let weights = softmax(scores, 2).reshape([g, fold * s, t]);
    let mixed = product(weights, v).reshape([g, fold, s, e]);
    mixed.permute([2, 0, 1, 3]).reshape([s, h * e])
}

/// The tiles that answer every query: short neighbouring groups share one, a long group is cut into tiles of queries,
/// each with only the keys inside its reach, so that a sliding layer's work grows linearly with the length.
pub fn tiles(visibility: &Visibility, device: &Device) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for groups in joined(&visibility.groups) {
        let (first, last) = (&groups[0], &groups[groups.len() - 1]);
        let (queries, keys) = (first.queries.start..last.queries.end, first.keys.start..last.keys.end);
        // Row of a query -> row of its own key.
        let own = keys.end as isize - queries.end as isize;
        for start in queries.clone().step_by(TILE_QUERIES) {
            let tile = start..(start + TILE_QUERIES).min(queries.end);
            let at = |query: usize| query.saturating_add_signed(own);
            let mut seen = keys.start.max((at(tile.start) + 1).saturating_sub(visibility.window))..at(tile.end);
            for span in &visibility.spans {
                if span.start < seen.end && seen.start < span.end {
                    seen.end = seen.end.max(span.end).min(keys.end);
                }
            }
            let mask = mask(groups, &tile, &seen, own, visibility, device);
            tiles.push(Tile { queries: tile, keys: seen, mask });
        }
    }
    tiles
}

/// Neighbouring groups of whole sequences that fit one tile together; others alone.
fn joined(groups: &[Group]) -> Vec<&[Group]> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let fits = |run: &Range<usize>| {
            let (first, previous) = (&groups[run.start], &groups[index - 1]);
            let whole = |g: &Group| g.queries == g.keys;
            let neighbours = previous.queries.end == group.queries.start;
            whole(previous) && whole(group) && neighbours && group.queries.end - first.queries.start <= TILE_QUERIES
        };
        match runs.last_mut() {
            Some(run) if fits(run) => run.end = index + 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs.into_iter().map(|run| &groups[run]).collect()
}

fn mask(
    groups: &[Group],
    queries: &Range<usize>,
    keys: &Range<usize>,
    own: isize,
    visibility: &Visibility,
    device: &Device,
) -> Option<Tensor<3>> {
    let mut values = vec![f32::NEG_INFINITY; queries.len() * keys.len()];
    let mut group = groups.iter();
    let mut current = group.next()?;
    for (row, query) in queries.clone().enumerate() {
        while query >= current.queries.end {
            current = group.next()?;
        }
        let at = query.saturating_add_signed(own);
        let first = current.keys.start.max((at + 1).saturating_sub(visibility.window)).max(keys.start);
        let row = &mut values[row * keys.len()..][..keys.len()];
        row[first - keys.start..=at - keys.start].fill(0.0);
        for span in visibility.spans.iter().filter(|span| span.contains(&at)) {
            let span = span.start.max(first)..span.end.min(current.keys.end);
            row[span.start - keys.start..span.end - keys.start].fill(0.0);
        }
    }
    if values.iter().all(|&value| value == 0.0) {
        return None;
    }
    Some(upload(TensorData::new(values, [1, queries.len(), keys.len()]), device))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tiles together allow exactly the pairs that the definition allows, each query in exactly one tile.
    fn check(visibility: &Visibility) {
        let n = visibility.groups.last().unwrap().queries.end;
        let t = visibility.groups.last().unwrap().keys.end;
        let mut seen = vec![false; n * t];
        let mut answered = vec![0; n];
        for tile in tiles(visibility, &Device::flex()) {
            let values = match &tile.mask {
                Some(mask) => mask.to_data().try_to_vec::<f32>().unwrap(),
                None => vec![0.0; tile.queries.len() * tile.keys.len()],
            };
            for (i, q) in tile.queries.clone().enumerate() {
                answered[q] += 1;
                for (j, k) in tile.keys.clone().enumerate() {
                    seen[q * t + k] = values[i * tile.keys.len() + j] == 0.0;
                }
            }
        }
        assert!(answered.iter().all(|&times| times == 1));
        for group in &visibility.groups {
            for q in group.queries.clone() {
                let at = group.keys.end - group.queries.end + q;
                for k in 0..t {
                    let near = at < k || at - k < visibility.window;
                    let together = visibility.spans.iter().any(|span| span.contains(&at) && span.contains(&k));
                    let allowed = group.keys.contains(&k) && near && (k <= at || together);
                    assert_eq!(seen[q * t + k], allowed, "query {q} key {k}");
                }
            }
        }
    }

    fn whole(lengths: &[usize]) -> Vec<Group> {
        let mut start = 0;
        let group = |&len: &usize| {
            start += len;
            Group { queries: start - len..start, keys: start - len..start }
        };
        lengths.iter().map(group).collect()
    }

    #[test]
    fn tiles_allow_what_the_definition_allows() {
        for (lengths, window) in
            [(&[1][..], 4), (&[5, 1, 9, 3], 4), (&[400, 100, 30, 700, 12], 64), (&[1300], 512), (&[1300], usize::MAX)]
        {
            check(&Visibility { groups: whole(lengths), window, spans: Vec::new() });
        }
        check(&Visibility { groups: whole(&[20, 30]), window: 4, spans: vec![3..9, 31..40] });
        check(&Visibility { groups: vec![Group { queries: 0..3, keys: 0..10 }], window: 5, spans: Vec::new() });
    }
}
