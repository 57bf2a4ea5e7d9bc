//! A model and its adapters, served.

pub mod adapter_dir;
pub mod orders;
mod request;
pub mod routed;
mod shown;
pub mod tuned;

use self::shown::Shown;
use crate::adapter::peft::{self, PeftAdapter};
use crate::data::{Row, RowFormat};
use crate::error::{Error, Kind, Place, Result};
use crate::fence::fenced;
use crate::infer::Prompt;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::base::{adapter_folder, provenance};
use crate::jobs::media;
use crate::model::{Inputs, LanguageModel};
use crate::progress::{Progress, Silent};
use crate::serve::{Host, Models, Side};
use crate::text::called::{self, CallForm};
use crate::text::{MediaSource, TokenStream, Tokenizer};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Adapters that are served at once: each is in memory, and requests look for their names among all.
const MOST_ADAPTERS: usize = 1000;

/// An adapter and the name that requests ask for it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// A model with adapters, each of which a request can ask for.
pub struct Served {
    model: PeftModel,
    tokenizer: Tokenizer,
    models: Models,
    stop: Vec<u32>,
    context_tokens: usize,
    call_form: CallForm,
    classifier: Option<Arc<Side>>,
    shown: Shown,
}

impl Served {
    /// A model that is loaded, which requests call `name`, and its adapters.
    ///
    /// # Errors
    /// A model without a tokenizer, adapters that cannot be read, that do not fit, or that no text is written with.
    pub fn open(model: PeftModel, name: String, adapters: &[Named], progress: &dyn Progress) -> Result<Self> {
        let tokenizer = model.base.tokenizer()?.clone();
        let (mut stop, context_tokens) = (model.base.stop_ids(), model.base.config.max_position_embeddings());
        let words = model.base.encoder.template().control_words();
        let call_form = if words.iter().any(|word| word == called::BEGIN) { CallForm::Words } else { CallForm::Json };
        if call_form == CallForm::Words {
            stop.extend(tokenizer.id(called::ANSWER)); // what a tool says, and not the model
        }
        let models = Models::of(name);
        let (classifier, shown) = (None, Shown::default());
        let served = Served { call_form, model, tokenizer, models, stop, context_tokens, classifier, shown };
        for Named { name, folder } in adapters {
            let named = || Place::Named(format!("--adapter {name}={}", folder.display()));
            if served.models.has(name) {
                let error = Error::new(Kind::Recipe, format!("two models are called `{name}`")).at(named());
                return Err(error.hint(match *name == served.models.base() {
                    true => "`--name` calls the base otherwise",
                    false => "each `--adapter` has a name of its own",
                }));
            }
            served.load(name, folder, None, progress)?;
        }
        Ok(served)
    }

    /// The same with what tells which prompts are for here.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn with_classifier(self, classifier: Option<routed::Classifier>) -> Result<Self> {
        let model = self.model.model.as_ref();
        let classifier = classifier.map(|classifier| classifier.load(model)).transpose()?;
        Ok(Served { classifier, ..self })
    }

    /// Loads an adapter, which requests call `name` from now on; of an `owner` nobody else knows. Answers that have begun with another
    /// one of this name go on with it.
    ///
    /// # Errors
    /// One that cannot be read or does not fit.
    pub fn load(&self, name: &str, folder: &Path, owner: Option<&str>, progress: &dyn Progress) -> Result<()> {
        let (base, model) = (&self.model.base, self.model.model.as_ref());
        // The one without an adapter is a model too.
        if self.models.count() > MOST_ADAPTERS && !self.models.has(name) {
            let what = format!("{MOST_ADAPTERS} adapters are served already, which is the most at once");
            return Err(Error::new(Kind::Adapter, what)
                .at_path(folder)
                .hint("take others away, or start another server"));
        }
        let folder = adapter_folder::find(folder, progress)?;
        let read = PeftAdapter::read(&folder, &base.config.places())
            .map_err(|error| provenance::name_bases(error, &base.name))?;
        if read.tensors.are_on_towers() {
            let what = "an adapter on towers is served by itself: pictures would be seen with it by everybody";
            let error = Error::new(Kind::Adapter, what).at_path(&folder);
            return Err(error.hint("`merge` it, and serve what that wrote"));
        }
        provenance::warn_of_another_base(&folder, base, progress);
        let adapter = fenced("loading an adapter", || peft::to_device(&read.tensors, model))?;
        provenance::warn_of_no_effect(&folder, adapter.is_zero(), progress);
        self.models.put(name, Box::new(adapter), owner);
        Ok(())
    }
}

impl Host for Served {
    fn model(&self) -> &dyn LanguageModel {
        self.model.model.as_ref()
    }

    fn models(&self) -> &Models {
        &self.models
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    fn vocab_size(&self) -> usize {
        self.model.base.config.vocab_size()
    }

    fn stop(&self) -> &[u32] {
        &self.stop
    }

    fn hidden_size(&self) -> usize {
        self.model.base.config.hidden_size()
    }

    fn is_special(&self, id: u32) -> bool {
        self.tokenizer.is_special(id)
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.token(id)
    }

    fn call_form(&self) -> CallForm {
        self.call_form
    }

    fn classifier(&self) -> Option<&Arc<Side>> {
        self.classifier.as_ref()
    }

    fn stream(&self) -> TokenStream {
        let stream = TokenStream::new(self.tokenizer.clone());
        if self.call_form == CallForm::Words { stream.with_calls() } else { stream }
    }

    fn conversation(&self, row: &Map<String, Value>) -> Result<Prompt> {
        request::no_addresses(row)?;
        let row = request::with_names_of_tools(row);
        let mut parsed = RowFormat::Messages.parse(&row).map_err(Error::for_clients)?;
        // A request names no file of this machine, and no address that this machine would ask.
        if let Some(medium) = parsed.media_mut().iter().find(|medium| !matches!(medium.source, MediaSource::Bytes(_))) {
            let what = format!("{} come in the request itself, as `data:` addresses", medium.kind.plural());
            return Err(Error::new(Kind::Data, what));
        }
        let place = Place::Named("messages".into());
        // Held until the prompt has what it needs of them.
        let (cache, _lock) = match parsed.media_mut().is_empty() {
            true => (None, None),
            false => self.shown.open(&Silent).map(|(cache, lock)| (Some(cache), lock))?,
        };
        let features = media::rows::features_in(cache, [(&mut parsed, &place)].into_iter(), &self.model, &Silent);
        let features = features.map_err(Error::for_clients)?;
        let Row::Conversation(seen) = &parsed else {
            return Err(Error::new(Kind::Data, "`messages` are no conversation"));
        };
        let (ids, media) = self.model.base.encoder.prompt(seen).map_err(Error::for_clients)?;
        let contents = media.iter().map(|medium| medium.content).collect();
        Ok(Prompt { inputs: media::inputs(ids, &media, features.as_ref())?, contents })
    }

    fn text(&self, text: &str) -> Result<Prompt> {
        let ids = self.model.base.plain_prompt(text)?;
        Ok(Prompt::of(Inputs::of(ids)))
    }
}
