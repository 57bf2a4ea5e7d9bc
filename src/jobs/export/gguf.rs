//! A model as a GGUF file.

use super::calibration::Texts;
use super::described;
use super::measured::{self, Budget, Room};
use crate::adapter::peft::{self, AdapterTensors, PeftAdapter};
use crate::atomic::{Claim, check_target};
use crate::device::AUTO;
use crate::error::{Error, Kind, Place, Result};
use crate::export::gguf::importance::Importance;
use crate::export::gguf::mixture::{FileType, Traits};
use crate::export::gguf::{Exported, GgufExport, Types};
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::model::ModelConfig;
use crate::progress::{Progress, Silent, counted};
use crate::weights::Holding;
use crate::weights::gguf::{Demands, Value};
use crate::weights::names::TensorId;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the numbers of a file are rounded.
#[derive(Debug, Clone, Copy)]
pub struct Rounding<'a> {
    /// The kind of file.
    pub quant: &'a str,
    /// Texts that show what counts, or llama.cpp's importance matrix.
    pub imatrix: Option<&'a Path>,
    /// Where what was measured is written, as llama.cpp's importance matrix.
    pub save_imatrix: Option<&'a Path>,
    /// The size that decides about types, in the place of the mixture of that kind.
    pub budget: Option<Budget>,
    /// Where texts are read, as the user named it.
    pub device: &'a str,
}

impl<'a> Rounding<'a> {
    /// By the kind of file alone.
    pub fn of(quant: &'a str) -> Self {
        Rounding { quant, imatrix: None, save_imatrix: None, budget: None, device: AUTO }
    }
}

/// Writes a model, with an adapter folded in if one is named, to `output` as a GGUF file.
///
/// # Errors
/// When either cannot be read, they do not fit, the model cannot be said in a GGUF file, or the file cannot be written.
pub fn export(
    model: &str,
    adapter: Option<&Path>,
    rounding: &Rounding,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Exported> {
    let file_type = described::file_type(rounding.quant)?;
    let inputs: Vec<&Path> = [Path::new(model)].into_iter().chain(adapter).chain(rounding.imatrix).collect();
    let _claim = check_target("--output", output, &inputs)?;
    let _claim_of_imatrix = rounding.claim_imatrix(&inputs)?;
    let opened = Opened::language_model(model, adapter, progress)?;
    let measured = Measured::of(&opened, rounding, file_type, progress)?;
    opened.write(file_type, &measured, output, output, progress)
}

/// What was measured of a model before its numbers are rounded.
#[derive(Debug, Default)]
pub struct Measured {
    importance: Option<Importance>,
    types: Option<Types>,
    /// The file that it was measured on or read from.
    file: String,
}

impl Measured {
    /// Measures what `rounding` asks for.
    ///
    /// # Errors
    /// Texts or a matrix that cannot be read, a size that is too small.
    pub fn of(opened: &Opened, rounding: &Rounding, file_type: FileType, progress: &dyn Progress) -> Result<Self> {
        let Some(path) = rounding.imatrix else { return Ok(Measured::default()) };
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if rounding.is_matrix() {
            let measured = Measured { importance: Some(Importance::read(path)?), types: None, file };
            measured.check(opened, file_type, path, progress)?;
            return Ok(measured);
        }
        let texts = Texts::read(path, &opened.base.encoder, progress)?;
        // What the file says of the texts takes as much room before they are read by the model.
        let unread = Measured { importance: Some(texts.unread()), types: None, file: file.clone() };
        let room = |budget| opened.planned(file_type, &unread, |export| Room::of(export, budget));
        let room = rounding.budget.map(room).transpose()?;
        let compute = PeftModel::device(rounding.device, progress)?;
        let adapter = opened.folder.as_deref().zip(opened.adapter.as_ref().map(|adapter| &adapter.tensors));
        let model = PeftModel::load(opened.base.clone(), adapter, Holding::dense(None), compute, progress)?;
        let importance = texts.importance(&model, progress);
        if let Some(save) = rounding.save_imatrix {
            importance.write(save)?;
        }
        let mut measured = Measured { importance: Some(importance), types: None, file };
        if let (Some(room), Some(importance)) = (&room, &measured.importance) {
            let types = opened.planned(file_type, &measured, |export| {
                measured::types(export, &model, &texts, importance, room, progress)
            })?;
            measured.types = Some(types);
        }
        Ok(measured)
    }

    /// Makes sure that a matrix that was read is of the model, and says what it does not know.
    fn check(&self, opened: &Opened, file_type: FileType, path: &Path, progress: &dyn Progress) -> Result<()> {
        /// Matrices that are named.
        const NAMED: usize = 3;
        let Some(importance) = &self.importance else { return Ok(()) };
        let matrices = opened.planned(file_type, self, |export| export.matrices())?.of;
        let unknown = importance.check(&matrices).map_err(|error| error.at_path(path))?;
        if matrices.is_empty() {
            progress.note("No matrix of the file is rounded to blocks, so that `--imatrix` decides nothing.");
        } else if !unknown.is_empty() {
            let mut names: Vec<String> = unknown.iter().take(NAMED).map(|id| format!("`{}`", id.gguf())).collect();
            if unknown.len() > NAMED {
                names.push("..".into());
            }
            let (of, names) = (matrices.len(), names.join(", "));
            let what = format!("`{}` says nothing of {} of {of} matrices ({names})", self.file, unknown.len());
            progress.note(&format!("{what}: all their inputs count alike."));
        }
        Ok(())
    }
}

impl Rounding<'_> {
    /// Checks and claims the file that what is measured is written to, and checks that what it is measured on is there and can
    /// be measured on.
    ///
    /// # Errors
    /// As [`check_target`], a missing file, and a matrix where text is needed.
    pub fn claim_imatrix(&self, inputs: &[&Path]) -> Result<Option<Claim>> {
        if let Some(path) = self.imatrix
            && let Err(error) = std::fs::metadata(path)
        {
            let error = crate::input::wrong_name(error, path, Kind::Data);
            return Err(match error.hint_text() {
                Some(_) => error,
                None => error.hint("`--imatrix` names texts, rows as `score` takes them, or llama.cpp's imatrix"),
            });
        }
        if let Some(unused) = self.needs_text().filter(|_| self.is_matrix()) {
            return Err(Error::new(Kind::Recipe, format!("`{unused}` measures on text, and this is a matrix"))
                .at(Place::Named("--imatrix".into()))
                .hint("name the texts it was made of, or others: rows as `score` takes them, or a .txt file"));
        }
        self.save_imatrix.map(|save| check_target("--save-imatrix", save, inputs)).transpose()
    }

    /// Whether what it names is a matrix that was measured before.
    fn is_matrix(&self) -> bool {
        let ending = self.imatrix.and_then(Path::extension);
        ending.is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
    }

    /// The key that needs text to measure on.
    fn needs_text(&self) -> Option<&'static str> {
        match (self.budget, self.save_imatrix) {
            (Some(Budget::File(_)), _) => Some("--target-size"),
            (Some(Budget::Bits(_)), _) => Some("--bits"),
            (None, Some(_)) => Some("--save-imatrix"),
            (None, None) => None,
        }
    }
}

/// A model that is to be exported, and the adapter that is to be folded in.
pub struct Opened {
    /// The model.
    pub base: Arc<Base>,
    /// The adapter's folder.
    pub folder: Option<PathBuf>,
    adapter: Option<PeftAdapter>,
}

impl Opened {
    /// Opens both for a file of the language model.
    ///
    /// # Errors
    /// When either cannot be read, they do not fit, or the model cannot be said in a GGUF file.
    pub fn language_model(model: &str, adapter: Option<&Path>, progress: &dyn Progress) -> Result<Self> {
        Opened::open(model, adapter, progress, &|config| config.to_gguf().map(|_| ()))
    }

    /// Opens both; `accept` has a say before gigabytes are downloaded.
    ///
    /// # Errors
    /// When either cannot be read, or they do not fit, and those of `accept`.
    pub fn open(
        model: &str,
        adapter: Option<&Path>,
        progress: &dyn Progress,
        accept: &dyn Fn(&ModelConfig) -> Result<()>,
    ) -> Result<Self> {
        let folder = adapter.map(|adapter| adapter_folder::find(adapter, progress)).transpose()?;
        let named = Place::Named(format!("--model {model}"));
        let name_bases = |error| provenance::name_bases(error, model);
        let base = Base::open(model, named, progress, &|config| {
            accept(config)?;
            folder.as_deref().map_or(Ok(()), |folder| peft::check(folder, &config.places()).map_err(name_bases))
        })?;
        let adapter = folder.as_deref().map(|folder| {
            let adapter = PeftAdapter::read(folder, &base.config.places()).map_err(name_bases)?;
            provenance::warn_of_another_base(folder, &base, progress);
            provenance::warn_of_no_effect(folder, adapter.tensors.is_zero(), progress);
            Result::Ok(adapter)
        });
        let adapter = adapter.transpose()?;
        // A file or folder on this machine was not asked before.
        accept(&base.config)?;
        Ok(Opened { base: Arc::new(base), folder, adapter })
    }

    /// The part of the adapter on the weights that `keep` says.
    pub fn adapter(&self, keep: impl Fn(&TensorId) -> bool) -> Option<AdapterTensors> {
        self.adapter.as_ref().map(|adapter| adapter.tensors.only(keep))
    }

    /// Writes the file to `path`; it is called as `output` is.
    ///
    /// # Errors
    /// As [`export`].
    pub fn write(
        &self,
        file_type: FileType,
        measured: &Measured,
        path: &Path,
        output: &Path,
        progress: &dyn Progress,
    ) -> Result<Exported> {
        let has_file_of_towers = self.base.config.to_mmproj().is_ok();
        if self.base.config.multimodal() {
            let said = "The GGUF file holds the language model; what looks at pictures or listens is not in it";
            let more = if has_file_of_towers { ": `export gguf-mmproj` writes that" } else { "" };
            progress.note(&format!("{said}{more}."));
        }
        let adapter = self.adapter_of_text();
        let all = self.adapter(|_| true);
        if adapter != all {
            progress.note(
                "Warning: a part of the adapter is on what looks at pictures, and not in this file: \
                 `export gguf-mmproj --adapter` writes that part.",
            );
        }
        let demands = self.base.config.gguf_demands();
        demands.warnings.iter().for_each(|warning| progress.note(warning));
        let metadata = self.metadata(output, measured, progress)?;
        let exported = self.export(file_type, measured, adapter.as_ref(), &demands, &metadata).write(path, progress)?;
        for ((wanted, of), count) in &exported.instead {
            let tensors = counted(*count, "tensor");
            progress.note(&format!("{tensors} of {of} instead of {wanted}, whose blocks their rows do not fill"));
        }
        if exported.constants > 0 {
            let tensors = counted(exported.constants, "tensor");
            progress.note(&format!(
                "{tensors} that the model computes without and llama.cpp asks for: zeros for the keys and values of layers that \
                 read others', ones for scales"
            ));
        }
        Ok(exported)
    }

    /// The part of the adapter that a file of the language model holds; what no other file holds either is refused there.
    fn adapter_of_text(&self) -> Option<AdapterTensors> {
        let has_file_of_towers = self.base.config.to_mmproj().is_ok();
        self.adapter(|id| id.is_of_text() || !has_file_of_towers)
    }

    /// What `ask` makes of the file as it is planned, before it has a name.
    fn planned<T>(
        &self,
        file_type: FileType,
        measured: &Measured,
        ask: impl FnOnce(&GgufExport) -> Result<T>,
    ) -> Result<T> {
        let metadata = self.metadata(Path::new("model.gguf"), measured, &Silent)?;
        let (demands, adapter) = (self.base.config.gguf_demands(), self.adapter_of_text());
        ask(&self.export(file_type, measured, adapter.as_ref(), &demands, &metadata))
    }

    fn metadata(&self, output: &Path, measured: &Measured, progress: &dyn Progress) -> Result<Vec<(String, Value)>> {
        let mut metadata = described::metadata(&self.base, self.folder.as_deref(), output, progress)?;
        metadata.extend(measured.importance.iter().flat_map(|importance| importance.keys(&measured.file)));
        Ok(metadata)
    }

    fn export<'a>(
        &'a self,
        file_type: FileType,
        measured: &'a Measured,
        adapter: Option<&'a AdapterTensors>,
        demands: &'a Demands,
        metadata: &'a [(String, Value)],
    ) -> GgufExport<'a> {
        let config = &self.base.config;
        let traits = Traits {
            layers: config.num_hidden_layers(),
            heads_per_group: config.num_attention_heads() / config.num_key_value_heads().max(1),
            tied: config.tie_word_embeddings(),
            has_importance: measured.importance.is_some(),
        };
        GgufExport {
            source: &self.base.source,
            adapter,
            traits,
            file_type,
            types: measured.types.as_ref(),
            importance: measured.importance.as_ref(),
            demands,
            metadata,
        }
    }
}
