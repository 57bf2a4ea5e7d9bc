//! Arguments that several verbs share.

use crate::error::{Error, Kind, Place, Result};
use crate::jobs::base::peft_model::PeftModel;
use crate::recipe::{self, Recipe};
use crate::report::ProgressBar;
use crate::weights::HostDtype;
use std::path::{Path, PathBuf};

/// A recipe and what is changed in it.
#[derive(clap::Args)]
pub struct RecipeArgs {
    /// The recipe, a YAML file
    pub recipe: PathBuf,
    /// Change a key, as in `--set training.seed=7`; repeatable
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl RecipeArgs {
    /// Reads and checks the recipe.
    pub fn load(&self) -> Result<Recipe> {
        recipe::load(&self.recipe, &self.set)
    }
}

/// A model, an adapter, and how they are run.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// The base model: a Hub id[@revision], a folder, or a .gguf file
    #[arg(long)]
    pub model: String,
    /// An adapter folder in PEFT's layout
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// How weights are held
    #[arg(long, default_value = "auto")]
    pub dtype: DtypeArg,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// How weights are held.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum DtypeArg {
    /// As they are stored
    Auto,
    /// 4 bytes per weight
    F32,
    /// 2 bytes per weight
    Bf16,
    /// 2 bytes per weight
    F16,
}

impl DtypeArg {
    /// The dtype in which weights are held; `None` is as they are stored.
    pub fn held(self) -> Option<HostDtype> {
        match self {
            DtypeArg::Auto => None,
            DtypeArg::F32 => Some(HostDtype::F32),
            DtypeArg::Bf16 => Some(HostDtype::BF16),
            DtypeArg::F16 => Some(HostDtype::F16),
        }
    }
}

impl ModelArgs {
    /// Opens and loads the model.
    pub fn open(&self, screen: &ProgressBar) -> Result<PeftModel> {
        PeftModel::open(&self.model, self.adapter.as_deref(), self.dtype.held(), &self.device, screen)
    }
}

/// Reads a jsonl file of objects; each comes with its line number.
pub fn read_jsonl(path: &Path) -> Result<Vec<(usize, serde_json::Map<String, serde_json::Value>)>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("reading", path, e))?;
    let at = |row| Place::Row { path: path.into(), row };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let row = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        Error::new(Kind::Data, "not UTF-8").at(at(row))
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(i, line)| match serde_json::from_str(line) {
        Ok(object) => Ok((i + 1, object)),
        Err(e) => Err(Error::new(Kind::Data, format!("not a JSON object: {e}")).at(at(i + 1))),
    });
    let rows: Vec<_> = rows.collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(Error::new(Kind::Data, "the file has no rows").at_path(path));
    }
    Ok(rows)
}
