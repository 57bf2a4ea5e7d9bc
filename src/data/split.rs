//! A text that is longer than a row may be, as several rows.

use crate::text::{IGNORE_INDEX, Tokenized};
use std::iter;

/// Cuts `tokens` into rows of at most `max_length` (at least 2), in order.
///
/// Each row after the first begins with the text's own `<bos>`, without which Gemma does badly, or where the text has
/// none with the last token of the row before. Neither is learnt again: every token of the text is learnt once.
/// They are made one after the other: a book's are many.
pub(super) fn pieces(tokens: Tokenized, max_length: usize, bos: Option<u32>) -> impl Iterator<Item = Tokenized> {
    let own_bos = tokens.input_ids.first().copied().filter(|first| Some(*first) == bos);
    let (mut tokens, mut start) = (Some(tokens), 0);
    iter::from_fn(move || {
        let whole = tokens.take_if(|tokens| tokens.input_ids.len() <= max_length);
        let Some(Tokenized { input_ids, labels, truncated }) = &tokens else { return whole };
        let (first, end) = match start {
            0 => (None, max_length),
            _ => (Some(own_bos.unwrap_or(input_ids[start - 1])), start + max_length.max(2) - 1),
        };
        let end = end.min(input_ids.len());
        if start == end {
            return None;
        }
        let row = Tokenized {
            input_ids: first.into_iter().chain(input_ids[start..end].iter().copied()).collect(),
            labels: first.map(|_| IGNORE_INDEX).into_iter().chain(labels[start..end].iter().copied()).collect(),
            truncated: *truncated,
        };
        start = end;
        Some(row)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(ids: impl IntoIterator<Item = u32>) -> Tokenized {
        let input_ids: Vec<u32> = ids.into_iter().collect();
        let labels = input_ids.iter().map(|&id| id as i32).collect();
        Tokenized { input_ids, labels, truncated: false }
    }

    #[test]
    fn rows_go_on_where_the_one_before_ended() {
        let rows: Vec<_> = pieces(text([2, 10, 11, 12, 13, 14]), 3, Some(2)).collect();
        assert_eq!(
            rows.iter().map(|row| row.input_ids.as_slice()).collect::<Vec<_>>(),
            [&[2, 10, 11][..], &[2, 12, 13], &[2, 14]]
        );
        assert_eq!(rows[1].labels, [-100, 12, 13]);
        let rows: Vec<_> = pieces(text([10, 11, 12, 13]), 2, Some(2)).collect();
        assert_eq!(rows.iter().map(|row| row.input_ids.as_slice()).collect::<Vec<_>>(), [[10, 11], [11, 12], [12, 13]]);
    }

    proptest! {
        #[test]
        fn every_token_is_learnt_once(length in 2..200_u32, max_length in 2..40_usize, with_bos in any::<bool>()) {
            let ids: Vec<u32> = (0..length).map(|i| if i == 0 && with_bos { 2 } else { 10 + i }).collect();
            let rows: Vec<_> = pieces(text(ids.clone()), max_length, Some(2)).collect();
            prop_assert!(rows.iter().all(|row| row.input_ids.len() <= max_length && row.labels.len() == row.input_ids.len()));
            // The first token of a row is predicted by nothing.
            let learnt: Vec<i32> = rows.iter().flat_map(|row| row.labels[1..].to_vec()).collect();
            prop_assert_eq!(learnt, ids[1..].iter().map(|&id| id as i32).collect::<Vec<_>>());
        }
    }
}
