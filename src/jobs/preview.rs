//! Looking at a recipe's data without training.

pub use crate::data::Preview;

use crate::data::Stats;
use crate::error::{Place, Result};
use crate::jobs::base::Base;
use crate::jobs::run::data::Data;
use crate::recipe::Recipe;
use crate::report::ProgressBar;
use crate::text::Encoder;

/// The first `rows` rows of the training data as the model will see them.
///
/// # Errors
/// When the model's tokenizer or the data cannot be read.
pub fn preview(recipe: &Recipe, rows: usize, screen: &ProgressBar) -> Result<Vec<Preview>> {
    let (encoder, data) = read(recipe, screen)?;
    data.say_left_out(screen);
    data.first_rows(&encoder, rows)
}

/// What the training data is made of.
///
/// # Errors
/// As [`preview`].
pub fn stats(recipe: &Recipe, screen: &ProgressBar) -> Result<Stats> {
    let (_, data) = read(recipe, screen)?;
    let epoch = data.binning.epoch(&data.train, 0)?;
    Ok(Stats { fill_rate: epoch.fill_rate(), ..data.train.stats() })
}

/// The recipe's data, and the tokenizer and chat template that made it.
fn read(recipe: &Recipe, screen: &ProgressBar) -> Result<(Encoder, Data)> {
    let read = || {
        let encoder = Base::encoder(&recipe.model.base, Place::Key("model.base".into()), screen)?;
        let data = Data::prepare(recipe, &encoder, screen)?;
        Ok((encoder, data))
    };
    read().map_err(|error| recipe.places.locate(error))
}
