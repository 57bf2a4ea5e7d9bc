//! Counter-based randomness: every random number is a pure function of the run's seed and of what it is for.
//!
//! A generator is opened by labels, such as (`purpose "dropout"`, `step 12`, `micro 3`, `layer 5`, `module "q_proj"`).
//! Nothing advances between two openings, so there is no generator state to checkpoint, the order in which modules run
//! does not matter, and a recomputed layer (activation checkpointing) sees the same dropout mask.
//!
//! ```
//! use gemma_tune::random::{Label, Rng};
//! let labels = [Label::Purpose("dropout"), Label::Step(12), Label::Layer(5), Label::Module("q_proj")];
//! let mask = Rng::new(42).stream(&labels).dropout_mask(4, 0.5);
//! assert_eq!(mask, Rng::new(42).stream(&labels).dropout_mask(4, 0.5));
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;
use std::f64::consts::TAU;

/// The context under which labels are hashed into keys. A change of the scheme must change it.
const KEY_CONTEXT: &str = "gemma-tune 2025 randomness from seed and labels, version 1";

/// Elements of a dropout mask that one thread draws at a time.
const MASK_CHUNK: usize = 1 << 14;

/// One part of what a generator is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label<'a> {
    /// What the numbers do: `"dropout"`, `"init"`, `"shuffle"`.
    Purpose(&'a str),
    /// The module that uses them.
    Module(&'a str),
    /// The pass over the data, from 0.
    Epoch(u64),
    /// The optimiser step, from 0.
    Step(u64),
    /// The micro-batch within the step, from 0.
    Micro(u64),
    /// The layer, from 0.
    Layer(u64),
}

impl Label<'_> {
    /// Feeds the label to `hasher` so that no two label lists feed the same bytes.
    fn hash_into(self, hasher: &mut blake3::Hasher) {
        let number = |hasher: &mut blake3::Hasher, tag: u8, value: u64| {
            hasher.update(&[tag]);
            hasher.update(&value.to_le_bytes());
        };
        match self {
            Label::Purpose(text) | Label::Module(text) => {
                number(hasher, if matches!(self, Label::Purpose(_)) { 0 } else { 1 }, text.len() as u64);
                hasher.update(text.as_bytes());
            }
            Label::Epoch(value) => number(hasher, 2, value),
            Label::Step(value) => number(hasher, 3, value),
            Label::Micro(value) => number(hasher, 4, value),
            Label::Layer(value) => number(hasher, 5, value),
        }
    }
}

/// The source of all randomness of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rng {
    seed: u64,
}

impl Rng {
    /// The randomness that `seed` decides.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The generator of `labels`, always from its start.
    pub fn stream(&self, labels: &[Label<'_>]) -> Stream {
        Stream(ChaCha8Rng::from_seed(self.key(labels)))
    }

    /// The dropout mask of `labels` that [`Stream::dropout_mask`] would draw first, to be drawn where it is used.
    pub fn mask(&self, labels: &[Label<'_>], p: f64) -> Mask {
        Mask { key: self.key(labels), p }
    }

    fn key(&self, labels: &[Label<'_>]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
        hasher.update(&self.seed.to_le_bytes());
        for label in labels {
            label.hash_into(&mut hasher);
        }
        *hasher.finalize().as_bytes()
    }
}

/// A dropout mask that is not drawn yet: element `i` is decided by word `i` of the ChaCha8 stream of its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    key: [u8; 32],
    p: f64,
}

impl Mask {
    /// Its first `n` values, each 0 or [`Mask::kept`].
    pub fn draw(&self, n: usize) -> Vec<f32> {
        Stream(ChaCha8Rng::from_seed(self.key)).dropout_mask(n, self.p)
    }

    /// The key of its stream: eight words, the lowest byte of each first.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The largest word whose element is dropped; `None` where none is.
    pub fn last_dropped(&self) -> Option<u32> {
        let last = threshold(self.p).checked_sub(1)?;
        Some(u32::try_from(last).unwrap_or(u32::MAX))
    }

    /// What is not dropped is multiplied by this; infinite where everything is dropped.
    pub fn kept(&self) -> f32 {
        kept(self.p)
    }
}

/// How many of the 2^32 words drop their element.
fn threshold(p: f64) -> u64 {
    (share(p) * (u64::from(u32::MAX) + 1) as f64).round() as u64
}

/// `1 / (1 - p)`: infinite for 1, where nothing is kept.
fn kept(p: f64) -> f32 {
    (1.0 / (1.0 - share(p))) as f32
}

fn share(p: f64) -> f64 {
    if p > 0.0 { p.min(1.0) } else { 0.0 }
}

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * f64::EPSILON / 2.0
    }

    /// A whole number in `0..bound` without bias (0 for a `bound` of 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a product is uniform once the low halves that appear once too often are drawn again.
        let excess = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            if product as u64 >= excess {
                return (product >> 64) as u64;
            }
        }
    }

    /// `n` numbers, uniform between `lo` and `hi`.
    ///
    /// # Numerics
    /// Drawn in f64 and rounded once, so that `hi` itself can appear.
    pub fn uniform_f32(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        let (lo, span) = (f64::from(lo), f64::from(hi) - f64::from(lo));
        (0..n).map(|_| (lo + span * self.unit()) as f32).collect()
    }

    /// `n` numbers from the standard normal distribution (mean 0, variance 1).
    ///
    /// # Numerics
    /// Box-Muller in f64, rounded once. `ln`, `sin` and `cos` are the platform's, so that two platforms may differ in
    /// the last bit of a rare number.
    pub fn normal_f32(&mut self, n: usize) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(n);
        while numbers.len() < n {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt(); // 1 - u is in (0, 1]: the logarithm is finite
            let (sin, cos) = (TAU * self.unit()).sin_cos();
            numbers.push((radius * cos) as f32);
            if numbers.len() < n {
                numbers.push((radius * sin) as f32);
            }
        }
        numbers
    }

    /// A dropout mask: `n` values, each 0 with probability `p`, else `1 / (1 - p)`.
    ///
    /// The mask does not depend on the number of threads.
    pub fn dropout_mask(&mut self, n: usize, p: f64) -> Vec<f32> {
        // One 32-bit word per element; a threshold above all words drops everything.
        let (threshold, kept) = (threshold(p), kept(p));
        let start = self.0.get_word_pos();
        let mut mask = vec![0.0; n];
        mask.par_chunks_mut(MASK_CHUNK).enumerate().for_each(|(i, chunk)| {
            let mut words = self.0.clone();
            words.set_word_pos(start.wrapping_add((i * MASK_CHUNK) as u128));
            for value in chunk {
                *value = if u64::from(words.next_u32()) >= threshold { kept } else { 0.0 };
            }
        });
        self.0.set_word_pos(start.wrapping_add(n as u128));
        mask
    }

    /// Brings `items` into a uniformly random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(step: u64) -> Stream {
        Rng::new(42).stream(&[Label::Purpose("test"), Label::Step(step)])
    }

    #[test]
    fn numbers_depend_on_seed_and_every_label_and_nothing_else() {
        let first = |rng: Rng, labels: &[Label]| rng.stream(labels).next_u64();
        let rng = Rng::new(42);
        let base =
            [Label::Purpose("dropout"), Label::Module("q_proj"), Label::Step(1), Label::Micro(2), Label::Layer(3)];
        assert_eq!(first(rng, &base), first(rng, &base));
        let mut others = vec![first(rng, &base), first(Rng::new(43), &base)];
        for changed in [
            [Label::Purpose("init"), base[1], base[2], base[3], base[4]],
            [base[0], Label::Module("k_proj"), base[2], base[3], base[4]],
            [base[0], base[1], Label::Step(2), base[3], base[4]],
            [base[0], base[1], base[2], Label::Micro(1), base[4]],
            [base[0], base[1], base[2], base[3], Label::Layer(4)],
            [base[0], base[1], Label::Micro(1), Label::Step(2), base[4]],
            [base[0], base[1], Label::Epoch(1), base[3], base[4]],
            [Label::Module("dropout"), base[1], base[2], base[3], base[4]],
        ] {
            others.push(first(rng, &changed));
        }
        others.push(first(rng, &[Label::Purpose("ab"), Label::Purpose("c")]));
        others.push(first(rng, &[Label::Purpose("a"), Label::Purpose("bc")]));
        let count = others.len();
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), count);
    }

    #[test]
    fn the_numbers_never_change_between_versions() {
        // A resumed run must draw what the version that wrote its checkpoint drew.
        assert_eq!(stream(0).next_u64(), 10_523_723_175_698_637_934);
        assert_eq!(stream(0).uniform_f32(2, -1.0, 1.0), [0.140_984_36, 0.318_823_8]);
        assert_eq!(stream(0).normal_f32(3), [-0.700_673_7, -1.095_119_6, 0.045_434_38]);
        assert_eq!(stream(0).dropout_mask(8, 0.5), [2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 2.0]);
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        stream(0).shuffle(&mut order);
        assert_eq!(order, [1, 6, 2, 5, 3, 0, 7, 4]);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let n = 200_000;
        let numbers = stream(1).normal_f32(n);
        let moment = |k: i32| numbers.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n as f64;
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.05, "skewness {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "kurtosis {}", moment(4));
        let outside = numbers.iter().filter(|x| x.abs() > 1.959_964).count() as f64 / n as f64;
        assert!((outside - 0.05).abs() < 0.003, "tails {outside}");
        assert!(numbers.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn uniform_numbers_fill_their_interval_evenly() {
        let numbers = stream(2).uniform_f32(100_000, -0.25, 0.75);
        assert!(numbers.iter().all(|x| (-0.25..=0.75).contains(x)));
        for tenth in 0..10 {
            let lo = -0.25 + tenth as f32 / 10.0;
            let count = numbers.iter().filter(|&&x| (lo..lo + 0.1).contains(&x)).count();
            assert!((9_600..10_400).contains(&count), "{count} in tenth {tenth}");
        }
    }

    #[test]
    fn a_dropout_mask_drops_its_share_and_keeps_the_mean() {
        let n = 100_000;
        let mask = stream(3).dropout_mask(n, 0.1);
        let dropped = mask.iter().filter(|&&x| x == 0.0).count();
        assert!((9_600..10_400).contains(&dropped), "{dropped}");
        assert!(mask.iter().all(|&x| x == 0.0 || x == (1.0 / 0.9) as f32));
        assert!((mask.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64 - 1.0).abs() < 0.01);
        assert_eq!(stream(3).dropout_mask(3, 0.0), [1.0; 3]);
        assert_eq!(stream(3).dropout_mask(3, -1.0), [1.0; 3]);
        assert_eq!(stream(3).dropout_mask(3, 1.0), [0.0; 3]);
        assert_eq!(stream(3).dropout_mask(3, 7.0), [0.0; 3]);
    }

    #[test]
    fn a_dropout_mask_is_drawn_in_parallel_as_in_one_piece() {
        let n = 3 * MASK_CHUNK + 17;
        let mut words = stream(4).0;
        words.next_u32(); // an odd start
        let mut parallel = Stream(words.clone());
        let mask = parallel.dropout_mask(n, 0.3);
        let threshold = (0.3 * 4_294_967_296.0_f64).round() as u32;
        let kept = (1.0 / 0.7) as f32;
        for (i, value) in mask.iter().enumerate() {
            assert_eq!(*value, if words.next_u32() >= threshold { kept } else { 0.0 }, "element {i}");
        }
        assert_eq!(parallel.0.get_word_pos(), words.get_word_pos());
        assert_eq!(parallel.next_u64(), words.next_u64());
    }

    #[test]
    fn shuffles_are_permutations_and_unbiased() {
        let mut counts = [[0u32; 4]; 4];
        for step in 0..8_000 {
            let mut order = [0, 1, 2, 3];
            stream(step).shuffle(&mut order);
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            order.iter().enumerate().for_each(|(place, &item)| counts[place][item] += 1);
        }
        assert!(counts.iter().flatten().all(|count| (1_850..2_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn whole_numbers_stay_below_their_bound() {
        let mut stream = stream(5);
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
        assert!((0..1_000).all(|_| stream.below(u64::MAX) < u64::MAX));
        let mut seen = [false; 5];
        (0..200).for_each(|_| seen[stream.below(5) as usize] = true);
        assert_eq!(seen, [true; 5]);
    }
}
