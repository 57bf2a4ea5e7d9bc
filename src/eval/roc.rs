//! How well scores tell what is wanted from what is not, and where to cut between the two.

use super::intervals::{Difference, Interval, difference_of, interval_of};
use serde::Serialize;

/// A score, and whether what has it is wanted.
pub type Judged = (f64, bool);

/// Shares of all that a table of cuts tries to accept.
const SHARES: [f64; 5] = [0.9, 0.75, 0.5, 0.25, 0.1];

/// What comes of a threshold: all that has at least so high a score is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cut {
    /// The least score that is accepted.
    pub threshold: f64,
    /// The share of all that is accepted.
    pub accepted: f64,
    /// Of what is not wanted, the share that is accepted all the same; nothing where all is wanted.
    pub wrongly_accepted: Option<f64>,
    /// Of what is wanted, the share that is refused; nothing where nothing is wanted.
    pub wrongly_refused: Option<f64>,
}

/// How often something wanted has the higher score of the two, if one wanted and one other thing are drawn; of equal scores half of the
/// times. This is the area under the ROC curve. `None` where all are of one kind.
///
/// # Source
/// Hanley and McNeil 1982; the statistic of Mann and Whitney, by ranks.
pub fn auc(judged: &[Judged]) -> Option<f64> {
    let wanted = count(judged, true);
    let others = judged.len() - wanted;
    if wanted == 0 || others == 0 {
        return None;
    }
    let sum: f64 = ranks(judged).iter().zip(judged).filter(|(_, (_, wanted))| *wanted).map(|(rank, _)| rank).sum();
    let (wanted, others) = (wanted as f64, others as f64);
    Some((sum - wanted * (wanted + 1.0) / 2.0) / (wanted * others))
}

/// [`auc`] with its interval.
pub fn auc_interval(judged: &[Judged]) -> Option<Interval> {
    auc(judged)?;
    let of = |drawn: &[usize]| auc(&drawn.iter().map(|&row| judged[row]).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    Some(interval_of(judged.len(), of))
}

/// How much larger the [`auc`] of the second of two is, on the same things in the same order. What is swapped between them is ranks: the
/// scores of two models may be of other sizes.
pub fn auc_difference(first: &[Judged], second: &[Judged]) -> Option<Difference> {
    auc(first).and(auc(second))?;
    let [first_ranks, second_ranks] = [first, second].map(ranks);
    Some(difference_of(first.len().min(second.len()), |drawn, swap| {
        let side = |mine: &[f64], theirs: &[f64]| {
            let one = |&row: &usize| (if swap[row] { theirs[row] } else { mine[row] }, first[row].1);
            auc(&drawn.iter().map(one).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        side(&second_ranks, &first_ranks) - side(&first_ranks, &second_ranks)
    }))
}

/// What comes of a threshold.
pub fn cut(judged: &[Judged], threshold: f64) -> Cut {
    let below = |kind: bool| judged.iter().filter(|(score, wanted)| *score < threshold && *wanted == kind).count();
    Counted::of(judged).cut(threshold, below(true), below(false))
}

/// The threshold that makes the fewest mistakes where both kinds count the same, however many there are of each (Youden's index is
/// the highest). Of equally good ones it is that between the scores which are farthest apart, with as few decimals as stand there.
/// `None` where no threshold does better than none at all.
pub fn suggested(judged: &[Judged]) -> Option<f64> {
    /// Sums of the same shares differ in their last bits.
    const SAME: f64 = 1e-9;
    let mut best: Option<(f64, f64, f64)> = None;
    for (width, Cut { threshold, wrongly_accepted, wrongly_refused, .. }) in possible(judged) {
        let index = 1.0 - wrongly_accepted? - wrongly_refused?;
        let is_better = |(best, widest, _): (f64, f64, f64)| {
            index > best + SAME || ((index - best).abs() <= SAME && width > widest)
        };
        if index > SAME && best.is_none_or(is_better) {
            best = Some((index, width, threshold));
        }
    }
    best.map(|(.., threshold)| threshold)
}

/// What comes of some thresholds, the lowest first: of `usual`, of `suggested`, and of those with which a tenth, a quarter and so on
/// is accepted.
pub fn table(judged: &[Judged], usual: f64, suggested: Option<f64>) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = std::iter::once(usual).chain(suggested).map(|at| cut(judged, at)).collect();
    let possible = possible(judged);
    for share in SHARES {
        let far = |cut: &Cut| (cut.accepted - share).abs();
        let Some((_, nearest)) = possible.iter().min_by(|(_, a), (_, b)| far(a).total_cmp(&far(b))) else { continue };
        if cuts.iter().all(|cut| cut.accepted != nearest.accepted) {
            cuts.push(*nearest);
        }
    }
    cuts.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
    cuts.dedup_by(|a, b| a.threshold == b.threshold);
    cuts
}

/// How many there are of each kind.
struct Counted {
    wanted: usize,
    others: usize,
}

impl Counted {
    fn of(judged: &[Judged]) -> Self {
        let wanted = count(judged, true);
        Counted { wanted, others: judged.len() - wanted }
    }

    /// What comes of a threshold below which there are so many of each.
    fn cut(&self, threshold: f64, wanted_below: usize, others_below: usize) -> Cut {
        let Counted { wanted, others } = *self;
        let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        Cut {
            threshold,
            accepted: share(wanted + others - wanted_below - others_below, wanted + others).unwrap_or(0.0),
            wrongly_accepted: share(others - others_below, others),
            wrongly_refused: share(wanted_below, wanted),
        }
    }
}

/// A threshold between each two scores that follow each other, the lowest first, each with how far these are apart.
fn possible(judged: &[Judged]) -> Vec<(f64, Cut)> {
    let mut sorted = judged.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (counted, mut wanted, mut others) = (Counted::of(judged), 0, 0);
    let mut found = Vec::new();
    for pair in sorted.windows(2) {
        let (low, high) = (pair[0].0, pair[1].0);
        *(if pair[0].1 { &mut wanted } else { &mut others }) += 1;
        if low < high {
            found.push((high - low, counted.cut(between(low, high), wanted, others)));
        }
    }
    found
}

/// What lies between two scores, with as few decimals as can be; of scores that lie too close the higher one, which is accepted.
fn between(low: f64, high: f64) -> f64 {
    let middle = low + (high - low) / 2.0;
    let rounded = |digits: i32| (middle * 10f64.powi(digits)).round() / 10f64.powi(digits);
    (1..=15).map(rounded).find(|number| low < *number && *number < high).unwrap_or(high)
}

/// The rank of each score from 1; equal ones share the mean of theirs.
fn ranks(judged: &[Judged]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|&a, &b| judged[a].0.total_cmp(&judged[b].0));
    let (mut ranks, mut before) = (vec![0.0; judged.len()], 0);
    for equal in order.chunk_by(|&a, &b| judged[a].0 == judged[b].0) {
        let rank = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|&at| ranks[at] = rank);
        before += equal.len();
    }
    ranks
}

fn count(judged: &[Judged], kind: bool) -> usize {
    judged.iter().filter(|(_, wanted)| *wanted == kind).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three that are wanted and two that are not, one of them between the others.
    const MIXED: [Judged; 5] = [(0.9, true), (0.2, false), (0.7, false), (0.8, true), (0.4, true)];

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        // By hand: of six pairs all but (0.4, 0.7) are in order.
        assert!((auc(&MIXED).unwrap() - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(auc(&[(1.0, true), (1.0, false)]), Some(0.5), "equal scores tell nothing");
        assert_eq!(auc(&[(0.0, true), (1.0, false)]), Some(0.0));
        assert_eq!((auc(&[(0.0, true)]), auc(&[])), (None, None));
        // Brute force, with ties.
        let many: Vec<Judged> = (0..60u32).map(|i| (f64::from(i * 7 % 11), i % 3 == 0)).collect();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (good, _) in many.iter().filter(|one| one.1) {
            for (bad, _) in many.iter().filter(|one| !one.1) {
                sum += if good > bad { 1.0 } else { 0.5 * f64::from(u8::from(good == bad)) };
                pairs += 1.0;
            }
        }
        assert!((auc(&many).unwrap() - sum / pairs).abs() < 1e-12);
        let found = auc_interval(&many).unwrap();
        assert!(found.low < found.value && found.value < found.high && found.value == auc(&many).unwrap(), "{found:?}");
    }

    #[test]
    fn two_are_compared_by_their_order_alone() {
        let judged = |score: fn(u32) -> f64| -> Vec<Judged> { (0..40).map(|i| (score(i), i % 2 == 0)).collect() };
        let chance = judged(|i| f64::from(i * 17 % 40));
        let sure = judged(|i| f64::from(i % 2) * -1e6 - f64::from(i));
        let found = auc_difference(&chance, &sure).unwrap();
        assert!(found.interval.value > 0.3 && found.p < 0.01, "{found:?}");
        let scaled: Vec<Judged> = sure.iter().map(|(score, wanted)| (score * 1e-9, *wanted)).collect();
        assert_eq!(auc_difference(&sure, &scaled).unwrap().interval.value, 0.0);
        assert_eq!(auc_difference(&chance, &[(1.0, true)]), None);
    }

    #[test]
    fn a_threshold_has_its_mistakes() {
        let found = cut(&MIXED, 0.5);
        let right =
            Cut { threshold: 0.5, accepted: 0.6, wrongly_accepted: Some(0.5), wrongly_refused: Some(1.0 / 3.0) };
        assert_eq!(found, right);
        assert_eq!(cut(&MIXED, 0.9).accepted, 0.2, "as much is enough");
        assert_eq!(cut(&[(0.1, true)], 0.5).wrongly_accepted, None);
        let all = table(&MIXED, 0.5, suggested(&MIXED));
        assert!(all.windows(2).all(|pair| pair[0].threshold < pair[1].threshold), "{all:?}");
        assert!(all.windows(2).all(|pair| pair[0].accepted >= pair[1].accepted), "{all:?}");
        assert!(all.iter().any(|cut| cut.threshold == 0.5), "{all:?}");
        assert_eq!(table(&[], 0.5, None).len(), 1);
    }

    #[test]
    fn what_is_suggested_lies_in_the_widest_of_the_best_gaps_and_is_short() {
        assert_eq!(suggested(&[(0.1, false), (0.3, false), (0.7, true), (0.9, true)]), Some(0.5));
        // At 0.3 one of two is accepted wrongly, at 0.75 one of three is refused.
        assert_eq!(suggested(&MIXED), Some(0.75));
        assert_eq!(suggested(&[(0.99931, false), (0.99967, true)]), Some(0.9995));
        let close = [(0.25, false), (0.25 + f64::EPSILON, true)];
        assert_eq!(suggested(&close), Some(0.25 + f64::EPSILON));
        assert_eq!(suggested(&[(0.9, false), (0.1, true)]), None, "the wrong way round");
        assert_eq!(suggested(&[(0.9, true), (0.1, true)]), None);
        assert_eq!(suggested(&[(0.5, true), (0.5, false)]), None);
    }
}
