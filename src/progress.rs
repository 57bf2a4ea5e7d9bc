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

/// A number of things in words: `1 row`, `2 rows`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {}", plural(count as u64, noun))
}

/// What so many of a thing are called.
pub fn plural(count: u64, noun: &str) -> String {
    match noun.ends_with("ss") || noun.ends_with("ch") {
        _ if count == 1 => noun.to_owned(),
        true => format!("{noun}es"),
        false => format!("{noun}s"),
    }
}

/// Reports to nobody.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: Option<u64>, _: &'static str) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_called_as_several_are() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "row")), ["0 rows", "1 row", "2 rows"]);
        assert_eq!(counted(3, "pass"), "3 passes");
    }
}
