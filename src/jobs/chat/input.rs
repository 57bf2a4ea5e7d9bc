//! What a person types in a chat: lines that are one entry, and entries that are commands.

use crate::error::did_you_mean;
use crate::recipe::with_point;
use crate::text::MediaKind;
use std::path::PathBuf;

/// The names of commands.
const COMMANDS: [&str; 11] =
    ["quit", "exit", "clear", "help", "adapter", "system", "temperature", "retry", "save", "image", "audio"];

/// Begins and ends a message of several lines.
const QUOTES: &str = "\"\"\"";

/// Lines until they are an entry: a line that ends in `\\` goes on in the next one, and `"""` goes on to the next `"""`.
#[derive(Debug, Default)]
pub struct Input {
    lines: Vec<String>,
    quoted: bool,
    open: bool,
}

/// What was typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// Nothing but space.
    Nothing,
    /// To be answered.
    Message(String),
    /// To be obeyed.
    Command(Command),
    /// A command that there is not, or not so: what is wrong with it.
    Wrong(String),
}

/// What a line that begins with `/` asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// End.
    Quit,
    /// Forget what has been said.
    Clear,
    /// List the commands.
    Help,
    /// Let the adapter speak, or the base.
    Adapter(bool),
    /// Set the system message (an empty one is none), or show it.
    System(Option<String>),
    /// Set the temperature, or show it.
    Temperature(Option<f64>),
    /// Answer the last message again.
    Retry,
    /// Append the conversation to a file.
    Save(PathBuf),
    /// Show a picture, or play a sound, with the next message.
    Media(MediaKind, PathBuf),
}

impl Input {
    /// Takes a line without its end; the entry, if it is complete.
    pub fn push(&mut self, line: &str) -> Option<Entry> {
        if self.quoted {
            match line.trim_end().strip_suffix(QUOTES) {
                Some(last) => self.lines.extend(Some(last.to_owned()).filter(|last| !last.trim().is_empty())),
                None => {
                    self.lines.push(line.to_owned());
                    return None;
                }
            }
            return Some(self.finish());
        }
        if !self.open
            && let Some(first) = line.trim_start().strip_prefix(QUOTES)
        {
            (self.open, self.quoted) = (true, true);
            return if first.trim().is_empty() { None } else { self.push(first) };
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            self.open = true;
            self.lines.push(line[..line.len() - 1].to_owned());
            return None;
        }
        self.lines.push(line.to_owned());
        Some(self.finish())
    }

    /// Whether more lines belong to the entry.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The entry as far as it has come.
    pub fn finish(&mut self) -> Entry {
        let Input { lines, quoted, open } = std::mem::take(self);
        let text = lines.join("\n");
        match text.trim() {
            "" => Entry::Nothing,
            _ if quoted => Entry::Message(text),
            text if open => Entry::Message(text.to_owned()),
            text => entry(text),
        }
    }
}

/// A line that is neither empty nor part of others.
fn entry(text: &str) -> Entry {
    let Some(command) = text.strip_prefix('/') else { return Entry::Message(text.to_owned()) };
    if command.starts_with('/') {
        return Entry::Message(command.to_owned());
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let some = (!rest.is_empty()).then_some(rest);
    let wrong = |what: &str| Entry::Wrong(format!("`/{name}` {what}"));
    Entry::Command(match (name, some) {
        ("quit" | "exit" | "bye", None) => Command::Quit,
        ("clear", None) => Command::Clear,
        ("help" | "?", None) => Command::Help,
        ("retry", None) => Command::Retry,
        ("quit" | "exit" | "bye" | "clear" | "help" | "?" | "retry", Some(_)) => {
            return wrong("takes nothing after it");
        }
        ("adapter", Some("on")) => Command::Adapter(true),
        ("adapter", Some("off")) => Command::Adapter(false),
        ("adapter", _) => return wrong("is followed by `on` or `off`"),
        ("system", text) => Command::System(text.map(|text| if text == QUOTES.repeat(2) { "" } else { text }.into())),
        ("temperature", None) => Command::Temperature(None),
        ("temperature", Some(number)) => match number.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Command::Temperature(Some(number)),
            _ => {
                let meant = with_point(number).map(|meant| format!(": did you mean `/{name} {meant}`?"));
                return wrong(&format!("is followed by a number, 0 or more{}", meant.unwrap_or_default()));
            }
        },
        ("save", Some(path)) => Command::Save(path.into()),
        ("image", Some(path)) => Command::Media(MediaKind::Image, path.into()),
        ("audio", Some(path)) => Command::Media(MediaKind::Audio, path.into()),
        ("save" | "image" | "audio", None) => return wrong("is followed by the name of a file"),
        _ => {
            let more = match did_you_mean(name, COMMANDS) {
                Some(near) => format!("did you mean `/{near}`? /help lists them"),
                None => "/help lists them, and // begins a message with a slash".into(),
            };
            return Entry::Wrong(format!("there is no command `/{name}`; {more}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The entries of lines, and the one that is left open.
    fn entries(lines: &[&str]) -> Vec<Entry> {
        let mut input = Input::default();
        let mut entries: Vec<Entry> = lines.iter().filter_map(|line| input.push(line)).collect();
        entries.extend(input.is_open().then(|| input.finish()));
        entries
    }

    fn message(text: &str) -> Entry {
        Entry::Message(text.into())
    }

    #[test]
    fn lines_are_joined_where_they_say_so() {
        assert_eq!(entries(&["  Two and two? "]), [message("Two and two?")]);
        assert_eq!(entries(&["a\\", "b\\", "", "c"]), [message("a\nb"), message("c")]);
        assert_eq!(entries(&["C:\\\\"]), [message("C:\\\\")], "an even number ends the line");
        assert_eq!(
            entries(&["\"\"\"", "def f():", "    return 1\\", "\"\"\"", "x"]),
            [message("def f():\n    return 1\\"), message("x")]
        );
        assert_eq!(entries(&["\"\"\"one\"\"\""]), [message("one")]);
        assert_eq!(entries(&["\"\"\"one", "two\"\"\""]), [message("one\ntwo")]);
        assert_eq!(entries(&["\"\"\"", "/quit", "\"\"\""]), [message("/quit")], "a quoted command is said");
        assert_eq!(entries(&["a\\"]), [message("a")], "the end of the input ends an entry");
        assert_eq!(entries(&["", "  ", "\"\"\"", "\"\"\""]), [Entry::Nothing, Entry::Nothing, Entry::Nothing]);
    }

    #[test]
    fn commands_are_known_or_explained() {
        let command = |line: &str| entries(&[line]).remove(0);
        for (line, expected) in [
            ("/quit", Command::Quit),
            (" /exit ", Command::Quit),
            ("/adapter  off", Command::Adapter(false)),
            ("/system Be brief. ", Command::System(Some("Be brief.".into()))),
            ("/system \"\"\"\"\"\"", Command::System(Some(String::new()))),
            ("/system", Command::System(None)),
            ("/temperature 0.7", Command::Temperature(Some(0.7))),
            ("/save my chat.jsonl", Command::Save("my chat.jsonl".into())),
        ] {
            assert_eq!(command(line), Entry::Command(expected), "{line}");
        }
        for line in [
            "/",
            "/nonsense",
            "/adapter",
            "/adapter maybe",
            "/temperature -1",
            "/temperature 0,5",
            "/temperature nan",
            "/save",
            "/quit now",
        ] {
            assert!(matches!(command(line), Entry::Wrong(_)), "{line}");
        }
        assert_eq!(
            command("/temperature 0,5"),
            Entry::Wrong("`/temperature` is followed by a number, 0 or more: did you mean `/temperature 0.5`?".into())
        );
        assert_eq!(command("//etc/hosts is what?"), message("/etc/hosts is what?"));
    }

    proptest! {
        #[test]
        fn any_lines_are_taken_and_no_text_is_lost(lines in proptest::collection::vec("[a/\\\\\" ]{0,8}|\\PC{0,6}", 0..8)) {
            let mut input = Input::default();
            let mut said = String::new();
            let mut take = |entry: Entry| if let Entry::Message(text) = entry { said += &text };
            let commands = lines.iter().any(|line| line.contains('/'));
            lines.iter().filter_map(|line| input.push(line)).for_each(&mut take);
            take(input.finish());
            prop_assert!(!input.is_open());
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            if !commands {
                prop_assert_eq!(letters(&said), letters(&lines.concat()));
            }
        }
    }
}
