//! An adapter beside its base on a recipe's evaluation data.

use crate::adapter::peft::{self, PeftAdapter};
use crate::error::{Error, Kind, Place, Result};
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::run::data::Data;
use crate::jobs::run::evaluation::mean_loss;
use crate::jobs::run::settings::RunSettings;
use crate::nn::BaseOnly;
use crate::recipe::Recipe;
use crate::report::ProgressBar;
use serde::Serialize;
use std::path::Path;

/// Losses on the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Supervised tokens.
    pub tokens: u64,
    /// Mean negative log-likelihood of the base, in nats.
    pub base_loss: f64,
    /// `exp(base_loss)`.
    pub base_perplexity: f64,
    /// Mean negative log-likelihood with the adapter, in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
}

/// Measures the base and the adapter on the evaluation data of a recipe.
///
/// # Errors
/// When the recipe has no evaluation data, or something cannot be read.
pub fn evaluate(recipe: &Recipe, folder: &Path, device: &str, screen: &ProgressBar) -> Result<Evaluation> {
    let named = |error| recipe.places.locate(provenance::name_bases(error, &recipe.model.base));
    measure(recipe, folder, device, screen).map_err(named)
}

fn measure(recipe: &Recipe, folder: &Path, device: &str, screen: &ProgressBar) -> Result<Evaluation> {
    let settings = RunSettings::of(recipe);
    let compute = settings.open_device(device)?;
    let folder = &adapter_folder::find(folder, screen)?;
    let named = Place::Key("model.base".into());
    let base = Base::open(&recipe.model.base, named, screen, &|config| peft::check(folder, config))?;
    let tensors = PeftAdapter::read(folder, &base.config.places())?.tensors;
    Frozen::of(&base).check(&settings.holding)?;
    provenance::warn_of_another_base(folder, &base, screen);
    let mut data = Data::prepare(recipe, &base, screen)?;
    match tensors.are_on_towers() {
        true => data.leave_media(&compute),
        false => data.encode_media(&base, &settings.holding, &compute, screen)?,
    }
    let eval = data.eval.as_ref().ok_or_else(|| {
        Error::new(Kind::Recipe, "the recipe has no evaluation data").hint("set `data.eval` or `data.eval_fraction`")
    })?;
    data.say_left_out(screen);
    let model = base.load_for_media(tensors.are_on_towers(), &settings.holding, &compute.device, screen)?;
    let model = model.as_ref();
    let adapter = peft::to_device(&tensors, model);
    provenance::warn_of_no_effect(folder, adapter.is_zero(), screen);
    let (base_loss, tokens) = mean_loss(model, &BaseOnly, eval, &data)?;
    let (loss, _) = mean_loss(model, &adapter, eval, &data)?;
    finite(base_loss, &recipe.model.base)?;
    finite(loss, &folder.display().to_string())?;
    Ok(Evaluation { tokens, base_loss, base_perplexity: base_loss.exp(), loss, perplexity: loss.exp() })
}

/// Refuses a loss that is not finite, of the model or adapter of this name.
fn finite(loss: f64, of: &str) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(Error::new(Kind::NonFinite, "the loss on the evaluation data is not finite")
        .at(Place::Named(of.into()))
        .hint("it is damaged, or had diverged in training"))
}
