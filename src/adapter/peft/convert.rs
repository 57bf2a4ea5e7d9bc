//! An adapter between its two forms: PEFT's tensors on the host, and low-rank paths beside a model.

use super::{AdapterConfig, AdapterTensors, ModuleTensors, PeftAdapter};
use crate::adapter::{Adapter, LoraModule, TrainedTensor};
use crate::error::Result;
use crate::model::{LanguageModel, Places, WholeTensor};
use crate::weights::{HostData, HostTensor};
use burn::tensor::{Device, Tensor, TensorData};
use std::path::Path;

/// Reads an adapter folder for a model.
///
/// # Errors
/// When it cannot be read or does not fit the model.
pub fn read(folder: &Path, model: &dyn LanguageModel) -> Result<Adapter> {
    let read = PeftAdapter::read(folder, &model.config().places())?;
    Ok(to_device(&read.tensors, model))
}

/// Whether an adapter folder can be read and fits a model that is not loaded yet, and has these places.
///
/// # Errors
/// As [`read`].
pub fn check(folder: &Path, places: &Places) -> Result<()> {
    PeftAdapter::read(folder, places).map(|_| ())
}

/// An adapter's tensors where the model computes.
pub fn to_device(tensors: &AdapterTensors, model: &dyn LanguageModel) -> Adapter {
    let modules = model.config().all_sites().into_iter().filter_map(|site| {
        let tensors = tensors.modules.get(&site.weight)?;
        Some(LoraModule {
            site,
            a: matrix(&tensors.a, model.device()),
            b: matrix(&tensors.b, model.device()),
            magnitude: tensors.magnitude.as_ref().map(|m| matrix(m, model.device())),
            scaling: tensors.scaling,
            subtracted: None,
        })
    });
    let whole = model.config().places_of_judge().whole.into_iter().filter_map(|tensor| {
        let value = matrix(tensors.whole.get(&tensor.id)?, model.device());
        Some(TrainedTensor { tensor, value })
    });
    Adapter::new(modules.collect()).with_whole(whole.collect())
}

/// What has this tensor of a model beside the others, and nothing else.
pub fn of_tensor(tensor: WholeTensor, stored: &HostTensor, model: &dyn LanguageModel) -> Adapter {
    let value = matrix(stored, model.device());
    Adapter::new(Vec::new()).with_whole(vec![TrainedTensor { tensor, value }])
}

fn matrix(tensor: &HostTensor, device: &Device) -> Tensor<2> {
    let shape = match tensor.shape[..] {
        [rows, columns] => [rows, columns],
        _ => [1, tensor.shape.iter().product()],
    };
    Tensor::from_data(TensorData::new(tensor.to_f32(), shape), device)
}

/// A matrix of one row as the vector that it is on disk.
fn flat(tensor: HostTensor) -> HostTensor {
    HostTensor { shape: vec![tensor.shape.iter().product()], ..tensor }
}

/// An adapter's tensors in PEFT's form. PiSSA's subtracted part becomes part of the adapter (rank `2r`), so that it
/// fits the original base; the settings change with it.
pub fn from_adapter(adapter: &Adapter, config: &AdapterConfig) -> (AdapterTensors, AdapterConfig) {
    let host = |tensor: Tensor<2>| {
        let shape = tensor.dims().to_vec();
        HostTensor { shape, data: HostData::F32(tensor.into_data().iter::<f32>().collect()) }
    };
    let mut tensors = AdapterTensors::default();
    for module in adapter.modules() {
        let (a, b) = match &module.subtracted {
            None => (module.a.clone(), module.b.clone()),
            Some((a0, b0)) => (
                Tensor::cat(vec![module.a.clone(), a0.clone()], 0),
                Tensor::cat(vec![module.b.clone(), b0.clone().neg()], 1),
            ),
        };
        let magnitude = module.magnitude.clone().map(|m| flat(host(m)));
        let entry = ModuleTensors { a: host(a), b: host(b), magnitude, scaling: module.scaling };
        tensors.modules.insert(module.site.weight, entry);
    }
    for TrainedTensor { tensor, value } in adapter.whole() {
        tensors.whole.insert(tensor.id, HostTensor { shape: tensor.shape(), ..host(value.clone()) });
    }
    let mut config = config.clone();
    if adapter.modules().iter().any(|m| m.subtracted.is_some()) {
        // The scale stays what it was: alpha / r, or alpha / sqrt(r), with twice the rank.
        config.lora_alpha *= if config.use_rslora { std::f64::consts::SQRT_2 } else { 2.0 };
        config.r *= 2;
    }
    (tensors, config)
}
