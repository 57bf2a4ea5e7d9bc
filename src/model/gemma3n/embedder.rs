//! From what a tower gives, and from the words around pictures and sounds, to rows of the language model's width.

use crate::error::Result;
use crate::model::inputs::{Inputs, Modality, Piece, SoftTokens};
use crate::model::parts::{Gain, NormShape, Parts};
use crate::model::site::{Site, Stage};
use crate::nn::{Linear, RmsNorm, SidePath};
use crate::ops::Weight;
use crate::weights::names::{Embedder, EmbedderTensor, TensorId};
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// The sizes and constants of an embedder, named as in Hugging Face.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedderConfig {
    /// Whose rows it makes.
    pub of: Embedder,
    /// Width of what its tower gives, `w`.
    pub hidden_size: usize,
    /// Words that it embeds itself.
    pub vocab_size: usize,
    /// The id of the first of them.
    pub vocab_offset: usize,
    /// Added to the mean square in its norms.
    pub rms_norm_eps: f64,
}

impl EmbedderConfig {
    /// The ids of the words that it embeds itself.
    pub fn words(&self) -> Range<usize> {
        self.vocab_offset..self.vocab_offset + self.vocab_size
    }

    /// What its tower's features show.
    pub fn modality(&self) -> Modality {
        match self.of {
            Embedder::Vision => Modality::Image,
            Embedder::Audio => Modality::Audio,
        }
    }

    /// Its projection to width `d`, as one of a model's linear layers.
    pub fn linear(&self, d: usize) -> (TensorId, Stage, [usize; 2]) {
        let id = TensorId::Embedder(self.of, EmbedderTensor::EmbeddingProjection);
        (id, Stage::Embed, [d, self.hidden_size])
    }

    /// Every tensor of an embedder to width `d`.
    pub fn tensors(&self, d: usize) -> [(TensorId, Vec<usize>); 4] {
        let w = self.hidden_size;
        [
            (EmbedderTensor::Embedding, vec![self.vocab_size, w]),
            (EmbedderTensor::HardEmbeddingNorm, vec![w]),
            (EmbedderTensor::SoftEmbeddingNorm, vec![w]),
            (EmbedderTensor::EmbeddingProjection, vec![d, w]),
        ]
        .map(|(tensor, dims)| (TensorId::Embedder(self.of, tensor), dims))
    }
}

/// Rows of the model's width: `post_norm(projection(norm(x)))`, where `x` is what a tower gives (soft), or the vector of a
/// word that stands around it (hard), each with a norm of its own.
///
/// # Source
/// Checked by the goldens of `scripts/make_gemma3n_vision_goldens.py`.
#[derive(Debug, Clone)]
pub struct MultimodalEmbedder {
    /// Its sizes.
    pub config: EmbedderConfig,
    /// `[v, w]`.
    pub embedding: Weight,
    /// Over the words.
    pub hard_embedding_norm: RmsNorm,
    /// Over what the tower gives.
    pub soft_embedding_norm: RmsNorm,
    /// `[d, w]`.
    pub embedding_projection: Linear,
    /// Without a weight.
    pub embedding_post_projection_norm: RmsNorm,
}

impl MultimodalEmbedder {
    /// Puts together the embedder to width `d` that `config` describes; its projection is one of the model's `sites`.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(
        config: &EmbedderConfig,
        d: usize,
        sites: &BTreeMap<TensorId, Site>,
        parts: &mut dyn Parts,
        device: &Device,
    ) -> Result<Self> {
        let &EmbedderConfig { of, hidden_size: w, vocab_size, rms_norm_eps: eps, .. } = config;
        let (projection, _, dims) = config.linear(d);
        let site = sites[&projection].index;
        let norm = NormShape { width: w, eps, gain: Gain::Plain };
        Ok(MultimodalEmbedder {
            config: config.clone(),
            embedding: parts.matrix(TensorId::Embedder(of, EmbedderTensor::Embedding), [vocab_size, w])?,
            hard_embedding_norm: parts.norm(TensorId::Embedder(of, EmbedderTensor::HardEmbeddingNorm), norm)?,
            soft_embedding_norm: parts.norm(TensorId::Embedder(of, EmbedderTensor::SoftEmbeddingNorm), norm)?,
            embedding_projection: Linear { site, weight: parts.matrix(projection, dims)? },
            embedding_post_projection_norm: RmsNorm::new(Tensor::ones([d], device), eps),
        })
    }

    /// What the tower gives, as the projection takes it.
    ///
    /// # Shapes
    /// - `features`, output: `[p, w]`
    pub fn soft(&self, features: Tensor<2>) -> Tensor<2> {
        self.soft_embedding_norm.forward(features)
    }

    /// The vectors of its own words, as the projection takes them.
    ///
    /// # Shapes
    /// - output: `[ids.len(), w]`
    ///
    /// # Panics
    /// On an id that is none of [`EmbedderConfig::words`].
    pub fn hard(&self, ids: &[u32]) -> Tensor<2> {
        let words: Vec<u32> = ids.iter().map(|&id| id - self.config.vocab_offset as u32).collect();
        self.hard_embedding_norm.forward(self.embedding.select(&words))
    }

    /// Rows of the language model's width.
    ///
    /// # Shapes
    /// - `normed`: `[n, w]`, what [`MultimodalEmbedder::soft`] and [`MultimodalEmbedder::hard`] give
    /// - output: `[n, d]`
    pub fn project(&self, normed: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        self.embedding_post_projection_norm.forward(self.embedding_projection.forward(normed, side))
    }

    /// All rows of a batch that it makes, in ascending order: those of its own words, and those of the soft tokens of its
    /// modality, of which `normed` makes what the projection takes, a row for each.
    pub fn pieces(
        &self,
        inputs: &Inputs,
        normed: impl Fn(&SoftTokens) -> Tensor<2>,
        side: &dyn SidePath,
    ) -> Vec<Piece> {
        let soft = inputs.soft_tokens.iter().filter(|soft| soft.modality == self.config.modality());
        let soft = soft.map(|soft| Piece { rows: soft.rows.clone(), embedded: normed(soft) });
        let words = self.own_words(inputs).into_iter();
        let words = words.map(|rows| Piece { embedded: self.hard(&inputs.input_ids[rows.clone()]), rows });
        let mut pieces: Vec<Piece> = soft.chain(words).collect();
        if pieces.is_empty() {
            return pieces;
        }
        pieces.sort_by_key(|piece| piece.rows.start);
        // One product for all of them.
        let normed = pieces.iter().map(|piece| piece.embedded.clone()).collect();
        let projected = self.project(Tensor::cat(normed, 0), side);
        let mut done = 0;
        for piece in &mut pieces {
            piece.embedded = projected.clone().narrow(0, done, piece.rows.len());
            done += piece.rows.len();
        }
        pieces
    }

    /// Runs of neighbouring rows of its own words that are no soft tokens.
    fn own_words(&self, inputs: &Inputs) -> Vec<Range<usize>> {
        let (ids, words) = (&inputs.input_ids, self.config.words());
        let is_soft = |row: usize| inputs.soft_tokens.iter().any(|soft| soft.rows.contains(&row));
        let own = (0..ids.len()).filter(|&row| words.contains(&(ids[row] as usize)) && !is_soft(row));
        let mut runs: Vec<Range<usize>> = Vec::new();
        for row in own {
            match runs.last_mut() {
                Some(run) if run.end == row => run.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        runs
    }
}
