//! Numbers that are written as other programs and other languages write them.

/// How to say what other programs say with `max_steps: -1`.
const NO_LIMIT: &str = "for no limit leave the key out: then `training.num_train_epochs` decides";

/// Keys with a number that may be meant to be off, and how that is said here.
const OFF: [(&str, &str); 16] = [
    ("training.max_steps", NO_LIMIT),
    ("training.warmup_steps", "write `0`"),
    ("training.warmup_ratio", "write `0`"),
    ("training.weight_decay", "write `0`"),
    ("training.max_grad_norm", "write `0`"),
    ("training.sgd_momentum", "write `0`"),
    ("training.gradient_accumulation_steps", "write `1`"),
    ("adapter.lora_dropout", "write `0`"),
    ("data.eval_fraction", "write `0`"),
    ("evaluation.samples", "write `0`"),
    ("evaluation.eval_steps", "leave the key out: then only the base and the finished adapter are evaluated"),
    ("evaluation.early_stopping_patience", "leave the key out: then nothing ends the run early"),
    ("output.save_steps", "to save at the end only, write more steps than there are: `1000000`"),
    ("output.save_total_limit", "to keep all checkpoints, write more than there will be: `1000000`"),
    ("output.logging_steps", "to report next to nothing, write more steps than there are: `1000000`"),
    ("training.per_device_train_batch_size", "write `1`"),
];

/// Whether a word means that something is not wanted.
pub(super) fn is_off(text: &str) -> bool {
    const WORDS: [&str; 8] = ["off", "no", "none", "never", "false", "disabled", "disable", "n"];
    WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// How the key `path` is switched off, as far as it can be.
pub(super) fn off(path: &str) -> Option<&'static str> {
    OFF.iter().find(|(key, _)| *key == path).map(|(_, how)| *how)
}

/// The hint for a `text` that is no number.
pub(super) fn hint(text: &str, path: &str) -> Option<String> {
    if is_off(text) {
        return off(path).map(str::to_owned);
    }
    with_point(text).map(|number| format!("write `{number}`"))
}

/// The hint for a share that is written in percent: `20%` is `0.2`.
pub(super) fn share(text: &str) -> Option<String> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let number = with_point(number).unwrap_or_else(|| number.to_owned());
    let share = number.parse::<f64>().ok().filter(|number| number.is_finite())? / 100.0;
    Some(format!("write `{share}`"))
}

/// A number with commas as this program reads it: `0,0002` has a decimal comma, the commas of `1,000,000` only group.
pub fn with_point(text: &str) -> Option<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split(',').collect();
    let (first, rest) = parts.split_first()?;
    let (last, between) = rest.split_last()?;
    let mantissa = last.split(['e', 'E']).next().unwrap_or_default();
    if !is_number(first.trim_start_matches(['-', '+'])) || !is_number(mantissa) {
        return None;
    }
    let exponent = &last[mantissa.len()..];
    if !exponent.is_empty() && !is_number(exponent[1..].trim_start_matches(['-', '+'])) {
        return None;
    }
    let groups = between.iter().chain([last]).all(|part| part.len() == 3 && is_number(part));
    match (between.len(), groups && !first.trim_start_matches('-').starts_with('0')) {
        (_, true) => Some(parts.concat()),
        (0, false) => Some(format!("{first}.{last}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_are_points_or_group_digits() {
        for (text, expected) in [
            ("0,0002", Some("0.0002")),
            ("2,5e-4", Some("2.5e-4")),
            ("-0,125", Some("-0.125")),
            ("1,000", Some("1000")),
            ("1,000,000", Some("1000000")),
            ("1,5", Some("1.5")),
            ("1,00,000", None),
            ("fast", None),
            ("1,x", None),
            ("1,5e", None),
            (",5", None),
            ("5", None),
        ] {
            assert_eq!(with_point(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn percents_are_shares() {
        for (text, expected) in [
            ("20%", Some("write `0.2`")),
            ("7 %", Some("write `0.07`")),
            ("0,5%", Some("write `0.005`")),
            ("20", None),
            ("%", None),
            ("many%", None),
        ] {
            assert_eq!(share(text).as_deref(), expected, "{text}");
        }
    }
}
