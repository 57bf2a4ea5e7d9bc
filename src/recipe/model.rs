//! `model`: what is fine-tuned and how its frozen weights are held.

use super::dtype::{self, AutoDtype};
use super::kinds::choices;
use super::or_auto::OrAuto;
use super::rules::not_blank;
use super::section::Section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is fine-tuned and how its frozen weights are held.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Model {
    /// The base model: a Hub id (`google/gemma-3-1b-it`, with `@revision` if need be), a local folder, a `.gguf`
    /// file, or a model that Ollama has on this machine (`ollama:gemma3:270m`).
    pub base: String,
    /// How frozen weights that are not compressed are held: `auto` keeps what is stored, and bf16 for a quantised file.
    #[schemars(schema_with = "dtype::held")]
    pub dtype: AutoDtype,
    /// What the factors of products with frozen weights, and of those in attention, are rounded to; sums, adapters, the
    /// residual stream, softmax and the loss are f32. The CPU knows f32 and bf16.
    #[schemars(schema_with = "dtype::computed")]
    pub compute_dtype: AutoDtype,
    /// How the frozen projections are compressed. They are quantised while they are read. A folder that bitsandbytes
    /// saved as NF4 is trained on as it is with `none`. `auto` compresses them where memory is short.
    #[schemars(with = "OrAuto<Quantization>")]
    pub quantization: Quantization,
    /// How the embedding, which is also the output head, is compressed; with `quantization: as_stored` `none` leaves it
    /// in the file's blocks too.
    pub embedding_quantization: EmbeddingQuantization,
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

choices!(Quantization, EmbeddingQuantization);

impl Model {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Model {
            base: section.key("base").check(not_blank).expanded().required("base: google/gemma-3-1b-it"),
            dtype: section.key("dtype").or(AutoDtype::AUTO),
            compute_dtype: section.key("compute_dtype").or(AutoDtype::AUTO),
            quantization: section.key("quantization").or_chosen(OrAuto::Value(Quantization::None), Quantization::None),
            embedding_quantization: section.key("embedding_quantization").or(EmbeddingQuantization::None),
        }
    }
}
