//! What a GGUF file of a model holds, and what each tensor is made of.

use super::mixture::{FileType, Stored, Traits, type_of};
use crate::adapter::peft::AdapterTensors;
use crate::error::{Error, Kind, Result};
use crate::quant::QuantType;
use crate::weights::Source;
use crate::weights::gguf::{Demands, GgufTensor};
use crate::weights::names::TensorId;
use std::collections::BTreeMap;

/// How many tensors could not have a type, by that type and the one they have.
pub type Instead = BTreeMap<(&'static str, &'static str), usize>;

/// The types of some matrices.
pub type Types = BTreeMap<TensorId, QuantType>;

/// A tensor of the file.
pub(super) struct Planned {
    /// What it is of the model; of a list its first.
    pub id: TensorId,
    /// What it is in the file.
    pub tensor: GgufTensor,
    /// What its bytes are, one after the other.
    pub parts: Vec<Part>,
}

/// A part of a tensor's bytes.
pub(super) enum Part {
    /// A tensor of the model, of this shape.
    Stored(TensorId, Vec<usize>),
    /// A tensor of this shape, full of one number.
    Constant(Vec<usize>, f32),
    /// So many rows more of a table, each as its first.
    Rows(usize),
}

/// All tensors of a file.
pub(super) struct Plan {
    /// They, layer after layer.
    pub tensors: Vec<Planned>,
    /// Which of them have another type than the mixture asks for.
    pub instead: Instead,
    /// How many are full of one number, because the model has none.
    pub constants: usize,
}

impl Plan {
    /// Plans the file.
    ///
    /// # Errors
    /// An adapter that changes what the file does not hold.
    pub fn new(
        source: &Source,
        adapter: Option<&AdapterTensors>,
        file_type: FileType,
        types: Option<&Types>,
        traits: &Traits,
        demands: &Demands,
    ) -> Result<Self> {
        let mut found: BTreeMap<TensorId, Part> = BTreeMap::new();
        for info in source.tensors() {
            // Towers lie in a file of their own; a head that is the embedding is not written twice, one that judges not at all.
            let id =
                source.id(&info.name).filter(|id| !(traits.tied && *id == TensorId::LmHead || *id == TensorId::Score));
            if let Some(id) = id {
                found.insert(id, Part::Stored(id, info.shape));
            }
        }
        let mut constants = 0;
        for constant in &demands.constants {
            if !(constant.gives_way && source.shape(&constant.id) == Some(&constant.shape)) {
                constants += 1;
                found.insert(constant.id, Part::Constant(constant.shape.clone(), constant.value));
            }
        }
        let mut tensors: Vec<Planned> = Vec::new();
        let mut instead = Instead::new();
        for (id, part) in found {
            let shape = match &part {
                Part::Stored(_, shape) | Part::Constant(shape, _) => shape.clone(),
                Part::Rows(_) => continue,
            };
            // A list is in order: one that follows its first joins it.
            let name = id.stack().map_or_else(|| id.gguf(), |(list, _)| list);
            if let Some(list) = tensors.last_mut().filter(|last| last.tensor.name == name) {
                list.tensor.shape[0] += 1;
                list.parts.push(part);
                continue;
            }
            let (of, wanted) = match types.and_then(|types| types.get(&id)) {
                Some(of) => (*of, None),
                None => type_of(&id, &shape, Stored(floats(source, &id)), file_type, traits),
            };
            if let Some(wanted) = wanted {
                *instead.entry((wanted.name(), of.name())).or_default() += 1;
            }
            let shape = if id.stack().is_some() { [vec![1], shape].concat() } else { shape };
            tensors.push(Planned { id, tensor: GgufTensor { name, of, shape }, parts: vec![part] });
        }
        for Planned { id, tensor, parts } in &mut tensors {
            let rows = demands.rows.iter().find(|(table, _)| table == id).map_or(0, |(_, rows)| *rows);
            let more = rows.saturating_sub(tensor.shape[0]);
            if more > 0 && tensor.shape[0] > 0 {
                parts.push(Part::Rows(more));
                tensor.shape[0] += more;
            }
        }
        tensors.sort_by_key(|planned| (place(&planned.id), planned.id));
        let plan = Plan { tensors, instead, constants };
        plan.check(adapter)?;
        Ok(plan)
    }

    /// Refuses an adapter that changes what is not in the file.
    fn check(&self, adapter: Option<&AdapterTensors>) -> Result<()> {
        let parts = || self.tensors.iter().flat_map(|planned| &planned.parts);
        let holds = |id: &TensorId| parts().any(|part| matches!(part, Part::Stored(stored, _) if stored == id));
        let changed = adapter.iter().flat_map(|adapter| adapter.changed());
        let Some(absent) = TensorId::in_words(changed.filter(|id| !holds(id))) else { return Ok(()) };
        let what = format!("the GGUF file of a language model does not hold what the adapter changes: {absent}");
        Err(Error::new(Kind::Adapter, what)
            .hint("`gemma-tune merge` writes a Hugging Face folder with everything in it"))
    }
}

/// The floats that a tensor is stored as, or read as where it is stored otherwise.
fn floats(source: &Source, id: &TensorId) -> QuantType {
    match source.stored_dtype(id).as_deref() {
        Some("F32") | None => QuantType::F32,
        Some("F16") => QuantType::F16,
        Some(_) => QuantType::BF16,
    }
}

/// Layer after layer between the embedding and the head.
fn place(id: &TensorId) -> usize {
    match id {
        TensorId::EmbedTokens => 0,
        TensorId::EmbedTokensPerLayer
        | TensorId::PerLayerModelProjection
        | TensorId::PerLayerProjectionNorm
        | TensorId::AltupProjection(_) => 1,
        TensorId::Projection(layer, _) | TensorId::LayerNorm(layer, _) => layer + 2,
        _ => usize::MAX,
    }
}
