//! Frozen weights that are not loaded: how they can be held, and how many bytes that takes.

use crate::error::{Place, Result};
use crate::jobs::base::Base;
use crate::jobs::forecast::memory::GpuProducts;
use crate::model::ModelConfig;
use crate::ops::sizes::UNPACKED_TILE_BYTES;
use crate::weights::names::{Projection, TensorId};
use crate::weights::{Form, Holding, HostDtype, Source};
use burn::tensor::FloatDType;

/// Frozen weights that are not loaded: how they can be held, and how many bytes that takes.
#[derive(Clone, Copy)]
pub struct Frozen<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// The headers of its files; without them it is taken to be stored as bf16, as the published models are.
    pub source: Option<&'a Source>,
}

impl<'a> Frozen<'a> {
    /// Those of a base.
    pub fn of(base: &'a Base) -> Self {
        Frozen { config: &base.config, source: Some(&base.source) }
    }

    /// Refuses a way to hold the weights that contradicts how they are stored.
    ///
    /// # Errors
    /// As [`Source::check`], at the recipe's `model.quantization`.
    pub fn check(&self, holding: &Holding) -> Result<()> {
        let checked = self.source.map_or_else(|| holding.check_plain(), |source| source.check(holding));
        checked.map_err(|error| error.or_at(Place::Key("model.quantization".into())))
    }

    /// Bytes of all frozen matrices when they are held so.
    pub fn bytes(&self, holding: &Holding) -> u64 {
        let vocabulary = [self.config.vocab_size(), self.config.hidden_size()];
        let head = (!self.config.tie_word_embeddings()).then_some((TensorId::LmHead, vocabulary));
        let matrices = [(TensorId::EmbedTokens, vocabulary)].into_iter().chain(head).chain(self.projections());
        matrices.map(|(id, dims)| self.form(&id, holding).map_or(0, |form| form.bytes(dims))).sum()
    }

    /// Bytes of what stays in its file, of which the rows in use alone are read; 0 of most models.
    pub fn mapped_bytes(&self, holding: &Holding) -> u64 {
        let bytes = |(id, dims)| Some(self.form(&id, holding)?.bytes(dims));
        self.config.beyond().mapped.and_then(bytes).unwrap_or(0)
    }

    /// Whether a projection is held in f32, as it is or by what is asked for.
    pub fn has_f32(&self, holding: &Holding) -> bool {
        self.projections().any(|(id, _)| self.is_f32(&id, holding))
    }

    fn is_f32(&self, id: &TensorId, holding: &Holding) -> bool {
        self.form(id, holding) == Some(Form::Dense(HostDtype::F32))
    }

    /// What products take on a GPU that multiplies numbers of this type fastest, when weights are held so.
    pub fn gpu_products(&self, holding: &Holding, fastest: FloatDType) -> GpuProducts {
        let fastest = match fastest {
            FloatDType::BF16 => HostDtype::BF16,
            FloatDType::F16 => HostDtype::F16,
            _ => HostDtype::F32,
        };
        let compute_dtype = holding.compute_dtype;
        let unpacked = |(id, dims): (TensorId, [usize; 2])| {
            let form = self.form(&id, holding)?;
            let own = if form == Form::Dense(HostDtype::F32) { HostDtype::F32 } else { fastest };
            let factor = Form::Dense(compute_dtype.unwrap_or(own));
            (form != factor).then(|| factor.bytes(dims).min(UNPACKED_TILE_BYTES as u64))
        };
        // What attention and the blocks round to. A Gemma 3n has small matrices beside them, which files hold in f32.
        let mut of_blocks = self.projections().filter(|(id, _)| id.is_one_of(&Projection::SEVEN));
        let all = if of_blocks.any(|(id, _)| self.is_f32(&id, holding)) { HostDtype::F32 } else { fastest };
        GpuProducts {
            factor_bytes: compute_dtype.unwrap_or(all).bytes() as u64,
            unpacked_bytes: self.projections().filter_map(unpacked).max().unwrap_or(0),
        }
    }

    fn projections(&self) -> impl Iterator<Item = (TensorId, [usize; 2])> {
        self.config.sites().into_iter().map(|site| (site.weight, site.dims()))
    }

    /// The form of a matrix when it is held so; `None` if the model does not have it.
    pub fn form(&self, id: &TensorId, holding: &Holding) -> Option<Form> {
        self.source.map_or_else(|| Some(holding.form_of_bf16(id)), |source| source.form(id, holding))
    }
}
