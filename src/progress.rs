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

/// Reports to nobody.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: Option<u64>, _: &'static str) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}
