//! What must not leave this machine: tokens, and paths that tell whose it is.

use super::base_model::BaseModel;
use crate::error::{Error, Kind, Result};
use crate::hub::{self, HubSettings};
use serde_json::Value;
use std::path::Path;

/// What files of people are looked through for.
pub struct Private {
    token: Option<String>,
    /// Folders whose names are nobody else's business.
    folders: Vec<String>,
}

impl Private {
    /// What is private while `folder` is published.
    pub fn of(settings: &HubSettings, folder: &Path) -> Self {
        let home = std::env::var("HOME").or_else(|_| std::env::var("USERPROFILE")).ok();
        let folder = std::fs::canonicalize(folder).ok().map(|path| path.display().to_string());
        let here = std::env::current_dir().ok().map(|path| path.display().to_string());
        let is_telling = |path: &String| path.len() > 2 && Path::new(path).is_absolute();
        let folders = [home, folder, here].into_iter().flatten().filter(is_telling).collect();
        Private { token: settings.token.clone(), folders }
    }

    /// Refuses a text of a file in which something private stands.
    ///
    /// # Errors
    /// With the line, and without the secret.
    pub fn check(&self, name: &str, text: &str, path: &Path) -> Result<()> {
        let refuse = |line: usize, what: String, hint: &str| {
            let place = crate::error::Place::Text { path: path.into(), line: line + 1, column: 1 };
            Err(Error::new(Kind::Recipe, what).at(place).hint(hint))
        };
        for (number, line) in text.lines().enumerate() {
            if self.token.as_ref().is_some_and(|token| line.contains(token)) || has_token(line) {
                let what = format!("`{name}` holds what looks like an access token");
                return refuse(
                    number,
                    what,
                    "take it out, and make the token void at the Hub if anybody has seen the file",
                );
            }
            if let Some(folder) = self.folders.iter().find(|folder| has_path(line, folder)) {
                let what = format!("`{name}` names the folder `{folder}` of this machine");
                return refuse(number, what, "others have no such folder: take it out, or name it in other words");
            }
        }
        Ok(())
    }
}

/// Whether a path below `folder`, or itself, stands in a line.
fn has_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let after = line[at + folder.len()..].chars().next();
        let before = line[..at].chars().next_back();
        let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        !after.is_some_and(is_name) && !before.is_some_and(is_name)
    })
}

/// Whether a token of the Hub stands in a line.
fn has_token(line: &str) -> bool {
    /// Shorter ones are words.
    const LEAST: usize = 30;
    line.match_indices("hf_")
        .any(|(at, _)| line[at + 3..].bytes().take_while(u8::is_ascii_alphanumeric).count() >= LEAST)
}

/// A configuration as it is published: where it names its model by a path of this machine, it names `base`, or nothing.
/// `None` where it stays as it is.
pub fn published(text: &str, base: Option<&BaseModel>) -> Option<String> {
    /// What transformers and tokenizers write down of where they were read from.
    const NAMES: [&str; 2] = ["_name_or_path", "name_or_path"];
    let mut json: Value = serde_json::from_str(text).ok()?;
    let keys = json.as_object_mut()?;
    let mut is_changed = false;
    for key in NAMES {
        let Some(name) = keys.get(key).and_then(Value::as_str) else { continue };
        if name.is_empty() || hub::split_id(name).is_some() && !Path::new(name).exists() {
            continue;
        }
        match base {
            Some(base) => drop(keys.insert(key.into(), base.id.as_str().into())),
            None => drop(keys.shift_remove(key)),
        }
        is_changed = true;
    }
    is_changed.then(|| format!("{json:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_whose_machine_it_was_is_found() {
        let private = Private { token: Some("secret".into()), folders: vec!["/home/ann".into()] };
        let problem = |text: &str| private.check("README.md", text, Path::new("README.md")).unwrap_err().to_string();
        for line in ["see /home/ann/models", "\"/home/ann\"", "file:///home/ann", "(/home/ann/x)"] {
            assert!(private.check("r", line, Path::new("r")).is_err(), "{line}");
        }
        for line in ["/home/anna/x", "https://example.org/home/ann/x", "/homes", "hf_hub", "hf_transfer_is_not_a_token"]
        {
            private.check("r", line, Path::new("r")).unwrap();
        }
        let text = problem("a\nb secret\n");
        assert!(text.contains("README.md:2:1") && !text.contains("secret"), "{text}");
        let other = format!("hf_{}", "Ab1".repeat(12));
        assert!(problem(&other).contains("access token") && !problem(&other).contains(&other));
    }

    #[test]
    fn a_configuration_names_no_path() {
        let base = BaseModel { id: "google/gemma-3-1b-it".into(), revision: None };
        let of = |name: &str, base| published(&format!(r#"{{"a": 1, "_name_or_path": "{name}"}}"#), base);
        assert_eq!(of("google/gemma-3-270m", Some(&base)), None);
        let changed = of("/home/ann/gemma", Some(&base)).unwrap();
        assert_eq!(changed, "{\n  \"a\": 1,\n  \"_name_or_path\": \"google/gemma-3-1b-it\"\n}\n");
        assert_eq!(of("models/deep/gemma", None).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(published("[1]", None), None);
    }
}
