//! Reward models on rows that are judged one by one, such as prompts for here and for elsewhere: how well they tell the two apart, and
//! where to draw the line.

use super::metrics::{MetricReport, column};
use super::{Measured, Origins};
use crate::eval::metric::{Counts, ratio};
use crate::eval::roc::{self, Cut, Judged};
use crate::nn::sigmoid;
use crate::progress::counted;
use serde::Serialize;
use serde_json::{Value, json};

/// The threshold of rules that name none, and that at which a reward is 0.
const USUAL: f64 = 0.5;
/// With fewer rows of a kind a threshold is a guess: one of them is more than a twentieth of all.
const FEW: usize = 20;

/// What thresholds would do with the rows of one contestant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thresholds {
    /// The rows.
    pub rows: usize,
    /// Those that are good, or for here.
    pub good: usize,
    /// Whether they are prompts by themselves, that are for here or for elsewhere.
    pub are_prompts: bool,
    /// The threshold with the fewest mistakes where both kinds count the same; nothing where none tells them apart.
    pub suggested: Option<f64>,
    /// Some thresholds, the lowest first. What is compared with them is how likely a row is good: the sigmoid of its reward.
    pub cuts: Vec<Cut>,
}

/// What is said of it all.
#[derive(Default)]
pub(super) struct Said {
    pub metrics: Vec<MetricReport>,
    /// Of each contestant.
    pub thresholds: Vec<Thresholds>,
    pub warnings: Vec<String>,
}

/// Measures them; nothing where rows are judged in pairs or not at all.
pub(super) fn said(all: &[Measured], are_prompts: bool) -> Said {
    let of_each = all.iter().filter_map(|one| Some((one.contestant.name(), one.judged_rows.as_deref()?)));
    judged(&of_each.collect::<Vec<_>>(), are_prompts)
}

fn judged(all: &[(String, &[Judged])], are_prompts: bool) -> Said {
    let Some((_, first)) = all.first() else { return Said::default() };
    let of = |count: fn(&Judged) -> Counts| -> Vec<Vec<Option<Counts>>> {
        all.iter().map(|(_, rows)| rows.iter().map(|row| Some(count(row))).collect()).collect()
    };
    let is_right = |(reward, is_good): &Judged| vec![f64::from(u8::from((*reward >= 0.0) == *is_good)), 1.0];
    let [about, of_area] = match are_prompts {
        true => [
            "prompts that a threshold of 0.5 sends where they belong",
            "how often a prompt for here is found likelier to be one than a prompt for elsewhere; by chance 0.5",
        ],
        false => [
            "rows that a threshold of 0.5 tells rightly",
            "how often a good row has the larger reward than a bad one; by chance 0.5",
        ],
    };
    let mut metrics = vec![column("accuracy", about, true, &of(is_right), ratio)];
    let area = |(_, rows): &(String, &[Judged])| roc::auc_interval(rows);
    // The labels are the same for all: where one has no area, none has.
    if let Some(values) = all.iter().map(area).collect::<Option<Vec<_>>>() {
        let beside = |(at, (_, rows)): (usize, &(String, &[Judged]))| {
            if at == 0 { None } else { roc::auc_difference(first, rows) }
        };
        metrics.push(MetricReport {
            metric: "auc".to_owned(),
            about: of_area.to_owned(),
            more_is_better: Some(true),
            rows: first.len(),
            differences: all.iter().enumerate().map(beside).collect(),
            values,
        });
    }
    let mean = column("mean_reward", "the mean reward of a row", true, &of(|(reward, _)| vec![*reward, 1.0]), ratio);
    metrics.push(MetricReport { more_is_better: None, ..mean });
    let thresholds: Vec<Thresholds> = all.iter().map(|(_, rows)| Thresholds::of(rows, are_prompts)).collect();
    let mut warnings: Vec<String> = thresholds.first().and_then(Thresholds::warning).into_iter().collect();
    for ((name, rows), thresholds) in all.iter().zip(&thresholds) {
        let area = roc::auc(rows);
        let below_chance = area.filter(|area| *area < 0.5);
        warnings.extend(below_chance.map(|area| {
            format!(
                "`{name}` tells the rows apart worse than chance does (auc {area:.4}): no threshold makes it useful"
            )
        }));
        let tells_nothing = thresholds.suggested.is_none() && below_chance.is_none() && area.is_some();
        warnings.extend(tells_nothing.then(|| format!("no threshold has `{name}` tell the rows apart")));
    }
    Said { metrics, thresholds, warnings }
}

/// Each row with its label and its rewards.
pub(super) fn rows(all: &[Measured], origins: &Origins) -> Vec<Value> {
    let row = |(row, place): (usize, &String)| {
        let of_each = || all.iter().filter_map(|one| one.judged_rows.as_ref()?.get(row));
        let rewards: Vec<f64> = of_each().map(|(reward, _)| *reward).collect();
        let likely: Vec<f64> = rewards.iter().copied().map(sigmoid).collect();
        let label = of_each().next().map(|(_, is_good)| *is_good);
        json!({"place": place, "label": label, "rewards": rewards, "scores": likely})
    };
    origins.places.iter().enumerate().map(row).collect()
}

impl Thresholds {
    fn of(rows: &[Judged], are_prompts: bool) -> Self {
        let likely: Vec<Judged> = rows.iter().map(|(reward, is_good)| (sigmoid(*reward), *is_good)).collect();
        let suggested = roc::suggested(&likely);
        Thresholds {
            rows: rows.len(),
            good: rows.iter().filter(|(_, is_good)| *is_good).count(),
            are_prompts,
            suggested,
            cuts: roc::table(&likely, USUAL, suggested),
        }
    }

    /// The two kinds of rows, in the words for them.
    pub fn kinds(&self) -> [&'static str; 2] {
        if self.are_prompts { ["for here", "for elsewhere"] } else { ["good", "bad"] }
    }

    /// What keeps a threshold from being sure.
    fn warning(&self) -> Option<String> {
        let ([good, bad], counts) = (self.kinds(), [self.good, self.rows - self.good]);
        let rows = counted(self.rows, "row");
        match counts {
            [0, 0] => None,
            [_, 0] => Some(format!("all of {rows} are {good}: what becomes of others is not known")),
            [0, _] => Some(format!("all of {rows} are {bad}: what becomes of others is not known")),
            [here, there] if here < FEW || there < FEW => Some(format!(
                "of {rows} {here} are {good} and {there} {bad}: a threshold from so few is a guess, and {FEW} of each are not many"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[Judged], are_prompts: bool) -> Said {
        judged(&[("a".to_owned(), rows)], are_prompts)
    }

    #[test]
    fn a_router_that_tells_all_has_a_threshold_between() {
        let rows: Vec<Judged> = (0..60).map(|i| if i < 30 { (3.0, true) } else { (1.0, false) }).collect();
        let Said { metrics, thresholds, warnings } = of(&rows, true);
        assert_eq!(warnings, Vec::<String>::new());
        let value = |name: &str| metrics.iter().find(|metric| metric.metric == name).expect(name).values[0].value;
        assert_eq!((value("accuracy"), value("auc"), value("mean_reward")), (0.5, 1.0, 2.0));
        assert!(metrics.iter().all(|metric| metric.rows == 60));
        // Between the sigmoids of 1 and 3, 0.731 and 0.953, in the unit that rules have.
        let [found] = &thresholds[..] else { panic!("{thresholds:?}") };
        assert_eq!((found.rows, found.good, found.suggested), (60, 30, Some(0.8)));
        let cut = |at: f64| found.cuts.iter().find(|cut| cut.threshold == at).expect("a cut");
        assert_eq!(
            (cut(0.5).accepted, cut(0.5).wrongly_accepted, cut(0.5).wrongly_refused),
            (1.0, Some(1.0), Some(0.0))
        );
        assert_eq!(
            (cut(0.8).accepted, cut(0.8).wrongly_accepted, cut(0.8).wrongly_refused),
            (0.5, Some(0.0), Some(0.0))
        );
    }

    #[test]
    fn what_tells_little_is_said() {
        let said = |rows: &[Judged]| of(rows, true).warnings.join("\n");
        let few = said(&[(1.0, true), (-1.0, false)]);
        assert!(few.starts_with("of 2 rows 1 are for here and 1 for elsewhere: a threshold from so few"), "{few}");
        let worse = said(&[(-1.0, true), (1.0, false)]);
        assert!(worse.contains("`a` tells the rows apart worse than chance does (auc 0.0000)"), "{worse}");
        let same = said(&[(1.0, true), (1.0, false)]);
        assert!(same.contains("no threshold has `a` tell the rows apart"), "{same}");
        let one = of(&[(1.0, false), (2.0, false)], false);
        assert_eq!(one.warnings, ["all of 2 rows are bad: what becomes of others is not known"]);
        assert!(one.metrics.iter().all(|metric| metric.metric != "auc") && one.thresholds[0].suggested.is_none());
        assert!(judged(&[], true).metrics.is_empty());
    }

    #[test]
    fn two_are_measured_against_each_other() {
        let first: Vec<Judged> = (0..40).map(|i| (f64::from(i * 17 % 40), i % 2 == 0)).collect();
        let second: Vec<Judged> = (0..40).map(|i| (f64::from(1 - i % 2), i % 2 == 0)).collect();
        let Said { metrics, thresholds, .. } = judged(&[("a".to_owned(), &first), ("b".to_owned(), &second)], false);
        let area = metrics.iter().find(|metric| metric.metric == "auc").expect("an area");
        assert!(area.differences[0].is_none() && area.differences[1].is_some_and(|by| by.interval.value > 0.3));
        assert_eq!((thresholds.len(), thresholds[1].suggested), (2, Some(0.6)));
    }
}
