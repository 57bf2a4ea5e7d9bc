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
    /// What towers take that are trained.
    pub towers: TrainedTowers,
    /// Copies of the trained values that stay beside them: where PiSSA began, the adapter that is continued, the one of
    /// the best evaluation.
    pub copies: u64,
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
        let layers = (0..model.num_hidden_layers()).map(|layer| {
            let sites: Vec<(Site, u64)> = plan.ranks().filter(|(site, _)| site.stage == Stage::Layer(layer)).collect();
            form.kept(&sites, model.hidden_size() as u64, model.intermediate_size() as u64)
        });
        let layers: Vec<u64> = layers.collect();
        let outside = plan.ranks().filter(|(site, _)| !matches!(site.stage, Stage::Layer(_)));
        let outside: u64 = outside.map(|(site, r)| r + site.in_features as u64).sum();
        let is_continued = recipe.adapter.init_from.is_some();
        let keeps_best = recipe.evaluation.load_best_model_at_end;
        Beside {
            per_token: layers.iter().sum::<u64>() + outside,
            per_token_in_a_layer: layers.iter().copied().max().unwrap_or(0),
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
            let is_block = matches!(site.weight, TensorId::Projection(_, p) if Projection::SEVEN.contains(&p));
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
        let is = |site: &Site, wanted: &[Projection]| matches!(site.weight, TensorId::Projection(_, p) if wanted.contains(&p));
        let has = |wanted: &[Projection]| sites.iter().any(|(site, _)| is(site, wanted));
        let shared = [has(&[Projection::Q, Projection::K, Projection::V]), has(&[Projection::Gate, Projection::Up])];
        let shared = shared.into_iter().filter(|has| *has && !self.with_dropout).count() as u64;
        let is_plain = !self.use_dora && !self.is_pissa && !self.with_dropout;
        let product = if is_plain && has(&[Projection::Down]) { 0 } else { f };
        shared * d + product + sites.iter().map(own).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(form: Form, wanted: &[Projection]) -> u64 {
        let model = ModelConfig::published("google/gemma-3-270m").unwrap().unwrap();
        let wanted: Vec<TensorId> = wanted.iter().map(|&projection| TensorId::Projection(3, projection)).collect();
        let sites = model.sites().into_iter().filter(|site| wanted.contains(&site.weight));
        form.kept(&sites.map(|site| (site, 16)).collect::<Vec<_>>(), 640, 2048)
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
}
