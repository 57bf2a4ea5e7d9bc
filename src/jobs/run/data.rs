//! The data of a run: what is trained on, and what it is evaluated on.

use crate::data::options::OnLong;
use crate::data::{self, Binning, Checked, DataSpec, Dataset, MediaRules, MediaTable, Preview, Row, RowId, SourceSpec};
use crate::device::Compute;
use crate::error::{Error, Kind, Place, Result};
use crate::hub;
use crate::jobs::base::Base;
use crate::jobs::media::Features;
use crate::jobs::media::features::{Live, Making, make_room};
use crate::jobs::run::cache::Cache;
use crate::media::Processors;
use crate::progress::{Progress, counted};
use crate::recipe::{self, EvalFraction, Recipe, Task};
use crate::report::ProgressBar;
use crate::text::Encoder;
use crate::weights::Holding;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// With fewer rows every one is needed for training, and a twentieth of them would say little.
const ENOUGH_TO_HOLD_BACK: usize = 100;
/// The share that `eval_fraction: auto` holds back.
const SHARE_HELD_BACK: f64 = 0.05;
/// More rows make evaluation slower and hardly surer.
const MOST_HELD_BACK: f64 = 500.0;

/// The `sources` that are named by `key`, with the settings of all data.
fn spec(
    keys: &recipe::Data,
    key: &'static str,
    sources: &[recipe::Source],
    media: &MediaRules,
    with_eos: bool,
) -> DataSpec {
    DataSpec {
        key,
        sources: sources.iter().map(source_spec).collect(),
        max_length: keys.max_length,
        on_long: keys.on_long,
        on_bad_row: keys.on_bad_row,
        max_row_bytes: keys.max_row_bytes,
        media: media.clone(),
        with_eos,
        unpair: false,
    }
}

/// Looks at the files of a recipe's rows, without a model.
///
/// # Errors
/// When a file cannot be read, or its columns fit no format.
pub fn check_files(keys: &recipe::Data, screen: &ProgressBar) -> Result<()> {
    let find_hub = |id: &str, split: Option<&str>| hub::find_data(id, split, screen);
    for (key, sources) in [("data.train", &keys.train), ("data.eval", &keys.eval)] {
        if !sources.is_empty() {
            data::check_files(&spec(keys, key, sources, &MediaRules::default(), false), &find_hub, screen)?;
        }
    }
    Ok(())
}

/// Looks at the rows of the `sources` that `key` names, as far as that is quick and needs no model; what is on the Hub is
/// left out. Each row that is understood goes to `each`.
///
/// # Errors
/// What is wrong with files and rows. A source is named as the first of its list.
pub fn check_rows(
    keys: &recipe::Data,
    key: &'static str,
    source: &recipe::Source,
    each: &mut dyn FnMut(&Row, RowId),
    screen: &dyn Progress,
) -> Result<Checked> {
    /// A second of reading.
    const MOST_BYTES: usize = 64 << 20;
    data::check_rows(
        &spec(keys, key, std::slice::from_ref(source), &MediaRules::default(), false),
        &data::local_only,
        MOST_BYTES,
        each,
        screen,
    )
}

/// The prepared data of a run.
pub struct Data {
    /// What is trained on.
    pub train: Dataset,
    /// What is evaluated on.
    pub eval: Option<Dataset>,
    /// How rows become bins.
    pub binning: Binning,
    /// How their pictures and sounds are read.
    pub media: MediaRules,
    /// What the towers say of these, once that was asked.
    pub features: Option<Features>,
    /// Where prepared rows are kept.
    cache: Cache,
}

/// A source of a recipe in the words of `data`.
pub fn source_spec(source: &recipe::Source) -> SourceSpec {
    let recipe::Source { path, format, columns, template, prompt, split, weight } = source.clone();
    SourceSpec { path, format, columns: columns.0, template, prompt, split, weight }
}

impl Data {
    /// Prepares the data of a recipe for a model.
    ///
    /// # Errors
    /// When a source cannot be read, or its rows cannot be trained on.
    pub fn prepare(recipe: &Recipe, base: &Base, screen: &ProgressBar) -> Result<Self> {
        Self::of(recipe, &base.encoder, &base.processors, screen)
    }

    /// As [`Data::prepare`], for a model of this encoder and these processors.
    ///
    /// # Errors
    /// As [`Data::prepare`].
    pub fn of(recipe: &Recipe, encoder: &Encoder, processors: &Processors, screen: &ProgressBar) -> Result<Self> {
        let keys = &recipe.data;
        let media = rules(keys, processors)?;
        let encoder = encoder.clone().with_train_on(keys.train_on).with_system(keys.system.clone());
        let find_hub = |id: &str, split: Option<&str>| hub::find_data(id, split, screen);
        let mut cache = Cache::open(screen)?;
        let mut prepare = |key: &'static str, sources: &[recipe::Source]| {
            let spec = spec(keys, key, sources, &media, ends_in_eos(recipe));
            let mut spec = DataSpec { max_length: room(recipe), unpair: recipe.task == Task::Kto, ..spec };
            if recipe.task == Task::Reward {
                // An answer that is cut off is judged by what stands in its middle; TRL leaves it out.
                spec.on_long = spec.on_long.or(Some(OnLong::Skip));
            }
            cache.prepare(|folder| data::prepare(&spec, &encoder, folder, &find_hub, screen), screen)
        };
        let seed = recipe.training.seed;
        let (train, eval) = match (prepare("data.train", &keys.train)?, keys.eval.as_slice()) {
            (train, []) => match keys.eval_fraction {
                EvalFraction::Of(0.0) => (train, None),
                EvalFraction::Of(share) => train.split(share, seed).map(|(train, eval)| (train, Some(eval)))?,
                EvalFraction::Auto => hold_back(train, seed, screen)?,
            },
            (train, sources) => (train, Some(prepare("data.eval", sources)?)),
        };
        if encoder.template().is_built_in() && train.files().iter().any(|file| file.layout.has_turns()) {
            screen
                .note("The model has no chat template of its own: Gemma 3's is used, as `chat` and `generate` use it.");
        }
        // `max_length` is of a sequence, and a pair has two.
        let (max_length, together) = (room(recipe) * sequences(recipe), together(recipe));
        let binning = Binning { packing: keys.packing, max_length, shuffle: keys.shuffle, seed, together };
        Ok(Data { train, eval, binning, media, features: None, cache })
    }

    /// The folder in which it is kept.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// Asks the towers of `base` about the pictures and sounds of the rows, unless that was done before.
    ///
    /// # Errors
    /// As [`Making::make`].
    pub fn encode_media(
        &mut self,
        base: &Base,
        holding: &Holding,
        compute: &Compute,
        progress: &dyn Progress,
    ) -> Result<()> {
        let tables = self.tables();
        if !tables.is_empty() {
            make_room(&mut self.cache, progress)?;
            let making = Making { base, rules: &self.media, holding, compute, cache: self.cache.path(), loaded: None };
            let tables: Vec<&MediaTable> = tables.iter().map(AsRef::as_ref).collect();
            self.features = Some(making.make(&tables, progress)?);
        }
        Ok(())
    }

    /// Whether rows have pictures or sounds.
    pub fn has_media(&self) -> bool {
        !self.tables().is_empty()
    }

    /// Leaves pictures and sounds to towers that are trained.
    pub fn leave_media(&mut self, compute: &Compute) {
        let tables = self.tables();
        let (rules, device) = (self.media.clone(), compute.device.clone());
        self.features =
            (!tables.is_empty()).then_some(Features::Live(Box::new(Live { tables, rules, device, cache: None })));
    }

    /// The pictures and sounds of all rows.
    fn tables(&self) -> Vec<Arc<MediaTable>> {
        let eval = self.eval.as_ref().map(Dataset::media);
        [self.train.media()].into_iter().chain(eval).filter(|table| !table.is_empty()).cloned().collect()
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

    /// Says what is not trained or measured on as it stands, in the words of a run's plan.
    pub fn say_left_out(&self, screen: &ProgressBar) {
        let all = std::iter::once(&self.train).chain(&self.eval).flat_map(|rows| rows.stats().left_out);
        all.for_each(|left_out| screen.note(&format!("Of the rows: {left_out}")));
    }

    /// Warns of evaluation rows that are trained on too.
    pub fn warn_of_known_rows(&self, screen: &ProgressBar) {
        let Some(eval) = &self.eval else { return };
        let known = eval.shared_with(&self.train).into_iter().filter(|known| *known).count();
        if known > 0 {
            let (rows, are) = (counted(eval.len(), "evaluation row"), if known == 1 { "is" } else { "are" });
            screen.note(&format!(
                "warning: {known} of {rows} {are} trained on too: what is measured on them says how well they are known, not how \
                 well others are answered"
            ));
        }
    }

    /// Says what of preferences would be learnt beside them: what length alone tells, or what there is more of.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn warn_of_preferences(&self, recipe: &Recipe, screen: &ProgressBar) -> Result<()> {
        self.train.pair_lengths().warning().into_iter().for_each(|warning| screen.note(&warning));
        if recipe.task == Task::Reward {
            one_sided(self.train.judged()?).into_iter().for_each(|warning| screen.note(&warning));
        }
        let Some(keys) = recipe.preference.as_ref().filter(|_| recipe.task == Task::Kto) else { return Ok(()) };
        let weights = [keys.desirable_weight, keys.undesirable_weight].map(|weight| weight.unwrap_or(1.0));
        if recipe.data.train.iter().chain(&recipe.data.eval).any(|source| source.format == data::RowFormat::Preference)
        {
            screen.note(
                "Pairs are taken apart, as in TRL: what is chosen is a good answer, and what is rejected a bad one.",
            );
        }
        balance(self.train.judged()?, weights).into_iter().for_each(|warning| screen.note(&warning));
        let passes = recipe.training.gradient_accumulation_steps;
        if keys.estimates_divergence() && passes > 1 {
            let batch = recipe.training.per_device_train_batch_size;
            screen.note(&format!(
                "How far the model has gone is estimated of each {batch} rows that go through it at once: {passes} passes of them \
                 are not the same as one of {}.",
                batch.saturating_mul(passes)
            ));
        }
        Ok(())
    }

    /// The training rows that are not trained as they stand, for the record.
    pub fn left_out(&self) -> Vec<serde_json::Value> {
        self.train.stats().left_out.iter().filter_map(|rows| serde_json::to_value(rows).ok()).collect()
    }

    /// What the rows are, for the record.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        let eval = self.eval.as_ref().map(|eval| ("eval".to_owned(), eval.content_hash()));
        [("train".to_owned(), self.train.content_hash())].into_iter().chain(eval).collect()
    }
}

/// How many sequences a row is.
pub fn sequences(recipe: &Recipe) -> usize {
    if recipe.has_pairs() { 2 } else { 1 }
}

/// The most tokens of a row's sequence: what is to be answered leaves room for that.
pub fn room(recipe: &Recipe) -> usize {
    let answers = recipe.grpo.as_ref().map_or(0, |keys| keys.max_completion_length);
    recipe.data.max_length.saturating_sub(answers).max(2)
}

/// Whether `<eos>` follows each answer, as in TRL where pairs are learnt without a reference.
fn ends_in_eos(recipe: &Recipe) -> bool {
    let is_free = |keys: &recipe::Preference| keys.loss_type.0.iter().any(|loss| loss.is_reference_free());
    recipe.task == Task::Orpo || recipe.preference.as_ref().is_some_and(is_free)
}

/// Rows that stay together: those of a batch, where answers are judged by each other.
fn together(recipe: &Recipe) -> usize {
    match recipe.estimates_divergence() {
        true => recipe.training.per_device_train_batch_size,
        false => 1,
    }
}

/// What to say of so many good and bad answers with these weights: together they should count about the same, good ones up to a third
/// more.
///
/// # Source
/// Ethayarajh et al. 2024, equation 9.
fn balance([good, bad]: [u64; 2], [of_good, of_bad]: [f64; 2]) -> Option<String> {
    const MOST: f64 = 4.0 / 3.0;
    if good == 0 || bad == 0 {
        return one_sided([good, bad]);
    }
    let ratio = good as f64 * of_good / (bad as f64 * of_bad);
    // Weights as they are rounded for people are right, too.
    if (0.99..=MOST * 1.01).contains(&ratio) {
        return None;
    }
    let (key, [low, high]) = match ratio < 1.0 {
        true => ("desirable_weight", [of_good / ratio, of_good * MOST / ratio]),
        false => ("undesirable_weight", [of_bad * ratio / MOST, of_bad * ratio]),
    };
    Some(format!(
        "warning: {good} answers are good and {bad} bad, and with these weights the good ones count {ratio:.2} times as much: \
         `preference.{key}` from {low:.2} to {high:.2} would balance them"
    ))
}

/// What to say where all of so many good and bad answers are of one kind; nothing where none is judged.
fn one_sided(judged: [u64; 2]) -> Option<String> {
    let (which, other) = match judged.map(|count| count > 0) {
        [false, true] => ("bad", "good"),
        [true, false] => ("good", "bad"),
        _ => return None,
    };
    Some(format!("warning: all answers are {which}: without {other} ones little is learnt of the difference"))
}

/// How the pictures and sounds of a recipe's rows are read.
///
/// # Errors
/// When crops are asked for of a model that takes none.
fn rules(keys: &recipe::Data, processors: &Processors) -> Result<MediaRules> {
    let mut processors = processors.clone();
    let image = processors.image.as_mut();
    match (image, keys.do_pan_and_scan) {
        (Some(image), Some(true)) if image.limits.is_some() => image.pan_and_scan = image.limits,
        (Some(image), Some(false)) => image.pan_and_scan = None,
        (_, Some(true)) => {
            return Err(Error::new(Kind::Recipe, "the model takes no crops of pictures")
                .at(Place::Key("data.do_pan_and_scan".into()))
                .hint("pan and scan is Gemma 3's, where it sees; leave the key out"));
        }
        (_, Some(false) | None) => {}
    }
    Ok(MediaRules { processors, on_long_audio: keys.on_long_audio.into() })
}

/// `eval_fraction: auto`: a twentieth of the rows, at most [`MOST_HELD_BACK`], where there are at least
/// [`ENOUGH_TO_HOLD_BACK`], not all of them the same.
fn hold_back(train: Dataset, seed: u64, screen: &ProgressBar) -> Result<(Dataset, Option<Dataset>)> {
    let rows = train.len();
    if rows < ENOUGH_TO_HOLD_BACK || !train.has_two_rows() {
        screen.note(&format!(
            "No rows are held back for evaluation: there are {rows}, and `auto` asks for {ENOUGH_TO_HOLD_BACK}."
        ));
        return Ok((train, None));
    }
    let share = SHARE_HELD_BACK.min(MOST_HELD_BACK / rows as f64);
    let (train, eval) = train.split(share, seed)?;
    screen.note(&format!("{} of {rows} rows are held back for evaluation.", eval.len()));
    Ok((train, Some(eval)))
}

#[cfg(test)]
mod tests {
    use super::{balance, one_sided};

    #[test]
    fn weights_that_balance_are_named_where_these_do_not() {
        for (judged, weights) in
            [([8, 8], [1.0, 1.0]), ([4, 3], [1.0, 1.0]), ([2, 8], [4.0, 1.0]), ([8, 2], [1.0, 3.0])]
        {
            assert_eq!(balance(judged, weights), None, "{judged:?} {weights:?}");
        }
        let said = balance([2, 8], [1.0, 1.0]).unwrap();
        assert!(said.contains("2 answers are good and 8 bad") && said.contains("count 0.25 times as much"), "{said}");
        assert!(said.ends_with("`preference.desirable_weight` from 4.00 to 5.33 would balance them"), "{said}");
        let said = balance([8, 2], [1.0, 1.0]).unwrap();
        assert!(said.ends_with("`preference.undesirable_weight` from 3.00 to 4.00 would balance them"), "{said}");
        assert!(balance([0, 2], [1.0, 1.0]).unwrap().contains("all answers are bad"));
        assert_eq!((one_sided([0, 0]), one_sided([1, 9])), (None, None));
    }
}
