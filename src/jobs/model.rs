//! Opening a model: its files, configuration, tokenizer and weights.

use crate::error::{Error, Kind, Place, Result};
use crate::hub::{self, Clues, ModelFiles, Variant};
use crate::jobs::adapter::sites;
use crate::model::gemma3::{Gemma3, TextConfig};
use crate::nn::UNPACKED_TILE_BYTES;
use crate::progress::Progress;
use crate::text::render::END_OF_TURN;
use crate::text::{ChatTemplate, Encoder, Tokenizer};
use crate::train::memory::GpuProducts;
use crate::weights::names::TensorId;
use crate::weights::{Form, Holding, HostDtype, Source};
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
    pub config: TextConfig,
    /// Keys of its configuration that have no effect here.
    pub ignored_keys: Vec<String>,
    /// Its weights.
    pub source: Source,
    /// Tokenizer and chat template; without a tokenizer it takes token ids only.
    pub encoder: Encoder,
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
        accept: &dyn Fn(&TextConfig) -> Result<()>,
    ) -> Result<Self> {
        let read_before = RefCell::new(None);
        let files = hub::find_model(name, &hub::Settings::from_env(), progress, &|dir| {
            let small = SmallFiles::read_folder(dir)?;
            accept(&small.config)?;
            read_before.replace(Some(small));
            Ok(())
        });
        let files = files.map_err(|e| e.or_at(named))?;
        let (small, source) = match &files {
            ModelFiles::Folder { dir, .. } => {
                let small = read_before.take().map_or_else(|| SmallFiles::read_folder(dir), Ok)?;
                (small, Source::open_folder(dir)?)
            }
            ModelFiles::Gguf { path } => {
                let source = Source::open_gguf(path)?;
                (SmallFiles::read_gguf(&source, path)?, source)
            }
        };
        let SmallFiles { config, ignored_keys, encoder } = small;
        Ok(Base { name: name.to_owned(), files, config, ignored_keys, source, encoder })
    }

    /// Gives back the memory of the tokenizer, hundreds of megabytes; from here on the model takes token ids only.
    pub fn release_encoder(&mut self) {
        self.encoder = Encoder::tokens_only().with_vocab_size(self.config.vocab_size);
    }

    /// Reads the tokenizer and chat template from the model's files once more.
    ///
    /// # Errors
    /// When one of the files is wrong.
    pub fn read_encoder(&self) -> Result<Encoder> {
        SmallFiles::read(&self.files).map(|small| small.encoder)
    }

    /// The tokenizer and chat template of the model that the user `named` at some place; no weights are downloaded.
    ///
    /// # Errors
    /// As [`Base::open`].
    pub fn encoder(name: &str, named: Place, progress: &dyn Progress) -> Result<Encoder> {
        let files = hub::find_small_files(name, &hub::Settings::from_env(), progress).map_err(|e| e.or_at(named))?;
        SmallFiles::read(&files).map(|small| small.encoder)
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
            "Model: {}: Gemma 3, {} layers of {}, {} words; {variant}: {why}{ignored}",
            self.name, config.num_hidden_layers, config.hidden_size, config.vocab_size
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
            stops_at_end_of_turn: is_folder && end_of_turn.is_some_and(|id| self.config.eos_token_ids.contains(&id)),
        })
    }

    /// Refuses a way to hold the weights that contradicts how they are stored.
    ///
    /// # Errors
    /// As [`Source::check`], at the recipe's `model.quantization`.
    pub fn check(&self, holding: &Holding) -> Result<()> {
        self.frozen().check(holding)
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape, or when the weights cannot be held so.
    pub fn load(&self, holding: &Holding, device: &Device, progress: &dyn Progress) -> Result<Gemma3> {
        Gemma3::load(self.config.clone(), &self.source, holding, device, progress)
    }

    /// Its frozen weights.
    pub fn frozen(&self) -> Frozen<'_> {
        Frozen { config: &self.config, source: Some(&self.source) }
    }

    /// The file or folder that holds the model.
    pub fn path(&self) -> PathBuf {
        match &self.files {
            ModelFiles::Folder { dir, .. } => dir.clone(),
            ModelFiles::Gguf { path } => path.clone(),
        }
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut stop = self.config.eos_token_ids.clone();
        stop.extend(self.encoder.stop_ids());
        stop.sort_unstable();
        stop.dedup();
        stop
    }
}

/// Frozen weights that are not loaded: how they can be held, and how many bytes that takes.
#[derive(Clone, Copy)]
pub struct Frozen<'a> {
    /// The model's shape.
    pub config: &'a TextConfig,
    /// The headers of its files; without them it is taken to be stored as bf16, as the published models are.
    pub source: Option<&'a Source>,
}

impl Frozen<'_> {
    /// Refuses a way to hold the weights that contradicts how they are stored.
    ///
    /// # Errors
    /// As [`Source::check`], at the recipe's `model.quantization`.
    pub fn check(&self, holding: &Holding) -> Result<()> {
        let checked = self.source.map_or_else(|| holding.check_plain(), |source| source.check(holding));
        checked.map_err(|error| error.or_at(Place::Key("model.quantization".into())))
    }

    /// Bytes of all frozen matrices when they are held so.
    pub fn bytes(&self, holding: &Holding) -> u64 {
        let vocabulary = [self.config.vocab_size, self.config.hidden_size];
        let head = (!self.config.tie_word_embeddings).then_some((TensorId::LmHead, vocabulary));
        let matrices = [(TensorId::EmbedTokens, vocabulary)].into_iter().chain(head).chain(self.projections());
        matrices.map(|(id, dims)| self.form(&id, holding).map_or(0, |form| form.bytes(dims))).sum()
    }

    /// What products take on a GPU that multiplies numbers of this type fastest, when weights are held so.
    pub fn gpu_products(&self, holding: &Holding, fastest: HostDtype) -> GpuProducts {
        let compute_dtype = holding.compute_dtype;
        let unpacked = |(id, dims): (TensorId, [usize; 2])| {
            let form = self.form(&id, holding)?;
            let own = if form == Form::Dense(HostDtype::F32) { HostDtype::F32 } else { fastest };
            let factor = Form::Dense(compute_dtype.unwrap_or(own));
            (form != factor).then(|| factor.bytes(dims).min(UNPACKED_TILE_BYTES as u64))
        };
        GpuProducts {
            factor_bytes: compute_dtype.unwrap_or(fastest).bytes() as u64,
            unpacked_bytes: self.projections().filter_map(unpacked).max().unwrap_or(0),
        }
    }

    fn projections(&self) -> impl Iterator<Item = (TensorId, [usize; 2])> {
        let sites = sites(self.config).into_iter();
        sites.map(|site| (TensorId::Projection(site.layer, site.projection), [site.out_features, site.in_features]))
    }

    /// The form of a matrix when it is held so; `None` if the model does not have it.
    pub fn form(&self, id: &TensorId, holding: &Holding) -> Option<Form> {
        self.source.map_or_else(|| Some(holding.form_of_bf16(id)), |source| source.form(id, holding))
    }
}

/// What a model says of itself beside its weights.
struct SmallFiles {
    config: TextConfig,
    ignored_keys: Vec<String>,
    encoder: Encoder,
}

impl SmallFiles {
    fn read(files: &ModelFiles) -> Result<Self> {
        match files {
            ModelFiles::Folder { dir, .. } => SmallFiles::read_folder(dir),
            ModelFiles::Gguf { path } => SmallFiles::read_gguf(&Source::open_gguf(path)?, path),
        }
    }

    fn read_folder(dir: &Path) -> Result<Self> {
        let (config, ignored_keys) = TextConfig::from_folder(dir)?;
        let file = dir.join("tokenizer.json");
        let encoder = if file.exists() {
            Encoder::new(Tokenizer::from_file(&file)?, ChatTemplate::from_model_folder(dir)?)
        } else {
            Encoder::tokens_only()
        };
        Ok(SmallFiles::new(config, ignored_keys, encoder))
    }

    fn read_gguf(source: &Source, path: &Path) -> Result<Self> {
        let gguf = source.gguf().ok_or_else(|| Error::new(Kind::Run, "a GGUF source without its header"))?;
        let (config, ignored_keys) = TextConfig::from_gguf(gguf, path)?;
        let encoder = match gguf.vocabulary()? {
            Some(vocabulary) => Encoder::new(Tokenizer::from_gguf(&vocabulary)?, ChatTemplate::from_gguf(&vocabulary)?),
            None => Encoder::tokens_only(),
        };
        Ok(SmallFiles::new(config, ignored_keys, encoder))
    }

    fn new(config: TextConfig, ignored_keys: Vec<String>, encoder: Encoder) -> Self {
        let encoder = encoder.with_vocab_size(config.vocab_size);
        SmallFiles { config, ignored_keys, encoder }
    }
}
