//! What an adapter takes beside the frozen model: numbers that its layers keep for the way back, and copies of it.

use crate::adapter::Init;
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::settings::RunSettings;
use crate::model::{ModelConfig, Site, Stage};
use crate::recipe::Recipe;
use crate::weights::HostDtype;
use crate::weights::names::{Projection, TensorId};

/// What an adapter takes beside the frozen model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// Numbers that all layers together keep of a token.
    pub per_token: u64,
    /// The same of the layer that keeps the most.
    pub per_token_in_a_layer: u64,
    /// What of it GPUs keep otherwise.
    pub factors: Factors,
    /// What towers take that are trained.
    pub towers: TrainedTowers,
    /// Copies of the trained values that stay beside them: where PiSSA began, the adapter that is continued, the one of
    /// the best evaluation.
    pub copies: u64,
}

/// Numbers that every layer keeps of a token for its adapter on a GPU that rounds the factors of products: it keeps the factors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Factors {
    /// In the place of numbers in f32.
    pub instead: u64,
    /// What attention made, which else is kept once for attention and for what projects it.
    pub again: u64,
}

/// What towers take that look and listen in every step; nothing where they have done so before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainedTowers {
    /// Their weights.
    pub weight_bytes: u64,
    /// Numbers that they keep of as many tokens as one piece takes.
    pub kept: u64,
    /// Those tokens; 0 without such towers.
    pub tokens: u64,
    /// Numbers that are alive for a moment.
    pub transient: u64,
}

impl TrainedTowers {
    /// Those of a run.
    fn of(plan: &AdapterPlan, recipe: &Recipe, model: &ModelConfig) -> Self {
        if !plan.trains_towers() {
            return TrainedTowers::default();
        }
        let work = model.tower_work(&|id| plan.sites.iter().any(|site| site.weight == *id));
        // A row may be full of that which takes the most memory for a token.
        let Some(most) = work.into_iter().max_by_key(|work| work.kept / work.tokens.max(1)) else {
            return TrainedTowers::default();
        };
        let number_bytes = RunSettings::of(recipe).holding.dtype.unwrap_or(HostDtype::BF16).bytes() as u64;
        let numbers = |(_, dims): (TensorId, Vec<usize>)| dims.iter().product::<usize>() as u64;
        let weight_bytes = model.tower_tensors().into_iter().map(numbers).sum::<u64>() * number_bytes;
        TrainedTowers { weight_bytes, kept: most.kept, tokens: most.tokens, transient: most.transient }
    }

    /// Numbers that they keep of a micro-batch of so many tokens, full of pictures or sounds.
    pub fn kept(&self, tokens: u64) -> u64 {
        match self.tokens {
            0 => 0,
            piece => (tokens / piece).max(1).saturating_mul(self.kept),
        }
    }
}

/// How the projections of a run are computed, as far as what they keep depends on it.
#[derive(Debug, Clone, Copy)]
struct Form {
    use_dora: bool,
    is_pissa: bool,
    with_dropout: bool,
}

impl Beside {
    /// What the adapter of a recipe takes.
    pub fn of(plan: &AdapterPlan, recipe: &Recipe, model: &ModelConfig) -> Self {
        let form = Form {
            use_dora: plan.config.use_dora,
            is_pissa: plan.init == Init::Pissa,
            with_dropout: plan.config.lora_dropout > 0.0,
        };
        let (d, f) = (model.hidden_size() as u64, model.intermediate_size() as u64);
        let sites_of = |layer: usize| -> Vec<(Site, u64)> {
            plan.ranks().filter(|(site, _)| site.stage == Stage::Layer(layer)).collect()
        };
        let sites: Vec<_> = (0..model.num_hidden_layers()).map(sites_of).collect();
        let layers: Vec<u64> = sites.iter().map(|sites| form.kept(sites, d, f)).collect();
        let factors = || sites.iter().map(|sites| form.factors(sites, d, f));
        let outside = plan.ranks().filter(|(site, _)| !matches!(site.stage, Stage::Layer(_)));
        let outside: u64 = outside.map(|(site, r)| r + site.in_features as u64).sum();
        let is_continued = recipe.adapter.init_from.is_some();
        let keeps_best = recipe.evaluation.load_best_model_at_end;
        Beside {
            per_token: layers.iter().sum::<u64>() + outside,
            per_token_in_a_layer: layers.iter().copied().max().unwrap_or(0),
            // Of the layers where they spare the least, and add the most.
            factors: Factors {
                instead: factors().map(|of| of.instead).min().unwrap_or(0),
                again: factors().map(|of| of.again).max().unwrap_or(0),
            },
            towers: TrainedTowers::of(plan, recipe, model),
            copies: [form.is_pissa, is_continued, keeps_best].into_iter().map(u64::from).sum(),
        }
    }

    /// The same of a model of one layer.
    pub fn of_a_layer(self) -> Self {
        Beside { per_token: self.per_token_in_a_layer, towers: TrainedTowers::default(), ..self }
    }
}

impl Form {
    /// Numbers that a layer keeps of a token for these projections, with their ranks.
    ///
    /// Plain LoRA keeps its input, which projections of one input share, and what its A makes of it; on the last
    /// projection of a layer it makes the input, the gated product, again, which else is kept. Dropout gives each its own
    /// input and mask, and DoRA rescales an output that it keeps.
    fn kept(self, sites: &[(Site, u64)], d: u64, f: u64) -> u64 {
        let own = |(site, r): &(Site, u64)| {
            let (input, out) = (site.in_features as u64, site.out_features as u64);
            let is_block = site.weight.is_one_of(&Projection::SEVEN);
            let inputs = match self.with_dropout {
                true => 2 * input,
                // What others do not share with it.
                false if !is_block => input,
                false => 0,
            };
            let outputs = match (self.use_dora, self.with_dropout) {
                (false, _) => 0,
                (true, false) => out,
                (true, true) => 2 * out,
            };
            r + inputs + outputs
        };
        let product = if self.keeps_halves(sites) { 0 } else { f };
        self.shared_inputs(sites) * d + product + sites.iter().map(own).sum::<u64>()
    }

    /// What of it, and of what the layer keeps without an adapter, a GPU that rounds factors keeps as such.
    fn factors(self, sites: &[(Site, u64)], d: u64, f: u64) -> Factors {
        let halves = if self.keeps_halves(sites) { 2 * f } else { 0 };
        let output =
            sites.iter().find(|(site, _)| site.weight.is_one_of(&[Projection::O])).map(|(site, _)| site.in_features);
        let output = output.unwrap_or(0) as u64;
        match (self.is_pissa, self.with_dropout) {
            (false, false) => Factors { instead: self.shared_inputs(sites) * d + halves, again: output },
            // In f32, which is two of a factor.
            (true, false) => Factors { instead: 0, again: 2 * output },
            // Each has an input of its own, which is counted.
            (_, true) => Factors::default(),
        }
    }

    /// Inputs that several projections of a layer have in common, and keep once.
    fn shared_inputs(self, sites: &[(Site, u64)]) -> u64 {
        let inputs: [&[Projection]; 2] =
            [&[Projection::Q, Projection::K, Projection::V], &[Projection::Gate, Projection::Up]];
        let has = |wanted: &[Projection]| sites.iter().any(|(site, _)| site.weight.is_one_of(wanted));
        inputs.into_iter().filter(|of| !self.with_dropout && has(of)).count() as u64
    }

    /// Whether the last projection keeps the halves of the gated product, and makes the product again.
    fn keeps_halves(self, sites: &[(Site, u64)]) -> bool {
        let is_plain = !self.use_dora && !self.is_pissa && !self.with_dropout;
        is_plain && sites.iter().any(|(site, _)| site.weight.is_one_of(&[Projection::Down]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a layer of the 270M, with rank 16.
    fn sites(wanted: &[Projection]) -> Vec<(Site, u64)> {
        let model = ModelConfig::published("google/gemma-3-270m").unwrap().unwrap();
        let wanted: Vec<TensorId> = wanted.iter().map(|&projection| TensorId::Projection(3, projection)).collect();
        let sites = model.sites().into_iter().filter(|site| wanted.contains(&site.weight));
        sites.map(|site| (site, 16)).collect()
    }

    fn kept(form: Form, wanted: &[Projection]) -> u64 {
        form.kept(&sites(wanted), 640, 2048)
    }

    #[test]
    fn bytes_are_those_that_the_graph_of_a_layer_keeps() {
        // d = 640, f = 2048, four heads of 256 and one for keys and values.
        let plain = Form { use_dora: false, is_pissa: false, with_dropout: false };
        let (ranks, f) = (7 * 16, 2048);
        assert_eq!(kept(plain, &Projection::SEVEN), 2 * 640 + ranks);
        assert_eq!(kept(plain, &[Projection::O]), f + 16);
        assert_eq!(kept(plain, &[Projection::Q, Projection::V]), 640 + f + 2 * 16);
        let inputs = 5 * 640 + 1024 + f;
        assert_eq!(kept(Form { with_dropout: true, ..plain }, &Projection::SEVEN), 2 * inputs + f + ranks);
        let outputs = 1024 + 2 * 256 + 2 * 640 + 2 * f;
        let dora = Form { use_dora: true, ..plain };
        assert_eq!(kept(dora, &Projection::SEVEN), 2 * 640 + ranks + outputs + f);
        assert_eq!(kept(Form { with_dropout: true, ..dora }, &Projection::SEVEN), 2 * inputs + 2 * outputs + f + ranks);
        assert_eq!(kept(Form { is_pissa: true, ..plain }, &Projection::SEVEN), 2 * 640 + ranks + f);
        assert_eq!(kept(plain, &[]), f);
    }

    #[test]
    fn a_gpu_keeps_as_factors_what_is_one() {
        let plain = Form { use_dora: false, is_pissa: false, with_dropout: false };
        let factors = |form: Form, wanted: &[Projection]| form.factors(&sites(wanted), 640, 2048);
        let of = |instead, again| Factors { instead, again };
        assert_eq!(factors(plain, &Projection::SEVEN), of(2 * 640 + 2 * 2048, 1024));
        assert_eq!(factors(plain, &[Projection::Q, Projection::V]), of(640, 0));
        assert_eq!(factors(Form { use_dora: true, ..plain }, &Projection::SEVEN), of(2 * 640, 1024));
        assert_eq!(factors(Form { is_pissa: true, ..plain }, &Projection::SEVEN), of(0, 2 * 1024));
        assert_eq!(factors(Form { with_dropout: true, ..plain }, &Projection::SEVEN), of(0, 0));
        assert_eq!(factors(plain, &[]), of(0, 0));
    }
}
