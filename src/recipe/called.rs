//! The keys that words on the command line mean.

use super::Recipe;
use super::diagnose::Diagnosis;
use super::suggest::{OTHER_WORDS, closest, is_near};

/// The key, or key and value, that people call `word`, as `--set` takes it: `lr` is `training.learning_rate`.
pub fn key_called(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let mut all = Diagnosis::default();
    Recipe::resolve(None, &mut all);
    let known = || all.known.iter().filter(|key| !key.section.is_empty() && !key.section.contains('['));
    let full = |key: &str| known().find(|k| k.key == key).map(|k| format!("{}.{}", k.section, k.key));
    let other = || OTHER_WORDS.iter().find(|(other, ours)| *other == word && ours.contains('.'));
    full(&word)
        .or_else(|| other().map(|(_, ours)| ours.replace(": ", "=")))
        .or_else(|| full(closest(&word, known().map(|k| k.key).filter(|key| is_near(&word, key)))?))
}
