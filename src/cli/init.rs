//! `gemma-tune init`

use super::args::path;
use crate::atomic::check_target;
use crate::error::{Error, Kind, Result};
use crate::jobs::draft::Draft;
use crate::jobs::init;
use crate::recipe::as_options;
use crate::report::ProgressBar;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Arguments of `init`.
#[derive(clap::Args)]
pub struct Args {
    /// The base model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
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
        let _claim = check_target("--output", &self.output, &[])?;
        let found = init::found_data();
        let asks = std::io::stdin().is_terminal();
        let model = match self.model {
            Some(model) => model,
            None if asks => ask(
                &mut std::io::stdin().lock(),
                &screen,
                "Model (a Hub id, a folder, a .gguf file, or ollama:NAME)",
                init::MODEL,
                |model| init::check_model(model, &screen),
            )?,
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
                let is_there = |data: &str| data != init::DATA || Path::new(init::DATA).exists();
                let check = |data: &str| {
                    let draft = Draft {
                        model: &model,
                        data: &[data.to_owned()],
                        output: Some(Path::new("out")),
                        set: &self.set,
                    };
                    match init::check_data(&draft, &screen) {
                        // Which column is which is the next question.
                        Err(error) if is_there(data) && init::unnamed_columns(&error).is_none() => Err(error),
                        _ => Ok(()),
                    }
                };
                let what = "Data (a file, a glob, a folder, or an hf:// data set)";
                let answer = ask(&mut std::io::stdin().lock(), &screen, what, guess, check)?;
                let with_rows = is_there(&answer);
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
        let mut set = self.set;
        if asks && with_rows {
            let draft = Draft { model: &model, data: &data, output: Some(Path::new("out")), set: &set };
            let problem = init::check_data(&draft, &screen).err();
            if let Some(columns) = problem.as_ref().and_then(init::unnamed_columns) {
                set.push(ask_columns(&mut std::io::stdin().lock(), &screen, columns)?);
            }
        }
        let draft = Draft { model: &model, data: &data, output: None, set: &set };
        let text = init::recipe(&draft, with_rows, &self.output, &screen).map_err(in_words)?;
        init::write(&text, &self.output)?;
        screen.note(&format!("Wrote {}. Next: {} --dry-run", self.output.display(), init::command(&self.output)));
        Ok(())
    }
}

/// Asks until the answer passes `check`, or there is none; an empty answer is `usual`.
fn ask(
    answers: &mut impl BufRead,
    screen: &ProgressBar,
    what: &str,
    usual: &str,
    check: impl Fn(&str) -> Result<()>,
) -> Result<String> {
    loop {
        eprint!("{what} [{usual}]: ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let read = answers.read_line(&mut line).map_err(|e| Error::io("reading", "stdin", e))?;
        if read == 0 {
            return Err(Error::new(Kind::Recipe, "the questions were not answered")
                .hint("`--model`, `--data` and `--set 'data.columns={..}'` answer them"));
        }
        let answer = line.trim();
        let answer = if answer.is_empty() { usual } else { answer };
        match check(answer) {
            Ok(()) => return Ok(answer.to_owned()),
            Err(wrong) => screen.note(&in_words(wrong).to_string()),
        }
    }
}

/// Asks which of `columns` is the question and which the answer; what `--set` takes to say so.
fn ask_columns(answers: &mut impl BufRead, screen: &ProgressBar, columns: &[String]) -> Result<String> {
    const NONE: &str = "-";
    screen.note(&format!("What the columns hold cannot be seen from their names: {}", columns.join(", ")));
    let usual = columns.first().map_or("", String::as_str);
    let is_column = |name: &str| init::check_column(name, columns);
    let what = if columns.len() == 1 { "Column of the texts" } else { "Column of the questions, or of texts" };
    let question = ask(answers, screen, what, usual, is_column)?;
    let others: Vec<String> = columns.iter().filter(|name| **name != question).cloned().collect();
    let Some(usual) = others.first() else { return Ok(init::named_columns(&question, None)) };
    let check = |name: &str| if name == NONE { Ok(()) } else { init::check_column(name, &others) };
    let what = format!("Column of the answers (`{NONE}`: there are none, and `{question}` is plain text)");
    let answer = ask(answers, screen, &what, usual, check)?;
    Ok(init::named_columns(&question, Some(answer.as_str()).filter(|answer| *answer != NONE)))
}

/// What is wrong, for who has no recipe to change.
fn in_words(error: Error) -> Error {
    let options = [("model.base", "--model"), ("data.train", "--data"), ("output.dir", "--set output.dir=..")];
    error.reword(&|hint| as_options(hint, &options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn columns_are_asked_for_by_what_they_hold() {
        let screen = ProgressBar::lines(std::io::sink(), Duration::ZERO);
        let set = |typed: &str, columns: &[&str]| {
            let columns: Vec<String> = columns.iter().map(|name| name.to_string()).collect();
            ask_columns(&mut typed.as_bytes(), &screen, &columns).unwrap()
        };
        let columns = ["id", "frage", "antwort: kurz"];
        let chosen = r#"data.columns={"prompt":"frage","completion":"antwort: kurz"}"#;
        assert_eq!(set("frgae\nfrage\nfrage\nantwort: kurz\n", &columns), chosen);
        assert_eq!(set("\n\n", &columns), r#"data.columns={"prompt":"id","completion":"frage"}"#);
        assert_eq!(set("antwort: kurz\n-\n", &columns), r#"data.columns={"text":"antwort: kurz"}"#);
        assert_eq!(set("\n", &["inhalt"]), r#"data.columns={"text":"inhalt"}"#);
    }

    #[test]
    fn a_wrong_answer_is_followed_by_the_same_question() {
        let screen = ProgressBar::lines(std::io::sink(), Duration::ZERO);
        let check = |answer: &str| match answer {
            "right" | "usual" => Ok(()),
            other => Err(Error::new(Kind::Data, format!("there is no `{other}`"))),
        };
        let answer = |typed: &str| ask(&mut typed.as_bytes(), &screen, "What", "usual", check);
        assert_eq!(answer("wrong\n again \n right \nmore\n").unwrap(), "right");
        assert_eq!(answer("wrong\n\n").unwrap(), "usual");
        assert_eq!(answer("wrong\n").unwrap_err().what(), "the questions were not answered");
    }
}
