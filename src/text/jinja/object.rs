//! Values as Python has them: objects whose keys keep the data's order, `None` and `True`.

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use std::collections::HashMap;
use std::sync::Arc;

/// An object with keys that are texts.
#[derive(Debug)]
pub(super) struct Ordered {
    keys: Vec<Arc<str>>,
    values: HashMap<Arc<str>, Value>,
}

impl Ordered {
    /// The object of `pairs`; of a key that stands twice the last value counts.
    pub fn of(pairs: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
        let mut object = Ordered { keys: Vec::new(), values: HashMap::new() };
        for (key, value) in pairs {
            if object.values.insert(key.clone(), value).is_none() {
                object.keys.push(key);
            }
        }
        Value::from_object(object)
    }
}

impl Object for Ordered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.iter().map(|key| Value::from(key.clone())).collect())
    }
}

/// Data as a template sees it.
pub(super) fn from_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::from(()),
        Json::Bool(is) => Value::from(*is),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), ..) => Value::from(n),
            (_, Some(n), _) => Value::from(n),
            (.., number) => Value::from(number),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(from_json).collect(),
        Json::Object(object) => {
            Ordered::of(object.iter().map(|(key, value)| (Arc::from(key.as_str()), from_json(value))))
        }
    }
}

/// The words that Python writes for values for which the engine has others.
pub(super) fn python(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::None => Some("None"),
        ValueKind::Bool if value.is_true() => Some("True"),
        ValueKind::Bool => Some("False"),
        _ => None,
    }
}
