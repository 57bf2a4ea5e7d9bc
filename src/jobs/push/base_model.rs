//! The base model as strangers can find it.

use crate::adapter::peft::AdapterConfig;
use crate::error::{Error, Kind, Place, Result};
use crate::hub;
use crate::jobs::base::provenance;
use std::path::Path;

/// A model of the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    /// `owner/name`.
    pub id: String,
    /// A revision, where it matters.
    pub revision: Option<String>,
}

impl BaseModel {
    fn of((id, revision): (String, Option<String>)) -> Self {
        BaseModel { id, revision }
    }

    /// The model that `--base-model` names.
    ///
    /// # Errors
    /// When that is no id of the Hub.
    pub fn given(name: &str) -> Result<Self> {
        hub::split_id(name).map(BaseModel::of).ok_or_else(|| {
            Error::new(Kind::Recipe, format!("`{name}` is no id of the Hub"))
                .at(Place::Named("--base-model".into()))
                .hint("an id is `owner/name[@revision]`, such as `google/gemma-3-1b-it`")
        })
    }

    /// The base of an adapter, as its folder names it; `None` where that is a path of this machine, or nothing.
    pub fn of_adapter(folder: &Path, config: &AdapterConfig) -> Option<Self> {
        let name = config.base_model_name_or_path.as_deref()?;
        // A run of ours writes down the revision of what came from the Hub, and has none for what did not, even where a
        // folder's path looks like an id.
        let recorded = provenance::base_of(folder);
        let is_ours = recorded.is_some();
        let of_hub = |name: &str| hub::split_id(name).filter(|_| !Path::new(name).exists()).map(BaseModel::of);
        match &config.revision {
            Some(_) => hub::split_id(name).map(|(id, _)| BaseModel { id, revision: config.revision.clone() }),
            None if is_ours => None,
            None => of_hub(name),
        }
        .or_else(|| of_cache(name))
        .or_else(|| BaseModel::recorded(folder))
    }

    /// The base that a folder of ours was made from, if that came from the Hub.
    pub fn recorded(folder: &Path) -> Option<Self> {
        let name = provenance::base_of(folder)?;
        match provenance::revision_of(folder) {
            Some(commit) => hub::split_id(&name).map(|(id, _)| BaseModel { id, revision: Some(commit) }),
            None => of_cache(&name),
        }
    }
}

/// Checks that others can find the `base` of a run: by its own name, or by the one that it is given.
///
/// # Errors
/// When it is a path of this machine, and no other name is given.
pub fn check(base: &str, given: Option<&str>) -> Result<()> {
    if let Some(given) = given {
        return BaseModel::given(given).map(|_| ());
    }
    if hub::split_id(base).is_some() && !Path::new(base).exists() || of_cache(base).is_some() {
        return Ok(());
    }
    Err(Error::new(Kind::Recipe, format!("others could not find the base `{base}`, which is a path of this machine"))
        .at(Place::Key("output.push_to_hub".into()))
        .hint("say what it is called on the Hub: `output.hub_base_model: google/gemma-3-1b-it`"))
}

/// The model whose folder in the cache of the Hub a path leads through: `models--owner--name/snapshots/COMMIT`.
fn of_cache(path: &str) -> Option<BaseModel> {
    let mut parts = path.split(['/', '\\']);
    let (owner, name) = parts.find_map(|part| part.strip_prefix("models--")?.split_once("--"))?;
    let revision = (parts.next() == Some("snapshots")).then(|| parts.next()).flatten().map(str::to_owned);
    let (id, _) = hub::split_id(&format!("{owner}/{name}"))?;
    Some(BaseModel { id, revision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::target::TargetModules;

    fn base(id: &str, revision: Option<&str>) -> Option<BaseModel> {
        Some(BaseModel { id: id.into(), revision: revision.map(str::to_owned) })
    }

    #[test]
    fn an_adapter_names_its_base_or_a_path_does() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, revision: Option<&str>| {
            let mut config = AdapterConfig::new(4, 8.0, TargetModules::AllLinear);
            (config.base_model_name_or_path, config.revision) = (Some(name.into()), revision.map(str::to_owned));
            BaseModel::of_adapter(dir.path(), &config)
        };
        // One of PEFT, which writes no revision.
        assert_eq!(of("google/gemma-3-1b-it", None), base("google/gemma-3-1b-it", None));
        assert_eq!(of("google/gemma-3-1b-it", Some("abc")), base("google/gemma-3-1b-it", Some("abc")));
        for local in ["/home/ann/gemma", "gemma", "./models/gemma", "models/g.gguf", "C:\\models\\gemma", ""] {
            assert_eq!(of(local, None), None, "{local}");
        }
        let cached = "/home/ann/.cache/huggingface/hub/models--google--gemma-3-1b-it/snapshots/0123";
        assert_eq!(of(cached, None), base("google/gemma-3-1b-it", Some("0123")));
        // One of ours: without a revision it is a folder, whatever it looks like.
        std::fs::write(dir.path().join(provenance::FILE), r#"{"base_model": "models/gemma", "base_fingerprint": "x"}"#)
            .unwrap();
        assert_eq!(of("models/gemma", None), None);
        assert_eq!(of("google/gemma-3-1b-it", Some("abc")), base("google/gemma-3-1b-it", Some("abc")));
    }

    #[test]
    fn the_base_of_a_run_is_known_to_others() {
        for (base, given, is_fine) in [
            ("google/gemma-3-1b-it@v1", None, true),
            ("models/gemma.gguf", None, false),
            ("models/gemma.gguf", Some("google/gemma-3-1b-it"), true),
            ("src/jobs", None, false),
        ] {
            let checked = check(base, given);
            assert_eq!(checked.is_ok(), is_fine, "{base}");
            assert!(checked.err().is_none_or(|error| error.exit_code() == 2));
        }
    }

    #[test]
    fn what_is_given_is_an_id() {
        assert_eq!(BaseModel::given("google/gemma-3-1b-it@v1").ok(), base("google/gemma-3-1b-it", Some("v1")));
        for wrong in ["gemma", "/models/gemma", "a/b/c", "a/b@", "models/g.gguf"] {
            assert_eq!(BaseModel::given(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
