//! What a Gemma 3 has in common with other decoders, and models of its kind that are made up.

use crate::error::Result;
use crate::model::gemma3::TextConfig;
use crate::model::gemma3::config::ImageConfig;
use crate::model::site::{Site, WholeTensor};
use crate::model::{DecoderConfig, MediaShape, Modality, TowerWork};
use crate::nn::{AttentionKind, Rope};
use crate::weights::gguf;
use crate::weights::names::{TensorId, VisionTensor};
use serde_json::Value;

impl TextConfig {
    /// A small made-up model with a layer of each kind, whose sizes are no multiples of a tile.
    pub fn small() -> Self {
        TextConfig {
            vocab_size: 203,
            hidden_size: 44,
            intermediate_size: 70,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 12,
            rms_norm_eps: 1e-6,
            query_pre_attn_scalar: 12.0,
            sliding_window: 7,
            layer_types: vec![AttentionKind::Sliding, AttentionKind::Full],
            rope_local: Rope { theta: 1e4, factor: 1.0 },
            rope_global: Rope { theta: 1e6, factor: 8.0 },
            max_position_embeddings: 64,
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
            multimodal: false,
            images: None,
            judges: false,
        }
    }

    /// The same model of text with one layer of this kind and at most so many words.
    pub fn with_one_layer(&self, kind: AttentionKind, words: usize) -> Self {
        TextConfig {
            vocab_size: self.vocab_size.min(words),
            num_hidden_layers: 1,
            layer_types: vec![kind],
            images: None,
            ..self.clone()
        }
    }
}

impl DecoderConfig for TextConfig {
    fn architecture(&self) -> &'static str {
        "Gemma 3"
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    fn intermediate_size(&self) -> usize {
        self.intermediate_size
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
        TextConfig::attention_scale(self)
    }

    fn final_logit_softcapping(&self) -> Option<f32> {
        None
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

    fn judges(&self) -> bool {
        self.judges
    }

    fn sites(&self) -> Vec<Site> {
        TextConfig::sites(self)
    }

    fn media(&self) -> Vec<MediaShape> {
        let shape = |images: &ImageConfig| MediaShape {
            modality: Modality::Image,
            begin: images.boi_token_index,
            soft: images.image_token_index,
            end: images.eoi_token_index,
            tokens: images.mm_tokens_per_image,
            frames_per_token: 1,
            size: Some(images.vision_config.image_size),
            is_centred: true,
            has_crops: true,
        };
        self.images.as_ref().map(shape).into_iter().collect()
    }

    fn tower_sites(&self) -> Vec<Site> {
        TextConfig::tower_sites(self)
    }

    fn tower_work(&self, has_adapter: &dyn Fn(&TensorId) -> bool) -> Vec<TowerWork> {
        let work = |images: &ImageConfig| TowerWork {
            kept: images.vision_config.kept(|module| has_adapter(&TensorId::Vision(VisionTensor::Weight(module)))),
            transient: images.vision_config.transient(),
            tokens: images.mm_tokens_per_image as u64 + 2,
        };
        self.images.iter().map(work).filter(|work| work.kept > 0).collect()
    }

    fn tower_tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        self.images.iter().flat_map(|images| images.vision_config.tensors()).collect()
    }

    fn whole_tensors(&self) -> Vec<WholeTensor> {
        TextConfig::whole_tensors(self)
    }

    fn to_hf_json(&self, dtype: &str) -> Value {
        TextConfig::to_hf_json(self, dtype)
    }

    fn to_gguf(&self) -> Result<Vec<(String, gguf::Value)>> {
        TextConfig::to_gguf(self)
    }

    fn to_mmproj(&self) -> Result<Vec<(String, gguf::Value)>> {
        TextConfig::to_mmproj(self)
    }
}
