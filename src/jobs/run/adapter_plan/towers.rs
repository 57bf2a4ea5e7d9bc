//! The projections of towers, which get an adapter only where they are named.

use crate::error::{Error, Kind, Place, Result, did_you_mean};
use crate::model::{ModelConfig, Site};
use crate::recipe;
use crate::weights::names::TensorId;
use std::collections::BTreeSet;

/// A tower, or what makes rows of what towers give, in the words of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Vision,
    Audio,
    Projector,
}

impl Part {
    /// The part that a weight beside the language model belongs to.
    fn of(site: &Site) -> Option<Self> {
        match site.weight {
            TensorId::Vision(_) => Some(Part::Vision),
            TensorId::Audio(_) => Some(Part::Audio),
            TensorId::Embedder(..) => Some(Part::Projector),
            _ => None,
        }
    }
}

/// The sites beside the language model that a recipe names, of all `sites` there, ascending.
///
/// # Errors
/// Every name that no projection has; a tower or projector that the model does not have.
pub(super) fn chosen(keys: &recipe::Adapter, model: &ModelConfig, sites: &[Site]) -> Result<Vec<Site>> {
    let mut problems = Vec::new();
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    let named = [
        (Part::Vision, "vision_target_modules", &keys.vision_target_modules),
        (Part::Audio, "audio_target_modules", &keys.audio_target_modules),
    ];
    for (part, key, names) in named {
        let of_part = || sites.iter().filter(move |site| Part::of(site) == Some(part));
        let paths: Vec<String> = of_part().map(|site| site.module_path(model.multimodal())).collect();
        for (i, name) in names.iter().enumerate() {
            let hits =
                |path: &str| path == name || path.strip_suffix(name.as_str()).is_some_and(|stem| stem.ends_with('.'));
            chosen.extend(of_part().zip(&paths).filter(|(_, path)| hits(path)).map(|(site, _)| site.index));
            if !paths.iter().any(|path| hits(path)) {
                problems.push(unknown(name, key, &paths).at(Place::Key(format!("adapter.{key}[{i}]"))));
            }
        }
    }
    if keys.train_projector {
        let is_projector = |site: &&Site| Part::of(site) == Some(Part::Projector);
        chosen.extend(sites.iter().filter(is_projector).map(|site| site.index));
        if !sites.iter().any(|site| is_projector(&site)) {
            let what =
                format!("`train_projector` is for Gemma 3n's; {} has none that takes an adapter", model.architecture());
            let hint = "Gemma 3's projector is no linear layer, and is not trained here yet; leave the key out";
            problems.push(Error::new(Kind::Recipe, what).at(Place::Key("adapter.train_projector".into())).hint(hint));
        }
    }
    match Error::many(problems) {
        Some(error) => Err(error),
        None => Ok(sites.iter().filter(|site| chosen.contains(&site.index)).copied().collect()),
    }
}

fn unknown(name: &str, key: &str, paths: &[String]) -> Error {
    let kinds: BTreeSet<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
    let error = Error::new(Kind::Adapter, format!("`{key}` entry `{name}` matches no module of the tower"));
    if kinds.is_empty() {
        return error.hint("the model has no such tower, or none whose layers take an adapter; leave the key out");
    }
    match did_you_mean(name, kinds.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("its modules are {}", kinds.into_iter().collect::<Vec<_>>().join(", "))),
    }
}
