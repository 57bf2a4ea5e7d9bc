//! `gemma-tune chat`

use super::args::{ModelArgs, whole};
use super::generate::SamplingArgs;
use super::relief::Relief;
use crate::error::{Error, Kind, Result};
use crate::jobs::chat::input::{Entry, Input};
use crate::jobs::chat::{Chat, ChatOptions, HELP, Next};
use crate::recipe::without_keys;
use crate::report::ProgressBar;
use crate::terminal::printable;
use rustyline::error::ReadlineError;
use rustyline::{Behavior, DefaultEditor};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest line that is read from a pipe.
const LONGEST_LINE: u64 = 1 << 20;

/// Arguments of `chat`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A system message
    #[arg(long)]
    system: Option<String>,
    /// At most this many new tokens per answer
    #[arg(long, default_value_t = 512, allow_negative_numbers = true, value_parser = whole::<0, usize>)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        self.model.relief("chatting").with("a smaller `--max-tokens`")
    }

    /// Talks until the input ends.
    pub fn run(self) -> Result<()> {
        let sampling = self.sampling.sampling()?;
        let options = ChatOptions {
            system: self.system,
            max_tokens: self.max_tokens,
            sampling,
            seed: self.sampling.seed,
            drafts: self.sampling.drafts as usize,
            cache_dtype: self.sampling.cache_dtype,
        };
        let screen = ProgressBar::stderr();
        let model = self.model.open(&screen)?;
        model.warn_of_no_chat(&screen);
        let mut chat = Chat::new(&model, options)?;
        screen.note(HELP);
        if std::io::stdin().is_terminal() { talk(&mut chat, &screen) } else { listen(&mut chat, &screen) }
    }
}

/// Talks with a person, who can edit lines, and stop an answer.
fn talk(chat: &mut Chat, screen: &ProgressBar) -> Result<()> {
    let stop = Stop::on_ctrl_c()?;
    let config = rustyline::Config::builder().behavior(Behavior::PreferTerm).auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(config).map_err(|e| unreadable(&e))?;
    let (mut input, mut failures) = (Input::default(), 0);
    loop {
        let prompt = if input.is_open() { "... ".into() } else { format!("{}> ", chat.speaker()) };
        let entry = match editor.readline(&prompt) {
            Ok(line) => input.push(&line),
            Err(ReadlineError::Interrupted) => {
                input.finish(); // is dropped
                screen.note("Ctrl-D or /quit ends.");
                None
            }
            Err(ReadlineError::Eof) if input.is_open() => Some(input.finish()),
            Err(ReadlineError::Eof) => return Ok(()),
            // A terminal that is gone says so again and again.
            Err(error) if failures == 3 => return Err(unreadable(&error)),
            Err(error) => {
                failures += 1;
                screen.note(&format!("This line could not be read: {error}"));
                continue;
            }
        };
        failures = 0;
        let Some(entry) = entry else { continue };
        match stop.while_answering(|flag| chat.take(entry, flag, &mut say)) {
            Ok(Next::End) => return Ok(()),
            Ok(Next::Note(text)) => screen.note(&printable(&text)),
            Ok(Next::Entry) => {}
            Err(error) if error.kind() == Kind::Io && !std::io::stdout().is_terminal() => return Err(error),
            Err(error) => screen.note(&in_words(error).to_string()),
        }
    }
}

/// Answers what comes through a pipe.
fn listen(chat: &mut Chat, screen: &ProgressBar) -> Result<()> {
    let (mut stdin, mut input, never) = (std::io::stdin().lock(), Input::default(), AtomicBool::new(false));
    loop {
        eprint!("{}", if input.is_open() { "... ".into() } else { format!("{}> ", chat.speaker()) });
        let line = read_line(&mut stdin, screen)?;
        let entry = match &line {
            Some(line) => input.push(line),
            None => Some(input.finish()),
        };
        // What was wrong with one line is said, and the next one is answered, as it would be in a terminal.
        let next = match entry.map_or(Ok(Next::Entry), |entry: Entry| chat.take(entry, &never, &mut say)) {
            Err(error) if error.exit_code() == 2 => Next::Note(in_words(error).to_string()),
            next => next?,
        };
        match next {
            Next::Note(text) => screen.note(&printable(&text)),
            Next::End => return Ok(()),
            Next::Entry => {}
        }
        if line.is_none() {
            return Ok(());
        }
    }
}

/// What is wrong with a line, for who has no recipe.
fn in_words(error: Error) -> Error {
    error.reword(&|hint| without_keys(hint, super::OF_A_MODEL))
}

/// A line without its end; `None` at the end of the input. Bytes that are no text are replaced, and lines that are too
/// long left out, both with a word.
fn read_line(stdin: &mut impl BufRead, screen: &ProgressBar) -> Result<Option<String>> {
    let failed = |e| Error::io("reading", "stdin", e);
    let mut bytes = Vec::new();
    let mut read = Read::take(&mut *stdin, LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(failed)?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
        screen.note("A line of more than a megabyte was left out.");
        while read > 0 && !bytes.ends_with(b"\n") {
            bytes.clear();
            read = Read::take(&mut *stdin, LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(failed)?;
        }
        return Ok(Some(String::new()));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    Ok(Some(String::from_utf8(bytes).unwrap_or_else(|error| {
        screen.note("This line is not UTF-8; the bytes that are no text were replaced.");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })))
}

/// What Ctrl-C does: it stops an answer; where there is none, it ends the program.
struct Stop {
    answering: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Stop {
    fn on_ctrl_c() -> Result<Self> {
        let stop = Stop { answering: Arc::default(), stopped: Arc::default() };
        let (answering, stopped) = (stop.answering.clone(), stop.stopped.clone());
        let handler = move || {
            if !answering.load(Ordering::SeqCst) || stopped.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(Kind::Run.exit_code()));
            }
        };
        ctrlc::set_handler(handler)
            .map_err(|e| Error::new(Kind::Run, format!("Ctrl-C cannot be handled: {e}")).caused_by(e))?;
        Ok(stop)
    }

    fn while_answering<T>(&self, work: impl FnOnce(&AtomicBool) -> T) -> T {
        self.stopped.store(false, Ordering::SeqCst);
        self.answering.store(true, Ordering::SeqCst);
        let result = work(&self.stopped);
        self.answering.store(false, Ordering::SeqCst);
        result
    }
}

fn unreadable(error: &ReadlineError) -> Error {
    Error::new(Kind::Io, format!("the terminal cannot be read: {error}"))
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    // What a model says may not control the terminal either.
    let text = if out.is_terminal() { printable(text) } else { text.into() };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Error::io("writing", "stdout", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_bytes_and_endless_lines_end_nothing() {
        let long = [vec![b'x'; (LONGEST_LINE + 5) as usize], b"\n".to_vec()].concat();
        let bytes = [b"a\xffb\r\n".as_slice(), &long, b"\n\0c".as_slice()].concat();
        let (mut input, screen) = (bytes.as_slice(), ProgressBar::lines(std::io::sink(), std::time::Duration::ZERO));
        let mut lines = std::iter::from_fn(|| read_line(&mut input, &screen).unwrap());
        assert_eq!(lines.next().unwrap(), "a\u{FFFD}b\r");
        assert_eq!(lines.next().unwrap(), "", "left out");
        assert_eq!(lines.next().unwrap(), "");
        assert_eq!(lines.next().unwrap(), "\0c");
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn an_answer_can_be_stopped_and_the_next_one_is_not() {
        let stop = Stop { answering: Arc::default(), stopped: Arc::default() };
        let seen = |flag: &AtomicBool| (stop.answering.load(Ordering::SeqCst), flag.swap(true, Ordering::SeqCst));
        assert_eq!(stop.while_answering(seen), (true, false));
        assert_eq!(stop.while_answering(seen), (true, false));
        assert!(!stop.answering.load(Ordering::SeqCst));
    }
}
