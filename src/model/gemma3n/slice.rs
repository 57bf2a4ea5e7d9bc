//! A smaller Gemma 3n inside a larger one.

use crate::error::{Error, Kind, Result};
use crate::model::gemma3n::TextConfig;
use crate::weights::slice::Slice;
use serde_json::{Value, json};

impl TextConfig {
    /// The model without some layers and with narrower feed-forward blocks: `widths` is one for all layers that stay, one for
    /// each of them, or none where all stay as wide as they are.
    ///
    /// # Errors
    /// Layers that there are not, or whose keys and values others read; widths that are too many, too few or too wide.
    ///
    /// # Source
    /// Devvrit et al. 2023, section 3.3: what is trained nested can be cut out at any width.
    pub fn slice(&self, without: &[usize], widths: &[usize]) -> Result<Slice> {
        let wrong = |what: String| Error::new(Kind::Recipe, what);
        let (all, first_shared) = (self.num_hidden_layers(), self.first_shared_layer());
        if let Some(beyond) = without.iter().find(|layer| **layer >= all) {
            return Err(wrong(format!("there is no layer {beyond}: the model has layers 0 to {}", all - 1)));
        }
        let layers: Vec<usize> = (0..all).filter(|layer| !without.contains(layer)).collect();
        if layers.is_empty() {
            return Err(wrong("no layer is left".into()));
        }
        for &layer in layers.iter().filter(|layer| **layer >= first_shared) {
            let source = self.kv_source(layer);
            if !layers.contains(&source) {
                return Err(wrong(format!(
                    "layer {layer} reads the keys and values of layer {source}, which is left out"
                ))
                .hint(format!("leave out layers before {source} or from {first_shared} on")));
            }
        }
        let own: Vec<usize> = layers.iter().map(|&layer| self.intermediate_size[layer]).collect();
        let widths = match widths {
            [] => own.clone(),
            [one] => vec![*one; layers.len()],
            each if each.len() == layers.len() => each.to_vec(),
            each => return Err(wrong(format!("{} widths for {} layers", each.len(), layers.len()))),
        };
        let too_wide = widths.iter().zip(&own).zip(&layers).find(|((width, own), _)| **width == 0 || width > own);
        if let Some(((width, own), layer)) = too_wide {
            return Err(wrong(format!("layer {layer} cannot be {width} wide: it can be 1 to {own}")));
        }
        let of_kept = |values: &[f64]| layers.iter().map(|&layer| values[layer]).collect::<Vec<_>>();
        let small = TextConfig {
            intermediate_size: widths.clone(),
            layer_types: layers.iter().map(|&layer| self.layer_types[layer]).collect(),
            activation_sparsity_pattern: of_kept(&self.activation_sparsity_pattern),
            num_kv_shared_layers: layers.iter().filter(|layer| **layer >= first_shared).count(),
            ..self.clone()
        };
        let written = small.to_hf_json("");
        let names = [
            "num_hidden_layers",
            "intermediate_size",
            "layer_types",
            "activation_sparsity_pattern",
            "num_kv_shared_layers",
        ];
        let keys: Vec<(&str, Value)> = names.into_iter().map(|name| (name, json!(written[name]))).collect();
        Ok(Slice { layers, widths, of_layers: all, per_layer: self.hidden_size_per_layer_input, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Four sliding layers and a full one, twice over; the last five share.
    fn config() -> TextConfig {
        let keys = json!({
            "model_type": "gemma3n_text", "vocab_size": 64, "vocab_size_per_layer_input": 60, "hidden_size": 16,
            "hidden_size_per_layer_input": 4, "intermediate_size": 32, "num_hidden_layers": 15, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8, "num_kv_shared_layers": 5, "laurel_rank": 4,
        });
        TextConfig::from_hf_json(&keys.to_string(), Path::new("config.json")).unwrap().0
    }

    #[test]
    fn what_stays_reads_the_keys_and_values_that_it_read() {
        let slice = config().slice(&[10, 11], &[16]).unwrap();
        assert_eq!(slice.layers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14]);
        assert_eq!(slice.widths, [16; 13]);
        let key = |name: &str| slice.keys.iter().find(|(key, _)| *key == name).unwrap().1.clone();
        assert_eq!((key("num_hidden_layers"), key("num_kv_shared_layers")), (json!(13), json!(3)));
        assert_eq!(key("layer_types")[12], "full_attention");
        let refused =
            |without: &[usize], widths: &[usize]| config().slice(without, widths).unwrap_err().what().to_owned();
        assert_eq!(refused(&[9], &[]), "layer 14 reads the keys and values of layer 9, which is left out");
        assert_eq!(refused(&[15], &[]), "there is no layer 15: the model has layers 0 to 14");
        assert_eq!(refused(&[], &[33]), "layer 0 cannot be 33 wide: it can be 1 to 32");
        assert_eq!(refused(&[], &[8, 8]), "2 widths for 15 layers");
        assert_eq!(refused(&(0..15).collect::<Vec<_>>(), &[]), "no layer is left");
    }
}
