//! Named numbers about a window beside its loss.

use std::collections::BTreeMap;

/// Means by name, as sums that can still be added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    means: BTreeMap<&'static str, Mean>,
    /// Differences of two means, by name.
    differences: BTreeMap<&'static str, [&'static str; 2]>,
    /// The smallest and the largest numbers that there were, by name.
    extremes: BTreeMap<&'static str, Extreme>,
}

/// One end of what there was.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Extreme {
    Least(f64),
    Most(f64),
}

impl Extreme {
    fn with(self, other: Extreme) -> Self {
        let (Extreme::Least(next) | Extreme::Most(next)) = other;
        match self {
            Extreme::Least(least) => Extreme::Least(least.min(next)),
            Extreme::Most(most) => Extreme::Most(most.max(next)),
        }
    }
}

/// A mean that is not yet divided.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Metrics {
    /// Takes values into the mean called `name`.
    pub fn take(&mut self, name: &'static str, values: impl IntoIterator<Item = f64>) {
        let mean = self.means.entry(name).or_default();
        for value in values {
            mean.sum += value;
            mean.count += 1;
        }
    }

    /// Makes `name` what the mean called `more` has more than the one called `less`, where there are both.
    pub fn difference(&mut self, name: &'static str, [more, less]: [&'static str; 2]) {
        self.differences.insert(name, [more, less]);
    }

    /// Makes `name` the least of what it is told.
    pub fn least(&mut self, name: &'static str, value: f64) {
        self.reach(name, Extreme::Least(value));
    }

    /// Makes `name` the most of what it is told.
    pub fn most(&mut self, name: &'static str, value: f64) {
        self.reach(name, Extreme::Most(value));
    }

    fn reach(&mut self, name: &'static str, value: Extreme) {
        self.extremes.entry(name).and_modify(|extreme| *extreme = extreme.with(value)).or_insert(value);
    }

    /// What TRL logs of a pair, by its names: what `beta` makes of the two answers, and their log-probabilities.
    pub(super) fn take_pair(&mut self, beta: f64, by: [f64; 2], logps: [f64; 2]) {
        let [chosen, rejected] = by.map(|by| beta * by);
        for (name, value) in [
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("rewards/accuracies", f64::from(u8::from(chosen > rejected))),
            ("rewards/margins", chosen - rejected),
            ("logps/chosen", logps[0]),
            ("logps/rejected", logps[1]),
        ] {
            self.take(name, [value]);
        }
    }

    /// Adds those of another part of the window.
    pub fn add(&mut self, other: &Metrics) {
        for (name, Mean { sum, count }) in &other.means {
            let mean = self.means.entry(name).or_default();
            mean.sum += sum;
            mean.count += count;
        }
        self.differences.extend(&other.differences);
        other.extremes.iter().for_each(|(name, extreme)| self.reach(name, *extreme));
    }

    /// The means, differences of them, and extremes.
    pub fn means(&self) -> BTreeMap<String, f64> {
        let mean = |mean: &Mean| mean.sum / mean.count.max(1) as f64;
        let difference = |[more, less]: &[&str; 2]| Some(mean(self.means.get(more)?) - mean(self.means.get(less)?));
        let differences = self.differences.iter().filter_map(|(name, of)| Some((*name, difference(of)?)));
        let means = self.means.iter().map(|(name, of)| (*name, mean(of)));
        let extremes = self.extremes.iter().map(|(name, Extreme::Least(value) | Extreme::Most(value))| (*name, *value));
        means.chain(differences).chain(extremes).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_mean_of_the_whole() {
        let of = |parts: &[&[f64]]| {
            let mut all = Metrics::default();
            for values in parts {
                let mut part = Metrics::default();
                part.take("rewards/margins", values.iter().copied());
                all.add(&part);
            }
            all.means()
        };
        assert_eq!(of(&[&[1.0], &[2.0, 6.0]]), of(&[&[1.0, 2.0, 6.0]]));
        assert_eq!(of(&[&[1.0], &[2.0, 6.0]])["rewards/margins"], 3.0);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_difference_is_of_the_means_of_the_whole_where_there_are_both() {
        let part = |chosen: &[f64], rejected: &[f64]| {
            let mut part = Metrics::default();
            for (name, values) in [("rewards/chosen", chosen), ("rewards/rejected", rejected)] {
                if !values.is_empty() {
                    part.take(name, values.iter().copied());
                }
            }
            part.difference("rewards/margins", ["rewards/chosen", "rewards/rejected"]);
            part
        };
        let mut all = part(&[1.0, 2.0, 6.0], &[]);
        assert!(!all.means().contains_key("rewards/margins"));
        all.add(&part(&[], &[1.0, 0.0]));
        assert_eq!(all.means()["rewards/margins"], 2.5);
    }
}
