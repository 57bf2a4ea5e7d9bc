//! Models that Ollama has on this machine: `ollama:gemma3:270m` is the GGUF file in its store, read where it lies.
//!
//! A store has a manifest for each model, `manifests/HOST/OWNER/NAME/TAG`, which lists blobs by their SHA-256, and the blobs,
//! `blobs/sha256-HEX`.

use crate::error::{Error, Kind, Result, did_you_mean};
use crate::paths::{self, entries};
use crate::progress::Progress;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What begins the name of such a model.
const PREFIX: &str = "ollama:";

/// The owner of what Ollama publishes itself, and the tag where none is named: as there.
const OWNER: &str = "library";
const TAG: &str = "latest";

/// The environment's word for where the store is.
const STORE: &str = "OLLAMA_MODELS";

/// Where the service has it on Linux.
const OF_THE_SERVICE: &str = "/usr/share/ollama/.ollama/models";

/// Largest manifest that is read: they have a few hundred bytes.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
}

impl Layer {
    /// What it is: the last part of its type.
    fn kind(&self) -> &str {
        self.media_type.rsplit('.').next().unwrap_or_default()
    }
}

/// A model's name in a store: `gemma3:270m`, `owner/name:tag`, or with the host before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    host: Option<String>,
    owner: String,
    name: String,
    tag: String,
}

impl Named {
    /// Reads what follows `ollama:`; `None` of what does not begin so.
    ///
    /// # Errors
    /// What is no such name.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some(rest) = text.strip_prefix(PREFIX) else { return Ok(None) };
        let wrong = || {
            Error::new(Kind::Recipe, format!("`{text}` names no model of Ollama"))
                .hint("write `ollama:NAME[:TAG]`, as `ollama list` shows it: `ollama:gemma3:270m`")
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (host, owner, last) = match parts[..] {
            [last] => (None, OWNER, last),
            [owner, last] => (None, owner, last),
            [host, owner, last] => (Some(host), owner, last),
            _ => return Err(wrong()),
        };
        let (name, tag) = last.split_once(':').unwrap_or((last, TAG));
        // A name of dots would lead out of the store.
        let is_part = |part: &str| {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(is_letter)
        };
        match [host.unwrap_or("host"), owner, name, tag].into_iter().all(is_part) {
            true => Ok(Some(Named {
                host: host.map(str::to_owned),
                owner: owner.to_owned(),
                name: name.to_owned(),
                tag: tag.to_owned(),
            })),
            false => Err(wrong()),
        }
    }

    /// As Ollama has it: `gemma3:270m`.
    pub fn name(&self) -> String {
        self.to_string().split_off(PREFIX.len())
    }

    /// Its GGUF file in the store of this machine.
    ///
    /// # Errors
    /// [`Kind::Recipe`] where there is no store or no such model; a store that is damaged.
    pub fn find(&self, progress: &dyn Progress) -> Result<PathBuf> {
        let stores = stores()?;
        let Some(store) = stores.iter().find(|store| store.join("manifests").is_dir()) else {
            let looked: Vec<String> = stores.iter().map(|store| format!("`{}`", store.display())).collect();
            return Err(Error::new(Kind::Recipe, format!("no models of Ollama are in {}", looked.join(" or in ")))
                .hint(format!("set `{STORE}` to the folder that has its `manifests` and `blobs`")));
        };
        self.find_in(store, progress)
    }

    fn find_in(&self, store: &Path, progress: &dyn Progress) -> Result<PathBuf> {
        let manifests = store.join("manifests");
        let hosts = match &self.host {
            Some(host) => vec![host.clone()],
            None => entries(&manifests),
        };
        let at = |host: &String| manifests.join(host).join(&self.owner).join(&self.name).join(&self.tag);
        let Some(path) = hosts.iter().map(at).find(|path| path.is_file()) else {
            return Err(self.unknown(&manifests, &hosts));
        };
        let wrong = |what: String| Error::new(Kind::Weights, what).at_path(&path).hint("`ollama pull` it again");
        let length = std::fs::metadata(&path).map_err(|e| Error::io("reading", &path, e))?.len();
        if length > MOST_BYTES {
            return Err(wrong(format!("the manifest has {length} bytes")));
        }
        let text = crate::input::read_to_string(&path).map_err(|e| Error::io("reading", &path, e))?;
        let Manifest { layers } =
            serde_json::from_str(&text).map_err(|e| wrong(format!("the manifest is not as Ollama writes it: {e}")))?;
        let of_kind = |kind: &str| layers.iter().filter(move |layer| layer.kind() == kind).collect::<Vec<_>>();
        if !of_kind("adapter").is_empty() {
            progress.note(&format!("Warning: the adapter that `{self}` has on its model is not taken along."));
        }
        let models = of_kind("model");
        let [model] = models[..] else {
            let what = format!("`{self}` has {} model files, not one", models.len());
            return Err(Error::new(Kind::Recipe, what).at_path(&path));
        };
        let hash = model.digest.strip_prefix("sha256:").filter(|hash| hash.len() == 64);
        let Some(hash) = hash.filter(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit())) else {
            return Err(wrong(format!("the manifest names a blob `{}`", model.digest)));
        };
        let blob = store.join("blobs").join(format!("sha256-{hash}"));
        match std::fs::metadata(&blob) {
            Ok(found) if found.len() == model.size => Ok(blob),
            Ok(found) => {
                let what = format!("the blob has {} bytes, its manifest says {}", found.len(), model.size);
                Err(Error::new(Kind::Weights, what).at_path(&blob).hint("`ollama pull` the model again"))
            }
            Err(e) => {
                let error = Error::input(Kind::Weights, "reading", &blob, e);
                Err(error.hint("the store is damaged: `ollama pull` the model again"))
            }
        }
    }

    fn unknown(&self, manifests: &Path, hosts: &[String]) -> Error {
        let named = |model: Named| Named { host: self.host.clone(), ..model }.to_string();
        let mut known: Vec<String> = all(manifests, hosts).into_iter().map(named).collect();
        known.sort();
        known.dedup();
        let error = Error::new(Kind::Recipe, format!("Ollama has no model `{self}`")).at_path(manifests);
        if let Some(near) = did_you_mean(&self.to_string(), known.iter().map(String::as_str)) {
            return error.hint(format!("did you mean `{near}`?"));
        }
        match &known[..] {
            [] => error.hint("it has none; `ollama pull` one"),
            known => error.hint(format!("it has {}", known.join(", "))),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(PREFIX)?;
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        if self.host.is_some() || self.owner != OWNER {
            write!(f, "{}/", self.owner)?;
        }
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// All that a store has of these hosts.
fn all(manifests: &Path, hosts: &[String]) -> Vec<Named> {
    let mut known = Vec::new();
    for host in hosts {
        for owner in entries(&manifests.join(host)) {
            for name in entries(&manifests.join(host).join(&owner)) {
                for tag in entries(&manifests.join(host).join(&owner).join(&name)) {
                    known.push(Named { host: Some(host.clone()), owner: owner.clone(), name: name.clone(), tag });
                }
            }
        }
    }
    known
}

/// What Ollama has on this machine: names as [`Named::parse`] takes them, and their GGUF files.
pub(super) fn names() -> Vec<(String, PathBuf)> {
    let stores = stores().unwrap_or_default();
    let Some(store) = stores.iter().find(|store| store.join("manifests").is_dir()) else { return Vec::new() };
    let manifests = store.join("manifests");
    let mut names: Vec<(String, PathBuf)> = all(&manifests, &entries(&manifests))
        .into_iter()
        .filter_map(|model| {
            let model = Named { host: None, ..model };
            Some((model.to_string(), model.find_in(store, &crate::progress::Silent).ok()?))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Where a store may be, the likeliest first.
fn stores() -> Result<Vec<PathBuf>> {
    if let Some(named) = std::env::var_os(STORE).filter(|named| !named.is_empty()) {
        return Ok(vec![PathBuf::from(named)]);
    }
    let home = paths::expand("~/.ollama/models")?;
    Ok(vec![PathBuf::from(home), PathBuf::from(OF_THE_SERVICE)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::fs;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn named(text: &str) -> Named {
        Named::parse(text).unwrap().unwrap()
    }

    /// A store with the model `gemma3:270m` of these layers.
    fn store(layers: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("manifests/example.org/library/gemma3");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(dir.path().join("blobs")).unwrap();
        fs::write(folder.join("270m"), format!("{{\"schemaVersion\": 2, \"layers\": [{layers}]}}")).unwrap();
        dir
    }

    fn layer(kind: &str, hash: &str, size: usize) -> String {
        format!(
            "{{\"mediaType\": \"application/vnd.ollama.image.{kind}\", \"digest\": \"sha256:{hash}\", \"size\": {size}}}"
        )
    }

    #[test]
    fn names_are_those_of_ollama() {
        assert_eq!(Named::parse("google/gemma-3-1b-it").unwrap(), None);
        for (text, said) in [
            ("ollama:gemma3", "ollama:gemma3:latest"),
            ("ollama:gemma3:270m", "ollama:gemma3:270m"),
            ("ollama:me/keeper:v1", "ollama:me/keeper:v1"),
            ("ollama:hf.co/me/keeper-GGUF:Q4_K_M", "ollama:hf.co/me/keeper-GGUF:Q4_K_M"),
        ] {
            assert_eq!(named(text).to_string(), said);
        }
        for text in ["ollama:", "ollama:a/b/c/d", "ollama:../x", "ollama:a:..", "ollama:a b", "ollama:a:"] {
            assert_eq!(Named::parse(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn the_blob_of_a_model_is_found_where_it_lies() {
        let dir = store(&[layer("model", HASH, 3), layer("template", HASH, 1)].join(","));
        let blob = dir.path().join(format!("blobs/sha256-{HASH}"));
        fs::write(&blob, "abc").unwrap();
        assert_eq!(named("ollama:gemma3:270m").find_in(dir.path(), &Silent).unwrap(), blob);
        let missing = named("ollama:gemma3:270n").find_in(dir.path(), &Silent).unwrap_err();
        assert_eq!(missing.what(), "Ollama has no model `ollama:gemma3:270n`");
        assert_eq!(missing.hint_text(), Some("did you mean `ollama:gemma3:270m`?"));
        let other = named("ollama:mistral").find_in(dir.path(), &Silent).unwrap_err();
        assert_eq!(other.hint_text(), Some("it has ollama:gemma3:270m"));
        fs::write(&blob, "ab").unwrap();
        let cut = named("ollama:gemma3:270m").find_in(dir.path(), &Silent).unwrap_err();
        assert_eq!(cut.what(), "the blob has 2 bytes, its manifest says 3");
    }

    #[test]
    fn damaged_manifests_are_named() {
        for (layers, said) in [
            (layer("model", "../../etc/passwd", 3), "the manifest names a blob"),
            (layer("projector", HASH, 3), "has 0 model files"),
            ([layer("model", HASH, 3), layer("model", HASH, 3)].join(","), "has 2 model files"),
            ("7".into(), "the manifest is not as Ollama writes it"),
        ] {
            let error = named("ollama:gemma3:270m").find_in(store(&layers).path(), &Silent).unwrap_err();
            assert!(error.what().contains(said), "{error}");
        }
    }
}
