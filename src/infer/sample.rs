//! Choosing the next token from logits.

use crate::random::Stream;
use rayon::prelude::*;

/// Words whose weights a thread makes at a time: enough that handing them out costs nothing.
const GRAIN: usize = 1 << 14;

/// `exp(-38)` and less, added to 1 or more, is nothing: it is less than half of what tells 1 from the next number.
const NOTHING: f64 = 38.0;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 always takes the most likely token.
    pub temperature: f64,
    /// Only the `top_k` most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability; 1 for all.
    pub top_p: f64,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 };

    /// Chooses a token. Among equal logits the smallest id wins, as in the reference.
    ///
    /// # Numerics
    /// Softmax in f64 with the maximum taken out; a logit that is not a number is never chosen.
    pub fn choose(&self, logits: &[f32], random: &mut Stream) -> u32 {
        let best = argmax(logits);
        if self.temperature <= 0.0 {
            return best as u32;
        }
        let highest = f64::from(logits[best]);
        // The sum begins with the most likely word's 1, and is what it would be with all words.
        let least = highest - NOTHING * self.temperature;
        let counts = |(_, logit): &(u32, &f32)| f64::from(**logit) >= least; // what is no number does not
        let mut order: Vec<Place> = (0..).zip(logits).filter(counts).map(place).collect();
        if self.top_k > 0 && self.top_k < order.len() {
            order.select_nth_unstable(self.top_k - 1);
            order.truncate(self.top_k);
        }
        sort(&mut order);
        let weight = |&place: &Place| self.weight(logits[word(place) as usize], highest);
        let weights: Vec<f64> = order.par_iter().with_min_len(GRAIN).map(weight).collect();
        let kept = nucleus(&weights, self.top_p);
        let mut left = random.unit() * weights[..kept].iter().sum::<f64>();
        for (&place, weight) in order.iter().zip(&weights[..kept]) {
            left -= weight;
            if left < 0.0 {
                return word(place);
            }
        }
        best as u32
    }

    /// How often a word comes for each time that the most likely one does.
    fn weight(&self, logit: f32, highest: f64) -> f64 {
        ((f64::from(logit) - highest) / self.temperature).exp()
    }

    /// As [`Sampling::choose`] with the same probabilities, but where every token may be chosen without putting them in order, which
    /// takes longer than all else: the same random number means another token then.
    ///
    /// # Numerics
    /// As [`Sampling::choose`].
    pub fn draw(&self, logits: &[f32], random: &mut Stream) -> u32 {
        if self.temperature <= 0.0 || self.top_k > 0 || self.top_p < 1.0 {
            return self.choose(logits, random);
        }
        let best = argmax(logits);
        let highest = f64::from(logits[best]);
        let weight = |logit: &f32| if logit.is_nan() { 0.0 } else { self.weight(*logit, highest) };
        let weights: Vec<f64> = logits.par_iter().with_min_len(GRAIN).map(weight).collect();
        let mut left = random.unit() * weights.iter().sum::<f64>();
        for (token, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return token as u32;
            }
        }
        best as u32
    }
}

/// How many of the sorted weights are needed for a share of `top_p` of their sum; at least one.
fn nucleus(weights: &[f64], top_p: f64) -> usize {
    let needed = top_p * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        sum >= needed
    });
    reached.map_or(weights.len(), |index| index + 1)
}

/// The first of the largest; of nothing but what is no number the last.
fn argmax(logits: &[f32]) -> usize {
    // Side by side, as vectors do it: what is no number is larger than nothing.
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (whole, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, logit)| *lane = larger(*lane, *logit));
    }
    let highest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |highest, logit| larger(highest, *logit));
    logits.iter().position(|logit| *logit == highest).unwrap_or(logits.len().saturating_sub(1))
}

/// Where a word stands among all, the most likely first, and of equals that with the smallest id: numbers are compared faster than
/// logits that are looked up.
type Place = u64;

fn place((word, logit): (u32, &f32)) -> Place {
    // As `f32::total_cmp` orders, from the largest on: of negative numbers all bits are the other way round already.
    let bits = logit.to_bits();
    let descending = if bits >> 31 == 0 { !bits & (u32::MAX >> 1) } else { bits };
    u64::from(descending) << 32 | u64::from(word)
}

/// Which word stands there.
fn word(place: Place) -> u32 {
    place as u32
}

/// So many of the most likely words, the most likely first, and of equals that with the smallest id.
pub fn most_likely(logits: &[f32], most: usize) -> Vec<u32> {
    if most == 0 {
        return Vec::new();
    }
    let mut places: Vec<Place> = (0..).zip(logits).map(place).collect();
    if most < places.len() {
        places.select_nth_unstable(most - 1);
        places.truncate(most);
    }
    places.sort_unstable();
    places.into_iter().map(word).collect()
}

/// As many are sorted faster by comparing them.
const FEW: usize = 1 << 15;

/// Puts places in order that are in the order of their words, or few.
fn sort(places: &mut Vec<Place>) {
    if places.len() <= FEW {
        return places.sort_unstable();
    }
    let mut sorted = vec![0; places.len()];
    // By the lower half of a logit's bits, then by the upper one.
    for shift in [32, 48] {
        let digit = |place: Place| usize::from((place >> shift) as u16);
        let mut starts = vec![0u32; 1 << 16];
        places.iter().for_each(|&place| starts[digit(place)] += 1);
        let mut start = 0;
        for count in &mut starts {
            start += std::mem::replace(count, start);
        }
        // Those with the same bits stay in their order, of what was looked at before and at first of their words.
        for &place in places.iter() {
            let at = &mut starts[digit(place)];
            sorted[*at as usize] = place;
            *at += 1;
        }
        std::mem::swap(places, &mut sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Label, Rng};

    fn counts(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let mut random = Rng::new(7).stream(&[Label::Purpose("test")]);
        let mut counts = vec![0; logits.len()];
        (0..4000).for_each(|_| counts[sampling.choose(logits, &mut random) as usize] += 1);
        counts
    }

    /// As it is defined: by comparing logits.
    fn defined(sampling: Sampling, logits: &[f32], random: &mut Stream) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).filter(|&i| !logits[i].is_nan()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if sampling.top_k > 0 {
            order.truncate(sampling.top_k);
        }
        let highest = f64::from(logits[order[0]]);
        let weight = |&i: &usize| ((f64::from(logits[i]) - highest) / sampling.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let kept = nucleus(&weights, sampling.top_p);
        let mut left = random.unit() * weights[..kept].iter().sum::<f64>();
        let chosen = order.iter().zip(&weights[..kept]).find(|(_, weight)| {
            left -= **weight;
            left < 0.0
        });
        *chosen.map_or(&order[0], |(token, _)| token) as u32
    }

    #[test]
    fn large_vocabularies_are_put_in_order_as_small_ones_are() {
        let mut noise = Rng::new(3).stream(&[Label::Purpose("logits")]);
        for words in [5, FEW, FEW + 1, 40_000] {
            let mut logits: Vec<f32> = (0..words).map(|_| (30.0 * noise.unit() - 20.0) as f32).collect();
            // Equal ones, zeros of both signs, and what has no place.
            (0..words / 7).for_each(|at| logits[7 * at] = (at % 5) as f32 - 2.0);
            [-0.0, 0.0, f32::NEG_INFINITY, f32::NAN]
                .iter()
                .zip(&mut logits[1..])
                .for_each(|(odd, logit)| *logit = *odd);
            let mut places: Vec<Place> = (0..).zip(&logits).filter(|(_, logit)| !logit.is_nan()).map(place).collect();
            let mut compared: Vec<u32> = places.iter().map(|place| word(*place)).collect();
            let logit = |word: &u32| logits[*word as usize];
            compared.sort_by(|a, b| logit(b).total_cmp(&logit(a)).then(a.cmp(b)));
            sort(&mut places);
            assert!(places.iter().map(|place| word(*place)).eq(compared), "{words}");
            for (top_k, top_p) in [(0, 1.0), (0, 0.9), (3, 1.0), (words - 2, 0.999), (words, 0.3)] {
                let sampling = Sampling { temperature: 0.7, top_k, top_p };
                let mut random = [(); 2].map(|()| Rng::new(9).stream(&[Label::Purpose("test")]));
                for _ in 0..5 {
                    let [chosen, of_definition] = &mut random;
                    assert_eq!(sampling.choose(&logits, chosen), defined(sampling, &logits, of_definition), "{words}");
                }
            }
        }
    }

    #[test]
    fn the_first_of_the_largest_is_found_wherever_it_is() {
        for (at, words) in [(0, 1), (0, 40), (15, 40), (16, 40), (31, 40), (39, 40)] {
            let mut logits = vec![-3.0f32; words];
            logits[at] = 2.0;
            logits[words - 1] = 2.0;
            assert_eq!(argmax(&logits), at);
        }
        for (logits, expected) in [
            (&[f32::NAN, -1.0, f32::NAN][..], 1),
            (&[f32::NAN, f32::NEG_INFINITY], 1),
            (&[f32::NEG_INFINITY, f32::NAN], 0),
            (&[f32::NAN; 3], 2),
            (&[-0.0, 0.0], 0),
            (&[], 0),
        ] {
            assert_eq!(argmax(logits), expected, "{logits:?}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(counts(Sampling::GREEDY, &[0.0, 3.0, f32::NAN, 3.0]), [0, 4000, 0, 0]);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [1f32.ln(), 3f32.ln(), 4f32.ln()]; // probabilities 1/8, 3/8, 4/8
        let all = counts(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 }, &logits);
        for (count, expected) in all.iter().zip([500.0, 1500.0, 2000.0]) {
            assert!((*count as f64 - expected).abs() < 120.0, "{all:?}");
        }
        let two = counts(Sampling { temperature: 1.0, top_k: 2, top_p: 1.0 }, &logits);
        assert_eq!(two[0], 0);
        let mut random = Rng::new(7).stream(&[Label::Purpose("drawn")]);
        let mut drawn = [0; 3];
        let any = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0 };
        (0..4000).for_each(|_| drawn[any.draw(&logits, &mut random) as usize] += 1);
        // Square roots of 1, 3 and 4.
        for (count, expected) in drawn.iter().zip([843.0, 1461.0, 1687.0]) {
            assert!((f64::from(*count) - expected).abs() < 120.0, "{drawn:?}");
        }
        let nucleus = counts(Sampling { temperature: 1.0, top_k: 0, top_p: 0.49 }, &logits);
        assert_eq!(nucleus, [0, 0, 4000]);
    }
}
