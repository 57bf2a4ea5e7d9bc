//! Answers that have to have a form: at each token a grammar says which may come next.

mod calls;
mod held;
mod schema;
mod words;

use self::calls::{Calls, HeldCalls};
pub use self::held::{Broken, Held};
pub use self::schema::{Call, Shape};

use super::Host;
use super::refusal::Refusal;
use crate::guard::caught;
use crate::infer::{Adjusted, Choose};
use crate::text::called::{CallForm, is_word};
use crate::text::stream::bytes;
use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// What grammars are compiled on: they are walked as deep as schemas refer to one another.
const STACK_BYTES: usize = 64 << 20;
/// Between the words of JSON a space may stand, or a new line with an indent; no more, so that nothing is said for ever.
const WHITESPACE: &str = r"\x20|\x0A[\x20\x09]{0,40}";
/// What looking for the next tokens may cost: some milliseconds at most.
const STEP_FUEL: u64 = 100_000;
const STEP_ITEMS: usize = 25_000;
/// States of a grammar's lexer, of a kilobyte or two.
const MOST_LEXER_STATES: usize = 50_000;

/// What an answer is held to.
#[derive(Clone)]
pub enum Hold {
    /// All of it has a form.
    All(Grammar),
    /// The calls in it have.
    Calls(Calls),
}

impl Hold {
    /// Chooses so; `broken` hears why it cannot any longer.
    pub fn chooser(self, adjusted: Adjusted, broken: Broken) -> Box<dyn Choose> {
        match self {
            Hold::All(grammar) => Box::new(Held { adjusted, grammar, broken }),
            Hold::Calls(calls) => Box::new(HeldCalls::new(adjusted, calls)),
        }
    }
}

/// The words of a served model, as grammars know them.
#[derive(Default)]
pub struct Grammars(OnceLock<Result<Words, String>>);

impl Grammars {
    /// The grammar of a form.
    ///
    /// # Errors
    /// A schema that is none, that asks for what is not enforced, or that is too large.
    pub fn of(&self, shape: &Shape, host: &dyn Host) -> Result<Hold, Refusal> {
        self.grammar(shape, host).map(Hold::All)
    }

    /// The same of the calls of an answer that may be any text. `None` where their schemas ask for what is not enforced: then calls are
    /// as the model makes them.
    pub fn of_calls(&self, shape: &Shape, host: &dyn Host) -> Option<Hold> {
        let names = shape.calls.iter().map(|call| call.name.clone()).collect();
        let grammar = self.grammar(shape, host).ok()?;
        Calls::of(grammar, names, host.call_form()).map(Hold::Calls)
    }

    fn grammar(&self, shape: &Shape, host: &dyn Host) -> Result<Grammar, Refusal> {
        let words = self.0.get_or_init(|| {
            let spellings = (0..host.vocab_size() as u32).map(|id| (host.token(id), host.is_special(id)));
            Words::of(spellings, host.stop())
        });
        let broken = |what: &String| Refusal::bad(format!("answers of a form cannot be given: {what}"));
        words.as_ref().map_err(broken)?.grammar(shape, host.call_form())
    }
}

/// The words of a model in a tree.
struct Words {
    factory: ParserFactory,
    /// A token that ends an answer.
    end: u32,
}

impl Words {
    /// Those of a vocabulary, each with whether it is part of no text, and the tokens that end an answer.
    fn of(spellings: impl Iterator<Item = (Option<String>, bool)>, stop: &[u32]) -> Result<Self, String> {
        let words: Vec<Vec<u8>> = spellings
            .map(|(spelling, is_special)| match (spelling, is_special) {
                (None, _) => Vec::new(),
                (Some(spelling), true) if !is_word(&spelling) => {
                    [&[TokTrie::SPECIAL_TOKEN_MARKER], spelling.as_bytes()].concat()
                }
                (Some(spelling), _) => bytes(&spelling),
            })
            .collect();
        let stop: Vec<u32> = stop.iter().copied().filter(|id| (*id as usize) < words.len()).collect();
        let end = *stop.first().ok_or("no token of the model ends an answer")?;
        let factory = caught(|| {
            let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words).with_eos_tokens(&stop);
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(
                &(Arc::new(ApproximateTokEnv::new(trie)) as _),
                InferenceCapabilities::default(),
                &slices,
            )
        });
        let mut factory = factory.map_err(|panic| panic.said)?.map_err(|error| error.to_string())?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.step_lexer_fuel = STEP_FUEL;
        limits.step_max_items = STEP_ITEMS;
        limits.max_lexer_states = MOST_LEXER_STATES;
        Ok(Words { factory, end })
    }

    /// The grammar of a form, of a model that calls tools so.
    fn grammar(&self, shape: &Shape, calls: CallForm) -> Result<Grammar, Refusal> {
        let matcher = stacker::maybe_grow(STACK_BYTES, STACK_BYTES, || {
            shape.check()?;
            let fails = |part: Value| self.of_schema(part).err();
            match (calls, &shape.answer) {
                (CallForm::Words, None) => {
                    let grammar = TopLevelGrammar::from_lark(words::lark(&shape.calls, shape.several)?);
                    self.compile(grammar)
                        .map_err(|what| Refusal::param("tools", format!("calls cannot be required: {what}")))
                }
                (CallForm::Words, Some(_)) if !shape.calls.is_empty() => {
                    let what = "this model calls tools in words of its own, which are no JSON: `tool_choice: \"none\"` has answers of a form";
                    Err(Refusal::param("response_format", what))
                }
                _ => self.of_schema(shape.schema()).map_err(|what| shape.wrong(&what, &fails)),
            }
        })?;
        Ok(Grammar { matcher, end: self.end })
    }

    fn of_schema(&self, mut schema: Value) -> Result<Matcher, String> {
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("x-guidance".into(), json!({"whitespace_pattern": WHITESPACE}));
        }
        self.compile(TopLevelGrammar::from_json_schema(schema))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let compiled = caught(|| Matcher::new(self.factory.create_parser(grammar)));
        let matcher = compiled.map_err(|panic| panic.said)?;
        match matcher.get_error() {
            None => Ok(matcher),
            Some(error) if error.contains("coerce_one_of") => {
                Err("alternatives of `oneOf` of which more than one may hold are not enforced: `anyOf` is".to_owned())
            }
            Some(error) => Err(brief(&error)),
        }
    }
}

/// What is wrong, of a message of several lines: what a regular expression has is said last.
fn brief(error: &str) -> String {
    let last = error.lines().find_map(|line| line.strip_prefix("error: "));
    last.or_else(|| error.lines().next()).unwrap_or_default().to_owned()
}

/// What may come next in an answer, from its beginning on.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
    /// A token that ends an answer.
    end: u32,
}

impl Grammar {
    /// Chooses as `adjusted` does, of the tokens that may come next, and takes what it has chosen.
    ///
    /// # Errors
    /// As [`Grammar::forbid`].
    fn choose(&mut self, adjusted: &mut Adjusted, logits: &[f32], said: &[u32]) -> Result<u32, String> {
        let mut logits = adjusted.adjusted(logits, said).unwrap_or_else(|| logits.to_vec());
        self.forbid(&mut logits)?;
        let token = adjusted.sampler.choose(&logits, said);
        self.take(token).map(|()| token)
    }

    /// Forbids the tokens that may not come next: where the answer is whole, all but those that end it.
    ///
    /// # Errors
    /// Where that would take too long to find out.
    fn forbid(&mut self, logits: &mut [f32]) -> Result<(), String> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        let mut of_32 = allowed.as_slice().iter();
        for logits in logits.chunks_mut(32) {
            let bits = of_32.next().copied().unwrap_or(0);
            let forbidden = logits.iter_mut().enumerate().filter(|(at, _)| bits >> at & 1 == 0);
            forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        }
        Ok(())
    }

    /// Takes the token that came.
    ///
    /// # Errors
    /// As [`Grammar::forbid`].
    fn take(&mut self, token: u32) -> Result<(), String> {
        match self.matcher.is_stopped() {
            true => Ok(()), // one that ends it
            false => self.matcher.consume_token(token).map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
