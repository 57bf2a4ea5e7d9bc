//! `gemma-tune init`

use super::args::path;
use crate::error::{Error, Kind, Result};
use crate::jobs::draft::Draft;
use crate::jobs::init;
use crate::report::ProgressBar;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Arguments of `init`.
#[derive(clap::Args)]
pub struct Args {
    /// The base model: a Hub id[@revision], a folder, or a .gguf file
    #[arg(long)]
    model: Option<String>,
    /// Rows to train on: a file, a glob, a folder, or an hf:// data set; repeatable
    #[arg(long)]
    data: Vec<String>,
    /// The file to write, which must not be there yet
    #[arg(long, default_value = init::FILE, value_parser = path())]
    output: PathBuf,
    /// Change a key, as in `--set training.seed=7`; repeatable
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Args {
    /// Looks at the data, asks what it cannot know, and writes a recipe.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        if self.output.exists() {
            return init::write("", &self.output);
        }
        let found = init::found_data();
        let asks = std::io::stdin().is_terminal();
        let model = match self.model {
            Some(model) => model,
            None if asks => ask("Model (a Hub id, a folder, or a .gguf file)", init::MODEL)?,
            None => {
                screen.note(&format!("The model is taken to be `{}`; `--model` names another", init::MODEL));
                init::MODEL.to_owned()
            }
        };
        let (data, with_rows) = match (self.data, found.as_slice()) {
            (data, _) if !data.is_empty() => (data, true),
            (_, [one]) if !asks => {
                screen.note(&format!("The rows are taken to be those of `{one}`; `--data` names others"));
                (vec![one.clone()], true)
            }
            (_, found) if asks => {
                let guess = found.first().map_or(init::DATA, String::as_str);
                let answer = ask("Data (a file, a glob, a folder, or an hf:// data set)", guess)?;
                let with_rows = answer != init::DATA || Path::new(init::DATA).exists();
                (vec![answer], with_rows)
            }
            (_, found) => {
                let why = match found.len() {
                    0 => "none were found here".to_owned(),
                    many => format!("{many} files here may be meant: {}", found[..many.min(5)].join(", ")),
                };
                screen.note(&format!(
                    "warning: which rows is not known ({why}): put them into `{}`, or name them with `--data`",
                    init::DATA
                ));
                (vec![init::DATA.to_owned()], false)
            }
        };
        let draft = Draft { model: &model, data: &data, output: None, set: &self.set };
        let text = init::recipe(&draft, with_rows, &self.output, &screen)?;
        init::write(&text, &self.output)?;
        let file = self.output.display();
        screen.note(&format!("Wrote {file}. Next: gemma-tune train {file} --dry-run"));
        Ok(())
    }
}

/// Asks on the terminal; an empty answer is `usual`.
fn ask(what: &str, usual: &str) -> Result<String> {
    eprint!("{what} [{usual}]: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("reading", "stdin", e))?;
    if read == 0 {
        return Err(
            Error::new(Kind::Recipe, "the questions were not answered").hint("`--model` and `--data` answer them")
        );
    }
    let answer = line.trim();
    Ok(if answer.is_empty() { usual.to_owned() } else { answer.to_owned() })
}
