//! The metrics of texts by name: what each counts of an answer, and what it makes of all counts together.

use super::{calls, edits, ngrams};

/// What a metric counts of one row; counts of several rows are summed before they are scored.
pub type Counts = Vec<f64>;

/// A metric of an answer beside the answer that the data has.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name: `rouge_l`.
    pub name: &'static str,
    /// What it says, for people.
    pub about: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// What it counts of an answer and the reference; `None` of a row that it does not apply to.
    pub count: fn(&str, &str) -> Option<Counts>,
    /// Its value, of summed counts.
    pub score: fn(&[f64]) -> f64,
}

/// Every metric of texts.
pub const METRICS: [Metric; 9] = [
    Metric {
        name: "exact_match",
        about: "answers that are the reference, but for spaces around them",
        more_is_better: true,
        count: |text, reference| Some(vec![f64::from(text.trim() == reference.trim()), 1.0]),
        score: ratio,
    },
    Metric {
        name: "rouge_l",
        about: "ROUGE-L, F-measure, 0 to 1",
        more_is_better: true,
        count: |text, reference| Some(edits::rouge_l_counts(text, reference)),
        score: ratio,
    },
    Metric {
        name: "bleu",
        about: "BLEU of all answers together, 0 to 100",
        more_is_better: true,
        count: |text, reference| Some(ngrams::bleu_counts(text, reference)),
        score: ngrams::bleu,
    },
    Metric {
        name: "chrf",
        about: "chrF2 of all answers together, 0 to 100",
        more_is_better: true,
        count: |text, reference| Some(ngrams::chrf_counts(text, reference)),
        score: ngrams::chrf,
    },
    Metric {
        name: "wer",
        about: "word error rate of transcripts",
        more_is_better: false,
        count: |text, reference| Some(edits::word_error_counts(text, reference)),
        score: ratio,
    },
    Metric {
        name: "cer",
        about: "character error rate of transcripts",
        more_is_better: false,
        count: |text, reference| Some(edits::character_error_counts(text, reference)),
        score: ratio,
    },
    Metric {
        name: "json_valid",
        about: "answers that are JSON, where the reference is",
        more_is_better: true,
        count: calls::json_counts,
        score: ratio,
    },
    Metric {
        name: "tool_name",
        about: "answers that call the functions of the reference",
        more_is_better: true,
        count: calls::name_counts,
        score: ratio,
    },
    Metric {
        name: "tool_arguments",
        about: "answers that call them with the same arguments",
        more_is_better: true,
        count: calls::argument_counts,
        score: ratio,
    },
];

impl Metric {
    /// The metric of this name.
    pub fn named(name: &str) -> Option<&'static Metric> {
        METRICS.iter().find(|metric| metric.name == name)
    }
}

/// The first count by the second.
pub fn ratio(counts: &[f64]) -> f64 {
    match counts {
        [part, whole] if *whole > 0.0 => part / whole,
        _ => 0.0,
    }
}

/// The sum of several rows' counts.
pub fn summed<'c>(rows: impl Iterator<Item = &'c Counts>) -> Counts {
    let mut sum = Counts::new();
    for counts in rows {
        sum.resize(sum.len().max(counts.len()), 0.0);
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::golden::folder;
    use serde_json::Value;

    /// What sacrebleu, rouge-score and jiwer say of the same texts, to their last digit.
    #[test]
    fn they_say_what_the_reference_programs_say() {
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder("eval").join("metrics.json")).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pairs: Vec<(String, String)> =
            golden["pairs"].as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        let mut compared = 0;
        for set in golden["sets"].as_array().unwrap() {
            let rows = || set["rows"].as_array().unwrap().iter().map(|row| &pairs[row.as_u64().unwrap() as usize]);
            for (name, wanted) in set["scores"].as_object().unwrap() {
                let metric = Metric::named(name).unwrap();
                let counts: Vec<Counts> = rows().filter_map(|(a, b)| (metric.count)(a, b)).collect();
                let found = (metric.score)(&summed(counts.iter()));
                let wanted = wanted.as_f64().unwrap();
                assert!(
                    (found - wanted).abs() <= 1e-12 * wanted.abs().max(1.0),
                    "{name} of {}: {found}, {wanted}",
                    set["rows"]
                );
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn sums_are_of_each_count_and_ratios_of_nothing_are_0() {
        assert_eq!(summed([vec![1.0, 2.0], vec![0.5, 1.0]].iter()), [1.5, 3.0]);
        assert_eq!((ratio(&[1.0, 4.0]), ratio(&[0.0, 0.0]), ratio(&[])), (0.25, 0.0, 0.0));
        assert_eq!(Metric::named("exact_match").map(|metric| (metric.count)(" a\n", "a")), Some(Some(vec![1.0, 1.0])));
    }
}
