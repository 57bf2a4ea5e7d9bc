//! Holding calls of tools to their schemas in answers that may be any text: from where a call has begun until it is whole.
//!
//! An answer calls a tool where a line begins with an object whose `name` is a tool's, or with a list of these, or where the word that
//! begins a call of FunctionGemma's stands; see [`crate::text::called`]. What comes before, and what comes behind it, is the model's own.

use super::Grammar;
use crate::infer::{Adjusted, Choose};
use crate::text::called::{BEGIN, CallForm};
use llguidance::toktrie::TokEnv;
use std::sync::Arc;

/// The longest beginning of a call that is waited for, in bytes: spaces and a name.
const LONGEST_BEGINNING: usize = 512;

/// How calls begin, and what they have to be.
#[derive(Clone)]
pub struct Calls {
    grammar: Grammar,
    env: TokEnv,
    names: Arc<[String]>,
    form: CallForm,
}

impl Calls {
    /// Calls of tools of these names, by their grammar; nothing where it has no words.
    pub(super) fn of(grammar: Grammar, names: Vec<String>, form: CallForm) -> Option<Self> {
        let env = grammar.matcher.tok_env().ok()?;
        Some(Calls { grammar, env, names: names.into(), form })
    }
}

/// Chooses as [`Adjusted`], and where a call has begun, of the tokens that may come next in it.
pub struct HeldCalls {
    adjusted: Adjusted,
    calls: Calls,
    /// What may be the beginning of a call.
    open: Option<Vec<u8>>,
    /// Whether a line begins here.
    begins_line: bool,
    /// Whether nothing but blanks was said.
    is_blank: bool,
    /// What may come next in the call that has begun.
    within: Option<Grammar>,
}

/// Whether a text is the beginning of a call.
#[derive(Debug, PartialEq, Eq)]
enum Beginning {
    /// It is none, whatever follows.
    No,
    /// That is not known yet.
    Open,
    /// It is.
    Yes,
}

impl HeldCalls {
    /// Chooses so.
    pub fn new(adjusted: Adjusted, calls: Calls) -> Self {
        HeldCalls { adjusted, calls, open: None, begins_line: true, is_blank: true, within: None }
    }

    /// Takes a token that was chosen freely.
    fn hear(&mut self, token: u32) {
        let env = self.calls.env.clone();
        let word = env.tok_trie().token(token);
        if self.calls.form == CallForm::Words {
            if word == BEGIN.as_bytes() {
                self.enter(&[token]);
            }
            return;
        }
        let mut has_begun = false;
        for &byte in word {
            if let Some(open) = self.open.as_mut() {
                open.push(byte);
                match if has_begun { Beginning::Yes } else { beginning(open, &self.calls.names) } {
                    Beginning::Yes => has_begun = true,
                    Beginning::Open => {}
                    Beginning::No => self.open = None,
                }
            }
            if self.open.is_none() && self.begins_line && matches!(byte, b'{' | b'[') {
                self.open = Some(vec![byte]);
            }
            self.begins_line = byte == b'\n' || (self.is_blank && byte.is_ascii_whitespace());
            self.is_blank &= byte.is_ascii_whitespace();
        }
        if let Some(open) = self.open.take_if(|_| has_begun) {
            self.enter(&env.tok_trie().greedy_tokenize(&open));
        }
    }

    /// Holds what comes to the form of a call that has begun with these tokens; one that begins otherwise than the form has it is left to the model.
    fn enter(&mut self, tokens: &[u32]) {
        let mut grammar = self.calls.grammar.clone();
        let is_taken = grammar.matcher.consume_tokens(tokens).is_ok();
        self.within = Some(grammar).filter(|_| is_taken);
        self.leave_whole();
    }

    /// Lets go of a call that is whole.
    fn leave_whole(&mut self) {
        let is_whole =
            |within: &mut Grammar| within.matcher.is_stopped() || !matches!(within.matcher.is_accepting(), Ok(false));
        if self.within.as_mut().is_some_and(is_whole) {
            self.within = None;
            // What follows on the same line is no call, as what is said does not end with it.
            (self.open, self.begins_line) = (None, false);
        }
    }

    /// The next token of a call; `None` where that would take too long to find out.
    fn next_within(&mut self, logits: &[f32], said: &[u32]) -> Option<u32> {
        self.within.as_mut()?.choose(&mut self.adjusted, logits, said).ok()
    }
}

impl Choose for HeldCalls {
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32 {
        if self.within.is_some() {
            if let Some(token) = self.next_within(logits, said) {
                self.leave_whole();
                return token;
            }
            self.within = None; // the model's own again
        }
        let token = self.adjusted.choose(logits, said);
        self.hear(token);
        token
    }
}

/// Whether a text from the beginning of a line is the beginning of a call of one of these names: `{"name": "a"`, or `[` before it.
fn beginning(text: &[u8], names: &[String]) -> Beginning {
    if text.len() > LONGEST_BEGINNING {
        return Beginning::No;
    }
    let mut rest = text.strip_prefix(b"[").unwrap_or(text);
    for mark in ["{", "\"name\"", ":", "\""] {
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(mark.as_bytes()) {
            Some(after) => rest = after,
            None if mark.as_bytes().starts_with(rest) => return Beginning::Open,
            None => return Beginning::No,
        }
    }
    match rest.iter().position(|byte| *byte == b'"') {
        Some(end) if names.iter().any(|name| name.as_bytes() == &rest[..end]) => Beginning::Yes,
        Some(_) => Beginning::No,
        None if names.iter().any(|name| name.as_bytes().starts_with(rest)) => Beginning::Open,
        None => Beginning::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_begins_with_the_name_of_a_tool() {
        let names = ["add".to_owned(), "now".to_owned()];
        let of = |text: &str| beginning(text.as_bytes(), &names);
        for call in ["{\"name\": \"add\"", "[{\"name\":\"now\"", "{\n  \"name\" : \"add\"", "[\n{ \"name\": \"now\""] {
            assert_eq!(of(call), Beginning::Yes, "{call}");
            assert!((1..call.len()).all(|end| of(&call[..end]) == Beginning::Open), "{call}");
        }
        for other in ["{}", "{\"a", "[1", "{\"name\": 3", "{\"name\": \"sub\"", "{\"name\": \"added", "{\"named", "[["]
        {
            assert_eq!(of(other), Beginning::No, "{other}");
        }
        assert_eq!(of(&format!("{{{}", " ".repeat(600))), Beginning::No);
    }
}
