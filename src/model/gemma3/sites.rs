//! The projections of a Gemma 3, from its configuration alone.

use crate::model::gemma3::TextConfig;
use crate::model::gemma3::config::ImageConfig;
use crate::model::site::{Site, Stage, WholeTensor};
use crate::model::vision::siglip::MultiModalProjector;
use crate::weights::names::{Projection, TensorId, VisionTensor};

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

    /// The linear layers of the tower, numbered after those of the language model. They run before the layers.
    pub fn tower_sites(&self) -> Vec<Site> {
        let linears =
            self.images.iter().filter(|images| images.has_tower).flat_map(|images| images.vision_config.linears());
        let weights = linears.map(|(module, dims)| (VisionTensor::Weight(module), dims));
        let first = self.sites().len();
        let sites = Site::numbered(weights.map(|(weight, dims)| (TensorId::Vision(weight), Stage::Embed, dims)));
        sites.into_iter().map(|site| Site { index: first + site.index, ..site }).collect()
    }

    /// The tensors of the projector, which is no linear layer.
    pub fn whole_tensors(&self) -> Vec<WholeTensor> {
        let width = |images: &ImageConfig| images.vision_config.hidden_size;
        self.images
            .iter()
            .flat_map(|images| MultiModalProjector::whole_tensors(width(images), self.hidden_size))
            .collect()
    }
}
