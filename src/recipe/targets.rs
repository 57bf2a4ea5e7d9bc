//! Whether the names of `adapter.target_modules` and `adapter.exclude_modules` can mean a module of any Gemma 3.
//!
//! How many layers a model has is not known here, so there is every layer that a name speaks of.

use super::adapter::Adapter;
use super::diagnose::Diagnosis;
use crate::adapter::target::{self, ExcludeModules, TargetModules};
use crate::error::{Error, Kind, Place};
use crate::weights::names::{Projection, Spelling};
use std::collections::BTreeSet;

/// Reports every name that names no projection, and exclusions that leave none. Regular expressions are left alone.
pub(super) fn check(adapter: &Adapter, diagnosis: &mut Diagnosis) {
    let (targets, is_names) = match &adapter.target_modules {
        TargetModules::Names(names) => (names.as_slice(), true),
        TargetModules::AllLinear => (&[][..], true),
        TargetModules::Regex(_) => (&[][..], false),
    };
    let excluded = adapter.exclude_modules.as_slice();
    let paths = paths(targets.iter().chain(excluded));
    let before = diagnosis.count();
    let mut report = |key: &str, problems: Vec<(usize, Error)>| {
        for (position, problem) in problems {
            diagnosis.report_at_key(problem.at(Place::Key(format!("adapter.{key}[{position}]"))));
        }
    };
    report("target_modules", target::unknown_targets(&paths, targets));
    report("exclude_modules", target::misspelt_exclusions(&paths, excluded));

    let chosen = target::matcher(&adapter.target_modules, &ExcludeModules::Names(excluded.to_vec()));
    if diagnosis.count() == before
        && is_names
        && diagnosis.given("adapter.exclude_modules").is_some()
        && chosen.is_ok_and(|chosen| !paths.iter().any(|path| chosen(path)))
    {
        let what = "`exclude_modules` leaves out every module that `target_modules` names";
        let error = Error::new(Kind::Recipe, what).hint("exclude fewer modules");
        diagnosis.report_at_key(error.at(Place::Key("adapter.exclude_modules".into())));
    }
}

/// The projections of each layer that a name speaks of, and of one that none does, in models with and without a tower.
fn paths<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut layers: BTreeSet<usize> =
        names.flat_map(|name| name.split('.')).filter_map(|part| part.parse().ok()).collect();
    layers.extend((0..).find(|layer| !layers.contains(layer)));
    let mut paths = Vec::new();
    for spelling in [Spelling::Text, Spelling::LanguageModelInside] {
        for &layer in &layers {
            paths.extend(Projection::ALL.map(|projection| spelling.module_path(layer, projection)));
        }
    }
    paths
}
