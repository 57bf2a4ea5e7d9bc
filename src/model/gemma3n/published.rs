//! The sizes in which Gemma 3n is published, for what is asked before anything is downloaded.

use super::TextConfig;
use crate::error::Result;
use crate::model::published::named;
use std::path::Path;

/// A size's part of the name, and its `config.json`.
const SIZES: [(&str, &str); 2] = [
    ("e2b", include_str!("../../../configs/models/gemma-3n-e2b.json")),
    ("e4b", include_str!("../../../configs/models/gemma-3n-e4b.json")),
];

/// The configuration of the published model that `name` names: `google/gemma-3n-E2B-it`, also with another owner or a
/// revision. `None` for every other name.
///
/// # Errors
/// None in practice: the files are part of the program, and a test reads them all.
pub fn published(name: &str) -> Result<Option<TextConfig>> {
    let Some((size, text)) = named(name, "gemma-3n-", &["-it"], &SIZES) else { return Ok(None) };
    let (config, _) = TextConfig::from_hf_json(text, Path::new(&format!("gemma-3n-{size}.json")))?;
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn published_names_are_known_and_others_are_not() {
        for (name, layers, f, shared) in [
            ("google/gemma-3n-E2B-it", 30, 8192, 10),
            ("google/gemma-3n-e2b@main", 30, 8192, 10),
            ("unsloth/gemma-3n-E4B-it", 35, 16_384, 15),
        ] {
            let config = published(name).unwrap().unwrap();
            assert_eq!((config.num_hidden_layers(), config.num_kv_shared_layers), (layers, shared), "{name}");
            assert_eq!(config.intermediate_size, vec![f; layers], "{name}");
            assert!(config.multimodal && config.eos_token_ids == [1, 106], "{name}");
            let config = ModelConfig::published(name).unwrap().unwrap();
            assert_eq!(config.architecture(), "Gemma 3n");
            // "Effectively" two and four thousand millions.
            let linears: u64 = config.sites().iter().map(|site| (site.in_features * site.out_features) as u64).sum();
            let expected = if layers == 30 { 1_884_014_944 } else { 3_948_440_304 };
            assert_eq!(linears, expected, "{name}");
        }
        for name in ["google/gemma-3-4b-it", "unsloth/gemma-3n-E4B-it-bnb-4bit", "google/gemma-3n-e9b", ""] {
            assert!(published(name).unwrap().is_none(), "{name}");
        }
    }
}
