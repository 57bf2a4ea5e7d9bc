//! Rows put together for one pass through the model.

use super::dataset::Dataset;
use crate::error::{Error, Kind, Result};
use crate::text::{IGNORE_INDEX, MediaRange};

/// The rows of one or several bins, one after the other, without padding. Each row is a segment: it has positions of
/// its own and sees only itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedBatch {
    /// Token ids of all rows.
    pub input_ids: Vec<u32>,
    /// Aligned with `input_ids`: the id that is to be predicted here from the tokens before it, or -100. The first of
    /// each segment is -100, so that shifting by one never makes a row predict its neighbour.
    pub labels: Vec<i32>,
    /// Which row of the data set each segment is.
    pub rows: Vec<u32>,
    /// Tokens of each segment.
    pub lengths: Vec<usize>,
    /// Where media stand among the tokens of all rows, in order.
    pub media: Vec<MediaRange>,
}

impl PackedBatch {
    /// Number of positions with a loss.
    pub fn supervised(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE_INDEX).count()
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
        rows: Vec::new(),
        lengths: Vec::new(),
        media: Vec::new(),
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
        }
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
                media: vec![],
            }
        );
        assert_eq!(batch.supervised(), 4);
        assert!(collate(&dataset, &[&[3]]).is_err());
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
