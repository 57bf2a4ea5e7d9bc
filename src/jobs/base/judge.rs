//! A reward model, opened to judge texts.

use super::peft_model::PeftModel;
use super::{adapter_folder, provenance};
use crate::adapter::peft::AdapterConfig;
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::infer::score;
use crate::model::{Inputs, ModelConfig};
use crate::nn::Segments;
use crate::progress::Progress;
use crate::weights::Holding;
use std::path::{Path, PathBuf};

/// A base with an adapter whose head gives texts a number.
pub struct Judge(PeftModel);

impl Judge {
    /// Opens and loads the reward model that the folder `adapter` holds, on the base that it was trained on, or on `base`.
    ///
    /// # Errors
    /// When either cannot be read, they do not fit, or the adapter has no such head.
    pub fn open(
        base: Option<&str>,
        adapter: &Path,
        holding: Holding,
        device: &str,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (folder, _) = Judge::find(adapter)?;
        let base = Judge::base(base, adapter)?;
        PeftModel::open_judge(&base, Some(&folder), holding, device, progress).map(Judge)
    }

    /// What the reward model that `adapter` means stands on: `base`, or what it was trained on.
    ///
    /// # Errors
    /// As [`Judge::find`], and when nothing says what that was.
    pub fn base(base: Option<&str>, adapter: &Path) -> Result<String> {
        let (folder, config) = Judge::find(adapter)?;
        let recorded = || provenance::base_of(&folder).or(config.base_model_name_or_path);
        base.map(str::to_owned).or_else(recorded).ok_or_else(|| {
            Error::new(Kind::Adapter, "the reward model does not say which base it was trained on")
                .at_path(&folder)
                .hint("name the base")
        })
    }

    /// The folder of the reward model that `adapter` means, and what it says of itself.
    ///
    /// # Errors
    /// When it cannot be read, or has no such head.
    pub fn find(adapter: &Path) -> Result<(PathBuf, AdapterConfig)> {
        let folder = adapter_folder::locate(adapter)?;
        atomic::will_read(&folder)?;
        let (config, _) = AdapterConfig::read(&folder)?;
        match config.judges() {
            true => Ok((folder, config)),
            false => Err(Error::new(Kind::Adapter, "the adapter is no reward model: it has no `score` head")
                .at_path(&folder)
                .hint("`task: reward` trains one")),
        }
    }

    /// Opens and loads a model that is a reward model as a whole, as `merge` writes one.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn whole(base: &str, holding: Holding, device: &str, progress: &dyn Progress) -> Result<Self> {
        Judge::find_whole(base)?;
        let model = PeftModel::open_judge(base, None, holding, device, progress)?;
        if model.judges() { Ok(Judge(model)) } else { Err(no_judge(base)) }
    }

    /// Looks whether a folder of this name holds a reward model as a whole; of a model that is elsewhere nothing is known yet.
    ///
    /// # Errors
    /// When it cannot be read, or holds another model.
    pub fn find_whole(base: &str) -> Result<()> {
        let folder = Path::new(base);
        if folder.is_dir() && !ModelConfig::from_folder_of_any(folder)?.0.judges() {
            return Err(no_judge(base));
        }
        Ok(())
    }

    /// The model, with its tokenizer.
    pub fn model(&self) -> &PeftModel {
        &self.0
    }

    /// The reward of each of these sequences of tokens.
    ///
    /// # Errors
    /// A reward that is not finite.
    pub fn rewards(&self, sequences: &[Vec<u32>]) -> Result<Vec<f64>> {
        let lengths = sequences.iter().map(Vec::len);
        let inputs = Inputs::text(sequences.concat(), Segments::from_lengths(lengths));
        let rewards = score::rewards(self.0.model.as_ref(), self.0.side(), &inputs).unwrap_or_default();
        if rewards.len() == sequences.len() && rewards.iter().all(|reward| reward.is_finite()) {
            return Ok(rewards);
        }
        Err(Error::new(Kind::NonFinite, "a reward is not finite, or a sequence is empty")
            .hint("the reward model is damaged, or had diverged in training"))
    }
}

fn no_judge(base: &str) -> Error {
    Error::new(Kind::Config, format!("`{base}` is no reward model: it has no `score` head"))
        .hint("name the `adapter` of a reward model beside it, or a model that `merge` made of both")
}
