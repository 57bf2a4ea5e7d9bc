//! A conversation as the model's own template renders it, with the bytes that are the model's to say.
//!
//! A template says what a whole conversation looks like, not which part is whose. So each answer is found by rendering
//! twice: up to where the model begins to speak, and to the end of its turn; both must begin the whole text.
//!
//! Words of the conversation that are control words reach the template as single characters that nothing else uses, and
//! are put back afterwards: so it is known which were typed, wherever the template puts them.

use super::controls::ControlWords;
use super::conversation::{Conversation, Message, Part, Role};
use super::jinja::Jinja;
use super::rendered::Rendered;
use super::tools::REASONING;
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value, json};
use std::ops::Range;

/// The characters that stand for words: Unicode's first private plane.
const STAND_INS: Range<u32> = 0xF_0000..0xF_FFFE;

/// Renders a conversation, tools included, by the model's template.
///
/// # Errors
/// What the template refuses, calls and answers of tools and reasoning that it leaves out, and turns that it renders
/// otherwise when more follow.
pub(super) fn render(
    jinja: &Jinja,
    controls: &ControlWords,
    conversation: &Conversation,
    add_generation_prompt: bool,
) -> Result<Rendered> {
    let mut mask = Mask { controls, words: Vec::new() };
    let messages: Vec<Value> = conversation.messages.iter().map(|m| mask.value(&message(m))).collect();
    let tools: Vec<Value> = conversation.tools.iter().map(|tool| mask.value(&declared(tool))).collect();
    let render = |messages: &[Value], prompt| jinja.render(messages, &tools, prompt);
    let whole = render(&messages, add_generation_prompt)?;
    require_all(&whole, conversation, &mut mask)?;
    let mut spans = Vec::new();
    if !add_generation_prompt {
        let answers = (0..messages.len()).filter(|&i| conversation.messages[i].role == Role::Assistant);
        for i in answers {
            let before = render(&messages[..i], true)?;
            let after = render(&messages[..=i], false)?;
            if !whole.starts_with(&after) || !after.starts_with(&before) {
                return Err(unclear(i));
            }
            spans.push(before.len()..after.len());
        }
    }
    Ok(mask.lift(&whole, &spans))
}

fn unclear(i: usize) -> Error {
    let what = format!(
        "message {}: the model's chat template renders it otherwise when more follow, or when it is the model's turn, so \
         it is not known which tokens are the answer's",
        i + 1
    );
    Error::new(Kind::Data, what).hint_of_files("`data.on_bad_row: skip` leaves such rows out")
}

/// Fails if the template leaves out a call, a tool's answer, or a reasoning.
fn require_all(whole: &str, conversation: &Conversation, mask: &mut Mask) -> Result<()> {
    let mut shown = |text: &str| {
        let text = mask.text(text.trim());
        let quoted = Value::from(text.as_str()).to_string();
        whole.contains(&text) || whole.contains(&quoted[1..quoted.len() - 1])
    };
    for tool in &conversation.tools {
        let name = tool.get("function").unwrap_or(tool)["name"].as_str().unwrap_or_default();
        if !shown(name) {
            let what = format!("the model's chat template does not show the tool `{name}`");
            return Err(Error::new(Kind::Data, what));
        }
    }
    for (i, message) in conversation.messages.iter().enumerate() {
        let missing = |what: &str| {
            let what = format!("message {}: the model's chat template does not show {what}", i + 1);
            Err(Error::new(Kind::Data, what)
                .hint_of_files("leave it out of the data, write it into `content`, or set `data.on_bad_row: skip`"))
        };
        if let Some(call) = message.tool_calls.iter().find(|call| !shown(&call.name)) {
            return missing(&format!("the call of `{}`", call.name));
        }
        let answers = message.content.iter().filter(|_| message.role == Role::Tool);
        for answer in answers.filter_map(Part::text) {
            if !shown(answer) {
                return missing("the tool's answer");
            }
        }
        for (name, value) in &message.fields {
            if REASONING.contains(&name.as_str()) && value.as_str().is_some_and(|text| !shown(text)) {
                return missing(&format!("its `{name}`"));
            }
        }
    }
    Ok(())
}

/// A message as templates expect it.
pub(super) fn message(message: &Message) -> Value {
    let part = |part: &Part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Media(medium) => json!({"type": medium.kind.name()}),
    };
    let content = match &message.content[..] {
        [] if !message.tool_calls.is_empty() => json!(""),
        [Part::Text(text)] => Value::from(text.as_str()),
        parts => parts.iter().map(part).collect(),
    };
    let mut object = Map::new();
    object.insert("role".into(), message.role.name().into());
    object.insert("content".into(), content);
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter();
        let call = |call: &super::ToolCall| json!({"type": "function", "function": {"name": call.name, "arguments": call.arguments}});
        object.insert("tool_calls".into(), calls.map(call).collect());
    }
    object.extend(message.fields.clone());
    Value::Object(object)
}

/// A definition in Hugging Face's wrapper, in which templates look for it.
fn declared(tool: &Value) -> Value {
    match tool.get("function") {
        Some(_) => tool.clone(),
        None => json!({"type": "function", "function": tool}),
    }
}

/// The words that single characters stand for.
struct Mask<'a> {
    controls: &'a ControlWords,
    words: Vec<String>,
}

impl Mask<'_> {
    /// `text` with characters in the place of control words, and of a beginning of one at its end.
    fn text(&mut self, text: &str) -> String {
        let mut typed = self.controls.find(text);
        let rest = typed.last().map_or(0, |last| last.end);
        typed.extend(self.controls.unfinished(&text[rest..]).map(|at| rest + at.start..rest + at.end));
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for at in typed {
            self.push_plain(&mut masked, &text[done..at.start]);
            masked.push(self.stand_in(&text[at.clone()]));
            done = at.end;
        }
        self.push_plain(&mut masked, &text[done..]);
        masked
    }

    /// Characters that could be taken for stand-ins get some, too.
    fn push_plain(&mut self, masked: &mut String, text: &str) {
        for c in text.chars() {
            masked.push(if STAND_INS.contains(&(c as u32)) { self.stand_in(c.encode_utf8(&mut [0; 4])) } else { c });
        }
    }

    fn stand_in(&mut self, word: &str) -> char {
        let index = self.words.iter().position(|known| known == word).unwrap_or_else(|| {
            self.words.push(word.to_owned());
            self.words.len() - 1
        });
        // More than 65,534 different ones: one that is put back as nothing, and so refused as left out.
        u32::try_from(index).ok().and_then(|i| char::from_u32(STAND_INS.start + i)).unwrap_or('\u{fffd}')
    }

    /// `value` with all its texts and keys masked.
    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::from(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(object) => {
                Value::Object(object.iter().map(|(key, value)| (self.text(key), self.value(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// The words put back into `masked`, with the spans of it moved along.
    fn lift(&self, masked: &str, spans: &[Range<usize>]) -> Rendered {
        let mut rendered =
            Rendered { text: String::with_capacity(masked.len()), spans: spans.to_vec(), said: Vec::new() };
        let mut edges: Vec<&mut usize> =
            rendered.spans.iter_mut().flat_map(|span| [&mut span.start, &mut span.end]).collect();
        edges.sort();
        let mut edges = edges.into_iter().peekable();
        for (at, c) in masked.char_indices() {
            while let Some(edge) = edges.next_if(|edge| **edge <= at) {
                *edge = rendered.text.len();
            }
            let word = (c as u32).checked_sub(STAND_INS.start).and_then(|i| self.words.get(i as usize));
            let start = rendered.text.len();
            match word {
                Some(word) => {
                    rendered.text.push_str(word);
                    rendered.said.push(start..rendered.text.len());
                }
                None => rendered.text.push(c),
            }
        }
        edges.for_each(|edge| *edge = rendered.text.len());
        rendered
    }
}

#[cfg(test)]
mod tests;
