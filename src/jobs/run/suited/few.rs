//! Runs of so few steps that they teach next to nothing.

use crate::error::Result;
use crate::jobs::run::data::Data;
use crate::jobs::run::steps;
use crate::recipe::Recipe;
use crate::report::text;

/// Fewer steps teach little, whatever the rate.
const FEW: u64 = 30;

/// What to say of a run of so few steps that it teaches little: which key makes more of them; `None` where there are
/// enough.
///
/// # Errors
/// When the steps of its passes cannot be counted.
pub fn few_steps(recipe: &Recipe, data: &Data) -> Result<Option<String>> {
    let keys = &recipe.training;
    if keys.max_steps.is_some_and(|most| most >= FEW) {
        return Ok(None);
    }
    let all = steps::total(recipe, data)?;
    let total = keys.max_steps.unwrap_or(all);
    if total >= FEW {
        return Ok(None);
    }
    let mut ways = Vec::new();
    if keys.max_steps.is_some() {
        ways.push(match all > total {
            true => format!("without `training.max_steps` it has {}", text::count(all)),
            false => format!("raise `training.max_steps` to {FEW} or more"),
        });
    }
    if keys.max_steps.is_none_or(|most| most > all) {
        let steps = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = recipe.clone();
            change(&mut recipe);
            steps::total(&recipe, data)
        };
        let of_accumulation = |fewer: usize| steps(&|recipe| recipe.training.gradient_accumulation_steps = fewer);
        let of_batch = |fewer: usize| steps(&|recipe| recipe.training.per_device_train_batch_size = fewer);
        // Passes that make a step first; where that is one, what a pass takes at once.
        // A batch that is judged as a whole stays what it is.
        let is_one_batch = recipe.estimates_divergence();
        let fewer = match keys.gradient_accumulation_steps {
            // Whole groups of answers are drawn.
            _ if recipe.grpo.is_some() => ("", None),
            0 | 1 if is_one_batch => ("", None),
            0 | 1 => ("per_device_train_batch_size", fewest(keys.per_device_train_batch_size, &of_batch)?),
            passes => ("gradient_accumulation_steps", fewest(passes, &of_accumulation)?),
        };
        if let (key, Some((fewer, more))) = fewer
            && more > all
        {
            ways.push(format!("`training.{key}={fewer}` makes {}", text::counted(more, "step")));
        }
        let epochs = (keys.num_train_epochs * FEW as f64 / all.max(1) as f64).ceil();
        let more = steps(&|recipe| recipe.training.num_train_epochs = epochs)?;
        if more > all {
            ways.push(format!("`training.num_train_epochs={epochs}` makes {}", text::counted(more, "step")));
        }
    }
    let steps = text::counted(total, "step");
    let ways = if ways.is_empty() { String::new() } else { format!(": {}", ways.join(", ")) };
    let is_chosen = |key: &str| recipe.remarks.get(key).is_some();
    let advice = match is_chosen("training.gradient_accumulation_steps") && is_chosen("training.num_train_epochs") {
        true => "more rows would teach more",
        false if recipe.grpo.is_some() => "more prompts would teach more",
        false => "`auto` for these keys suits them to the data",
    };
    Ok(Some(format!("warning: this run has {steps}, and fewer than about {FEW} teach little{ways}; {advice}")))
}

/// The largest half, quarter and so on of `size` that leaves enough steps, else 1, with its steps; `None` where there is no
/// smaller one.
fn fewest(size: usize, steps: &dyn Fn(usize) -> Result<u64>) -> Result<Option<(usize, u64)>> {
    let mut fewer = size / 2;
    while fewer > 1 && steps(fewer)? < FEW {
        fewer /= 2;
    }
    if fewer == 0 { Ok(None) } else { Ok(Some((fewer, steps(fewer)?))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_less_is_asked_of_a_step_than_gives_enough_of_them() {
        let of = |size: usize, rows: usize| fewest(size, &|fewer| Ok(rows.div_ceil(fewer) as u64)).unwrap();
        assert_eq!(of(16, 130), Some((4, 33)));
        assert_eq!(of(8, 8), Some((1, 8)));
        assert_eq!(of(1, 8), None);
        assert_eq!(of(0, 8), None);
    }
}
