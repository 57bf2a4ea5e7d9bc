//! Rules for single values that several sections share; [`super::resolve`] has those between keys.

use std::path::Path;

/// What a rule says of a value that breaks it: what must hold, and a hint.
pub(super) type Verdict = Option<(String, Option<String>)>;

/// The text is more than spaces.
pub(super) fn not_blank(text: &impl AsRef<str>) -> Verdict {
    text.as_ref().trim().is_empty().then(|| ("must not be empty".into(), None))
}

/// The path is more than nothing.
pub(super) fn not_empty(path: &impl AsRef<Path>) -> Verdict {
    (path.as_ref() == Path::new("")).then(|| ("must not be empty".into(), None))
}
