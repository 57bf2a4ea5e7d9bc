//! Rows put together for one pass through the model.

use super::dataset::Dataset;
use crate::error::{Error, Kind, Result};
use crate::text::{IGNORE_INDEX, MediaRange};
use std::ops::Range;

/// The rows of one or several bins, one after the other, without padding. Each row is a segment: it has positions of
/// its own and sees only itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PackedBatch {
    /// Token ids of all rows.
    pub input_ids: Vec<u32>,
    /// Aligned with `input_ids`: the id that is to be predicted here from the tokens before it, or -100. The first of
    /// each segment is -100, so that shifting by one never makes a row predict its neighbour.
    pub labels: Vec<i32>,
    /// Which row of the data set each segment is.
    pub rows: Vec<u32>,
    /// Tokens of each segment, without those that it shares.
    pub lengths: Vec<usize>,
    /// How many tokens each segment begins with that are those of the last one before it that shares none; empty: none does.
    pub shared: Vec<usize>,
    /// Where media stand among the tokens of all rows, in order.
    pub media: Vec<MediaRange>,
    /// Whether the answer of each segment is a good one, where rows say so.
    pub desirable: Vec<bool>,
    /// By how much the first answer of each pair is better; 0 where its row does not say so.
    pub margins: Vec<f64>,
}

impl PackedBatch {
    /// Number of positions with a loss.
    pub fn supervised(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE_INDEX).count()
    }

    /// The same with what both segments of each pair begin with once: their prompt. Nothing of what they show is cut through, and
    /// each keeps a token of its own.
    pub fn sharing(self) -> PackedBatch {
        let (mut ids, mut labels, mut media) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lengths, mut shared) = (Vec::new(), Vec::new());
        let mut start = 0;
        for pair in self.lengths.chunks(2) {
            let ranges: Vec<Range<usize>> = pair
                .iter()
                .map(|length| {
                    start += length;
                    start - length..start
                })
                .collect();
            let same = if let [first, second] = &ranges[..] { self.same(first, second) } else { 0 };
            for (range, same) in ranges.into_iter().zip([0, same]) {
                let own = range.start + same..range.end;
                let (from, to) = (own.start, ids.len());
                let within = self.media.iter().filter(|medium| own.contains(&medium.tokens.start));
                media.extend(within.map(|medium| MediaRange {
                    tokens: medium.tokens.start - from + to..medium.tokens.end - from + to,
                    ..medium.clone()
                }));
                ids.extend_from_slice(&self.input_ids[own.clone()]);
                labels.extend_from_slice(&self.labels[own.clone()]);
                lengths.push(own.len());
                shared.push(same);
            }
        }
        PackedBatch { input_ids: ids, labels, media, lengths, shared, ..self }
    }

    /// How many tokens two segments begin with that are the same and learnt alike, as far as both show the same.
    fn same(&self, first: &Range<usize>, second: &Range<usize>) -> usize {
        let most = first.len().min(second.len()).saturating_sub(1);
        let is_same = |at: &usize| {
            let [one, other] = [first.start + at, second.start + at];
            self.input_ids[one] == self.input_ids[other] && self.labels[one] == self.labels[other]
        };
        let same = (0..most).take_while(is_same).count();
        let shown = |range: &Range<usize>| {
            let start = range.start;
            let within = self.media.iter().filter(|medium| range.contains(&medium.tokens.start));
            let relative = |medium: &MediaRange| {
                (medium.tokens.start - start, medium.tokens.end - start, medium.kind, medium.content)
            };
            within.map(relative).collect::<Vec<_>>()
        };
        let [one, other] = [shown(first), shown(second)];
        let alike = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        let next = one.get(alike).into_iter().chain(other.get(alike)).map(|medium| medium.0);
        let cut = one[..alike].iter().filter(|medium| medium.0 < same && same < medium.1).map(|medium| medium.0);
        next.chain(cut).fold(same, usize::min)
    }

    /// The prompt of each segment with the answer of the one before it, that of the first with the answer of the last, of each at
    /// most `max_length` tokens. A prompt is all before the first token with a loss.
    pub fn mismatched(&self, max_length: usize) -> PackedBatch {
        let ranges: Vec<Range<usize>> = self
            .lengths
            .iter()
            .scan(0, |end, length| {
                *end += length;
                Some(*end - length..*end)
            })
            .collect();
        let answer =
            |range: &Range<usize>| range.clone().find(|&at| self.labels[at] != IGNORE_INDEX).unwrap_or(range.end);
        let mut batch = PackedBatch { rows: self.rows.clone(), ..PackedBatch::default() };
        let before = ranges.last().into_iter().chain(&ranges);
        for (own, other) in ranges.iter().zip(before) {
            let (start, prompt, said) = (batch.input_ids.len(), own.start..answer(own), answer(other)..other.end);
            let most = start + max_length;
            let media_in = |range: &Range<usize>, to: usize| {
                let within =
                    |medium: &&MediaRange| range.start <= medium.tokens.start && medium.tokens.end <= range.end;
                let moved = |medium: &MediaRange| MediaRange {
                    tokens: medium.tokens.start - range.start + to..medium.tokens.end - range.start + to,
                    ..medium.clone()
                };
                self.media.iter().filter(within).map(moved).collect::<Vec<_>>()
            };
            let media = [media_in(&prompt, start), media_in(&said, start + prompt.len())].concat();
            // What does not fit ends the sequence before it.
            let cut = media
                .iter()
                .find(|medium| medium.tokens.end > most)
                .map_or(most, |medium| medium.tokens.start.min(most));
            batch.input_ids.extend(prompt.clone().chain(said.clone()).map(|at| self.input_ids[at]));
            batch.labels.extend(std::iter::repeat_n(IGNORE_INDEX, prompt.len()).chain(said.map(|at| self.labels[at])));
            batch.input_ids.truncate(cut);
            batch.labels.truncate(cut);
            batch.media.extend(media.into_iter().filter(|medium| medium.tokens.end <= cut));
            batch.lengths.push(batch.input_ids.len() - start);
        }
        batch
    }
}

/// Puts the rows of `bins` together.
///
/// # Errors
/// When a row cannot be read.
pub fn collate(dataset: &Dataset, bins: &[&[u32]]) -> Result<PackedBatch> {
    let rows = || bins.iter().flat_map(|bin| bin.iter().copied());
    let length_of = |row: u32| dataset.lengths().get(row as usize).map_or(0, |&length| length as usize);
    let tokens = rows().map(length_of).sum();
    let mut batch = PackedBatch {
        input_ids: Vec::with_capacity(tokens),
        labels: Vec::with_capacity(tokens),
        ..PackedBatch::default()
    };
    for row in rows() {
        let tokenized = dataset.get(row as usize)?;
        let start = batch.input_ids.len();
        batch.media.extend(tokenized.media.into_iter().map(|medium| medium.moved(start)));
        batch.input_ids.extend(tokenized.input_ids);
        batch.labels.extend(tokenized.labels);
        match batch.labels.get_mut(start) {
            Some(first) => *first = IGNORE_INDEX,
            None => return Err(Error::new(Kind::Data, format!("{} has no tokens", dataset.origin(row as usize)?))),
        }
        // A row that is a pair is two segments.
        let (all, second) = (batch.input_ids.len() - start, tokenized.second.unwrap_or(0));
        for length in [second, all - second].into_iter().filter(|&length| length > 0) {
            batch.lengths.push(length);
            batch.rows.push(row);
            batch.desirable.extend(tokenized.desirable);
        }
        batch.margins.extend(tokenized.second.map(|_| f64::from(tokenized.margin.unwrap_or(0.0))));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bytes, spec, write};
    use super::super::{RowFormat, local_only, prepare};
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn rows_are_concatenated_and_their_first_labels_never_count() {
        let dir = tempfile::tempdir().unwrap();
        let lines =
            "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [4, 5], \"labels\": [9, 5]}\n{\"input_ids\": [6, 7]}\n";
        let path = write(dir.path(), "a.jsonl", lines);
        let dataset = prepare(&spec(&path, RowFormat::Tokens), &Bytes, dir.path(), &local_only, &Silent).unwrap();
        let batch = collate(&dataset, &[&[2], &[0, 1]]).unwrap();
        assert_eq!(
            batch,
            PackedBatch {
                input_ids: vec![6, 7, 1, 2, 3, 4, 5],
                labels: vec![-100, 7, -100, 2, 3, -100, 5],
                rows: vec![2, 0, 1],
                lengths: vec![2, 3, 2],
                shared: vec![],
                media: vec![],
                desirable: vec![],
                margins: vec![],
            }
        );
        assert_eq!(batch.supervised(), 4);
        assert!(collate(&dataset, &[&[3]]).is_err());
    }

    #[test]
    fn prompts_meet_the_answers_of_their_neighbours() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"prompt\": \"ab\", \"completion\": \"x\", \"label\": true}\n\
                     {\"prompt\": \"c\", \"completion\": \"yyy\", \"label\": false}\n\
                     {\"prompt\": \"d\", \"completion\": \"z\", \"label\": true}\n";
        let path = write(dir.path(), "a.jsonl", lines);
        let dataset = prepare(&spec(&path, RowFormat::Unpaired), &Bytes, dir.path(), &local_only, &Silent).unwrap();
        let batch = collate(&dataset, &[&[0], &[1], &[2]]).unwrap();
        assert_eq!(batch.desirable, [true, false, true]);
        let (bos, stop) = (Bytes::BOS, Bytes::STOP);
        let others = batch.mismatched(64);
        let [a, b, c, d, x, y, z] = b"abcdxyz".map(u32::from);
        let ids = [vec![bos, a, b, z, stop], vec![bos, c, x, stop], vec![bos, d, y, y, y, stop]];
        assert_eq!(others.input_ids, ids.concat());
        assert_eq!((others.lengths.as_slice(), others.rows.as_slice()), (&[5, 4, 6][..], &[0, 1, 2][..]));
        assert_eq!(others.labels[..5], [-100, -100, -100, z as i32, stop as i32]);
        let cut = batch.mismatched(5);
        assert_eq!((cut.lengths.as_slice(), cut.input_ids.len(), cut.labels.len()), (&[5, 4, 5][..], 14, 14));
        // One row alone has nobody else's answer.
        let alone = collate(&dataset, &[&[1]]).unwrap();
        assert_eq!(alone.mismatched(64).input_ids, alone.input_ids);
        assert_eq!((dataset.judged().unwrap(), dataset.longest_sequence()), ([2, 1], 6));
        let (one, other) = dataset.split(0.4, 1).unwrap();
        for part in [one, other] {
            let rows = (0..part.len()).map(|row| part.get(row).unwrap().desirable).collect::<Vec<_>>();
            let expected = [true, false].map(|good| rows.iter().filter(|&&row| row == Some(good)).count() as u64);
            assert_eq!(part.judged().unwrap(), expected, "what it has itself, of {rows:?}");
        }
    }

    #[test]
    fn what_a_pair_begins_with_is_there_once() {
        let medium =
            |tokens, content| MediaRange { tokens, kind: crate::text::MediaKind::Image, content: [content; 32] };
        let batch = PackedBatch {
            input_ids: vec![2, 9, 9, 5, 6, 7, 2, 9, 9, 5, 8, 3, 4, 3, 4, 4],
            labels: vec![-100, -100, -100, -100, 6, 7, -100, -100, -100, -100, 8, -100, 4, -100, 4, 4],
            rows: vec![0, 0, 1, 1],
            lengths: vec![6, 5, 2, 3],
            media: vec![medium(1..3, 1), medium(7..9, 1)],
            ..PackedBatch::default()
        };
        let sharing = batch.clone().sharing();
        assert_eq!(sharing.input_ids, [2, 9, 9, 5, 6, 7, 8, 3, 4, 4, 4]);
        assert_eq!(sharing.labels, [-100, -100, -100, -100, 6, 7, 8, -100, 4, 4, 4]);
        assert_eq!((sharing.lengths.as_slice(), sharing.shared.as_slice()), (&[6, 1, 2, 2][..], &[0, 4, 0, 1][..]));
        assert_eq!((sharing.media, sharing.rows), (vec![medium(1..3, 1)], vec![0, 0, 1, 1]));
        // Another picture in the same place is not the same.
        let other = PackedBatch { media: vec![medium(1..3, 1), medium(7..9, 2)], ..batch.clone() }.sharing();
        assert_eq!((other.shared, other.media[1].tokens.clone()), (vec![0, 1, 0, 1], 6..8));
        // What is learnt of one alone is no common beginning.
        let mut labels = batch.labels.clone();
        labels[3] = 5;
        assert_eq!(PackedBatch { labels, ..batch }.sharing().shared, [0, 3, 0, 1]);
    }

    #[test]
    fn media_of_a_prompt_go_with_it() {
        let medium = |tokens| MediaRange { tokens, kind: crate::text::MediaKind::Image, content: [1; 32] };
        let batch = PackedBatch {
            input_ids: vec![2, 9, 9, 5, 6, 2, 9, 9, 9, 7],
            labels: vec![-100, -100, -100, 5, 6, -100, -100, -100, -100, 7],
            rows: vec![0, 1],
            lengths: vec![5, 5],
            shared: vec![],
            media: vec![medium(1..3), medium(6..9)],
            desirable: vec![true, false],
            margins: vec![],
        };
        let others = batch.mismatched(9);
        assert_eq!(others.input_ids, [2, 9, 9, 7, 2, 9, 9, 9, 5, 6]);
        assert_eq!(others.media.iter().map(|medium| medium.tokens.clone()).collect::<Vec<_>>(), [1..3, 5..8]);
    }

    #[test]
    fn media_move_with_their_rows() {
        let dir = tempfile::tempdir().unwrap();
        let lines =
            "{\"input_ids\": [1, 258, 258, 3]}\n{\"input_ids\": [4, 258, 5, 258, 258]}\n{\"input_ids\": [6, 7]}\n";
        let path = write(dir.path(), "a.jsonl", lines);
        let dataset = prepare(&spec(&path, RowFormat::Tokens), &Bytes, dir.path(), &local_only, &Silent).unwrap();
        let batch = collate(&dataset, &[&[2, 1], &[0]]).unwrap();
        let media: Vec<_> = batch.media.iter().map(|medium| (medium.tokens.clone(), medium.content[0])).collect();
        assert_eq!(media, [(3..4, 1), (5..7, 2), (8..10, 2)]);
        assert!(media.iter().all(|(tokens, _)| batch.input_ids[tokens.clone()].iter().all(|&id| id == Bytes::PICTURE)));
        assert!(batch.labels[3] == IGNORE_INDEX && batch.labels[8..10] == [IGNORE_INDEX; 2], "never learnt");
    }
}
