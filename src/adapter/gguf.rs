//! An adapter in a GGUF file, as llama.cpp reads it.

use super::peft::{AdapterTensors, ModuleTensors};
use crate::error::{Error, Kind, Place, Result};
use crate::model::Site;
use crate::weights::gguf::{Entry, Gguf};
use crate::weights::names::TensorId;
use std::collections::BTreeMap;
use std::path::Path;

/// The ends of the names of the two matrices of a module, behind the name of the weight that they are for.
const PARTS: [&str; 2] = [".lora_a", ".lora_b"];

/// An adapter, and how its numbers are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufAdapter {
    /// Its tensors, with each module's scaling.
    pub tensors: AdapterTensors,
    /// The type of its tensors, that of the first which is not f32 where they differ: `F32`.
    pub stored: String,
}

/// Reads the adapter in a GGUF file for a model with these sites.
///
/// # Numerics
/// Each module is scaled by `alpha / r` with its own rank, and by 1 where alpha is 0, which llama.cpp takes for none.
///
/// # Errors
/// A file that cannot be read or is no LoRA; tensors that are of no linear layer of the model, lack their other half, or
/// have another shape.
pub fn read(path: &Path, sites: &[Site]) -> Result<GgufAdapter> {
    let file = Gguf::open(path)?;
    let metadata = file.metadata();
    let is_lora = metadata.str("general.type") == Some("adapter") && metadata.str("adapter.type") == Some("lora");
    if !is_lora {
        let found = metadata.str("general.type").unwrap_or("model");
        return Err(wrong(format!("this GGUF file is no LoRA adapter: it says that it is of the type `{found}`"))
            .at_path(path)
            .hint("`gemma-tune export gguf-lora` writes one"));
    }
    let alpha = metadata.f64("adapter.lora.alpha").unwrap_or(0.0);
    let mut halves: BTreeMap<TensorId, [bool; 2]> = BTreeMap::new();
    let (mut problems, mut foreign) = (Vec::new(), Vec::new());
    for entry in &file.header().tensors {
        let half = PARTS.iter().enumerate().find_map(|(i, part)| Some((i, entry.name.strip_suffix(part)?)));
        let known = half.and_then(|(i, weight)| Some((i, TensorId::parse_gguf(weight)?)));
        match known.filter(|(_, id)| sites.iter().any(|site| site.weight == *id)) {
            Some((i, id)) => halves.entry(id).or_default()[i] = true,
            None => foreign.push(entry.name.as_str()),
        }
    }
    problems.extend(match &foreign[..] {
        [] => None,
        [only] => Some(wrong(format!("tensor `{only}` is of no linear layer of the model"))),
        [first, .., last] => {
            let count = foreign.len();
            Some(wrong(format!("{count} tensors are of no linear layer of the model, from `{first}` to `{last}`")))
        }
    });
    let mut tensors = AdapterTensors::default();
    for (id, has) in halves {
        match sites.iter().find(|site| site.weight == id) {
            Some(site) if has == [true; 2] => match module(&file, site, alpha) {
                Ok(module) => drop(tensors.modules.insert(id, module)),
                Err(error) => problems.push(error),
            },
            _ => problems.push(wrong(format!("`{}` has only one of its two matrices", id.gguf()))),
        }
    }
    if tensors.modules.is_empty() && problems.is_empty() {
        problems.push(wrong("the file holds no tensors"));
    }
    let mut types = file.header().tensors.iter().map(Entry::type_name);
    let stored = types.find(|name| name != "F32").unwrap_or_else(|| "F32".to_owned());
    let at = |error: Error| error.or_at(Place::Path(path.into()));
    Error::many(problems.into_iter().map(at).collect()).map_or(Ok(GgufAdapter { tensors, stored }), Err)
}

/// The two matrices of a linear layer.
fn module(file: &Gguf, site: &Site, alpha: f64) -> Result<ModuleTensors> {
    let name = |part: &str| format!("{}{part}", site.weight.gguf());
    let [a, b] = PARTS.map(name);
    // Whatever rank both agree on.
    let rank = file.entry(&a).and_then(|entry| entry.shape.first().copied()).unwrap_or(0);
    if rank == 0 {
        return Err(wrong(format!("tensor `{a}` has no rows")));
    }
    Ok(ModuleTensors {
        a: file.read_f32(&a, &[rank, site.in_features])?,
        b: file.read_f32(&b, &[site.out_features, rank])?,
        magnitude: None,
        scaling: if alpha == 0.0 { 1.0 } else { alpha / rank as f64 },
    })
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Adapter, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::peft::PeftAdapter;
    use crate::adapter::peft::testing::{golden, shapes};
    use crate::quant::QuantType;
    use crate::weights::HostTensor;
    use crate::weights::gguf::{GgufTensor, Value, write_gguf};

    fn text(key: &str, value: &str) -> (String, Value) {
        (key.to_owned(), Value::String(value.to_owned()))
    }

    /// Writes the modules of a PEFT folder as such a file, without those tensors whose name `leave_out` knows.
    fn write(path: &Path, modules: &AdapterTensors, alpha: f32, leave_out: &str) {
        let mut tensors: Vec<(String, &HostTensor)> = Vec::new();
        for (id, module) in &modules.modules {
            tensors.push((format!("{}.lora_a", id.gguf()), &module.a));
            tensors.push((format!("{}.lora_b", id.gguf()), &module.b));
        }
        tensors.retain(|(name, _)| leave_out.is_empty() || !name.contains(leave_out));
        let specs: Vec<GgufTensor> = tensors
            .iter()
            .map(|(name, tensor)| GgufTensor { name: name.clone(), of: QuantType::F32, shape: tensor.shape.clone() })
            .collect();
        let metadata = [
            text("general.architecture", "gemma3"),
            text("general.type", "adapter"),
            text("adapter.type", "lora"),
            ("adapter.lora.alpha".to_owned(), Value::F32(alpha)),
        ];
        let bytes = |name: &str| {
            let (_, tensor) = tensors.iter().find(|(known, _)| known == name).unwrap();
            tensor.to_f32().into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
        };
        write_gguf(path, &metadata, &specs, |tensor| Ok(bytes(&tensor.name))).unwrap();
    }

    fn sites() -> Vec<Site> {
        shapes().sites
    }

    #[test]
    fn modules_come_back_with_the_scale_that_llama_cpp_gives_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let adapter = PeftAdapter::read(&golden("text-lora"), &shapes()).unwrap().tensors;
        for (alpha, scaling) in [(16.0, None), (0.0, Some(1.0))] {
            write(&path, &adapter, alpha, "");
            let GgufAdapter { tensors: read, stored } = read(&path, &sites()).unwrap();
            assert_eq!(stored, "F32");
            assert_eq!(read.modules.len(), adapter.modules.len());
            for (id, module) in &read.modules {
                let rank = module.a.shape[0] as f64;
                assert_eq!(module.scaling, scaling.unwrap_or(f64::from(alpha) / rank), "{id}");
                assert_eq!(module.a.to_f32(), adapter.modules[id].a.to_f32());
                assert_eq!(module.b.to_f32(), adapter.modules[id].b.to_f32());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let adapter = PeftAdapter::read(&golden("text-lora"), &shapes()).unwrap().tensors;
        write(&path, &adapter, 16.0, "blk.0.attn_q.weight.lora_b");
        let half = read(&path, &sites()).unwrap_err().to_string();
        assert!(half.contains("`blk.0.attn_q.weight` has only one of its two matrices"), "{half}");
        let one = &sites()[..1];
        let others = read(&path, one).unwrap_err().to_string();
        assert!(others.contains("26 tensors are of no linear layer of the model, from `blk."), "{others}");
        write(&path, &AdapterTensors::default(), 16.0, "");
        assert!(read(&path, &sites()).unwrap_err().to_string().contains("holds no tensors"));
        write_gguf(&path, &[text("general.architecture", "gemma3")], &[], |_| Ok(Vec::new())).unwrap();
        let model = read(&path, &sites()).unwrap_err();
        assert!(model.to_string().contains("of the type `model`") && model.exit_code() == 2, "{model}");
    }
}
