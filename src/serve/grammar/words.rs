//! Calls in words of control, as FunctionGemma writes them, in the language of Lark.

use super::schema::{Call, NOTES, refused};
use crate::serve::refusal::Refusal;
use crate::text::called::{BEGIN, END, QUOTE};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The most calls in an answer.
const MOST_CALLS: usize = 16;
/// Keywords that are enforced.
const KNOWN: [&str; 8] =
    ["$schema", "type", "enum", "const", "properties", "required", "items", "additionalProperties"];
/// Values of any kind. A text ends where its quote does, so that it has no `<`.
const ANY: &str = r#"value: text | NUMBER | "true" | "false" | "null" | list | object
list: "[" (value ("," value)*)? "]"
object: "{" (pair ("," pair)*)? "}"
pair: KEY ":" value
KEY: /[A-Za-z0-9_\-]{1,64}/
TEXT: /[^<]*/
INTEGER: /0|-?[1-9][0-9]{0,15}/
NUMBER: /-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?/
"#;

/// Where something is wrong in a schema, and what it is.
type Wrong = (String, String);

/// The grammar of a call of one of these, or of several.
///
/// # Errors
/// Schemas of which this form enforces only a part.
pub fn lark(calls: &[Call], several: bool) -> Result<String, Refusal> {
    let mut rules = Rules { text: String::new(), count: 0 };
    let mut forms = Vec::new();
    for Call { name, parameters, place } in calls {
        let wrong = |(at, what): Wrong| refused(place, &at, &what);
        let arguments = check(parameters, "").and_then(|()| rules.object(parameters, "")).map_err(wrong)?;
        forms.push(format!("{} {arguments}", quoted(name)));
    }
    let (begin, end) = (quoted(&format!("{BEGIN}call:")), quoted(END));
    let times = if several { format!("{{1,{MOST_CALLS}}}") } else { String::new() };
    let quote = quoted(QUOTE);
    let forms = forms.join(" | ");
    Ok(format!("start: call{times}\ncall: {begin} ({forms}) {end}\ntext: {quote} TEXT {quote}\n{ANY}{}", rules.text))
}

/// A text in Lark.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// Rules that are made for schemas.
struct Rules {
    text: String,
    count: usize,
}

impl Rules {
    fn add(&mut self, alternatives: &str) -> String {
        let name = format!("r{}", self.count);
        self.count += 1;
        // Nothing fails that writes into memory.
        let _ = writeln!(self.text, "{name}: {alternatives}");
        name
    }

    /// What a value of a schema looks like.
    fn value(&mut self, schema: &Value, at: &str) -> Result<String, Wrong> {
        let Some(entries) = schema.as_object() else { return Ok("value".to_owned()) };
        check(schema, at)?;
        if let Some(given) = entries.get("const") {
            return literal(given).ok_or_else(|| nested(at, "const"));
        }
        if let Some(given) = entries.get("enum").and_then(Value::as_array) {
            let all = given.iter().map(literal).collect::<Option<Vec<_>>>();
            return all.map(|all| format!("({})", all.join(" | "))).ok_or_else(|| nested(at, "enum"));
        }
        let kinds: Vec<&str> = match entries.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            Some(kind) => kind.as_str().into_iter().collect(),
            None if entries.contains_key("properties") => vec!["object"],
            None if entries.contains_key("items") => vec!["array"],
            None => return Ok("value".to_owned()),
        };
        let mut forms = Vec::new();
        for kind in kinds {
            forms.push(match kind {
                "string" => "text".to_owned(),
                "integer" => "INTEGER".to_owned(),
                "number" => "NUMBER".to_owned(),
                "boolean" => "\"true\" | \"false\"".to_owned(),
                "array" => {
                    let item = entries
                        .get("items")
                        .map_or(Ok("value".to_owned()), |items| self.value(items, &format!("{at}/items")))?;
                    format!("\"[\" ({item} (\",\" {item})*)? \"]\"")
                }
                "object" => self.object(schema, at)?,
                _ => "\"null\"".to_owned(),
            });
        }
        Ok(format!("({})", forms.join(" | ")))
    }

    /// What an object of a schema looks like: its properties by name, as templates write them.
    fn object(&mut self, schema: &Value, at: &str) -> Result<String, Wrong> {
        if schema.get("additionalProperties").is_some_and(|more| !more.is_boolean()) {
            return Err((format!("{at}/additionalProperties"), "here it is true or false".to_owned()));
        }
        let any = json!({});
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let given = schema["properties"].as_object();
        let mut properties: BTreeMap<&str, &Value> = required.iter().map(|name| (*name, &any)).collect();
        properties.extend(given.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
        if properties.is_empty() {
            let is_open = given.is_none() && schema["additionalProperties"] != false;
            return Ok(if is_open { "object".to_owned() } else { "\"{\" \"}\"".to_owned() });
        }
        // From the last to the first: what stands where nothing was written before it, and where something was.
        let (mut first, mut later) = (String::new(), String::new());
        for (name, schema) in properties.into_iter().rev() {
            if name.contains([':', ',', '{', '}', '[', ']', '<']) || name.trim() != name {
                return Err((format!("{at}/properties/{name}"), "its name cannot be written in a call".to_owned()));
            }
            let value = self.value(schema, &format!("{at}/properties/{name}"))?;
            let own = self.add(&format!("{} {value} {later}", quoted(&format!("{name}:"))));
            let after = format!("\",\" {own}");
            let is_required = required.contains(&name);
            (first, later) = match is_required {
                true => (own, self.add(&after)),
                false => (self.add(&format!("{own} | {first}")), self.add(&format!("{after} | {later}"))),
            };
        }
        Ok(format!("\"{{\" {first} \"}}\""))
    }
}

/// Refuses a schema of which only a part would be enforced.
fn check(schema: &Value, at: &str) -> Result<(), Wrong> {
    let is_known = |keyword: &str| KNOWN.contains(&keyword) || NOTES.contains(&keyword);
    match schema.as_object().and_then(|entries| entries.keys().find(|keyword| !is_known(keyword.as_str()))) {
        None => Ok(()),
        Some(other) => {
            let what = format!("`{other}` is not enforced for a model that calls tools in words of its own");
            Err((format!("{at}/{other}"), what))
        }
    }
}

/// A value that is no list or object, as it is written.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains('<') => None,
        Value::String(text) => Some(quoted(&format!("{QUOTE}{text}{QUOTE}"))),
        Value::Array(_) | Value::Object(_) => None,
        other => Some(quoted(&other.to_string())),
    }
}

fn nested(at: &str, keyword: &str) -> Wrong {
    (format!("{at}/{keyword}"), "it has what cannot be written in a call: a list, an object or `<`".to_owned())
}
