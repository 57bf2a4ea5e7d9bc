//! What the files of an export say of their model.

use crate::error::{Error, Kind, Place, Result};
use crate::export::gguf::metadata::{self, General, Origin};
use crate::export::gguf::mixture::FileType;
use crate::hub::ModelFiles;
use crate::jobs::base::{Base, headers};
use crate::progress::Progress;
use crate::text::render::END_OF_TURN;
use crate::text::{ChatTemplate, spm};
use crate::weights::gguf::{Value, Vocabulary};
use std::path::Path;

/// The kinds of GGUF files that can be written, by their names.
pub fn quants() -> impl Iterator<Item = &'static str> {
    FileType::all().map(FileType::name)
}

/// The kind of this name.
///
/// # Errors
/// When there is none.
pub fn file_type(name: &str) -> Result<FileType> {
    FileType::parse(name).ok_or_else(|| {
        Error::new(Kind::Recipe, format!("no GGUF file is of the kind `{name}`"))
            .at(Place::Named("--quant".into()))
            .hint(format!("one of {}", quants().collect::<Vec<_>>().join(", ")))
    })
}

/// The metadata of a GGUF file of a model, with an adapter from `adapter` folded in if there is one.
///
/// # Errors
/// When the model's tokenizer cannot be said in a GGUF file, or one of its small files is wrong.
pub fn metadata(
    base: &Base,
    adapter: Option<&Path>,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Vec<(String, Value)>> {
    let architecture = base.config.to_gguf()?;
    let general = general(base, adapter, output).keys();
    let template = template(base, adapter)?;
    let tokenizer = match vocabulary(base)? {
        Some(vocabulary) => {
            let turn = vocabulary.tokens.iter().position(|token| token == END_OF_TURN);
            let mut keys = metadata::tokenizer(&vocabulary, turn.and_then(|id| u32::try_from(id).ok()), None);
            keys.extend(template.iter().flat_map(templates));
            keys
        }
        None => {
            progress.note("The model has no tokenizer, so neither has the GGUF file: readers take token ids only.");
            metadata::no_tokenizer()
        }
    };
    Ok([architecture, general, tokenizer].concat())
}

/// The vocabulary in the form of a GGUF file; `None` for a model without a tokenizer.
fn vocabulary(base: &Base) -> Result<Option<Vocabulary>> {
    match &base.files {
        ModelFiles::Folder { dir, .. } if dir.join("tokenizer.json").exists() => {
            spm::vocabulary(dir, base.config.vocab_size()).map(Some)
        }
        ModelFiles::Folder { .. } => Ok(None),
        ModelFiles::Gguf { .. } => headers::gguf(&base.source)?.vocabulary(),
    }
}

/// The template that the adapter was trained with, or the model's own.
pub fn template(base: &Base, adapter: Option<&Path>) -> Result<Option<ChatTemplate>> {
    let trained = adapter.map(ChatTemplate::from_model_folder).transpose()?;
    let candidates = [trained, Some(base.encoder.template().clone())];
    Ok(candidates.into_iter().flatten().find(|template| !template.is_built_in()))
}

/// The keys of a chat template.
fn templates(template: &ChatTemplate) -> Vec<(String, Value)> {
    let key = "tokenizer.chat_template";
    let mut keys = vec![(key.to_owned(), Value::String(template.source().to_owned()))];
    let tools = template.tool_use_source().map(|source| Value::String(source.to_owned()));
    keys.extend(tools.map(|source| (format!("{key}.tool_use"), source)));
    keys
}

/// Name and origin. A path of this machine is nobody's business but for its last part.
pub fn general(base: &Base, adapter: Option<&Path>, output: &Path) -> General {
    let last = |name: &str| {
        let stem = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        stem.strip_suffix(".gguf").map(str::to_owned).unwrap_or(stem)
    };
    let (its_name, origin, inherited) = match &base.files {
        ModelFiles::Folder { name, revision: Some(_), .. } => (last(name), Origin::Hub(name.clone()), Vec::new()),
        ModelFiles::Folder { name, revision: None, .. } => (last(name), Origin::Named(last(name)), Vec::new()),
        ModelFiles::Gguf { path } => {
            let metadata = base.source.gguf().map(|gguf| gguf.metadata());
            let named = metadata.and_then(|metadata| metadata.str("general.name")).map(str::to_owned);
            let named = named.unwrap_or_else(|| last(&path.to_string_lossy()));
            (named.clone(), Origin::Named(named), metadata.map(General::inherit).unwrap_or_default())
        }
    };
    match adapter {
        Some(_) => General { name: last(&output.to_string_lossy()), base: Some(origin), inherited },
        None => General { name: its_name, base: None, inherited },
    }
}
