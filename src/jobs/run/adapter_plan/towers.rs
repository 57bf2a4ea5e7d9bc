//! The projections of towers, which get an adapter only where they are named.

use crate::adapter::target::ALL_LINEAR;
use crate::error::{Error, Kind, Place, Result, did_you_mean};
use crate::model::{ModelConfig, Site};
use crate::recipe;
use crate::weights::names::ModelPart;
use std::collections::BTreeSet;

/// The sites beside the language model that a recipe names, of all `sites` there, ascending.
///
/// # Errors
/// Every name that no projection has; a tower or projector that the model does not have.
pub(super) fn chosen(keys: &recipe::Adapter, model: &ModelConfig, sites: &[Site]) -> Result<Vec<Site>> {
    let mut problems = Vec::new();
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    let named = [
        (ModelPart::VisionTower, "vision_target_modules", &keys.vision_target_modules),
        (ModelPart::AudioTower, "audio_target_modules", &keys.audio_target_modules),
    ];
    for (part, key, names) in named {
        let of_part = || sites.iter().filter(move |site| site.weight.part() == part);
        let paths: Vec<String> = of_part().map(|site| site.module_path(model.multimodal())).collect();
        for (i, name) in names.iter().enumerate() {
            let hits = |path: &str| {
                let is_named = path.strip_suffix(name.as_str()).is_some_and(|stem| stem.ends_with('.'));
                name.eq_ignore_ascii_case(ALL_LINEAR) || path == name || is_named
            };
            chosen.extend(of_part().zip(&paths).filter(|(_, path)| hits(path)).map(|(site, _)| site.index));
            if !paths.iter().any(|path| hits(path)) {
                problems.push(unknown(name, key, &paths).at(Place::Key(format!("adapter.{key}[{i}]"))));
            }
        }
    }
    if keys.train_projector {
        let is_projector = |site: &&Site| site.weight.part() == ModelPart::Projector;
        chosen.extend(sites.iter().filter(is_projector).map(|site| site.index));
        if model.whole_tensors().is_empty() && !sites.iter().any(|site| is_projector(&site)) {
            let what = format!("`train_projector` finds no projector: this {} reads text alone", model.architecture());
            let hint = "leave the key out, or take a checkpoint that sees pictures";
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
