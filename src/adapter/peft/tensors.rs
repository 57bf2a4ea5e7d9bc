//! The tensors of an adapter, by the linear layer that they adapt.

use crate::error::{Error, Kind, Result};
use crate::progress::counted;
use crate::weights::HostTensor;
use crate::weights::names::{LORA_A, LORA_B, LORA_MAGNITUDE, TensorId, peft_key, peft_whole_key};
use crate::weights::safetensors_file::{FORMAT_PT, TensorSpec, write_streamed};
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

    /// A bound on what the module adds to any number of its weight: `|s| r max|A| max|B|`.
    pub fn reach(&self) -> f64 {
        let r = self.a.shape.first().copied().unwrap_or(0) as f64;
        let (a, b) = (f64::from(self.a.largest()), f64::from(self.b.largest()));
        // A scale that is not finite is as much of a fault beside zeros.
        if self.scaling.is_finite() { self.scaling.abs() * r * a * b } else { f64::INFINITY }
    }

    /// Whether it leaves its weight as it is, whatever the input: B is zero, and no magnitude is learnt.
    pub fn is_zero(&self) -> bool {
        self.magnitude.is_none() && (self.scaling == 0.0 || self.b.largest() == 0.0)
    }
}

/// All tensors of an adapter, by the weight that they go beside, or in whose place they stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdapterTensors {
    /// One entry per adapted linear layer.
    pub modules: BTreeMap<TensorId, ModuleTensors>,
    /// Those that are trained whole, in the model's shapes.
    pub whole: BTreeMap<TensorId, HostTensor>,
}

impl AdapterTensors {
    /// Trained numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        let of_modules = self.modules.values().flat_map(ModuleTensors::parts).map(|(_, tensor)| tensor);
        of_modules.chain(self.whole.values()).map(|tensor| tensor.data.len() as u64).sum()
    }

    /// The weights that are others with them.
    pub fn changed(&self) -> impl Iterator<Item = &TensorId> {
        self.modules.keys().chain(self.whole.keys())
    }

    /// Whether the weight of this name is another one with them.
    pub fn changes(&self, id: &TensorId) -> bool {
        self.modules.contains_key(id) || self.whole.contains_key(id)
    }

    /// Whether some of them are inside a tower, which then looks and listens in the graph.
    pub fn are_on_towers(&self) -> bool {
        self.modules.keys().any(TensorId::is_of_tower)
    }

    /// Those of some weights alone.
    pub fn only(&self, keep: impl Fn(&TensorId) -> bool) -> Self {
        let modules = self.modules.iter().filter(|(id, _)| keep(id)).map(|(id, module)| (*id, module.clone()));
        let whole = self.whole.iter().filter(|(id, _)| keep(id)).map(|(id, tensor)| (*id, tensor.clone()));
        AdapterTensors { modules: modules.collect(), whole: whole.collect() }
    }

    /// Whether they leave a model as it is, whatever the input; not known of what stands in the place of its tensors.
    pub fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.modules.values().all(ModuleTensors::is_zero)
    }

    /// Makes sure that a model has all that they change.
    ///
    /// # Errors
    /// What `holds` does not know.
    pub fn changes_only(&self, holds: impl Fn(&TensorId) -> bool) -> Result<()> {
        let Some(absent) = TensorId::in_words(self.changed().filter(|id| !holds(id))) else { return Ok(()) };
        Err(Error::new(Kind::Adapter, format!("the model does not have what the adapter changes: {absent}"))
            .hint("the adapter was trained on another model"))
    }

    /// Writes `adapter_model.safetensors` into `dir` with PEFT's names; `multimodal` chooses the spelling.
    ///
    /// # Errors
    /// Tensors that hold a number that is not finite or far too large, counted and the first of them named; a full disk.
    pub fn write(&self, dir: &Path, multimodal: bool) -> Result<()> {
        let mut named: BTreeMap<String, &HostTensor> = BTreeMap::new();
        for (weight, module) in &self.modules {
            named.extend(module.parts().map(|(part, t)| (peft_key(multimodal, weight, part), t)));
        }
        named.extend(self.whole.iter().map(|(id, tensor)| (peft_whole_key(id), tensor)));
        let diverged: Vec<String> = named.iter().filter_map(|(name, tensor)| unusable(name, tensor)).collect();
        if let Some(first) = diverged.first() {
            // One cause is one problem, however many tensors show it.
            let what = match diverged.len() {
                1 => first.clone(),
                many => {
                    format!("{many} of {} hold numbers that are no weights; {first}", counted(named.len(), "tensor"))
                }
            };
            return Err(Error::new(Kind::NonFinite, what)
                .at_path(dir)
                .hint("training diverged; continue from an older checkpoint with a lower `learning_rate`"));
        }
        let specs: Vec<TensorSpec> = named.iter().map(|(name, tensor)| TensorSpec::of(name, tensor)).collect();
        write_streamed(&dir.join(TENSORS_FILE), &specs, FORMAT_PT, |spec| match named.get(&spec.name) {
            Some(tensor) => Ok((*tensor).clone()),
            None => Err(Error::new(Kind::Run, format!("no tensor `{}` to write", spec.name))),
        })
    }
}

/// Says which number of a tensor is no weight, not finite or far too large, if one is.
pub(super) fn unusable(name: &str, tensor: &HostTensor) -> Option<String> {
    let found = tensor.first_unusable()?;
    let at = found.element;
    Some(match found.value.is_finite() {
        false => format!("tensor `{name}` holds a number that is not finite, at position {at}"),
        true => format!("tensor `{name}` holds {:e}, which is no weight, at position {at}", found.value),
    })
}
