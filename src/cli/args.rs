//! Arguments that several verbs share.

use super::relief::Relief;
use crate::error::Result;
use crate::jobs::base::peft_model::PeftModel;
use crate::paths;
use crate::recipe::{self, Recipe};
use crate::report::ProgressBar;
use crate::terminal::shell_word;
use crate::weights::{Holding, HostDtype};
use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

/// A recipe and what is changed in it.
#[derive(clap::Args)]
pub struct RecipeArgs {
    /// The recipe, a YAML file
    #[arg(value_parser = path())]
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
    /// The base model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
    #[arg(long, value_parser = expanded)]
    pub model: String,
    /// An adapter folder in PEFT's layout, or the output.dir of a run
    #[arg(long, value_parser = path())]
    pub adapter: Option<PathBuf>,
    /// How weights are held
    #[arg(long, default_value = "auto", value_parser = dtypes())]
    pub dtype: std::option::Option<HostDtype>, // spelt out, so that it is no argument to leave out
    /// What factors of products are rounded to
    #[arg(long, default_value = "auto", value_parser = computing())]
    pub compute_dtype: std::option::Option<Computing>, // as above
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Reads a path, in which `~` and variables are expanded as in recipes.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|given| match given.to_str() {
        Some(text) => expanded(text).map(PathBuf::from),
        None => Ok(PathBuf::from(given)), // a name that is no text has no variables
    })
}

/// A whole number from `LEAST`; options that take one also take numbers below 0, so that it says what it must be.
pub fn whole<const LEAST: u64, T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number: Option<u64> = text.parse().ok().filter(|number| *number >= LEAST);
    let number = number.ok_or_else(|| format!("it must be a whole number, {LEAST} or more"))?;
    T::try_from(number).map_err(|_| "it is too large".to_owned())
}

/// As [`path`], for what may be a path or an id of the Hub.
pub fn expanded(text: &str) -> Result<String, String> {
    paths::expand(text).map_err(|error| match error.hint_text() {
        Some(hint) => format!("{} ({hint})", error.what()),
        None => error.what().to_owned(),
    })
}

/// `200MB`, `1.5 GB`, `700MiB`, or bytes.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    const UNITS: [(&str, f64); 7] =
        [("kib", 1024.0), ("mib", 1048576.0), ("gib", 1073741824.0), ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("b", 1.0)];
    let lower = text.trim().to_lowercase();
    let unit = UNITS.into_iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, unit)));
    let (number, unit) = unit.unwrap_or((&lower, 1.0));
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * unit < 1e15 => Ok((number * unit) as u64),
        _ => Err("write a size such as 200MB or 1.5GiB".into()),
    }
}

/// The words for a dtype; `auto` is `None`.
pub fn dtypes() -> impl TypedValueParser<Value = Option<HostDtype>> {
    let words = [
        ("auto", "As they are stored"),
        ("f32", "4 bytes per weight"),
        ("bf16", "2 bytes per weight"),
        ("f16", "2 bytes per weight"),
    ];
    let values = words.map(|(word, help)| PossibleValue::new(word).help(help));
    PossibleValuesParser::new(values).map(|word| match word.as_str() {
        "f32" => Some(HostDtype::F32),
        "bf16" => Some(HostDtype::BF16),
        "f16" => Some(HostDtype::F16),
        _ => None,
    })
}

/// What the factors of products are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computing {
    /// Floats of this type.
    In(HostDtype),
    /// Signed bytes in runs with a scale each, where the weights are such; the others are not rounded.
    Int8,
}

/// The words for what products are rounded to; `auto` is `None`.
pub fn computing() -> impl TypedValueParser<Value = Option<Computing>> {
    let words = [
        ("auto", "f32 on the CPU, and what another device multiplies fastest"),
        ("f32", "Rounds nothing"),
        ("bf16", "Sums stay f32"),
        ("f16", "Sums stay f32; not on the CPU"),
        ("int8", "Inputs of a .gguf file's blocks become signed bytes, as in llama.cpp; on the CPU, to compare with"),
    ];
    let values = words.map(|(word, help)| PossibleValue::new(word).help(help));
    PossibleValuesParser::new(values).map(|word| match word.as_str() {
        "f32" => Some(Computing::In(HostDtype::F32)),
        "bf16" => Some(Computing::In(HostDtype::BF16)),
        "f16" => Some(Computing::In(HostDtype::F16)),
        "int8" => Some(Computing::Int8),
        _ => None,
    })
}

/// The command that shows whether what an adapter was written to, `option`, says what base and adapter say.
pub fn verify_command(model: &str, adapter: &Path, option: &str, output: &Path) -> String {
    let [model, adapter, output] = [Path::new(model), adapter, output].map(|path| shell_word(&path.to_string_lossy()));
    format!("Check it: gemma-tune verify --model {model} --adapter {adapter} {option} {output}")
}

impl ModelArgs {
    /// The files that are read: the model's, where it is a file or folder here, and the adapter's.
    pub fn files(&self) -> Vec<&Path> {
        std::iter::once(Path::new(&self.model)).chain(self.adapter.as_deref()).collect()
    }

    /// What helps where the device fails at what is done with the model.
    pub fn relief(&self, doing: &'static str) -> Relief {
        let relief = Relief::on(doing, &self.device);
        if self.dtype == Some(HostDtype::F32) { relief.with("`--dtype bf16`") } else { relief }
    }

    /// Opens and loads the model.
    pub fn open(&self, screen: &ProgressBar) -> Result<PeftModel> {
        PeftModel::open(&self.model, self.adapter.as_deref(), self.holding(), &self.device, screen)
    }

    /// Opens the model, and does not load it yet; of an adapter it knows nothing.
    #[cfg(feature = "serve")]
    pub fn read(&self, screen: &ProgressBar) -> Result<crate::jobs::base::peft_model::Unloaded> {
        PeftModel::read(&self.model, self.holding(), &self.device, screen)
    }

    /// The same of an adapter that may be a reward model.
    pub fn open_judge(&self, screen: &ProgressBar) -> Result<PeftModel> {
        PeftModel::open_judge(&self.model, self.adapter.as_deref(), self.holding(), &self.device, screen)
    }

    fn holding(&self) -> Holding {
        match self.compute_dtype {
            None => Holding::dense(self.dtype),
            Some(Computing::In(dtype)) => Holding { compute_dtype: Some(dtype), ..Holding::dense(self.dtype) },
            Some(Computing::Int8) => Holding { int8_inputs: true, ..Holding::dense(self.dtype) },
        }
    }
}
