//! ROUGE-L, and the error rates of transcripts.

use super::words;

/// The F-measure of the longest common subsequence of words, from 0 to 1, and 1: means are over texts.
///
/// # Source
/// rouge-score 0.1.2, `rougeL` without stemming.
pub fn rouge_l_counts(text: &str, reference: &str) -> Vec<f64> {
    let [text, reference] = [text, reference].map(words::of_rouge);
    let common = common_subsequence(&text, &reference) as f64;
    let f = match common {
        0.0 => 0.0,
        common => {
            let (precision, recall) = (common / text.len() as f64, common / reference.len() as f64);
            2.0 * precision * recall / (precision + recall)
        }
    };
    vec![f, 1.0]
}

/// Words to be put in, taken out or changed to make the reference of a transcript, and the reference's words.
///
/// # Source
/// jiwer 4.0, `wer`.
pub fn word_error_counts(text: &str, reference: &str) -> Vec<f64> {
    let [text, reference] = [text, reference].map(words::of_transcript);
    vec![strsim::generic_levenshtein(&text, &reference) as f64, reference.len() as f64]
}

/// As [`word_error_counts`], of characters.
///
/// # Source
/// jiwer 4.0, `cer`.
pub fn character_error_counts(text: &str, reference: &str) -> Vec<f64> {
    let [text, reference] = [text, reference].map(words::characters);
    vec![strsim::generic_levenshtein(&text, &reference) as f64, reference.len() as f64]
}

/// Words in the longest sequence that both have, with anything between.
fn common_subsequence(one: &[String], other: &[String]) -> usize {
    let mut above = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (at, candidate) in other.iter().enumerate() {
            let here = if word == candidate { diagonal + 1 } else { above[at].max(above[at + 1]) };
            diagonal = above[at + 1];
            above[at + 1] = here;
        }
    }
    above.last().copied().unwrap_or(0)
}
