//! A model that is loaded and ready to speak, with or without an adapter.

use crate::adapter::Adapter;
use crate::error::{Place, Result};
use crate::jobs::device::{self, Compute};
use crate::jobs::{Base, adapter, provenance};
use crate::model::gemma3::Gemma3;
use crate::nn::{BaseOnly, SidePath};
use crate::progress::Progress;
use crate::weights::{Compression, Holding, HostDtype};
use std::path::Path;

/// A loaded model, and the adapter beside it.
pub struct Tuned {
    /// Its small files.
    pub base: Base,
    /// Its weights.
    pub model: Gemma3,
    /// The adapter, if one was named.
    pub adapter: Option<Adapter>,
    /// Where it computes.
    pub compute: Compute,
}

impl Tuned {
    /// Opens and loads a model and an adapter.
    ///
    /// # Errors
    /// When either cannot be read, or they do not fit.
    pub fn open(
        model: &str,
        adapter: Option<&Path>,
        held: Option<HostDtype>,
        device: &str,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let compute = device::open(device)?;
        if !compute.is_cpu() {
            progress.note(&format!("Computing on {}", compute.describe()));
        }
        let base = Base::open(model, Place::Named(format!("--model {model}")), progress, &|config| match adapter {
            Some(folder) => adapter::check(folder, config),
            None => Ok(()),
        })?;
        if let Some(folder) = adapter {
            provenance::warn_of_another_base(folder, &base, progress);
        }
        let as_stored = held.is_none() && base.source.gguf().is_some();
        let projections = if as_stored { Compression::AsStored } else { Compression::None };
        let holding = Holding { projections, ..Holding::dense(held) };
        let model = base.load(&holding, &compute.device, progress)?;
        let adapter = adapter.map(|folder| adapter::read(folder, &model)).transpose()?;
        Ok(Tuned { base, model, adapter, compute })
    }

    /// What runs beside the frozen weights.
    pub fn side(&self) -> &dyn SidePath {
        match &self.adapter {
            Some(adapter) => adapter,
            None => &BaseOnly,
        }
    }
}
