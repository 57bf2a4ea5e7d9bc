//! `model`: what is fine-tuned and how its frozen weights are held.

use super::rules::not_blank;
use super::section::Section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is fine-tuned and how its frozen weights are held.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Model {
    /// The base model: a Hub id (`google/gemma-3-1b-it`, with `@revision` if need be), a local folder, or a `.gguf` file.
    pub base: String,
    /// How frozen weights that are not compressed are held: `auto` keeps what is stored, and bf16 for a quantised file. The
    /// arithmetic is f32.
    pub dtype: Dtype,
    /// How the frozen projections are compressed. They are quantised while they are read. A folder that bitsandbytes saved as
    /// NF4 is trained on as it is with `none`.
    pub quantization: Quantization,
    /// How the embedding, which is also the output head, is compressed; with `quantization: as_stored` `none` leaves it in the
    /// file's blocks too.
    pub embedding_quantization: EmbeddingQuantization,
}

/// A number type for frozen weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As stored; bf16 for a quantised file.
    Auto,
    /// bfloat16, 2 bytes.
    Bf16,
    /// float16, 2 bytes.
    F16,
    /// float32, 4 bytes.
    F32,
}

/// A compression of frozen projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// None.
    None,
    /// 8-bit integers with a scale per row.
    Int8,
    /// 4-bit NormalFloat (QLoRA), as bitsandbytes quantises.
    Nf4,
    /// 4-bit NormalFloat with quantised scales: 4.13 bits a weight.
    Nf4Double,
    /// The blocks of a GGUF file as they are, read from the file where they are used.
    AsStored,
}

/// A compression of the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingQuantization {
    /// None.
    None,
    /// 8-bit integers with a scale per row.
    Int8,
}

impl Model {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Model {
            base: section.key("base").check(not_blank).required("base: google/gemma-3-1b-it"),
            dtype: section.key("dtype").or(Dtype::Auto),
            quantization: section.key("quantization").or(Quantization::None),
            embedding_quantization: section.key("embedding_quantization").or(EmbeddingQuantization::None),
        }
    }
}
