//! Keys that options of the command line give, other than `--set`.

/// A key that an option of the command line gives.
#[derive(Debug, Clone)]
pub struct Given {
    /// The option, as messages call it: `--model`.
    pub option: &'static str,
    /// The key: `model.base`.
    pub key: &'static str,
    /// Its values as the user typed them, whatever they would mean in YAML.
    pub values: Vec<String>,
    /// Whether the key takes a list.
    pub is_list: bool,
}

/// A hint about keys of a recipe, for who has none: `` set `data.format: text` `` is `` add `--set data.format=text` ``.
/// The key of the folder is the option `output`.
pub fn as_options(hint: &str, output: &str) -> String {
    let mut parts = hint.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut is_code = true;
    for part in parts {
        let option = if is_code { option(part, &text, output) } else { None };
        if option.is_some()
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
fn option(code: &str, before: &str, output: &str) -> Option<String> {
    let (key, value) = code.split_once(": ").map_or((code, None), |(key, value)| (key, Some(value)));
    let (section, name) = key.split_once('.')?;
    let is_section = ["model", "adapter", "data", "training", "evaluation", "output"].contains(&section);
    if !is_section || name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return None;
    }
    if key == "output.dir" {
        return Some(value.map_or(output.to_owned(), |value| format!("{output} {value}")));
    }
    let is_told = ["set ", "with ", "set it with "].iter().any(|verb| before.ends_with(verb));
    match value {
        None if !is_told => None,
        None if name == "columns" => Some(format!("--set '{key}={{..}}'")),
        None => Some(format!("--set {key}=..")),
        Some(value) if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) => {
            Some(format!("--set {key}={value}"))
        }
        Some(value) => Some(format!("--set '{key}={}'", value.replace('\'', "'\\''"))),
    }
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
        ] {
            assert_eq!(as_options(hint, "--output"), expected);
        }
    }
}
