//! What an unknown key was meant to be.

use super::known::{EXTENDS, Known};
use crate::error::did_you_mean;

/// Longer words are not slips of the pen, and comparing them is slow.
const MAX_CHARS: usize = 64;

/// Other tools' words for our keys, too far from them to be found by spelling.
pub(super) const OTHER_WORDS: &[(&str, &str)] = &[
    ("rank", "adapter.r"),
    ("lora_r", "adapter.r"),
    ("lora_rank", "adapter.r"),
    ("alpha", "adapter.lora_alpha"),
    ("dropout", "adapter.lora_dropout"),
    ("lora_target_modules", "adapter.target_modules"),
    ("lora_target", "adapter.target_modules"),
    ("model_name", "model.base"),
    ("model_name_or_path", "model.base"),
    ("base_model", "model.base"),
    ("load_in_4bit", "model.quantization"),
    ("load_in_8bit", "model.quantization"),
    ("torch_dtype", "model.dtype"),
    ("dataset", "data.train"),
    ("datasets", "data.train"),
    ("train_file", "data.train"),
    ("val_set_size", "data.eval_fraction"),
    ("validation", "data.eval"),
    ("max_seq_length", "data.max_length"),
    ("max_seq_len", "data.max_length"),
    ("sequence_len", "data.max_length"),
    ("cutoff_len", "data.max_length"),
    ("sample_packing", "data.packing"),
    ("lr", "training.learning_rate"),
    ("epochs", "training.num_train_epochs"),
    ("num_epochs", "training.num_train_epochs"),
    ("batch_size", "training.per_device_train_batch_size"),
    ("micro_batch_size", "training.per_device_train_batch_size"),
    ("iters", "training.max_steps"),
    ("optim", "training.optimizer"),
    ("lr_scheduler", "training.lr_scheduler_type"),
    ("gradient_checkpointing", "training.activation_checkpointing"),
    ("grad_checkpoint", "training.activation_checkpointing"),
    ("eval_strategy", "evaluation.eval_steps"),
    ("evaluation_strategy", "evaluation.eval_steps"),
    ("output_dir", "output.dir"),
    ("hub_model_id", "output.push_to_hub"),
];

/// The candidate that `word` most likely is.
pub(super) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    (word.chars().count() <= MAX_CHARS).then(|| did_you_mean(word, candidates)).flatten()
}

/// A hint for `key`, which `section` does not have.
pub(super) fn for_unknown_key(known: &[Known], section: &str, key: &str) -> Option<String> {
    let full = |k: &Known| if k.section.is_empty() { k.key.to_owned() } else { format!("{}.{}", k.section, k.key) };
    let sections = || known.iter().map(|k| k.section.as_str()).filter(|s| !s.contains('['));
    let is_section = |word: &str| sections().any(|s| s == word);
    let here = || known.iter().filter(|k| k.section == section).map(|k| k.key);

    if is_section(key) {
        return Some(format!("`{key}` is a section of its own: write it at the left margin"));
    }
    if let Some(elsewhere) = known.iter().find(|k| k.key == key && k.section != section && !k.section.contains('[')) {
        return Some(format!("it belongs in `{}`: `{}`", elsewhere.section, full(elsewhere)));
    }
    if let Some((_, ours)) = OTHER_WORDS.iter().find(|(word, _)| *word == key) {
        return Some(format!("it is called `{ours}` here"));
    }
    if section.is_empty()
        && let Some(word) = closest(key, sections().chain([EXTENDS]))
    {
        return Some(format!("did you mean `{word}`?"));
    }
    // This section's keys come last, since the last of equally close ones wins.
    let elsewhere = known.iter().filter(|k| k.section != section && !k.section.contains('[')).map(|k| k.key);
    if let Some(word) = closest(key, elsewhere.chain(here())) {
        let word = match known.iter().find(|k| k.key == word) {
            Some(k) if !here().any(|key| key == word) => full(k),
            _ => word.to_owned(),
        };
        return Some(format!("did you mean `{word}`?"));
    }
    let mut words: Vec<&str> = if section.is_empty() { sections().collect() } else { here().collect() };
    words.dedup();
    let owner = if section.is_empty() { "a recipe".into() } else { format!("`{section}`") };
    Some(format!("{owner} has: {}", words.join(", ")))
}
