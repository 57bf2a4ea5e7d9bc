//! The tensors of an adapter, by the linear layer that they adapt.

use crate::error::{Error, Kind, Result};
use crate::weights::names::{LORA_A, LORA_B, LORA_MAGNITUDE, Projection, peft_key};
use crate::weights::safetensors_file::{FORMAT_PT, TensorSpec, write_streamed};
use crate::weights::{HostData, HostTensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the file in an adapter folder.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";

/// The adapter of one linear layer with weight `[out, in]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleTensors {
    /// `[r, in]`
    pub a: HostTensor,
    /// `[out, r]`
    pub b: HostTensor,
    /// DoRA's magnitudes, `[out]`.
    pub magnitude: Option<HostTensor>,
    /// The factor `s` of `s B A`. Not stored in the file: it follows from the configuration.
    pub scaling: f64,
}

impl ModuleTensors {
    /// The tensors there are, each with PEFT's name for it.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &HostTensor)> {
        let magnitude = self.magnitude.as_ref().map(|tensor| (LORA_MAGNITUDE, tensor));
        [(LORA_A, &self.a), (LORA_B, &self.b)].into_iter().chain(magnitude)
    }
}

/// All tensors of an adapter, by layer and projection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdapterTensors {
    /// One entry per adapted linear layer.
    pub modules: BTreeMap<(usize, Projection), ModuleTensors>,
}

impl AdapterTensors {
    /// Trained numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.modules.values().flat_map(ModuleTensors::parts).map(|(_, tensor)| tensor.data.len() as u64).sum()
    }

    /// Writes `adapter_model.safetensors` into `dir` with PEFT's names; `multimodal` chooses the spelling.
    ///
    /// # Errors
    /// Every tensor that holds a number that is not finite; a full disk.
    pub fn write(&self, dir: &Path, multimodal: bool) -> Result<()> {
        let mut named: BTreeMap<String, &HostTensor> = BTreeMap::new();
        for ((layer, projection), module) in &self.modules {
            named.extend(module.parts().map(|(part, t)| (peft_key(multimodal, *layer, *projection, part), t)));
        }
        let diverged = named.iter().filter_map(|(name, tensor)| not_finite(name, tensor)).map(|what| {
            Error::new(Kind::NonFinite, what)
                .at_path(dir)
                .hint("training diverged; continue from an older checkpoint with a lower `learning_rate`")
        });
        if let Some(error) = Error::many(diverged.collect()) {
            return Err(error);
        }
        let specs: Vec<TensorSpec> = named.iter().map(|(name, tensor)| TensorSpec::of(name, tensor)).collect();
        write_streamed(&dir.join(TENSORS_FILE), &specs, FORMAT_PT, |spec| match named.get(&spec.name) {
            Some(tensor) => Ok((*tensor).clone()),
            None => Err(Error::new(Kind::Run, format!("no tensor `{}` to write", spec.name))),
        })
    }
}

/// Says which number of a tensor is not finite, if one is.
pub(super) fn not_finite(name: &str, tensor: &HostTensor) -> Option<String> {
    let at = match &tensor.data {
        HostData::F32(values) => values.iter().position(|x| !x.is_finite()),
        HostData::BF16(values) => values.iter().position(|x| !x.is_finite()),
        HostData::F16(values) => values.iter().position(|x| !x.is_finite()),
    }?;
    Some(format!("tensor `{name}` holds a number that is not finite, at position {at}"))
}
