//! Models that were tuned for whoever asked, served at once.

use super::Served;
use crate::error::Result;
use crate::progress::Progress;
use crate::queue::{Hooks, Queue, Run};
use crate::report::ProgressBar;
use crate::serve::Host;
use std::path::Path;
use std::sync::Arc;

/// What comes of runs where a model is served.
pub struct Tuned {
    /// Who serves it.
    pub served: Arc<Served>,
    /// What is said.
    pub screen: ProgressBar,
}

impl Tuned {
    /// Serves what earlier runs have left. What cannot be loaded any more is said and left out.
    ///
    /// # Errors
    /// A queue that cannot be read.
    pub fn serve_all(&self, queue: &Queue) -> Result<()> {
        for run in queue.succeeded()? {
            if let Err(error) = self.serve(&run, &queue.adapter(&run)) {
                self.note(&format!("warning: `{}` cannot be served: {}", run.model, error.what()));
            }
        }
        Ok(())
    }
}

impl Hooks for Tuned {
    fn serve(&self, run: &Run, adapter: &Path) -> Result<()> {
        self.served.load(&run.model, adapter, Some(&run.owner), &self.screen)
    }

    fn forget(&self, model: &str) {
        self.served.models().remove(model);
    }

    fn note(&self, text: &str) {
        Progress::note(&self.screen, text);
    }

    fn told(&self, text: &str) {
        self.screen.note(text);
    }
}
