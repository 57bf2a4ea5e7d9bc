//! What a request wants answers to be: texts, JSON, or calls of tools.

use super::fields::{Fields, few};
use crate::serve::grammar::{Call, Shape};
use crate::serve::refusal::Refusal;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Refusal>;

/// The most tools of a request, as of OpenAI.
const MOST_TOOLS: usize = 128;

/// What answers may be, and what they have to be.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// The names of tools that may be called.
    pub tools: Vec<String>,
    /// What is enforced.
    pub shape: Option<Shape>,
    /// What calls are held to in an answer that may be any text and may call tools.
    pub calls: Option<Shape>,
}

/// Who decides whether a tool is called.
enum Choice<'a> {
    /// The model.
    Auto,
    /// Nobody: none is.
    None,
    /// The request: this one is, or any.
    Required(Option<&'a str>),
}

impl Wanted {
    /// Of the fields of a chat.
    ///
    /// # Errors
    /// Forms that are unknown, tools without a name, and a choice of one that is not there.
    pub fn of(fields: &Fields<'_>) -> Result<Self> {
        let answer = response_format(fields)?;
        let choice = tool_choice(fields)?;
        let calls = if matches!(choice, Choice::None) { Vec::new() } else { tools(fields)? };
        let one_by_one = fields.get("parallel_tool_calls").is_some() && !fields.flag("parallel_tool_calls")?;
        let tools: Vec<String> = calls.iter().map(|call| call.name.clone()).collect();
        let mut of_calls = None;
        let shape = match choice {
            Choice::Required(name) => {
                let mut calls = calls;
                calls.retain(|call| name.is_none_or(|name| call.name == name));
                if calls.is_empty() {
                    let what = match name {
                        Some(name) => format!("`tool_choice` names `{name}`, which is not among the `tools`"),
                        None => "`tool_choice: \"required\"` needs `tools`".to_owned(),
                    };
                    return Err(Refusal::param("tool_choice", what));
                }
                Some(Shape { answer: None, calls, several: name.is_none() && !one_by_one })
            }
            // Where tools may be called, an answer is one or the other.
            _ => {
                let several = !calls.is_empty() && !one_by_one;
                let shape = Shape { answer, calls, several };
                if shape.answer.is_some() {
                    Some(shape)
                } else {
                    of_calls = Some(shape).filter(|shape| !shape.calls.is_empty());
                    None
                }
            }
        };
        Ok(Wanted { tools, shape, calls: of_calls })
    }
}

/// The schema of answers, where they are not any text.
fn response_format(fields: &Fields<'_>) -> Result<Option<Value>> {
    let wrong = |what: &str| Err(Refusal::param("response_format", what));
    let Some(format) = fields.get("response_format") else { return Ok(None) };
    let Some(format) = format.as_object().map(Fields) else {
        return wrong("`response_format` is an object: `{\"type\": \"json_schema\", \"json_schema\": {..}}`");
    };
    let inside = |refusal: Refusal| refusal.of("response_format");
    format.check(&["type", "json_schema"], &[]).map_err(inside)?;
    match format.text("type").map_err(inside)? {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "object"}))),
        Some("json_schema") => {
            let Some(Value::Object(given)) = format.get("json_schema") else {
                return wrong("`response_format.json_schema` is `{\"name\": .., \"schema\": {..}}`");
            };
            let given = Fields(given);
            // It is enforced, whether `strict` or not.
            given.check(&["name", "schema", "strict"], &["description"]).map_err(inside)?;
            given.flag("strict").map_err(inside)?;
            let name = given.text("name").map_err(inside)?.unwrap_or_default();
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
                return wrong("`response_format.json_schema.name` is up to 64 letters, digits, `_` and `-`");
            }
            match given.get("schema") {
                Some(schema @ Value::Object(_)) => Ok(Some(schema.clone())),
                _ => wrong("`response_format.json_schema.schema` is an object: a JSON schema"),
            }
        }
        _ => wrong("`response_format.type` is `text`, `json_object` or `json_schema`"),
    }
}

fn tool_choice<'a>(fields: &Fields<'a>) -> Result<Choice<'a>> {
    let wrong = || {
        let what =
            "`tool_choice` is `auto`, `none`, `required`, or `{\"type\": \"function\", \"function\": {\"name\": ..}}`";
        Refusal::param("tool_choice", what)
    };
    match fields.get("tool_choice") {
        None => Ok(Choice::Auto),
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" => Ok(Choice::Required(None)),
            _ => Err(wrong()),
        },
        Some(choice) if choice["type"] == "function" => {
            let name = choice.get("function").unwrap_or(choice).get("name").and_then(Value::as_str);
            name.map(|name| Choice::Required(Some(name))).ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

/// The tools of a request.
fn tools(fields: &Fields<'_>) -> Result<Vec<Call>> {
    let Some(tools) = fields.get("tools") else { return Ok(Vec::new()) };
    let wrong = |what: &str| Refusal::param("tools", what.to_owned());
    let list = tools.as_array().ok_or_else(|| wrong("`tools` is a list"))?;
    few("tools", list.len(), MOST_TOOLS, "tools")?;
    let call = |(at, tool): (usize, &Value)| {
        let (place, function) = match tool.get("function") {
            Some(function) => (format!("tools[{at}].function.parameters"), function),
            None => (format!("tools[{at}].parameters"), tool),
        };
        let form = "`tools` is a list of `{\"type\": \"function\", \"function\": {\"name\": ..}}`";
        let name = function.get("name").and_then(Value::as_str).ok_or_else(|| wrong(form))?.to_owned();
        let parameters = match function.get("parameters").filter(|parameters| !parameters.is_null()) {
            None => json!({"type": "object", "properties": {}, "additionalProperties": false}),
            Some(Value::Object(given)) => {
                let mut given = given.clone();
                given.entry("type").or_insert("object".into());
                Value::Object(given)
            }
            Some(_) => return Err(wrong(&format!("`{place}` is an object: a JSON schema"))),
        };
        Ok(Call { name, parameters, place })
    };
    list.iter().enumerate().map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: Value) -> Result<Wanted> {
        Wanted::of(&Fields(fields.as_object().unwrap()))
    }

    fn add() -> Value {
        json!({"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}})
    }

    #[test]
    fn texts_are_held_to_nothing() {
        for fields in [json!({}), json!({"response_format": {"type": "text"}, "tool_choice": "auto"})] {
            assert_eq!(of(fields).unwrap(), Wanted::default());
        }
        let wanted = of(json!({"tools": [add()]})).unwrap();
        assert_eq!((wanted.tools.as_slice(), &wanted.shape), (&["add".to_owned()][..], &None));
        let calls = wanted.calls.expect("what calls are held to");
        assert_eq!((calls.answer, calls.calls.len(), calls.several), (None, 1, true));
        assert_eq!(of(json!({"tools": [add()], "tool_choice": "none"})).unwrap(), Wanted::default());
    }

    #[test]
    fn what_is_wanted_has_a_schema() {
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {"type": "array"}}});
        let answer = |fields| of(fields).unwrap().shape.unwrap();
        assert_eq!(answer(json!({"response_format": format})).schema(), json!({"type": "array"}));
        let object = answer(json!({"response_format": {"type": "json_object"}}));
        assert_eq!((object.schema(), object.several), (json!({"type": "object"}), false));

        let now = json!({"type": "function", "function": {"name": "now"}});
        let named = json!({"type": "function", "function": {"name": "add"}});
        let one = answer(json!({"tools": [add(), now], "tool_choice": named, "response_format": format}));
        assert_eq!((one.answer, one.calls.len(), one.several), (None, 1, false));
        assert_eq!(one.calls[0].parameters["type"], "object");
        let any = answer(json!({"tools": [add(), now], "tool_choice": "required"}));
        assert_eq!((any.calls.len(), any.several), (2, true));
        let either = answer(json!({"tools": [add()], "parallel_tool_calls": false, "response_format": format}));
        assert_eq!((either.answer.is_some(), either.calls.len(), either.several), (true, 1, false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let schema = |given: Value| json!({"response_format": {"type": "json_schema", "json_schema": given}});
        for (fields, field, part) in [
            (json!({"response_format": "json"}), "response_format", "is an object"),
            (json!({"response_format": {"type": "xml"}}), "response_format", "`json_schema`"),
            (json!({"response_format": {"type": "text", "x": 1}}), "response_format", "`x` is not known"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format", "\"schema\""),
            (schema(json!({"schema": {}})), "response_format", "name"),
            (schema(json!({"name": "a b", "schema": {}})), "response_format", "name"),
            (schema(json!({"name": "a"})), "response_format", "a JSON schema"),
            (schema(json!({"name": "a", "schema": {}, "strict": 1})), "response_format", "true or false"),
            (json!({"tool_choice": "required"}), "tool_choice", "needs `tools`"),
            (json!({"tool_choice": "any"}), "tool_choice", "`required`"),
            (json!({"tool_choice": {"type": "function"}}), "tool_choice", "\"name\""),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "b"}}, "tools": [add()]}),
                "tool_choice",
                "`b`",
            ),
            (json!({"tools": {}}), "tools", "a list"),
            (json!({"tools": [{"type": "function"}]}), "tools", "a list of"),
            (json!({"tools": [{"name": "a", "parameters": []}]}), "tools", "`tools[0].parameters` is an object"),
        ] {
            let error = of(fields.clone()).unwrap_err().json();
            let of = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
            assert!(of("param") == field && of("message").contains(part), "{fields}: {error}");
        }
    }
}
