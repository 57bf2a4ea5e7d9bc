//! Rules by which chats are answered here or elsewhere, made ready.

use crate::adapter::peft::{self, AdapterTensors, PeftAdapter};
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::jobs::base::judge::Judge;
use crate::jobs::base::{Base, provenance};
use crate::model::LanguageModel;
use crate::progress::Progress;
use crate::recipe::{ApiKey, Chooser, RouteRules};
use crate::serve::{By, Routing, Side, Upstream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An adapter with a head that tells which prompts are for here, as it is read.
pub struct Classifier(AdapterTensors);

impl Classifier {
    /// Looks whether there is one where rules name it, and reads nothing else of it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find(adapter: &Path) -> Result<()> {
        Judge::find(adapter).map(drop)
    }

    /// Reads one for a base.
    ///
    /// # Errors
    /// One that cannot be read, has no such head, or does not fit.
    pub fn read(adapter: &Path, base: &Base, progress: &dyn Progress) -> Result<Self> {
        let (folder, _) = Judge::find(adapter)?;
        let read = PeftAdapter::read(&folder, &base.config.places_of_judge())
            .map_err(|error| provenance::name_bases(error, &base.name))?;
        if read.tensors.are_on_towers() {
            let what = "a classifier on towers would see pictures otherwise than the model that is served";
            return Err(Error::new(Kind::Adapter, what)
                .at_path(&folder)
                .hint("train one without `vision_target_modules` and `audio_target_modules`"));
        }
        provenance::warn_of_another_base(&folder, base, progress);
        Ok(Classifier(read.tensors))
    }

    /// Loads it beside a model.
    ///
    /// # Errors
    /// Where the device fails.
    pub(super) fn load(self, model: &dyn LanguageModel) -> Result<Arc<Side>> {
        let adapter = fenced("loading the classifier", || peft::to_device(&self.0, model))?;
        Ok(Side::new(Box::new(adapter)))
    }
}

/// What a server makes of rules; `told` hears each choice.
pub fn routing(rules: &RouteRules, told: impl Fn(&str) + Send + Sync + 'static) -> Routing {
    let RouteRules { upstream, chooser, models } = rules;
    let by = match chooser {
        Chooser::Classifier { threshold, .. } => By::Score { threshold: *threshold },
        Chooser::Confidence { min_mean_logprob } => By::Confidence { min_mean_logprob: *min_mean_logprob },
    };
    let key = upstream.api_key.as_ref().map(ApiKey::secret).map(str::to_owned);
    let timeout = Duration::from_secs_f64(upstream.timeout);
    let upstream = Upstream::new(upstream.url.clone(), key, upstream.model.clone(), timeout);
    Routing { by, models: models.clone(), upstream, told: Box::new(told) }
}
