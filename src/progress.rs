//! How library code reports long work without printing: `report` shows it, tests ignore it.

/// A listener for one piece of long work at a time. Called from several threads.
pub trait Progress: Sync {
    /// Work named `what` begins; `total` in `unit`s where known (`"bytes"`, `"rows"`, `"tokens"`, `"tensors"`).
    fn start(&self, what: &str, total: Option<u64>, unit: &'static str);
    /// `amount` more units are done.
    fn advance(&self, amount: u64);
    /// The work is done.
    fn finish(&self);
    /// A remark for the user.
    fn note(&self, _text: &str) {}
}

/// A number of things in words: `1 row`, `1,234 rows`.
pub fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{} {}", count(number), plural(number, noun))
}

/// A count with all its digits, in groups of three: `"1,234,567"`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A loss, a reward or another measure with four decimals: `"1.2345"`. What rounds to nothing has no sign.
pub fn metric(value: f64) -> String {
    let text = format!("{value:.4}");
    text.strip_prefix('-')
        .filter(|text| text.bytes().all(|byte| b"0.".contains(&byte)))
        .map_or(text.clone(), str::to_owned)
}

/// [`metric`] of a difference, with its sign: `"+0.1200"`.
pub fn signed_metric(value: f64) -> String {
    let text = metric(value);
    if text.starts_with('-') || value.is_nan() { text } else { format!("+{text}") }
}

/// Nouns whose plural no rule tells.
const IRREGULAR: [(&str, &str); 2] = [("index", "indices"), ("matrix", "matrices")];

/// How nouns end, and their plurals: the first that fits.
const ENDINGS: [(&str, &str); 5] = [("ss", "sses"), ("ch", "ches"), ("sh", "shes"), ("ry", "ries"), ("", "s")];

/// What so many of a thing are called.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 {
        return noun.to_owned();
    }
    if let Some((_, several)) = IRREGULAR.iter().find(|(one, _)| *one == noun) {
        return (*several).to_owned();
    }
    let several = |(one, several): &(&str, &str)| Some(noun.strip_suffix(one)?.to_owned() + several);
    ENDINGS.iter().find_map(several).unwrap_or_else(|| noun.to_owned())
}

/// What one of several things is called: a row of `rows`.
pub fn singular(nouns: &str) -> String {
    if let Some((one, _)) = IRREGULAR.iter().find(|(_, several)| *several == nouns) {
        return (*one).to_owned();
    }
    let one = |(one, several): &(&str, &str)| Some(nouns.strip_suffix(several)?.to_owned() + one);
    ENDINGS.iter().find_map(one).unwrap_or_else(|| nouns.to_owned())
}

/// Reports to nobody.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: Option<u64>, _: &'static str) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

/// Listeners for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::Progress;
    use std::sync::Mutex;

    /// Keeps what is said.
    #[derive(Default)]
    pub(crate) struct Notes(pub Mutex<Vec<String>>);

    impl Progress for Notes {
        fn start(&self, _: &str, _: Option<u64>, _: &'static str) {}
        fn advance(&self, _: u64) {}
        fn finish(&self) {}
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    impl Notes {
        /// What was said since the last time.
        pub(crate) fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounds_to_nothing_has_no_sign() {
        let told = [1.23456, -1.5, -0.0, -0.00004, -0.00006, 0.0, f64::NAN, f64::NEG_INFINITY].map(metric);
        assert_eq!(told, ["1.2346", "-1.5000", "0.0000", "0.0000", "-0.0001", "0.0000", "NaN", "-inf"]);
        assert_eq!([0.12, -0.12, -0.0, f64::NAN].map(signed_metric), ["+0.1200", "-0.1200", "+0.0000", "NaN"]);
    }

    #[test]
    fn one_thing_is_not_called_as_several_are() {
        assert_eq!([0_usize, 1, 1234].map(|n| counted(n, "row")), ["0 rows", "1 row", "1,234 rows"]);
        assert_eq!(counted(3, "pass"), "3 passes");
        assert_eq!([1, 127].map(|n| counted(n, "matrix")), ["1 matrix", "127 matrices"]);
    }

    #[test]
    fn one_of_several_is_what_they_are_the_plural_of() {
        for noun in ["row", "byte", "file", "layer", "pass", "batch", "entry", "matrix", "index", "question"] {
            assert_eq!(singular(&plural(2, noun)), noun);
        }
        assert_eq!(singular("data"), "data", "what is no plural");
    }
}
