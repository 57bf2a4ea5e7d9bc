//! Reads an adapter folder against the model that it is meant for.

mod another_base;

pub use self::another_base::AnotherBase;

use super::config::AdapterConfig;
use super::tensors::{AdapterTensors, ModuleTensors, TENSORS_FILE, unusable};
use crate::error::{Error, Kind, Place, Result};
use crate::model::{Places, Site, WholeTensor};
use crate::weights::names::{
    LORA_A, LORA_B, LORA_MAGNITUDE, Spelling, TensorId, parse_peft_key, parse_peft_whole_key, peft_key, peft_whole_key,
};
use crate::weights::safetensors_file::SafetensorsFile;
use crate::weights::{HostTensor, LARGEST_WEIGHT};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An adapter folder, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftAdapter {
    /// Its settings.
    pub config: AdapterConfig,
    /// Its tensors, as stored, with each module's scaling.
    pub tensors: AdapterTensors,
    /// Settings that were present and not used.
    pub ignored: Vec<String>,
}

impl PeftAdapter {
    /// Reads the adapter folder `dir` for a model with these places.
    ///
    /// Keys may be spelt for a text-only or a multimodal model, whichever `model` is.
    ///
    /// # Errors
    /// All at once where possible: a file that is missing, damaged or truncated; tensors that are missing, unexpected,
    /// of the wrong shape, not finite or far too large; and as [`AdapterConfig::read`].
    pub fn read(dir: &Path, model: &Places) -> Result<Self> {
        let (config, mut ignored) = AdapterConfig::read(dir)?;
        if config.judges() && !model.whole.iter().any(|tensor| tensor.id == TensorId::Score) {
            return Err(no_writer(dir));
        }
        let path = dir.join(TENSORS_FILE);
        let file = open(dir, &path)?;
        let at = |error: Error| error.or_at(Place::Path(path.clone()));

        let Places { sites: model, whole } = model;
        let names = file.header().tensors.iter().map(|entry| entry.name.clone());
        let contents = Contents::sort(names.collect(), model, whole);
        let Some(spelling) = contents.spelling else {
            let what = "the file holds no adapter tensor of a Gemma 3 language model";
            let hint = contents
                .foreign
                .first()
                .map_or("it is empty".into(), |name| format!("it holds, for example, `{name}`"));
            return Err(at(Error::new(Kind::Adapter, what).hint(hint)));
        };
        if let Some(other) = AnotherBase::find(dir, &contents, &file, model, &config) {
            return Err(other.error());
        }
        let wanted = contents.wanted(&config, model, spelling, &mut ignored);
        let mut problems = contents.problems(&config, &wanted, spelling);
        let patterns = config.patterns().map_err(at)?;

        let mut tensors = AdapterTensors::default();
        for site in model.iter().filter(|site| wanted.contains(&site.weight)) {
            let path = spelling.module_path(&site.weight);
            let module = contents.module(&file, site, patterns.rank(&path), config.use_dora, &mut problems);
            if let Some((a, b, magnitude)) = module {
                let module = ModuleTensors { a, b, magnitude, scaling: patterns.scaling(&path) };
                problems.extend(too_strong(&module, &path));
                tensors.modules.insert(site.weight, module);
            }
        }
        tensors.whole = contents.whole_tensors(&file, whole, &config, &mut problems);
        // A wrong setting makes every tensor wrong: a few say as much as all.
        const SHOWN: usize = 8;
        if problems.len() > SHOWN {
            let more = problems.split_off(SHOWN).len();
            problems.push(Error::new(Kind::Adapter, format!("{more} more problems like these")));
        }
        match Error::many(problems.into_iter().map(at).collect()) {
            Some(error) => Err(error),
            None => Ok(PeftAdapter { config, tensors, ignored }),
        }
    }
}

/// The problem of an adapter that judges texts, where it is to write some, or to become a file of what does.
fn no_writer(dir: &Path) -> Error {
    Error::new(
        Kind::Adapter,
        "the adapter is a reward model: it has a `score` head, which judges texts and writes none",
    )
    .at_path(dir)
    .hint("`gemma-tune score` and `evaluate` say what it thinks of rows, and `merge` writes a folder with its head")
}

/// Why a tensor may hold numbers that no training means.
const DIVERGED: &str = "the run that wrote it had diverged, or the file is damaged";

/// Why tensors may be missing.
const INCOMPLETE: &str = "the file and `adapter_config.json` belong to different adapters, or the copy is incomplete";

/// Reads a tensor of this shape, whose numbers can all be weights.
fn usable(file: &SafetensorsFile, name: &str, shape: &[usize]) -> Result<HostTensor> {
    let tensor = file.read(name, shape, None)?;
    match unusable(name, &tensor) {
        None => Ok(tensor),
        Some(what) => Err(Error::new(Kind::Adapter, what).hint(DIVERGED)),
    }
}

/// The names in a file, sorted into what they are.
#[derive(Default)]
struct Contents {
    /// How the file spells the language model: that of its first adapter tensor.
    spelling: Option<Spelling>,
    /// Adapter tensors of modules that the model has, with their names as spelt.
    keys: BTreeMap<(TensorId, &'static str), String>,
    /// Tensors in the place of the model's own, with their names as spelt.
    whole: BTreeMap<TensorId, String>,
    /// Adapter tensors of layers that the model has not.
    beyond: Vec<String>,
    /// The same tensor in a second spelling.
    doubled: Vec<String>,
    /// Everything else.
    foreign: Vec<String>,
}

impl Contents {
    fn sort(names: Vec<String>, model: &[Site], whole: &[WholeTensor]) -> Self {
        let has: BTreeSet<TensorId> = model.iter().map(|site| site.weight).collect();
        let mut contents = Contents::default();
        for name in names {
            if let Some(id) = parse_peft_whole_key(&name).filter(|id| whole.iter().any(|tensor| tensor.id == *id)) {
                contents.whole.insert(id, name);
                continue;
            }
            let known = parse_peft_key(&name).filter(|(_, id, _)| id.is_of_text() || has.contains(id));
            let Some((spelling, id, part)) = known else {
                contents.foreign.push(name);
                continue;
            };
            contents.spelling.get_or_insert(spelling);
            if !has.contains(&id) {
                contents.beyond.push(name);
                continue;
            }
            match contents.keys.entry((id, part)) {
                Entry::Vacant(place) => _ = place.insert(name),
                Entry::Occupied(_) => contents.doubled.push(name),
            }
        }
        contents
    }

    /// The modules that the settings put an adapter on.
    fn wanted(
        &self,
        config: &AdapterConfig,
        model: &[Site],
        spelling: Spelling,
        ignored: &mut Vec<String>,
    ) -> BTreeSet<TensorId> {
        match config.matcher() {
            Ok(matches) => {
                // Names such as `q_proj` are those of a tower's layers too: whether these were meant, the tensors say.
                let has = |id: &TensorId| [LORA_A, LORA_B].iter().any(|part| self.keys.contains_key(&(*id, *part)));
                let ids = model.iter().map(|site| site.weight).filter(|id| id.is_of_text() || has(id));
                ids.filter(|id| matches(&spelling.module_path(id))).collect()
            }
            // An expression that only Python understands: the tensors say as well which modules were meant.
            Err(_) => {
                ignored.push("target_modules".into());
                self.keys.keys().map(|(id, _)| *id).collect()
            }
        }
    }

    /// Reads A, B and the magnitudes of one module; what is missing was told already, what is wrong is added.
    fn module(
        &self,
        file: &SafetensorsFile,
        site: &Site,
        r: usize,
        use_dora: bool,
        problems: &mut Vec<Error>,
    ) -> Option<(HostTensor, HostTensor, Option<HostTensor>)> {
        let mut read = |part: &'static str, expected: &[usize]| -> Option<HostTensor> {
            let name = self.keys.get(&(site.weight, part))?;
            usable(file, name, expected).map_err(|error| problems.push(error)).ok()
        };
        let a = read(LORA_A, &[r, site.in_features]);
        let b = read(LORA_B, &[site.out_features, r]);
        let magnitude = if use_dora { read(LORA_MAGNITUDE, &[site.out_features]) } else { None };
        Some((a?, b?, magnitude))
    }

    /// Reads what stands in the place of the model's own tensors; what is missing or wrong is added to the problems.
    fn whole_tensors(
        &self,
        file: &SafetensorsFile,
        model: &[WholeTensor],
        config: &AdapterConfig,
        problems: &mut Vec<Error>,
    ) -> BTreeMap<TensorId, HostTensor> {
        let is_saved = |tensor: &&WholeTensor| config.modules_to_save.iter().any(|name| name.ends_with(tensor.module));
        let saved: Vec<&WholeTensor> = model.iter().filter(is_saved).collect();
        let has_no = |name: &&String| !model.iter().any(|tensor| name.ends_with(tensor.module));
        problems.extend(config.modules_to_save.iter().filter(has_no).map(|name| {
            Error::new(Kind::Adapter, format!("`modules_to_save` names `{name}`, which the model does not have"))
                .hint("the adapter was trained on a model that sees pictures")
        }));
        let missing: Vec<String> = saved
            .iter()
            .filter(|tensor| !self.whole.contains_key(&tensor.id))
            .map(|tensor| peft_whole_key(&tensor.id))
            .collect();
        let not_named = self.whole.iter().filter(|(id, _)| !saved.iter().any(|tensor| tensor.id == **id));
        let not_named: Vec<String> = not_named.map(|(_, name)| name.clone()).collect();
        problems.extend(listed("missing", &missing, INCOMPLETE));
        problems.extend(listed(
            "unexpected",
            &not_named,
            "`modules_to_save` in `adapter_config.json` does not name their module",
        ));
        let mut tensors = BTreeMap::new();
        for tensor in saved {
            let Some(name) = self.whole.get(&tensor.id) else { continue };
            match usable(file, name, &tensor.shape()) {
                Ok(read) => _ = tensors.insert(tensor.id, read),
                Err(error) => problems.push(error),
            }
        }
        tensors
    }

    /// What is missing, doubled or unexpected.
    fn problems(&self, config: &AdapterConfig, wanted: &BTreeSet<TensorId>, spelling: Spelling) -> Vec<Error> {
        let parts: &[&'static str] =
            if config.use_dora { &[LORA_A, LORA_B, LORA_MAGNITUDE] } else { &[LORA_A, LORA_B] };
        let missing = wanted.iter().flat_map(|id| parts.iter().map(move |part| (*id, *part)));
        let missing: Vec<String> = missing
            .filter(|id_part| !self.keys.contains_key(id_part))
            .map(|(id, part)| peft_key(spelling != Spelling::Text, &id, part))
            .collect();
        let unexpected: Vec<String> = self
            .keys
            .iter()
            .filter(|((id, part), _)| !wanted.contains(id) || !parts.contains(part))
            .map(|(_, name)| name.clone())
            .collect();
        let magnitudes_only = !unexpected.is_empty() && unexpected.iter().all(|name| name.contains(LORA_MAGNITUDE));
        let unexpected_hint = if magnitudes_only {
            "they belong to a DoRA adapter, but `adapter_config.json` says `use_dora: false`"
        } else {
            "`target_modules` and `layers_to_transform` in `adapter_config.json` do not select these modules"
        };
        [
            listed("missing", &missing, INCOMPLETE),
            listed("unexpected", &unexpected, unexpected_hint),
            listed("beyond the model's layers", &self.beyond, "the adapter was trained on a larger model"),
            listed(
                "stored twice, in two spellings",
                &self.doubled,
                "save the adapter again from the program that made it",
            ),
            listed(
                "not on the language model's linear layers",
                &self.foreign,
                match self.foreign.iter().any(|name| parse_peft_key(name).is_some()) {
                    true => "they are on a vision or audio tower, and this copy of the model has none, or one of another kind",
                    false => "adapters on other parts are not supported",
                },
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A problem if what a module adds to its weight would leave the range in which a model can be computed.
fn too_strong(module: &ModuleTensors, path: &str) -> Option<Error> {
    let reach = module.reach();
    if reach <= f64::from(LARGEST_WEIGHT) {
        return None;
    }
    let (a, b, scaling) = (module.a.largest(), module.b.largest(), module.scaling);
    let what = format!(
        "the adapter of `{path}` adds numbers of up to {reach:.0e}: its scale is {scaling}, its `lora_A` reaches {a:e}, \
         its `lora_B` {b:e}"
    );
    Some(Error::new(Kind::Adapter, what).hint(match scaling.abs() > f64::from(a.max(b)) {
        true => "`lora_alpha` or `alpha_pattern` in `adapter_config.json` is wrong: usual scales are 0.5 to 4",
        false => DIVERGED,
    }))
}

/// Opens the tensors of the adapter folder `dir`.
fn open(dir: &Path, path: &Path) -> Result<SafetensorsFile> {
    if path.exists() {
        return SafetensorsFile::open(path);
    }
    let error = Error::new(Kind::Adapter, format!("no `{TENSORS_FILE}` in this folder")).at_path(dir);
    Err(if dir.join("adapter_model.bin").is_file() {
        error.hint("`adapter_model.bin` is in Python's pickle format, which can run code; save it again as safetensors with PEFT")
    } else {
        error.hint("the copy is incomplete: an adapter folder holds this file beside `adapter_config.json`")
    })
}

/// One error that names the first few tensors of a kind.
fn listed(state: &str, names: &[String], hint: &str) -> Option<Error> {
    const SHOWN: usize = 4;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let what = match names.len() {
        0 => return None,
        1 => format!("tensor {} is {state}", shown[0]),
        n if n <= SHOWN => format!("{n} tensors are {state}: {}", shown.join(", ")),
        n => format!("{n} tensors are {state}: {} and {} more", shown.join(", "), n - SHOWN),
    };
    Some(Error::new(Kind::Adapter, what).hint(hint))
}

#[cfg(test)]
mod tests;
