//! Ctrl-C while a run goes on.

use crate::error::{Error, Kind, Result};
use crate::jobs::run::interrupt::{Asked, Interrupt, Standing};
use crate::report::ProgressBar;
use std::sync::Arc;

/// The first Ctrl-C asks a run to save and stop, or ends the program where nothing would be saved; the second ends it
/// in any case.
pub fn stop_on_ctrl_c(screen: &ProgressBar) -> Result<Arc<Interrupt>> {
    let stop = Arc::new(Interrupt::default());
    let (asked, screen) = (stop.clone(), screen.clone());
    let handler = move || match asked.ask() {
        Asked::Soon(what) => screen.note(what),
        Asked::Now(standing) => {
            screen.note(&standing.text);
            std::process::exit(i32::from(exit_code(&standing)));
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::new(Kind::Run, format!("Ctrl-C cannot be handled: {e}")).caused_by(e))?;
    Ok(stop)
}

/// 3 where the run can be resumed, else 1.
pub fn exit_code(standing: &Standing) -> u8 {
    if standing.is_resumable { Kind::Interrupted.exit_code() } else { Kind::Run.exit_code() }
}
