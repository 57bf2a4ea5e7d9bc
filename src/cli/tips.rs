//! What to type instead of an option that a verb does not have.

use crate::recipe;
use crate::terminal::shell_word;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs that read a recipe, whose keys `--set` changes; the longer names first.
const WITH_RECIPE: [&str; 8] =
    ["data preview", "data stats", "recipe check", "recipe show", "train", "init", "estimate", "evaluate"];

/// An error of the command line `words`, with a tip that helps where the usual one does not.
pub fn with_tip(mut error: clap::Error, words: &[String]) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg).cloned() else { return error };
    if let Some(tip) = tip(&option, words) {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// What `option`, which the verb of `words` does not have, is called here; `None` where spelling alone tells.
fn tip(option: &str, words: &[String]) -> Option<String> {
    let name = option.strip_prefix("--")?.split('=').next()?;
    let verb = verb(words)?;
    let value = value(option, words);
    let shown = |usual: &str| value.as_deref().map_or_else(|| usual.to_owned(), shell_word);
    let reads_a_recipe = !matches!(verb, "train" | "init");
    let as_key = |key: &str, usual: &str| format!("`{verb}` reads a recipe: `--set {key}={}` changes it", shown(usual));
    Some(match name.replace('_', "-").as_str() {
        "data" | "dataset" | "train-data" if reads_a_recipe => format!(
            "`{verb}` reads a recipe: `gemma-tune init --data {0}` writes one, `gemma-tune train --model M --data {0} --dry-run` shows its \
             first rows without",
            shown("FILE")
        ),
        "data" | "dataset" | "train-data" => format!("the rows are named with `--data {}`", shown("FILE")),
        "model" | "base" if reads_a_recipe => as_key("model.base", "M"),
        "output" | "out" if reads_a_recipe => as_key("output.dir", "FOLDER"),
        "recipe" | "config" if verb != "init" => {
            format!("a recipe is named without an option: `gemma-tune {verb} {}`", shown("RECIPE"))
        }
        _ => {
            let key = recipe::key_called(name)?;
            let set = match (key.contains('='), &value) {
                (true, _) => key,
                (false, Some(value)) => format!("{key}={}", shell_word(value)),
                (false, None) => format!("{key}=.."),
            };
            format!("keys of a recipe are changed with `--set {set}`")
        }
    })
}

/// The verb, with its second word, if it takes `--set`.
fn verb(words: &[String]) -> Option<&'static str> {
    let typed: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).take(2).collect();
    let is_typed = |verb: &&&str| verb.split(' ').zip(&typed).all(|(part, typed)| part == *typed);
    WITH_RECIPE.iter().filter(|verb| verb.split(' ').count() <= typed.len()).find(is_typed).copied()
}

/// What follows an option that is not known.
fn value(option: &str, words: &[String]) -> Option<String> {
    if let Some((_, value)) = option.split_once('=') {
        return Some(value.to_owned());
    }
    let at = words.iter().position(|word| word.split('=').next() == Some(option))?;
    match words[at].split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => words.get(at + 1).filter(|next| !next.starts_with("--")).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_of_another_verb_or_program_is_explained() {
        let of = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let option = words.iter().find(|word| word.starts_with("--")).unwrap();
            tip(option.split('=').next().unwrap(), &words).unwrap_or_default()
        };
        for (line, said) in [
            ("train r.yaml --max_steps 5", "with `--set training.max_steps=5`"),
            ("train r.yaml --max-steps=5", "with `--set training.max_steps=5`"),
            ("train r.yaml --lr 1e-4", "with `--set training.learning_rate=1e-4`"),
            ("train r.yaml --epochs", "with `--set training.num_train_epochs=..`"),
            ("train r.yaml --load_in_4bit", "with `--set model.quantization=nf4`"),
            ("data preview --data faq.csv", "`gemma-tune init --data faq.csv` writes one"),
            ("estimate --model m", "`estimate` reads a recipe: `--set model.base=m` changes it"),
            ("data stats r.yaml --output x", "`--set output.dir=x` changes it"),
            ("train --recipe r.yaml", "`gemma-tune train r.yaml`"),
            ("train --dataset faq.csv", "`--data faq.csv`"),
            ("chat --max-steps 5", ""),
            ("train r.yaml --nonsense", ""),
        ] {
            assert!(of(line).contains(said) && of(line).is_empty() == said.is_empty(), "{line}: {}", of(line));
        }
    }
}
