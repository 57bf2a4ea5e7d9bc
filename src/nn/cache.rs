//! Keys and values of the tokens seen so far.
//!
//! Each sequence has room for more tokens than it has in every layer, and new ones are written into it: what is there is
//! copied only when the room grows (by half), or when a sliding layer has filled the room beyond its window. A copy of a
//! sequence shares its room with the original until either of them goes on.

use crate::ops::{AttentionMask, Group, Visibility};
use burn::tensor::{DType, FloatDType, Tensor};
use std::ops::Range;

/// Tokens that a sliding layer has room for beyond its window: it moves its window to a new room once in so many.
const SLACK: usize = 128;

/// The least that room grows by, in tokens.
const LEAST_GROWTH: usize = 64;

/// What the new tokens of one sequence may look at.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `[t, g, e]`: cached keys, then new ones.
    pub keys: Tensor<3>,
    /// `[t, g, e]`.
    pub values: Tensor<3>,
    /// Which of them each new token sees.
    pub mask: AttentionMask,
}

/// The keys and values of a sequence's tokens in one layer, in order, and room for more.
#[derive(Debug, Clone)]
struct Rows {
    /// `[room, g, e]`.
    keys: Tensor<3>,
    /// `[room, g, e]`.
    values: Tensor<3>,
    /// The number of the token in the first row.
    first: usize,
    /// Rows that hold a token.
    filled: usize,
}

impl Rows {
    /// Room for so many tokens beside some, from token `first` on.
    fn empty(room: usize, first: usize, beside: &Tensor<3>) -> Self {
        let [_, g, e] = beside.dims();
        let zeros = || Tensor::zeros([room, g, e], (&beside.device(), beside.dtype()));
        Rows { keys: zeros(), values: zeros(), first, filled: 0 }
    }

    fn room(&self) -> usize {
        self.keys.dims()[0]
    }

    /// Some rows of the keys and values, where they lie.
    fn view(&self, rows: Range<usize>) -> (Tensor<3>, Tensor<3>) {
        let part = |tensor: &Tensor<3>| tensor.clone().narrow(0, rows.start, rows.len());
        (part(&self.keys), part(&self.values))
    }

    /// The same with the next tokens in it, for which there is room. Nothing is copied but these, unless the room is
    /// shared.
    fn with(self, k: Tensor<3>, v: Tensor<3>) -> Self {
        let [new, g, e] = k.dims();
        let end = self.filled + new;
        let put = |into: Tensor<3>, rows: Tensor<3>| into.slice_assign([self.filled..end, 0..g, 0..e], rows);
        Rows { keys: put(self.keys, k), values: put(self.values, v), first: self.first, filled: end }
    }

    /// The last `kept` tokens in another room.
    fn moved(self, kept: usize, room: usize) -> Self {
        let dropped = self.filled - kept;
        let rows = Rows::empty(room, self.first + dropped, &self.keys);
        if kept == 0 {
            return rows;
        }
        let (keys, values) = self.view(dropped..self.filled);
        rows.with(keys, values)
    }

    fn bytes(&self) -> u64 {
        let of = |tensor: &Tensor<3>| (tensor.shape().num_elements() * tensor.dtype().size()) as u64;
        of(&self.keys) + of(&self.values)
    }
}

/// One sequence in one layer.
#[derive(Debug, Clone)]
struct Sequence {
    rows: Option<Rows>,
    /// Tokens that it will never have more of.
    most: usize,
    /// Whether new tokens are looked at one by one.
    one_by_one: bool,
}

impl Sequence {
    fn of(rows: Option<Rows>, most: usize) -> Self {
        Sequence { rows, most, one_by_one: false }
    }
}

/// One layer's cache for several sequences. A sliding layer keeps its window, and for a while some tokens before it.
#[derive(Debug, Clone)]
pub struct LayerCache {
    reach: usize,
    width: usize,
    held: FloatDType,
    sequences: Vec<Sequence>,
}

impl LayerCache {
    /// An empty cache for `sequences` sequences of a layer whose tokens see `reach` tokens back, themselves included, and
    /// whose keys are `width` numbers: `g e`.
    pub fn new(reach: usize, width: usize, sequences: usize) -> Self {
        let sequences = vec![Sequence::of(None, usize::MAX); sequences];
        LayerCache { reach, width, held: FloatDType::F32, sequences }
    }

    /// Rows of which room is made where `kept` tokens stay and `new` ones come, and there was room for `had`.
    fn room(&self, kept: usize, new: usize, had: usize, most: usize) -> usize {
        let needed = kept + new;
        let grown = (had + had / 2).max(needed + LEAST_GROWTH);
        let window = (self.reach - 1).saturating_add(SLACK);
        grown.min(window).min(most).max(needed)
    }

    /// The most rows that a sequence of `tokens` tokens ever takes room for, where no more than `piece` come at once.
    fn most_rows(&self, tokens: usize, piece: usize) -> usize {
        (self.reach - 1).saturating_add(piece.max(SLACK)).min(tokens)
    }

    fn as_held(&self, tensor: Tensor<3>) -> Tensor<3> {
        match self.held {
            FloatDType::F32 => tensor,
            narrow => tensor.cast(narrow),
        }
    }

    /// Adds the keys and values `[new, g, e]` of a sequence's next tokens and returns what those tokens may look at. Of
    /// each of the `spans`, counted from the first of the new tokens, these see each other forwards too.
    pub fn extend(&mut self, sequence: usize, k: Tensor<3>, v: Tensor<3>, spans: &[Range<usize>]) -> Seen {
        let [new, _, _] = k.dims();
        let [k, v] = [k, v].map(|tensor| self.as_held(tensor));
        let Sequence { rows, most, one_by_one } = &mut self.sequences[sequence];
        let (rows, most, one_by_one) = (rows.take(), *most, *one_by_one);
        // A later token at distance `reach` no longer sees a key, so one key less than the window is kept.
        let kept = rows.as_ref().map_or(0, |rows| rows.filled.min(self.reach - 1));
        let rows = match rows {
            Some(rows) if rows.filled + new <= rows.room() => rows,
            Some(rows) => {
                let room = self.room(kept, new, rows.room(), most);
                rows.moved(kept, room)
            }
            None => Rows::empty(self.room(0, new, 0, most), 0, &k),
        };
        let rows = rows.with(k, v);
        let t = kept + new;
        let groups = match one_by_one {
            true => (0..new).map(|query| Group { queries: query..query + 1, keys: 0..kept + query + 1 }).collect(),
            false => vec![Group { queries: 0..new, keys: 0..t }],
        };
        let spans = spans.iter().map(|span| kept + span.start..kept + span.end).collect();
        let mask = AttentionMask::new(Visibility { groups, window: self.reach, spans });
        let (keys, values) = rows.view(rows.filled - t..rows.filled);
        let [keys, values] = [keys, values].map(|tensor| match self.held {
            FloatDType::F32 => tensor,
            _ => tensor.cast(FloatDType::F32),
        });
        self.sequences[sequence].rows = Some(rows);
        Seen { keys, values, mask }
    }

    /// Adds the keys and values `[n, g, e]` of the next tokens of several sequences, of which `lengths` says how many are
    /// each one's, in the order of the cache; gives, one after the other, what the tokens of those that have any may look
    /// at. Of each of the `spans` of rows, tokens see each other forwards too.
    pub fn extend_each<'a>(
        &'a mut self,
        k: Tensor<3>,
        v: Tensor<3>,
        lengths: &'a [usize],
        spans: &'a [Range<usize>],
    ) -> impl Iterator<Item = Seen> + 'a {
        let mut start = 0;
        lengths.iter().enumerate().filter(|(_, len)| **len > 0).map(move |(sequence, &len)| {
            let take = |t: &Tensor<3>| t.clone().narrow(0, start, len);
            let within = spans.iter().filter(|span| (start..start + len).contains(&span.start));
            let within: Vec<Range<usize>> = within.map(|span| span.start - start..span.end - start).collect();
            let seen = self.extend(sequence, take(&k), take(&v), &within);
            start += len;
            seen
        })
    }

    /// The rows of a sequence as they were after its first `tokens` tokens, if all that the next one sees is still there.
    fn cut(&self, rows: &Rows, tokens: usize) -> Option<Rows> {
        let filled = tokens.checked_sub(rows.first)?;
        let has_window = rows.first <= tokens.saturating_sub(self.reach - 1);
        (has_window && filled <= rows.filled).then(|| Rows { filled, ..rows.clone() })
    }
}

/// What the layers keep of one sequence. A clone shares their room until one of the two goes on.
#[derive(Debug, Clone)]
pub struct Past {
    layers: Vec<Option<Rows>>,
    /// Its tokens.
    pub tokens: usize,
}

impl Past {
    /// Bytes of the room that it takes.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().flatten().map(Rows::bytes).sum()
    }
}

/// The caches of all layers, and how long each sequence is.
#[derive(Debug, Clone)]
pub struct KvCache {
    /// One cache per layer.
    pub layers: Vec<LayerCache>,
    /// Tokens of each sequence that are in the cache.
    pub lengths: Vec<usize>,
}

impl KvCache {
    /// The same cache, empty, that holds its numbers in this dtype.
    ///
    /// # Numerics
    /// Keys and values are rounded once, when they come; tokens look at them as f32.
    pub fn held_in(mut self, held: FloatDType) -> Self {
        self.layers.iter_mut().for_each(|layer| layer.held = held);
        self
    }

    /// The positions of the next tokens, of which `lengths` says how many are each sequence's.
    pub fn next_positions(&self, lengths: &[usize]) -> Vec<usize> {
        self.lengths.iter().zip(lengths).flat_map(|(&seen, &new)| seen..seen + new).collect()
    }

    /// Says that so many more tokens of each sequence are in the layers' caches.
    pub fn advance(&mut self, lengths: &[usize]) {
        for (seen, new) in self.lengths.iter_mut().zip(lengths) {
            *seen += new;
        }
    }

    /// A sequence of which nothing is known.
    pub fn nothing(&self) -> Past {
        Past { layers: vec![None; self.layers.len()], tokens: 0 }
    }

    /// Puts a sequence, which will have no more than `most` tokens, before the one that is now at `at`.
    pub fn insert(&mut self, at: usize, past: Past, most: usize) {
        for (layer, rows) in self.layers.iter_mut().zip(past.layers) {
            layer.sequences.insert(at, Sequence::of(rows, most));
        }
        self.lengths.insert(at, past.tokens);
    }

    /// Takes a sequence out; the others stay in order.
    pub fn remove(&mut self, at: usize) -> Past {
        let layers = self.layers.iter_mut().map(|layer| layer.sequences.remove(at).rows).collect();
        Past { layers, tokens: self.lengths.remove(at) }
    }

    /// A copy of a sequence, which shares its room until one of them goes on.
    pub fn past(&self, at: usize) -> Past {
        let layers = self.layers.iter().map(|layer| layer.sequences[at].rows.clone()).collect();
        Past { layers, tokens: self.lengths[at] }
    }

    /// A sequence as it was after its first `tokens` tokens; `None` where a sliding layer no longer has what the next one
    /// would see.
    pub fn cut(&self, past: &Past, tokens: usize) -> Option<Past> {
        if tokens == 0 || tokens == past.tokens {
            return Some(if tokens == 0 { self.nothing() } else { past.clone() });
        }
        let cut = |(layer, rows): (&LayerCache, &Option<Rows>)| layer.cut(rows.as_ref()?, tokens).map(Some);
        let layers = self.layers.iter().zip(&past.layers).map(cut).collect::<Option<Vec<_>>>()?;
        Some(Past { layers, tokens })
    }

    /// Forgets the last tokens of a sequence, all of which came with the last ones that it was given.
    pub fn take_back(&mut self, at: usize, tokens: usize) {
        for rows in self.layers.iter_mut().filter_map(|layer| layer.sequences[at].rows.as_mut()) {
            rows.filled -= tokens;
        }
        self.lengths[at] -= tokens;
    }

    /// Says whether the new tokens of a sequence are looked at as if each came alone: what they see is the same, and it is
    /// summed as it would be then.
    pub fn look_one_by_one(&mut self, at: usize, one_by_one: bool) {
        self.layers.iter_mut().for_each(|layer| layer.sequences[at].one_by_one = one_by_one);
    }

    /// The most bytes that a sequence of `tokens` tokens takes, where no more than `piece` of them come at once; while the room
    /// of a layer grows, that layer's twice.
    pub fn bytes_of(&self, tokens: usize, piece: usize) -> u64 {
        let of = |layer: &LayerCache| {
            let row = 2 * layer.width * DType::from(layer.held).size();
            (layer.most_rows(tokens, piece) as u64).saturating_mul(row as u64)
        };
        self.layers.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Bytes of the room that a sequence takes.
    pub fn bytes_at(&self, at: usize) -> u64 {
        self.layers.iter().filter_map(|layer| layer.sequences[at].rows.as_ref()).map(Rows::bytes).sum()
    }
}

#[cfg(test)]
mod tests;
