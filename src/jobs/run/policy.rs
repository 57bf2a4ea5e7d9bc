//! The policy that a run starts from, asked once about its pairs.

use crate::data::Dataset;
use crate::error::Result;
use crate::jobs::media::Features;
use crate::jobs::run::batches::each_row;
use crate::jobs::run::reference::Reference;
use crate::model::LanguageModel;
use crate::nn::SidePath;
use crate::progress::Progress;
use crate::train::backprop;
use std::path::Path;

/// A policy, and what its numbers depend on.
pub struct Policy<'a> {
    /// The model.
    pub model: &'a dyn LanguageModel,
    /// The adapter that it has.
    pub side: &'a dyn SidePath,
    /// Changes with the model, the adapter, and where and how they compute.
    pub fingerprint: String,
}

impl Policy<'_> {
    /// What it says of the pairs of `dataset`: what a file in `cache` has of that, or else what it is asked now, and kept there.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn of(
        &self,
        dataset: &Dataset,
        features: Option<&Features>,
        cache: &Path,
        progress: &dyn Progress,
    ) -> Result<Reference> {
        let key = format!("{}\n{}", self.fingerprint, dataset.content_hash());
        let path = cache.join(format!("reference-{}.bin", &blake3::hash(key.as_bytes()).to_hex()[..32]));
        if let Some(kept) = Reference::kept(&path, dataset.len()) {
            return Ok(kept);
        }
        let reference = self.asked(dataset, features, progress)?;
        // A run does not fail for a file that only spares the next one this work.
        if let Err(error) = reference.keep(&path) {
            progress.note(&format!("What the reference says is not kept for later runs: {}", error.what()));
        }
        Ok(reference)
    }

    fn asked(&self, dataset: &Dataset, features: Option<&Features>, progress: &dyn Progress) -> Result<Reference> {
        let mut pairs = Vec::with_capacity(dataset.len());
        progress.start("asking the reference", Some(dataset.len() as u64), "rows");
        // Also rows that the first passes leave out, as their sources' weights say.
        for batch in each_row(dataset, features) {
            let batch = batch?;
            let losses = backprop::losses(self.model, self.side, &batch);
            let mut sums = batch.sequences().into_iter().map(|tokens| -losses[tokens].iter().sum::<f64>());
            // A row that is no pair has no other answer, and makes a loss that is no number.
            pairs.push([(); 2].map(|()| sums.next().unwrap_or(f64::NAN)));
            progress.advance(1);
        }
        progress.finish();
        Ok(Reference::new(pairs))
    }
}
