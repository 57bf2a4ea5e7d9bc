//! Talking with a model line by line: what has been said, and the commands between the turns.

use crate::error::{Place, Result};
use crate::infer::{Dialogue, GenerationSettings, Sampling};
use crate::jobs::base::peft_model::PeftModel;
use crate::nn::BaseOnly;
use crate::text::{Conversation, Message, Role, TokenStream, Tokenizer};
use std::ops::ControlFlow;

/// The commands in a line.
pub const HELP: &str = "/adapter on|off compares with the base · /clear starts anew · /quit ends";

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

/// What comes after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next line.
    Line,
    /// A word to the user, then the next line.
    Note(&'static str),
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
            history: History::new(options.system.clone(), model.adapter.is_some()),
            options,
            tuned_speaker: Dialogue::new(&model.model, model.side()),
            base_speaker: Dialogue::new(&model.model, &BaseOnly),
        })
    }

    /// Who answers next: `tuned` or `base`.
    pub fn speaker(&self) -> &'static str {
        if self.history.adapter_is_on { "tuned" } else { "base" }
    }

    /// Takes a line: a command, or a message, whose answer goes to `show` piece by piece while it is made.
    ///
    /// # Errors
    /// A conversation that the model's template refuses, and those of `show`.
    pub fn take(&mut self, line: &str, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<Next> {
        match self.history.take(line) {
            Heard::Command(next) => Ok(next),
            Heard::Message => {
                let answer = self.answer(show)?;
                self.history.conversation.messages.push(Message::new(Role::Assistant, answer));
                Ok(Next::Line)
            }
        }
    }

    /// Answers the last message.
    fn answer(&mut self, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<String> {
        let conversation = &self.history.conversation;
        let prompt = self.model.base.encoder.encode_prompt(conversation)?;
        let generation = GenerationSettings {
            max_new_tokens: self.options.max_tokens,
            sampling: self.options.sampling,
            stop: self.model.base.stop_ids(),
            seed: self.options.seed.wrapping_add(conversation.messages.len() as u64),
            first_prompt: 0,
        };
        let mut stream = TokenStream::new(self.tokenizer.clone());
        let mut shown = Ok(());
        let speaker = if self.history.adapter_is_on { &mut self.tuned_speaker } else { &mut self.base_speaker };
        let answer = speaker.answer(&prompt, &generation, |token| {
            shown = stream.push(token).map_or(Ok(()), |text| show(&text));
            if shown.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        shown?;
        show(&format!("{}\n", stream.finish().unwrap_or_default()))?;
        let answer = answer.checked().map_err(|e| e.or_at(Place::Named(self.model.base.name.clone())))?;
        Ok(self.tokenizer.decode(&answer.tokens, true))
    }
}

/// What has been said, and whether the adapter speaks.
#[derive(Debug)]
struct History {
    conversation: Conversation,
    system: Option<String>,
    has_adapter: bool,
    adapter_is_on: bool,
}

/// What a line was.
#[derive(Debug, PartialEq)]
enum Heard {
    /// A command, which is done.
    Command(Next),
    /// A message, which waits for its answer.
    Message,
}

impl History {
    fn new(system: Option<String>, has_adapter: bool) -> Self {
        let mut history =
            History { conversation: Conversation::default(), system, has_adapter, adapter_is_on: has_adapter };
        history.clear();
        history
    }

    /// Forgets all but the system message.
    fn clear(&mut self) {
        let system = self.system.iter().map(|text| Message::new(Role::System, text.as_str()));
        self.conversation = Conversation { messages: system.collect(), tools: Vec::new() };
    }

    /// Obeys a command or takes down a message.
    fn take(&mut self, line: &str) -> Heard {
        Heard::Command(match line.trim() {
            "" => Next::Line,
            "/quit" | "/exit" => Next::End,
            "/clear" => {
                self.clear();
                Next::Line
            }
            "/adapter on" if !self.has_adapter => Next::Note("No adapter was given (`--adapter`)."),
            "/adapter on" => {
                self.adapter_is_on = true;
                Next::Line
            }
            "/adapter off" => {
                self.adapter_is_on = false;
                Next::Line
            }
            command if command.starts_with('/') => Next::Note(HELP),
            text => {
                self.conversation.messages.push(Message::new(Role::User, text));
                return Heard::Message;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: Heard = Heard::Command(Next::Line);

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    #[test]
    fn messages_are_kept_until_they_are_cleared() {
        let mut history = History::new(Some("Be brief.".into()), false);
        let (system, four) = (Message::new(Role::System, "Be brief."), Message::new(Role::Assistant, "Four."));
        assert_eq!(history.take("  Two and two?\n"), Heard::Message);
        history.conversation.messages.push(four.clone());
        assert_eq!(history.take("And three?"), Heard::Message);
        let all = [system.clone(), user("Two and two?"), four, user("And three?")];
        assert_eq!(history.conversation.messages, all);
        assert_eq!(history.take("   \n"), NEXT);
        assert_eq!(history.conversation.messages, all, "an empty line says nothing");
        assert_eq!(history.take("/clear"), NEXT);
        assert_eq!(history.conversation.messages, [system], "the system message stays");
        let mut without = History::new(None, false);
        without.take("a");
        without.take("/clear");
        assert_eq!(without.conversation.messages, []);
    }

    #[test]
    fn the_adapter_is_switched_without_losing_what_was_said() {
        let mut history = History::new(None, true);
        assert!(history.adapter_is_on, "an adapter that was given speaks first");
        history.take("a");
        assert_eq!(history.take("/adapter off"), NEXT);
        assert!(!history.adapter_is_on);
        history.take("/clear");
        assert!(!history.adapter_is_on, "who speaks is not forgotten");
        history.take("b");
        assert_eq!((history.take("/adapter on\n"), history.adapter_is_on), (NEXT, true));
        assert_eq!(history.conversation.messages, [user("b")]);
    }

    #[test]
    fn without_an_adapter_the_base_speaks_and_says_why() {
        let mut history = History::new(None, false);
        assert!(!history.adapter_is_on);
        assert_eq!(history.take("/adapter on"), Heard::Command(Next::Note("No adapter was given (`--adapter`).")));
        assert!(!history.adapter_is_on);
        assert_eq!(history.take("/adapter off"), NEXT);
    }

    #[test]
    fn other_commands_end_or_explain() {
        let mut history = History::new(None, true);
        for line in ["/quit", "/exit\n"] {
            assert_eq!(history.take(line), Heard::Command(Next::End));
        }
        for line in ["/help", "/", "/adapter", "/adapter maybe"] {
            assert_eq!(history.take(line), Heard::Command(Next::Note(HELP)), "{line}");
        }
        assert_eq!(history.conversation.messages, [], "commands are not said");
    }
}
