//! Ctrl-C, and being asked to end.

use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::jobs::run::interrupt::{Asked, Interrupt, Standing};
use crate::jobs::run::rewards::programs;
use crate::report::ProgressBar;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lets a write beyond the largest file that the system allows (`ulimit -f`) fail, with a message, where it would end
/// the program without a word.
pub fn outlive_full_files() {
    #[cfg(unix)]
    {
        // A signal that somebody listens to ends nothing; nobody looks whether it came, as the write fails too.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    }
}

/// Calls `act` on every SIGINT, SIGTERM and SIGHUP. One verb is run, so this is called once.
pub fn on_signal(act: impl FnMut() + Send + 'static) -> Result<()> {
    ctrlc::set_handler(act).map_err(|e| Error::new(Kind::Run, format!("Ctrl-C cannot be handled: {e}")).caused_by(e))
}

/// Calls `end` on every SIGINT and SIGTERM, and `look` on every SIGHUP, where the system has that: else nobody calls it. One verb is
/// run, so this is called once.
#[cfg(feature = "serve")]
pub fn on_signal_or_hangup(
    mut end: impl FnMut() + Send + 'static,
    mut look: impl FnMut() + Send + 'static,
) -> Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let failed = |e: std::io::Error| Error::new(Kind::Run, format!("signals cannot be heard: {e}")).caused_by(e);
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let hears = move || signals.forever().for_each(|signal| if signal == SIGHUP { look() } else { end() });
        std::thread::Builder::new().name("signals".into()).spawn(hears).map_err(failed)?;
        Ok(())
    }
    #[cfg(not(unix))]
    {
        let _ = &mut look;
        on_signal(move || end())
    }
}

/// A wish to stop, for what can be continued later.
pub struct Stop {
    wished: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
}

impl Stop {
    /// Listens to signals. Before anything has [begun](Self::begin), and at the second signal, the program ends at once,
    /// and says whether there is something to continue.
    pub fn on_signal(screen: &ProgressBar, is_resumable: impl Fn() -> bool + Send + 'static) -> Result<Self> {
        let stop = Stop { wished: Arc::default(), begun: Arc::default() };
        let (wished, begun, screen) = (stop.wished.clone(), stop.begun.clone(), screen.clone());
        on_signal(move || {
            let again = wished.swap(true, Ordering::SeqCst);
            if again || !begun.load(Ordering::SeqCst) {
                atomic::abandon();
                let (text, kind) = last_words(is_resumable());
                screen.note(text);
                std::process::exit(i32::from(kind.exit_code()));
            }
            screen.note("Stopping; Ctrl-C again stops at once.");
        })?;
        Ok(stop)
    }

    /// Says that somebody looks at the wish from now on.
    pub fn begin(&self) -> &AtomicBool {
        self.begun.store(true, Ordering::SeqCst);
        &self.wished
    }
}

/// What is true of a command that ends at once, and what kind of end it is.
fn last_words(is_resumable: bool) -> (&'static str, Kind) {
    match is_resumable {
        true => ("Interrupted; `--resume` continues.", Kind::Interrupted),
        false => ("Interrupted; nothing was begun. The same command starts again.", Kind::Run),
    }
}

/// Ends the program on a signal, with nothing half-written left.
pub fn end_on_signal(screen: &ProgressBar) -> Result<()> {
    let screen = screen.clone();
    on_signal(move || {
        atomic::abandon();
        screen.note("Interrupted; nothing half-written was kept.");
        std::process::exit(i32::from(Kind::Run.exit_code()));
    })
}

/// Ends a push on a signal: what has arrived at the Hub is not sent again by the next one.
pub fn end_push_on_signal(screen: &ProgressBar) -> Result<()> {
    let screen = screen.clone();
    on_signal(move || {
        atomic::abandon();
        screen.note("Interrupted; the same command goes on: files that have arrived are not sent again.");
        std::process::exit(i32::from(Kind::Interrupted.exit_code()));
    })
}

/// The first signal asks a run to save and stop, or ends the program where nothing would be saved; the second ends it
/// in any case.
pub fn stop_on_ctrl_c(screen: &ProgressBar) -> Result<Arc<Interrupt>> {
    let stop = Arc::new(Interrupt::default());
    let (asked, screen) = (stop.clone(), screen.clone());
    on_signal(move || match asked.ask() {
        Asked::Soon(what) => screen.note(what),
        Asked::Now(standing) => {
            programs::end_all();
            atomic::abandon();
            screen.note(&standing.text);
            std::process::exit(i32::from(exit_code(&standing)));
        }
    })?;
    Ok(stop)
}

/// 3 where the run can be resumed, else 1.
pub fn exit_code(standing: &Standing) -> u8 {
    if standing.is_resumable { Kind::Interrupted.exit_code() } else { Kind::Run.exit_code() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_begun_can_be_continued() {
        for (is_resumable, said, code) in [(true, "`--resume` continues", 3), (false, "nothing was begun", 1)] {
            let (text, kind) = last_words(is_resumable);
            assert!(text.contains(said) && kind.exit_code() == code, "{text}");
        }
    }
}
