//! Counter-based randomness: what is drawn depends on seed, epoch and purpose, not on what was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a draw is for: each has a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Rows that a fractional weight chooses.
    Weights = 0,
    /// The order of rows.
    Rows = 1,
    /// The order of bins.
    Bins = 2,
}

/// A stream of random numbers.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The stream for one purpose in one epoch.
    pub fn new(seed: u64, epoch: u64, purpose: Purpose) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(epoch.wrapping_mul(4).wrapping_add(purpose as u64));
        Random(random)
    }

    /// Puts `items` into random order (Fisher-Yates). Written out here so that no library's update changes the order of
    /// anybody's data.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1);
            items.swap(last, other as usize);
        }
    }

    /// A number below `bound`, each equally likely (Lemire's multiplication with rejection).
    fn below(&mut self, bound: u64) -> u64 {
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            if product as u64 >= rejected {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(seed: u64, epoch: u64, purpose: Purpose) -> Vec<u32> {
        let mut items: Vec<u32> = (0..8).collect();
        Random::new(seed, epoch, purpose).shuffle(&mut items);
        items
    }

    #[test]
    fn the_order_is_pinned() {
        // Resuming a run with a newer program must see the rows in the same order.
        assert_eq!(shuffled(42, 0, Purpose::Rows), PINNED);
        assert_ne!(shuffled(42, 1, Purpose::Rows), PINNED);
        assert_ne!(shuffled(43, 0, Purpose::Rows), PINNED);
        assert_ne!(shuffled(42, 0, Purpose::Bins), PINNED);
    }

    const PINNED: [u32; 8] = [6, 3, 7, 0, 4, 2, 1, 5];

    #[test]
    fn every_place_is_equally_likely() {
        let mut random = Random::new(1, 2, Purpose::Rows);
        let mut counts = [[0_u32; 5]; 5];
        for _ in 0..20_000 {
            let mut items = [0, 1, 2, 3, 4];
            random.shuffle(&mut items);
            for (place, &item) in items.iter().enumerate() {
                counts[item][place] += 1;
            }
        }
        // 4000 expected, standard deviation 57.
        assert!(counts.iter().flatten().all(|count| (3700..4300).contains(count)), "{counts:?}");
    }
}
