//! Pictures and sounds of rows that are asked about, not trained on.

use super::features::{Features, Live, Making, make_room};
use crate::data::{MediaRules, Row, look_at};
use crate::error::{Place, Result};
use crate::jobs::base::Base;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::run::cache::Cache;
use crate::progress::Progress;
use crate::weights::Holding;
use std::sync::Arc;

/// Looks at the pictures and sounds of rows and makes what the towers say of them; `None` where there are none. Each row
/// comes with its place: its file's folder is where paths in it begin.
///
/// # Errors
/// One that cannot be used, and as [`Making::make`].
pub fn features<'r>(
    rows: impl Iterator<Item = (&'r mut Row, &'r Place)>,
    model: &PeftModel,
    progress: &dyn Progress,
) -> Result<Option<Features>> {
    features_in(None, rows, model, progress)
}

/// The same with what towers say kept in this folder; without one in that of prepared data.
///
/// # Errors
/// As [`features`].
pub fn features_in<'r>(
    cache: Option<Cache>,
    rows: impl Iterator<Item = (&'r mut Row, &'r Place)>,
    model: &PeftModel,
    progress: &dyn Progress,
) -> Result<Option<Features>> {
    let PeftModel { base, holding, compute, towers, .. } = model;
    let mut rows: Vec<(&mut Row, &Place)> = rows
        .filter_map(|(row, place)| {
            let has_media = !row.media_mut().is_empty();
            has_media.then_some((row, place))
        })
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let rules = MediaRules { processors: base.processors.clone(), ..MediaRules::default() };
    if !rules.is_of_media() {
        return Ok(None); // whoever encodes the rows refuses them
    }
    let mut cache = cache.map_or_else(|| Cache::open(progress), Ok)?;
    make_room(&mut cache, progress)?;
    let table = look_at(&mut rows, &rules, cache.path())?;
    if model.on_towers {
        // The bytes of rows lie in the cache's folder, which a private one would take along.
        let tables = vec![Arc::new(table)];
        return Ok(Some(Features::Live(Box::new(Live {
            tables,
            rules,
            device: compute.device.clone(),
            cache: Some(cache),
        }))));
    }
    let (holding, cache_path, loaded) = (&Holding::dense(holding.dtype), cache.path(), Some(towers));
    let making = Making { base, rules: &rules, holding, compute, cache: cache_path, loaded };
    let mut features = making.make(&[&table], progress)?;
    if let Features::Kept(kept) = &mut features {
        kept.cache = Some(cache);
    }
    Ok(Some(features))
}

/// Says of rows that show nothing to a model which takes pictures or sounds what column of theirs seems to hold some, as is said
/// of rows to train on. Each row comes with its place and what to do about it; `features` is of what they show.
pub fn say_unread<'r>(
    rows: impl IntoIterator<Item = (&'r Place, Option<&'r str>)>,
    features: Option<&Features>,
    base: &Base,
    progress: &dyn Progress,
) {
    let rules = MediaRules { processors: base.processors.clone(), ..MediaRules::default() };
    if features.is_some() || !rules.is_of_media() {
        return;
    }
    if let Some((place, hint)) = rows.into_iter().find_map(|(place, hint)| Some((place, hint?))) {
        match place {
            Place::Row { path, .. } => progress.note(&format!("{}: {hint}", path.display())),
            other => progress.note(&format!("{other}: {hint}")),
        }
    }
}
