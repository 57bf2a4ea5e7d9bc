//! The JSON Schema of recipes, for editors.

use super::data::Draft;
use super::diagnose::Diagnosis;
use super::known::{EXTENDS, Known};
use super::section::Section;
use super::{Recipe, Reward};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of a recipe file: types, descriptions, defaults and ranges of every key.
///
/// Types and descriptions come from the structs, defaults and ranges from the code that reads them.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<Recipe>().to_value();
    let mut diagnosis = Diagnosis::default();
    Recipe::resolve(None, &mut diagnosis);

    let mut required = Map::new();
    for known in &diagnosis.known {
        let section = if known.section.is_empty() { String::new() } else { format!("/properties/{}", known.section) };
        refine(schema.pointer_mut(&section), known);
        if known.required {
            required.insert(known.section.clone(), json!({ "required": [known.key] }));
        }
    }
    let mut diagnosis = Diagnosis::default();
    Section::read(None, None, "data.train[]".into(), &mut diagnosis, Draft::read);
    for list in ["train", "eval"] {
        for form in ["/anyOf/1", "/anyOf/2/items/anyOf/1"] {
            let pointer = format!("/properties/data/properties/{list}{form}");
            for known in &diagnosis.known {
                refine(schema.pointer_mut(&pointer), known);
            }
            if let Some(source) = schema.pointer_mut(&pointer) {
                source["required"] = json!(["path"]);
            }
        }
    }

    let mut diagnosis = Diagnosis::default();
    Section::read(None, None, "rewards[]".into(), &mut diagnosis, Reward::read);
    if let Some(reward) = schema.pointer_mut("/properties/rewards/items") {
        diagnosis.known.iter().for_each(|known| refine(Some(&mut *reward), known));
        reward["required"] = json!(["kind"]);
    }

    // Only a recipe that builds on nothing must have everything itself.
    let sections: Vec<&String> = required.keys().collect();
    schema["anyOf"] = json!([{ "required": [EXTENDS] }, { "required": sections, "properties": required }]);
    schema["title"] = json!("gemma-tune recipe");
    let path = json!({ "type": "string", "minLength": 1 });
    schema["properties"][EXTENDS] = json!({
        "description": "Recipe files that this one builds on: their keys count where this one does not give them.",
        "anyOf": [path, { "type": "array", "items": path }],
    });
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
    }
    join_lines(&mut schema);
    schema
}

/// Makes one line of each paragraph of a description: where its source breaks lines is nothing to a reader.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text =
                    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
            }
            fields.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

/// The same for a preset, which other recipes extend: nothing must be in it.
pub fn preset_schema() -> Value {
    let mut schema = schema();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("anyOf");
    }
    schema["title"] = json!("gemma-tune preset");
    schema
}

/// Adds to a section's schema what reading told about one of its keys.
fn refine(section: Option<&mut Value>, known: &Known) {
    let Some(Value::Object(section)) = section else { return };
    section.remove("required");
    let Some(Value::Object(key)) = section.get_mut("properties").and_then(|p| p.get_mut(known.key)) else { return };
    if let Some(default) = &known.default {
        key.insert("default".into(), default.clone());
    }
    for (limit, value) in &known.limits {
        key.insert((*limit).into(), value.clone());
    }
}
