//! What was chosen when a run began.

use crate::error::Result;
use crate::recipe::{self, AutoDtype, Recipe};
use std::path::Path;

/// The recipe with the values that were chosen when the run began whose recipe was saved at `path`; as it is if there is
/// no such run.
///
/// # Errors
/// When the recipe of that run cannot be read.
pub fn begun(recipe: &Recipe, path: &Path) -> Result<Recipe> {
    let mut recipe = recipe.clone();
    let (asks_dtype, has_auto) = (recipe.model.compute_dtype == AutoDtype::AUTO, recipe.auto.iter().next().is_some());
    if !(asks_dtype || has_auto) || !path.exists() {
        return Ok(recipe);
    }
    let begun = match recipe::load(path, &[]) {
        // One that cannot be read is spoken of where it must be.
        Err(_) if !has_auto => return Ok(recipe),
        begun => begun?,
    };
    if asks_dtype {
        recipe.model.compute_dtype = begun.model.compute_dtype;
    }
    let keys: Vec<String> = recipe.auto.iter().filter(|key| !begun.auto.contains(key)).map(str::to_owned).collect();
    for key in keys {
        match key.as_str() {
            "data.max_length" => recipe.data.max_length = begun.data.max_length,
            "training.gradient_accumulation_steps" => {
                recipe.training.per_device_train_batch_size = begun.training.per_device_train_batch_size;
                recipe.training.gradient_accumulation_steps = begun.training.gradient_accumulation_steps;
            }
            "model.quantization" => recipe.model.quantization = begun.model.quantization,
            "training.num_train_epochs" => recipe.training.num_train_epochs = begun.training.num_train_epochs,
            "training.max_steps" => recipe.training.max_steps = begun.training.max_steps,
            "training.learning_rate" => recipe.training.learning_rate = begun.training.learning_rate,
            "evaluation.eval_steps" => recipe.evaluation.eval_steps = begun.evaluation.eval_steps,
            "output.save_steps" => recipe.output.save_steps = begun.output.save_steps,
            _ => continue,
        }
        recipe.auto.choose(&key);
        recipe.remark(&key, "chosen when the run began");
    }
    Ok(recipe)
}
