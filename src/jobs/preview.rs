//! Looking at a recipe's data without training.

pub use crate::data::Preview;

use crate::data::{Prepared, Stats};
use crate::error::{Place, Result};
use crate::jobs::base::Base;
use crate::jobs::run::data::Data;
use crate::recipe::Recipe;
use crate::report::ProgressBar;
use crate::text::{Encoder, MediaKind};
use crate::weights::HostTensor;
use crate::weights::safetensors_file::{FORMAT_PT, write_safetensors};
use std::path::Path;

/// The first `rows` rows of the training data as the model will see them.
///
/// # Errors
/// When the model's tokenizer or the data cannot be read.
pub fn preview(recipe: &Recipe, rows: usize, screen: &ProgressBar) -> Result<Vec<Preview>> {
    let (encoder, data) = read(recipe, screen)?;
    data.say_left_out(screen);
    data.first_rows(&encoder, rows)
}

/// What the towers will see and hear of the first `rows` rows of the training data: `image.<row>.<i>`
/// `[1 + crops, 3, height, width]` and `audio.<row>.<i>` `[frames, mel bins]`, in f32.
///
/// # Errors
/// As [`preview`], and when the file cannot be written.
pub fn save_media(recipe: &Recipe, rows: usize, path: &Path, screen: &ProgressBar) -> Result<()> {
    let (_, data) = read(recipe, screen)?;
    let table = data.train.media();
    let mut tensors = Vec::new();
    for row in 0..rows.min(data.train.len()) {
        let (mut images, mut sounds) = (0, 0);
        for medium in data.train.get(row)?.media {
            let first = table.number(&medium.content)? == 0;
            match medium.kind {
                MediaKind::Image if first => {
                    let all = table.prepare(&medium.content, &data.media)?;
                    let [channels, height, width] = all[0].dims;
                    let values = all.iter().flat_map(|piece| piece.values.iter().copied()).collect();
                    let dims = [all.len(), channels, height, width];
                    tensors.push((format!("image.{row}.{images}"), HostTensor::f32(dims, values)));
                    images += 1;
                }
                MediaKind::Image => {}
                MediaKind::Audio => {
                    let Prepared { dims: [_, frames, bins], values, .. } =
                        table.prepare_piece(&medium.content, &data.media)?;
                    tensors.push((format!("audio.{row}.{sounds}"), HostTensor::f32([frames, bins], values)));
                    sounds += 1;
                }
            }
        }
    }
    write_safetensors(path, tensors, FORMAT_PT)
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
        let named = Place::Key("model.base".into());
        let (encoder, processors) = Base::encoder(&recipe.model.base, named, screen)?;
        let data = Data::of(recipe, &encoder, &processors, screen)?;
        Ok((encoder, data))
    };
    read().map_err(|error| recipe.places.locate(error))
}
