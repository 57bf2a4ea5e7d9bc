//! The policy that a run starts from, asked once about its answers.

use crate::data::{Binning, Dataset};
use crate::error::Result;
use crate::jobs::media::Features;
use crate::jobs::run::batches::{Wanted, each_row, groups};
use crate::jobs::run::reference::Reference;
use crate::model::LanguageModel;
use crate::nn::SidePath;
use crate::progress::Progress;
use crate::train::backprop;
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::Needs;
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
    /// What it says of the answers of `dataset`, in these bins where it `needs` answers to other prompts: what a file in `cache` has of
    /// that, or else what it is asked now, and kept there.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn of(
        &self,
        (dataset, binning): (&Dataset, Binning),
        needs: Needs,
        features: Option<&Features>,
        cache: &Path,
        progress: &dyn Progress,
    ) -> Result<Reference> {
        let mut key = format!("{}\n{}", self.fingerprint, dataset.content_hash());
        if needs.mismatched {
            // Which answers prompts are mismatched with.
            let Binning { together, shuffle, seed, .. } = binning;
            key += &format!("\n{together} {shuffle} {seed} {}", dataset.max_length());
        }
        let path = cache.join(format!("reference-{}.bin", &blake3::hash(key.as_bytes()).to_hex()[..32]));
        if let Some(kept) = Reference::kept(&path, dataset.len()) {
            return Ok(kept);
        }
        progress.start("Asking the reference", Some(dataset.len() as u64), "rows");
        let reference = match needs.mismatched {
            true => self.asked_in_groups((dataset, binning), needs, features, progress)?,
            false => self.asked(dataset, features, progress)?,
        };
        progress.finish();
        // A run does not fail for a file that only spares the next one this work.
        if let Err(error) = reference.keep(&path) {
            progress.note(&format!("What the reference says is not kept for later runs: {}", error.what()));
        }
        Ok(reference)
    }

    fn asked(&self, dataset: &Dataset, features: Option<&Features>, progress: &dyn Progress) -> Result<Reference> {
        let mut pairs = Vec::with_capacity(dataset.len());
        // Also rows that the first passes leave out, as their sources' weights say.
        for batch in each_row(dataset, features) {
            let batch = batch?;
            let mut sums = self.log_probabilities(&batch).into_iter();
            // A row that is no pair has no other answer, and makes a loss of pairs that is no number.
            pairs.push([(); 2].map(|()| sums.next().unwrap_or(f64::NAN)));
            progress.advance(1);
        }
        Ok(Reference::new(pairs))
    }

    /// What it says of each row, and of its prompt with the answer of another row, in the batches that a step takes.
    fn asked_in_groups(
        &self,
        (dataset, binning): (&Dataset, Binning),
        needs: Needs,
        features: Option<&Features>,
        progress: &dyn Progress,
    ) -> Result<Reference> {
        let mut answers = vec![[f64::NAN; 2]; dataset.len()];
        for batch in groups(dataset, features, binning, Wanted { needs, ..Wanted::default() })? {
            let (batch, rows) = batch?;
            let own = self.log_probabilities(&batch);
            let others = batch.mismatched.as_deref().map(|others| self.log_probabilities(others)).unwrap_or_default();
            for (row, said) in rows.iter().zip(own.into_iter().zip(others)) {
                if let Some(answer) = answers.get_mut(*row as usize) {
                    *answer = said.into();
                }
            }
            progress.advance(rows.len() as u64);
        }
        Ok(Reference::new(answers))
    }

    fn log_probabilities(&self, batch: &MicroBatch) -> Vec<f64> {
        batch.log_probabilities(&backprop::losses(self.model, self.side, batch))
    }
}
