//! JSON schemas that answers are held to: which are taken, and where one is wrong.

use crate::error::did_you_mean;
use crate::serve::refusal::Refusal;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Refusal>;

/// Parts of a schema, itself and all that stand in it.
const MOST_PARTS: usize = 1_000;
/// The largest number of items, properties or characters that a schema may ask for.
const MOST_COUNTED: u64 = 100_000;
/// Parts that are tried by themselves to find the one that is wrong.
const MOST_TRIED: usize = 64;
/// The most calls in a list.
const MOST_CALLS: usize = 16;

/// Keywords that are enforced and hold no schema.
const PLAIN: [&str; 19] = [
    "const",
    "enum",
    "type",
    "required",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "$ref",
    "$schema",
];
/// Keywords that hold a schema.
const OF_ONE: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
/// Keywords that hold a list of schemas.
const OF_LISTS: [&str; 5] = ["anyOf", "allOf", "oneOf", "prefixItems", "items"];
/// Keywords that hold schemas by name.
const OF_NAMES: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords on which the values of a schema do not depend.
pub(super) const NOTES: [&str; 14] = [
    "$anchor",
    "$comment",
    "$id",
    "contentEncoding",
    "contentMediaType",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords that JSON Schema has and no grammar here enforces.
const NOT_ENFORCED: [&str; 16] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
];
/// Forms of texts that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"];

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// The schema of its parameters.
    pub parameters: Value,
    /// Where it stands in the request.
    pub place: String,
}

/// What an answer has to be: one of these.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// A value of this schema.
    pub answer: Option<Value>,
    /// A call of one of these.
    pub calls: Vec<Call>,
    /// Or a list of calls.
    pub several: bool,
}

impl Shape {
    /// Refuses what is no schema, or asks for what is not enforced.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        for (place, schema) in self.schemas() {
            let wrong = |(at, what): (String, String)| refused(&place, &at, &what);
            let mut parts = 0;
            check(schema, schema, "", &mut parts).map_err(wrong)?;
            let built = jsonschema::options().offline().build(schema);
            built.map_err(|error| wrong((error.instance_path().to_string(), error.to_string())))?;
        }
        Ok(())
    }

    /// All of it in one schema, each part of which refers to what stands in it.
    pub fn schema(&self) -> Value {
        let (mut parts, mut forms) = (Map::new(), Vec::new());
        if let Some(answer) = &self.answer {
            if self.calls.is_empty() {
                return answer.clone();
            }
            parts.insert("answer".into(), moved(answer, "#/$defs/answer"));
            forms.push(json!({"$ref": "#/$defs/answer"}));
        }
        let mut calls = Vec::new();
        for (number, Call { name, parameters, .. }) in self.calls.iter().enumerate() {
            let place = format!("#/$defs/{number}");
            parts.insert(number.to_string(), moved(parameters, &place));
            calls.push(json!({
                "type": "object",
                "properties": {"name": {"const": name}, "parameters": {"$ref": place}},
                "required": ["name", "parameters"],
                "additionalProperties": false,
            }));
        }
        if self.several {
            let items = json!({"anyOf": calls});
            forms.push(json!({"type": "array", "items": items, "minItems": 1, "maxItems": MOST_CALLS}));
        }
        forms.extend(calls);
        json!({"anyOf": forms, "$defs": parts})
    }

    /// What is wrong with a shape of which all together does not compile, and `what` is said of that. `fails` says it of others.
    pub fn wrong(&self, what: &str, fails: &dyn Fn(Value) -> Option<String>) -> Refusal {
        let mut tried = 0;
        for (place, schema) in self.schemas() {
            if let Some(what) = fails(schema.clone()) {
                let (at, what) = culprit(schema, schema, &mut tried, fails).unwrap_or((String::new(), what));
                return refused(&place, &at, &what);
            }
        }
        let field = if self.calls.is_empty() { "response_format" } else { "tools" };
        Refusal::param(field, format!("what answers have to be cannot be enforced: {what}"))
    }

    /// The schemas of a request, with where they stand in it.
    fn schemas(&self) -> impl Iterator<Item = (String, &Value)> {
        let answer = self.answer.iter().map(|schema| ("response_format.json_schema.schema".to_owned(), schema));
        answer.chain(self.calls.iter().map(|call| (call.place.clone(), &call.parameters)))
    }
}

pub(super) fn refused(place: &str, at: &str, what: &str) -> Refusal {
    let field = place.split(['.', '[']).next().unwrap_or(place);
    let at = if at.is_empty() { "its top" } else { at };
    let what: String = what.chars().take(300).collect();
    Refusal::param(field, format!("`{place}`, at {at}: {what}")).code("invalid_schema")
}

/// The schemas that stand right in one, by keyword and name.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match value {
            Value::Array(list) if OF_LISTS.contains(&keyword.as_str()) => {
                parts.extend(list.iter().enumerate().map(|(at, part)| (format!("/{keyword}/{at}"), part)));
            }
            Value::Object(named) if OF_NAMES.contains(&keyword.as_str()) => {
                let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
                parts.extend(named.iter().map(|(name, part)| (format!("/{keyword}/{}", escaped(name)), part)));
            }
            one if OF_ONE.contains(&keyword.as_str()) => parts.push((format!("/{keyword}"), one)),
            _ => {}
        }
    }
    parts
}

/// Looks at a part of the schema `whole`; of the first thing that is wrong says where and what it is.
fn check(schema: &Value, whole: &Value, at: &str, seen: &mut usize) -> std::result::Result<(), (String, String)> {
    *seen += 1;
    let wrong = |keyword: &str, what: String| Err((format!("{at}/{keyword}"), what));
    if *seen > MOST_PARTS {
        return Err((at.to_owned(), format!("the schema is too large: it has more than {MOST_PARTS} parts")));
    }
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let keyword = keyword.as_str();
        let is_known = [&PLAIN[..], &OF_ONE, &OF_LISTS, &OF_NAMES, &NOTES].concat().contains(&keyword);
        if NOT_ENFORCED.contains(&keyword) {
            return wrong(keyword, format!("`{keyword}` is not enforced here: the schema has to do without"));
        }
        if !is_known {
            let known = PLAIN.into_iter().chain(OF_ONE).chain(OF_LISTS).chain(OF_NAMES);
            let hint = did_you_mean(keyword, known).map(|close| format!("; did you mean `{close}`?"));
            return wrong(keyword, format!("`{keyword}` is no keyword that is enforced{}", hint.unwrap_or_default()));
        }
        let counts = keyword.starts_with("min") || keyword.starts_with("max");
        let is_size = counts && !matches!(keyword, "minimum" | "maximum");
        if is_size && value.as_u64().is_some_and(|count| count > MOST_COUNTED) {
            return wrong(keyword, format!("more than {MOST_COUNTED} are not counted"));
        }
        match (keyword, value) {
            ("$ref", Value::String(to)) if !is_here(to, whole) => {
                let what = format!("`{to}` is not in this schema: it is `#`, or `#/$defs/` and a name");
                return wrong(keyword, what);
            }
            ("format", Value::String(format)) if !FORMATS.contains(&format.as_str()) && may_be_text(schema) => {
                return wrong(keyword, format!("`{format}` is not enforced, but {}", FORMATS.join(", ")));
            }
            _ => {}
        }
    }
    parts(schema).into_iter().try_for_each(|(inside, part)| check(part, whole, &format!("{at}{inside}"), seen))
}

/// Whether a reference leads to a part of the schema; names with `~`, `/` or `%` are not looked up.
fn is_here(to: &str, whole: &Value) -> bool {
    let plain = |path: &str| !path.contains(['~', '%']) && whole.pointer(path).is_some_and(|part| !part.is_array());
    to == "#" || to.strip_prefix('#').is_some_and(|path| path.starts_with('/') && plain(path))
}

fn may_be_text(schema: &Value) -> bool {
    match &schema["type"] {
        Value::Null => true,
        Value::Array(types) => types.iter().any(|kind| kind == "string"),
        kind => kind == "string",
    }
}

/// A schema that stands at another place: what it refers to is looked up there.
fn moved(schema: &Value, to: &str) -> Value {
    let Value::Object(entries) = schema else { return schema.clone() };
    let entry = |(keyword, value): (&String, &Value)| {
        let word = keyword.as_str();
        let value = match value {
            // Another name or dialect would have them looked up elsewhere.
            _ if matches!(word, "$id" | "$schema") => return None,
            Value::String(path) if word == "$ref" => json!(path.replacen('#', to, 1)),
            Value::Array(list) if OF_LISTS.contains(&word) => list.iter().map(|part| moved(part, to)).collect(),
            Value::Object(named) if OF_NAMES.contains(&word) => {
                Value::Object(named.iter().map(|(name, part)| (name.clone(), moved(part, to))).collect())
            }
            one if OF_ONE.contains(&word) => moved(one, to),
            other => other.clone(),
        };
        Some((keyword.clone(), value))
    };
    Value::Object(entries.iter().filter_map(entry).collect())
}

/// The smallest part of `schema` that does not compile by itself, with what is said of it. `whole` has what it may refer to.
fn culprit(
    schema: &Value,
    whole: &Value,
    tried: &mut usize,
    fails: &dyn Fn(Value) -> Option<String>,
) -> Option<(String, String)> {
    for (inside, part) in parts(schema) {
        let Value::Object(entries) = part else { continue };
        *tried += 1;
        if *tried > MOST_TRIED {
            return None;
        }
        let mut alone = entries.clone();
        for named in ["$defs", "definitions"] {
            if let Some(parts) = whole.get(named) {
                alone.insert(named.into(), parts.clone());
            }
        }
        // One that refers to another place means something else by itself.
        let alone = Value::Object(alone);
        if refers_outside(&alone) {
            continue;
        }
        if let Some(what) = fails(alone) {
            let (at, what) = culprit(part, whole, tried, fails).unwrap_or((String::new(), what));
            return Some((inside + &at, what));
        }
    }
    None
}

fn refers_outside(schema: &Value) -> bool {
    let to = schema.get("$ref").and_then(Value::as_str);
    to.is_some_and(|to| !to.starts_with("#/$defs/") && !to.starts_with("#/definitions/"))
        || parts(schema).into_iter().any(|(_, part)| refers_outside(part))
}
