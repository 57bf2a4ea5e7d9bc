//! What a forward pass begins with.

use crate::nn::Segments;
use burn::tensor::{Device, Tensor};
use std::borrow::Cow;
use std::ops::Range;

/// The tokens of a batch and how they lie in sequences.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `[n]`; of the rows of soft tokens, the ids of their placeholders.
    pub input_ids: Vec<u32>,
    /// Which rows form a sequence.
    pub segments: Segments,
    /// The rows that are no words, in ascending order; none in text.
    pub soft_tokens: Vec<SoftTokens>,
}

/// Rows of a batch whose embeddings do not come from the table.
#[derive(Debug, Clone)]
pub struct SoftTokens {
    /// The rows, all within one segment.
    pub rows: Range<usize>,
    /// What they show.
    pub modality: Modality,
    /// What they are made of: one row for each of `rows`, or of a sound that is short fewer, and padding for the others.
    pub features: Features,
}

/// What soft tokens are made of.
#[derive(Debug, Clone)]
pub enum Features {
    /// What the tower of the modality gives, `[p, w]`; of the model's own width where nothing makes rows of that width.
    Encoded(Tensor<2>),
    /// The prepared picture, `[channels, height, width]`, or sound, `[1, frames, bins]`, which the tower has yet to look at:
    /// where the tower is trained.
    Prepared {
        /// What the tower takes.
        values: Tensor<3>,
        /// Of a sound, the frames that begin within it.
        valid: usize,
    },
}

/// What soft tokens show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// A picture, whose tokens see each other in both directions where the model says so.
    Image,
    /// A sound.
    Audio,
}

impl SoftTokens {
    /// The same, so many rows further on.
    pub fn moved(self, by: usize) -> Self {
        SoftTokens { rows: self.rows.start + by..self.rows.end + by, ..self }
    }

    /// The same on a device; nothing is copied where it is there.
    fn to_device(&self, device: &Device) -> Self {
        let features = match self.features.clone() {
            Features::Encoded(rows) => Features::Encoded(rows.to_device(device)),
            Features::Prepared { values, valid } => Features::Prepared { values: values.to_device(device), valid },
        };
        SoftTokens { features, rows: self.rows.clone(), modality: self.modality }
    }
}

impl Inputs {
    /// One sequence of text.
    pub fn of(input_ids: Vec<u32>) -> Self {
        let segments = Segments::from_lengths([input_ids.len()]);
        Inputs::text(input_ids, segments)
    }

    /// Text alone.
    pub fn text(input_ids: Vec<u32>, segments: Segments) -> Self {
        Inputs { input_ids, segments, soft_tokens: Vec::new() }
    }

    /// The same with what is a tensor on a device; no tensor is copied where it is there.
    pub fn to_device(&self, device: &Device) -> Self {
        let soft_tokens = self.soft_tokens.iter().map(|soft| soft.to_device(device)).collect();
        Inputs { input_ids: self.input_ids.clone(), segments: self.segments.clone(), soft_tokens }
    }

    /// Keeps the first `most` tokens, or those before the soft tokens that this would cut through. Returns how many are
    /// left.
    pub fn truncate(&mut self, most: usize) -> usize {
        let cut = self.soft_tokens.iter().find(|soft| soft.rows.start < most && most < soft.rows.end);
        let tokens = cut.map_or(most, |soft| soft.rows.start).min(self.input_ids.len());
        self.input_ids.truncate(tokens);
        self.segments = self.segments.truncated(tokens);
        self.soft_tokens.retain(|soft| soft.rows.end <= tokens);
        tokens
    }

    /// This sequence followed by each of `answers` in turn, as so many sequences: what they begin with is there once, with all that
    /// it shows.
    pub fn answered<'a>(&self, answers: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let prompt = self.input_ids.len();
        let mut inputs = self.clone();
        let lengths = answers.into_iter().enumerate().map(|(at, answer)| {
            inputs.input_ids.extend_from_slice(answer);
            if at == 0 { (prompt + answer.len(), 0) } else { (answer.len(), prompt) }
        });
        let segments = Segments::sharing(lengths);
        Inputs { segments, ..inputs }
    }

    /// Sequences one after the other, each of the parts a sequence or several.
    pub fn joined(parts: impl IntoIterator<Item = Inputs>) -> Self {
        let (mut input_ids, mut lengths, mut soft_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            let start = input_ids.len();
            soft_tokens.extend(part.soft_tokens.into_iter().map(|soft| soft.moved(start)));
            lengths.extend(part.segments.lengths());
            input_ids.extend(part.input_ids);
        }
        Inputs { input_ids, segments: Segments::sharing(lengths), soft_tokens }
    }

    /// Where a piece of about `most` rows from `start` on ends: it cuts through no soft tokens.
    pub fn piece_end(&self, start: usize, most: usize) -> usize {
        let end = (start + most).min(self.input_ids.len());
        let cut = self.soft_tokens.iter().find(|soft| soft.rows.start < end && end < soft.rows.end);
        cut.map_or(end, |soft| soft.rows.end)
    }

    /// Some of its rows as one sequence, with the soft tokens that are wholly among them.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let within = self.soft_tokens.iter().filter(|soft| rows.start <= soft.rows.start && soft.rows.end <= rows.end);
        let back = |soft: &SoftTokens| SoftTokens {
            rows: soft.rows.start - rows.start..soft.rows.end - rows.start,
            ..soft.clone()
        };
        Inputs {
            input_ids: self.input_ids[rows.clone()].to_vec(),
            segments: Segments::from_lengths([rows.len()]),
            soft_tokens: within.map(back).collect(),
        }
    }

    /// The embedded rows with those of soft tokens replaced by what `rows_of` makes of their features.
    ///
    /// # Shapes
    /// - `embedded`, output: `[n, d]`
    pub fn with_soft_tokens(&self, embedded: Tensor<2>, rows_of: impl Fn(&SoftTokens) -> Tensor<2>) -> Tensor<2> {
        let pieces = self.soft_tokens.iter().map(|soft| Piece { rows: soft.rows.clone(), embedded: rows_of(soft) });
        with_pieces(embedded, pieces.collect())
    }

    /// The ids with those of soft tokens replaced by 0: a placeholder may lie beyond the vocabulary.
    pub fn words(&self) -> Cow<'_, [u32]> {
        let mut words = Cow::Borrowed(self.input_ids.as_slice());
        for soft in &self.soft_tokens {
            words.to_mut()[soft.rows.clone()].fill(0);
        }
        words
    }

    /// The rows of each picture.
    pub fn images(&self) -> Vec<Range<usize>> {
        let images = self.soft_tokens.iter().filter(|soft| soft.modality == Modality::Image);
        images.map(|soft| soft.rows.clone()).collect()
    }
}

/// Rows of a batch that are embedded in another way than by the table of words.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Which.
    pub rows: Range<usize>,
    /// What they are, a row for each.
    pub embedded: Tensor<2>,
}

/// The embedded rows with those of `pieces`, which are in ascending order and do not overlap, in their places.
///
/// # Shapes
/// - `embedded`, output: `[n, d]`
pub fn with_pieces(embedded: Tensor<2>, pieces: Vec<Piece>) -> Tensor<2> {
    if pieces.is_empty() {
        return embedded;
    }
    let [n, _] = embedded.dims();
    let (mut parts, mut done) = (Vec::new(), 0);
    let words = |rows: Range<usize>| embedded.clone().narrow(0, rows.start, rows.len());
    for Piece { rows, embedded } in pieces {
        parts.extend((done < rows.start).then(|| words(done..rows.start)));
        parts.push(embedded);
        done = rows.end;
    }
    parts.extend((done < n).then(|| words(done..n)));
    Tensor::cat(parts, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Sequences of these lengths with pictures in these rows.
    fn inputs(lengths: &[usize], pictures: &[Range<usize>]) -> Inputs {
        let picture = |rows: &Range<usize>| SoftTokens {
            rows: rows.clone(),
            modality: Modality::Image,
            features: Features::Encoded(Tensor::zeros([rows.len(), 2], &Device::flex())),
        };
        Inputs {
            input_ids: (0..lengths.iter().sum::<usize>() as u32).collect(),
            segments: Segments::from_lengths(lengths.iter().copied()),
            soft_tokens: pictures.iter().map(picture).collect(),
        }
    }

    #[test]
    fn no_cut_goes_through_a_picture() {
        for (most, left, pictures) in [(20, 14, 2), (14, 14, 2), (13, 9, 1), (9, 9, 1), (6, 6, 1), (5, 2, 0), (0, 0, 0)]
        {
            let mut cut = inputs(&[8, 6], &[2..6, 9..14]);
            assert_eq!(cut.truncate(most), left, "{most}");
            assert_eq!((cut.input_ids.len(), cut.segments.tokens(), cut.soft_tokens.len()), (left, left, pictures));
        }
        let whole = inputs(&[14], &[2..6, 9..13]);
        let ends: Vec<usize> = [(0, 2), (0, 3), (0, 6), (6, 3), (6, 4), (13, 5)]
            .map(|(start, most)| whole.piece_end(start, most))
            .to_vec();
        assert_eq!(ends, [2, 6, 6, 9, 13, 14]);
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init)] // a list of pictures
    fn pictures_move_with_their_rows() {
        let whole = inputs(&[8], &[2..6]);
        let joined = Inputs::joined([inputs(&[3], &[]), whole.clone(), whole.slice(1..7), whole.slice(3..8)]);
        assert_eq!(joined.images(), [5..9, 12..16], "of a picture that is cut nothing is left");
        assert_eq!(joined.segments.ranges(), [0..3, 3..11, 11..17, 17..22]);
        assert_eq!(joined.input_ids[11..17], [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init)] // a list of pictures
    fn answers_to_a_prompt_have_it_and_its_pictures_once() {
        let prompt = inputs(&[5], &[1..4]);
        let group = prompt.answered([&[7, 8][..], &[9], &[7, 7, 7]]);
        assert_eq!(group.input_ids, [0, 1, 2, 3, 4, 7, 8, 9, 7, 7, 7]);
        assert_eq!(group.segments, Segments::sharing([(7, 0), (1, 5), (3, 5)]));
        assert_eq!(group.images(), [1..4]);
        // What is joined shares what its parts share.
        let joined = Inputs::joined([inputs(&[2], &[]), group.clone(), prompt.answered([&[6][..]]), group]);
        let lengths = [(2, 0), (7, 0), (1, 5), (3, 5), (6, 0), (7, 0), (1, 5), (3, 5)];
        assert_eq!(joined.segments, Segments::sharing(lengths));
        assert_eq!(joined.images(), [3..6, 14..17, 20..23]);
    }
}
