//! The Gemma 3n model.

use crate::model::gemma3n::TextConfig;
use crate::model::gemma3n::altup::{merge, spread};
use crate::model::gemma3n::audio::Audio;
use crate::model::gemma3n::layer::Layer;
use crate::model::gemma3n::vision::Vision;
use crate::model::inputs::{Piece, with_pieces};
use crate::model::{Carry, DecoderConfig, Features, Inputs, LanguageModel, Layout, Modality, Rotary, SoftTokens};
use crate::nn::{AttentionPlan, BaseOnly, Kv, KvCache, Linear, RmsNorm, SidePath};
use crate::ops::{Input, Weight};
use burn::tensor::{Device, FloatDType, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// A Gemma 3n with frozen weights.
///
/// What its layers share in a [`Carry`]: the per-layer input of each, `[n, p]`, then keys and values `[n, g e]` of those
/// layers whose keys and values others read.
#[derive(Debug, Clone)]
pub struct Gemma3n {
    /// Its configuration.
    pub config: TextConfig,
    /// `[v, d]`.
    pub embed_tokens: Weight,
    /// `[v, L p]`, in main memory or in its file, whichever device computes.
    pub embed_tokens_per_layer: Weight,
    /// `[L p, d]`.
    pub per_layer_model_projection: Linear,
    /// Over `p`.
    pub per_layer_projection_norm: RmsNorm,
    /// What makes the streams beside the first, `[d, d]` each.
    pub altup_projections: Vec<Linear>,
    /// What becomes of them after the layers, `[d, d]` each.
    pub altup_unembed_projections: Vec<Linear>,
    /// The decoder layers, first to last.
    pub layers: Vec<Layer>,
    /// The norm before the head.
    pub norm: RmsNorm,
    /// `[v, d]`; the same tensor as `embed_tokens` where the head is tied.
    pub lm_head: Weight,
    /// What looks at pictures, where it was loaded.
    pub vision: Option<Vision>,
    /// What listens to sounds, where it was loaded.
    pub audio: Option<Audio>,
    /// What makes its rotations.
    pub rotary: Rotary,
    /// Where it computes.
    pub device: Device,
}

impl Gemma3n {
    /// Rows of the table times `sqrt(d)`; soft tokens, and the words around them, as their embedders make them.
    fn embedded(&self, inputs: &Inputs, side: &dyn SidePath) -> Tensor<2> {
        let scale = (self.config.hidden_size as f64).sqrt() as f32;
        let words = self.embed_tokens.select(&inputs.input_ids).mul_scalar(scale);
        let mut pieces = Vec::new();
        if let Some(vision) = &self.vision {
            pieces.extend(vision.embed_vision.pieces(inputs, |soft| vision.normed(soft), side));
        }
        if let Some(audio) = &self.audio {
            pieces.extend(audio.embed_audio.pieces(inputs, |soft| audio.normed(soft, side), side));
        }
        let bare = inputs.soft_tokens.iter().filter(|soft| !self.has_embedder(soft.modality));
        pieces.extend(bare.map(|soft| Piece { rows: soft.rows.clone(), embedded: bare_rows(soft) }));
        pieces.sort_by_key(|piece: &Piece| piece.rows.start);
        with_pieces(words, pieces)
    }

    /// Whether what makes rows for this modality was loaded.
    fn has_embedder(&self, modality: Modality) -> bool {
        match modality {
            Modality::Image => self.vision.is_some(),
            Modality::Audio => self.audio.is_some(),
        }
    }

    /// What each layer is told of the tokens, `[n, p]` each: of their ids, as far as the table goes, and of `embedded`.
    fn per_layer_inputs(&self, ids: &[u32], embedded: &Tensor<2>, side: &dyn SidePath) -> Vec<Tensor<2>> {
        let TextConfig { hidden_size: d, hidden_size_per_layer_input: p, .. } = self.config;
        let (n, layers) = (ids.len(), self.layers.len());
        let words = self.config.vocab_size_per_layer_input;
        let ids: Vec<u32> = ids.iter().map(|&id| if (id as usize) < words { id } else { 0 }).collect();
        let told = self.embed_tokens_per_layer.select(&ids).to_device(&self.device);
        let told = told.mul_scalar((p as f64).sqrt() as f32);
        let projected = self.per_layer_model_projection.forward(embedded.clone(), side); // [n, L p]
        let projected = projected.mul_scalar((d as f64).powf(-0.5) as f32).reshape([n, layers, p]);
        let projected = self.per_layer_projection_norm.forward(projected).reshape([n, layers * p]);
        let both = (projected + told).mul_scalar(0.5_f64.sqrt() as f32);
        (0..layers).map(|layer| both.clone().narrow(1, layer * p, p)).collect()
    }

    /// Where in what is shared the keys of a layer lie, if others read them; its values follow.
    fn place(&self, maker: usize) -> Option<usize> {
        let rank = self.config.kv_makers().iter().position(|&other| other == maker)?;
        Some(self.layers.len() + 2 * rank)
    }
}

impl LanguageModel for Gemma3n {
    fn config(&self) -> &dyn DecoderConfig {
        &self.config
    }

    fn device(&self) -> &Device {
        &self.device
    }

    /// The streams are mixed by products of small matrices, which have another kernel from four rows on.
    fn most_rows_alone(&self) -> usize {
        3
    }

    fn linears(&self) -> Vec<&Linear> {
        let before = [&self.per_layer_model_projection].into_iter().chain(&self.altup_projections);
        let layers = self.layers.iter().flat_map(Layer::linears);
        layers.chain(before).chain(&self.altup_unembed_projections).collect()
    }

    fn tower_linears(&self) -> Vec<&Linear> {
        let vision = self.vision.iter().map(|vision| &vision.embed_vision.embedding_projection);
        vision.chain(self.audio.iter().flat_map(Audio::linears)).collect()
    }

    fn encode(&self, modality: Modality, prepared: Tensor<3>) -> Option<Tensor<2>> {
        match modality {
            Modality::Image => self.vision.as_ref()?.encode(prepared),
            Modality::Audio => {
                let [_, frames, _] = prepared.dims();
                self.audio.as_ref()?.hear(prepared, frames, &BaseOnly)
            }
        }
    }

    fn parameters(&self) -> u64 {
        let count = |weight: &Weight| weight.dims().iter().map(|&n| n as u64).product::<u64>();
        let head = if self.config.tie_word_embeddings { 0 } else { count(&self.lm_head) };
        let linears: u64 = self.linears().into_iter().map(|linear| count(&linear.weight)).sum();
        let norms = (0..self.layers.len()).flat_map(|layer| self.config.norms(layer));
        let norms: usize = norms.map(|(_, width)| width).sum();
        let single = (self.config.hidden_size + self.config.hidden_size_per_layer_input + norms) as u64;
        count(&self.embed_tokens) + count(&self.embed_tokens_per_layer) + head + linears + single
    }

    fn compute_dtype(&self) -> FloatDType {
        self.layers.first().map_or(FloatDType::F32, |layer| layer.queries.compute_dtype())
    }

    fn layout(&self, inputs: &Inputs) -> Layout {
        Layout {
            rotations: self.rotary.at(&inputs.segments.positions()),
            // Its pictures are read in order, as its sounds are.
            plan: AttentionPlan::new(&inputs.segments, &[], self.config.sliding_window),
        }
    }

    fn embed(&self, inputs: &Inputs, side: &dyn SidePath) -> Carry {
        let embedded = self.embedded(inputs, side);
        let shared = self.per_layer_inputs(&inputs.input_ids, &embedded, side);
        let beside = spread(&embedded, &self.altup_projections, side);
        Carry { hidden: embedded, beside, shared }
    }

    fn layer(&self, index: usize, carry: Carry, layout: &Layout, side: &dyn SidePath) -> Carry {
        let layer = &self.layers[index];
        let (config, rope) = (&layer.queries.config, layout.rotations.of(layer.queries.config.kind));
        let streams: Vec<Tensor<2>> = carry.streams().cloned().collect();
        let mut shared = carry.shared;
        let mut made = None;
        let per_layer_input = shared[index].clone();
        let read = self.place(self.config.kv_source(index)).filter(|_| layer.keys_values.is_none());
        let given = read.map(|at| Kv { keys: shared[at].clone(), values: shared[at + 1].clone() });
        let attend = |x: Input| {
            let own = layer.keys_values.as_ref().map(|kv| kv.of(x.clone(), config, rope, side));
            made.clone_from(&own);
            match own.or(given) {
                Some(kv) => layer.queries.attend(x, kv, rope, &layout.plan, side),
                None => x.rows().clone(),
            }
        };
        let streams = layer.forward(&streams, per_layer_input, attend, side);
        if let Some(Kv { keys, values }) = made.filter(|_| self.place(index).is_some()) {
            shared.extend([keys, values]);
        }
        carry_of(streams, shared)
    }

    fn last_hidden(&self, carry: Carry, side: &dyn SidePath) -> Tensor<2> {
        merge(carry.hidden, carry.beside, &self.altup_unembed_projections, side)
    }

    fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    fn lm_head(&self) -> &Weight {
        &self.lm_head
    }

    fn cache(&self, sequences: usize) -> KvCache {
        let makers = self.layers.iter().filter(|layer| layer.keys_values.is_some());
        let caches = makers.map(|layer| layer.queries.config.cache(sequences));
        KvCache { layers: caches.collect(), lengths: vec![0; sequences] }
    }

    /// Pictures are read in order, as sounds are.
    fn next_hidden(
        &self,
        carry: Carry,
        _images: &[Range<usize>],
        lengths: &[usize],
        cache: &mut KvCache,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let rotations = self.rotary.at(&cache.next_positions(lengths));
        let Carry { hidden, beside, shared } = carry;
        let mut streams: Vec<Tensor<2>> = std::iter::once(hidden).chain(beside).collect();
        // What each layer that makes keys and values lets its tokens look at, for those that read them after it.
        let mut seen = BTreeMap::new();
        for (index, (layer, per_layer_input)) in self.layers.iter().zip(shared).enumerate() {
            let config = &layer.queries.config;
            let rope = rotations.of(config.kind);
            let source = self.config.kv_source(index);
            let attend = |x: Input| {
                if let (Some(kv), Some(cache)) = (&layer.keys_values, cache.layers.get_mut(index)) {
                    seen.insert(index, kv.of(x.clone(), config, rope, side).cached(config, lengths, &[], cache));
                }
                let seen = seen.get(&source).map(Vec::as_slice).unwrap_or_default();
                layer.queries.attend_cached(x, seen, rope, lengths, side)
            };
            streams = layer.forward(&streams, per_layer_input, attend, side);
            if self.place(index).is_none() {
                seen.remove(&index);
            }
        }
        cache.advance(lengths);
        self.last_hidden(carry_of(streams, Vec::new()), side)
    }
}

/// Soft tokens of a model that has no tower of their modality: features of its own width.
fn bare_rows(soft: &SoftTokens) -> Tensor<2> {
    match &soft.features {
        Features::Encoded(features) => features.clone(),
        // Only who has a tower is given what a tower has yet to look at.
        Features::Prepared { .. } => unreachable!("a picture or a sound for a model that has no tower"),
    }
}

/// The carry of these streams, of which there is at least one.
fn carry_of(mut streams: Vec<Tensor<2>>, shared: Vec<Tensor<2>>) -> Carry {
    let hidden = streams.remove(0);
    Carry { hidden, beside: streams, shared }
}
