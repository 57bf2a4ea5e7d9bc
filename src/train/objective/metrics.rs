//! Named numbers about a window beside its loss.

use std::collections::BTreeMap;

/// Means by name, as sums that can still be added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<&'static str, Mean>);

/// A mean that is not yet divided.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Metrics {
    /// Takes values into the mean called `name`.
    pub fn take(&mut self, name: &'static str, values: impl IntoIterator<Item = f64>) {
        let mean = self.0.entry(name).or_default();
        for value in values {
            mean.sum += value;
            mean.count += 1;
        }
    }

    /// Adds those of another part of the window.
    pub fn add(&mut self, other: &Metrics) {
        for (name, Mean { sum, count }) in &other.0 {
            let mean = self.0.entry(name).or_default();
            mean.sum += sum;
            mean.count += count;
        }
    }

    /// The means.
    pub fn means(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|(name, mean)| ((*name).to_owned(), mean.sum / mean.count.max(1) as f64)).collect()
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
}
