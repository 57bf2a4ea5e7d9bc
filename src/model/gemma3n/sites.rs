//! The linear layers of a Gemma 3n, from its configuration alone.

use crate::model::gemma3n::TextConfig;
use crate::model::site::{Site, Stage};
use crate::weights::names::{AudioTensor, LayerNorm, Projection, TensorId};

impl TextConfig {
    /// The linear layers of the model that this describes, in order of their number: those of a layer after those of the
    /// layers before it, then those before and after the layers.
    pub fn sites(&self) -> Vec<Site> {
        let (d, layers, streams) = (self.hidden_size, self.num_hidden_layers(), self.altup_num_inputs);
        let inside = (0..layers).flat_map(|layer| {
            let projections = self.projections(layer).into_iter();
            projections.map(move |(id, dims)| (TensorId::Projection(layer, id), Stage::Layer(layer), dims))
        });
        let told = [layers * self.hidden_size_per_layer_input, d];
        let before = [(TensorId::PerLayerModelProjection, Stage::Embed, told)];
        let spread = (1..streams).map(|at| (TensorId::AltupProjection(at - 1), Stage::Embed, [d, d]));
        let merged = (1..streams).map(|at| (TensorId::AltupUnembedProjection(at - 1), Stage::LastHidden, [d, d]));
        Site::numbered(inside.chain(before).chain(spread).chain(merged))
    }

    /// The linear layers beside the language model, numbered after its own. They run before the layers.
    pub fn tower_sites(&self) -> Vec<Site> {
        let d = self.hidden_size;
        // What stays where the towers were not loaded comes first: its numbers are the same then.
        let vision = self.images.iter().map(|images| images.embed_vision.linear(d));
        let audio = self.sounds.iter().map(|sounds| sounds.embed_audio.linear(d));
        let tower = self.sounds.iter().filter(|sounds| sounds.has_tower).flat_map(|sounds| {
            let linears = sounds.audio_config.linears();
            linears.map(|(module, dims)| (TensorId::Audio(AudioTensor::Weight(module)), Stage::Embed, dims))
        });
        let first = self.sites().len();
        let sites = Site::numbered(vision.chain(audio).chain(tower));
        sites.into_iter().map(|site| Site { index: first + site.index, ..site }).collect()
    }

    /// The linear layers of one layer, `[out, in]`: one that reads another's keys and values makes none.
    fn projections(&self, layer: usize) -> Vec<(Projection, [usize; 2])> {
        let &TextConfig { hidden_size: d, hidden_size_per_layer_input: p, head_dim: e, .. } = self;
        let (l, s, f) = (self.laurel_rank, self.altup_num_inputs, self.intermediate_size[layer]);
        let (q, kv) = (self.num_attention_heads * e, self.num_key_value_heads * e);
        let all = [
            (Projection::Q, [q, d]),
            (Projection::K, [kv, d]),
            (Projection::V, [kv, d]),
            (Projection::O, [d, q]),
            (Projection::Gate, [f, d]),
            (Projection::Up, [f, d]),
            (Projection::Down, [d, f]),
            (Projection::PerLayerGate, [p, d]),
            (Projection::PerLayerProjection, [d, p]),
            (Projection::LaurelLeft, [l, d]),
            (Projection::LaurelRight, [d, l]),
            (Projection::AltupRouter, [s, d]),
            (Projection::AltupPrediction, [s * s, s]),
            (Projection::AltupCorrection, [s, s]),
        ];
        let own = |id: Projection| layer < self.first_shared_layer() || !matches!(id, Projection::K | Projection::V);
        all.into_iter().filter(|(id, _)| own(*id)).collect()
    }

    /// The shape of the per-layer embedding, `[v, L p]`.
    pub(super) fn per_layer_table(&self) -> [usize; 2] {
        [self.vocab_size_per_layer_input, self.num_hidden_layers() * self.hidden_size_per_layer_input]
    }

    /// The norms of one layer and their widths.
    pub(super) fn norms(&self, layer: usize) -> Vec<(LayerNorm, usize)> {
        let width = |norm| match norm {
            LayerNorm::QNorm | LayerNorm::KNorm => self.head_dim,
            _ => self.hidden_size,
        };
        let own = |norm: LayerNorm| match norm {
            LayerNorm::KNorm => layer < self.first_shared_layer(),
            LayerNorm::CorrectScale => self.altup_correct_scale,
            _ => true,
        };
        LayerNorm::ALL.into_iter().filter(|norm| own(*norm)).map(|norm| (norm, width(norm))).collect()
    }
}
