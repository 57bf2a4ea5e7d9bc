//! What a person thinks of answers, as rows that a run learns from.

use super::folder::{Folder, Uploaded, is_name};
use crate::clock::now;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    role: Role,
    content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    User,
    Assistant,
}

/// A row of the format `unpaired` or `preference`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Rating {
    /// An answer, and whether it is a good one.
    Unpaired {
        /// What was asked.
        prompt: Vec<Turn>,
        /// The answer.
        completion: Vec<Turn>,
        /// Whether it is good.
        label: bool,
    },
    /// Two answers, of which the first is better.
    Preference {
        /// What was asked.
        prompt: Vec<Turn>,
        /// The better answer.
        chosen: Vec<Turn>,
        /// The other.
        rejected: Vec<Turn>,
    },
}

/// A rating of answers of a run's model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rated {
    /// The run.
    run: String,
    /// The row.
    row: Rating,
}

impl Rated {
    /// Adds the row to the run's file of its kind, which is an upload like others, and gives its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, folder: &Folder) -> Result<String> {
        if !is_name(&self.run) {
            return Err(Error::new(Kind::Recipe, format!("`{}` is no run", self.run)));
        }
        let kind = match &self.row {
            Rating::Unpaired { .. } => "unpaired",
            Rating::Preference { .. } => "preference",
        };
        let name = format!("ratings of {} ({kind}).jsonl", self.run);
        let known = folder.files().into_iter().find(|file| file.name == name);
        let file =
            known.map_or_else(|| folder.name_for(&format!("ratings_{}_{kind}.jsonl", self.run)), |known| known.file);
        let path = folder.data(&file);
        let mut row = serde_json::to_vec(&self.row).unwrap_or_default();
        row.push(b'\n');
        let written = File::options().create(true).append(true).open(&path).and_then(|mut out| {
            out.write_all(&row)?;
            out.metadata()
        });
        let bytes = written.map_err(|e| Error::io("writing", &path, e))?.len();
        folder.add(Uploaded { file: file.clone(), name, bytes, added: now() })?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_become_rows() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let keep = |text: &str| serde_json::from_str::<Rated>(text).unwrap().keep(&folder);
        let asked = r#""prompt": [{"role": "user", "content": "Hi"}]"#;
        let said = |text: &str| format!(r#"[{{"role": "assistant", "content": "{text}"}}]"#);
        let up = format!(r#"{{"run": "faq", "row": {{{asked}, "completion": {}, "label": true}}}}"#, said("Yo"));
        let file = keep(&up).unwrap();
        assert_eq!(keep(&up.replace("true", "false")).unwrap(), file);
        let text = std::fs::read_to_string(folder.data(&file)).unwrap();
        let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), &rows[0]["label"], &rows[1]["label"]), (2, &true.into(), &false.into()));
        assert_eq!(rows[0]["completion"][0]["content"], "Yo");
        let two =
            format!(r#"{{"run": "faq", "row": {{{asked}, "chosen": {}, "rejected": {}}}}}"#, said("a"), said("b"));
        let pairs = keep(&two).unwrap();
        assert!(pairs != file && folder.files().len() == 2);
        assert!(keep(&two.replace("faq", "../x")).is_err());
        for wrong in [r#"{"run": "a", "row": {}}"#, &up.replace("\"user\"", "\"tool\""), &up.replace("label", "mark")] {
            assert!(serde_json::from_str::<Rated>(wrong).is_err(), "{wrong}");
        }
    }
}
