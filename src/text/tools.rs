//! Function calling as plain turns.
//!
//! Gemma 3 has no tokens for tools and its template ignores them; Google documents a prompt instead ("Function calling
//! with Gemma", the JSON form), which this module writes, so that function-calling data can be trained:
//!
//! - the **definitions** stand at the top of the first user turn, below the system message: [`INSTRUCTIONS`], then a
//!   JSON list of `{"name", "description", "parameters"}` with an indent of two (Hugging Face's wrapper
//!   `{"type": "function", "function": ..}` is taken off), then the user's own words;
//! - a **call** is the model's turn: `{"name": "get_weather", "parameters": {"city": "Bern"}}`; several calls in one
//!   turn are a JSON list of these; words that the data has beside a call stand on the lines before it;
//! - a tool's **answer** is a user turn, fenced as in Google's examples: a line of three backticks and `tool_output`,
//!   the answer, a line of three backticks. Answers in a row, and a user message after them, share one turn.

use super::conversation::{Conversation, Message, Part, Role, ToolCall};
use super::render::strip;
use crate::error::{Error, Kind, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{self, Write};

/// Fields of a message that hold what was thought before it was said, by the names that data sets give them.
pub const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// What the model is told about calling functions: the words of Google's documentation.
pub const INSTRUCTIONS: &str = "You have access to functions. If you decide to invoke any of the function(s),\n\
     you MUST put it in the format of\n\
     {\"name\": function name, \"parameters\": dictionary of argument name and its value}\n\n\
     You SHOULD NOT include any other text in the response if you call a function";

/// Whether a conversation defines, calls or answers for tools.
pub fn are_used(conversation: &Conversation) -> bool {
    let plain = |message: &Message| message.role != Role::Tool && message.tool_calls.is_empty();
    !conversation.tools.is_empty() || !conversation.messages.iter().all(plain)
}

/// The conversation without tools: definitions, calls and answers become the text of plain turns.
///
/// # Errors
/// Definitions without a name, arguments that are no object, calls by someone other than the assistant, answers of a
/// tool that no turn of the assistant precedes.
pub fn lower(conversation: &Conversation) -> Result<Cow<'_, Conversation>> {
    if !are_used(conversation) {
        return Ok(Cow::Borrowed(conversation));
    }
    if let Some(i) = conversation.messages.iter().position(|message| message.media().next().is_some()) {
        let what = format!(
            "message {}: a picture or sound in a conversation with tools has no form in this chat template",
            i + 1
        );
        return Err(Error::new(Kind::Data, what).hint("leave the tools or the media out of the row"));
    }
    let mut messages: Vec<Message> = Vec::with_capacity(conversation.messages.len());
    let mut before = None; // the role of the message before, as the data has it
    for (i, message) in conversation.messages.iter().enumerate() {
        let wrong = |what: &str| Err(Error::new(Kind::Data, format!("message {}: {what}", i + 1)));
        if !message.tool_calls.is_empty() && message.role != Role::Assistant {
            return wrong(&format!("the {} cannot call tools, only the assistant can", message.role.name()));
        }
        match (message.role, before) {
            (Role::Tool, Some(Role::Assistant)) => messages.push(Message::new(Role::User, answer(message))),
            (Role::Tool, Some(Role::Tool)) => append(&mut messages, &answer(message)),
            (Role::Tool, _) => return wrong("a tool answers, but no turn of the assistant comes before it"),
            (Role::User, Some(Role::Tool)) => append(&mut messages, &words(message)),
            (Role::Assistant, _) if !message.tool_calls.is_empty() => {
                let said = words(message);
                let calls = calls(&message.tool_calls)
                    .map_err(|e| Error::new(Kind::Data, format!("message {}: {}", i + 1, e.what())))?;
                let text = if said.is_empty() { calls } else { format!("{said}\n{calls}") };
                messages.push(Message { learnt: message.learnt, ..Message::new(Role::Assistant, text) });
            }
            _ => messages.push(message.clone()),
        }
        before = Some(message.role);
    }
    if !conversation.tools.is_empty()
        && let Some(user) = messages.iter_mut().find(|message| message.role == Role::User)
    {
        let text = format!("{INSTRUCTIONS}\n{}\n{}", definitions(&conversation.tools)?, words(user));
        *user = Message::new(Role::User, text);
    }
    Ok(Cow::Owned(Conversation { messages, tools: Vec::new() }))
}

/// A message's text as the template would show it.
fn words(message: &Message) -> String {
    message.content.iter().filter_map(Part::text).map(strip).collect()
}

/// A tool's answer, fenced.
fn answer(message: &Message) -> String {
    format!("```tool_output\n{}\n```", words(message))
}

/// Adds `text` to the last turn, on a line of its own.
fn append(messages: &mut [Message], text: &str) {
    if let Some(Part::Text(last)) = messages.last_mut().and_then(|message| message.content.last_mut()) {
        last.push('\n');
        last.push_str(text);
    }
}

/// The definitions as a JSON list, indented by two.
fn definitions(tools: &[Value]) -> Result<String> {
    let functions: Vec<&Value> = tools.iter().map(|tool| tool.get("function").unwrap_or(tool)).collect();
    for (i, function) in functions.iter().enumerate() {
        if !function.get("name").is_some_and(Value::is_string) {
            return Err(Error::new(Kind::Data, format!("tool {} has no `name`", i + 1)).hint(
                "a tool is `{\"name\", \"description\", \"parameters\"}`, alone or as the `function` of `{\"type\": \"function\"}`",
            ));
        }
    }
    serde_json::to_string_pretty(&functions).map_err(|e| Error::new(Kind::Data, format!("the tools are no JSON: {e}")))
}

/// The calls as the model writes them.
fn calls(calls: &[ToolCall]) -> Result<String> {
    let mut values = Vec::with_capacity(calls.len());
    for ToolCall { name, arguments } in calls {
        // OpenAI's form has the arguments as JSON in a string.
        let parameters = match arguments {
            Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            Value::Null => json!({}),
            other => other.clone(),
        };
        if !parameters.is_object() {
            return Err(Error::new(Kind::Data, format!("the arguments of the call of `{name}` are no JSON object")));
        }
        values.push(json!({"name": name, "parameters": parameters}));
    }
    match &values[..] {
        [call] => spaced(call),
        several => spaced(&several),
    }
}

/// JSON on one line with a space after each comma and colon, as Python writes it and Google's examples show it.
fn spaced(value: &impl Serialize) -> Result<String> {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }
        fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }
        fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
            out.write_all(b": ")
        }
    }
    let mut bytes = Vec::new();
    let no_json = |e: &dyn std::fmt::Display| Error::new(Kind::Data, format!("the call is no JSON: {e}"));
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(|e| no_json(&e))?;
    String::from_utf8(bytes).map_err(|e| no_json(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::marks::Marks;
    use crate::text::render::render;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall { name: name.into(), arguments }
    }

    fn weather() -> Value {
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}})
    }

    #[test]
    fn definitions_calls_and_answers_become_plain_turns() {
        let conversation = Conversation {
            messages: vec![
                Message::new(Role::System, "Be brief."),
                Message::new(Role::User, " Weather in Zürich? "),
                Message::calling(vec![call("get_weather", json!({"city": "Zürich", "days": [1, 2]}))]),
                Message::new(Role::Tool, "{\"sky\": \"clear\"}\n"),
                Message::new(Role::Assistant, "Clear."),
            ],
            tools: vec![weather()],
        };
        let text = render(&lower(&conversation).unwrap(), "<bos>", &Marks::default(), false).unwrap().text;
        assert_eq!(
            text,
            "<bos><start_of_turn>user\nBe brief.\n\nYou have access to functions. If you decide to invoke any of the \
             function(s),\nyou MUST put it in the format of\n{\"name\": function name, \"parameters\": dictionary of \
             argument name and its value}\n\nYou SHOULD NOT include any other text in the response if you call a \
             function\n[\n  {\n    \"name\": \"get_weather\",\n    \"parameters\": {\n      \"type\": \"object\"\n    \
             }\n  }\n]\nWeather in Zürich?<end_of_turn>\n<start_of_turn>model\n{\"name\": \"get_weather\", \
             \"parameters\": {\"city\": \"Zürich\", \"days\": [1, 2]}}<end_of_turn>\n<start_of_turn>user\n\
             ```tool_output\n{\"sky\": \"clear\"}\n```<end_of_turn>\n<start_of_turn>model\nClear.<end_of_turn>\n"
        );
    }

    #[test]
    fn several_calls_are_a_list_and_their_answers_one_turn() {
        let conversation = Conversation {
            messages: vec![
                Message::new(Role::User, "Both?"),
                Message {
                    tool_calls: vec![call("a", json!("{\"x\": 1}")), call("b", Value::Null)],
                    ..Message::new(Role::Assistant, "I look it up.")
                },
                Message::new(Role::Tool, "1"),
                Message::new(Role::Tool, "2"),
                Message::new(Role::User, "And?"),
            ],
            tools: vec![],
        };
        let lowered = lower(&conversation).unwrap();
        assert_eq!(
            lowered.messages[1..],
            [
                Message::new(
                    Role::Assistant,
                    "I look it up.\n[{\"name\": \"a\", \"parameters\": {\"x\": 1}}, {\"name\": \"b\", \"parameters\": {}}]"
                ),
                Message::new(Role::User, "```tool_output\n1\n```\n```tool_output\n2\n```\nAnd?"),
            ]
        );
    }

    #[test]
    fn a_conversation_without_tools_is_left_alone() {
        let conversation = Conversation { messages: vec![Message::new(Role::User, " a ")], tools: vec![] };
        assert!(matches!(lower(&conversation), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_message() {
        let refused = |messages: Vec<Message>, tools: Vec<Value>| {
            lower(&Conversation { messages, tools }).unwrap_err().what().to_owned()
        };
        let user = || Message::new(Role::User, "a");
        let calling = |role, arguments| Message { role, ..Message::calling(vec![call("f", arguments)]) };
        assert_eq!(
            refused(vec![user(), Message::new(Role::Tool, "b")], vec![]),
            "message 2: a tool answers, but no turn of the assistant comes before it"
        );
        assert_eq!(
            refused(vec![calling(Role::User, json!({}))], vec![]),
            "message 1: the user cannot call tools, only the assistant can"
        );
        assert_eq!(
            refused(vec![user(), calling(Role::Assistant, json!("[1]"))], vec![]),
            "message 2: the arguments of the call of `f` are no JSON object"
        );
        assert_eq!(refused(vec![user()], vec![weather(), json!({"description": "d"})]), "tool 2 has no `name`");
    }
}
