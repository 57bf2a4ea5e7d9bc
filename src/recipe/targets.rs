//! Whether `adapter.target_modules` and `adapter.exclude_modules` can mean a module of any model.
//!
//! How many layers a model has is not known here, so there is every layer that a name speaks of.

use super::adapter::Adapter;
use super::diagnose::Diagnosis;
use crate::adapter::target::{self, ExcludeModules, TargetModules};
use crate::error::{Error, Kind, Place};
use crate::weights::names::{Spelling, TensorId};
use std::collections::BTreeSet;

/// Layers in which an expression is tried: twice as many as the largest model has.
const LAYERS: usize = 128;

/// Numbers of layers that are taken from one name.
const NUMBERS: usize = 4;

/// What is wrong with names, each by its position in a list, where there are modules with these paths.
type Problems = fn(&[String], &[String]) -> Vec<(usize, Error)>;

/// Reports every name and every expression that no projection has, and exclusions that leave none.
pub(super) fn check(adapter: &Adapter, diagnosis: &mut Diagnosis) {
    let (targets, excluded) = (&adapter.target_modules, adapter.exclude_modules.as_slice());
    let before = diagnosis.count();
    let names = match targets {
        TargetModules::Names(names) => names.as_slice(),
        TargetModules::AllLinear => &[],
        TargetModules::Regex(pattern) => {
            let paths = paths((0..LAYERS).chain(numbers(pattern)));
            if let Err(problem) = target::select(&paths, targets, &ExcludeModules::default()) {
                diagnosis.report_at_key(problem);
            }
            &[]
        }
    };
    each(names, "target_modules", target::unknown_targets, diagnosis);
    each(excluded, "exclude_modules", target::misspelt_exclusions, diagnosis);
    if diagnosis.count() != before || diagnosis.given("adapter.exclude_modules").is_none() {
        return;
    }
    let layers: BTreeSet<usize> = names.iter().chain(excluded).flat_map(|name| numbers(name)).collect();
    let other = (0..).find(|layer| !layers.contains(layer));
    let chosen = target::matcher(targets, &ExcludeModules::Names(excluded.to_vec()));
    let all = matches!(targets, TargetModules::Regex(_)).then_some(0..LAYERS).into_iter().flatten();
    let paths = paths(layers.iter().copied().chain(other).chain(all));
    if chosen.is_ok_and(|chosen| !paths.iter().any(|path| chosen(path))) {
        diagnosis.report_at_key(target::nothing_left());
    }
}

/// Reports what `problems` finds in a list of names, each held against the layers that it speaks of.
fn each(names: &[String], key: &str, problems: Problems, diagnosis: &mut Diagnosis) {
    let unspoken = paths([0]);
    for (position, name) in names.iter().enumerate() {
        let spoken = paths(numbers(name));
        let known = if spoken.is_empty() { &unspoken } else { &spoken };
        if diagnosis.is_long() {
            // What a name was meant to be takes long to find out.
            if key == "target_modules" && !target::is_known(known, name) {
                let what = format!("`{key}` entry `{name}` matches no module");
                let place = Place::Key(format!("adapter.{key}[{position}]"));
                diagnosis.report_at_key(Error::new(Kind::Adapter, what).at(place));
            }
            continue;
        }
        for (_, problem) in problems(known, std::slice::from_ref(name)) {
            diagnosis.report_at_key(problem.at(Place::Key(format!("adapter.{key}[{position}]"))));
        }
    }
}

/// The layers that a name or an expression speaks of.
fn numbers(name: &str) -> impl Iterator<Item = usize> + Clone {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).take(NUMBERS)
}

/// The projections of these layers, in models with and without a tower.
fn paths(layers: impl IntoIterator<Item = usize> + Clone) -> Vec<String> {
    let mut paths = Vec::new();
    for spelling in [Spelling::Text, Spelling::LanguageModelInside] {
        for layer in layers.clone() {
            paths.extend(TensorId::linears(layer).map(|weight| spelling.module_path(&weight)));
        }
    }
    paths
}
