//! Keys and values of the tokens seen so far.

use crate::ops::{AttentionMask, Group, Visibility};
use burn::tensor::Tensor;
use std::ops::Range;

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

/// One layer's cache for several sequences. A sliding layer keeps only its window.
#[derive(Debug, Clone)]
pub struct LayerCache {
    reach: usize,
    sequences: Vec<Option<(Tensor<3>, Tensor<3>)>>,
}

impl LayerCache {
    /// An empty cache for `sequences` sequences of a layer whose tokens see `reach` tokens back, themselves included.
    pub fn new(reach: usize, sequences: usize) -> Self {
        LayerCache { reach, sequences: vec![None; sequences] }
    }

    /// Adds the keys and values `[new, g, e]` of a sequence's next tokens and returns what those tokens may look at. Of
    /// each of the `spans`, counted from the first of the new tokens, these see each other forwards too.
    pub fn extend(&mut self, sequence: usize, k: Tensor<3>, v: Tensor<3>, spans: &[Range<usize>]) -> Seen {
        let [new, _, _] = k.dims();
        let (keys, values) = match self.sequences[sequence].take() {
            None => (k, v),
            Some((old_k, old_v)) => (Tensor::cat(vec![old_k, k], 0), Tensor::cat(vec![old_v, v], 0)),
        };
        let [t, _, _] = keys.dims();
        let group = Group { queries: 0..new, keys: 0..t };
        let spans = spans.iter().map(|span| t - new + span.start..t - new + span.end).collect();
        let mask = AttentionMask::new(Visibility { groups: vec![group], window: self.reach, spans });
        // A later token at distance `reach` no longer sees a key, so one key less than the window is kept.
        let kept = (self.reach - 1).min(t);
        let tail = |tensor: &Tensor<3>| {
            if kept == t { tensor.clone() } else { tensor.clone().narrow(0, t - kept, kept) }
        };
        self.sequences[sequence] = (kept > 0).then(|| (tail(&keys), tail(&values)));
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

    /// Keeps only the sequences for which `keep` holds, in order.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.sequences.retain(|_| keep.next().copied().unwrap_or(false));
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

    /// Keeps only the sequences for which `keep` holds, in order.
    pub fn retain(&mut self, keep: &[bool]) {
        for layer in &mut self.layers {
            layer.retain(keep);
        }
        let mut keep = keep.iter();
        self.lengths.retain(|_| keep.next().copied().unwrap_or(false));
    }
}
