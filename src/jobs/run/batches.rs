//! Data sets in batches: windows of micro-batches for the training loop, and single ones for evaluation.

use crate::data::{self, Binning, Dataset, Epoch, PackedBatch};
use crate::error::{Error, Kind, Result};
use crate::jobs::media::Features;
use crate::jobs::run::data::{Data, sequences as sequences_in};
use crate::jobs::run::reference::Reference;
use crate::model::{Inputs, SoftTokens};
use crate::nn::Segments;
use crate::recipe::{self, Recipe};
use crate::text::Tokenized;
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::Needs;
use crate::train::run::{Window, Windows};
use std::cmp::Reverse;
use std::ops::Range;

/// What an objective wants of micro-batches beside the tokens of their rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// What it says itself.
    pub needs: Needs,
    /// What the policy that the run starts from says of the rows, where that is needed.
    pub reference: Option<&'a Reference>,
    /// Whether what both answers of a pair begin with is computed once.
    pub shares: bool,
}

/// The batches of a training set, in the windows that a step takes.
pub struct Batches<'a> {
    dataset: &'a Dataset,
    features: Option<&'a Features>,
    wanted: Wanted<'a>,
    binning: Binning,
    batch_size: usize,
    accumulation: usize,
    /// The bins of the pass that was asked for last.
    epoch: Option<(u64, Epoch)>,
}

impl<'a> Batches<'a> {
    /// The training data of a recipe.
    pub fn of(data: &'a Data, keys: &recipe::Training) -> Self {
        let (batch_size, accumulation) = (keys.per_device_train_batch_size, keys.gradient_accumulation_steps);
        Batches { features: data.features.as_ref(), ..Self::new(&data.train, data.binning, batch_size, accumulation) }
    }

    /// Windows of `accumulation` micro-batches of `batch_size` bins.
    fn new(dataset: &'a Dataset, binning: Binning, batch_size: usize, accumulation: usize) -> Self {
        let (batch_size, accumulation) = (batch_size.max(1), accumulation.max(1));
        let (features, wanted, epoch) = Default::default();
        Batches { dataset, features, wanted, binning, batch_size, accumulation, epoch }
    }

    /// The same, with what an objective wants.
    pub fn with(self, wanted: Wanted<'a>) -> Self {
        Batches { wanted, ..self }
    }

    /// The longest rows together: no micro-batch without packing has more tokens.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn longest(&self) -> Result<MicroBatch> {
        let mut rows: Vec<u32> = (0..self.dataset.len() as u32).collect();
        rows.sort_by_key(|&row| Reverse(self.dataset.lengths()[row as usize]));
        rows.truncate(self.batch_size);
        let bins: Vec<&[u32]> = rows.chunks(1).collect();
        Ok(collated(self.dataset, self.features, &bins, self.wanted)?.0)
    }

    fn epoch(&mut self, number: u64) -> Result<&Epoch> {
        let current = match self.epoch.take() {
            Some((at, epoch)) if at == number => epoch,
            _ => self.binning.epoch(self.dataset, number)?,
        };
        Ok(&self.epoch.insert((number, current)).1)
    }
}

impl Windows for Batches<'_> {
    fn len(&mut self, epoch: u64) -> Result<u64> {
        let (batch_size, accumulation) = (self.batch_size, self.accumulation);
        Ok(self.epoch(epoch)?.steps(batch_size, accumulation) as u64)
    }

    fn window(&mut self, epoch: u64, index: u64) -> Result<Window> {
        let (dataset, features, wanted) = (self.dataset, self.features, self.wanted);
        let (batch_size, accumulation) = (self.batch_size, self.accumulation);
        let epoch = self.epoch(epoch)?;
        let bins = batch_size * accumulation;
        let first = (index as usize).saturating_mul(bins);
        let mut window = Window::default();
        for start in (first..epoch.len().min(first.saturating_add(bins))).step_by(batch_size) {
            let bins = start..epoch.len().min(start + batch_size).min(first + bins);
            let (batch, rows) = micro_batch(dataset, features, epoch, bins, wanted)?;
            window.batches.push(batch);
            window.rows.extend(rows);
        }
        window.rows.dedup(); // a pair is two sequences of one row
        Ok(window)
    }

    fn origins(&self, rows: &[u32]) -> Result<Vec<String>> {
        rows.iter().map(|&row| Ok(self.dataset.origin(row as usize)?.to_string())).collect()
    }
}

/// The micro-batch of some bins, and the row of each of its sequences.
fn micro_batch(
    dataset: &Dataset,
    features: Option<&Features>,
    epoch: &Epoch,
    bins: Range<usize>,
    wanted: Wanted,
) -> Result<(MicroBatch, Vec<u32>)> {
    let bins: Vec<&[u32]> = bins.map(|bin| epoch.bin(bin)).collect();
    collated(dataset, features, &bins, wanted)
}

/// Bins put together as a micro-batch with what is wanted of it, and the row of each of its sequences.
fn collated(
    dataset: &Dataset,
    features: Option<&Features>,
    bins: &[&[u32]],
    Wanted { needs, reference, shares }: Wanted,
) -> Result<(MicroBatch, Vec<u32>)> {
    let packed = data::collate(dataset, bins)?;
    let mismatched = needs.mismatched.then(|| packed.mismatched(dataset.max_length()));
    let mismatched = mismatched.map(|others| sequences(others, features)).transpose()?;
    let packed = if shares && dataset.has_pairs() { packed.sharing() } else { packed };
    let rows = packed.rows.clone();
    let mut batch = sequences(packed, features)?;
    if needs.prompts {
        batch = batch.with_prompts();
    }
    if needs.scores {
        batch = batch.at_ends();
    }
    if let Some(reference) = reference {
        batch.reference = match batch.desirable.is_empty() {
            true => reference.of_pairs(&rows),
            false => reference.of_answers(&rows),
        };
    }
    batch.mismatched = mismatched.map(|mut others| {
        others.reference = reference.map(|reference| reference.of_mismatched(&rows)).unwrap_or_default();
        Box::new(others)
    });
    Ok((batch, rows))
}

/// Rows that were put together, as a model reads them.
fn sequences(batch: PackedBatch, features: Option<&Features>) -> Result<MicroBatch> {
    let soft_tokens = match features {
        _ if batch.media.is_empty() => Vec::new(),
        Some(features) => features.soft_tokens(&batch.media)?,
        None => return Err(Error::new(Kind::Run, "rows hold media, and nothing here makes features of them")),
    };
    let PackedBatch { input_ids, labels, lengths, shared, desirable, margins, .. } = batch;
    let lengths = lengths.into_iter().zip(shared.into_iter().chain(std::iter::repeat(0)));
    let inputs = Inputs { input_ids, segments: Segments::sharing(lengths), soft_tokens };
    Ok(MicroBatch { desirable, margins, ..MicroBatch::of(inputs, &labels) })
}

/// One row by itself, with these soft tokens.
pub fn row_batch(row: &Tokenized, soft_tokens: Vec<SoftTokens>) -> MicroBatch {
    let inputs = Inputs { soft_tokens, ..Inputs::of(row.input_ids.clone()) };
    MicroBatch::of(inputs, &row.labels)
}

/// Every row of a data set in a micro-batch of its own, in their order.
pub fn each_row<'d>(
    dataset: &'d Dataset,
    features: Option<&'d Features>,
) -> impl Iterator<Item = Result<MicroBatch>> + 'd {
    (0..dataset.len() as u32)
        .map(move |row| Ok(collated(dataset, features, &[&[row]], Wanted { shares: true, ..Wanted::default() })?.0))
}

/// The rows of a data set in micro-batches of those that stay together, in the order of its first epoch, each with the rows in it.
///
/// # Errors
/// When a row cannot be read.
pub fn groups<'d>(
    dataset: &'d Dataset,
    features: Option<&'d Features>,
    binning: Binning,
    wanted: Wanted<'d>,
) -> Result<impl Iterator<Item = Result<(MicroBatch, Vec<u32>)>> + 'd> {
    let (epoch, size) = (binning.epoch(dataset, 0)?, binning.together.max(1));
    Ok((0..epoch.len()).step_by(size).map(move |first| {
        let bins = first..epoch.len().min(first + size);
        micro_batch(dataset, features, &epoch, bins, wanted)
    }))
}

/// All rows of an evaluation set, once, in micro-batches of one bin, or of those that stay together.
///
/// # Errors
/// When a row cannot be read.
pub fn evaluation_batches<'d>(
    dataset: &'d Dataset,
    features: Option<&'d Features>,
    binning: Binning,
) -> Result<impl Iterator<Item = Result<MicroBatch>> + 'd> {
    Ok(evaluation_rows(dataset, features, binning, Wanted::default())?.map(|batch| Ok(batch?.0)))
}

/// As [`evaluation_batches`], each with the rows in it, in the order of its segments.
///
/// # Errors
/// When a row cannot be read.
pub fn evaluation_rows<'d>(
    dataset: &'d Dataset,
    features: Option<&'d Features>,
    binning: Binning,
    wanted: Wanted<'d>,
) -> Result<impl Iterator<Item = Result<(MicroBatch, Vec<u32>)>> + 'd> {
    groups(dataset, features, in_order(binning), wanted)
}

/// The same bins for rows that are evaluated on: in the order of their files.
pub fn in_order(binning: Binning) -> Binning {
    Binning { shuffle: false, ..binning }
}

/// The largest micro-batch of a run, as far as memory depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// Tokens that are computed.
    pub tokens: u64,
    /// Tokens whose keys and values are looked at: what several sequences begin with stands before each of them.
    pub looked_at: u64,
}

impl Largest {
    /// One that shares nothing.
    pub fn of(tokens: u64) -> Self {
        Largest { tokens, looked_at: tokens }
    }

    /// That of a recipe with so many rows, or answers, at once, and sequences of at most `max_length` tokens. `tokens` says how
    /// many so many rows of at most so many tokens have together.
    pub fn of_recipe(
        recipe: &Recipe,
        batch_size: usize,
        max_length: usize,
        tokens: impl Fn(usize, usize) -> u64,
    ) -> Self {
        let Some(keys) = &recipe.grpo else {
            return Largest::of(tokens(batch_size, max_length.saturating_mul(sequences_in(recipe))));
        };
        let prompt = max_length.saturating_sub(keys.max_completion_length);
        let each = |tokens: u64| tokens.saturating_mul(batch_size as u64);
        let answers = each(keys.max_completion_length as u64);
        Largest {
            tokens: tokens(keys.prompts_of(batch_size), prompt).saturating_add(answers),
            looked_at: each(tokens(1, prompt)).saturating_add(answers),
        }
    }
}

/// Tokens in the largest micro-batch of such bins, if rows were cut at `max_length`.
pub fn largest_tokens(dataset: &Dataset, binning: &Binning, batch_size: usize, max_length: usize) -> u64 {
    let longest = dataset.lengths().iter().copied().max().unwrap_or(0) as u64;
    let longest = longest.min(max_length as u64);
    let bin = if binning.packing { max_length as u64 } else { longest };
    let all: u64 = dataset.lengths().iter().map(|&l| u64::from(l)).sum();
    (bin * batch_size as u64).min(all.max(longest))
}
