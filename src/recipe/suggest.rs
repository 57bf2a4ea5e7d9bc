//! What an unknown key was meant to be.

use super::known::{EXTENDS, Known};
use crate::data::options::RowFormat;
use crate::error::did_you_mean;

/// Longer words are not slips of the pen, and comparing them is slow.
const MAX_CHARS: usize = 64;

/// How much of a key must be right for it to be found in another section.
const NEAR: f64 = 0.7;

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
    ("model_id", "model.base"),
    ("load_in_4bit", "model.quantization: nf4"),
    ("load_in_8bit", "model.quantization: int8"),
    ("4bit", "model.quantization: nf4"),
    ("8bit", "model.quantization: int8"),
    ("quantize", "model.quantization"),
    ("quant_type", "model.quantization"),
    ("bits", "model.quantization"),
    ("bnb_4bit_quant_type", "model.quantization: nf4"),
    ("bnb_4bit_use_double_quant", "model.quantization: nf4_double"),
    ("torch_dtype", "model.dtype"),
    ("bf16", "model.dtype: bf16"),
    ("fp16", "model.dtype: f16"),
    ("lora", "adapter"),
    ("peft", "adapter"),
    ("lora_config", "adapter"),
    ("peft_config", "adapter"),
    ("trainer", "training"),
    ("training_args", "training"),
    ("training_arguments", "training"),
    ("hyperparameters", "training"),
    ("dataset", "data.train"),
    ("data_path", "data.train"),
    ("data_files", "data.train"),
    ("dataset_name", "data.train"),
    ("datasets", "data.train"),
    ("train_file", "data.train"),
    ("val_set_size", "data.eval_fraction"),
    ("validation", "data.eval"),
    ("test_size", "data.eval_fraction"),
    ("validation_split", "data.eval_fraction"),
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
    ("epoch", "training.num_train_epochs"),
    ("batch", "training.per_device_train_batch_size"),
    ("train_batch_size", "training.per_device_train_batch_size"),
    ("grad_accum", "training.gradient_accumulation_steps"),
    ("grad_accum_steps", "training.gradient_accumulation_steps"),
    ("accumulate_grad_batches", "training.gradient_accumulation_steps"),
    ("steps", "training.max_steps"),
    ("num_steps", "training.max_steps"),
    ("grad_clip", "training.max_grad_norm"),
    ("gradient_clipping", "training.max_grad_norm"),
    ("iters", "training.max_steps"),
    ("optim", "training.optimizer"),
    ("lr_scheduler", "training.lr_scheduler_type"),
    ("scheduler", "training.lr_scheduler_type"),
    ("scheduler_type", "training.lr_scheduler_type"),
    ("lr_schedule", "training.lr_scheduler_type"),
    ("schedule", "training.lr_scheduler_type"),
    ("early_stopping", "evaluation.early_stopping_patience: 3"),
    ("patience", "evaluation.early_stopping_patience"),
    ("gradient_checkpointing", "training.activation_checkpointing"),
    ("grad_checkpoint", "training.activation_checkpointing"),
    ("eval_strategy", "evaluation.eval_steps: auto"),
    ("evaluation_strategy", "evaluation.eval_steps: auto"),
    ("wandb", "output.report_to: [tensorboard]"),
    ("wandb_project", "output.report_to: [tensorboard]"),
    ("use_wandb", "output.report_to: [tensorboard]"),
    ("logging", "output.report_to"),
    ("save_strategy", "output.save_steps: auto"),
    ("output_dir", "output.dir"),
    ("hub_model_id", "output.push_to_hub"),
    ("push_to_hub_model_id", "output.push_to_hub"),
    ("hub_repo_id", "output.push_to_hub"),
];

/// The candidate that `word` most likely is.
pub(super) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    (word.chars().count() <= MAX_CHARS).then(|| did_you_mean(word, candidates)).flatten()
}

/// What other tools have as a value of this key and we have otherwise: the word, one that the key has here, and how it is written.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("cpo", "dpo", "write `task: dpo` with `preference: {loss_type: cpo}`"),
    ("simpo", "dpo", "write `task: dpo` with `preference: {loss_type: simpo}`"),
    ("ipo", "orpo", "write `task: dpo` with `preference: {loss_type: ipo}`"),
    ("bco", "orpo", "write `task: dpo` with `preference: {loss_type: bco_pair}`"),
    ("alphapo", "simpo", "write `loss_type: simpo` with `alpha`, and `cpo_alpha: 0`: that is AlphaPO"),
    ("true", "group", "write `group`, which is what TRL's `true` is"),
    ("false", "batch", "write `none`, which is what TRL's `false` is"),
    ("ppo", "rloo", "`grpo` and `rloo` learn from rewards without a model that values answers"),
];

/// Other tools' words for values of our keys.
const OTHER_VALUES: &[(&str, &str)] = &[
    ("off", "none"),
    ("no", "none"),
    ("false", "none"),
    ("disabled", "none"),
    ("4", "nf4"),
    ("8", "int8"),
    ("4bit", "nf4"),
    ("4-bit", "nf4"),
    ("int4", "nf4"),
    ("q4", "nf4"),
    ("fp4", "nf4"),
    ("bnb", "nf4"),
    ("qlora", "nf4"),
    ("8bit", "int8"),
    ("8-bit", "int8"),
    ("q8", "int8"),
    ("gguf", "as_stored"),
    ("bfloat16", "bf16"),
    ("float16", "f16"),
    ("fp16", "f16"),
    ("half", "f16"),
    ("float32", "f32"),
    ("fp32", "f32"),
    ("adam", "adamw"),
    ("adamw_torch", "adamw"),
    ("adamw_torch_fused", "adamw"),
    ("adamw_8bit", "adamw"),
    ("adamw_bnb_8bit", "adamw"),
    ("paged_adamw_8bit", "adamw"),
    ("paged_adamw_32bit", "adamw"),
    ("constant_with_warmup", "constant"),
    ("cosine_with_restarts", "cosine"),
    ("json", "jsonl"),
    ("chat", "messages"),
    ("chatml", "messages"),
    ("openai", "messages"),
    ("chat_template", "messages"),
    ("conversational", "messages"),
    ("conversations", "sharegpt"),
    ("instruction", "alpaca"),
    ("instruct", "alpaca"),
    ("completion", "prompt_completion"),
    ("input_output", "prompt_completion"),
    ("raw", "text"),
    ("plain", "text"),
    ("pretraining", "text"),
    ("cut", "truncate"),
    ("drop", "skip"),
    ("ignore", "skip"),
    ("raise", "error"),
    ("completions", "assistant"),
    ("response", "assistant"),
];

/// Kinds of files, which people give as formats of rows.
const FILES: [&str; 9] = ["csv", "tsv", "json", "jsonl", "ndjson", "parquet", "arrow", "excel", "xlsx"];

/// A hint for the value `text`, which is none of `words`.
pub(super) fn for_unknown_value(text: &str, words: &[&str]) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if ["wandb", "w&b"].contains(&lower.as_str()) && words.contains(&"tensorboard") {
        let how = "`wandb sync --sync-tensorboard` uploads them";
        return Some(format!("runs are not sent to Weights & Biases; write `tensorboard` logs: {how}"));
    }
    if words.contains(&RowFormat::Auto.name())
        && words.contains(&RowFormat::Alpaca.name())
        && FILES.contains(&lower.as_str())
    {
        return Some("write `auto`: this is how rows are laid out, which is seen from their columns; what a file is, from its name".into());
    }
    let otherwise = OTHERWISE.iter().find(|(word, beside, _)| *word == lower && words.contains(beside));
    if let Some((.., how)) = otherwise.filter(|(word, ..)| !words.contains(word)) {
        return Some((*how).to_owned());
    }
    let other = OTHER_VALUES.iter().find(|(word, ours)| *word == lower && words.contains(ours));
    if let Some((_, ours)) = other {
        return Some(format!("it is called `{ours}` here"));
    }
    closest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"))
}

/// A hint for a key that other programs have under this name, or under it in other letters.
fn for_other_word(key: &str) -> Option<String> {
    let lower = key.to_ascii_lowercase().replace('-', "_");
    let (_, ours) = OTHER_WORDS.iter().find(|(word, _)| *word == lower)?;
    Some(match ours.contains(": ") {
        true => format!("write `{ours}`"),
        false => format!("it is called `{ours}` here"),
    })
}

/// Whether a key has nearly this name: a good beginning is not enough.
pub(super) fn is_near(word: &str, key: &str) -> bool {
    strsim::normalized_damerau_levenshtein(word, key) >= NEAR
}

/// A hint for `key`, which `section` does not have.
pub(super) fn for_unknown_key(known: &[Known], section: &str, key: &str) -> Option<String> {
    let full = |k: &Known| if k.section.is_empty() { k.key.to_owned() } else { format!("{}.{}", k.section, k.key) };
    let sections = || known.iter().map(|k| k.section.as_str()).filter(|s| !s.is_empty() && !s.contains('['));
    let is_section = |word: &str| sections().any(|s| s == word);
    let here = || known.iter().filter(|k| k.section == section).map(|k| k.key);

    if is_section(key) {
        return Some(format!("`{key}` is a section of its own: write it at the left margin"));
    }
    // Before keys of that name elsewhere: `alpha` is LoRA's where it stands in no section that has one.
    if let Some(hint) = for_other_word(key) {
        return Some(hint);
    }
    if let Some(elsewhere) = known.iter().find(|k| k.key == key && k.section != section && !k.section.contains('[')) {
        return Some(format!("it belongs in `{}`: `{}`", elsewhere.section, full(elsewhere)));
    }
    if section.is_empty()
        && let Some(word) = closest(key, sections().chain(here()).chain([EXTENDS]))
    {
        return Some(format!("did you mean `{word}`?"));
    }
    // This section's keys come last, since the last of equally close ones wins.
    // Elsewhere only a name that is nearly the same was meant: a good beginning is not enough.
    let elsewhere = known.iter().filter(|k| k.section != section && !k.section.contains('['));
    let elsewhere = elsewhere.filter(|k| is_near(key, k.key)).map(|k| k.key);
    if let Some(word) = closest(key, elsewhere.chain(here())) {
        let word = match known.iter().find(|k| k.key == word) {
            Some(k) if !here().any(|key| key == word) => full(k),
            _ => word.to_owned(),
        };
        return Some(format!("did you mean `{word}`?"));
    }
    let mut words: Vec<&str> = if section.is_empty() { here().chain(sections()).collect() } else { here().collect() };
    words.dedup();
    let owner = if section.is_empty() { "a recipe".into() } else { format!("`{section}`") };
    Some(format!("{owner} has: {}", words.join(", ")))
}

/// The same of what is no recipe, and has no other words: the key of that name, or all there are.
pub(super) fn among(known: &[Known], section: &str, key: &str, owner: &str) -> String {
    let here = || known.iter().filter(|k| k.section == section).map(|k| k.key);
    let sections = || known.iter().map(|k| k.section.as_str()).filter(|name| section.is_empty() && !name.is_empty());
    if let Some(word) = closest(key, sections().chain(here())) {
        return format!("did you mean `{word}`?");
    }
    let mut words: Vec<&str> = here().chain(sections()).collect();
    words.dedup();
    let owner = if section.is_empty() { owner.to_owned() } else { format!("`{section}`") };
    format!("{owner} has: {}", words.join(", "))
}
