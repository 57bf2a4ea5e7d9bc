//! Opening a model: its files, configuration, tokenizer and weights.

pub mod adapter_folder;
pub mod encoder;
pub mod headers;
pub mod judge;
pub mod outline;
pub mod peft_model;
pub mod provenance;

use self::headers::{Headers, ReadConfig};
use crate::adapter::{Adapter, peft};
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::export::companions;
use crate::hub::{self, Clues, HubSettings, ModelFiles, Variant};
use crate::jobs::media::processors;
use crate::media::Processors;
use crate::model::{self, LanguageModel, ModelConfig};
use crate::progress::{Progress, counted};
use crate::text::render::END_OF_TURN;
use crate::text::{Encoder, Tokenizer};
use crate::weights::{Holding, Source};
use burn::tensor::Device;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// A base model whose small files are read and whose weights are mapped, but not loaded.
pub struct Base {
    /// The name the user gave.
    pub name: String,
    /// Where its files are.
    pub files: ModelFiles,
    /// Its configuration.
    pub config: ModelConfig,
    /// Keys of its configuration that have no effect here.
    pub ignored_keys: Vec<String>,
    /// Its weights.
    pub source: Source,
    /// [`Source::fingerprint`] of its weights as they were when they were opened.
    pub fingerprint: String,
    /// Tokenizer and chat template; without a tokenizer it takes token ids only.
    pub encoder: Encoder,
    /// How pictures and sounds are prepared for it.
    pub processors: Processors,
}

impl Base {
    /// Finds the model that the user `named` at some place and reads everything but its weights.
    ///
    /// Of a Hub model the small files are read first, and `accept` has a say, before the weights are downloaded.
    ///
    /// # Errors
    /// When the model cannot be found, or one of its small files is wrong, and those of `accept`.
    pub fn open(
        name: &str,
        named: Place,
        progress: &dyn Progress,
        accept: &dyn Fn(&ModelConfig) -> Result<()>,
    ) -> Result<Self> {
        Base::find(name, named, ModelConfig::from_folder, progress, accept)
    }

    /// As [`Base::open`], of a model that may be a whole reward model, which writes nothing.
    ///
    /// # Errors
    /// As there.
    pub fn open_any(
        name: &str,
        named: Place,
        progress: &dyn Progress,
        accept: &dyn Fn(&ModelConfig) -> Result<()>,
    ) -> Result<Self> {
        Base::find(name, named, ModelConfig::from_folder_of_any, progress, accept)
    }

    fn find(
        name: &str,
        named: Place,
        configuration: ReadConfig,
        progress: &dyn Progress,
        accept: &dyn Fn(&ModelConfig) -> Result<()>,
    ) -> Result<Self> {
        let read_before = RefCell::new(None);
        let files = hub::find_model(name, &HubSettings::from_env()?, progress, &|dir| {
            let (config, _) = configuration(dir)?;
            let readers = (encoder::of_folder(dir, &config)?, processors::of_folder(dir, &config)?);
            accept(&config)?;
            read_before.replace(Some(readers));
            Ok(())
        });
        let files = files.map_err(|e| e.or_at(named))?;
        atomic::will_read(files.path())?;
        let headers = Headers::read(&files, configuration)?;
        let (encoder, processors) = match read_before.take() {
            Some(readers) => readers,
            None => headers.readers(&files)?,
        };
        let Headers { config, ignored_keys, source, warnings } = headers;
        warnings.iter().chain(&encoder.warning()).for_each(|warning| progress.note(warning));
        let fingerprint = source.fingerprint();
        Ok(Base { name: name.to_owned(), files, config, ignored_keys, source, fingerprint, encoder, processors })
    }

    /// Gives back the memory of the tokenizer, hundreds of megabytes; from here on the model takes token ids only.
    pub fn release_encoder(&mut self) {
        self.encoder = Encoder::tokens_only().with_vocab_size(self.config.vocab_size());
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When the model has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.encoder.tokenizer().ok_or_else(|| {
            Error::new(Kind::Tokenizer, "this model has no tokenizer")
                .at_path(self.path())
                .hint("put its `tokenizer.json` into the folder")
        })
    }

    /// Writes the tokenizer and its template into a folder: copied from the model's folder, or rebuilt from the GGUF's
    /// vocabulary.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_tokenizer(&self, into: &Path) -> Result<()> {
        match &self.files {
            ModelFiles::Folder { dir, .. } => companions::copy_tokenizer(dir, into).map(|_| ()),
            // From the header as it was read: the file may have changed since.
            ModelFiles::Gguf { .. } => encoder::of_gguf(headers::gguf(&self.source)?, &self.config)?.save(into),
        }
    }

    /// The tokenizer and chat template of the model that the user `named` at some place, and its processors; no weights are
    /// downloaded.
    ///
    /// # Errors
    /// As [`Base::open`].
    pub fn encoder(name: &str, named: Place, progress: &dyn Progress) -> Result<(Encoder, Processors)> {
        let files = hub::find_small_files(name, &HubSettings::from_env()?, progress).map_err(|e| e.or_at(named))?;
        atomic::will_read(files.path())?;
        match &files {
            ModelFiles::Folder { dir, .. } => {
                let (config, _) = ModelConfig::from_folder(dir)?;
                Ok((encoder::of_folder(dir, &config)?, processors::of_folder(dir, &config)?))
            }
            ModelFiles::Gguf { .. } => Headers::open(&files)?.readers(&files),
        }
    }

    /// The model in a line.
    pub fn describe(&self) -> String {
        let config = &self.config;
        let ignored = match self.ignored_keys.len() {
            0 => String::new(),
            _ => format!("; config keys without effect here: {}", self.ignored_keys.join(", ")),
        };
        let (variant, why) = self.variant();
        format!(
            "Model: {}: {}, {} of {}, {} words; {variant}: {why}{ignored}",
            self.name,
            config.architecture(),
            counted(config.num_hidden_layers(), "layer"),
            config.hidden_size(),
            config.vocab_size()
        )
    }

    /// Whether it is pre-trained or instruction-tuned, and what tells.
    pub fn variant(&self) -> (Variant, &'static str) {
        let end_of_turn = self.encoder.tokenizer().and_then(|tokenizer| tokenizer.id(END_OF_TURN));
        // Of a GGUF file the stop tokens say nothing: Gemma's end of turn is always among them.
        let is_folder = matches!(self.files, ModelFiles::Folder { .. });
        hub::base_or_instruct(Clues {
            name: &self.files.name(),
            has_chat_template: !self.encoder.template().is_built_in(),
            stops_at_end_of_turn: is_folder && end_of_turn.is_some_and(|id| self.config.eos_token_ids().contains(&id)),
        })
    }

    /// Warns of what is longer than the model was made for: `lengths` in tokens of things with a name each.
    pub fn warn_of_context(&self, lengths: impl Iterator<Item = (usize, String)>, progress: &dyn Progress) {
        let most = self.config.max_position_embeddings();
        let mut long = lengths.filter(|(tokens, _)| *tokens > most);
        let Some((tokens, first)) = long.next() else { return };
        let others = match long.count() {
            0 => String::new(),
            more => format!(", and {more} more,"),
        };
        progress.note(&format!(
            "warning: {first} ({}){others} exceeds the context of {most} tokens that the model was made for: \
             beyond it a model says little of worth",
            counted(tokens, "token")
        ));
    }

    /// Loads the weights of the language model.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape, or when the weights cannot be held so.
    pub fn load(&self, holding: &Holding, device: &Device, progress: &dyn Progress) -> Result<Box<dyn LanguageModel>> {
        model::load(self.config.clone().of_text(), &self.source, holding, device, progress)
    }

    /// Loads the weights of the language model, and of what makes rows of what its towers give, where the files have that;
    /// of the towers themselves only if they are to look and listen `in_graph`.
    ///
    /// # Errors
    /// As [`Base::load`].
    pub fn load_for_media(
        &self,
        in_graph: bool,
        holding: &Holding,
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Box<dyn LanguageModel>> {
        atomic::nothing_was_refused()?; // before what takes long
        let config = match in_graph {
            true => self.config.clone(),
            false if self.config.check_towers(&self.source).is_err() => return self.load(holding, device, progress),
            false => self.config.clone().without_towers(),
        };
        model::load(config, &self.source, holding, device, progress)
    }

    /// The head of a whole reward model, as what runs beside its weights; `None` of a model that writes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn head(&self, model: &dyn LanguageModel) -> Result<Option<Adapter>> {
        let Some(tensor) = self.config.score().filter(|_| self.config.judges()) else { return Ok(None) };
        let stored = self.source.read(&tensor.id, &tensor.shape(), None)?;
        Ok(Some(peft::of_tensor(tensor, &stored, model)))
    }

    /// The file or folder that holds the model.
    pub fn path(&self) -> PathBuf {
        match &self.files {
            ModelFiles::Folder { dir, .. } => dir.clone(),
            ModelFiles::Gguf { path } => path.clone(),
        }
    }

    /// The ids of a prompt that is plain text, without a template.
    ///
    /// # Errors
    /// When the model has no tokenizer, or cannot spell the text, or has no embedding of one of its tokens.
    pub fn plain_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let ids: Vec<u32> = tokenizer.bos().into_iter().chain(tokenizer.encode(text)?).collect();
        let words = self.config.vocab_size();
        match ids.iter().find(|id| **id as usize >= words) {
            Some(id) => {
                let what = format!("token {id} of the prompt is not in the model's vocabulary of {words}");
                Err(Error::new(Kind::Data, what))
            }
            None => Ok(ids),
        }
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut stop = self.config.eos_token_ids().to_vec();
        stop.extend(self.encoder.stop_ids());
        stop.sort_unstable();
        stop.dedup();
        stop
    }
}
