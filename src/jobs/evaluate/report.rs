//! What was measured, with how sure it is.

use super::metrics::{MetricReport, column};
use super::questions::Questions;
use super::targets::{Target, are_the_same};
use super::thresholds::{self, Thresholds};
use super::{Asked, Contestant, Latency, Measured, Origins, Rows, shown};
use crate::error::Result;
use crate::eval::metric::{Counts, ratio};
use crate::jobs::run::rollouts::Line;
use serde::Serialize;
use serde_json::{Value, json};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of the first model and the last contestant, where there are rows with losses.
    #[serde(flatten)]
    pub losses: Option<Evaluation>,
    /// Who was measured; all are compared with the first.
    pub contestants: Vec<Contestant>,
    /// Supervised tokens of each contestant, where there are rows with losses.
    pub supervised_tokens: Vec<u64>,
    /// What keeps numbers from being compared, or from saying what they seem to say.
    pub warnings: Vec<String>,
    /// The metrics.
    pub metrics: Vec<MetricReport>,
    /// What thresholds would do with rows that reward models have judged one by one, per contestant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Thresholds>,
    /// How long answers took, per contestant.
    pub latency: Vec<Option<Latency>>,
    /// The rows of which the last contestant makes least, worst first.
    pub worst: Vec<Worst>,
    /// Each row with what was measured of it.
    #[serde(skip)]
    rows: Vec<Value>,
}

/// Losses on the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Supervised tokens.
    pub tokens: u64,
    /// Mean negative log-likelihood of the first, in nats.
    pub base_loss: f64,
    /// `exp(base_loss)`.
    pub base_perplexity: f64,
    /// Mean negative log-likelihood of the last, in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
}

/// A row that is far from what was wanted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// Where it is.
    pub place: String,
    /// The loss per token of each contestant.
    pub losses: Vec<f64>,
    /// Its end as text.
    pub text: String,
}

/// Each row with what was measured of it, as lines of JSON.
pub fn row_lines(report: &Report) -> impl Iterator<Item = String> {
    report.rows.iter().map(Value::to_string)
}

/// Puts everything together.
///
/// # Errors
/// None so far.
pub(super) fn report(asked: &Asked, all: &[Measured], origins: &Origins) -> Result<Report> {
    let (mut metrics, mut warnings) = (Vec::new(), origins.known.clone());
    warnings.extend(asked.questions.as_ref().and_then(Questions::warning));
    let losses: Vec<&[Counts]> = all.iter().filter_map(|one| Some(one.losses.as_ref()?.rows.as_slice())).collect();
    if !losses.is_empty() {
        let columns: Vec<Vec<Option<Counts>>> =
            losses.iter().map(|rows| rows.iter().map(supervised).collect()).collect();
        let others = of_other_tokens(all);
        let has_pairs = all.iter().any(|one| one.losses.as_ref().is_some_and(|losses| !losses.margins.is_empty()));
        let of = asked.rows.as_ref().map(Rows::of).unwrap_or_default();
        let mut of_tokens = [
            column("loss", &format!("nats per supervised token{of}"), false, &columns, ratio),
            column("perplexity", "exp of the loss", false, &columns, |counts| ratio(counts).exp()),
        ];
        for metric in &mut of_tokens {
            // A loss per token of other tokens is a loss of something else.
            others.iter().for_each(|&at| metric.differences[at] = None);
        }
        metrics.extend(of_tokens);
        if has_pairs {
            metrics.extend(of_pairs(all));
        }
        if !others.is_empty() {
            let by_bytes = column("bits_per_byte", "loss in bits per byte of the text", false, &per_byte(all), ratio);
            let left_out = columns.first().map_or(0, Vec::len).saturating_sub(by_bytes.rows);
            warnings.push(other_tokens(&others, all, left_out));
            metrics.push(by_bytes);
        }
    }
    metrics.extend(of_rewards(all));
    let judged = thresholds::said(all, origins.are_prompts);
    metrics.extend(judged.metrics);
    warnings.extend(judged.warnings);
    metrics.extend(of_answers(all));
    for metric in &asked.metrics {
        let of = |one: &Measured| {
            let answers = one.answers.as_ref().map(|(answers, _)| answers.as_slice()).unwrap_or_default();
            answers.iter().map(|answer| (metric.count)(&answer.text, &answer.reference)).collect()
        };
        let columns: Vec<Vec<Option<Counts>>> = all.iter().map(of).collect();
        metrics.push(column(metric.name, metric.about, metric.more_is_better, &columns, metric.score));
    }
    let mut rows = match () {
        () if all.iter().any(|one| one.judged.is_some()) => judged_rows(all, origins),
        () if all.iter().any(|one| one.rewards.is_some()) => reward_rows(all, origins),
        () if all.iter().any(|one| one.judged_rows.is_some()) => thresholds::rows(all, origins),
        () => loss_rows(all, origins),
    };
    answer_rows(all, &mut rows);
    if let Some(questions) = &asked.questions {
        let verdicts = |one: &Measured| {
            let sums = one.loglikelihoods.as_deref().unwrap_or_default();
            questions.rows.iter().zip(sums).map(|((_, question), sums)| question.verdict(sums)).collect::<Vec<_>>()
        };
        let all_verdicts: Vec<Vec<[bool; 2]>> = all.iter().map(verdicts).collect();
        let of = |which: usize| -> Vec<Vec<Option<Counts>>> {
            let count = |verdict: &[bool; 2]| Some(vec![f64::from(verdict[which]), 1.0]);
            all_verdicts.iter().map(|verdicts| verdicts.iter().map(count).collect()).collect()
        };
        let task = questions.task.name();
        metrics.push(column(
            &format!("{task} acc"),
            "questions with the right choice most likely",
            true,
            &of(0),
            ratio,
        ));
        if questions.task.is_normalised() {
            let about = "the same, by log-likelihood per character";
            metrics.push(column(&format!("{task} acc_norm"), about, true, &of(1), ratio));
        }
        rows.extend(questions.rows.iter().enumerate().map(|(at, (number, question))| {
            let sums: Vec<_> = all.iter().filter_map(|one| one.loglikelihoods.as_ref()?.get(at)).collect();
            let place = format!("{}, row {number}", shown(&questions.path));
            json!({"place": place, "context": question.context, "choices": question.choices, "right": question.right,
                "loglikelihoods": sums})
        }));
    }
    Ok(Report {
        losses: evaluation(all),
        contestants: all.iter().map(|one| one.contestant.clone()).collect(),
        supervised_tokens: all.iter().filter_map(|one| Some(one.losses.as_ref()?.tokens)).collect(),
        warnings,
        metrics,
        thresholds: judged.thresholds,
        latency: all.iter().map(|one| one.answers.as_ref().map(|(_, latency)| *latency)).collect(),
        worst: worst(all, origins),
        rows,
    })
}

/// Which answer of each pair is the more likely, and by how much: what a contestant has more than the first is what it has learnt of
/// the preference.
fn of_pairs(all: &[Measured]) -> [MetricReport; 2] {
    let of = |count: fn(f64) -> f64| -> Vec<Vec<Option<Counts>>> {
        let margins = |one: &Measured| one.losses.as_ref().map(|losses| losses.margins.clone()).unwrap_or_default();
        all.iter().map(|one| margins(one).into_iter().map(|margin| Some(vec![count(margin), 1.0])).collect()).collect()
    };
    let is_right = |margin: f64| f64::from(u8::from(margin > 0.0));
    [
        column("accuracy", "pairs whose preferred answer is the more likely", true, &of(is_right), ratio),
        column("margin", "nats that it is more likely by", true, &of(|margin| margin), ratio),
    ]
}

/// Which answer of each pair has the larger reward, by how much, and what rewards are in the mean; nothing where none are given.
fn of_rewards(all: &[Measured]) -> Vec<MetricReport> {
    if all.iter().all(|one| one.rewards.is_none()) {
        return Vec::new();
    }
    let of = |count: fn(&[f64; 2]) -> Counts| -> Vec<Vec<Option<Counts>>> {
        let rewards = |one: &Measured| one.rewards.clone().unwrap_or_default();
        all.iter().map(|one| rewards(one).iter().map(|pair| Some(count(pair))).collect()).collect()
    };
    let is_right = |[chosen, rejected]: &[f64; 2]| vec![f64::from(u8::from(chosen > rejected)), 1.0];
    vec![
        column("accuracy", "pairs whose preferred answer has the larger reward", true, &of(is_right), ratio),
        column(
            "margin",
            "by how much it is larger",
            true,
            &of(|[chosen, rejected]| vec![chosen - rejected, 1.0]),
            ratio,
        ),
        column("mean_reward", "the mean reward of an answer", true, &of(|[a, b]| vec![a + b, 2.0]), ratio),
    ]
}

/// How good the answers to each prompt are in the mean, by all rewards together and by each, and how long; nothing where none are judged.
fn of_answers(all: &[Measured]) -> Vec<MetricReport> {
    let of = |number: &dyn Fn(&Line) -> f64| -> Vec<Vec<Option<Counts>>> {
        let mean = |lines: &Vec<Line>| Some(vec![lines.iter().map(number).sum::<f64>(), lines.len() as f64]);
        all.iter().map(|one| one.judged.iter().flatten().map(mean).collect()).collect()
    };
    let Some(first) = all.iter().find_map(|one| one.judged.as_ref()?.first()?.first()) else { return Vec::new() };
    let about = "the sum of what rewards say of an answer, each with its weight";
    let mut metrics = vec![column("reward", about, true, &of(&|line| line.reward), ratio)];
    for name in first.rewards.keys() {
        let said = |line: &Line| line.rewards.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        metrics.push(column(&format!("rewards/{name}"), "what it says of an answer", true, &of(&said), ratio));
    }
    let lengths = of(&|line| line.tokens.len() as f64);
    let lengths = column("completions/mean_length", "tokens of an answer", true, &lengths, ratio);
    metrics.push(MetricReport { more_is_better: None, ..lengths });
    metrics
}

/// Each prompt with its answers and what was said of them.
fn judged_rows(all: &[Measured], origins: &Origins) -> Vec<Value> {
    let lines = |row: usize| all.iter().filter_map(move |one| one.judged.as_ref()?.get(row));
    let row = |(row, place): (usize, &String)| {
        let rewards: Vec<Vec<f64>> = lines(row).map(|lines| lines.iter().map(|line| line.reward).collect()).collect();
        let answers: Vec<Vec<&str>> =
            lines(row).map(|lines| lines.iter().map(|line| line.completion.as_str()).collect()).collect();
        json!({"place": place, "rewards": rewards, "answers": answers})
    };
    origins.places.iter().enumerate().map(row).collect()
}

/// Each row with the rewards of its two answers.
fn reward_rows(all: &[Measured], origins: &Origins) -> Vec<Value> {
    let rewards = |row: usize| all.iter().filter_map(|one| one.rewards.as_ref()?.get(row)).collect::<Vec<_>>();
    origins.places.iter().enumerate().map(|(row, place)| json!({"place": place, "rewards": rewards(row)})).collect()
}

/// The contestants that are asked for other tokens than the first.
fn of_other_tokens(all: &[Measured]) -> Vec<usize> {
    let first = all.first().and_then(|one| one.targets.as_deref()).unwrap_or_default();
    let is_other = |one: &Measured| one.targets.as_deref().is_some_and(|targets| !are_the_same(first, targets));
    (0..all.len()).filter(|&at| is_other(&all[at])).collect()
}

/// Of each contestant and row the loss in bits and the bytes of the text; nothing of a row that is not one text for all.
fn per_byte(all: &[Measured]) -> Vec<Vec<Option<Counts>>> {
    let first = all.first().and_then(|one| one.targets.as_deref()).unwrap_or_default();
    let of_row = |one: &Measured, row: usize, said: &Target| -> Option<Counts> {
        let own = one.targets.as_ref()?.get(row)?;
        let counts = supervised(one.losses.as_ref()?.rows.get(row)?)?;
        own.says(said).then(|| vec![counts[0] / std::f64::consts::LN_2, said.bytes as f64])
    };
    let of = |one: &Measured| first.iter().enumerate().map(|(row, said)| of_row(one, row, said)).collect();
    all.iter().map(of).collect()
}

/// What is said of contestants that are asked for other tokens than the first.
fn other_tokens(others: &[usize], all: &[Measured], left_out: usize) -> String {
    let names: Vec<String> = others.iter().map(|&at| format!("`{}`", all[at].contestant.name())).collect();
    let first = all.first().map(|one| one.contestant.name()).unwrap_or_default();
    let rows = match left_out {
        0 => String::new(),
        left_out => format!(", without the {left_out} whose text is not the same for all"),
    };
    format!(
        "{} cut the rows into other tokens than `{first}`, so that losses per token are not compared: see bits_per_byte{rows}",
        names.join(", ")
    )
}

/// The counts of a row that is measured at all.
fn supervised(row: &Counts) -> Option<Counts> {
    (row.get(1) > Some(&0.0)).then(|| row.clone())
}

fn evaluation(all: &[Measured]) -> Option<Evaluation> {
    let first = all.first()?.losses.as_ref()?;
    let last = all.last()?.losses.as_ref()?;
    Some(Evaluation {
        tokens: last.tokens,
        base_loss: first.loss,
        base_perplexity: first.loss.exp(),
        loss: last.loss,
        perplexity: last.loss.exp(),
    })
}

/// The mean losses of a row.
fn means(all: &[Measured], row: usize) -> Option<Vec<f64>> {
    all.iter().map(|one| supervised(one.losses.as_ref()?.rows.get(row)?).map(|counts| ratio(&counts))).collect()
}

fn worst(all: &[Measured], origins: &Origins) -> Vec<Worst> {
    let mut worst: Vec<Worst> = origins
        .places
        .iter()
        .zip(&origins.texts)
        .enumerate()
        .filter_map(|(row, (place, text))| {
            Some(Worst { place: place.clone(), losses: means(all, row)?, text: text.clone() })
        })
        .collect();
    worst.sort_by(|a, b| b.losses.last().unwrap_or(&0.0).total_cmp(a.losses.last().unwrap_or(&0.0)));
    worst
}

fn loss_rows(all: &[Measured], origins: &Origins) -> Vec<Value> {
    let row = |(row, place): (usize, &String)| {
        let count = |one: &Measured| one.losses.as_ref()?.rows.get(row)?.get(1).copied();
        let counts = all.iter().map(count).collect::<Option<Vec<f64>>>()?;
        // One number where all have the same tokens.
        let is_one = counts.iter().all(|count| Some(count) == counts.first());
        let tokens = if is_one { json!(counts.first()) } else { json!(counts) };
        Some(json!({"place": place, "tokens": tokens, "losses": means(all, row)}))
    };
    origins.places.iter().enumerate().filter_map(row).collect()
}

/// Adds the answers to the rows that were asked.
fn answer_rows(all: &[Measured], rows: &mut [Value]) {
    let Some((first, _)) = all.first().and_then(|one| one.answers.as_ref()) else { return };
    for (at, answer) in first.iter().enumerate() {
        let texts = all.iter().filter_map(|one| Some(one.answers.as_ref()?.0.get(at)?.text.as_str()));
        if let Some(row) = rows.get_mut(answer.row) {
            row["reference"] = json!(answer.reference);
            row["answers"] = texts.collect();
        }
    }
}
