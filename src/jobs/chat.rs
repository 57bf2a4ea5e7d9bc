//! Talking with a model entry by entry: what has been said, and the commands between the turns.

pub mod input;

use self::input::{Command, Entry};
use crate::data::Row;
use crate::error::{Error, Kind, Place, Result};
use crate::infer::{Dialogue, FinishReason, GenerationSettings, Sampling};
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::media::{self, processors::modality};
use crate::nn::BaseOnly;
use crate::paths;
use crate::progress::{Silent, counted};
use crate::text::{Conversation, MediaKind, MediaSource, Medium, Message, Part, Role, TokenStream, Tokenizer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The commands in a line, said at the beginning.
pub const HELP: &str =
    "/help lists the commands · /adapter off compares with the base · Ctrl-C stops an answer · Ctrl-D ends";

/// All commands.
const COMMANDS: &str = "\
/adapter on|off   the adapter answers, or the base; the conversation starts anew
/system TEXT      a system message; the conversation starts anew (without TEXT: shows it; \"\"\"\"\"\": none)
/temperature X    0 always takes the most likely token (without X: shows it)
/retry            answers the last message again, also after /adapter or /clear
/clear            starts anew
/image FILE       a picture for the next message, where the model sees
/audio FILE       a sound for the next message, where the model hears
/save FILE        appends the conversation to FILE, a row of `messages` that can be trained on
/quit             ends, as Ctrl-D does
A line that ends in \\ goes on in the next; \"\"\" begins and ends a message of several lines; // is a slash";

/// How a chat is held.
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// A system message.
    pub system: Option<String>,
    /// At most this many new tokens per answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Decides what is sampled.
    pub seed: u64,
}

/// What comes after an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The next entry.
    Entry,
    /// A word to the user, then the next entry.
    Note(String),
    /// Nothing: the chat is over.
    End,
}

/// A chat with a model, whose adapter can be switched off and on between the turns.
pub struct Chat<'a> {
    model: &'a PeftModel,
    tokenizer: &'a Tokenizer,
    options: ChatOptions,
    history: History,
    tuned_speaker: Dialogue<'a>,
    base_speaker: Dialogue<'a>,
}

impl<'a> Chat<'a> {
    /// A chat in which nothing has been said.
    ///
    /// # Errors
    /// When the model has no tokenizer.
    pub fn new(model: &'a PeftModel, options: ChatOptions) -> Result<Self> {
        Ok(Chat {
            model,
            tokenizer: model.base.tokenizer()?,
            history: History::new(options.system.clone(), options.sampling.temperature, model.adapter.is_some()),
            options,
            tuned_speaker: Dialogue::new(model.model.as_ref(), model.side()),
            base_speaker: Dialogue::new(model.model.as_ref(), &BaseOnly),
        })
    }

    /// Who answers next: `tuned` or `base`.
    pub fn speaker(&self) -> &'static str {
        if self.history.adapter_is_on { "tuned" } else { "base" }
    }

    /// Takes an entry: a command, or a message, whose answer goes to `show` piece by piece while it is made, until it
    /// ends or `stop` is set.
    ///
    /// # Errors
    /// A conversation that the model's template refuses, a file that cannot be written, and those of `show`. The chat can
    /// go on after each; a message that was refused has not been said.
    pub fn take(&mut self, entry: Entry, stop: &AtomicBool, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<Next> {
        if let Entry::Command(Command::Media(kind, _)) = &entry {
            let is_taken = self.model.base.config.media().iter().any(|shape| shape.modality == modality(*kind));
            if !is_taken {
                let does = if *kind == MediaKind::Image { "see" } else { "hear" };
                return Err(Error::new(Kind::Data, format!("this model does not {does}")));
            }
        }
        match self.history.take(entry)? {
            Heard::Done(next) => Ok(next),
            Heard::Message => {
                let answered = self.answer(stop, show);
                if answered.is_err() {
                    self.history.conversation.messages.pop();
                }
                let (answer, end, next) = answered?;
                self.history.answered(answer, end);
                Ok(next)
            }
        }
    }

    /// Answers the last message; says how the answer ended.
    fn answer(&mut self, stop: &AtomicBool, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<(String, End, Next)> {
        let History { conversation, retries, temperature, .. } = &self.history;
        let mut row = Row::Conversation(conversation.clone());
        let named = Place::Named("/image, /audio".into());
        let features = media::rows::features([(&mut row, &named)].into_iter(), self.model, &Silent)?;
        let Row::Conversation(seen) = &row else { return Err(Error::new(Kind::Run, "a chat is a conversation")) };
        let (prompt, media) = self.model.base.encoder.prompt(seen)?;
        let contents: Vec<_> = media.iter().map(|medium| medium.content).collect();
        let prompt = media::inputs(prompt, &media, features.as_ref())?;
        // Each turn draws other numbers, and so does each try.
        let turn = conversation.messages.len() as u64 + (retries << 32);
        let generation = GenerationSettings {
            max_new_tokens: self.options.max_tokens,
            sampling: Sampling { temperature: *temperature, ..self.options.sampling },
            stop: self.model.base.stop_ids(),
            seed: self.options.seed.wrapping_add(turn),
            first_prompt: 0,
        };
        let mut stream = TokenStream::new(self.tokenizer.clone());
        let mut shown = Ok(());
        let speaker = if self.history.adapter_is_on { &mut self.tuned_speaker } else { &mut self.base_speaker };
        let answer = speaker.answer_unless(stop, &prompt, &contents, &generation, |token| {
            shown = stream.push(token).map_or(Ok(()), |text| show(&text));
            if shown.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        shown?;
        show(&format!("{}\n", stream.finish().unwrap_or_default()))?;
        let answer = answer.checked().map_err(|e| e.or_at(Place::Named(self.model.base.name.clone())))?;
        let (tokens, most) =
            (prompt.input_ids.len() + answer.tokens.len(), self.model.base.config.max_position_embeddings());
        let end = match answer.finish_reason {
            FinishReason::Stop => End::Whole,
            _ if stop.load(Ordering::SeqCst) => End::Stopped,
            _ => End::CutOff,
        };
        let next = if end == End::Stopped {
            Next::Note("(stopped)".into())
        } else if tokens > most {
            Next::Note(format!(
                "The conversation has {}, more than the {most} that the model was made for; /clear starts anew.",
                counted(tokens, "token")
            ))
        } else if end == End::CutOff {
            Next::Note(format!("(cut off after {}, `--max-tokens`)", counted(self.options.max_tokens, "token")))
        } else {
            Next::Entry
        };
        Ok((self.tokenizer.decode(&answer.tokens, true), end, next))
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself.
    Whole,
    /// At the most tokens that an answer may have.
    CutOff,
    /// Because the user had heard enough.
    Stopped,
}

/// What has been said, and who speaks how.
#[derive(Debug)]
struct History {
    conversation: Conversation,
    /// The answers that did not end by themselves, by their places among the messages.
    unfinished: BTreeMap<usize, End>,
    system: Option<String>,
    temperature: f64,
    has_adapter: bool,
    adapter_is_on: bool,
    /// The last message, kept when the conversation starts anew.
    asked: Option<Vec<Part>>,
    /// Pictures and sounds for the next message.
    given: Vec<Part>,
    /// How often it has been answered again.
    retries: u64,
}

/// What an entry was.
#[derive(Debug, PartialEq)]
enum Heard {
    /// A command, which is done.
    Done(Next),
    /// A message, which waits for its answer.
    Message,
}

impl History {
    fn new(system: Option<String>, temperature: f64, has_adapter: bool) -> Self {
        let mut history = History {
            conversation: Conversation::default(),
            unfinished: BTreeMap::new(),
            system,
            temperature,
            has_adapter,
            adapter_is_on: has_adapter,
            asked: None,
            given: Vec::new(),
            retries: 0,
        };
        history.clear();
        history
    }

    /// Forgets all but the system message.
    fn clear(&mut self) {
        let system = self.system.iter().map(|text| Message::new(Role::System, text.as_str()));
        self.conversation = Conversation { messages: system.collect(), tools: Vec::new() };
        self.unfinished.clear();
    }

    /// Takes down an answer that ended so.
    fn answered(&mut self, answer: String, end: End) {
        let messages = &mut self.conversation.messages;
        self.unfinished.extend((end != End::Whole).then_some((messages.len(), end)));
        messages.push(Message::new(Role::Assistant, answer));
    }

    /// Obeys a command or takes down a message.
    fn take(&mut self, entry: Entry) -> Result<Heard> {
        let note = |text: &str| Ok(Heard::Done(Next::Note(text.to_owned())));
        match entry {
            Entry::Nothing => Ok(Heard::Done(Next::Entry)),
            Entry::Wrong(what) => note(&what),
            Entry::Message(text) => {
                self.retries = 0;
                let mut said = std::mem::take(&mut self.given);
                said.push(Part::Text(text));
                self.ask(said);
                Ok(Heard::Message)
            }
            Entry::Command(Command::Quit) => Ok(Heard::Done(Next::End)),
            Entry::Command(Command::Help) => note(COMMANDS),
            Entry::Command(Command::Clear) => {
                self.clear();
                note("The conversation starts anew.")
            }
            Entry::Command(Command::Adapter(_)) if !self.has_adapter => note("No adapter was given (`--adapter`)."),
            Entry::Command(Command::Adapter(on)) if on == self.adapter_is_on => {
                note(if on { "The adapter is on." } else { "The adapter is off." })
            }
            Entry::Command(Command::Adapter(on)) => {
                self.adapter_is_on = on;
                // One may not go on from what the other said: that would compare a speaker with its own imitation.
                self.clear();
                let who = if on { "The adapter" } else { "The base" };
                note(&format!(
                    "{who} answers from here on, and the conversation starts anew; /retry asks the last question."
                ))
            }
            Entry::Command(Command::System(None)) => note(match &self.system {
                Some(text) => text,
                None => "There is no system message.",
            }),
            Entry::Command(Command::System(Some(text))) => {
                self.system = Some(text).filter(|text| !text.is_empty());
                self.clear();
                note("The conversation starts anew.")
            }
            Entry::Command(Command::Temperature(temperature)) => {
                self.temperature = temperature.unwrap_or(self.temperature);
                let what = if self.temperature == 0.0 { ": always the most likely token" } else { "" };
                note(&format!("The temperature is {}{what}.", self.temperature))
            }
            Entry::Command(Command::Retry) => self.retry(),
            Entry::Command(Command::Save(path)) => note(&self.save(&path)?),
            Entry::Command(Command::Media(kind, path)) => note(&self.give(kind, &path)?),
        }
    }

    fn ask(&mut self, said: Vec<Part>) {
        self.conversation.messages.push(Message::of_parts(Role::User, said.clone()));
        self.asked = Some(said);
    }

    /// Keeps a picture or sound for the next message.
    ///
    /// # Errors
    /// When it cannot be opened: whether it can be seen or heard shows when the message is asked.
    fn give(&mut self, kind: MediaKind, path: &Path) -> Result<String> {
        let typed = path.to_string_lossy();
        let unquoted = ['"', '\''].into_iter().find_map(|quote| typed.strip_prefix(quote)?.strip_suffix(quote));
        let path = &PathBuf::from(paths::expand(unquoted.unwrap_or(&typed))?);
        let about = std::fs::metadata(path).map_err(|e| Error::io("opening", path, e))?;
        if !about.is_file() {
            // Opening a pipe would wait for whoever writes into it.
            return Err(Error::new(Kind::Data, "it is no file")
                .at_path(path)
                .hint("name the file of a picture or sound"));
        }
        File::open(path).map_err(|e| Error::io("opening", path, e))?;
        let medium = Medium::new(kind, MediaSource::Path(path.display().to_string()));
        self.given.push(Part::Media(medium));
        Ok(format!("`{}` goes along with the next message.", path.display()))
    }

    /// Takes back the last answer, or asks the last question in a conversation that has started anew.
    fn retry(&mut self) -> Result<Heard> {
        let Some(asked) = self.asked.clone() else {
            return Ok(Heard::Done(Next::Note("Nothing has been asked yet.".into())));
        };
        let messages = &mut self.conversation.messages;
        if messages.last().is_some_and(|message| message.role == Role::Assistant) {
            messages.truncate(messages.len() - 2);
            self.unfinished.retain(|at, _| *at < messages.len());
            self.retries += 1;
        }
        self.ask(asked);
        Ok(Heard::Message)
    }

    /// Appends the conversation as a row to `path`, and says so. A question whose answer was stopped is left out with it: a
    /// model that is trained on them would learn to break off.
    fn save(&self, path: &Path) -> Result<String> {
        let is_stopped = |at: usize| self.unfinished.get(&at) == Some(&End::Stopped);
        let count = |end: End| self.unfinished.values().filter(|other| **other == end).count();
        let kept = self.conversation.messages.iter().enumerate();
        let kept = kept.filter(|(at, _)| !is_stopped(*at) && !is_stopped(at + 1));
        let messages: Vec<&Message> = kept.map(|(_, message)| message).collect();
        let without = match count(End::Stopped) {
            0 => String::new(),
            1 => ", without the answer that was stopped, and its question".to_owned(),
            many => format!(", without the {many} answers that were stopped, and their questions"),
        };
        let cut_off = match count(End::CutOff) {
            0 => String::new(),
            cut => format!(" In it {} cut off at `--max-tokens`: that teaches to break off.", were(cut, "answer")),
        };
        if !messages.iter().any(|message| message.role == Role::Assistant) {
            return Ok(match without.is_empty() {
                false => "No answer was finished, and nothing was saved; /retry answers again.".into(),
                true => "Nothing has been said yet, and nothing was saved.".into(),
            });
        }
        let rows = messages.iter().map(|m| serde_json::json!({"role": m.role.name(), "content": content(m)}));
        let row = format!("{}\n", serde_json::json!({"messages": rows.collect::<Vec<_>>()}));
        let failed = |e| Error::io("saving the conversation", path, e);
        let end = if path.is_file() { check_rows(path)? } else { "" };
        let append =
            || File::options().create(true).append(true).open(path)?.write_all((end.to_owned() + &row).as_bytes());
        append().map_err(failed)?;
        Ok(format!("Saved as a row of `{}`{without}.{cut_off}", path.display()))
    }
}

/// `1 answer was`, `2 answers were`.
fn were(count: usize, noun: &str) -> String {
    format!("{} {}", counted(count, noun), if count == 1 { "was" } else { "were" })
}

/// What a message says, as a row holds it: a text, or parts where pictures or sounds are among them.
fn content(message: &Message) -> serde_json::Value {
    let part = |part: &Part| match part {
        Part::Text(text) => serde_json::json!({"type": "text", "text": text}),
        Part::Media(Medium { kind, source: MediaSource::Path(path), .. }) => {
            // Paths in a file of rows begin at its folder, those in a chat where it is held.
            let path = std::path::absolute(path).map_or(path.clone(), |path| path.display().to_string());
            serde_json::json!({"type": kind.name(), (kind.name()): path})
        }
        Part::Media(medium) => serde_json::json!({"type": medium.kind.name()}),
    };
    match message.media().next() {
        Some(_) => message.content.iter().map(part).collect(),
        None => message.content.iter().filter_map(Part::text).collect::<String>().into(),
    }
}

/// What must be written before another row of the file at `path`: the end of its last line, where that is missing.
///
/// # Errors
/// When it holds something other than JSON lines, which a row of a conversation would damage.
fn check_rows(path: &Path) -> Result<&'static str> {
    let (mut first, mut last) = (None, b'\n');
    let file = File::open(path).map_err(|e| Error::io("saving the conversation", path, e))?;
    for byte in BufReader::new(file).bytes() {
        let byte = byte.map_err(|e| Error::io("saving the conversation", path, e))?;
        first = first.or(Some(byte).filter(|byte| !byte.is_ascii_whitespace()));
        if first.is_some_and(|first| first != b'{') {
            let what = "the file holds no JSON lines, and a row of a conversation would damage it";
            return Err(Error::new(Kind::Recipe, what).at_path(path).hint("name a new file, such as `talks.jsonl`"));
        }
        last = byte;
    }
    Ok(if last == b'\n' { "" } else { "\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    fn assistant(text: &str) -> Message {
        Message::new(Role::Assistant, text)
    }

    fn take(history: &mut History, line: &str) -> Heard {
        history.take(input::Input::default().push(line).unwrap()).unwrap()
    }

    fn note(history: &mut History, line: &str) -> String {
        match take(history, line) {
            Heard::Done(Next::Note(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn messages_are_kept_until_they_are_cleared() {
        let mut history = History::new(Some("Be brief.".into()), 0.0, false);
        let system = Message::new(Role::System, "Be brief.");
        assert_eq!(take(&mut history, "  Two and two?\n"), Heard::Message);
        history.conversation.messages.push(assistant("Four."));
        assert_eq!(take(&mut history, "And three?"), Heard::Message);
        let all = [system.clone(), user("Two and two?"), assistant("Four."), user("And three?")];
        assert_eq!(history.conversation.messages, all);
        assert_eq!(take(&mut history, "   \n"), Heard::Done(Next::Entry));
        assert_eq!(history.conversation.messages, all, "an empty line says nothing");
        note(&mut history, "/clear");
        assert_eq!(history.conversation.messages, [system], "the system message stays");
        let mut without = History::new(None, 0.0, false);
        take(&mut without, "a");
        note(&mut without, "/clear");
        assert_eq!(without.conversation.messages, []);
    }

    #[test]
    fn another_speaker_starts_anew_and_can_be_asked_the_same() {
        let mut history = History::new(None, 0.0, true);
        assert!(history.adapter_is_on, "an adapter that was given speaks first");
        take(&mut history, "a");
        history.conversation.messages.push(assistant("b"));
        assert!(note(&mut history, "/adapter on").contains("is on"));
        assert_eq!(history.conversation.messages.len(), 2, "nothing has changed");
        assert!(note(&mut history, "/adapter off").contains("starts anew"));
        assert_eq!((history.adapter_is_on, history.conversation.messages.len()), (false, 0));
        note(&mut history, "/clear");
        assert!(!history.adapter_is_on, "who speaks is not forgotten");
        assert_eq!(take(&mut history, "/retry"), Heard::Message);
        assert_eq!(history.conversation.messages, [user("a")]);
        assert_eq!(history.retries, 0, "the other one's first try");
    }

    #[test]
    fn without_an_adapter_the_base_speaks_and_says_why() {
        let mut history = History::new(None, 0.0, false);
        assert!(!history.adapter_is_on);
        for line in ["/adapter on", "/adapter off"] {
            assert_eq!(note(&mut history, line), "No adapter was given (`--adapter`).");
            assert!(!history.adapter_is_on);
        }
    }

    #[test]
    fn a_retry_takes_back_the_answer_and_draws_other_numbers() {
        let mut history = History::new(None, 1.0, false);
        assert!(note(&mut history, "/retry").contains("Nothing has been asked"));
        take(&mut history, "a");
        history.conversation.messages.push(assistant("b"));
        for retries in 1..3 {
            assert_eq!(take(&mut history, "/retry"), Heard::Message);
            assert_eq!((history.conversation.messages.as_slice(), history.retries), (&[user("a")][..], retries));
            history.conversation.messages.push(assistant("c"));
        }
        take(&mut history, "d");
        assert_eq!(history.retries, 0);
    }

    #[test]
    fn system_message_and_temperature_are_set_and_shown() {
        let mut history = History::new(None, 0.0, false);
        assert!(note(&mut history, "/system").contains("no system message"));
        take(&mut history, "a");
        note(&mut history, "/system Be brief.");
        assert_eq!(history.conversation.messages, [Message::new(Role::System, "Be brief.")]);
        assert_eq!(note(&mut history, "/system"), "Be brief.");
        note(&mut history, "/system \"\"\"\"\"\"");
        assert_eq!(history.conversation.messages, []);
        assert!(note(&mut history, "/temperature").contains("most likely"));
        assert!(note(&mut history, "/temperature 0.7").contains("0.7"));
        assert_eq!(history.temperature, 0.7);
    }

    #[test]
    fn a_conversation_is_saved_as_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my chat.jsonl");
        let save = format!("/save {}", path.display());
        let mut history = History::new(None, 0.0, false);
        assert!(note(&mut history, &save).contains("nothing was saved"));
        take(&mut history, "Two?");
        history.conversation.messages.push(assistant("Two \"2\"."));
        note(&mut history, &save);
        note(&mut history, &save);
        let row = "{\"messages\":[{\"role\":\"user\",\"content\":\"Two?\"},{\"role\":\"assistant\",\"content\":\"Two \\\"2\\\".\"}]}\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), row.repeat(2));
        let table = dir.path().join("faq.csv");
        std::fs::write(&table, "question,answer\na,b\n").unwrap();
        let refused = history.take(Entry::Command(Command::Save(table.clone()))).unwrap_err();
        assert!(refused.what().contains("would damage it"), "{refused}");
        assert_eq!(std::fs::read_to_string(&table).unwrap(), "question,answer\na,b\n");
        std::fs::write(&table, " {\"text\": \"a\"}").unwrap();
        note(&mut history, &format!("/save {}", table.display()));
        assert_eq!(std::fs::read_to_string(&table).unwrap(), format!(" {{\"text\": \"a\"}}\n{row}"));
        let refused = history.take(Entry::Command(Command::Save(dir.path().into()))).unwrap_err();
        assert!(refused.what().contains("saving the conversation"), "{refused}");
    }

    #[test]
    fn what_was_not_answered_to_the_end_is_not_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("talks.jsonl");
        let save = format!("/save {}", path.display());
        let mut history = History::new(Some("s".into()), 0.0, false);
        take(&mut history, "a");
        history.answered("half an".into(), End::Stopped);
        assert!(note(&mut history, &save).contains("No answer was finished, and nothing was saved"));
        assert!(!path.exists());
        take(&mut history, "/retry");
        history.answered("half".into(), End::Stopped);
        take(&mut history, "b");
        history.answered("whole".into(), End::Whole);
        assert!(note(&mut history, &save).ends_with("without the answer that was stopped, and its question."));
        let row = std::fs::read_to_string(&path).unwrap();
        assert!(
            row.contains("whole") && row.contains("\"s\"") && !row.contains("half") && !row.contains("\"a\""),
            "{row}"
        );
        // What is asked again and answered is saved.
        note(&mut history, "/clear");
        take(&mut history, "a");
        history.answered("half".into(), End::Stopped);
        take(&mut history, "/retry");
        history.answered("all".into(), End::Whole);
        assert!(note(&mut history, &save).ends_with("talks.jsonl`."));
        // What is cut off is part of what was said, and that is said too.
        take(&mut history, "c");
        history.answered("cut".into(), End::CutOff);
        assert!(
            note(&mut history, &save)
                .ends_with("In it 1 answer was cut off at `--max-tokens`: that teaches to break off.")
        );
        assert!(std::fs::read_to_string(&path).unwrap().lines().nth(2).unwrap().contains("cut"));
        assert!(std::fs::read_to_string(&path).unwrap().lines().nth(1).unwrap().contains("all"));
    }

    #[test]
    fn other_commands_end_or_explain() {
        let mut history = History::new(None, 0.0, true);
        for line in ["/quit", "/exit\n"] {
            assert_eq!(take(&mut history, line), Heard::Done(Next::End));
        }
        assert!(note(&mut history, "/help").contains("/temperature X"));
        for (line, said) in [
            ("/", "there is no command `/`; /help lists them, and // begins a message with a slash"),
            ("/adapter", "`/adapter` is followed by `on` or `off`"),
            ("/nonsense", "there is no command `/nonsense`; /help lists them, and // begins a message with a slash"),
            ("/temprature 1", "there is no command `/temprature`; did you mean `/temperature`? /help lists them"),
            ("/Quit", "there is no command `/Quit`; did you mean `/quit`? /help lists them"),
        ] {
            assert_eq!(note(&mut history, line), said);
        }
        assert_eq!(history.conversation.messages, [], "commands are not said");
    }
}
