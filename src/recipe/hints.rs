//! Hints about keys of a recipe, for who has none.

use super::Recipe;
use super::diagnose::Diagnosis;
use std::sync::LazyLock;

/// A hint about keys of a recipe, for who has none: `` set `data.format: text` `` is `` add `--set data.format=text` ``. Some
/// keys have `options` that stand for them.
pub fn as_options(hint: &str, options: &[(&str, &str)]) -> String {
    let mut parts = hint.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut is_code = true;
    for part in parts {
        let option = if is_code { option(part, &text, options) } else { None };
        if option.as_ref().is_some_and(|option| option.starts_with("--set "))
            && let Some(before) = text.strip_suffix("set ")
        {
            text = format!("{before}add ");
        }
        if is_code {
            text += &format!("`{}`", option.as_deref().unwrap_or(part));
        } else {
            text += part;
        }
        is_code = !is_code;
    }
    text
}

/// What a key with or without a value is on the command line; `before` is the text that leads to it.
fn option(code: &str, before: &str, options: &[(&str, &str)]) -> Option<String> {
    let Named { key, name, value } = named(code)?;
    if let Some((_, option)) = options.iter().find(|(of, _)| *of == key) {
        return Some(value.map_or((*option).to_owned(), |value| format!("{option} {value}")));
    }
    let is_told = ["set ", "with ", "set it with ", "under "].iter().any(|verb| before.ends_with(verb));
    let is_first = before.is_empty() || ["; ", ", ", ", or "].iter().any(|end| before.ends_with(end));
    match value {
        None if before.ends_with("raise ") => Some(format!("{key}` with `--set {key}=..")),
        None if !is_told && !is_first => None,
        None if name == "columns" => Some(format!("--set '{key}={{..}}'")),
        None => Some(format!("--set {key}=..")),
        Some(value) if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) => {
            Some(format!("--set {key}={value}"))
        }
        Some(value) => Some(format!("--set '{key}={}'", value.replace('\'', "'\\''"))),
    }
}

/// A key as a hint names it: `data.format: text`.
struct Named<'a> {
    key: &'a str,
    /// Without its section.
    name: &'a str,
    value: Option<&'a str>,
}

/// The key that stands between the marks of code, if it is one.
fn named(code: &str) -> Option<Named<'_>> {
    let (key, value) = code.split_once(": ").map_or((code, None), |(key, value)| (key, Some(value)));
    let (section, name) = key.split_once('.')?;
    let is_known = KEYS.iter().any(|(of, known)| of == section && *known == name);
    is_known.then_some(Named { key, name, value })
}

/// Every key that there is, with its section.
static KEYS: LazyLock<Vec<(String, &'static str)>> = LazyLock::new(|| {
    let mut diagnosis = Diagnosis::default();
    Recipe::resolve(None, &mut diagnosis);
    diagnosis.known.into_iter().map(|known| (known.section, known.key)).collect()
});

/// What is said of rows that are left out, with a key and without.
const LEAVING_OUT: [(&str, &str); 3] = [
    ("set `data.on_bad_row: skip` to leave such rows out", "leave such rows out"),
    ("`data.on_bad_row: skip` to leave such rows out", "leave such rows out"),
    ("`data.on_bad_row: skip` leaves such rows out", "leave such rows out"),
];

/// A hint about keys of a recipe, for a verb that has none: a key that one of its `options` stands for becomes that option,
/// and whatever else takes a recipe is left out. Empty where nothing is left.
pub fn without_keys(hint: &str, options: &[(&str, &str)]) -> String {
    let hint = LEAVING_OUT.iter().fold(hint.to_owned(), |hint, (said, left)| hint.replace(said, left));
    let mut kept: Vec<Clause> = Vec::new();
    // What stood before a clause that was left out, where the next one takes its place.
    let mut place = None;
    let hint = with_options(&hint, options);
    for clause in clauses(&hint) {
        if clause.names_a_key() {
            match (clause.before, kept.last_mut()) {
                // The last of three ways: two are left.
                (", or ", Some(last)) if last.before == ", " && place.is_none() => last.before = " or ",
                (", or " | ", ", _) => {}
                (before, _) => place = place.or(Some(before)),
            }
            continue;
        }
        let before = match clause.before {
            ", or " | ", " => place.unwrap_or(clause.before),
            before => before,
        };
        place = None;
        kept.push(Clause { before, ..clause });
    }
    let words = |(at, clause): (usize, &Clause)| [if at == 0 { "" } else { clause.before }, clause.text].concat();
    kept.iter().enumerate().map(words).collect()
}

/// A hint with the options that stand for keys.
fn with_options(hint: &str, options: &[(&str, &str)]) -> String {
    let shown = |(at, part): (usize, &str)| {
        let named = if at % 2 == 1 { named(part) } else { None };
        let option = named.and_then(|named| {
            let (_, option) = options.iter().find(|(key, _)| *key == named.key)?;
            Some(named.value.map_or((*option).to_owned(), |value| format!("{option} {value}")))
        });
        option.unwrap_or_else(|| part.to_owned())
    };
    hint.split('`').enumerate().map(shown).collect::<Vec<_>>().join("`")
}

/// A part of a hint that can be left out.
struct Clause<'a> {
    /// What parts it from the one before.
    before: &'a str,
    text: &'a str,
}

impl Clause<'_> {
    fn names_a_key(&self) -> bool {
        self.text.split('`').skip(1).step_by(2).any(|code| named(code).is_some())
    }
}

/// The clauses of a hint; nothing between marks of code parts any.
fn clauses(hint: &str) -> Vec<Clause<'_>> {
    const MARKS: [&str; 4] = ["; ", ", or ", ", ", ": "];
    let (mut clauses, mut before, mut start, mut at, mut is_code) = (Vec::new(), "", 0, 0, false);
    while let Some(next) = hint[at..].chars().next() {
        is_code ^= next == '`';
        let mark = MARKS.into_iter().find(|mark| !is_code && hint[at..].starts_with(mark));
        if let Some(mark) = mark {
            clauses.push(Clause { before, text: &hint[start..at] });
            (before, start) = (mark, at + mark.len());
        }
        at += mark.map_or(next.len_utf8(), str::len);
    }
    clauses.push(Clause { before, text: &hint[start..] });
    clauses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_options() {
        for (hint, expected) in [
            ("set `data.format: text`, or wait", "add `--set data.format=text`, or wait"),
            (
                "`data.columns: {prompt: q, completion: it's}` reads them",
                "`--set 'data.columns={prompt: q, completion: it'\\''s}'` reads them",
            ),
            (
                "set `data.format`, or rename with `data.columns`",
                "add `--set data.format=..`, or rename with `--set 'data.columns={..}'`",
            ),
            ("choose another `output.dir`", "choose another `--output`"),
            ("check `data.format`; columns found: `a.b`, `x`", "check `data.format`; columns found: `a.b`, `x`"),
            ("no `code", "no `code`"),
            ("raise `data.max_length`, or wait", "raise `data.max_length` with `--set data.max_length=..`, or wait"),
            ("`data.prompt` asks the same of every row", "`--set data.prompt=..` asks the same of every row"),
            ("set `model.base` to one that does", "set `--model` to one that does"),
            (
                "name its base model here, and the adapter under `adapter.init_from`",
                "name its base model here, and the adapter under `--set adapter.init_from=..`",
            ),
        ] {
            assert_eq!(as_options(hint, &[("model.base", "--model"), ("output.dir", "--output")]), expected);
        }
        let adapter = as_options("the adapter under `adapter.init_from`", &[("adapter.init_from", "--adapter")]);
        assert_eq!(adapter, "the adapter under `--adapter`");
    }

    #[test]
    fn without_a_recipe_hints_name_no_keys() {
        let options = [("model.base", "--model"), ("output.hub_base_model", "--base-model")];
        for (hint, expected) in [
            ("`data.on_bad_row: skip` leaves such rows out", "leave such rows out"),
            (
                "leave it out of the data, write it into `content`, or set `data.on_bad_row: skip`",
                "leave it out of the data or write it into `content`",
            ),
            (
                "set `model.base` to one that does, or `data.on_bad_row: skip` to leave such rows out",
                "set `--model` to one that does, or leave such rows out",
            ),
            (
                "remove `prefix`, or set `data.on_bad_row: skip` to leave such rows out",
                "remove `prefix`, or leave such rows out",
            ),
            ("set `data.on_long_audio: split` or `truncate`, or cut the file", "cut the file"),
            (
                "one row is one conversation or text: split it, or raise `data.max_row_bytes`",
                "one row is one conversation or text: split it",
            ),
            (
                "write it as `messages`, or as `prompt` and `completion`; `data.prompt` asks the same of every row; remove `image`",
                "write it as `messages`, or as `prompt` and `completion`; remove `image`",
            ),
            (
                "columns found: `a`, `b: c, d`; looks like sharegpt: set `data.format: sharegpt`",
                "columns found: `a`, `b: c, d`; looks like sharegpt",
            ),
            ("columns found: `a`, `b`; set `data.format`, or rename with `data.columns`", "columns found: `a`, `b`"),
            ("looks like sharegpt: set `data.format: sharegpt`, or rename `a`", "looks like sharegpt: rename `a`"),
            ("`data.train_on: all` trains on every token", ""),
            ("say it: `output.hub_base_model: a/b`", "say it: `--base-model a/b`"),
            ("name it as `model.base`; data are rows of text", "name it as `--model`; data are rows of text"),
            ("did you mean `model.safetensors`, é?", "did you mean `model.safetensors`, é?"),
        ] {
            assert_eq!(without_keys(hint, &options), expected);
        }
        let folder = "this is an adapter's folder: name its base model here, and the adapter under `adapter.init_from`";
        assert_eq!(without_keys(folder, &[]), "this is an adapter's folder: name its base model here");
    }
}
