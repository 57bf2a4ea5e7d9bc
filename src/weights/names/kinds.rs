//! Many modules in a few words.

use super::{Spelling, TensorId};
use crate::progress::counted;
use std::collections::BTreeMap;

/// Kinds that are named.
const SHOWN: usize = 8;

impl TensorId {
    /// Which modules have these weights: one by its path, several by their number and kinds, as ``3 modules: `mlp.up_proj`
    /// in 2 layers, `per_layer_model_projection` ``; nothing where there are none.
    pub fn in_words<'a>(ids: impl IntoIterator<Item = &'a TensorId>) -> Option<String> {
        let paths: Vec<String> = ids.into_iter().map(|id| Spelling::Text.module_path(id)).collect();
        let [first, _, ..] = &paths[..] else { return paths.first().map(|only| format!("`{only}`")) };
        // In the order in which they come.
        let (mut order, mut counts) = (Vec::new(), BTreeMap::<(bool, String), usize>::new());
        for kind in paths.iter().map(|path| kind(path)) {
            let count = counts.entry(kind.clone()).or_default();
            if *count == 0 {
                order.push(kind);
            }
            *count += 1;
        }
        let mut said: Vec<String> = Vec::new();
        for kind in order.iter().take(SHOWN) {
            let (in_layers, name) = kind;
            said.push(match counts.get(kind).copied().unwrap_or(0) {
                1 if order.len() == 1 => format!("`{first}`"),
                count if *in_layers => format!("`{name}` in {}", counted(count, "layer")),
                1 => format!("`{name}`"),
                count => format!("`{name}` ({count})"),
            });
        }
        if order.len() > SHOWN {
            said.push(format!("and {} more", counted(order.len() - SHOWN, "kind")));
        }
        Some(format!("{}: {}", counted(paths.len(), "module"), said.join(", ")))
    }
}

/// A path without its numbers, and whether it is inside a decoder layer, whose own path is then left out.
fn kind(path: &str) -> (bool, String) {
    let inside = path.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let in_layers = inside.is_some();
    let rest = inside.map_or_else(|| path.strip_prefix("model.").unwrap_or(path), |(_, rest)| rest);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = rest.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    (in_layers, parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::super::Projection;
    use super::*;

    #[test]
    fn modules_are_named_by_kind_and_number() {
        let layers = |layers: usize, of| (0..layers).map(move |layer| TensorId::Projection(layer, of));
        assert_eq!(TensorId::in_words([]), None);
        let one = TensorId::in_words(&[TensorId::Projection(3, Projection::Up)]);
        assert_eq!(one.as_deref(), Some("`model.layers.3.mlp.up_proj`"));
        let mut many: Vec<TensorId> = layers(30, Projection::AltupRouter).collect();
        many.extend(layers(1, Projection::PerLayerGate));
        many.push(TensorId::PerLayerModelProjection);
        many.extend((0..3).map(TensorId::AltupProjection));
        assert_eq!(
            TensorId::in_words(&many).as_deref(),
            Some(
                "35 modules: `altup.modality_router` in 30 layers, `per_layer_input_gate` in 1 layer, \
                 `per_layer_model_projection`, `altup_projections.*` (3)"
            )
        );
    }
}
