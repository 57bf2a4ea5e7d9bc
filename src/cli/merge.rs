//! `gemma-tune merge`

use super::args::{dtypes, expanded, path, verify_command};
use super::interrupt;
use crate::error::{Error, Kind, Place, Result};
use crate::jobs::merge;
use crate::report::{ProgressBar, text};
use crate::weights::HostDtype;
use std::path::PathBuf;

/// Arguments of `merge`.
#[derive(clap::Args)]
pub struct Args {
    /// The base model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
    #[arg(long, value_parser = expanded)]
    model: String,
    /// The adapter folder, or the output.dir of a run
    #[arg(long, value_parser = path())]
    adapter: PathBuf,
    /// The new folder
    #[arg(long, value_parser = path())]
    output: PathBuf,
    /// bf16 or f32
    #[arg(long, default_value = "bf16", value_parser = dtypes())]
    dtype: std::option::Option<HostDtype>, // spelt out, so that it is no argument to leave out
    /// Print what was merged as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Merges.
    pub fn run(self) -> Result<()> {
        let dtype = self.dtype.unwrap_or(HostDtype::BF16);
        if dtype == HostDtype::F16 {
            return Err(Error::new(Kind::Recipe, "a merged model is written as bf16 or f32")
                .at(Place::Named("--dtype f16".into()))
                .hint("Gemma's activations exceed what f16 can hold"));
        }
        let screen = ProgressBar::stderr();
        interrupt::end_on_signal(&screen)?;
        let merged = merge::merge(&self.model, &self.adapter, &self.output, dtype, &screen)?;
        if self.json {
            return super::print_json(&serde_json::json!({
                "output": self.output, "tensors": merged.tensors, "modules": merged.modules,
                "bytes": merged.bytes, "changed": merged.changed,
            }));
        }
        screen.note(&format!(
            "{}: {} tensors, {}; the adapter is in {} of them and changed {:.1} % of their numbers",
            self.output.display(),
            merged.tensors,
            text::bytes(merged.bytes),
            merged.modules,
            100.0 * merged.changed
        ));
        if !merged.judges {
            screen.note(&verify_command(&self.model, &self.adapter, "--merged", &self.output));
        }
        Ok(())
    }
}
