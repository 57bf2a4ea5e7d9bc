//! A base and its adapter, opened together as PEFT's `PeftModel` is.

use super::{Base, adapter_folder, provenance};
use crate::adapter::Adapter;
use crate::adapter::peft::{self, AdapterTensors};
use crate::device::{self, Compute};
use crate::error::{Error, Kind, Place, Result};
use crate::fence::fenced;
use crate::hub::Variant;
use crate::model::load::float_dtype;
use crate::model::{LanguageModel, ModelConfig, SCORE, Towers};
use crate::nn::{BaseOnly, SidePath};
use crate::progress::Progress;
use crate::weights::gguf::Gguf;
use crate::weights::{Compression, Holding, HostDtype};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A loaded model, ready to speak, and the adapter beside it.
pub struct PeftModel {
    /// Its small files.
    pub base: Arc<Base>,
    /// Its weights.
    pub model: Box<dyn LanguageModel>,
    /// The adapter, if one was named; of a whole reward model its head.
    pub adapter: Option<Adapter>,
    /// The adapter's folder.
    pub adapter_folder: Option<PathBuf>,
    /// Whether the adapter is on towers too: then these look and listen in the graph.
    pub on_towers: bool,
    /// What was asked of how weights are held, and multiplied.
    pub holding: Holding,
    /// Where it computes.
    pub compute: Compute,
    /// What sees and hears for it.
    pub towers: LoadedTowers,
}

/// Towers that are loaded when there is something to see or hear first, and stay.
#[derive(Debug, Default)]
pub struct LoadedTowers(Mutex<Option<Arc<dyn Towers>>>);

impl LoadedTowers {
    /// They, loaded by `load` where nobody did so before.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn get(&self, load: impl FnOnce() -> Result<Box<dyn Towers>>) -> Result<Arc<dyn Towers>> {
        // Nothing is half done where a thread that held them has ended.
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(towers) => Ok(towers.clone()),
            None => Ok(loaded.insert(load()?.into()).clone()),
        }
    }
}

impl PeftModel {
    /// Opens and loads a model and an adapter.
    ///
    /// # Errors
    /// When either cannot be read, or they do not fit.
    pub fn open(
        model: &str,
        adapter: Option<&Path>,
        holding: Holding,
        device: &str,
        progress: &dyn Progress,
    ) -> Result<Self> {
        Unloaded::open("--model", model, adapter, holding, device, false, progress)?.load(progress)
    }

    /// Opens, and does not load yet, a model.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(model: &str, holding: Holding, device: &str, progress: &dyn Progress) -> Result<Unloaded> {
        Unloaded::open("--model", model, None, holding, device, false, progress)
    }

    /// As [`PeftModel::open`], of an adapter, or a model without one, that may be a reward model, which judges texts and writes none.
    ///
    /// # Errors
    /// As [`PeftModel::open`].
    pub fn open_judge(
        model: &str,
        adapter: Option<&Path>,
        holding: Holding,
        device: &str,
        progress: &dyn Progress,
    ) -> Result<Self> {
        Unloaded::open("--model", model, adapter, holding, device, true, progress)?.load(progress)
    }

    /// Opens, and does not load yet, a model that the option `named` names and an adapter: its weights as they are stored, and
    /// products in f32 on every device, so that two models can be compared by what they say.
    ///
    /// # Errors
    /// As [`PeftModel::open`].
    pub fn open_exact(
        named: &str,
        model: &str,
        adapter: Option<&Path>,
        device: &str,
        progress: &dyn Progress,
    ) -> Result<Unloaded> {
        let holding = Holding { compute_dtype: Some(HostDtype::F32), ..Holding::default() };
        Unloaded::open(named, model, adapter, holding, device, false, progress)
    }

    /// Loads a base that is open, and the adapter of a folder that was read for it.
    ///
    /// # Errors
    /// When its weights cannot be loaded.
    pub fn load(
        base: Arc<Base>,
        adapter: Option<(&Path, &AdapterTensors)>,
        holding: Holding,
        compute: Compute,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let as_stored = holding.dtype.is_none() && base.source.gguf().is_some();
        let projections = if as_stored { Compression::AsStored } else { Compression::None };
        let held = Holding { projections, ..holding };
        let on_towers = adapter.is_some_and(|(_, tensors)| tensors.are_on_towers());
        let adapter_folder = adapter.map(|(folder, _)| folder.to_path_buf());
        let (model, adapter) = fenced("loading the model", || {
            let model = base.load_for_media(on_towers, &held, &compute.device, progress)?;
            let adapter = match adapter {
                Some((_, tensors)) => Some(peft::to_device(tensors, model.as_ref())),
                None => base.head(model.as_ref())?,
            };
            Result::Ok((model, adapter))
        })??;
        let towers = LoadedTowers::default();
        Ok(PeftModel { base, model, adapter, adapter_folder, on_towers, holding, compute, towers })
    }

    /// The device of this name; says which one it is, unless it is the CPU.
    ///
    /// # Errors
    /// When there is none.
    pub fn device(name: &str, progress: &dyn Progress) -> Result<Compute> {
        let compute = device::open(name)?;
        if !compute.is_cpu() {
            progress.note(&format!("Computing on {}", compute.describe()));
        }
        Ok(compute)
    }

    /// Warns of conversations with a model that was never taught to hold any, as far as its name and files tell. What an
    /// adapter was taught is not known.
    pub fn warn_of_no_chat(&self, progress: &dyn Progress) {
        let name = &self.base.name;
        let (variant, clue) = self.base.variant();
        let what = match variant {
            _ if self.adapter.is_some() => return,
            Variant::Pretrained => {
                format!("`{name}` is {variant} ({clue}): it goes on with texts, and was never taught to answer")
            }
            Variant::Unknown if self.base.encoder.template().is_built_in() => {
                format!(
                    "`{name}` has no chat template, and may never have been taught to answer: it is asked in Gemma 3's form"
                )
            }
            Variant::Unknown | Variant::Instruct => return,
        };
        progress
            .note(&format!("warning: {what}; an instruction-tuned model (`-it`) answers, or an adapter (`--adapter`)"));
    }

    /// Whether there is a head that judges texts.
    pub fn judges(&self) -> bool {
        self.side().whole(SCORE).is_some()
    }

    /// What runs beside the frozen weights.
    pub fn side(&self) -> &dyn SidePath {
        match &self.adapter {
            Some(adapter) => adapter,
            None => &BaseOnly,
        }
    }
}

/// A model and an adapter whose small files are read: what is wrong with them is known before weights are loaded, which takes
/// long.
pub struct Unloaded {
    /// The model's small files.
    pub base: Arc<Base>,
    /// The adapter's folder and its tensors, if one was named.
    pub adapter: Option<(PathBuf, AdapterTensors)>,
    holding: Holding,
    compute: Compute,
}

impl Unloaded {
    fn open(
        option: &str,
        model: &str,
        adapter: Option<&Path>,
        holding: Holding,
        device: &str,
        may_judge: bool,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let places = |config: &ModelConfig| if may_judge { config.places_of_judge() } else { config.places() };
        let open = if may_judge { Base::open_any } else { Base::open };
        let compute = PeftModel::device(device, progress)?;
        let rounds = compute.check(holding.compute_dtype.map(float_dtype));
        rounds.map_err(|e| e.at(named()).hint("without the option it is what the device multiplies best"))?;
        let folder = adapter.map(|named| adapter_folder::find(named, progress)).transpose()?;
        let name_bases = |error| provenance::name_bases(error, model);
        let base = open(model, Place::Named(format!("{option} {model}")), progress, &|config| {
            let Some(folder) = &folder else { return Ok(()) };
            alone(config)?;
            peft::check(folder, &places(config)).map_err(name_bases)
        })?;
        if holding.int8_inputs {
            check_int8(&base, &holding, &compute)?;
        }
        let adapter = folder.map(|folder| {
            alone(&base.config)?;
            let read = peft::PeftAdapter::read(&folder, &places(&base.config)).map_err(name_bases)?;
            provenance::warn_of_another_base(&folder, &base, progress);
            Result::Ok((folder, read.tensors))
        });
        Ok(Unloaded { adapter: adapter.transpose()?, base: Arc::new(base), holding, compute })
    }

    /// Loads them.
    ///
    /// # Errors
    /// When the weights cannot be loaded.
    pub fn load(self, progress: &dyn Progress) -> Result<PeftModel> {
        let Unloaded { base, adapter, holding, compute } = self;
        let adapter = adapter.as_ref().map(|(folder, tensors)| (folder.as_path(), tensors));
        let model = PeftModel::load(base, adapter, holding, compute, progress)?;
        if let (Some(folder), Some(adapter)) = (&model.adapter_folder, &model.adapter) {
            provenance::warn_of_no_effect(folder, adapter.is_zero(), progress);
        }
        Ok(model)
    }
}

/// Refuses adapters beside a whole reward model.
///
/// # Errors
/// When it is one.
pub fn alone(config: &ModelConfig) -> Result<()> {
    match config.judges() {
        false => Ok(()),
        true => Err(Error::new(Kind::Adapter, "the model is a reward model as a whole, and no adapter goes on it")
            .at(Place::Named("--adapter".into()))
            .hint("leave the adapter out, or name the base that it was trained on")),
    }
}

/// Where it is named what products are rounded to.
fn named() -> Place {
    Place::Named("--compute-dtype".into())
}

/// Refuses inputs in signed bytes where no product could use them.
fn check_int8(base: &Base, holding: &Holding, compute: &Compute) -> Result<()> {
    let wrong = |what: String| Error::new(Kind::Recipe, what).at(named());
    if !compute.is_cpu() {
        return Err(
            wrong(format!("int8 is for the CPU, and this is {}", compute.describe())).hint("use `--device cpu`")
        );
    }
    if let Some(dtype) = holding.dtype {
        return Err(wrong(format!(
            "int8 multiplies weights in blocks as they are stored, and `--dtype` holds them as {dtype}"
        ))
        .hint("leave `--dtype` out"));
    }
    if base.source.gguf().is_some_and(Gguf::has_blocks) {
        return Ok(());
    }
    Err(wrong(format!("int8 multiplies weights in blocks of small numbers, and `{}` has none", base.name))
        .hint("use a .gguf file; `gemma-tune export gguf --quant Q8_0` makes one of this model"))
}
