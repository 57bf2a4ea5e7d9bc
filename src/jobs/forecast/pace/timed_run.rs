//! What is known of a run before it is timed.

use crate::data::RowFormat;
use crate::device::Capacity;
use crate::jobs::forecast::beside::Beside;
use crate::jobs::forecast::fit::Sizes;
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::data::sequences;
use crate::jobs::run::settings::RunSettings;
use crate::nn::{AttentionKind, Segments};
use crate::recipe::{self, Recipe};
use crate::text::TrainOn;
use crate::train::optimizer::Rule;
use crate::train::recompute::Recompute;
use crate::weights::Holding;

/// What the time of a step depends on.
pub struct TimedRun<'a> {
    /// The base.
    pub frozen: Frozen<'a>,
    /// How its weights are held.
    pub holding: Holding,
    /// What is trained.
    pub adapter: &'a AdapterPlan,
    /// What that takes beside the frozen model.
    pub beside: Beside,
    /// The optimiser.
    pub rule: Rule,
    /// Sequences at once.
    pub batch_size: usize,
    /// Tokens in a sequence.
    pub max_length: usize,
    /// Sequences that begin alike, and how many tokens: these are computed once.
    pub alike: [usize; 2],
    /// Passes in a step.
    pub accumulation: usize,
    /// The layers that are recomputed on the way back.
    pub recompute: Recompute,
    /// Steps, where the recipe says how many.
    pub max_steps: Option<u64>,
    /// Whether micro-batches may be shorter, or not all of their tokens have a loss.
    pub at_most: bool,
    /// Devices that share out the passes.
    pub devices: usize,
    /// Memory of the device.
    pub capacity: Capacity,
}

impl<'a> TimedRun<'a> {
    /// The run of a recipe that is otherwise planned.
    pub fn of(
        recipe: &Recipe,
        settings: RunSettings,
        sizes: &Sizes<'a>,
        adapter: &'a AdapterPlan,
        recompute: Recompute,
    ) -> Self {
        let (data, training) = (&recipe.data, &recipe.training);
        let all_of_it = |source: &recipe::Source| matches!(source.format, RowFormat::Text | RowFormat::Tokens);
        let all_have_a_loss = data.train_on == TrainOn::All || data.train.iter().all(all_of_it);
        TimedRun {
            frozen: sizes.frozen,
            holding: settings.holding,
            adapter,
            beside: sizes.beside,
            rule: settings.rule,
            batch_size: training.per_device_train_batch_size.saturating_mul(sequences(recipe)),
            max_length: data.max_length,
            alike: recipe.grpo.as_ref().map_or([1, 0], |keys| {
                [keys.num_generations, data.max_length.saturating_sub(keys.max_completion_length)]
            }),
            accumulation: training.gradient_accumulation_steps,
            recompute,
            max_steps: training.max_steps,
            at_most: !data.packing || !all_have_a_loss,
            devices: sizes.devices,
            capacity: sizes.capacity,
        }
    }

    /// Passes of a step that follow one another, as one device with all threads takes them: replicas on the CPU share its
    /// threads out, and some of them may wait for the last.
    pub(super) fn passes(&self) -> f64 {
        let devices = self.devices.max(1);
        let rounds = self.accumulation.div_ceil(devices);
        let slower = if self.capacity.gpu.is_some() { 1 } else { devices };
        rounds as f64 * slower as f64
    }

    /// How its layers are run, each way with the share of them that are.
    pub(super) fn ways(&self) -> impl Iterator<Item = (Recompute, f64)> {
        let layers = self.frozen.config.num_hidden_layers();
        let recomputed = self.recompute.of(layers);
        let ways = [(Recompute::ALL, recomputed), (Recompute::NOTHING, layers - recomputed)].into_iter();
        ways.filter(|(_, count)| *count > 0).map(move |(way, count)| (way, count as f64 / layers as f64))
    }

    /// Tokens of a micro-batch.
    pub(super) fn tokens(&self) -> usize {
        let [alike, shared] = self.alike;
        let again = self.batch_size - self.batch_size.div_ceil(alike.max(1));
        self.batch_size.saturating_mul(self.max_length).saturating_sub(again.saturating_mul(shared)).max(1)
    }

    /// The sequences of the first `tokens` tokens of a micro-batch.
    pub(super) fn segments(&self, tokens: usize) -> Segments {
        Segments::sharing(self.lengths(tokens))
    }

    /// Of each sequence among the first `tokens` tokens of a micro-batch, how many of them are its own, and how many it shares.
    fn lengths(&self, tokens: usize) -> impl Iterator<Item = (usize, usize)> {
        let ([alike, shared], length) = (self.alike, self.max_length.max(1));
        let mut left = tokens;
        (0..).map_while(move |at: usize| {
            let shared = if at.is_multiple_of(alike.max(1)) { 0 } else { shared.min(length - 1) };
            let own = (length - shared).min(left);
            left -= own;
            (own > 0).then_some((own, shared))
        })
    }

    /// Tokens whose keys and values are looked at, of the first `tokens` tokens of a micro-batch.
    pub(super) fn looked_at(&self, tokens: usize) -> usize {
        self.lengths(tokens).map(|(own, shared)| own + shared).sum()
    }

    /// Pairs of tokens of which one sees the other, among the first `tokens` tokens of a micro-batch.
    pub(super) fn pairs(&self, kind: AttentionKind, tokens: usize) -> f64 {
        let window = match kind {
            AttentionKind::Sliding => self.frozen.config.sliding_window() as f64,
            AttentionKind::Full => f64::INFINITY,
        };
        let within = |length: usize| {
            let (length, near) = (length as f64, (length as f64).min(window));
            near * (near + 1.0) / 2.0 + (length - near) * near
        };
        self.lengths(tokens).map(|(own, shared)| within(shared + own) - within(shared)).sum()
    }
}
