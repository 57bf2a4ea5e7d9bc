//! The data of a run: what is trained on, and what it is evaluated on.

use crate::data::{self, Binning, DataSpec, Dataset, Preview, SourceSpec};
use crate::error::{Error, Kind, Result};
use crate::hub;
use crate::jobs::run::cache::Cache;
use crate::recipe::{self, Recipe};
use crate::report::ProgressBar;
use crate::text::Encoder;
use std::collections::BTreeMap;

/// The prepared data of a run.
pub struct Data {
    /// What is trained on.
    pub train: Dataset,
    /// What is evaluated on.
    pub eval: Option<Dataset>,
    /// How rows become bins.
    pub binning: Binning,
}

/// A source of a recipe in the words of `data`.
pub fn source_spec(source: &recipe::Source) -> SourceSpec {
    SourceSpec { path: source.path.clone(), format: source.format, split: source.split.clone(), weight: source.weight }
}

impl Data {
    /// Prepares the data of a recipe for a model.
    ///
    /// # Errors
    /// When a source cannot be read, or its rows cannot be trained on.
    pub fn prepare(recipe: &Recipe, encoder: &Encoder, screen: &ProgressBar) -> Result<Self> {
        let keys = &recipe.data;
        let encoder = encoder.clone().with_train_on(keys.train_on).with_system(keys.system.clone());
        let find_hub = |id: &str, split: Option<&str>| hub::find_data(id, split, screen);
        let mut cache = Cache::open(screen)?;
        let mut prepare = |key: &'static str, sources: &[recipe::Source]| {
            let spec = DataSpec {
                key,
                sources: sources.iter().map(source_spec).collect(),
                max_length: keys.max_length,
                on_long: keys.on_long,
                on_bad_row: keys.on_bad_row,
                max_row_bytes: keys.max_row_bytes,
            };
            cache.prepare(|folder| data::prepare(&spec, &encoder, folder, &find_hub, screen), screen)
        };
        let seed = recipe.training.seed;
        let (train, eval) = match (prepare("data.train", &keys.train)?, keys.eval.as_slice()) {
            (train, []) if keys.eval_fraction > 0.0 => {
                let (train, eval) = train.split(keys.eval_fraction, seed)?;
                (train, Some(eval))
            }
            (train, []) => (train, None),
            (train, sources) => (train, Some(prepare("data.eval", sources)?)),
        };
        let binning = Binning { packing: keys.packing, max_length: keys.max_length, shuffle: keys.shuffle, seed };
        Ok(Data { train, eval, binning })
    }

    /// The first `count` rows of the training data as the model will see them.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn first_rows(&self, encoder: &Encoder, count: usize) -> Result<Vec<Preview>> {
        let count = u32::try_from(count.min(self.train.len()))
            .map_err(|_| Error::new(Kind::Recipe, "`--rows` is too large").hint("name fewer rows"))?;
        (0..count).map(|row| data::preview(&self.train, &[row], &|ids| encoder.decode(ids))).collect()
    }

    /// What the rows are, for the record.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        let eval = self.eval.as_ref().map(|eval| ("eval".to_owned(), eval.content_hash()));
        [("train".to_owned(), self.train.content_hash())].into_iter().chain(eval).collect()
    }
}
