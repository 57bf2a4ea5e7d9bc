//! A smaller model that lies inside a larger one.

use super::names::{Projection, TensorId};
use serde_json::Value;
use std::ops::Range;

/// Which layers stay, and how much of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The layers that stay, by their numbers in the larger model.
    pub layers: Vec<usize>,
    /// The width of the feed-forward block of each.
    pub widths: Vec<usize>,
    /// The layers of the larger model.
    pub of_layers: usize,
    /// The width of what each layer is told of a word.
    pub per_layer: usize,
    /// What `config.json` says of the smaller model, where that differs.
    pub keys: Vec<(&'static str, Value)>,
}

/// The part of a tensor that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is in the smaller model.
    pub id: TensorId,
    /// The rows that stay; of a vector its elements.
    pub rows: Vec<Range<usize>>,
    /// The columns that stay; of a vector none.
    pub columns: Vec<Range<usize>>,
}

impl Slice {
    /// What stays of a tensor of this shape; `None` where all of it goes with its layer.
    pub fn part(&self, id: TensorId, shape: &[usize]) -> Option<Part> {
        let whole = |axis: usize| shape.get(axis).map(|&n| 0..n).into_iter().collect::<Vec<_>>();
        let of_layers =
            || self.layers.iter().map(|layer| layer * self.per_layer..(layer + 1) * self.per_layer).collect();
        let at = |layer: usize| self.layers.iter().position(|kept| *kept == layer);
        let (mut rows, mut columns) = (whole(0), whole(1));
        let id = match id {
            TensorId::Projection(layer, projection) => {
                let at = at(layer)?;
                let width = 0..self.widths[at];
                match projection {
                    Projection::Gate | Projection::Up => rows = vec![width],
                    Projection::Down => columns = vec![width],
                    _ => {}
                }
                TensorId::Projection(at, projection)
            }
            TensorId::LayerNorm(layer, norm) => TensorId::LayerNorm(at(layer)?, norm),
            TensorId::EmbedTokensPerLayer => {
                columns = of_layers();
                id
            }
            TensorId::PerLayerModelProjection => {
                rows = of_layers();
                id
            }
            other => other,
        };
        Some(Part { id, rows, columns })
    }
}

impl Part {
    /// The shape of what stays of a tensor of this shape.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        for (size, ranges) in shape.iter_mut().zip([&self.rows, &self.columns]) {
            *size = ranges.iter().map(Range::len).sum();
        }
        shape
    }

    /// What stays of values in rows of `width`.
    pub fn of<T: Copy>(&self, values: &[T], width: usize) -> Vec<T> {
        let rows = self.rows.iter().cloned().flatten().map(|row| &values[row * width..(row + 1) * width]);
        match &self.columns[..] {
            [] => rows.flatten().copied().collect(),
            columns => rows.flat_map(|row| columns.iter().flat_map(|range| &row[range.clone()])).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rows_and_columns() {
        let slice = Slice { layers: vec![0, 2], widths: vec![2, 1], of_layers: 3, per_layer: 2, keys: Vec::new() };
        let values: Vec<u32> = (0..12).collect();
        let of = |id: TensorId, shape: [usize; 2]| {
            let part = slice.part(id, &shape)?;
            Some((part.id, part.shape(&shape), part.of(&values[..shape[0] * shape[1]], shape[1])))
        };
        let projection = TensorId::Projection;
        let (gate, down) = (Projection::Gate, Projection::Down);
        assert_eq!(of(projection(2, gate), [3, 2]), Some((projection(1, gate), vec![1, 2], vec![0, 1])));
        assert_eq!(of(projection(0, down), [2, 3]), Some((projection(0, down), vec![2, 2], vec![0, 1, 3, 4])));
        assert_eq!(of(projection(1, down), [2, 3]), None);
        let table = TensorId::EmbedTokensPerLayer;
        assert_eq!(of(table, [2, 6]), Some((table, vec![2, 4], vec![0, 1, 4, 5, 6, 7, 10, 11])));
        let told = TensorId::PerLayerModelProjection;
        assert_eq!(of(told, [6, 1]), Some((told, vec![4, 1], vec![0, 1, 4, 5])));
        let norm = slice.part(TensorId::Norm, &[3]).unwrap();
        assert_eq!((norm.shape(&[3]), norm.of(&[7, 8, 9], 1)), (vec![3], vec![7, 8, 9]));
    }
}
