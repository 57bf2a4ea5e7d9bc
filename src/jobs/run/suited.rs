//! Settings that suit the data and the model: the values of keys that say `auto`.
//!
//! What a run needs is enough steps. 240 short questions and answers in five passes of 256 tokens a step, at a rate of
//! 6e-4, teach a 270M all of them; packed into three steps a pass they teach it nothing.

mod begun;
mod few;
mod memory;
mod products;

pub use begun::begun;
pub use few::few_steps;
pub use memory::hold;
pub use products::multiply;

use crate::data::Dataset;
use crate::data::options::{OnLong, RowFormat};
use crate::error::Result;
use crate::jobs::run::data::{Data, sequences};
use crate::jobs::run::steps;
use crate::model::ModelConfig;
use crate::recipe::{ADAPTER_PREFERENCE_LEARNING_RATE, MOST_STEPS_UNSAVED, REWARD_LEARNING_RATE, Recipe, Task};
use crate::report::text;

/// Tokens of a step with little data.
const STEP_TOKENS: u64 = 256;
/// Tokens of a step with all the data in the world.
const MOST_STEP_TOKENS: u64 = 8192;
/// Beyond as many steps, steps become larger rather than more.
const STEPS: u64 = 300;
/// As many steps there are at least, if passes enough make them.
const LEAST_STEPS: u64 = 60;
/// Data that is seen more often is learnt by rote.
const MOST_PASSES: u64 = 20;
/// Bins are not chosen longer for the sake of a step.
const BIN_TOKENS: u64 = 512;
/// Steps that `max_steps: auto` allows.
const MOST_STEPS: u64 = 10_000;
/// How often a run is saved and evaluated: at each quarter.
const PARTS: u64 = 4;

/// Passes over data of at most so many tokens, where answers are learnt and where every token is.
const PASSES: [(u64, u64, u64); 4] = [(60_000, 5, 3), (300_000, 3, 2), (1_500_000, 2, 1), (u64::MAX, 1, 1)];
/// Learning rates for models of fewer parameters: the larger the model, the less it must be changed.
const RATES: [(u64, f64); 5] = [
    (500_000_000, 6.0e-4),    // 270M
    (2_000_000_000, 4.0e-4),  // 1B
    (8_000_000_000, 2.0e-4),  // 4B
    (20_000_000_000, 1.5e-4), // 12B
    (u64::MAX, 1.0e-4),       // 27B
];

/// Prepares the data of a recipe.
pub type Prepare<'a> = dyn Fn(&Recipe) -> Result<Data> + 'a;

/// What a choice depends on.
struct Facts {
    /// Tokens of a pass.
    tokens: u64,
    /// Tokens of the longest sequence, evaluation rows too.
    longest: u64,
    /// Whether every token is learnt, as of plain text, and not answers alone.
    all_learnt: bool,
    /// Parameters of the model.
    parameters: u64,
}

/// The recipe with a value for each key that says `auto`, the values remarked upon, and the data in bins of its length.
///
/// `again` prepares the data of a recipe anew: long texts are cut into rows of the length that is chosen.
///
/// # Errors
/// When the steps of its passes cannot be counted, and those of `again`.
pub fn choose(recipe: &Recipe, data: &mut Data, model: &ModelConfig, again: &Prepare) -> Result<Recipe> {
    let mut chosen = recipe.clone();
    // Rows are put into bins for it, which takes a while where they are many.
    if FROM_ROWS.iter().any(|key| recipe.auto.contains(key)) {
        choose_passes(&mut chosen, data, model, again)?;
    }
    let is_capped = chosen.auto.choose("training.max_steps");
    let total = match chosen.training.max_steps {
        Some(most) => most,
        None => steps::total(&chosen, data)?,
    };
    if is_capped && total > MOST_STEPS {
        chosen.training.max_steps = Some(MOST_STEPS);
        chosen.remark("training.max_steps", format!("of {total} in all passes"));
    }
    let total = chosen.training.max_steps.unwrap_or(total);
    if chosen.auto.choose("evaluation.eval_steps") && data.eval.is_some() {
        chosen.evaluation.eval_steps = Some(part_of(total));
        chosen.remark("evaluation.eval_steps", format!("of {total}"));
    }
    if chosen.auto.choose("output.save_steps") {
        chosen.output.save_steps = part_of(total).min(MOST_STEPS_UNSAVED);
        chosen.remark("output.save_steps", format!("of {total}"));
    }
    Ok(chosen)
}

/// The keys that are chosen from what the rows are, beside the model.
const FROM_ROWS: [&str; 4] =
    ["training.learning_rate", "training.num_train_epochs", "data.max_length", "training.gradient_accumulation_steps"];

/// Chooses the values of [`FROM_ROWS`].
fn choose_passes(chosen: &mut Recipe, data: &mut Data, model: &ModelConfig, again: &Prepare) -> Result<()> {
    let epoch = data.binning.epoch(&data.train, 0)?;
    let stats = data.train.stats();
    let eval = data.eval.iter().map(Dataset::longest_sequence);
    let facts = Facts {
        tokens: epoch.tokens(),
        // Of a pair each answer with its prompt is a sequence.
        longest: u64::from(eval.fold(data.train.longest_sequence(), u32::max)),
        // All but what no token predicts: the first one of each row.
        all_learnt: stats.supervised_tokens + 2 * stats.rows >= stats.tokens,
        parameters: parameters(model),
    };
    if chosen.auto.choose("training.learning_rate") {
        let (rate, why) = match chosen.task {
            Task::Sft => (facts.rate(), format!("for {} million parameters", facts.parameters / 1_000_000)),
            Task::Reward => (REWARD_LEARNING_RATE, "TRL's for reward models".to_owned()),
            Task::Dpo | Task::Orpo | Task::Kto | Task::Grpo | Task::Rloo => {
                (ADAPTER_PREFERENCE_LEARNING_RATE, "for adapters; TRL's 1e-6 is for whole models".to_owned())
            }
        };
        chosen.training.learning_rate = rate;
        chosen.remark("training.learning_rate", why);
    }
    let epochs = chosen.auto.choose("training.num_train_epochs");
    if epochs {
        chosen.training.num_train_epochs = facts.passes() as f64;
    }
    let (passes, rows) = (chosen.training.num_train_epochs, stats.rows);
    if chosen.auto.choose("data.max_length") {
        let can_be_cut = is_cut_where_long(chosen, data);
        let longest = if can_be_cut { facts.longest.min(BIN_TOKENS) } else { facts.longest };
        let length = facts.bin_tokens(longest, passes).min(chosen.data.max_length as u64);
        chosen.data.max_length = (length as usize).max(2);
        if longest < facts.longest {
            *data = again(chosen)?;
        }
        let what = if chosen.has_pairs() { "answer with its prompt" } else { "row" };
        chosen.remark("data.max_length", format!("the longest {what} has {}", facts.longest));
        data.binning.max_length = chosen.data.max_length * sequences(chosen);
    }
    if chosen.auto.choose("training.gradient_accumulation_steps") {
        let bins = data.binning.epoch(&data.train, 0)?.len().max(1) as u64;
        let pass_tokens = chosen.training.per_device_train_batch_size as u64 * facts.tokens / bins;
        let accumulation = facts.step_tokens(passes) / pass_tokens.max(1);
        // Of very few rows steps are smaller, so that there are enough of them.
        let micro_batches = bins / chosen.training.per_device_train_batch_size as u64;
        let accumulation = accumulation.min(micro_batches * MOST_PASSES / LEAST_STEPS).max(1);
        chosen.training.gradient_accumulation_steps = (accumulation as usize).min(crate::recipe::MAX_BATCH);
        let tokens = steps::passes(chosen, data)?.step_tokens;
        chosen.remark("training.gradient_accumulation_steps", format!("about {tokens} tokens a step"));
    }
    if epochs {
        let steps = steps::passes(chosen, data)?.steps_per_pass.max(1);
        let more = LEAST_STEPS.div_ceil(steps).min(MOST_PASSES).max(passes as u64);
        chosen.training.num_train_epochs = more as f64;
        chosen.remark(
            "training.num_train_epochs",
            format!("over {}, {} tokens", text::counted(rows, "row"), facts.tokens),
        );
    }
    Ok(())
}

/// Whether all rows are plain text, of which what is longer than a row goes on in the next.
fn is_cut_where_long(recipe: &Recipe, data: &Data) -> bool {
    let mut files = data.train.files().iter().chain(data.eval.iter().flat_map(|eval| eval.files()));
    matches!(recipe.data.on_long, None | Some(OnLong::Split)) && files.all(|file| file.layout.format == RowFormat::Text)
}

/// A fourth of a run.
fn part_of(steps: u64) -> u64 {
    steps.div_ceil(PARTS).max(1)
}

/// Values of the model: matrices of the layers and the embedding.
fn parameters(model: &ModelConfig) -> u64 {
    let layers: u64 = model.sites().iter().map(|site| site.in_features as u64 * site.out_features as u64).sum();
    layers + model.vocab_size() as u64 * model.hidden_size() as u64
}

impl Facts {
    fn rate(&self) -> f64 {
        let (_, rate) = RATES.iter().find(|(below, _)| self.parameters < *below).unwrap_or(&RATES[RATES.len() - 1]);
        // Every token pulls where all are learnt, and few would say the same.
        if self.all_learnt { rate / 2.0 } else { *rate }
    }

    fn passes(&self) -> u64 {
        let (_, answers, all) = PASSES.iter().find(|(most, ..)| self.tokens <= *most).unwrap_or(&PASSES[3]);
        if self.all_learnt { *all } else { *answers }
    }

    /// Tokens of a step: a power of two.
    fn step_tokens(&self, passes: f64) -> u64 {
        let in_steps = (self.tokens as f64 * passes) as u64 / STEPS;
        (1 << in_steps.max(1).ilog2()).clamp(STEP_TOKENS, MOST_STEP_TOKENS)
    }

    /// Tokens of a bin: of a step where that is short, but never fewer than the longest row has. Of very little data
    /// bins are shorter, so that a pass has several.
    fn bin_tokens(&self, longest: u64, passes: f64) -> u64 {
        let mut bin = self.step_tokens(passes).min(BIN_TOKENS);
        while bin > 64 && self.tokens / bin < LEAST_STEPS / MOST_PASSES {
            bin /= 2;
        }
        bin.max(longest.next_multiple_of(64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(tokens: u64, longest: u64, parameters: u64) -> Facts {
        Facts { tokens, longest, all_learnt: false, parameters }
    }

    #[test]
    fn sixty_facts_are_five_passes_of_256_tokens_a_step_at_the_rate_of_the_model() {
        let facts = facts(7_200, 43, 268_000_000);
        let (passes, rate) = (facts.passes(), facts.rate());
        assert_eq!((passes, facts.step_tokens(5.0), facts.bin_tokens(43, 5.0)), (5, 256, 256));
        assert!((rate - 6.0e-4).abs() < 1e-12);
    }

    #[test]
    fn more_data_is_seen_less_often_in_larger_steps() {
        let mut before = (u64::MAX, 0);
        for tokens in [1_000, 50_000, 200_000, 1_000_000, 20_000_000, 1 << 40] {
            let facts = facts(tokens, 100, 0);
            let now = (facts.passes(), facts.step_tokens(facts.passes() as f64));
            assert!(now.0 <= before.0 && now.1 >= before.1, "{tokens}: {before:?} {now:?}");
            before = now;
        }
        assert_eq!(before, (1, MOST_STEP_TOKENS));
    }

    #[test]
    fn larger_models_learn_at_lower_rates() {
        let rates: Vec<f64> =
            [0.27e9, 1.0e9, 3.9e9, 11.8e9, 27.0e9].iter().map(|p| facts(0, 0, *p as u64).rate()).collect();
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]), "{rates:?}");
        assert!(Facts { all_learnt: true, ..facts(0, 0, 0) }.rate() < rates[0]);
    }

    #[test]
    fn a_bin_holds_the_longest_row_and_a_pass_has_several_bins() {
        assert_eq!(facts(7_200, 300, 0).bin_tokens(300, 5.0), 320);
        assert_eq!(facts(1 << 30, 40, 0).bin_tokens(40, 1.0), BIN_TOKENS);
        assert_eq!(facts(300, 40, 0).bin_tokens(40, 5.0), 64);
        assert_eq!(facts(0, 0, 0).bin_tokens(0, 5.0), 64);
    }
}
