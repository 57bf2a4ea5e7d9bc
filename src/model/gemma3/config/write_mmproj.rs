//! Writing the metadata of a GGUF file of what looks at pictures.

use super::TextConfig;
use crate::error::{Error, Kind, Result};
use crate::weights::gguf::Value;

impl TextConfig {
    /// The `clip.*` keys of a GGUF file with tower and projector, and `general.architecture`.
    ///
    /// # Errors
    /// [`Kind::Config`] of a model that looks at no pictures.
    pub fn to_mmproj(&self) -> Result<Vec<(String, Value)>> {
        let images = self.images.as_ref().ok_or_else(|| {
            Error::new(Kind::Config, "this model looks at no pictures: there is nothing for a file of towers")
                .hint("name the multimodal checkpoint, `Gemma3ForConditionalGeneration`, with its `vision_config`")
        })?;
        let tower = &images.vision_config;
        let whole = |value: usize| Value::Unsigned(value as u64);
        // Patches on a side of a soft token.
        let merged = tower.patches_per_side() / images.mm_tokens_per_image.isqrt().max(1);
        let keys = [
            ("general.architecture", Value::String("clip".into())),
            ("clip.has_vision_encoder", Value::Bool(true)),
            ("clip.projector_type", Value::String("gemma3".into())),
            ("clip.use_gelu", Value::Bool(true)),
            ("clip.vision.projection_dim", whole(self.hidden_size)),
            ("clip.vision.image_size", whole(tower.image_size)),
            ("clip.vision.patch_size", whole(tower.patch_size)),
            ("clip.vision.embedding_length", whole(tower.hidden_size)),
            ("clip.vision.feed_forward_length", whole(tower.intermediate_size)),
            ("clip.vision.block_count", whole(tower.num_hidden_layers)),
            ("clip.vision.attention.head_count", whole(tower.num_attention_heads)),
            ("clip.vision.attention.layer_norm_epsilon", Value::F32(tower.layer_norm_eps as f32)),
            ("clip.vision.projector.scale_factor", whole(merged)),
        ];
        Ok(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ModelConfig;

    #[test]
    fn a_published_tower_is_said() {
        let config = ModelConfig::published("google/gemma-3-4b-it").unwrap().unwrap();
        let keys = config.to_mmproj().unwrap();
        let of = |key: &str| keys.iter().find(|(known, _)| known == key).map(|(_, value)| value.to_string());
        for (key, value) in [
            ("general.architecture", "\"clip\""),
            ("clip.projector_type", "\"gemma3\""),
            ("clip.vision.image_size", "896"),
            ("clip.vision.block_count", "27"),
            ("clip.vision.projection_dim", "2560"),
            ("clip.vision.projector.scale_factor", "4"),
        ] {
            assert_eq!(of(key).as_deref(), Some(value), "{key}");
        }
        for (name, says) in
            [("google/gemma-3-1b-it", "looks at no pictures"), ("google/gemma-3n-E2B-it", "Gemma 3 alone")]
        {
            let error = ModelConfig::published(name).unwrap().unwrap().to_mmproj().unwrap_err();
            assert!(error.exit_code() == 2 && error.what().contains(says), "{error}");
        }
    }
}
