//! The projections of a Gemma 3, from its configuration alone.

use crate::model::gemma3::TextConfig;
use crate::model::site::{Site, Stage};
use crate::weights::names::{Projection, TensorId};

impl TextConfig {
    /// The projections of the model that this describes, in order of their number: those of a layer after those of the
    /// layers before it.
    pub fn sites(&self) -> Vec<Site> {
        let &TextConfig { hidden_size: d, intermediate_size: f, head_dim: e, .. } = self;
        let (q, kv) = (self.num_attention_heads * e, self.num_key_value_heads * e);
        let projections = [
            (Projection::Q, [q, d]),
            (Projection::K, [kv, d]),
            (Projection::V, [kv, d]),
            (Projection::O, [d, q]),
            (Projection::Gate, [f, d]),
            (Projection::Up, [f, d]),
            (Projection::Down, [d, f]),
        ];
        let layers = (0..self.num_hidden_layers).flat_map(|layer| projections.map(|(id, dims)| (layer, id, dims)));
        Site::numbered(
            layers
                .map(|(layer, projection, dims)| (TensorId::Projection(layer, projection), Stage::Layer(layer), dims)),
        )
    }
}
