//! The linear layers that an adapter folder itself tells of.

use super::tensors::TENSORS_FILE;
use crate::error::Result;
use crate::model::{Places, Site, Stage};
use crate::weights::names::{LORA_A, LORA_B, TensorId, parse_peft_key};
use crate::weights::safetensors_file::SafetensorsFile;
use std::collections::BTreeMap;
use std::path::Path;

/// The linear layers that the tensors of an adapter folder go beside, where the model is not at hand: as wide as these
/// tensors are.
///
/// # Errors
/// A file that is missing or damaged.
pub fn own_places(dir: &Path) -> Result<Places> {
    let file = SafetensorsFile::open(&dir.join(TENSORS_FILE))?;
    let mut dims = BTreeMap::<TensorId, [usize; 2]>::new();
    for entry in &file.header().tensors {
        let Some((_, id, part)) = parse_peft_key(&entry.name) else { continue };
        let [out, inputs] = dims.entry(id).or_default();
        match (part, entry.shape.as_slice()) {
            (LORA_A, [_, width]) => *inputs = *width,
            (LORA_B, [width, _]) => *out = *width,
            _ => {}
        }
    }
    let stage = |id: &TensorId| match id {
        TensorId::Projection(layer, _) => Stage::Layer(*layer),
        _ => Stage::LastHidden,
    };
    let sites = Site::numbered(dims.into_iter().map(|(id, dims)| (id, stage(&id), dims)));
    Ok(Places { sites, whole: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::super::reader::PeftAdapter;
    use super::super::testing::{golden, shapes};
    use super::*;

    #[test]
    fn an_adapter_is_read_without_its_model_as_with_it() {
        for name in ["lora", "rslora", "dora", "patterns", "layers"] {
            let dir = golden(&format!("text-{name}"));
            let own = PeftAdapter::read(&dir, &own_places(&dir).unwrap()).unwrap();
            assert_eq!(own.tensors, PeftAdapter::read(&dir, &shapes()).unwrap().tensors, "{name}");
        }
    }
}
