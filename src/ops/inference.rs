//! Whether what is computed only decides what is said next.

use std::cell::Cell;

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Computes what nothing is learnt from, as answers are: products of a few rows are then summed in the order that is the fastest for
/// them. What is trained, scored or measured is summed as for any number of rows, so that it does not depend on how many there are.
///
/// It holds on this thread, which is the one that asks for products.
pub fn inference<R>(work: impl FnOnce() -> R) -> R {
    /// As it was before, whatever ends the work.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_ON.set(self.0);
        }
    }
    let _before = Before(IS_ON.replace(true));
    work()
}

/// Whether that is so now.
pub(super) fn is_on() -> bool {
    IS_ON.get()
}
