//! Going on with an adapter that exists: every one that can be used can be continued.

use super::{AdapterPlan, from_recipe, modules_of};
use crate::adapter::peft::{AdapterConfig, AdapterTensors, CONFIG_FILE, PeftAdapter};
use crate::adapter::target::{self, ExcludeModules, Selection, TargetModules};
use crate::adapter::{Init, TargetLayers};
use crate::error::{Error, Kind, Place, Result};
use crate::model::{ModelConfig, Site, WholeTensor};
use crate::recipe;
use crate::weights::names::{ModelPart, TensorId};
use std::collections::BTreeSet;
use std::path::Path;

/// Plans to go on with the adapter in `folder`, which has something on each of the sites `of_towers` and in the place of each
/// tensor of `whole` that the recipe names; of `heads` those that it has not are new.
///
/// # Errors
/// As [`PeftAdapter::read`]; keys of the recipe that contradict the adapter.
pub(super) fn plan(
    keys: &recipe::Adapter,
    folder: &Path,
    model: &ModelConfig,
    of_towers: &[Site],
    (whole, heads): (&[WholeTensor], &[WholeTensor]),
) -> Result<AdapterPlan> {
    let mut places = model.places();
    places.whole.extend(heads);
    let PeftAdapter { config, tensors, .. } = PeftAdapter::read(folder, &places)?;
    let is_beside_text = tensors.modules.keys().any(|weight| !weight.is_of_text());
    let all = if is_beside_text { model.all_sites() } else { model.sites() };
    let paths: Vec<String> = all.iter().map(|site| site.module_path(model.multimodal())).collect();
    let paths = &paths[..];
    let has = |site: &Site| tensors.modules.contains_key(&site.weight);
    let selection = Selection::of(paths, (0..all.len()).filter(|&index| has(&all[index])).collect());
    let parts = tensors.changed().map(TensorId::part).collect();
    let mut problems = contradictions(keys, &config, folder, paths, &selection, &parts)?;
    if let Some(site) = of_towers.iter().find(|site| !has(site)) {
        let path = site.module_path(model.multimodal());
        let what = format!("the adapter that `init_from` continues has nothing on `{path}`, which the recipe names");
        problems.push(Error::new(Kind::Recipe, what).hint("leave the keys of towers out to take over what it has"));
    }
    if let Some(tensor) = whole.iter().find(|tensor| !tensors.whole.contains_key(&tensor.id)) {
        let what = format!("the adapter that `init_from` continues was trained without `{}`", tensor.module);
        problems.push(
            Error::new(Kind::Recipe, what)
                .at(Place::Key("adapter.train_projector".into()))
                .hint("leave the key out to take over what the adapter has"),
        );
    }
    if let Some(error) = Error::many(problems) {
        return Err(error);
    }
    let stays = |tensor: &WholeTensor| tensors.whole.contains_key(&tensor.id) || heads.contains(tensor);
    let whole: Vec<WholeTensor> = places.whole.into_iter().filter(stays).collect();
    let sites: Vec<Site> = all.into_iter().filter(has).collect();
    let mut config = AdapterConfig { lora_dropout: keys.lora_dropout, ..config };
    config.modules_to_save = modules_of(&whole);
    // Its own words may be for Python only, for another spelling of the model, or reach into a vision tower.
    let own = chooses(paths, &selection, &config.target_modules, &config.exclude_modules);
    if model.multimodal() || !config.layers.is_all() || !own.unwrap_or(false) {
        config.layers = TargetLayers::default();
        config.target_modules = target::exact_targets(paths, &selection);
        config.exclude_modules = ExcludeModules::default();
    }
    check_patterns(&config, &sites, &tensors, model.multimodal()).map_err(|e| e.at_path(folder.join(CONFIG_FILE)))?;
    Ok(AdapterPlan { config, sites, whole, selection, init: Init::default(), continued: Some(tensors) })
}

/// A problem for each key of the recipe that says something else than the adapter.
fn contradictions(
    keys: &recipe::Adapter,
    config: &AdapterConfig,
    folder: &Path,
    paths: &[String],
    selection: &Selection,
    parts: &BTreeSet<ModelPart>,
) -> Result<Vec<Error>> {
    let wanted = from_recipe(keys);
    let given = |key: &str| keys.given.contains(key);
    let exclude = if given("exclude_modules") { &wanted.exclude_modules } else { &config.exclude_modules };
    let says = |value: &dyn std::fmt::Display| format!("it says `{value}`");
    let mut problems = Vec::new();
    let mut compare = |key: &str, agrees: bool, says: String| {
        if given(key) && !agrees {
            problems.push(
                Error::new(Kind::Recipe, format!("`adapter.{key}` contradicts the adapter that `init_from` continues"))
                    .at(Place::Key(format!("adapter.{key}")))
                    .hint(format!(
                        "{says} in `{}`; leave the key out to take it over",
                        folder.join(CONFIG_FILE).display()
                    )),
            );
        }
    };
    compare("r", wanted.r == config.r, says(&config.r));
    compare("lora_alpha", wanted.lora_alpha == config.lora_alpha, says(&config.lora_alpha));
    compare("use_rslora", wanted.use_rslora == config.use_rslora, says(&config.use_rslora));
    compare("use_dora", wanted.use_dora == config.use_dora, says(&config.use_dora));
    let has = |part: ModelPart| parts.contains(&part);
    for (key, part, is_empty) in [
        ("vision_target_modules", ModelPart::VisionTower, keys.vision_target_modules.is_empty()),
        ("audio_target_modules", ModelPart::AudioTower, keys.audio_target_modules.is_empty()),
        ("train_projector", ModelPart::Projector, !keys.train_projector),
    ] {
        compare(key, !(is_empty && has(part)), format!("it has something on the {}", part.name().replace('_', " ")));
    }
    for (key, targets) in [("target_modules", &wanted.target_modules), ("exclude_modules", &config.target_modules)] {
        if given(key) {
            let agrees = chooses(paths, selection, targets, exclude)?;
            compare(key, agrees, "other modules are chosen".into());
        }
    }
    Ok(problems)
}

/// Whether these targets and exclusions choose the selected modules, however they are written.
fn chooses(paths: &[String], selection: &Selection, target: &TargetModules, exclude: &ExcludeModules) -> Result<bool> {
    let chosen = target::matcher(target, exclude)?;
    Ok(paths.iter().enumerate().all(|(index, path)| chosen(path) == selection.indices.contains(&index)))
}

/// Makes sure that the settings, read for this model's paths, give each module the rank and scale that it has.
fn check_patterns(config: &AdapterConfig, sites: &[Site], tensors: &AdapterTensors, multimodal: bool) -> Result<()> {
    let patterns = config.patterns()?;
    for site in sites {
        let Some(module) = tensors.modules.get(&site.weight) else { continue };
        let path = site.module_path(multimodal);
        if [patterns.rank(&path)] != module.a.shape[..1] || patterns.scaling(&path) != module.scaling {
            let what =
                format!("`rank_pattern` or `alpha_pattern` is written for other paths than this model's `{path}`");
            return Err(Error::new(Kind::Adapter, what).hint(
                "the adapter can be used and merged as it is; to continue it, write its patterns without `model.`",
            ));
        }
    }
    Ok(())
}
