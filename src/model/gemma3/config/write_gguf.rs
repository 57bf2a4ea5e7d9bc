//! Writing the metadata of a GGUF file.

use super::gguf::written;
use super::{TextConfig, gguf};
use crate::error::{Error, Kind, Result};
use crate::nn::AttentionKind;
use crate::weights::gguf::{Metadata, Value};
use std::path::Path;

impl TextConfig {
    /// The `gemma3.*` keys of a GGUF file with this language model, and `general.architecture`.
    ///
    /// # Errors
    /// [`Kind::Config`] if llama.cpp would compute something else from them: what it does not read from the file it takes
    /// from the sizes that were published.
    pub fn to_gguf(&self) -> Result<Vec<(String, Value)>> {
        let whole = |value: usize| Value::Unsigned(value as u64);
        let float = |value: f64| Value::F32(value as f32);
        let full = self.layer_types.iter().position(|kind| *kind == AttentionKind::Full);
        let pattern = full.map_or(self.num_hidden_layers + 1, |first| first + 1);
        let keys = vec![
            ("context_length", whole(self.max_position_embeddings)),
            ("embedding_length", whole(self.hidden_size)),
            ("block_count", whole(self.num_hidden_layers)),
            ("feed_forward_length", whole(self.intermediate_size)),
            ("attention.head_count", whole(self.num_attention_heads)),
            ("attention.head_count_kv", whole(self.num_key_value_heads)),
            ("attention.key_length", whole(self.head_dim)),
            ("attention.value_length", whole(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", float(self.rms_norm_eps)),
            ("attention.sliding_window", whole(self.sliding_window)),
            ("attention.sliding_window_pattern", whole(pattern)),
            ("rope.freq_base", float(self.rope_global.theta)),
            ("rope.freq_base_swa", float(self.rope_local.theta)),
            ("vocab_size", whole(self.vocab_size)),
        ];
        let keys = written::named(gguf::PREFIX, keys, self.rope_global);
        self.check_read(&keys)?;
        Ok(keys)
    }

    /// Makes sure that a reader of the keys gets this model back.
    fn check_read(&self, keys: &[(String, Value)]) -> Result<()> {
        let metadata: Metadata = keys.iter().cloned().collect();
        let (read, _) = TextConfig::from_gguf(&metadata, Path::new("<gguf>"))?;
        let ropes = |config: &TextConfig| [config.rope_local, config.rope_global];
        let differing = [
            ("layer_types", read.layer_types != self.layer_types),
            ("query_pre_attn_scalar", read.query_pre_attn_scalar != self.query_pre_attn_scalar),
            ("rope_parameters", !written::are_same(ropes(self), ropes(&read))),
        ];
        let problems = differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| {
            Error::new(Kind::Config, format!("`{key}` of this model cannot be said in a GGUF file"))
                .hint("llama.cpp takes it from the published sizes; `gemma-tune merge` writes a Hugging Face folder")
        });
        Error::many(problems.collect()).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use crate::nn::Rope;

    #[test]
    fn every_published_size_is_read_back() {
        for name in ["270m", "1b", "4b", "12b", "27b"] {
            let Some(ModelConfig::Gemma3(config)) =
                ModelConfig::published(&format!("google/gemma-3-{name}-it")).unwrap()
            else {
                panic!("{name}");
            };
            let keys: Metadata = config.to_gguf().unwrap().into_iter().collect();
            let (read, ignored) = TextConfig::from_gguf(&keys, Path::new("x")).unwrap();
            let ours = TextConfig {
                bos_token_id: read.bos_token_id,
                eos_token_ids: read.eos_token_ids.clone(),
                pad_token_id: read.pad_token_id,
                multimodal: false,
                images: None,
                ..config
            };
            assert_eq!(read, ours, "{name}");
            assert_eq!(ignored, Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn what_a_reader_would_not_know_is_refused() {
        let refused = |change: fn(&mut TextConfig)| {
            let mut config = TextConfig::small();
            change(&mut config);
            let error = config.to_gguf().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        TextConfig::small().to_gguf().unwrap();
        assert!(refused(|c| c.query_pre_attn_scalar = 13.0).contains("`query_pre_attn_scalar` of this model"));
        let full_first = |c: &mut TextConfig| c.layer_types = vec![AttentionKind::Full, AttentionKind::Sliding];
        assert!(refused(full_first).contains("`layer_types`"));
        assert!(refused(|c| c.rope_local = Rope { theta: 1e4, factor: 2.0 }).contains("`rope_parameters`"));
    }
}
