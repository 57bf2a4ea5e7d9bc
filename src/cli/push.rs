//! `gemma-tune push`

use super::args::path;
use super::interrupt;
use crate::error::{Error, Kind, Result};
use crate::jobs::push::{self, PushOptions, Pushed};
use crate::report::{ProgressBar, text};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

/// Arguments of `push`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder: an adapter, the output.dir of a run, a merged model, or a folder with GGUF files
    #[arg(value_parser = path())]
    folder: PathBuf,
    /// The repository, owner/name; it is made where it is not there yet
    #[arg(long)]
    repo: String,
    /// The base model's id on the Hub, for a base that was a file or folder here
    #[arg(long)]
    base_model: Option<String>,
    /// Make a new repository private
    #[arg(long)]
    private: bool,
    /// The branch, which is made where it is not there yet [default: main]
    #[arg(long)]
    revision: Option<String>,
    /// Propose the files in a pull request
    #[arg(long)]
    create_pr: bool,
    /// Replace what is in the repository without asking
    #[arg(long)]
    yes: bool,
    /// Print what was pushed as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Pushes.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        interrupt::end_push_on_signal(&screen)?;
        let options = PushOptions {
            repository: &self.repo,
            base_model: self.base_model.as_deref(),
            revision: self.revision.as_deref(),
            private: self.private,
            create_pr: self.create_pr,
            agreed: None,
        };
        let consent = |question: &str| match self.yes {
            true => Ok(()),
            false => ask(question, "`--yes` replaces them, `--create-pr` proposes it; nothing was pushed", &screen),
        };
        let pushed = push::push(&self.folder, options, &consent, &screen)?;
        if self.json { super::print_json(&pushed) } else { report(&pushed, &screen) }
    }
}

/// Asks on a terminal whether another's files may be replaced; elsewhere the answer is no, with a `hint`.
pub fn ask(question: &str, hint: &str, screen: &ProgressBar) -> Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::new(Kind::Recipe, question).hint(hint));
    }
    screen.note(question);
    eprint!("Replace them? [y/N]: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("reading", "stdin", e))?;
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(Kind::Recipe, "the files were not to be replaced; nothing was pushed")
            .hint("name another repository")),
    }
}

/// Says what was pushed and what was not.
pub fn report(pushed: &Pushed, screen: &ProgressBar) -> Result<()> {
    if !pushed.left_out.is_empty() {
        let left: Vec<String> = pushed.left_out.iter().map(|left| format!("{} ({})", left.name, left.why)).collect();
        screen.note(&format!("Not pushed: {}", left.join(", ")));
    }
    let there = match pushed.unchanged.len() {
        0 => String::new(),
        count => format!("; {} there already", text::counted(count, "file")),
    };
    let gone = match pushed.removed.as_slice() {
        [] => String::new(),
        names => format!("; removed {}", names.join(", ")),
    };
    let what = match &pushed.commit {
        Some(_) => format!("{}, {}", text::counted(pushed.pushed.len(), "file"), text::bytes(pushed.bytes)),
        None => "nothing to push".to_owned(),
    };
    screen.note(&format!("{}: {what}{there}{gone}", pushed.url));
    Ok(())
}
