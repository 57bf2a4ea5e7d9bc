//! How long the answers of pairs are: where the chosen ones are nearly always the longer or the shorter, length is what is learnt.

use serde::{Deserialize, Serialize};

/// The lengths of the answers of pairs, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PairLengths {
    /// Pairs.
    pairs: u64,
    /// Those whose chosen answer is the longer one.
    longer: u64,
    /// Those whose chosen answer is the shorter one.
    shorter: u64,
    /// Tokens of the chosen answers.
    chosen: u64,
    /// Tokens of the others.
    rejected: u64,
    /// Squares of the lengths of all answers.
    squares: u64,
}

impl PairLengths {
    /// Takes a pair whose answers have so many tokens.
    pub fn add(&mut self, chosen: usize, rejected: usize) {
        let [chosen, rejected] = [chosen, rejected].map(|tokens| tokens as u64);
        self.extend(&PairLengths {
            pairs: 1,
            longer: u64::from(chosen > rejected),
            shorter: u64::from(chosen < rejected),
            chosen,
            rejected,
            squares: chosen * chosen + rejected * rejected,
        });
    }

    /// Takes other pairs.
    pub fn extend(&mut self, other: &PairLengths) {
        let PairLengths { pairs, longer, shorter, chosen, rejected, squares } = other;
        self.pairs += pairs;
        self.longer += longer;
        self.shorter += shorter;
        self.chosen += chosen;
        self.rejected += rejected;
        self.squares += squares;
    }

    /// The share of pairs whose chosen answer is the longer one.
    fn share(&self) -> f64 {
        self.longer as f64 / self.pairs.max(1) as f64
    }

    /// The correlation of an answer's length with being chosen, from -1 to 1.
    fn correlation(&self) -> f64 {
        let answers = 2.0 * self.pairs as f64;
        let mean = (self.chosen + self.rejected) as f64 / answers;
        let variance = self.squares as f64 / answers - mean * mean;
        let covariance = (self.chosen as f64 - self.rejected as f64) / answers;
        if variance > 0.0 { covariance / variance.sqrt() } else { 0.0 }
    }

    /// What to say of pairs of which length alone tells which answer is chosen: of so many more than half that it is no chance.
    pub fn warning(&self) -> Option<String> {
        /// Of as many pairs a guess by length is right that are worth a word.
        const MOST: f64 = 0.8;
        /// Standard deviations from what chance would do.
        const SURE: f64 = 3.0;
        let pairs = self.pairs as f64;
        let right = self.longer.max(self.shorter) as f64 / pairs.max(1.0);
        if right < MOST || (2.0 * right - 1.0) * pairs.sqrt() < SURE {
            return None;
        }
        let which = if self.longer > self.shorter { "longer" } else { "shorter" };
        let percent = 100.0 * self.share();
        Some(format!(
            "warning: length alone tells the chosen answers from the rejected: the chosen one is the longer in {percent:.0} % of {} \
             pairs, and being chosen and length have a correlation of {:.2}; {which} answers may be all that is learnt",
            self.pairs,
            self.correlation()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(usize, usize)]) -> PairLengths {
        let mut lengths = PairLengths::default();
        pairs.iter().for_each(|&(chosen, rejected)| lengths.add(chosen, rejected));
        lengths
    }

    #[test]
    fn lengths_that_tell_are_said_and_chance_is_not() {
        let said = of(&[(10, 30); 20]).warning().unwrap();
        assert!(said.contains("is the longer in 0 % of 20 pairs") && said.contains("a correlation of -1.00"), "{said}");
        assert!(said.ends_with("; shorter answers may be all that is learnt"), "{said}");
        let mostly = [[(30, 10); 17].as_slice(), &[(10, 30); 3]].concat();
        let said = of(&mostly).warning().unwrap();
        assert!(said.contains("is the longer in 85 % of 20 pairs") && said.contains("a correlation of 0.70"), "{said}");
        for few_or_even in
            [[(30, 10); 8].to_vec(), [[(30, 10); 14], [(10, 30); 14]].concat(), vec![(7, 7); 50], Vec::new()]
        {
            assert_eq!(of(&few_or_even).warning(), None, "{few_or_even:?}");
        }
    }

    #[test]
    fn parts_are_the_whole() {
        let mut parts = of(&[(3, 4), (5, 5)]);
        parts.extend(&of(&[(9, 1)]));
        assert_eq!(parts, of(&[(3, 4), (5, 5), (9, 1)]));
        assert_eq!(of(&[(4, 4)]).correlation(), 0.0);
    }
}
