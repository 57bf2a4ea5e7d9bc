//! The model's own chat template, run as Hugging Face runs it, whatever it holds.
//!
//! A template comes with a model from anywhere. What is asked of its [`source`] before it is compiled bounds the stack
//! that compiling takes; each rendering has a number of steps, a [`budget`] that all its operations pay from, and a
//! stack that suits its steps.

mod budget;
mod builtins;
mod json;
mod object;
mod operators;
mod source;

use crate::error::{Error, Kind, Result};
use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};
use regex::Regex;
use serde_json::Value as Json;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// The name under which errors show the template.
const NAME: &str = "chat_template";
/// Instructions that every rendering may take, and those that each value of the conversation adds.
const FUEL: u64 = 200_000;
const FUEL_PER_VALUE: u64 = 2_000;
/// Bytes that rendering may read and make, whatever is rendered, and those that each byte of the conversation adds.
const UNITS: u64 = 32 << 20;
const UNITS_PER_BYTE: u64 = 256;
/// The most bytes that the text between a template's tags may make, were it repeated with every step.
const MAX_RAW_BYTES: u64 = 1 << 30;
/// The stack for compiling what [`source::check`] accepts.
const COMPILING_STACK_BYTES: usize = 64 << 20;
/// The stack for rendering, and what each step adds: a step can nest a value into another.
const STACK_BYTES: usize = 8 << 20;
const STACK_BYTES_PER_STEP: usize = 128;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(builtins::environment);

/// A compiled chat template.
pub(super) struct Jinja {
    code: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
    most_steps: u64,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for Jinja {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jinja").finish_non_exhaustive()
    }
}

impl Jinja {
    /// Compiles `source`; `bos` and `eos` are the tokens that it may write. The source is kept for as long as the
    /// program runs.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let refused =
            |e: &dyn std::fmt::Display| Error::new(Kind::Tokenizer, format!("the chat template does not compile: {e}"));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| refused(&e))?;
        let too_large = |what: String| {
            Error::new(Kind::Tokenizer, format!("the chat template is refused: {what}"))
                .hint("a chat template of a published model is far smaller: is this file what it should be?")
        };
        source::check(source, &syntax).map_err(too_large)?;
        // Training templates mark the assistant's words with a tag of transformers; here it is a plain block.
        let tag = Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").map_err(|e| refused(&e))?;
        let source = tag.replace_all(source, |tag: &regex::Captures<'_>| {
            let block = if tag.get(2).is_some() { "endif" } else { "if true" };
            format!("{{%{} {block} {}%}}", &tag[1], &tag[3])
        });
        on_a_stack(COMPILING_STACK_BYTES, || {
            parse(&source, NAME, syntax.clone()).map_err(|e| refused(&e))?;
            let source: &'static str = source.into_owned().leak();
            let tree = parse(source, NAME, syntax).map_err(|e| refused(&e))?;
            let mut generator = CodeGenerator::new(NAME, source);
            generator.compile_stmt(&tree);
            let (mut code, mut blocks) = generator.finish();
            let mut longest = 1;
            for code in blocks.values_mut().chain([&mut code]) {
                longest = longest.max(operators::guard(code).map_err(|what| too_large(what.to_owned()))?);
            }
            let most_steps = MAX_RAW_BYTES / longest as u64;
            Ok(Jinja { code, blocks, most_steps, bos: bos.into(), eos: eos.into() })
        })?
    }

    /// Renders messages and the definitions of tools, which Hugging Face gives to a template as `None` if there are none.
    pub fn render(
        &self,
        messages: impl IntoIterator<Item: Borrow<Json>>,
        tools: &[Json],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let list = |values: &[Json]| -> Value { values.iter().map(object::from_json).collect() };
        let none = Value::from(());
        self.run(context! {
            // One after the other, so that no message is there twice for longer than it takes.
            messages => messages.into_iter().map(|message| object::from_json(message.borrow())).collect::<Value>(),
            tools => if tools.is_empty() { none.clone() } else { list(tools) },
            documents => none,
            add_generation_prompt,
            bos_token => &*self.bos,
            eos_token => &*self.eos,
        })
    }

    /// Renders with these variables.
    fn run(&self, variables: Value) -> Result<String> {
        let (values, bytes) = size(&variables);
        let steps = (FUEL + FUEL_PER_VALUE * values).min(self.most_steps);
        let stack = STACK_BYTES + STACK_BYTES_PER_STEP * steps as usize;
        let rendered = on_a_stack(stack, || {
            budget::begin(UNITS + UNITS_PER_BYTE * bytes);
            let mut environment = ENVIRONMENT.clone();
            environment.set_fuel(Some(steps));
            let mut text = String::with_capacity(bytes as usize);
            let mut out = make_string_output(&mut text);
            let done = eval(&environment, &self.code, variables, &self.blocks, &mut out, AutoEscape::None).map(drop);
            drop(out);
            done.map(|()| text).map_err(|e| match e.kind() {
                ErrorKind::OutOfFuel => format!("it takes more than {steps} steps"),
                _ => e.to_string(),
            })
        })?;
        rendered.map_err(|e| {
            Error::new(Kind::Tokenizer, format!("the model's chat template refuses the conversation: {e}"))
        })
    }
}

/// The number of values in `value`, and the bytes of their texts.
fn size(value: &Value) -> (u64, u64) {
    if let Some(text) = value.as_str() {
        return (1, text.len() as u64);
    }
    let Some(object) = value.as_object() else { return (1, 8) };
    let pairs = object.try_iter_pairs().into_iter().flatten();
    pairs.fold((1, 32), |(values, bytes), (key, item)| {
        let (more, long) = size(&item);
        (values + more, bytes + long + key.as_str().map_or(8, str::len) as u64)
    })
}

/// Runs `work` with a stack of this many bytes, this thread's where it has as many left: a new one for each row takes
/// longer than the row.
///
/// # Errors
/// When the system gives no stack, or the template's engine fails.
fn on_a_stack<T>(stack_bytes: usize, work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(|| stacker::maybe_grow(stack_bytes, stack_bytes, work)))
        .map_err(|_| Error::new(Kind::Run, "the chat template cannot be run: its engine failed"))
}

#[cfg(test)]
mod tests;
