//! Adapters between their forms: recipe, PEFT folder, tensors in training.

use crate::adapter::init::{self, LoraOptions};
use crate::adapter::peft::{self, AdapterConfig, AdapterTensors, ModuleShape, ModuleTensors};
use crate::adapter::target::{self, ExcludeModules, Selection, TargetModules};
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
    /// How A and B start.
    pub init: Init,
}

impl AdapterPlan {
    /// Plans the adapter of a recipe for a model, reading the folder that it continues from where it names one.
    ///
    /// # Errors
    /// Targets that match nothing; keys that contradict the adapter that is continued.
    pub fn new(keys: &recipe::Adapter, model: &TextConfig) -> Result<Self> {
        let all = sites(model);
        let paths: Vec<String> = all.iter().map(|site| module_path(site, model.multimodal)).collect();
        let mut config = match &keys.init_from {
            Some(folder) => continued(keys, folder, &paths)?,
            None => from_recipe(keys),
        };
        let init = match keys.init_lora_weights {
            recipe::InitLoraWeights::Kaiming => Init::Kaiming,
            recipe::InitLoraWeights::Gaussian => Init::Gaussian,
            recipe::InitLoraWeights::Pissa => Init::Pissa,
        };
        if init == Init::Pissa && config.use_dora {
            return Err(Error::new(Kind::Recipe, "`init_lora_weights: pissa` and `use_dora` cannot be combined")
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
        Ok(AdapterPlan { config, sites, selection, init })
    }

    /// Trainable values.
    pub fn trainable(&self) -> u64 {
        let r = self.config.r as u64;
        let magnitude = |out: u64| if self.config.use_dora { out } else { 0 };
        let values = |site: &Site| {
            let (input, out) = (site.in_features as u64, site.out_features as u64);
            r * (input + out) + magnitude(out)
        };
        self.sites.iter().map(values).sum()
    }

    /// Creates the adapter, or reads the one that is continued.
    ///
    /// # Errors
    /// When the adapter that is continued cannot be read or does not fit the model.
    pub fn create(&self, model: &Gemma3, init_from: Option<&Path>, rng: Rng) -> Result<Adapter> {
        match init_from {
            Some(folder) => read(folder, model),
            None => {
                let options = LoraOptions {
                    r: self.config.r,
                    lora_alpha: self.config.lora_alpha,
                    use_rslora: self.config.use_rslora,
                    use_dora: self.config.use_dora,
                    init: self.init,
                };
                Ok(init::create(model, &self.sites, options, rng))
            }
        }
    }
}

fn from_recipe(keys: &recipe::Adapter) -> AdapterConfig {
    let target_modules = match &keys.target_modules {
        recipe::TargetModules::Names(names) => TargetModules::Names(names.clone()),
        recipe::TargetModules::AllLinear => TargetModules::AllLinear,
        recipe::TargetModules::Regex(pattern) => TargetModules::Regex(pattern.clone()),
    };
    AdapterConfig {
        lora_dropout: keys.lora_dropout,
        exclude_modules: ExcludeModules::Names(keys.exclude_modules.clone()),
        use_rslora: keys.use_rslora,
        use_dora: keys.use_dora,
        init_lora_weights: match keys.init_lora_weights {
            recipe::InitLoraWeights::Gaussian => Some("gaussian".into()),
            recipe::InitLoraWeights::Kaiming | recipe::InitLoraWeights::Pissa => None,
        },
        ..AdapterConfig::new(keys.r, keys.lora_alpha, target_modules)
    }
}

/// The configuration of the adapter that is continued; keys given in the recipe must agree with it.
fn continued(keys: &recipe::Adapter, folder: &Path, paths: &[String]) -> Result<AdapterConfig> {
    let (config, _) = AdapterConfig::read(folder)?;
    let wanted = from_recipe(keys);
    let given = |key: &str| keys.given.contains(key);
    let exclude = if given("exclude_modules") { &wanted.exclude_modules } else { &config.exclude_modules };
    let pairs = [
        ("r", wanted.r == config.r, config.r.to_string()),
        ("lora_alpha", wanted.lora_alpha == config.lora_alpha, config.lora_alpha.to_string()),
        ("use_rslora", wanted.use_rslora == config.use_rslora, config.use_rslora.to_string()),
        ("use_dora", wanted.use_dora == config.use_dora, config.use_dora.to_string()),
        (
            "target_modules",
            same_modules(paths, (&wanted.target_modules, exclude), &config)?,
            format!("{:?}", config.target_modules),
        ),
        (
            "exclude_modules",
            same_modules(paths, (&config.target_modules, exclude), &config)?,
            format!("{:?}", config.exclude_modules),
        ),
    ];
    let contradictions = pairs.into_iter().filter(|(key, agrees, _)| given(key) && !agrees);
    let problems = contradictions.map(|(key, _, found)| {
        Error::new(Kind::Recipe, format!("`adapter.{key}` contradicts the adapter that `init_from` continues"))
            .at(Place::Path(folder.join(peft::CONFIG_FILE)))
            .hint(format!("it says {found}; leave the key out to take it over"))
    });
    match Error::many(problems.collect()) {
        Some(error) => Err(error),
        None => Ok(AdapterConfig { lora_dropout: wanted.lora_dropout, ..config }),
    }
}

/// Whether targets and exclusions of a recipe choose what an adapter's own choose, however each is written.
fn same_modules(
    paths: &[String],
    (target, exclude): (&TargetModules, &ExcludeModules),
    config: &AdapterConfig,
) -> Result<bool> {
    let wanted = target::matcher(target, exclude)?;
    let found = target::matcher(&config.target_modules, &config.exclude_modules)?;
    Ok(paths.iter().all(|path| wanted(path) == found(path)))
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
    let all = sites(&model.config);
    let read = peft::PeftAdapter::read(folder, &module_shapes(&all))?;
    let modules = all.into_iter().filter_map(|site| {
        let tensors = read.tensors.modules.get(&(site.layer, site.projection))?;
        Some(LoraModule {
            site,
            a: matrix(&tensors.a, &model.device),
            b: matrix(&tensors.b, &model.device),
            magnitude: tensors.magnitude.as_ref().map(|m| matrix(m, &model.device)),
            scaling: tensors.scaling,
            subtracted: None,
        })
    });
    Ok(Adapter::new(modules.collect()))
}

/// Whether an adapter folder can be read and fits a model that is not loaded yet.
///
/// # Errors
/// As [`read`].
pub fn check(folder: &Path, model: &TextConfig) -> Result<()> {
    peft::PeftAdapter::read(folder, &module_shapes(&sites(model))).map(|_| ())
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
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn model(size: &str) -> TextConfig {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/models/gemma-3-{size}.json"));
        TextConfig::from_hf_json(&std::fs::read_to_string(&path).unwrap(), &path).unwrap().0
    }

    fn keys(targets: recipe::TargetModules) -> recipe::Adapter {
        recipe::Adapter {
            r: 4,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: targets,
            exclude_modules: Vec::new(),
            use_rslora: false,
            use_dora: false,
            init_lora_weights: recipe::InitLoraWeights::Kaiming,
            init_from: None,
            given: BTreeSet::new(),
        }
    }

    fn names(names: &[&str]) -> recipe::TargetModules {
        recipe::TargetModules::Names(names.iter().map(|&name| name.into()).collect())
    }

    #[test]
    fn a_multimodal_models_vision_tower_is_never_targeted() {
        let layers = r"model\.language_model\.layers\.\d+\.(self_attn\.q_proj|self_attn\.v_proj)";
        let expected = TargetModules::Regex(layers.into());
        for targets in [names(&["q_proj", "v_proj"]), recipe::TargetModules::Regex(r".*\.[qv]_proj".into())] {
            let plan = AdapterPlan::new(&keys(targets), &model("4b")).unwrap();
            assert_eq!(plan.config.target_modules, expected);
            assert_eq!(plan.sites.len(), 68);
        }
        let plan = AdapterPlan::new(&keys(names(&["q_proj", "v_proj"])), &model("270m")).unwrap();
        assert_eq!(plan.config.target_modules, TargetModules::Names(vec!["q_proj".into(), "v_proj".into()]));
    }

    #[test]
    fn continuing_compares_the_modules_that_are_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let plan = AdapterPlan::new(&keys(names(&["q_proj", "v_proj"])), &model("4b")).unwrap();
        std::fs::write(folder.path().join(peft::CONFIG_FILE), plan.config.to_json()).unwrap();
        let again = |targets, given: &[&str]| {
            let mut keys = keys(targets);
            keys.init_from = Some(folder.path().into());
            keys.given = given.iter().map(|&key| key.into()).collect();
            AdapterPlan::new(&keys, &model("4b"))
        };
        assert_eq!(again(names(&["v_proj", "q_proj"]), &["target_modules"]).unwrap().config, plan.config);
        assert_eq!(again(names(&["k_proj"]), &[]).unwrap().config, plan.config);
        let error = again(names(&["k_proj"]), &["target_modules"]).unwrap_err();
        assert!(error.what().contains("`adapter.target_modules` contradicts"), "{error}");
        let mut excluding = keys(names(&["q_proj"]));
        excluding.init_from = Some(folder.path().into());
        excluding.exclude_modules = vec!["v_proj".into()];
        excluding.given = ["exclude_modules".to_owned()].into();
        let error = AdapterPlan::new(&excluding, &model("4b")).unwrap_err();
        assert!(error.what().contains("`adapter.exclude_modules` contradicts"), "{error}");
    }
}
