//! The projections of a Gemma 3, from its configuration alone.

use crate::model::gemma3::TextConfig;
use crate::weights::names::{Projection, Spelling};

/// One projection of the model: a place where an adapter can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Its number, as in [`crate::nn::Linear::site`].
    pub index: usize,
    /// The layer it is in.
    pub layer: usize,
    /// Which projection of that layer.
    pub projection: Projection,
    /// Input features.
    pub in_features: usize,
    /// Output features.
    pub out_features: usize,
}

impl Site {
    /// The number of the projection in a layer, counting the projections of all layers before it.
    pub fn number(layer: usize, projection: Projection) -> usize {
        layer * Projection::ALL.len() + projection as usize
    }

    /// The path by which PEFT knows it: `model.layers.3.mlp.up_proj`.
    pub fn module_path(&self, multimodal: bool) -> String {
        Spelling::of_modules(multimodal).module_path(self.layer, self.projection)
    }
}

impl TextConfig {
    /// The projections of the model that this describes, in order of their number.
    pub fn sites(&self) -> Vec<Site> {
        let &TextConfig { hidden_size: d, intermediate_size: f, head_dim: e, .. } = self;
        let (q, kv) = (self.num_attention_heads * e, self.num_key_value_heads * e);
        let shape = |projection| match projection {
            Projection::Q => (d, q),
            Projection::K | Projection::V => (d, kv),
            Projection::O => (q, d),
            Projection::Gate | Projection::Up => (d, f),
            Projection::Down => (f, d),
        };
        (0..self.num_hidden_layers)
            .flat_map(|layer| Projection::ALL.map(|projection| (layer, projection)))
            .map(|(layer, projection)| {
                let (in_features, out_features) = shape(projection);
                Site { index: Site::number(layer, projection), layer, projection, in_features, out_features }
            })
            .collect()
    }
}
