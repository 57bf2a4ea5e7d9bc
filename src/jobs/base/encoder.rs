//! A model's tokenizer and chat template.

use crate::error::Result;
use crate::jobs::media::processors;
use crate::model::ModelConfig;
use crate::text::{ChatTemplate, Encoder, Tokenizer};
use crate::weights::gguf::Gguf;
use std::path::Path;

/// Those of a model folder; without a `tokenizer.json` the encoder takes token ids only.
///
/// # Errors
/// When one of the files is wrong.
pub fn of_folder(dir: &Path, config: &ModelConfig) -> Result<Encoder> {
    let file = dir.join("tokenizer.json");
    let encoder = match file.exists() {
        true => Encoder::new(Tokenizer::from_file(&file)?, ChatTemplate::from_model_folder(dir)?),
        false => Encoder::tokens_only(),
    };
    Ok(encoder.with_vocab_size(config.vocab_size()).with_media(config.multimodal(), &processors::tokens(config)))
}

/// Those of a GGUF file; without a vocabulary the encoder takes token ids only.
///
/// # Errors
/// When its vocabulary or template is wrong.
pub fn of_gguf(gguf: &Gguf, config: &ModelConfig) -> Result<Encoder> {
    let encoder = match gguf.vocabulary()? {
        Some(vocabulary) => Encoder::new(Tokenizer::from_gguf(&vocabulary)?, ChatTemplate::from_gguf(&vocabulary)?),
        None => Encoder::tokens_only(),
    };
    Ok(encoder.with_vocab_size(config.vocab_size()))
}
