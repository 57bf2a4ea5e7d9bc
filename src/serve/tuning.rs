//! Fine-tuning for whoever asks over HTTP: what it needs of those who know recipes and rows.

use crate::error::Result;
use crate::queue::Queue;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

/// What fine-tuning needs.
pub struct Tuning {
    /// What waits.
    pub queue: Arc<Queue>,
    /// Who makes recipes of what is wanted.
    pub orders: Arc<dyn Orders>,
    /// Bytes of a file that somebody uploads.
    pub max_file_bytes: u64,
}

impl std::fmt::Debug for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tuning").field("max_file_bytes", &self.max_file_bytes).finish_non_exhaustive()
    }
}

/// How a model is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// On answers.
    Supervised,
    /// On answers of which one is better than another.
    Dpo,
}

impl Method {
    /// OpenAI's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Supervised => "supervised",
            Method::Dpo => "dpo",
        }
    }

    /// The one of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Method::Supervised, Method::Dpo].into_iter().find(|method| method.name() == name)
    }
}

/// Rows that were understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// What they are for.
    pub method: Method,
    /// How many there are.
    pub count: u64,
}

/// How somebody wants a model to be tuned; what he does not say is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// On what.
    pub method: Method,
    /// Passes over the rows.
    pub epochs: Option<u64>,
    /// Rows of a step.
    pub batch: Option<usize>,
    /// The learning rate, in times of the usual one.
    pub rate_multiplier: Option<f64>,
    /// DPO's own.
    pub beta: Option<f64>,
    /// Decides what is random.
    pub seed: u64,
    /// Whether there are rows to measure on.
    pub has_validation: bool,
}

/// What was chosen where nothing was said, once a run has begun.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// As of [`Wanted`].
    pub epochs: f64,
    /// As of [`Wanted`].
    pub batch: usize,
    /// As of [`Wanted`].
    pub rate_multiplier: f64,
    /// As of [`Wanted`].
    pub beta: Option<f64>,
}

/// Makes recipes of what is wanted.
pub trait Orders: Send + Sync {
    /// Reads rows as OpenAI's clients write them, and writes them as a recipe reads them.
    ///
    /// # Errors
    /// The first row that is none, by its line.
    fn rows(&self, upload: &mut dyn BufRead, into: &mut dyn Write) -> Result<Rows>;

    /// The recipe of a run in a folder, which has its rows in [`TRAIN`] and [`VALIDATION`].
    ///
    /// # Errors
    /// What no recipe says.
    fn recipe(&self, wanted: &Wanted, folder: &Path) -> Result<String>;

    /// What was chosen for the run in a folder; `None` before it has begun.
    fn chosen(&self, folder: &Path) -> Option<Chosen>;
}

/// The rows that a run is trained on, in its folder.
pub const TRAIN: &str = "train.jsonl";
/// Those that it is measured on.
pub const VALIDATION: &str = "validation.jsonl";
