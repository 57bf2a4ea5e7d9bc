//! What a template may call: the filters, tests, functions and methods that chat templates use, each of which pays for
//! what it does. What could make much of little (`center`, `format`, `indent` by a billion) is bounded or missing.

use super::budget::{items, refused, spend, spend_deep, spend_shallow};
use super::object::python;
use super::{json, operators};
use crate::text::render::strip;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter, filters, functions, tests};
use minijinja_contrib::pycompat;

/// The widest indent.
const MAX_INDENT: usize = 16;
/// The longest `range`.
const MAX_RANGE: u128 = 100_000;
/// What a namespace costs, in units of the budget: few enough that a chain of them can be dropped.
const NAMESPACE: u64 = 1024;

/// An environment for chat templates, without a template.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_formatter(|out, state, value| {
        spend_deep(value)?;
        match python(value) {
            Some(word) => Ok(out.write_str(word)?),
            None => escape_formatter(out, state, value),
        }
    });
    environment.set_unknown_method_callback(method);
    operators::add_to(&mut environment);
    add_functions(&mut environment);
    add_filters(&mut environment);
    add_tests(&mut environment);
    environment
}

fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("range", |first: i64, stop: Option<i64>, step: Option<i64>| {
        let (start, stop) = stop.map_or((0, first), |stop| (first, stop));
        let step = step.unwrap_or(1);
        let span = i128::from(stop) - i128::from(start);
        let length = match step {
            0 => return Err(refused("cannot create a range with a step of 0")),
            1.. => span.max(0).unsigned_abs().div_ceil(step.unsigned_abs().into()),
            _ => span.min(0).unsigned_abs().div_ceil(step.unsigned_abs().into()),
        };
        if length > MAX_RANGE {
            return Err(refused(format!("a range of {length} is longer than {MAX_RANGE}")));
        }
        spend(length as u64 * 32)?;
        Ok((0..length as i64).map(|i| Value::from(start + i * step)).collect::<Value>())
    });
    let namespace = Value::from_function(functions::namespace);
    environment.add_function("namespace", move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
        spend(NAMESPACE)?;
        namespace.call(state, &arguments.into_values())
    });
    environment.add_function("dict", functions::dict);
}

/// What is paid for the arguments of a filter or test.
#[derive(Clone, Copy)]
enum Cost {
    /// Nothing grows with them.
    Constant,
    /// All of what they hold is read.
    Deep,
    /// Their elements, or their text, are gone through.
    Shallow,
}

fn pay(cost: Cost, arguments: &[Value]) -> Result<(), Error> {
    match cost {
        Cost::Constant => spend(1),
        Cost::Shallow => arguments.iter().try_for_each(spend_shallow),
        Cost::Deep => arguments.iter().try_for_each(spend_deep),
    }
}

fn add_filters(environment: &mut Environment<'static>) {
    use Cost::{Constant, Deep, Shallow};
    let filters: [(&'static str, Cost, Value); 33] = [
        ("safe", Deep, Value::from_function(filters::safe)),
        ("escape", Deep, Value::from_function(filters::escape)),
        ("e", Deep, Value::from_function(filters::escape)),
        ("lower", Deep, Value::from_function(filters::lower)),
        ("upper", Deep, Value::from_function(filters::upper)),
        ("title", Deep, Value::from_function(filters::title)),
        ("capitalize", Deep, Value::from_function(filters::capitalize)),
        ("length", Constant, Value::from_function(filters::length)),
        ("count", Constant, Value::from_function(filters::length)),
        ("dictsort", Deep, Value::from_function(filters::dictsort)),
        ("items", Constant, Value::from_function(filters::items)),
        ("reverse", Shallow, Value::from_function(filters::reverse)),
        ("split", Deep, Value::from_function(filters::split)),
        ("lines", Deep, Value::from_function(filters::lines)),
        ("default", Constant, Value::from_function(filters::default)),
        ("d", Constant, Value::from_function(filters::default)),
        ("round", Constant, Value::from_function(filters::round)),
        ("abs", Constant, Value::from_function(filters::abs)),
        ("int", Deep, Value::from_function(filters::int)),
        ("float", Deep, Value::from_function(filters::float)),
        ("attr", Constant, Value::from_function(filters::attr)),
        ("first", Constant, Value::from_function(filters::first)),
        ("last", Constant, Value::from_function(filters::last)),
        ("min", Deep, Value::from_function(filters::min)),
        ("max", Deep, Value::from_function(filters::max)),
        ("sort", Deep, Value::from_function(filters::sort)),
        ("list", Shallow, Value::from_function(filters::list)),
        ("select", Shallow, Value::from_function(filters::select)),
        ("reject", Shallow, Value::from_function(filters::reject)),
        ("selectattr", Shallow, Value::from_function(filters::selectattr)),
        ("rejectattr", Shallow, Value::from_function(filters::rejectattr)),
        ("map", Shallow, Value::from_function(filters::map)),
        ("unique", Deep, Value::from_function(filters::unique)),
    ];
    for (name, cost, filter) in filters {
        environment.add_filter(name, move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            pay(cost, &arguments)?;
            let made = filter.call(state, &arguments)?;
            items(&made)?;
            Ok::<_, Error>(made)
        });
    }
    environment.add_filter("string", |value: &Value| {
        spend_deep(value)?;
        Ok::<_, Error>(python(value).map_or_else(|| Value::from(value.to_string()), Value::from))
    });
    environment.add_filter("trim", |value: &Value, characters: Option<String>| {
        spend_deep(value)?;
        let text = python(value).map_or_else(|| value.to_string(), str::to_owned);
        Ok::<_, Error>(match characters {
            Some(characters) => text.trim_matches(|c| characters.contains(c)).to_owned(),
            None => strip(&text).to_owned(),
        })
    });
    let join = Value::from_function(filters::join);
    environment.add_filter("join", move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
        let mut arguments = arguments.into_values();
        pay(Deep, &arguments)?;
        let between = arguments.get(1).and_then(Value::as_str).map_or(0, str::len);
        spend((items(arguments.first().unwrap_or(&Value::UNDEFINED))? as u64).saturating_mul(between as u64))?;
        let texts = |value: &Value| python(value).map_or_else(|| value.clone(), Value::from);
        if let Some(list) = arguments.first_mut().filter(|list| list.as_str().is_none()) {
            *list = list.try_iter()?.map(|item| texts(&item)).collect();
        }
        join.call(state, &arguments)
    });
    environment.add_filter("replace", |text: String, from: String, to: String| replace(&text, &from, &to, None));
    let indent = Value::from_function(filters::indent);
    environment.add_filter("indent", move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
        let arguments = arguments.into_values();
        pay(Deep, &arguments)?;
        let keyword = arguments.last().filter(|last| last.is_kwargs()).and_then(|last| last.get_attr("width").ok());
        let width = keyword.filter(|width| !width.is_undefined()).or_else(|| arguments.get(1).cloned());
        let width = width.and_then(|width| width.as_usize()).unwrap_or(4);
        if width > MAX_INDENT {
            return Err(refused(format!("an indent of {width} is wider than {MAX_INDENT}")));
        }
        let text = arguments.first().and_then(Value::as_str).unwrap_or_default();
        spend((text.matches('\n').count() * width) as u64)?;
        indent.call(state, &arguments)
    });
    environment.add_filter("tojson", |value: &Value, indent: Option<Value>, options: Kwargs| {
        spend_deep(value)?;
        let indent = match indent {
            Some(indent) => Some(indent),
            None => options.get::<Option<Value>>("indent")?,
        };
        let indent = indent.filter(|indent| !indent.is_none()).map(|indent| indent.as_usize().unwrap_or(0));
        if indent.is_some_and(|indent| indent > MAX_INDENT) {
            return Err(refused(format!("an indent of more than {MAX_INDENT}")));
        }
        // Of Hugging Face's arguments the others choose what is the default there.
        json::write(value, indent)
    });
}

fn add_tests(environment: &mut Environment<'static>) {
    use Cost::{Constant, Deep};
    let tests: [(&'static str, Cost, Value); 40] = [
        ("undefined", Constant, Value::from_function(tests::is_undefined)),
        ("defined", Constant, Value::from_function(tests::is_defined)),
        ("none", Constant, Value::from_function(tests::is_none)),
        ("boolean", Constant, Value::from_function(tests::is_boolean)),
        ("odd", Constant, Value::from_function(tests::is_odd)),
        ("even", Constant, Value::from_function(tests::is_even)),
        ("divisibleby", Constant, Value::from_function(tests::is_divisibleby)),
        ("number", Constant, Value::from_function(tests::is_number)),
        ("integer", Constant, Value::from_function(tests::is_integer)),
        ("float", Constant, Value::from_function(tests::is_float)),
        ("string", Constant, Value::from_function(tests::is_string)),
        ("sequence", Constant, Value::from_function(tests::is_sequence)),
        ("iterable", Constant, Value::from_function(tests::is_iterable)),
        ("mapping", Constant, Value::from_function(tests::is_mapping)),
        ("startingwith", Deep, Value::from_function(tests::is_startingwith)),
        ("endingwith", Deep, Value::from_function(tests::is_endingwith)),
        ("lower", Deep, Value::from_function(tests::is_lower)),
        ("upper", Deep, Value::from_function(tests::is_upper)),
        ("sameas", Deep, Value::from_function(tests::is_sameas)),
        ("eq", Deep, Value::from_function(tests::is_eq)),
        ("equalto", Deep, Value::from_function(tests::is_eq)),
        ("==", Deep, Value::from_function(tests::is_eq)),
        ("ne", Deep, Value::from_function(tests::is_ne)),
        ("!=", Deep, Value::from_function(tests::is_ne)),
        ("lt", Deep, Value::from_function(tests::is_lt)),
        ("lessthan", Deep, Value::from_function(tests::is_lt)),
        ("<", Deep, Value::from_function(tests::is_lt)),
        ("le", Deep, Value::from_function(tests::is_le)),
        ("<=", Deep, Value::from_function(tests::is_le)),
        ("gt", Deep, Value::from_function(tests::is_gt)),
        ("greaterthan", Deep, Value::from_function(tests::is_gt)),
        (">", Deep, Value::from_function(tests::is_gt)),
        ("ge", Deep, Value::from_function(tests::is_ge)),
        (">=", Deep, Value::from_function(tests::is_ge)),
        ("in", Deep, Value::from_function(tests::is_in)),
        ("true", Constant, Value::from_function(tests::is_true)),
        ("false", Constant, Value::from_function(tests::is_false)),
        ("filter", Constant, Value::from_function(tests::is_filter)),
        ("test", Constant, Value::from_function(tests::is_test)),
        ("safe", Constant, Value::from_function(tests::is_safe)),
    ];
    for (name, cost, test) in tests {
        environment.add_test(name, move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            pay(cost, &arguments)?;
            Ok::<_, Error>(test.call(state, &arguments)?.is_true())
        });
    }
}

/// Python's methods of texts, objects and lists.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    pay(Cost::Deep, arguments)?;
    if let Some(text) = value.as_str() {
        spend(text.len() as u64)?;
        match name {
            "format" => return Err(refused("`format` of a text is not offered to chat templates")),
            "strip" if arguments.is_empty() => return Ok(Value::from(strip(text))),
            "join" => {
                let count = items(arguments.first().unwrap_or(&Value::UNDEFINED))? as u64;
                spend(count.saturating_mul(text.len() as u64))?;
            }
            "replace" => {
                if let [from, to, rest @ ..] = arguments
                    && let (Some(from), Some(to)) = (from.as_str(), to.as_str())
                {
                    return replace(text, from, to, rest.first().and_then(Value::as_usize)).map(Value::from);
                }
            }
            // Each piece is a value of its own.
            "split" | "splitlines" => spend(text.len() as u64 * 32)?,
            _ => {}
        }
    } else if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    } else if !matches!(name, "get" | "keys" | "values" | "items") {
        spend_deep(value)?;
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Python's `str.replace`.
fn replace(text: &str, from: &str, to: &str, most: Option<usize>) -> Result<String, Error> {
    let count = if from.is_empty() { text.len() + 1 } else { text.len() / from.len() };
    spend(text.len() as u64)?;
    spend((count.min(most.unwrap_or(count)) as u64).saturating_mul(to.len() as u64))?;
    Ok(match most {
        Some(most) => text.replacen(from, to, most),
        None => text.replace(from, to),
    })
}
