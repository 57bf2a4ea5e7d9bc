//! `gemma-tune studio`

use super::args::{self, path};
use super::interrupt;
use crate::error::{Error, Kind, Result};
use crate::report::ProgressBar;
use crate::studio::{Studio, StudioOptions};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Arguments of `studio`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder for what is uploaded, trained and exported
    #[arg(long, default_value = "studio", value_parser = path())]
    dir: PathBuf,
    /// The port to listen at, on this machine alone; 0 takes one that is free
    #[arg(long, default_value_t = 7860)]
    port: u16,
    /// Bytes of a file that is uploaded, at most
    #[arg(long, default_value = "2GiB", value_parser = args::size)]
    max_upload_bytes: u64,
    /// Open no browser
    #[arg(long)]
    no_open: bool,
}

impl Args {
    /// Shows the page until it is asked to end.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        let program = std::env::current_exe()
            .map_err(|e| Error::new(Kind::Run, format!("where this program is cannot be seen: {e}")).caused_by(e))?;
        let options = StudioOptions { dir: self.dir, program, max_upload_bytes: self.max_upload_bytes };
        let studio = Studio::listen(self.port, options)?;
        let stop = studio.stop();
        let screen_of_stop = screen.clone();
        interrupt::on_signal(move || {
            if stop.ask() {
                std::process::exit(i32::from(Kind::Run.exit_code()));
            }
            screen_of_stop
                .note("Ending: a run that goes on is saved, and goes on with the next studio; again ends at once.");
        })?;
        let url = studio.url();
        super::print(&url)?;
        screen
            .note("The studio is at this address, which is its key too: who has it may do what you may. Ctrl-C ends.");
        if !self.no_open && std::io::stdout().is_terminal() {
            open(&url);
        }
        studio.run(move |text| screen.note(text))
    }
}

/// Opens a browser, where the system has a word for it.
fn open(url: &str) {
    let opener = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ if std::env::var_os("DISPLAY").or_else(|| std::env::var_os("WAYLAND_DISPLAY")).is_some() => "xdg-open",
        _ => return,
    };
    let mut command = Command::new(opener);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Where there is none, the address has been printed.
    drop(command.spawn());
}
