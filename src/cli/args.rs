//! Arguments that several verbs share.

use crate::error::Result;
use crate::jobs::base::peft_model::PeftModel;
use crate::recipe::{self, Recipe};
use crate::report::ProgressBar;
use crate::weights::HostDtype;
use std::path::PathBuf;

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
    /// auto, cpu, cuda[:i], wgpu[:i] or vulkan[:i]
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
