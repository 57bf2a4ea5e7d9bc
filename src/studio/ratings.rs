//! What a person thinks of answers, as rows that a run learns from.

use super::folder::{Folder, Uploaded, is_name};
use crate::clock::now;
use crate::error::{Error, Kind, Result};
use crate::input;
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
    /// Adds the row to the run's file of its kind, which is an upload like others, and gives its name. Where the file `is_needed` as it
    /// is, by a run that would not go on with other rows, a new one takes its place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, folder: &Folder, is_needed: &dyn Fn(&str) -> Result<bool>) -> Result<String> {
        if !is_name(&self.run) {
            return Err(Error::new(Kind::Recipe, format!("`{}` is no run", self.run)));
        }
        let kind = match &self.row {
            Rating::Unpaired { .. } => "unpaired",
            Rating::Preference { .. } => "preference",
        };
        let name = format!("ratings of {} ({kind}).jsonl", self.run);
        let known = folder.files().into_iter().rfind(|file| file.name == name).map(|known| known.file);
        let is_needed = known.as_deref().map(is_needed).transpose()?.unwrap_or(false);
        let file = known.clone().filter(|_| !is_needed);
        let file = file.unwrap_or_else(|| folder.name_for(&format!("ratings_{}_{kind}.jsonl", self.run)));
        let path = folder.data(&file);
        let before = known.filter(|_| is_needed).map(|known| folder.data(&known));
        let before =
            before.map(|before| input::read(&before).map_err(|e| Error::io("reading", &before, e))).transpose()?;
        let mut row = before.unwrap_or_default();
        row.extend(serde_json::to_vec(&self.row).unwrap_or_default());
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
        let keep = |text: &str| serde_json::from_str::<Rated>(text).unwrap().keep(&folder, &|_| Ok(false));
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
        // A run that is not done goes on with the rows that it began with; who learns next has all of them.
        let third: Rated = serde_json::from_str(&up).unwrap();
        let newer = third.keep(&folder, &|needed| Ok(needed == file)).unwrap();
        let lines = |file: &str| std::fs::read_to_string(folder.data(file)).unwrap().lines().count();
        assert!(newer != file && (lines(&file), lines(&newer)) == (2, 3));
        assert_eq!((keep(&up).unwrap(), lines(&newer), lines(&file)), (newer.clone(), 4, 2));
        for wrong in [r#"{"run": "a", "row": {}}"#, &up.replace("\"user\"", "\"tool\""), &up.replace("label", "mark")] {
            assert!(serde_json::from_str::<Rated>(wrong).is_err(), "{wrong}");
        }
    }
}
