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
    /// How frozen weights that are not compressed are held: `auto` keeps what is stored, and bf16 for a quantised file.
    pub dtype: Dtype,
    /// What the factors of products with frozen weights, and of those in attention, are rounded to on a GPU; sums, adapters, the residual
    /// stream, softmax and the loss are f32, and the CPU computes all in f32.
    pub compute_dtype: ComputeDtype,
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

/// A number type for the factors of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// What the device multiplies fastest: bf16 or f16 where it has matrix units for them, f32 elsewhere and for f32 weights.
    Auto,
    /// bfloat16.
    Bf16,
    /// float16; rows are scaled, so that none overflows.
    F16,
    /// float32.
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
            compute_dtype: section.key("compute_dtype").or(ComputeDtype::Auto),
            quantization: section.key("quantization").or(Quantization::None),
            embedding_quantization: section.key("embedding_quantization").or(EmbeddingQuantization::None),
        }
    }
}
