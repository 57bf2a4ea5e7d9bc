//! Whether the keys of `data` fit the formats of its sources.

use super::data::{Data, takes_prompt};
use super::diagnose::Diagnosis;
use crate::data::options::{OnLong, RowFormat};
use crate::data::split_needs_text;
use crate::error::Place;

/// Reports names of columns that no row of a source has, and splitting of what is no plain text.
pub(super) fn check(data: &Data, diagnosis: &mut Diagnosis) {
    let lists = [("data.train", &data.train), ("data.eval", &data.eval)];
    let sources = || lists.into_iter().flat_map(|(list, sources)| sources.iter().enumerate().map(move |s| (list, s)));
    for (list, (i, source)) in sources() {
        let own = |name: &str| format!("{list}[{i}].columns.{name}");
        for name in source.columns.0.keys().filter(|name| !source.format.columns().contains(&name.as_str())) {
            let path = own(name);
            if let Some(mark) = diagnosis.given(&path) {
                diagnosis.wrong(&path, &mark, no_such_column(&path, source.format), hint(source.format));
            }
        }
    }
    for name in data.columns.0.keys() {
        let path = format!("data.columns.{name}");
        let of_none = !sources().any(|(_, (_, source))| source.format.columns().contains(&name.as_str()));
        if let Some(mark) = diagnosis.given(&path).filter(|_| of_none) {
            let format = sources().next().map_or(data.format, |(_, (_, source))| source.format);
            diagnosis.wrong(&path, &mark, no_such_column(&path, format), hint(format));
        }
    }
    prompts(data, diagnosis);
    let no_text =
        sources().map(|(_, (_, source))| source.format).find(|f| !matches!(f, RowFormat::Auto | RowFormat::Text));
    if let Some(format) = no_text.filter(|_| data.on_long == Some(OnLong::Split) && !diagnosis.is_wrong("data.on_long"))
    {
        diagnosis.report_at_key(split_needs_text(format).at(Place::Key("data.on_long".into())));
    }
}

/// Reports a prompt for rows that all say themselves what is asked, or that ask nothing.
fn prompts(data: &Data, diagnosis: &mut Diagnosis) {
    let mut wrong = |path: &str, prompt: &Option<String>, format: RowFormat| {
        if let Some(mark) = diagnosis.given(path).filter(|_| prompt.is_some()) {
            let what = format!("`{path}` is asked of no row: format `{format}` has no answers without a prompt");
            diagnosis.wrong(path, &mark, what, Some("it is for rows of `prompt_completion`; else leave it out".into()));
        }
    };
    let lists = [("data.train", &data.train), ("data.eval", &data.eval)];
    for (list, sources) in lists {
        for (i, source) in sources.iter().enumerate().filter(|(_, source)| !takes_prompt(source.format)) {
            wrong(&format!("{list}[{i}].prompt"), &source.prompt, source.format);
        }
    }
    if let Some(first) = data.train.first().filter(|_| !data.train.iter().any(|source| takes_prompt(source.format))) {
        wrong("data.prompt", &data.prompt, first.format);
    }
}

fn no_such_column(path: &str, format: RowFormat) -> String {
    format!("`{path}`: format `{format}` has no such column")
}

fn hint(format: RowFormat) -> Option<String> {
    Some(format!("it has: {}", format.columns().join(", ")))
}
