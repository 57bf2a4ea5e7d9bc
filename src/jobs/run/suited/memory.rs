//! How weights are held so that a run fits.

use crate::jobs::forecast::fit::{FitSettings, Sizes};
use crate::jobs::run::settings::RunSettings;
use crate::recipe::{AutoBool, Quantization, Recipe};

/// From the most exact to the smallest.
const FORMS: [Quantization; 4] =
    [Quantization::None, Quantization::Int8, Quantization::Nf4Double, Quantization::AsStored];

/// The recipe with the most exact form of the frozen weights with which a run fits into what is free, where
/// `model.quantization` says `auto`; the smallest where none does.
pub fn hold(recipe: &Recipe, sizes: &Sizes) -> Recipe {
    let mut recipe = recipe.clone();
    if !recipe.auto.choose("model.quantization") {
        return recipe;
    }
    let with = |quantization| {
        let mut changed = recipe.clone();
        changed.model.quantization = quantization;
        changed.training.activation_checkpointing = match recipe.training.activation_checkpointing {
            AutoBool::Auto => AutoBool::True,
            given => given,
        };
        changed
    };
    let possible = |form: &Quantization| sizes.frozen.check(&RunSettings::of(&with(*form)).holding).is_ok();
    let forms: Vec<Quantization> = FORMS.into_iter().filter(possible).collect();
    let fits = |form: &&Quantization| sizes.fits(&FitSettings::of(&with(**form)));
    let bytes = |form: &&Quantization| sizes.need(&FitSettings::of(&with(**form))).memory.total_bytes();
    let smallest = || forms.iter().min_by_key(bytes);
    recipe.model.quantization = forms.iter().find(fits).or_else(smallest).copied().unwrap_or(Quantization::None);
    if recipe.model.quantization != Quantization::None {
        recipe.remark("model.quantization", "so that the run fits into the memory that was free");
    }
    recipe
}
