//! An adapter as a GGUF file that llama.cpp applies beside its base.

use crate::adapter::peft::{AdapterTensors, ModuleTensors};
use crate::error::{Error, Kind, Result};
use crate::quant::QuantType;
use crate::weights::gguf::{GgufTensor, Value, write_gguf};
use crate::weights::names::{Projection, TensorId};
use std::collections::HashMap;
use std::path::Path;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExportedLora {
    /// Adapted weights.
    pub modules: usize,
    /// The alpha in the file: readers scale each module by it and its rank, `alpha / r`.
    pub alpha: f64,
    /// The file's length.
    pub bytes: u64,
}

/// Writes an adapter to `path` for a base of this architecture; `holds` says which tensors the base has.
///
/// # Numerics
/// In f32. Readers know one alpha and no square root: the file's alpha is the one that gives most modules their scale,
/// `lora_alpha`, or `lora_alpha sqrt(r)` of a rank-stabilised adapter. What is left of another module's scale is
/// multiplied into its B.
///
/// # Errors
/// A DoRA adapter, modules that the base's file does not hold or where llama.cpp applies no adapter, a full disk; a regular file at `path` is then as it was.
pub fn write_lora(
    path: &Path,
    architecture: &str,
    name: &str,
    adapter: &AdapterTensors,
    holds: impl Fn(&TensorId) -> bool,
) -> Result<ExportedLora> {
    check(adapter, holds)?;
    let alpha = alpha(adapter);
    let mut parts = HashMap::new();
    let mut tensors = Vec::new();
    for (id, module) in &adapter.modules {
        for (part, tensor) in [("lora_a", &module.a), ("lora_b", &module.b)] {
            let name = format!("{}.{part}", id.gguf());
            let factor = if part == "lora_b" { rest(module, alpha) } else { 1.0 };
            tensors.push(GgufTensor { name: name.clone(), of: QuantType::F32, shape: tensor.shape.clone() });
            parts.insert(name, (tensor, factor));
        }
    }
    let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
    let metadata = [
        text("general.architecture", architecture),
        text("general.type", "adapter"),
        text("general.name", name),
        text("general.license", "gemma"),
        text("adapter.type", "lora"),
        ("adapter.lora.alpha".to_owned(), Value::F32(alpha as f32)),
    ];
    let bytes = write_gguf(path, &metadata, &tensors, |tensor| match parts.get(&tensor.name) {
        Some((values, factor)) => {
            let numbers = values.to_f32().into_iter().map(|x| (f64::from(x) * factor) as f32);
            Ok(numbers.flat_map(f32::to_le_bytes).collect())
        }
        None => Err(Error::new(Kind::Run, format!("no tensor `{}` to write", tensor.name))),
    })?;
    Ok(ExportedLora { modules: adapter.modules.len(), alpha, bytes })
}

/// Refuses what such a file cannot say.
fn check(adapter: &AdapterTensors, holds: impl Fn(&TensorId) -> bool) -> Result<()> {
    let merge = "`gemma-tune export gguf --adapter` folds it into a whole model; `gemma-tune merge` into a folder";
    if adapter.modules.values().any(|module| module.magnitude.is_some()) {
        return Err(
            Error::new(Kind::Adapter, "this is a DoRA adapter, which no GGUF file of an adapter can say").hint(merge)
        );
    }
    let is_absent = |id: &&TensorId| is_applied(id) && (id.gguf().is_empty() || !holds(id));
    let absent = TensorId::in_words(adapter.changed().filter(is_absent));
    let absent = absent.map(|what| format!("the GGUF file of the base does not hold what the adapter changes: {what}"));
    let unapplied = TensorId::in_words(adapter.changed().filter(|id| !is_applied(id)));
    let unapplied = unapplied.map(|what| format!("llama.cpp applies no adapter to what this one changes: {what}"));
    let problems = [unapplied, absent].into_iter().flatten();
    Error::many(problems.map(|what| Error::new(Kind::Adapter, what).hint(merge)).collect()).map_or(Ok(()), Err)
}

/// Whether llama.cpp looks for an adapter where it multiplies by this matrix: not everywhere outside attention and
/// feed-forward, and where it does not, it would load the adapter and leave a part of it out without a word.
fn is_applied(id: &TensorId) -> bool {
    !matches!(
        id,
        TensorId::Projection(_, Projection::AltupRouter)
            | TensorId::PerLayerModelProjection
            | TensorId::AltupProjection(_)
            | TensorId::AltupUnembedProjection(_)
    )
}

/// A module's rank.
fn rank(module: &ModuleTensors) -> f64 {
    module.a.shape.first().copied().unwrap_or(0) as f64
}

/// The alpha that most modules have; 1 where that is 0, which readers take for none.
fn alpha(adapter: &AdapterTensors) -> f64 {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for alpha in adapter.modules.values().map(|module| module.scaling * rank(module)) {
        match counts.iter_mut().find(|(known, _)| is_near(*known, alpha)) {
            Some((_, count)) => *count += 1,
            None => counts.push((alpha, 1)),
        }
    }
    let most = counts.iter().fold((1.0, 0), |best, next| if next.1 > best.1 { *next } else { best });
    if most.0 == 0.0 { 1.0 } else { most.0 }
}

/// What a module's B is multiplied by, so that `alpha / r` scales it as it should be.
fn rest(module: &ModuleTensors, alpha: f64) -> f64 {
    let own = module.scaling * rank(module);
    if is_near(own, alpha) { 1.0 } else { own / alpha }
}

/// Whether two alphas are the same but for rounding.
fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::peft::PeftAdapter;
    use crate::adapter::peft::testing::{golden, shapes};
    use crate::weights::gguf::Gguf;

    fn adapter(name: &str) -> AdapterTensors {
        PeftAdapter::read(&golden(name), &shapes()).unwrap().tensors
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn a_reader_scales_every_module_as_peft_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        for name in ["text-lora", "text-rslora", "text-patterns", "text-layers"] {
            let adapter = adapter(name);
            let exported = write_lora(&path, "gemma3", "a", &adapter, |_| true).unwrap();
            let gguf = Gguf::open(&path).unwrap();
            let alpha = gguf.metadata().f64("adapter.lora.alpha").unwrap();
            assert_eq!(alpha as f32, exported.alpha as f32);
            assert_eq!(gguf.metadata().str("general.type"), Some("adapter"));
            assert_eq!(gguf.header().tensors.len(), 2 * adapter.modules.len());
            for (id, module) in &adapter.modules {
                let values = |part: &str| {
                    let entry = gguf.entry(&format!("{}.{part}", id.gguf())).unwrap();
                    (entry.shape.clone(), floats(gguf.bytes(entry)))
                };
                let ((a_shape, a), (b_shape, b)) = (values("lora_a"), values("lora_b"));
                assert_eq!((a_shape, a), (module.a.shape.clone(), module.a.to_f32()), "{name} {id}");
                assert_eq!(b_shape, module.b.shape);
                let theirs = alpha / rank(module);
                for (b, ours) in b.iter().zip(module.b.to_f32()) {
                    let off = f64::from(*b) * theirs - f64::from(ours) * module.scaling;
                    assert!(off.abs() <= 1e-6 * (f64::from(ours) * module.scaling).abs(), "{name} {id}");
                }
            }
        }
        let rslora = adapter("text-rslora");
        let module = rslora.modules.values().next().unwrap();
        assert!((alpha(&rslora) - module.scaling * rank(module)).abs() < 1e-9);
    }

    #[test]
    fn an_alpha_of_zero_is_not_left_to_readers() {
        let mut zero = adapter("text-lora");
        zero.modules.values_mut().for_each(|module| module.scaling = 0.0);
        assert_eq!(alpha(&zero), 1.0);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        write_lora(&path, "gemma3", "a", &zero, |_| true).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let bs = gguf.header().tensors.iter().filter(|entry| entry.name.ends_with("lora_b"));
        assert!(bs.into_iter().all(|entry| floats(gguf.bytes(entry)).iter().all(|x| *x == 0.0)));
    }

    #[test]
    fn what_the_file_cannot_say_is_refused() {
        let path = Path::new("/nowhere/a.gguf");
        let dora = write_lora(path, "gemma3", "a", &adapter("text-dora"), |_| true).unwrap_err();
        assert_eq!(dora.exit_code(), 2);
        assert!(dora.to_string().contains("DoRA") && dora.to_string().contains("export gguf --adapter"), "{dora}");
        let q = |id: &TensorId| matches!(id, TensorId::Projection(_, Projection::Q));
        let absent = write_lora(path, "gemma3", "a", &adapter("text-lora"), q).unwrap_err().to_string();
        assert!(
            absent.contains("does not hold what the adapter changes: 12 modules: `self_attn.k_proj` in 2 layers, "),
            "{absent}"
        );
        assert_eq!(absent.matches("hint:").count(), 1, "{absent}");
    }
}
