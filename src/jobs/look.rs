//! Looking at a recipe's data without training.

use crate::data::{self, Preview, Stats};
use crate::error::{Error, Kind, Result};
use crate::jobs::Base;
use crate::jobs::sft::Data;
use crate::recipe::Recipe;
use crate::report::ProgressBar;

/// The first `rows` rows of the training data as the model will see them.
///
/// # Errors
/// When the model's tokenizer or the data cannot be read.
pub fn preview(recipe: &Recipe, rows: usize, screen: &ProgressBar) -> Result<Vec<Preview>> {
    let base = Base::open(&recipe.model.base, screen)?;
    let data = Data::prepare(recipe, &base.encoder, screen)?;
    let rows = u32::try_from(rows.min(data.train.len()))
        .map_err(|_| Error::new(Kind::Recipe, "`--rows` is too large").hint("name fewer rows"))?;
    (0..rows).map(|row| data::preview(&data.train, &[row], &|ids| base.decode(ids))).collect()
}

/// What the training data is made of.
///
/// # Errors
/// As [`preview`].
pub fn stats(recipe: &Recipe, screen: &ProgressBar) -> Result<Stats> {
    let base = Base::open(&recipe.model.base, screen)?;
    let data = Data::prepare(recipe, &base.encoder, screen)?;
    let epoch = data.plan.epoch(&data.train, 0)?;
    Ok(data.train.stats().with_epoch(&epoch))
}
