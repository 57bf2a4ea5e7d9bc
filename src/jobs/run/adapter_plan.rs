//! What a run trains: the adapter of a recipe, new or continued.

mod continued;
mod towers;

use crate::adapter::init::{self, LoraOptions};
use crate::adapter::peft::{self, AdapterConfig, AdapterTensors};
use crate::adapter::target::{self, ExcludeModules, Selection};
use crate::adapter::{Adapter, Init};
use crate::error::{Error, Kind, Place, Result};
use crate::jobs::base::adapter_folder;
use crate::model::{LanguageModel, ModelConfig, Site, WholeTensor};
use crate::random::Rng;
use crate::recipe::{self, Task};
use crate::weights::names::TensorId;
use std::collections::BTreeSet;

/// What a run trains: its settings in PEFT's words, and the projections that it adapts.
#[derive(Debug, Clone)]
pub struct AdapterPlan {
    /// Settings, as `adapter_config.json` will say them.
    pub config: AdapterConfig,
    /// The projections.
    pub sites: Vec<Site>,
    /// The tensors that are trained as they are.
    pub whole: Vec<WholeTensor>,
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
    pub fn new(keys: &recipe::Adapter, model: &ModelConfig) -> Result<Self> {
        Self::with_heads(keys, model, &[])
    }

    /// As [`AdapterPlan::new`], with the head that the task of a recipe trains beside the adapter.
    ///
    /// # Errors
    /// As [`AdapterPlan::new`]; a model that has no such head.
    pub fn of(task: Task, keys: &recipe::Adapter, model: &ModelConfig) -> Result<Self> {
        if task != Task::Reward {
            return Self::new(keys, model);
        }
        let Some(head) = model.score() else {
            let what = format!("`task: reward` trains a head that no {} has", model.architecture());
            let hint = "transformers judges with Gemma 3 alone: name such a model";
            return Err(Error::new(Kind::Recipe, what).at(Place::Key("task".into())).hint(hint));
        };
        Self::with_heads(keys, model, &[head])
    }

    /// As [`AdapterPlan::new`], with these heads beside the adapter.
    fn with_heads(keys: &recipe::Adapter, model: &ModelConfig, heads: &[WholeTensor]) -> Result<Self> {
        let of_towers = towers::chosen(keys, model, &model.tower_sites())?;
        let whole = if keys.train_projector { model.whole_tensors() } else { Vec::new() };
        if let Some(folder) = &keys.init_from {
            return continued::plan(keys, &adapter_folder::locate(folder)?, model, &of_towers, (&whole, heads));
        }
        let all = if of_towers.is_empty() { model.sites() } else { model.all_sites() };
        let paths: Vec<String> = all.iter().map(|site| site.module_path(model.multimodal())).collect();
        let of_text = &paths[..model.sites().len()];
        let mut config = from_recipe(keys);
        let init = match keys.init_lora_weights {
            recipe::InitLoraWeights::Kaiming => Init::Kaiming,
            recipe::InitLoraWeights::Gaussian => Init::Gaussian,
            recipe::InitLoraWeights::Pissa => Init::Pissa,
        };
        let mut selection = target::select(of_text, &config.target_modules, &config.exclude_modules)?;
        if !of_towers.is_empty() {
            let chosen = selection.indices.into_iter().chain(of_towers.iter().map(|site| site.index));
            selection = Selection::of(&paths, chosen.collect());
        }
        // `q_proj` also names layers of the vision tower, where PEFT would look for tensors that no run here trains;
        // and PEFT warns of exclusions that leave out nothing.
        if model.multimodal() || !selection.unused_exclusions.is_empty() {
            config.target_modules = target::exact_targets(&paths, &selection);
            config.exclude_modules = ExcludeModules::default();
        }
        let whole = [&whole, heads].concat();
        config.modules_to_save = modules_of(&whole);
        let sites = selection.indices.iter().map(|&index| all[index]).collect();
        Ok(AdapterPlan { config, sites, whole, selection, init, continued: None })
    }

    /// Whether a tower is trained: then it looks at pictures in every step, and not once before.
    pub fn trains_towers(&self) -> bool {
        self.sites.iter().any(|site| site.weight.is_of_tower())
    }

    /// Whether something beside the language model is trained: a tower, or what makes rows of what one gives.
    pub fn is_beside_text(&self) -> bool {
        let is_beside = |id: &TensorId| !id.is_of_text();
        self.whole.iter().map(|tensor| &tensor.id).chain(self.sites.iter().map(|site| &site.weight)).any(is_beside)
    }

    /// Trainable values.
    pub fn trainable(&self) -> u64 {
        let values = |tensor: &WholeTensor| tensor.dims.iter().product::<usize>() as u64;
        if let Some(tensors) = &self.continued {
            let is_new = |tensor: &&WholeTensor| !tensors.whole.contains_key(&tensor.id);
            return tensors.parameters() + self.whole.iter().filter(is_new).map(values).sum::<u64>();
        }
        let whole: u64 = self.whole.iter().map(values).sum();
        let r = self.config.r as u64;
        let magnitude = |out: u64| if self.config.use_dora { out } else { 0 };
        let values = |site: &Site| {
            let (input, out) = (site.in_features as u64, site.out_features as u64);
            r * (input + out) + magnitude(out)
        };
        self.sites.iter().map(values).sum::<u64>() + whole
    }

    /// The projections that are adapted, each with its rank.
    pub fn ranks(&self) -> impl Iterator<Item = (Site, u64)> {
        self.sites.iter().map(|&site| {
            let continued = self.continued.as_ref().and_then(|t| t.modules.get(&site.weight));
            let r = continued.and_then(|module| module.a.shape.first().copied()).unwrap_or(self.config.r);
            (site, r as u64)
        })
    }

    /// Creates the adapter, or takes the one that is continued.
    pub fn create(&self, model: &dyn LanguageModel, rng: Rng) -> Adapter {
        if let Some(tensors) = &self.continued {
            let adapter = peft::to_device(tensors, model);
            let is_new = |tensor: &&WholeTensor| !tensors.whole.contains_key(&tensor.id);
            let new: Vec<WholeTensor> = self.whole.iter().filter(is_new).copied().collect();
            let whole = [adapter.whole(), &init::whole(model, &new, rng)].concat();
            return adapter.with_whole(whole);
        }
        let options = LoraOptions {
            r: self.config.r,
            lora_alpha: self.config.lora_alpha,
            use_rslora: self.config.use_rslora,
            use_dora: self.config.use_dora,
            init: self.init,
        };
        init::create(model, &self.sites, options, rng).with_whole(init::whole(model, &self.whole, rng))
    }
}

/// The modules of these tensors, each once.
fn modules_of(tensors: &[WholeTensor]) -> Vec<String> {
    let modules: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.module).collect();
    modules.into_iter().map(str::to_owned).collect()
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

#[cfg(test)]
mod tests;
