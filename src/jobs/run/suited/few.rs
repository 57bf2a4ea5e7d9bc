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
        let accumulation = keys.gradient_accumulation_steps;
        let with = |fewer: usize| steps(&|recipe| recipe.training.gradient_accumulation_steps = fewer);
        // The most passes of a step that leave enough steps; else one, which makes the most of them.
        let mut fewer = accumulation / 2;
        while fewer > 1 && with(fewer)? < FEW {
            fewer /= 2;
        }
        if fewer > 0 && with(fewer)? > all {
            ways.push(format!("`training.gradient_accumulation_steps={fewer}` makes {}", text::count(with(fewer)?)));
        }
        let epochs = (keys.num_train_epochs * FEW as f64 / all.max(1) as f64).ceil();
        let more = steps(&|recipe| recipe.training.num_train_epochs = epochs)?;
        if more > all {
            ways.push(format!("`training.num_train_epochs={epochs}` makes {}", text::count(more)));
        }
    }
    let steps = text::counted(total, "step");
    let ways = if ways.is_empty() { String::new() } else { format!(": {}", ways.join(", ")) };
    let is_chosen = |key: &str| recipe.remarks.get(key).is_some();
    let advice = match is_chosen("training.gradient_accumulation_steps") && is_chosen("training.num_train_epochs") {
        true => "more rows would teach more",
        false => "`auto` for these keys suits them to the data",
    };
    Ok(Some(format!("warning: this run has {steps}, and fewer than about {FEW} teach little{ways}; {advice}")))
}
