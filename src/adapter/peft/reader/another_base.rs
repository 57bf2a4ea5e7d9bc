//! An adapter whose tensors are for a model of another shape.

use super::Contents;
use crate::adapter::peft::AdapterConfig;
use crate::error::{Error, Kind};
use crate::model::Site;
use crate::weights::names::{LORA_A, LORA_B};
use crate::weights::safetensors_file::SafetensorsFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An adapter was made for a model of another shape: most of its modules are, or it goes on beyond the last layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("made for another base")]
pub struct AnotherBase {
    /// The adapter's folder.
    pub folder: PathBuf,
    /// What shows it.
    pub shown: String,
    /// The base that `adapter_config.json` names.
    pub base: Option<String>,
}

impl AnotherBase {
    /// What is behind `error`, if it is this.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Looks whether an adapter of these `contents` is for another model than one with these projections.
    pub(super) fn find(
        dir: &Path,
        contents: &Contents,
        file: &SafetensorsFile,
        model: &[Site],
        config: &AdapterConfig,
    ) -> Option<Self> {
        let shown = other_widths(contents, file, model).or_else(|| more_layers(contents, model))?;
        Some(AnotherBase { folder: dir.into(), shown, base: config.base_model_name_or_path.clone() })
    }

    /// The problem, for who does not know what the model is called.
    pub(super) fn error(self) -> Error {
        let hint = match &self.base {
            Some(base) => format!("it was made for `{base}`"),
            None => "name the base that it was made for".into(),
        };
        let what = format!("the adapter was made for another base model: {}", self.shown);
        Error::new(Kind::Adapter, what).at_path(&self.folder).hint(hint).caused_by(self)
    }
}

/// What most modules take and give, where that is not what those of the model do.
fn other_widths(contents: &Contents, file: &SafetensorsFile, model: &[Site]) -> Option<String> {
    let shapes: BTreeMap<&str, &[usize]> =
        file.header().tensors.iter().map(|entry| (entry.name.as_str(), entry.shape.as_slice())).collect();
    let shape = |site: &Site, part| {
        let name = contents.keys.get(&(site.weight, part))?;
        shapes.get(name.as_str()).filter(|shape| shape.len() == 2).copied()
    };
    let (mut fitting, mut others) = (0, Vec::new());
    for site in model {
        let (a, b) = (shape(site, LORA_A), shape(site, LORA_B));
        let takes = a.map(|shape| shape[1]).filter(|takes| *takes != site.in_features);
        let gives = b.map(|shape| shape[0]).filter(|gives| *gives != site.out_features);
        let what = match (takes, gives) {
            (Some(takes), _) => format!("takes {takes} numbers, that of the model {}", site.in_features),
            (None, Some(gives)) => format!("gives {gives} numbers, that of the model {}", site.out_features),
            (None, None) => {
                fitting += usize::from(a.is_some() || b.is_some());
                continue;
            }
        };
        others.push(format!("its `{}` {what}", site.module_path(false)));
    }
    (others.len() > fitting).then(|| others.remove(0))
}

/// That the adapter goes on beyond the last layer, where it leaves out none before.
fn more_layers(contents: &Contents, model: &[Site]) -> Option<String> {
    let layer = |text: &str| text.split(".layers.").nth(1)?.split('.').next()?.parse::<usize>().ok();
    let layers =
        |names: &mut dyn Iterator<Item = String>| names.filter_map(|name| layer(&name)).max().map(|last| last + 1);
    let has = layers(&mut contents.beyond.iter().cloned())?;
    let of_text = model.iter().filter(|site| site.weight.is_of_text());
    let of_model = layers(&mut of_text.map(|site| site.module_path(false)))?;
    let inside = contents.keys.iter().filter(|((id, _), _)| id.is_of_text());
    let inside: BTreeSet<usize> = inside.filter_map(|(_, name)| layer(name)).collect();
    let beyond: BTreeSet<usize> = contents.beyond.iter().filter_map(|name| layer(name)).collect();
    let is_whole = inside.len() == of_model && beyond.len() == has - of_model;
    is_whole.then(|| format!("it has {has} layers, the model {of_model}"))
}
