//! A fence around what devices compute: a failure there is an error like any other.
//!
//! Kernels are queued, and one that fails is found out where a result is read, by a panic of the library. Each verb runs
//! inside of a fence; a run of training has more within, which say at what it was, so that what was done can be saved.

use crate::error::{Error, Kind, Result};
use crate::guard::{Panic, watched};

/// Runs what may fail on a device. What `work` worked on must not be used after an error.
///
/// # Errors
/// [`Kind::OutOfMemory`] where the device has no memory left, else [`Kind::Computing`], with what was done (`doing`, as in
/// "step 12"), and with the kernel, where the device knows it. [`Kind::Bug`] where no device failed.
pub fn fenced<T>(doing: &str, work: impl FnOnce() -> T) -> Result<T> {
    let work = || {
        #[cfg(test)]
        injected::fail(doing);
        work()
    };
    watched(work).map_err(|panic| failure(doing, &panic))
}

fn failure(doing: &str, panic: &Panic) -> Error {
    if !panic.is_of_device {
        let place = panic.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        let what = format!("{doing}: a mistake in gemma-tune: {}{place}", in_a_line(&panic.said));
        return Error::new(Kind::Bug, what)
            .hint("report it, with the command; `RUST_BACKTRACE=1` adds where it comes from");
    }
    let why = root(&panic.said);
    let kernel = kernel(&panic.said).map(|kernel| format!(", before kernel `{kernel}`")).unwrap_or_default();
    match panic.is_out_of_memory() {
        true => Error::new(Kind::OutOfMemory, format!("{doing}{kernel}: the device has no memory left: {why}")),
        false => Error::new(Kind::Computing, format!("{doing}{kernel}: the device failed: {why}")),
    }
}

/// The kernel that did not run first, for want of what another should have written.
fn kernel(said: &str) -> Option<&str> {
    let after = said.rsplit_once("skipped `")?.1;
    after.split_once('`').map(|(kernel, _)| kernel)
}

/// What it began with, in a line: what the last cause says.
fn root(said: &str) -> String {
    in_a_line(said.rsplit_once("Caused by:").map_or(said, |(_, cause)| cause))
}

/// What a library of devices says, in a line of bearable length, without where the library was.
pub fn in_a_line(said: &str) -> String {
    const MOST_CHARACTERS: usize = 300;
    let is_trace = |line: &str| ["Backtrace", "No backtrace", "Asked at"].iter().any(|start| line.starts_with(start));
    let lines = said.lines().map(str::trim).take_while(|line| !is_trace(line)).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ").chars().take(MOST_CHARACTERS).collect()
}

/// Failures that tests ask for.
#[cfg(test)]
pub mod injected {
    use std::cell::RefCell;

    thread_local! {
        static FAILURES: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
    }

    /// What the library says in the place of doing this, once.
    pub fn next(doing: &str, said: &str) {
        FAILURES.with_borrow_mut(|failures| failures.push((doing.to_owned(), said.to_owned())));
    }

    pub(super) fn fail(doing: &str) {
        let said = FAILURES.with_borrow_mut(|failures| {
            let at = failures.iter().position(|(what, _)| what == doing)?;
            Some(failures.remove(at).1)
        });
        if let Some(said) = said {
            super::Panic::of_device(said).resume();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cubecl 0.11 says it of a buffer that an operation for want of memory did not write.
    const UNWRITTEN: &str = "Error while reading data: use `try_into_data` instead to catch the error at runtime: \
        Several failures at once\nCaused by:\n  The bytes were never written (failure #3, still claiming 2 buffer(s))\n  \
        skipped `ReduceKernel`: it needed memory 9, which carried the failure\n  \
        skipped `SoftmaxKernel`: it needed memory 7, which carried the failure\n\
        Caused by:\n  An IO error happened\nCaused by:\n  out of device memory allocating 1234 bytes\n\
        No backtrace available\nAsked at:\nNo backtrace available";

    #[test]
    fn what_a_library_says_becomes_a_line() {
        let error = fenced::<()>("step 12", || panic!("{UNWRITTEN}")).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::OutOfMemory, 1));
        assert_eq!(
            error.what(),
            "step 12, before kernel `SoftmaxKernel`: the device has no memory left: out of device memory allocating 1234 bytes"
        );
        const REFUSED: &str = "A launch error happened\nCaused by:\n  A compilation error happened during launch\nCaused by:\n  \
            no such type\nBacktrace:\n0: x";
        let error = fenced::<()>("step 3", || Panic::of_device(REFUSED).resume()).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Computing, 1));
        assert_eq!(error.what(), "step 3: the device failed: no such type");
        for said in ["CUDA_ERROR_OUT_OF_MEMORY: out of memory", "can't allocate buffer of size: 5", "wgpu: OutOfMemory"]
        {
            assert_eq!(fenced::<()>("step 1", || panic!("{said}")).unwrap_err().kind(), Kind::OutOfMemory);
        }
        assert_eq!(fenced("step 1", || 5).unwrap(), 5);
    }

    #[test]
    fn a_mistake_of_ours_is_no_failure_of_a_device() {
        let bits = vec![0_u8; 48_617]; // a length of its own, which no other test panics with
        let error = fenced("answering", || bits[bits.len()]).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Bug, 1));
        let what = "answering: a mistake in gemma-tune: index out of bounds";
        assert!(error.what().starts_with(what) && error.what().contains(" (src/fence.rs:"), "{error}");
        assert!(error.hint_text().unwrap().starts_with("report it"), "{error}");
    }

    #[test]
    fn what_fails_inside_is_told_there() {
        let error = fenced("generate", || fenced::<()>("loading the model", || Panic::of_device("lost").resume()));
        assert_eq!(error.flatten().unwrap_err().what(), "loading the model: the device failed: lost");
    }

    #[test]
    fn a_failure_that_is_asked_for_comes_once() {
        injected::next("step 2", "out of device memory allocating 5 bytes");
        fenced("step 1", || ()).unwrap();
        assert_eq!(fenced("step 2", || ()).unwrap_err().kind(), Kind::OutOfMemory);
        fenced("step 2", || ()).unwrap();
    }
}
