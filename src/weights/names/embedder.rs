//! The part of the table for Gemma 3n's embedders: what makes rows of the language model's width of what its towers give,
//! and of the words that stand around pictures and sounds.
//!
//! One name of each is made, `embed_vision.embedding.weight`; it is read with `model.` before it as well, as modules are
//! called and checkpoints on the Hub have it.

/// What stands before the names of modules.
const OF_MODULES: &str = "model.";

/// Whose rows an embedder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Embedder {
    /// Those of pictures.
    Vision,
    /// Those of sounds.
    Audio,
}

/// Their paths.
const EMBEDDERS: [(Embedder, &str); 2] = [(Embedder::Vision, "embed_vision."), (Embedder::Audio, "embed_audio.")];

/// A tensor of an embedder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EmbedderTensor {
    /// The words that stand around pictures or sounds, `[v, w]`.
    Embedding,
    /// Over those words, `[w]`.
    HardEmbeddingNorm,
    /// Over what a tower gives, `[w]`.
    SoftEmbeddingNorm,
    /// From the tower's width to the language model's, `[d, w]`.
    EmbeddingProjection,
}

/// Per tensor: path in an embedder.
const TENSORS: [(EmbedderTensor, &str); 4] = [
    (EmbedderTensor::Embedding, "embedding.weight"),
    (EmbedderTensor::HardEmbeddingNorm, "hard_embedding_norm.weight"),
    (EmbedderTensor::SoftEmbeddingNorm, "soft_embedding_norm.weight"),
    (EmbedderTensor::EmbeddingProjection, "embedding_projection.weight"),
];

impl Embedder {
    /// The name of one of its tensors: `embed_audio.embedding_projection.weight`.
    pub(super) fn hf(self, tensor: EmbedderTensor) -> String {
        format!("{}{}", EMBEDDERS[self as usize].1, TENSORS[tensor as usize].1)
    }

    /// Reads a name; also says whether it is that of a module.
    pub(super) fn parse(name: &str) -> Option<(bool, Self, EmbedderTensor)> {
        let rest = name.strip_prefix(OF_MODULES);
        let name = rest.unwrap_or(name);
        let (embedder, path) =
            EMBEDDERS.iter().find_map(|(embedder, prefix)| Some((*embedder, name.strip_prefix(prefix)?)))?;
        let tensor = TENSORS.iter().find(|tensor| tensor.1 == path)?.0;
        Some((rest.is_some(), embedder, tensor))
    }

    /// Whether a tensor of the files belongs to this embedder, also one that this table does not have.
    pub fn has(self, name: &str) -> bool {
        name.strip_prefix(OF_MODULES).unwrap_or(name).starts_with(EMBEDDERS[self as usize].1)
    }
}

impl EmbedderTensor {
    /// Whether this is the weight of a linear layer that an adapter can go on.
    pub fn is_linear(self) -> bool {
        self == EmbedderTensor::EmbeddingProjection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tensors_are_in_bijection() {
        for (at, (embedder, _)) in EMBEDDERS.into_iter().enumerate() {
            assert_eq!(embedder as usize, at);
            for (at, (tensor, _)) in TENSORS.into_iter().enumerate() {
                assert_eq!(tensor as usize, at);
                let name = embedder.hf(tensor);
                assert_eq!(Embedder::parse(&name), Some((false, embedder, tensor)));
                let of_module = format!("model.{name}");
                assert_eq!(Embedder::parse(&of_module), Some((true, embedder, tensor)));
                assert!(embedder.has(&name) && embedder.has(&of_module));
            }
        }
        assert_eq!(Embedder::Audio.hf(EmbedderTensor::Embedding), "embed_audio.embedding.weight");
        for name in
            ["embed_vision.embedding", "embed_visionembedding.weight", "model.model.embed_audio.embedding.weight", ""]
        {
            assert_eq!(Embedder::parse(name), None, "{name}");
        }
    }
}
