//! Whether a configuration and the weights beside it describe one model.
//!
//! A configuration that promises less than the file has, or ties what the file holds apart, would be believed without
//! a word, and the model would compute other numbers than its maker's.

use crate::error::{Error, Kind, Place, Result};
use crate::model::DecoderConfig;
use crate::model::gemma3::TextConfig;
use crate::model::gemma3::config::ImageConfig;
use crate::model::vision::siglip::MultiModalProjector;
use crate::weights::names::{LayerNorm, Spelling, TensorId, VisionTensor};
use crate::weights::{Source, TensorInfo};
use std::collections::HashSet;

/// Problems that are shown; the wrong configuration makes every tensor wrong, and a few say as much as all.
const SHOWN: usize = 4;

/// Parts of names of tensors that a language model does without: other modalities, and buffers that older versions of
/// transformers saved.
const OF_OTHERS: [&str; 7] = [
    "vision_tower",
    "vision_model",
    "multi_modal_projector",
    "audio_tower",
    "embed_vision",
    "embed_audio",
    "rotary_emb.inv_freq",
];

/// What a configuration says of the weights.
pub(in crate::model) struct Described {
    /// The architecture's name, for people.
    pub architecture: &'static str,
    /// Decoder layers.
    pub layers: usize,
    /// Every tensor that such a model has, but for its head.
    pub tensors: Vec<(TensorId, Vec<usize>)>,
    /// Tensors that a checkpoint may have and the model does without.
    pub unread: Vec<TensorId>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
}

/// Parts of names of tensors of a tower that Gemma 3 does without: the pooling head, and a buffer that older versions of
/// transformers saved.
const UNUSED_OF_TOWERS: [&str; 3] = ["vision_model.head.", "vision_tower.head.", "embeddings.position_ids"];

impl TextConfig {
    /// Holds tower and projector against the headers of the weights.
    ///
    /// # Errors
    /// Their tensors that are missing or of another shape, and tensors beside them that this program does not know.
    pub fn check_towers(&self, source: &Source) -> Result<()> {
        let Some(ImageConfig { vision_config, .. }) = &self.images else { return Ok(()) };
        let projector = MultiModalProjector::tensors(vision_config.hidden_size, self.hidden_size);
        let tensors: Vec<_> = vision_config.tensors().into_iter().chain(projector).collect();
        let is_of_tower =
            |name: &str| VisionTensor::is_of_vision(name) && !UNUSED_OF_TOWERS.iter().any(|part| name.contains(part));
        check_tower("vision tower", &tensors, source, is_of_tower)
    }

    /// Holds this against the headers of the weights, and lets the weights decide what they say themselves: a stored
    /// head that differs from the embedding is used, as transformers 5.23 does, whatever `tie_word_embeddings` says.
    /// Returns what the user should know.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape, layers that the configuration leaves out, tensors of a layer that
    /// this program does not know; a head that cannot be read.
    pub fn agree_with(&mut self, source: &Source) -> Result<Vec<String>> {
        let mut described = Described {
            architecture: self.architecture(),
            layers: self.num_hidden_layers,
            tensors: self.tensors(),
            unread: Vec::new(),
            tie_word_embeddings: self.tie_word_embeddings,
        };
        let warnings = described.agree_with(source)?;
        self.tie_word_embeddings = described.tie_word_embeddings;
        Ok(warnings)
    }

    /// Every tensor that a model of this shape has, but for its head.
    fn tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        let (d, e) = (self.hidden_size, self.head_dim);
        let single = [(TensorId::EmbedTokens, vec![self.vocab_size, d]), (TensorId::Norm, vec![d])];
        let projections = self.sites().into_iter().map(|site| (site.weight, site.dims().to_vec()));
        let norms = (0..self.num_hidden_layers).flat_map(|layer| LayerNorm::SIX.map(|norm| (layer, norm)));
        let norms = norms.map(|(layer, norm)| {
            let width = if matches!(norm, LayerNorm::QNorm | LayerNorm::KNorm) { e } else { d };
            (TensorId::LayerNorm(layer, norm), vec![width])
        });
        let head = self.judges.then_some((TensorId::Score, vec![1, d]));
        single.into_iter().chain(projections).chain(norms).chain(head).collect()
    }
}

impl Described {
    /// Holds this against the headers of the weights, as [`TextConfig::agree_with`] does.
    ///
    /// # Errors
    /// As there.
    pub fn agree_with(&mut self, source: &Source) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let mut problems = Vec::new();
        problems.extend(self.beyond(source));
        problems.extend(self.unknown(source, &mut warnings));
        if self.tie_word_embeddings && source.contains(&TensorId::LmHead) {
            if !source.is_same(&TensorId::EmbedTokens, &TensorId::LmHead)? {
                self.tie_word_embeddings = false;
                if source.gguf().is_none() {
                    warnings.push(
                        "Warning: `config.json` says `tie_word_embeddings: true`, but the file has an `lm_head.weight` that \
                         differs from the embedding: the stored head is used, as transformers does"
                            .into(),
                    );
                }
            }
        } else if !self.tie_word_embeddings && !source.contains(&TensorId::LmHead) {
            let what = "`tie_word_embeddings` is false, but the weights hold no head (`lm_head.weight`)";
            problems.push(Error::new(Kind::Config, what).at_path(source.path()).hint(
                "the weights are incomplete, or the head is the embedding: then say `tie_word_embeddings: true`",
            ));
        }
        if problems.is_empty() {
            problems.extend(missing(&self.tensors, source));
        }
        match Error::many(problems) {
            Some(error) => Err(error),
            None => Ok(warnings),
        }
    }

    /// The problem of layers in the file that the configuration leaves out.
    fn beyond(&self, source: &Source) -> Option<Error> {
        let layer = |info: &TensorInfo| match source.id(&info.name)? {
            TensorId::Projection(layer, _) | TensorId::LayerNorm(layer, _) => Some(layer),
            _ => None,
        };
        let tensors = source.tensors();
        let layers = tensors.iter().filter_map(layer).max()? + 1;
        if layers <= self.layers {
            return None;
        }
        let beyond = tensors.iter().filter(|info| layer(info).is_some_and(|layer| layer >= self.layers));
        let names: Vec<&str> = beyond.map(|info| info.name.as_str()).collect();
        let architecture = source.gguf().and_then(|gguf| gguf.architecture());
        let key = architecture.map_or("num_hidden_layers".to_owned(), |name| format!("{name}.block_count"));
        let what = format!(
            "`{key}` is {}, but the weights have {layers} layers: {} would be left out",
            self.layers,
            listed(&names)
        );
        Some(Error::new(Kind::Config, what).at_path(source.path()).hint(format!(
            "the model computes other numbers without them; say {layers}, or remove the tensors if that is meant"
        )))
    }

    /// The problem of tensors inside the layers that the model does not have: biases, scales of another quantisation,
    /// parts of another architecture. What is unknown elsewhere only gets a warning.
    fn unknown(&self, source: &Source, warnings: &mut Vec<String>) -> Option<Error> {
        let known: HashSet<TensorId> =
            self.tensors.iter().map(|(id, _)| *id).chain(self.unread.iter().copied()).collect();
        let is_unknown = |name: &str| match source.id(name) {
            None => !OF_OTHERS.iter().any(|part| name.contains(part)),
            Some(TensorId::LmHead | TensorId::Vision(_)) => false,
            // Layers beyond the last have a problem of their own.
            Some(id) => {
                !known.contains(&id)
                    && !matches!(id, TensorId::Projection(n, _) | TensorId::LayerNorm(n, _) if n >= self.layers)
            }
        };
        let names: Vec<String> = source.tensors().into_iter().map(|info| info.name).filter(|n| is_unknown(n)).collect();
        let is_inside = |name: &&str| name.contains("layers.") || name.starts_with("blk.");
        let (inside, elsewhere): (Vec<&str>, Vec<&str>) = names.iter().map(String::as_str).partition(is_inside);
        if !elsewhere.is_empty() {
            warnings.push(format!(
                "Warning: the file holds what is no part of a {}, and is not used: {}",
                self.architecture,
                listed(&elsewhere)
            ));
        }
        if inside.is_empty() {
            return None;
        }
        let what = format!("the layers hold tensors that this program does not compute with: {}", listed(&inside));
        Some(
            Error::new(Kind::Weights, what)
                .at(Place::Path(source.path().into()))
                .hint("without them the model would compute other numbers; use its original, unquantised checkpoint"),
        )
    }
}

/// Holds a tower, whose tensors are those that `is_of_tower`, against the headers of the weights.
///
/// # Errors
/// Its tensors that are missing or of another shape, and tensors beside them that this program does not compute with.
pub(in crate::model) fn check_tower(
    tower: &str,
    tensors: &[(TensorId, Vec<usize>)],
    source: &Source,
    is_of_tower: impl Fn(&str) -> bool,
) -> Result<()> {
    let mut problems = missing(tensors, source);
    let known: HashSet<TensorId> = tensors.iter().map(|(id, _)| *id).collect();
    let is_known = |name: &str| Spelling::parse(name).is_some_and(|(_, id)| known.contains(&id));
    let unused = source.unused();
    let unknown = unused.iter().map(String::as_str).filter(|name| is_of_tower(name) && !is_known(name));
    let unknown: Vec<&str> = unknown.collect();
    if !unknown.is_empty() {
        let what = format!("the {tower} holds what this program does not compute with: {}", listed(&unknown));
        problems.push(Error::new(Kind::Weights, what).at_path(source.path()));
    }
    Error::many(problems).map_or(Ok(()), Err)
}

/// The problems of tensors that are missing, or have another shape.
fn missing(tensors: &[(TensorId, Vec<usize>)], source: &Source) -> Vec<Error> {
    let mut found: Vec<Error> = tensors.iter().filter_map(|(id, shape)| source.check_tensor(id, shape).err()).collect();
    if found.len() > SHOWN {
        let more = found.split_off(SHOWN).len();
        let what = format!("{more} more tensors are missing or of another shape");
        found.push(Error::new(Kind::Weights, what).at_path(source.path()));
    }
    found
}

/// The first names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
