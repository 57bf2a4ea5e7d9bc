//! A text that is longer than a row may be, as several rows.

use crate::text::{IGNORE_INDEX, Tokenized};

/// Cuts the tokens of a text into rows of at most `max_length` (at least 2), in order and one after the other: a book's
/// are many.
///
/// Each row after the first begins with the text's own `<bos>`, without which Gemma does badly, or where the text has
/// none with the last token of the row before. Neither is learnt again: every token of the text is learnt once.
pub(super) struct Pieces<'a> {
    max_length: usize,
    bos: Option<u32>,
    /// What begins the next row.
    first: u32,
    row: Tokenized,
    length: usize,
    each: &'a mut dyn FnMut(Tokenized),
}

impl<'a> Pieces<'a> {
    /// Hands the rows of a text that is yet to come to `each`.
    pub fn new(max_length: usize, bos: Option<u32>, each: &'a mut dyn FnMut(Tokenized)) -> Self {
        Pieces { max_length: max_length.max(2), bos, first: 0, row: Tokenized::default(), length: 0, each }
    }

    /// Takes the text's next token.
    pub fn push(&mut self, id: u32, label: i32) {
        if self.row.input_ids.len() == self.max_length {
            (self.each)(std::mem::take(&mut self.row));
            self.row.input_ids.push(self.first);
            self.row.labels.push(IGNORE_INDEX);
        }
        self.row.input_ids.push(id);
        self.row.labels.push(label);
        match self.length {
            0 => self.first = id,
            _ if Some(self.first) != self.bos => self.first = id,
            _ => {}
        }
        self.length += 1;
    }

    /// Takes these tokens.
    pub fn extend(&mut self, tokens: &Tokenized) {
        tokens.input_ids.iter().zip(&tokens.labels).for_each(|(&id, &label)| self.push(id, label));
    }

    /// Hands on the last row, and says how many tokens came.
    pub fn finish(self) -> usize {
        if self.length > 0 {
            (self.each)(self.row);
        }
        self.length
    }
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

    fn pieces(text: Tokenized, max_length: usize, bos: Option<u32>) -> Vec<Tokenized> {
        let mut rows = Vec::new();
        let mut each = |row| rows.push(row);
        let mut pieces = Pieces::new(max_length, bos, &mut each);
        pieces.extend(&text);
        assert_eq!(pieces.finish(), text.input_ids.len());
        rows
    }

    #[test]
    fn rows_go_on_where_the_one_before_ended() {
        let rows = pieces(text([2, 10, 11, 12, 13, 14]), 3, Some(2));
        assert_eq!(
            rows.iter().map(|row| row.input_ids.as_slice()).collect::<Vec<_>>(),
            [&[2, 10, 11][..], &[2, 12, 13], &[2, 14]]
        );
        assert_eq!(rows[1].labels, [-100, 12, 13]);
        let rows = pieces(text([10, 11, 12, 13]), 2, Some(2));
        assert_eq!(rows.iter().map(|row| row.input_ids.as_slice()).collect::<Vec<_>>(), [[10, 11], [11, 12], [12, 13]]);
    }

    proptest! {
        #[test]
        fn every_token_is_learnt_once(length in 2..200_u32, max_length in 2..40_usize, with_bos in any::<bool>()) {
            let ids: Vec<u32> = (0..length).map(|i| if i == 0 && with_bos { 2 } else { 10 + i }).collect();
            let rows = pieces(text(ids.clone()), max_length, Some(2));
            prop_assert!(rows.iter().all(|row| row.input_ids.len() <= max_length && row.labels.len() == row.input_ids.len()));
            // The first token of a row is predicted by nothing.
            let learnt: Vec<i32> = rows.iter().flat_map(|row| row.labels[1..].to_vec()).collect();
            prop_assert_eq!(learnt, ids[1..].iter().map(|&id| id as i32).collect::<Vec<_>>());
        }
    }
}
