//! What libraries of devices log: their warnings and errors, said as ours are.

use crate::fence::in_a_line;
use crate::guard::is_library_of_devices;
use crate::report::ProgressBar;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Different messages that are said: a device that fails may say another one each time.
const MOST: usize = 32;

/// Says from now on what libraries of devices warn of, on stderr, above the bar that is there.
pub fn tell_warnings() {
    let logged = Logged { tell: |text: &str| ProgressBar::on_stderr().note(text), said: Mutex::default() };
    // Who was there before keeps listening.
    if log::set_logger(Box::leak(Box::new(logged))).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Tells each message once.
struct Logged<F> {
    tell: F,
    said: Mutex<HashSet<String>>,
}

impl<F: Fn(&str) + Send + Sync> Log for Logged<F> {
    /// Readers of files and of the network say as errors what went wrong for them.
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= Level::Warn && is_library_of_devices(&library(metadata))
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (library, what) = (library(record.metadata()), in_a_line(&record.args().to_string()));
        let text = match record.level() {
            Level::Error => format!("warning: {library} met an error: {what}"),
            _ => format!("warning: {library}: {what}"),
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = said.len() <= MOST && said.insert(text.clone());
        let is_last = said.len() > MOST;
        drop(said);
        match is_new {
            true if is_last => (self.tell)(&format!("warning: {library} has more to say, which is left out")),
            true => (self.tell)(&text),
            false => {}
        }
    }

    fn flush(&self) {}
}

/// The crate that speaks, as registries name it.
fn library(metadata: &Metadata) -> String {
    metadata.target().split("::").next().unwrap_or_default().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these records.
    fn told(records: &[(Level, &str, String)]) -> Vec<String> {
        let lines = Mutex::new(Vec::new());
        let logged = Logged { tell: |text: &str| lines.lock().unwrap().push(text.to_owned()), said: Mutex::default() };
        for (level, target, text) in records {
            logged.log(&Record::builder().level(*level).target(target).args(format_args!("{text}")).build());
        }
        drop(logged);
        lines.into_inner().unwrap()
    }

    #[test]
    fn warnings_of_devices_are_told_once_and_no_others() {
        let records = [
            (Level::Warn, "cubecl_runtime::logging::server", "no launch\nCaused by:\n  no type\nBacktrace:\n 0: x"),
            (Level::Error, "wgpu_core::device", "lost"),
            (Level::Warn, "cubecl_runtime::logging::server", "no launch\nCaused by:\n  no type\nBacktrace:\n 0: y"),
            (Level::Info, "wgpu_core::device", "an adapter"),
            (Level::Warn, "symphonia_core::probe", "junk"),
            (Level::Warn, "burn_core", "lost"),
        ];
        let told = told(&records.map(|(level, target, text)| (level, target, text.to_owned())));
        assert_eq!(
            told,
            [
                "warning: cubecl-runtime: no launch Caused by: no type",
                "warning: wgpu-core met an error: lost",
                "warning: burn-core: lost"
            ]
        );
    }

    #[test]
    fn a_device_that_says_ever_something_else_is_heard_for_a_while() {
        let records: Vec<_> = (0..100).map(|at| (Level::Warn, "cubecl_cuda", format!("buffer {at}"))).collect();
        let told = told(&records);
        assert_eq!(told.len(), MOST + 1);
        assert_eq!(told[MOST - 1], format!("warning: cubecl-cuda: buffer {}", MOST - 1));
        assert_eq!(told[MOST], "warning: cubecl-cuda has more to say, which is left out");
    }
}
