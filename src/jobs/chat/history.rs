//! What has been said in a chat, and the commands between the turns.

use super::input::{Command, Entry};
use crate::data::{MediaRules, check_medium};
use crate::error::{Error, Kind, Result};
use crate::paths;
use crate::progress::counted;
use crate::text::{Conversation, MediaKind, MediaSource, Medium, Message, Part, Role};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

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

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Whole,
    /// At the most tokens that an answer may have.
    CutOff,
    /// Because the user had heard enough.
    Stopped,
}

/// What has been said, and who speaks how.
#[derive(Debug)]
pub(super) struct History {
    pub(super) conversation: Conversation,
    /// The answers that did not end by themselves, by their places among the messages.
    unfinished: BTreeMap<usize, End>,
    system: Option<String>,
    pub(super) temperature: f64,
    has_adapter: bool,
    pub(super) adapter_is_on: bool,
    /// The last message, kept when the conversation starts anew.
    asked: Option<Vec<Part>>,
    /// Pictures and sounds for the next message.
    given: Vec<Part>,
    /// How often it has been answered again.
    pub(super) retries: u64,
    /// How pictures and sounds are read.
    rules: MediaRules,
}

/// What an entry was.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// A command, which is done.
    Done(Next),
    /// A message, which waits for its answer.
    Message,
}

impl History {
    pub(super) fn new(system: Option<String>, temperature: f64, has_adapter: bool, rules: MediaRules) -> Self {
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
            rules,
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
    pub(super) fn answered(&mut self, answer: String, end: End) {
        let messages = &mut self.conversation.messages;
        self.unfinished.extend((end != End::Whole).then_some((messages.len(), end)));
        messages.push(Message::new(Role::Assistant, answer));
    }

    /// Obeys a command or takes down a message.
    pub(super) fn take(&mut self, entry: Entry) -> Result<Heard> {
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
    /// When the model does not take its kind, or it is no file that can be seen or heard.
    fn give(&mut self, kind: MediaKind, path: &Path) -> Result<String> {
        self.rules.takes(kind).map_err(|e| Error::new(Kind::Data, e.what().to_owned()))?;
        let typed = path.to_string_lossy();
        let unquoted = ['"', '\''].into_iter().find_map(|quote| typed.strip_prefix(quote)?.strip_suffix(quote));
        let path = PathBuf::from(paths::expand(unquoted.unwrap_or(&typed))?);
        let name = path.display().to_string();
        // Looked at now: one that is bad would take the message and the others along.
        let medium = Medium::new(kind, MediaSource::Path(name.clone()));
        check_medium(&medium, &self.rules)?;
        self.given.push(Part::Media(medium));
        Ok(format!("`{name}` goes along with the next message."))
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
    use super::super::input;
    use super::*;

    fn history(system: Option<&str>, temperature: f64, has_adapter: bool) -> History {
        History::new(system.map(str::to_owned), temperature, has_adapter, MediaRules::default())
    }

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
        let mut history = self::history(Some("Be brief."), 0.0, false);
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
        let mut without = self::history(None, 0.0, false);
        take(&mut without, "a");
        note(&mut without, "/clear");
        assert_eq!(without.conversation.messages, []);
    }

    #[test]
    fn another_speaker_starts_anew_and_can_be_asked_the_same() {
        let mut history = self::history(None, 0.0, true);
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
        let mut history = self::history(None, 0.0, false);
        assert!(!history.adapter_is_on);
        for line in ["/adapter on", "/adapter off"] {
            assert_eq!(note(&mut history, line), "No adapter was given (`--adapter`).");
            assert!(!history.adapter_is_on);
        }
    }

    #[test]
    fn a_retry_takes_back_the_answer_and_draws_other_numbers() {
        let mut history = self::history(None, 1.0, false);
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
        let mut history = self::history(None, 0.0, false);
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
        let mut history = self::history(None, 0.0, false);
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
        let mut history = self::history(Some("s"), 0.0, false);
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
        let mut history = self::history(None, 0.0, true);
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
