//! Whether a configuration and the weights beside it describe one model.

use crate::error::{Error, Kind, Result};
use crate::model::DecoderConfig;
use crate::model::gemma3::agreement::{Described, check_tower};
use crate::model::gemma3n::TextConfig;
use crate::weights::Source;
use crate::weights::names::{AudioTensor, Embedder, LayerNorm, MobileNetTensor, Projection, TensorId};

impl TextConfig {
    /// Holds this against the headers of the weights, as a Gemma 3 is. Keys and values of layers that read others' are
    /// nothing that the model has, and may stand in the files.
    ///
    /// # Errors
    /// As of a Gemma 3.
    pub fn agree_with(&mut self, source: &Source) -> Result<Vec<String>> {
        if source.gguf().is_some() {
            self.take_sizes(source);
        }
        let shared = self.first_shared_layer()..self.num_hidden_layers();
        let unread = shared.flat_map(|layer| {
            let projections = [Projection::K, Projection::V].map(|id| TensorId::Projection(layer, id));
            projections.into_iter().chain([TensorId::LayerNorm(layer, LayerNorm::KNorm)])
        });
        let scales = (0..self.num_hidden_layers()).map(|layer| TensorId::LayerNorm(layer, LayerNorm::CorrectScale));
        let mut described = Described {
            architecture: self.architecture(),
            layers: self.num_hidden_layers(),
            tensors: self.tensors(),
            unread: unread.chain(scales).collect(),
            tie_word_embeddings: self.tie_word_embeddings,
        };
        let mut warnings = described.agree_with(source)?;
        self.tie_word_embeddings = described.tie_word_embeddings;
        // Towers that are not whole are not used.
        let whole = self.check_towers(source).is_ok();
        let (sees, hears) = (whole && self.images.is_some(), whole && self.sounds.is_some());
        let towers = [("vision_tower", sees), ("audio_tower", hears), ("embed_vision", sees), ("embed_audio", hears)];
        let unused = source.unused();
        let there = towers.into_iter().filter(|(tower, used)| !used && unused.iter().any(|name| name.contains(tower)));
        let there: Vec<String> = there.map(|(tower, _)| format!("`{tower}`")).collect();
        if !there.is_empty() {
            warnings.push(format!(
                "Note: of this {} the language model is used, not its {}",
                self.architecture(),
                there.join(", ")
            ));
        }
        Ok(warnings)
    }

    /// The sizes for which GGUF files have no keys, as their tensors have them.
    fn take_sizes(&mut self, source: &Source) {
        if let Some(&[rank, _]) = source.shape(&TensorId::Projection(0, Projection::LaurelLeft)) {
            self.laurel_rank = rank;
        }
        if let Some(&[words, _]) = source.shape(&TensorId::EmbedTokensPerLayer) {
            self.vocab_size_per_layer_input = words.min(self.vocab_size);
        }
    }

    /// Holds towers and embedders against the headers of the weights.
    ///
    /// # Errors
    /// As of a Gemma 3.
    pub fn check_towers(&self, source: &Source) -> Result<()> {
        let d = self.hidden_size;
        let is_of_vision = |name: &str| MobileNetTensor::is_of_tower(name) || Embedder::Vision.has(name);
        let is_of_audio = |name: &str| AudioTensor::is_of_audio(name) || Embedder::Audio.has(name);
        let vision =
            self.images.iter().map(|images| check_tower("vision tower", &images.tensors(d), source, is_of_vision));
        let audio =
            self.sounds.iter().map(|sounds| check_tower("audio tower", &sounds.tensors(d), source, is_of_audio));
        let problems = vision.chain(audio).chain([self.check_padding(source)]).filter_map(Result::err).collect();
        Error::many(problems).map_or(Ok(()), Err)
    }

    /// Refuses sounds whose padding is none of their words: transformers takes the last word of all.
    fn check_padding(&self, source: &Source) -> Result<()> {
        let own = self.sounds.iter().map(|sounds| sounds.embed_audio.words());
        let Some(words) = own.into_iter().find(|words| !words.contains(&(self.vocab_size - 1))) else { return Ok(()) };
        let what = format!(
            "the words of `audio_config` are those from {} to {} (`vocab_offset` and `vocab_size`), but short clips are \
             padded with the last word of all, {}",
            words.start,
            words.end - 1,
            self.vocab_size - 1
        );
        Err(Error::new(Kind::Config, what).at_path(source.path()))
    }

    /// Every tensor that a model of this shape has, but for its head.
    fn tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        let (d, p) = (self.hidden_size, self.hidden_size_per_layer_input);
        let single = [
            (TensorId::EmbedTokens, vec![self.vocab_size, d]),
            (TensorId::Norm, vec![d]),
            (TensorId::EmbedTokensPerLayer, self.per_layer_table().to_vec()),
            (TensorId::PerLayerProjectionNorm, vec![p]),
        ];
        let projections = self.sites().into_iter().map(|site| (site.weight, site.dims().to_vec()));
        let norms = (0..self.num_hidden_layers()).flat_map(|layer| {
            self.norms(layer).into_iter().map(move |(norm, width)| (TensorId::LayerNorm(layer, norm), vec![width]))
        });
        single.into_iter().chain(projections).chain(norms).collect()
    }
}
