//! `adapter/`: the PEFT folder that a run ends with.

use super::folder::{Existing, write_folder};
use crate::adapter::peft::{AdapterConfig, AdapterTensors, CONFIG_FILE};
use crate::atomic;
use crate::error::Result;
use std::path::Path;

/// Everything that goes into an adapter folder.
#[derive(Debug, Clone, Copy)]
pub struct AdapterFolder<'a> {
    /// The adapter's settings; `target_modules` must select exactly the modules of `tensors` in the base model.
    pub config: &'a AdapterConfig,
    /// The trained tensors.
    pub tensors: &'a AdapterTensors,
    /// Whether the base is a multimodal checkpoint, whose modules PEFT sees under `model.language_model`.
    pub multimodal: bool,
    /// The model card: the text of `README.md`.
    pub card: &'a str,
}

impl AdapterFolder<'_> {
    /// Writes the folder as a whole, in place of an older adapter at `dir`; `tokenizer_files` adds its own files to the
    /// folder it is given.
    ///
    /// # Errors
    /// A folder at `dir` that is no adapter, tensors that hold a number that is not finite, a full disk; then `dir` is
    /// as it was.
    pub fn write(&self, dir: &Path, tokenizer_files: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        write_folder(dir, Existing::ReplaceIfHas(CONFIG_FILE), |folder| {
            self.tensors.write(folder, self.multimodal)?;
            tokenizer_files(folder)?;
            atomic::write(&folder.join("README.md"), self.card.as_bytes())?;
            atomic::write(&folder.join(CONFIG_FILE), self.config.to_json().as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::peft::PeftAdapter;
    use crate::adapter::peft::testing::{golden, shapes};
    use crate::error::{Error, Kind};
    use std::fs;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_later_adapter_replaces_an_earlier_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("adapter");
        let tokenizer = |to: &Path| atomic::write(&to.join("tokenizer.json"), b"{}");
        for name in ["text-lora", "text-dora"] {
            let adapter = PeftAdapter::read(&golden(name), &shapes()).unwrap();
            let folder = AdapterFolder {
                config: &adapter.config,
                tensors: &adapter.tensors,
                multimodal: false,
                card: "# tiny\n",
            };
            folder.write(&dir, tokenizer).unwrap();
            assert_eq!(PeftAdapter::read(&dir, &shapes()).unwrap(), adapter);
            assert_eq!(names(&dir), ["README.md", CONFIG_FILE, "adapter_model.safetensors", "tokenizer.json"]);
            let failed = folder.write(&dir, |_| Err(Error::new(Kind::NoSpace, "full")));
            assert_eq!(failed.unwrap_err().kind(), Kind::NoSpace);
            assert_eq!(PeftAdapter::read(&dir, &shapes()).unwrap(), adapter);
        }
        assert_eq!(names(root.path()), ["adapter"]);
    }
}
