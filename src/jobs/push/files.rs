//! The files of a folder as they are published.

use super::LeftOut;
use super::base_model::BaseModel;
use super::contents::{Contents, Sort};
use super::private::{self, Private};
use crate::adapter::peft::{AdapterConfig, CONFIG_FILE};
use crate::error::{Error, Kind, Result};
use crate::export::card::{NOTICE, Subject};
use crate::hub::HubSettings;
use crate::hub::upload::Outgoing;
use crate::jobs::base::{adapter_folder, provenance};
use crate::model::ModelConfig;
use crate::paths;
use crate::progress::Progress;
use std::path::{Path, PathBuf};

/// The name of a model card.
const README: &str = "README.md";

/// A folder that may be published.
pub struct Prepared {
    /// Where it is.
    pub folder: PathBuf,
    /// What it is.
    pub sort: Sort,
    /// The base model on the Hub.
    pub base: Option<BaseModel>,
    /// What stays here.
    pub left_out: Vec<LeftOut>,
    files: Vec<(String, PathBuf)>,
    private: Private,
}

impl Prepared {
    /// Looks at a folder, or at the adapter of a run's folder, and at what it is made from.
    ///
    /// # Errors
    /// A folder that nobody else could use: without weights, or an adapter whose base is a path of this machine.
    pub fn of(named: &Path, base_model: Option<&str>, settings: &HubSettings, progress: &dyn Progress) -> Result<Self> {
        let given = base_model.map(BaseModel::given).transpose()?;
        let names = paths::entries(named);
        let is_of_run = Sort::of(names.iter().map(String::as_str)).is_none();
        let folder = if is_of_run { adapter_folder::locate(named)? } else { named.to_owned() };
        let Contents { sort, files, left_out } = Contents::of(&folder)?;
        let base = match sort {
            Sort::Adapter => Some(base_of_adapter(&folder, given, progress)?),
            Sort::Model | Sort::Gguf => given.or_else(|| BaseModel::recorded(&folder)),
        };
        let private = Private::of(settings, &folder);
        Ok(Prepared { folder, sort, base, left_out, files, private })
    }

    /// The files for the repository `id`, with nothing of this machine in them.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something private.
    pub fn files(&self, id: &str) -> Result<Vec<Outgoing>> {
        let readme = self.readme(id)?;
        let of_folder = self.files.iter().filter(|(name, _)| name != README || readme.is_none());
        let mut files =
            of_folder.map(|(name, path)| self.file(name, path, readme.as_deref())).collect::<Result<Vec<_>>>()?;
        if let Some(readme) = &readme {
            self.private.check(README, readme, &self.folder.join(README))?;
            files.push(Outgoing::bytes(README, readme.as_str()));
        }
        // Who passes Gemma on has to pass this on, too.
        if !files.iter().any(|file| file.name.to_ascii_uppercase().starts_with("NOTICE")) {
            files.push(Outgoing::bytes("NOTICE", format!("{NOTICE}\n")));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// The card as it is published, where it is this program's to write.
    fn readme(&self, id: &str) -> Result<Option<String>> {
        let path = self.folder.join(README);
        if self.files.iter().any(|(name, _)| name == README) {
            let own =
                crate::input::read_to_string(&path).map_err(|e| Error::input(Kind::Weights, "reading", &path, e))?;
            if !provenance::wrote_card(&self.folder, &own) {
                return Ok(None);
            }
        }
        let mut card = provenance::card_of(&self.folder).unwrap_or_default();
        if card.name.is_empty() {
            card.name = id.rsplit('/').next().unwrap_or(id).to_owned();
        }
        (card.repository, card.folder) = (Some(id.to_owned()), String::new());
        if let Some(base) = &self.base {
            (card.base_model, card.base_revision) = (base.id.clone(), base.revision.clone());
            card.base_is_hub_id = true;
        }
        card.plot = card.plot.filter(|plot| self.files.iter().any(|(name, _)| name == plot.file()));
        Ok(Some(match self.sort {
            Sort::Adapter => card.render(&AdapterConfig::read(&self.folder)?.0),
            Sort::Model if judges(&self.folder) => card.render_of(Subject::Judge),
            Sort::Model => card.render_of(Subject::Model),
            Sort::Gguf => {
                let names = self.files.iter().map(|(name, _)| name.clone());
                let files: Vec<String> = names.filter(|name| name.to_ascii_lowercase().ends_with(".gguf")).collect();
                card.render_of(Subject::Gguf(&files))
            }
        }))
    }

    fn file(&self, name: &str, path: &Path, readme: Option<&str>) -> Result<Outgoing> {
        /// Longer texts are vocabularies.
        const LOOKED_AT_BYTES: u64 = 4 << 20;
        let file = Outgoing::file(name, path)?;
        let last = name.rsplit('/').next().unwrap_or(name);
        let is_looked_at = [".json", ".md", ".jinja", ".svg", ".txt"].iter().any(|end| last.ends_with(end));
        if last == "tokenizer.json"
            || last.ends_with(".index.json")
            || !is_looked_at
            || file.size_bytes > LOOKED_AT_BYTES
        {
            return Ok(file);
        }
        let text = crate::input::read_to_string(path).map_err(|e| Error::input(Kind::Weights, "reading", path, e))?;
        let changed = match (name, &self.base) {
            (CONFIG_FILE, Some(base)) => Some(adapter_config(&text, path, base)?),
            (provenance::FILE, base) => {
                let base = base.as_ref().map(|base| (base.id.as_str(), base.revision.as_deref()));
                provenance::published(&text, base, readme)
            }
            (name, base) if name.ends_with(".json") => private::published(&text, base.as_ref()),
            _ => None,
        };
        self.private.check(name, changed.as_deref().unwrap_or(&text), path)?;
        Ok(match changed.filter(|changed| *changed != text) {
            Some(changed) => Outgoing::bytes(name, changed),
            None => file,
        })
    }
}

/// Whether a folder holds a whole reward model.
fn judges(folder: &Path) -> bool {
    ModelConfig::from_folder_of_any(folder).is_ok_and(|(config, _)| config.judges())
}

/// The base of an adapter, which others have to find.
fn base_of_adapter(folder: &Path, given: Option<BaseModel>, progress: &dyn Progress) -> Result<BaseModel> {
    let (config, _) = AdapterConfig::read(folder)?;
    let own = BaseModel::of_adapter(folder, &config);
    match (given, own) {
        (Some(given), Some(own)) if given.id != own.id => {
            progress.note(&format!(
                "Warning: the adapter was made for `{}`; `{}` is published as its base",
                own.id, given.id
            ));
            Ok(given)
        }
        (Some(given), own) => {
            let revision = given.revision.or_else(|| own.and_then(|own| own.revision));
            Ok(BaseModel { id: given.id, revision })
        }
        (None, Some(own)) => Ok(own),
        (None, None) => {
            let what = match config.base_model_name_or_path.filter(|name| !name.is_empty()) {
                Some(name) => format!("the base of this adapter is `{name}`, a path of this machine"),
                None => "this adapter names no base model".to_owned(),
            };
            Err(Error::new(Kind::Adapter, what).at_path(folder.join(CONFIG_FILE)).hint(
                "others need a base that they can find: `--base-model owner/name` says what it is called on the Hub, such \
                 as `google/gemma-3-1b-it`",
            ))
        }
    }
}

/// The text of `adapter_config.json` with its base as the Hub knows it; all else stays as it is.
fn adapter_config(text: &str, path: &Path, base: &BaseModel) -> Result<String> {
    let wrong = |e| Error::new(Kind::Adapter, format!("not valid JSON: {e}")).at_path(path);
    let mut config: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
    let is_named = config.get("base_model_name_or_path").and_then(|name| name.as_str()) == Some(&base.id);
    let is_at = config.get("revision").and_then(|revision| revision.as_str()) == base.revision.as_deref();
    if is_named && is_at {
        return Ok(text.to_owned());
    }
    config["base_model_name_or_path"] = base.id.as_str().into();
    config["revision"] = base.revision.as_deref().map_or(serde_json::Value::Null, Into::into);
    Ok(format!("{config:#}\n"))
}
