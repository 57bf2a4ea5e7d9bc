//! Data sets in batches: windows of micro-batches for the training loop, and single ones for evaluation.

use crate::data::{self, Binning, Dataset, Epoch};
use crate::error::{Error, Kind, Result};
use crate::jobs::media::Features;
use crate::jobs::run::data::Data;
use crate::jobs::run::reference::Reference;
use crate::model::{Inputs, SoftTokens};
use crate::nn::Segments;
use crate::recipe;
use crate::text::Tokenized;
use crate::train::micro_batch::MicroBatch;
use crate::train::run::{Window, Windows};
use std::cmp::Reverse;
use std::ops::Range;

/// The batches of a training set, in the windows that a step takes.
pub struct Batches<'a> {
    dataset: &'a Dataset,
    features: Option<&'a Features>,
    /// What the policy that the run starts from says of the rows, where that is needed.
    reference: Option<&'a Reference>,
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
        Batches { dataset, features: None, reference: None, binning, batch_size, accumulation, epoch: None }
    }

    /// The same, with what the policy that the run starts from says of the rows.
    pub fn measured_against(self, reference: Option<&'a Reference>) -> Self {
        Batches { reference, ..self }
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
        let (batch, rows) = collated(self.dataset, self.features, &bins)?;
        Ok(with_reference(batch, &rows, self.reference))
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
        let (dataset, features, reference) = (self.dataset, self.features, self.reference);
        let (batch_size, accumulation) = (self.batch_size, self.accumulation);
        let epoch = self.epoch(epoch)?;
        let bins = batch_size * accumulation;
        let first = (index as usize).saturating_mul(bins);
        let mut window = Window { batches: Vec::new(), rows: Vec::new() };
        for start in (first..epoch.len().min(first.saturating_add(bins))).step_by(batch_size) {
            let bins = start..epoch.len().min(start + batch_size).min(first + bins);
            let (batch, rows) = micro_batch(dataset, features, epoch, bins)?;
            window.batches.push(with_reference(batch, &rows, reference));
            window.rows.extend(rows);
        }
        if reference.is_some() {
            window.rows.dedup(); // a pair is two sequences of one row
        }
        Ok(window)
    }

    fn origins(&self, rows: &[u32]) -> Result<Vec<String>> {
        rows.iter().map(|&row| Ok(self.dataset.origin(row as usize)?.to_string())).collect()
    }
}

/// A micro-batch with what the policy that the run starts from says of the row of each of its sequences.
pub fn with_reference(batch: MicroBatch, rows: &[u32], reference: Option<&Reference>) -> MicroBatch {
    match reference {
        Some(reference) => MicroBatch { reference: reference.of_rows(rows), ..batch },
        None => batch,
    }
}

/// The micro-batch of some bins, and the row of each of its sequences.
fn micro_batch(
    dataset: &Dataset,
    features: Option<&Features>,
    epoch: &Epoch,
    bins: Range<usize>,
) -> Result<(MicroBatch, Vec<u32>)> {
    let bins: Vec<&[u32]> = bins.map(|bin| epoch.bin(bin)).collect();
    collated(dataset, features, &bins)
}

/// Bins put together as a micro-batch, and the rows in it.
fn collated(dataset: &Dataset, features: Option<&Features>, bins: &[&[u32]]) -> Result<(MicroBatch, Vec<u32>)> {
    let batch = data::collate(dataset, bins)?;
    let soft_tokens = match features {
        _ if batch.media.is_empty() => Vec::new(),
        Some(features) => features.soft_tokens(&batch.media)?,
        None => return Err(Error::new(Kind::Run, "rows hold media, and nothing here makes features of them")),
    };
    let inputs = Inputs { input_ids: batch.input_ids, segments: Segments::from_lengths(batch.lengths), soft_tokens };
    Ok((MicroBatch::of(inputs, &batch.labels), batch.rows))
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
    (0..dataset.len() as u32).map(move |row| Ok(collated(dataset, features, &[&[row]])?.0))
}

/// All rows of an evaluation set, once, in micro-batches of one bin.
///
/// # Errors
/// When a row cannot be read.
pub fn evaluation_batches<'d>(
    dataset: &'d Dataset,
    features: Option<&'d Features>,
    binning: Binning,
) -> Result<impl Iterator<Item = Result<MicroBatch>> + 'd> {
    Ok(evaluation_rows(dataset, features, binning)?.map(|batch| Ok(batch?.0)))
}

/// As [`evaluation_batches`], each with the rows in it, in the order of its segments.
///
/// # Errors
/// When a row cannot be read.
pub fn evaluation_rows<'d>(
    dataset: &'d Dataset,
    features: Option<&'d Features>,
    binning: Binning,
) -> Result<impl Iterator<Item = Result<(MicroBatch, Vec<u32>)>> + 'd> {
    let epoch = Binning { shuffle: false, ..binning }.epoch(dataset, 0)?;
    Ok((0..epoch.len()).map(move |bin| micro_batch(dataset, features, &epoch, bin..bin + 1)))
}

/// Tokens in the largest micro-batch of such bins, if rows were cut at `max_length`.
pub fn largest_tokens(dataset: &Dataset, binning: &Binning, batch_size: usize, max_length: usize) -> u64 {
    let longest = dataset.lengths().iter().copied().max().unwrap_or(0) as u64;
    let longest = longest.min(max_length as u64);
    let bin = if binning.packing { max_length as u64 } else { longest };
    let all: u64 = dataset.lengths().iter().map(|&l| u64::from(l)).sum();
    (bin * batch_size as u64).min(all.max(longest))
}
