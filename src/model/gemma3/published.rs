//! The sizes in which Gemma 3 is published, for what is asked before anything is downloaded.

use super::TextConfig;
use crate::error::Result;
use crate::model::published::named;
use std::path::Path;

/// A size's part of the name, and its `config.json`.
const SIZES: [(&str, &str); 5] = [
    ("270m", include_str!("../../../configs/models/gemma-3-270m.json")),
    ("1b", include_str!("../../../configs/models/gemma-3-1b.json")),
    ("4b", include_str!("../../../configs/models/gemma-3-4b.json")),
    ("12b", include_str!("../../../configs/models/gemma-3-12b.json")),
    ("27b", include_str!("../../../configs/models/gemma-3-27b.json")),
];

/// The configuration of the published model that `name` names: `google/gemma-3-12b-it`, also with another owner or a
/// revision. `None` for every other name, also of quantised copies, whose weights have another size.
///
/// # Errors
/// None in practice: the files are part of the program, and tests read them all.
pub fn published(name: &str) -> Result<Option<TextConfig>> {
    let Some((size, text)) = named(name, "gemma-3-", &["-it", "-pt"], &SIZES) else { return Ok(None) };
    let (config, _) = TextConfig::from_hf_json(text, Path::new(&format!("gemma-3-{size}.json")))?;
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_names_are_known_and_others_are_not() {
        let layers = |name: &str| published(name).unwrap().map(|config| config.num_hidden_layers);
        for (name, expected) in [
            ("google/gemma-3-270m", 18),
            ("google/gemma-3-270m-it", 18),
            ("google/gemma-3-1b-pt", 26),
            ("google/gemma-3-4b-it@main", 34),
            ("unsloth/gemma-3-12b-it", 48),
            ("google/gemma-3-27b-it", 62),
        ] {
            assert_eq!(layers(name), Some(expected), "{name}");
        }
        for name in ["google/gemma-2-2b-it", "unsloth/gemma-3-4b-it-bnb-4bit", "google/gemma-3-4b-it-qat-q4_0-gguf", ""]
        {
            assert_eq!(layers(name), None, "{name}");
        }
    }
}
