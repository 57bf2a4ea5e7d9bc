//! A recipe that no file has: of a model and data that were named, and `auto` for all that depends on them.

use super::given::Given;
use super::raw::Origin;
use super::{Reading, Recipe, yaml};
use serde_json::{Map, Value};

/// What stands in such a recipe beside the model and the data.
const TEXT: &str = include_str!("made.yaml");

/// What is said of keys, so that a recipe explains itself to who changes it.
const REMARKS: [(&str, &str); 14] = [
    ("model.base", "a Hub id[@revision], a folder, a .gguf file, or ollama:NAME"),
    ("adapter.r", "more rank learns more and costs more; 8 to 64 is usual"),
    ("adapter.lora_alpha", "the adapter's output is scaled by lora_alpha / r"),
    ("adapter.target_modules", "all seven projections of each layer"),
    ("data.eval_fraction", "the share of the rows that is held back to measure on"),
    ("data.max_length", "the most tokens of a row"),
    ("data.packing", "several rows share a sequence without seeing each other"),
    ("training.per_device_train_batch_size", "sequences at once"),
    ("training.gradient_accumulation_steps", "passes that make a step"),
    ("training.num_train_epochs", "how often each row is seen"),
    ("training.learning_rate", "the highest; it rises, then falls"),
    ("training.fit", "smaller micro-batches, or recomputing, where memory is short"),
    ("output.dir", "everything that the run leaves"),
    ("output.save_steps", "checkpoints, from which --resume goes on"),
];

impl Reading {
    /// A recipe of what is `given`, with `--set` options laid over it.
    pub fn made(given: &[Given], overrides: &[String]) -> Self {
        let origin = |given: &Given| Origin::Option(format!("{} {}", given.option, given.values.join(" ")));
        let given: Vec<_> = given.iter().map(|given| (origin(given), given)).collect();
        let mut reading = Reading::of_options(TEXT, &given, overrides);
        if let Some(recipe) = reading.recipe_mut() {
            REMARKS.iter().for_each(|(path, remark)| recipe.remark(path, *remark));
        }
        reading
    }
}

/// A recipe's YAML with the keys that are remarked upon or are not what they are by default.
pub(super) fn brief(recipe: &Recipe, heading: &[&str]) -> String {
    let heading: String = heading.iter().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
    heading + &yaml::write(&unusual(recipe), &recipe.remarks)
}

/// The keys of a recipe that are remarked upon or are not what they are by default.
pub(super) fn unusual(recipe: &Recipe) -> Value {
    let usual = Recipe::resolve(None, &mut Default::default()).to_json();
    let mut all = recipe.to_json();
    for (name, section) in all.as_object_mut().into_iter().flatten() {
        let Value::Object(keys) = section else { continue };
        keys.retain(|key, value| {
            let path = format!("{name}.{key}");
            let is_said = recipe.remarks.get(&path).is_some() && !value.is_null();
            // What follows from there being rows to evaluate on.
            if key == "eval_on_start" && *value == true {
                return is_said;
            }
            is_said || usual.pointer(&format!("/{name}/{key}")) != Some(value)
        });
        for list in ["train", "eval"] {
            keys.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(shorten);
        }
    }
    recipe.leave_to_folder(&mut all);
    if let Value::Object(sections) = &mut all {
        sections.retain(|_, keys| keys.as_object().is_none_or(|keys| !keys.is_empty()));
    }
    all
}

/// Leaves out what a source is without being told.
fn shorten(source: &mut Value) {
    let Value::Object(keys) = source else { return };
    let is_usual = |key: &str, value: &Value| match key {
        "weight" => value.as_f64() == Some(1.0),
        "template" => value == true,
        "columns" => value.as_object().is_some_and(Map::is_empty),
        _ => value.is_null(),
    };
    keys.retain(|key, value| !is_usual(key, value));
}
