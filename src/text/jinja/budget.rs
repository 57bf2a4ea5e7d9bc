//! How much a rendering may do: every operation of a template that could take long, or make something large, pays first.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use std::cell::Cell;

thread_local! {
    /// Units left of the rendering on this thread; a unit is about a byte read or made.
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// What an element of a list or object costs, in units.
const NODE: u64 = 32;
/// The deepest that lists and objects may nest.
const MAX_DEPTH: usize = 200;
/// The most elements of a list that a template makes.
const MAX_ITEMS: usize = 1_000_000;

/// Begins a rendering that may spend `units`.
pub(super) fn begin(units: u64) {
    LEFT.set(units);
}

/// An error of the template.
pub(super) fn refused(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Pays `units`.
///
/// # Errors
/// When less is left.
pub(super) fn spend(units: u64) -> Result<(), Error> {
    match LEFT.get().checked_sub(units) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => {
            LEFT.set(0);
            Err(refused("the template makes or compares more than a chat template has any need to"))
        }
    }
}

/// Pays for the text or the elements of `value`, but not for what is in these.
///
/// # Errors
/// As [`spend`], and a list that is too long.
pub(super) fn spend_shallow(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Bytes => spend(value.as_str().map_or(1, |text| text.len() as u64)),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => spend(items(value)? as u64 * NODE),
        _ => spend(1),
    }
}

/// Pays for all of `value`, however deep.
///
/// # Errors
/// As [`spend`], and what nests too deep.
pub(super) fn spend_deep(value: &Value) -> Result<(), Error> {
    deep(value, 0)
}

/// The number of elements.
///
/// # Errors
/// When it is too large.
pub(super) fn items(value: &Value) -> Result<usize, Error> {
    match value.len().unwrap_or(0) {
        len if len > MAX_ITEMS => Err(refused("the template makes a list of more than a million elements")),
        len => Ok(len),
    }
}

fn deep(value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused("the template nests lists or objects too deep"));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| {
            spend(NODE)?;
            deep(&item, depth + 1)
        }),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            spend(NODE)?;
            deep(&key, depth + 1)?;
            deep(&value.get_item(&key)?, depth + 1)
        }),
        _ => spend_shallow(value),
    }
}
