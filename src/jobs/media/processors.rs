//! The processors of a model, and the tokens that its pictures and sounds take.

use crate::error::{Error, Kind, Result};
use crate::media::Processors;
use crate::media::audio::AudioProcessor;
use crate::media::image::{ImageProcessor, Normalization};
use crate::model::{MediaShape, Modality, ModelConfig};
use crate::text::{MediaKind, MediaTokens};
use std::path::Path;

/// A modality in the words of rows.
pub fn kind(modality: Modality) -> MediaKind {
    match modality {
        Modality::Image => MediaKind::Image,
        Modality::Audio => MediaKind::Audio,
    }
}

/// A kind of medium in the words of models.
pub fn modality(kind: MediaKind) -> Modality {
    match kind {
        MediaKind::Image => Modality::Image,
        MediaKind::Audio => Modality::Audio,
    }
}

/// The tokens that stand for the pictures and sounds of a model.
pub fn tokens(config: &ModelConfig) -> Vec<MediaTokens> {
    let of = |MediaShape { modality, begin, soft, end, tokens, .. }: MediaShape| MediaTokens {
        kind: kind(modality),
        begin,
        soft,
        end,
        per_piece: tokens,
    };
    config.media().into_iter().map(of).collect()
}

/// How the files of a model's folder say that pictures and sounds are prepared.
///
/// # Errors
/// Files that are wrong, or that do not go with the model.
pub fn of_folder(dir: &Path, config: &ModelConfig) -> Result<Processors> {
    let processors = usual(config).changed_by_folder(dir)?;
    for MediaShape { modality, tokens, size, .. } in config.media() {
        let Some(size) = size else { continue };
        let (what, of_files, of_model) = match modality {
            Modality::Image => {
                let Some(image) = &processors.image else { continue };
                let files = [("size", image.height, size), ("size", image.width, size)];
                let tokens = ("image_seq_length", image.image_seq_length, tokens);
                let Some(&(what, files, model)) = files.iter().chain([&tokens]).find(|(_, a, b)| a != b) else {
                    continue;
                };
                (what, files, model)
            }
            Modality::Audio => {
                let Some(audio) = &processors.audio else { continue };
                if audio.feature_size == size {
                    continue;
                }
                ("feature_size", audio.feature_size, size)
            }
        };
        let text = format!("the processor's files say `{what}` {of_files}, and the model takes {of_model}");
        return Err(Error::new(Kind::Config, text).at_path(dir).hint("its files belong to another model"));
    }
    Ok(processors)
}

/// As a model has it whose folder has no files about them.
pub fn usual(config: &ModelConfig) -> Processors {
    let mut processors = Processors::default();
    for MediaShape { modality, tokens, frames_per_token, size, is_centred, has_crops, .. } in config.media() {
        match modality {
            Modality::Image => {
                let of_size = |usual: ImageProcessor| ImageProcessor {
                    width: size.unwrap_or(usual.width),
                    height: size.unwrap_or(usual.height),
                    normalize: is_centred.then_some(Normalization { mean: [0.5; 3], std: [0.5; 3] }),
                    image_seq_length: tokens,
                    ..usual
                };
                let usual = if has_crops { ImageProcessor::gemma3() } else { ImageProcessor::gemma3n() };
                processors.image = Some(of_size(usual));
            }
            Modality::Audio => {
                let usual = AudioProcessor::gemma3n();
                let feature_size = size.unwrap_or(usual.feature_size);
                processors.audio = Some(AudioProcessor {
                    feature_size,
                    audio_seq_length: tokens,
                    frames_per_feature: frames_per_token,
                    ..usual
                });
            }
        }
    }
    processors
}
