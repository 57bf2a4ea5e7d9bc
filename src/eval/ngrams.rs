//! BLEU and chrF: n-grams that two texts share.

use super::words;
use std::collections::HashMap;
use std::hash::Hash;

/// The longest n-grams of words.
const WORDS: usize = 4;
/// The longest n-grams of characters.
const CHARACTERS: usize = 6;
/// How much more chrF asks for what is in the reference than that nothing else is said.
const BETA: f64 = 2.0;

/// What BLEU is computed from: of each order the n-grams that are shared and all of the text's, then words of both.
pub fn bleu_counts(text: &str, reference: &str) -> Vec<f64> {
    let [text, reference] = [text, reference].map(words::of_13a);
    let orders = (1..=WORDS).map(|n| (ngrams(&text, n), ngrams(&reference, n)));
    let (shared, all): (Vec<f64>, Vec<f64>) =
        orders.map(|(text, reference)| (shared(&text, &reference) as f64, total(&text) as f64)).unzip();
    [shared, all, vec![text.len() as f64, reference.len() as f64]].concat()
}

/// BLEU, from 0 to 100, of summed [`bleu_counts`].
///
/// # Source
/// sacrebleu 2.6, `BLEU` with its defaults: one reference, `13a`, exponential smoothing.
pub fn bleu(counts: &[f64]) -> f64 {
    let (Some(shared), Some(all)) = (counts.get(..WORDS), counts.get(WORDS..2 * WORDS)) else { return 0.0 };
    let [text, reference] = [counts.get(2 * WORDS), counts.get(2 * WORDS + 1)].map(|count| *count.unwrap_or(&0.0));
    if shared.iter().all(|count| *count == 0.0) || all.contains(&0.0) {
        return 0.0;
    }
    let mut halved = 1.0;
    let logs = shared.iter().zip(all).map(|(shared, all)| {
        if *shared > 0.0 {
            return (100.0 * shared / all).ln();
        }
        halved *= 2.0;
        (100.0 / (halved * all)).ln()
    });
    let mean = logs.sum::<f64>() / WORDS as f64;
    let brevity = if text < reference { (1.0 - reference / text).exp() } else { 1.0 };
    brevity * mean.exp()
}

/// What chrF is computed from: of each order the n-grams of the text, of the reference, and of both.
pub fn chrf_counts(text: &str, reference: &str) -> Vec<f64> {
    let characters = |text: &str| words::split(text).flat_map(str::chars).collect::<Vec<char>>();
    let [text, reference] = [text, reference].map(characters);
    let orders = (1..=CHARACTERS).flat_map(|n| {
        let (text, reference) = (ngrams(&text, n), ngrams(&reference, n));
        let of_text = if reference.is_empty() { 0 } else { total(&text) };
        [of_text, total(&reference), shared(&text, &reference)].map(|count| count as f64)
    });
    orders.collect()
}

/// chrF2, from 0 to 100, of summed [`chrf_counts`].
///
/// # Source
/// sacrebleu 2.6, `CHRF` with its defaults: six characters, no words, beta 2.
pub fn chrf(counts: &[f64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0);
    for order in counts.chunks_exact(3) {
        if order[0] > 0.0 && order[1] > 0.0 {
            precision += order[2] / order[0];
            recall += order[2] / order[1];
            orders += 1;
        }
    }
    let (precision, recall) = (precision / f64::from(orders.max(1)), recall / f64::from(orders.max(1)));
    if precision + recall == 0.0 {
        return 0.0;
    }
    let factor = BETA * BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

type Counted<'t, T> = HashMap<&'t [T], usize>;

fn ngrams<T: Eq + Hash>(words: &[T], n: usize) -> Counted<'_, T> {
    let mut counts = HashMap::new();
    words.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

fn total<T>(counts: &Counted<T>) -> usize {
    counts.values().sum()
}

fn shared<T: Eq + Hash>(text: &Counted<T>, reference: &Counted<T>) -> usize {
    text.iter().map(|(gram, count)| (*count).min(*reference.get(gram).unwrap_or(&0))).sum()
}
