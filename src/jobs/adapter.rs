//! Adapters between their forms: recipe, PEFT folder, tensors in training.

mod continued;

use crate::adapter::init::{self, LoraOptions};
use crate::adapter::peft::{AdapterConfig, AdapterTensors, ModuleShape, ModuleTensors, PeftAdapter};
use crate::adapter::target::{self, ExcludeModules, Selection};
use crate::adapter::{Adapter, Init, LoraModule};
use crate::error::{Error, Kind, Place, Result};
use crate::model::gemma3::{Gemma3, Site, TextConfig};
use crate::random::Rng;
use crate::recipe;
use crate::weights::names::Projection;
use crate::weights::{HostData, HostTensor};
use burn::tensor::{Device, Tensor, TensorData};
use std::path::Path;

/// What a run trains: its settings in PEFT's words, and the projections that it adapts.
#[derive(Debug, Clone)]
pub struct AdapterPlan {
    /// Settings, as `adapter_config.json` will say them.
    pub config: AdapterConfig,
    /// The projections.
    pub sites: Vec<Site>,
    /// What matched, for the user.
    pub selection: Selection,
    /// How A and B of a new adapter start.
    pub init: Init,
    /// The adapter that is continued.
    continued: Option<AdapterTensors>,
}

impl AdapterPlan {
    /// Plans the adapter of a recipe for a model, reading the folder that it continues where it names one.
    ///
    /// # Errors
    /// Targets that match nothing; an adapter to continue that cannot be read, does not fit, or contradicts the recipe.
    pub fn new(keys: &recipe::Adapter, model: &TextConfig) -> Result<Self> {
        let all = sites(model);
        let paths: Vec<String> = all.iter().map(|site| module_path(site, model.multimodal)).collect();
        if let Some(folder) = &keys.init_from {
            return continued::plan(keys, folder, model, all, &paths);
        }
        let mut config = from_recipe(keys);
        let init = match keys.init_lora_weights {
            recipe::InitLoraWeights::Kaiming => Init::Kaiming,
            recipe::InitLoraWeights::Gaussian => Init::Gaussian,
            recipe::InitLoraWeights::Pissa => Init::Pissa,
        };
        if init == Init::Pissa && config.use_dora {
            return Err(Error::new(Kind::Recipe, "`init_lora_weights: pissa` and `use_dora` cannot be combined")
                .at(Place::Key("adapter.init_lora_weights".into()))
                .hint("PiSSA moves the principal part of each weight into the adapter; choose one of the two"));
        }
        let selection = target::select(&paths, &config.target_modules, &config.exclude_modules)?;
        // `q_proj` also names layers of the vision tower, where PEFT would look for tensors that no run here trains; and
        // PEFT warns of exclusions that leave out nothing.
        if model.multimodal || !selection.unused_exclusions.is_empty() {
            config.target_modules = target::exact_targets(&paths, &selection);
            config.exclude_modules = ExcludeModules::default();
        }
        let sites = selection.indices.iter().map(|&index| all[index]).collect();
        Ok(AdapterPlan { config, sites, selection, init, continued: None })
    }

    /// Trainable values.
    pub fn trainable(&self) -> u64 {
        if let Some(tensors) = &self.continued {
            return tensors.parameters();
        }
        let r = self.config.r as u64;
        let magnitude = |out: u64| if self.config.use_dora { out } else { 0 };
        let values = |site: &Site| {
            let (input, out) = (site.in_features as u64, site.out_features as u64);
            r * (input + out) + magnitude(out)
        };
        self.sites.iter().map(values).sum()
    }

    /// Creates the adapter, or takes the one that is continued.
    pub fn create(&self, model: &Gemma3, rng: Rng) -> Adapter {
        if let Some(tensors) = &self.continued {
            return on_device(tensors, model);
        }
        let options = LoraOptions {
            r: self.config.r,
            lora_alpha: self.config.lora_alpha,
            use_rslora: self.config.use_rslora,
            use_dora: self.config.use_dora,
            init: self.init,
        };
        init::create(model, &self.sites, options, rng)
    }
}

fn from_recipe(keys: &recipe::Adapter) -> AdapterConfig {
    AdapterConfig {
        lora_dropout: keys.lora_dropout,
        exclude_modules: ExcludeModules::Names(keys.exclude_modules.clone()),
        use_rslora: keys.use_rslora,
        use_dora: keys.use_dora,
        init_lora_weights: match keys.init_lora_weights {
            recipe::InitLoraWeights::Gaussian => Some("gaussian".into()),
            recipe::InitLoraWeights::Kaiming | recipe::InitLoraWeights::Pissa => None,
        },
        ..AdapterConfig::new(keys.r, keys.lora_alpha, keys.target_modules.clone())
    }
}

/// The projections of a model, from its configuration alone.
pub fn sites(config: &TextConfig) -> Vec<Site> {
    let &TextConfig { hidden_size: d, intermediate_size: f, head_dim: e, .. } = config;
    let (q, kv) = (config.num_attention_heads * e, config.num_key_value_heads * e);
    let shape = |projection| match projection {
        Projection::Q => (d, q),
        Projection::K | Projection::V => (d, kv),
        Projection::O => (q, d),
        Projection::Gate | Projection::Up => (d, f),
        Projection::Down => (f, d),
    };
    (0..config.num_hidden_layers)
        .flat_map(|layer| Projection::ALL.map(|projection| (layer, projection)))
        .map(|(layer, projection)| {
            let (in_features, out_features) = shape(projection);
            Site { index: Gemma3::site_index(layer, projection), layer, projection, in_features, out_features }
        })
        .collect()
}

/// The path by which PEFT knows a projection.
fn module_path(site: &Site, multimodal: bool) -> String {
    let prefix = if multimodal { "model.language_model" } else { "model" };
    format!("{prefix}.layers.{}.{}", site.layer, site.projection.hf())
}

/// Reads an adapter folder for a model.
///
/// # Errors
/// When it cannot be read or does not fit the model.
pub fn read(folder: &Path, model: &Gemma3) -> Result<Adapter> {
    let read = PeftAdapter::read(folder, &module_shapes(&sites(&model.config)))?;
    Ok(on_device(&read.tensors, model))
}

/// Whether an adapter folder can be read and fits a model that is not loaded yet.
///
/// # Errors
/// As [`read`].
pub fn check(folder: &Path, model: &TextConfig) -> Result<()> {
    PeftAdapter::read(folder, &module_shapes(&sites(model))).map(|_| ())
}

/// An adapter's tensors where the model computes.
fn on_device(tensors: &AdapterTensors, model: &Gemma3) -> Adapter {
    let modules = sites(&model.config).into_iter().filter_map(|site| {
        let tensors = tensors.modules.get(&(site.layer, site.projection))?;
        Some(LoraModule {
            site,
            a: matrix(&tensors.a, &model.device),
            b: matrix(&tensors.b, &model.device),
            magnitude: tensors.magnitude.as_ref().map(|m| matrix(m, &model.device)),
            scaling: tensors.scaling,
            subtracted: None,
        })
    });
    Adapter::new(modules.collect())
}

/// What PEFT's reader needs to know of the projections.
pub fn module_shapes(sites: &[Site]) -> Vec<ModuleShape> {
    let shape = |site: &Site| ModuleShape {
        layer: site.layer,
        projection: site.projection,
        in_features: site.in_features,
        out_features: site.out_features,
    };
    sites.iter().map(shape).collect()
}

fn matrix(tensor: &HostTensor, device: &Device) -> Tensor<2> {
    let shape = match tensor.shape[..] {
        [rows, columns] => [rows, columns],
        _ => [1, tensor.shape.iter().product()],
    };
    Tensor::from_data(TensorData::new(tensor.to_f32(), shape), device)
}

/// An adapter's tensors in PEFT's form. PiSSA's subtracted part becomes part of the adapter (rank `2r`), so that it fits
/// the original base; the settings change with it.
pub fn to_peft(adapter: &Adapter, config: &AdapterConfig) -> (AdapterTensors, AdapterConfig) {
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
        let magnitude = module.magnitude.clone().map(|m| {
            let values = host(m);
            HostTensor { shape: vec![values.shape.iter().product()], ..values }
        });
        let entry = ModuleTensors { a: host(a), b: host(b), magnitude, scaling: module.scaling };
        tensors.modules.insert((module.site.layer, module.site.projection), entry);
    }
    let mut config = config.clone();
    if adapter.modules().iter().any(|m| m.subtracted.is_some()) {
        // The scale stays what it was: alpha / r, or alpha / sqrt(r), with twice the rank.
        config.lora_alpha *= if config.use_rslora { std::f64::consts::SQRT_2 } else { 2.0 };
        config.r *= 2;
    }
    (tensors, config)
}

#[cfg(test)]
mod tests;
