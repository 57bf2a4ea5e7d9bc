//! What a Gemma 3n has in common with other decoders, and models of its kind that are made up.

use crate::error::{Error, Kind, Result};
use crate::model::decoder_config::{Beyond, DecoderConfig};
use crate::model::gemma3n::TextConfig;
use crate::model::gemma3n::config::SoundConfig;
use crate::model::inputs::Modality;
use crate::model::media_shape::{MediaShape, TowerWork};
use crate::model::site::{Site, WholeTensor};
use crate::nn::AttentionKind;
use crate::weights::gguf;
use crate::weights::names::{AudioModule, AudioProjection, AudioTensor, TensorId};
use crate::weights::slice::Slice;
use serde_json::Value;

/// Frames of the longest sound that is heard at once: 30 s.
const LONGEST_FRAMES: usize = 3000;

impl TextConfig {
    /// The same model with one layer of this kind, as wide as the widest, and at most so many words.
    pub fn with_one_layer(&self, kind: AttentionKind, words: usize) -> Self {
        TextConfig {
            vocab_size: self.vocab_size.min(words),
            vocab_size_per_layer_input: self.vocab_size_per_layer_input.min(words),
            intermediate_size: vec![DecoderConfig::intermediate_size(self)],
            activation_sparsity_pattern: self.activation_sparsity_pattern.iter().copied().take(1).collect(),
            layer_types: vec![kind],
            num_kv_shared_layers: 0,
            images: None,
            sounds: None,
            ..self.clone()
        }
    }
}

impl DecoderConfig for TextConfig {
    fn architecture(&self) -> &'static str {
        "Gemma 3n"
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn score(&self) -> Option<WholeTensor> {
        None // transformers has no such class
    }

    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    fn intermediate_size(&self) -> usize {
        self.intermediate_size.iter().copied().max().unwrap_or(0)
    }

    fn num_attention_heads(&self) -> usize {
        self.num_attention_heads
    }

    fn num_key_value_heads(&self) -> usize {
        self.num_key_value_heads
    }

    fn head_dim(&self) -> usize {
        self.head_dim
    }

    fn sliding_window(&self) -> usize {
        self.sliding_window
    }

    fn layer_types(&self) -> &[AttentionKind] {
        &self.layer_types
    }

    fn attention_scale(&self) -> f64 {
        1.0
    }

    fn final_logit_softcapping(&self) -> Option<f32> {
        self.final_logit_softcapping.map(|cap| cap as f32)
    }

    fn max_position_embeddings(&self) -> usize {
        self.max_position_embeddings
    }

    fn tie_word_embeddings(&self) -> bool {
        self.tie_word_embeddings
    }

    fn bos_token_id(&self) -> Option<u32> {
        self.bos_token_id
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    fn pad_token_id(&self) -> Option<u32> {
        self.pad_token_id
    }

    fn multimodal(&self) -> bool {
        self.multimodal
    }

    /// AltUp keeps the streams and how far the active one was from what was expected, LAuReL and the per-layer input
    /// what their norms began with, the router what it weighed; a sparse gate what it was before the
    /// cut; without a kernel also what was cut, and both halves of the deviation.
    fn beyond(&self) -> Beyond {
        let (d, p, s) = (self.hidden_size, self.hidden_size_per_layer_input, self.altup_num_inputs);
        let kv = self.num_key_value_heads * self.head_dim;
        let sparse = self.activation_sparsity_pattern.iter().zip(&self.intermediate_size);
        let sparse = sparse.filter(|(share, _)| **share > 0.0).map(|(_, f)| *f).max().unwrap_or(0);
        Beyond {
            per_input: (s - 1) * d,
            in_a_layer: 4 * d + 3 * p + self.laurel_rank + 2 * s * s + sparse,
            without_kernels: 3 * sparse,
            shared: self.layer_types.len() * p + self.kv_makers().len() * 2 * kv,
            transient: 4 * s * d,
            uncached_layers: self.num_kv_shared_layers,
            mapped: Some((TensorId::EmbedTokensPerLayer, self.per_layer_table())),
        }
    }

    fn sites(&self) -> Vec<Site> {
        TextConfig::sites(self)
    }

    fn media(&self) -> Vec<MediaShape> {
        let images = self.images.iter().map(|images| MediaShape {
            modality: Modality::Image,
            begin: images.boi_token_id,
            soft: images.image_token_id,
            end: images.eoi_token_id,
            tokens: images.vision_soft_tokens_per_image,
            frames_per_token: 1,
            size: None,
            is_centred: false,
            has_crops: false,
        });
        let sounds = self.sounds.iter().map(|sounds| MediaShape {
            modality: Modality::Audio,
            begin: sounds.boa_token_id,
            soft: sounds.audio_token_id,
            end: sounds.eoa_token_id,
            tokens: sounds.audio_soft_tokens_per_image,
            frames_per_token: sounds.audio_config.frames_per_row(),
            size: Some(sounds.audio_config.input_feat_size),
            is_centred: false,
            has_crops: false,
        });
        images.chain(sounds).collect()
    }

    fn tower_sites(&self) -> Vec<Site> {
        TextConfig::tower_sites(self)
    }

    fn tower_work(&self, has_adapter: &dyn Fn(&TensorId) -> bool) -> Vec<TowerWork> {
        let in_block = |block: usize| {
            let has = |part| has_adapter(&TensorId::Audio(AudioTensor::Weight(AudioModule::Projection(block, part))));
            AudioProjection::ALL.into_iter().any(has)
        };
        let work = |sounds: &SoundConfig| {
            let kept = sounds.audio_config.kept(LONGEST_FRAMES, in_block);
            TowerWork { kept, transient: 0, tokens: sounds.audio_soft_tokens_per_image as u64 + 2 }
        };
        self.sounds.iter().map(work).filter(|work| work.kept > 0).collect()
    }

    fn tower_tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        let d = self.hidden_size;
        let of_images = self.images.iter().flat_map(|images| images.tensors(d));
        of_images.chain(self.sounds.iter().flat_map(|sounds| sounds.tensors(d))).collect()
    }

    fn to_hf_json(&self, dtype: &str) -> Value {
        TextConfig::to_hf_json(self, dtype)
    }

    fn slice(&self, without: &[usize], widths: &[usize]) -> Result<Slice> {
        TextConfig::slice(self, without, widths)
    }

    fn to_gguf(&self) -> Result<Vec<(String, gguf::Value)>> {
        TextConfig::to_gguf(self)
    }

    fn gguf_demands(&self) -> gguf::Demands {
        TextConfig::gguf_demands(self)
    }

    fn to_mmproj(&self) -> Result<Vec<(String, gguf::Value)>> {
        let what =
            "the towers of a Gemma 3n are not written as a GGUF file: this program writes those of Gemma 3 alone";
        Err(Error::new(Kind::Config, what).hint(
            "`convert_hf_to_gguf.py --mmproj` of llama.cpp reads the Hugging Face folder that `gemma-tune merge` writes",
        ))
    }
}
