//! Which rows are seen together and when: the bins of an epoch, decided by the seed alone.

use super::dataset::Dataset;
use super::packing::first_fit_decreasing;
use crate::error::{Error, Kind, Result};
use crate::random::{Label, Rng, Stream};
use std::cmp::Reverse;

/// How rows become bins: with a data set, this decides every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binning {
    /// Whether several rows share a bin.
    pub packing: bool,
    /// The room in a bin, in tokens.
    pub max_length: usize,
    /// Whether rows come in random order.
    pub shuffle: bool,
    /// Decides that order.
    pub seed: u64,
    /// Rows that stay together in every epoch, where there are more than one: so many that follow one another, after they were
    /// shuffled once and for all. Such rows are not packed, and their sources' weights are 1.
    pub together: usize,
}

impl Binning {
    /// Chooses the rows of epoch number `number`, from 0, by their sources' weights, packs them into bins of at most
    /// `max_length` tokens by first-fit decreasing (without `packing`, every row is its own bin), and shuffles the
    /// bins. Without `shuffle`, rows keep the order of the files, and packed bins that of their first rows. The same
    /// settings give the same bins, on every machine.
    ///
    /// # Errors
    /// When a row is longer than `max_length`, or an epoch has more rows than 32 bits count.
    pub fn epoch(&self, dataset: &Dataset, number: u64) -> Result<Epoch> {
        let &Binning { packing, max_length, shuffle, seed, together } = self;
        let capacity = u32::try_from(max_length).unwrap_or(u32::MAX);
        if let Some(row) = dataset.lengths().iter().position(|&length| length > capacity) {
            let what =
                format!("{} has {} tokens, more than {max_length}", dataset.origin(row)?, dataset.lengths()[row]);
            return Err(Error::new(Kind::Run, what));
        }
        let mut rows = chosen_rows(dataset, seed, number)?;
        let tokens = rows.iter().map(|&row| u64::from(dataset.lengths()[row as usize])).sum();
        if shuffle && together > 1 {
            rows = grouped(rows, together, seed, number);
        } else if shuffle {
            stream(seed, number, "order of rows").shuffle(&mut rows);
        }
        if !packing {
            let ends = (1..=rows.len() as u32).collect();
            return Ok(Epoch { rows, ends, tokens, packed_max_length: None });
        }

        // Rows of equal length stand in random order here, so that from epoch to epoch they meet others.
        let lengths: Vec<u32> = rows.iter().map(|&row| dataset.lengths()[row as usize]).collect();
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|&i| Reverse(lengths[i as usize]));
        let (bin_of, bins) = first_fit_decreasing(&lengths, &order, capacity);
        let mut place_of_bin: Vec<u32> = if shuffle {
            let mut places: Vec<u32> = (0..bins).collect();
            stream(seed, number, "order of bins").shuffle(&mut places);
            places
        } else {
            vec![u32::MAX; bins as usize]
        };
        if !shuffle {
            let mut next = 0;
            for &bin in &bin_of {
                if place_of_bin[bin as usize] == u32::MAX {
                    place_of_bin[bin as usize] = next;
                    next += 1;
                }
            }
        }
        let (rows, ends) = group(&rows, bin_of.iter().map(|&bin| place_of_bin[bin as usize]), bins as usize);
        Ok(Epoch { rows, ends, tokens, packed_max_length: Some(capacity) })
    }

    /// Optimiser steps in epochs 0 to `epochs` (exclusive).
    ///
    /// # Errors
    /// As [`Binning::epoch`].
    pub fn steps(&self, dataset: &Dataset, epochs: u64, batch_size: usize, accumulation: usize) -> Result<u64> {
        // Packing depends on nothing but the rows' lengths, so epochs with the same rows have equally many bins; with
        // fractional weights the rows, and so the bins, differ.
        let same_rows = (0..dataset.len()).all(|row| dataset.weight(row).fract() == 0.0);
        let steps = |number| Ok(self.epoch(dataset, number)?.steps(batch_size, accumulation) as u64);
        if same_rows {
            return Ok(steps(0)?.saturating_mul(epochs));
        }
        (0..epochs).try_fold(0_u64, |sum, number| Ok(sum.saturating_add(steps(number)?)))
    }
}

/// The bins of one epoch, in the order in which they are trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Rows, bin after bin.
    rows: Vec<u32>,
    /// Where each bin ends in `rows`.
    ends: Vec<u32>,
    tokens: u64,
    packed_max_length: Option<u32>,
}

impl Epoch {
    /// Number of bins.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no bins.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows of a bin; none beyond the last bin.
    pub fn bin(&self, bin: usize) -> &[u32] {
        let Some(&end) = self.ends.get(bin) else { return &[] };
        let start = bin.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start as usize..end as usize]
    }

    /// All bins, in order.
    pub fn bins(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|bin| self.bin(bin))
    }

    /// Tokens of all rows, counted as often as they are seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Tokens divided by the room in all bins; `None` without packing.
    pub fn fill_rate(&self) -> Option<f64> {
        let room = self.len() as f64 * f64::from(self.packed_max_length?);
        Some(if room > 0.0 { self.tokens as f64 / room } else { 0.0 })
    }

    /// Number of micro-batches of `batch_size` bins; the last may be smaller.
    pub fn batches(&self, batch_size: usize) -> usize {
        self.len().div_ceil(batch_size.max(1))
    }

    /// Number of optimiser steps of `accumulation` micro-batches of `batch_size` bins; the last may be smaller.
    pub fn steps(&self, batch_size: usize, accumulation: usize) -> usize {
        self.batches(batch_size).div_ceil(accumulation.max(1))
    }
}

/// The random numbers for one purpose in one epoch: they depend on nothing that was drawn before.
fn stream(seed: u64, epoch: u64, purpose: &str) -> Stream {
    Rng::new(seed).stream(&[Label::Purpose(purpose), Label::Epoch(epoch)])
}

/// The rows that epoch `epoch` sees, in file order, as often as it sees them: `weight` times, where the fractional part
/// of a source's weight is that fraction of its rows, chosen at random.
fn chosen_rows(dataset: &Dataset, seed: u64, epoch: u64) -> Result<Vec<u32>> {
    let mut of_source: Vec<Vec<u32>> = vec![Vec::new(); dataset.sources()];
    let mut times: Vec<u32> = Vec::with_capacity(dataset.len());
    for row in 0..dataset.len() {
        let weight = dataset.weight(row);
        // Weights are checked to be small; the cast saturates.
        times.push(weight as u32);
        if weight.fract() > 0.0 {
            of_source[dataset.source(row)].push(row as u32);
        }
    }
    let mut random = stream(seed, epoch, "rows of fractional weights");
    for rows in of_source.iter_mut().filter(|rows| !rows.is_empty()) {
        let fraction = dataset.weight(rows[0] as usize).fract();
        let extra = (fraction * rows.len() as f64).round() as usize;
        random.shuffle(rows);
        rows.iter().take(extra).for_each(|&row| times[row as usize] += 1);
    }
    let total: u64 = times.iter().map(|&n| u64::from(n)).sum();
    if u32::try_from(total).is_err() {
        return Err(Error::new(Kind::Recipe, format!("an epoch of {total} rows is too long"))
            .hint("lower the sources' weights"));
    }
    let repeated = times.iter().zip(0_u32..).flat_map(|(&n, row)| std::iter::repeat_n(row, n as usize));
    Ok(repeated.collect())
}

/// Rows in groups of `size` that are the same in every epoch, in the order of epoch `number`. What is left of them comes last.
fn grouped(mut rows: Vec<u32>, size: usize, seed: u64, number: u64) -> Vec<u32> {
    Rng::new(seed).stream(&[Label::Purpose("rows that stay together")]).shuffle(&mut rows);
    let (groups, rest) = rows.split_at(rows.len() / size * size);
    let mut order: Vec<&[u32]> = groups.chunks(size).collect();
    stream(seed, number, "order of groups").shuffle(&mut order);
    [order.concat(), rest.to_vec()].concat()
}

/// Sorts `rows` by their group, keeping their order within it, and says where each group ends.
fn group(rows: &[u32], groups: impl Iterator<Item = u32> + Clone, count: usize) -> (Vec<u32>, Vec<u32>) {
    let mut ends = vec![0_u32; count];
    groups.clone().for_each(|group| ends[group as usize] += 1);
    let mut sum = 0;
    let mut next: Vec<u32> = ends
        .iter_mut()
        .map(|end| {
            let start = sum;
            sum += *end;
            *end = sum;
            start
        })
        .collect();
    let mut grouped = vec![0; rows.len()];
    for (&row, group) in rows.iter().zip(groups) {
        let at = &mut next[group as usize];
        grouped[*at as usize] = row;
        *at += 1;
    }
    (grouped, ends)
}

#[cfg(test)]
mod tests;
