//! Low-rank adapters beside frozen projections.

use crate::model::{Site, Stage, WholeTensor};
use crate::nn::SidePath;
use crate::ops::plain::add_low_rank;
use crate::ops::{Input, Weight, geglu, product};
use crate::weights::names::ModelPart;
use burn::tensor::{Device, Gradients, Tensor};

/// The adapter of one projection.
///
/// LoRA: `y = x W^T + s (x A^T) B^T`. DoRA: that, each output feature rescaled to a learned magnitude:
/// `y = m / |W + s B A| * (x W^T + s (x A^T) B^T)`, with row norms that the gradient treats as constants.
///
/// # Source
/// Hu et al. 2021, equation 3; Liu et al. 2024 (DoRA), equations 5 and 11. Dropout acts on `x` as in PEFT.
#[derive(Debug, Clone)]
pub struct LoraModule {
    /// The projection.
    pub site: Site,
    /// `[r, in]`.
    pub a: Tensor<2>,
    /// `[out, r]`.
    pub b: Tensor<2>,
    /// DoRA's magnitudes `[1, out]`.
    pub magnitude: Option<Tensor<2>>,
    /// `s`: `lora_alpha / r`, or `lora_alpha / sqrt(r)` with rsLoRA.
    pub scaling: f64,
    /// What the frozen weight counts as less of: PiSSA's initial `(A, B)`. The base stays as it is on disk, and
    /// `W - s B0 A0` is never formed.
    pub subtracted: Option<(Tensor<2>, Tensor<2>)>,
}

impl LoraModule {
    /// The trainable tensors: A, B, and the magnitudes where there are any.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor<2>> {
        [&self.a, &self.b].into_iter().chain(&self.magnitude)
    }

    fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Tensor<2>> {
        [&mut self.a, &mut self.b].into_iter().chain(&mut self.magnitude)
    }

    /// The same on a device; nothing is copied where it is there.
    pub fn to_device(&self, device: &Device) -> Self {
        let moved = |tensor: &Tensor<2>| tensor.clone().to_device(device);
        LoraModule {
            a: moved(&self.a),
            b: moved(&self.b),
            magnitude: self.magnitude.as_ref().map(moved),
            subtracted: self.subtracted.as_ref().map(|(a, b)| (moved(a), moved(b))),
            ..self.clone()
        }
    }

    /// The projection's output with this adapter. `dropped` is `x` after dropout, where there is any.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn project(&self, x: impl Into<Input>, dropped: Option<Tensor<2>>, base: &Weight) -> Tensor<2> {
        let x = x.into();
        let frozen = |x: &Input| match &self.subtracted {
            Some((a, b)) => add_low_rank(base.project(x.clone()), x.rows(), a, b, -self.scaling),
            None => base.project(x.clone()),
        };
        let adapted = |y: Tensor<2>, x: &Tensor<2>| add_low_rank(y, x, &self.a, &self.b, self.scaling);
        let rescale = self.magnitude.as_ref().map(|magnitude| magnitude.clone() / self.row_norms(base)); // [1, out]
        match (dropped, rescale) {
            (None, rescale) => {
                let y = match self.subtracted {
                    None => base.project_adapted(x, &self.a, &self.b, self.scaling),
                    Some(_) => adapted(frozen(&x), x.rows()),
                };
                match rescale {
                    Some(rescale) => y * rescale,
                    None => y,
                }
            }
            (Some(dropped), None) => adapted(frozen(&x), &dropped),
            // As PEFT does: what is rescaled is computed from the dropped input, the frozen output from the whole one.
            (Some(dropped), Some(rescale)) => {
                let added = base.project(dropped.clone());
                let delta = adapted(added.zeros_like(), &dropped);
                frozen(&x) + added * rescale.clone().sub_scalar(1.0) + delta * rescale
            }
        }
    }

    /// As [`LoraModule::project`], of `gelu_tanh(gate) * up`.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[n, in]`
    /// - output: `[n, out]`
    pub fn project_gated(&self, gate: Tensor<2>, up: Tensor<2>, base: &Weight) -> Tensor<2> {
        if self.magnitude.is_some() || self.subtracted.is_some() {
            return self.project(geglu(gate, up), None, base);
        }
        base.project_gated(gate, up, &self.a, &self.b, self.scaling)
    }

    /// As [`LoraModule::project`], given the `frozen` `x W^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `frozen`, output: `[n, out]`
    pub fn beside(&self, x: &Tensor<2>, frozen: Tensor<2>, base: &Weight) -> Tensor<2> {
        let y = match &self.subtracted {
            Some((a, b)) => add_low_rank(frozen, x, a, b, -self.scaling),
            None => frozen,
        };
        let y = add_low_rank(y, x, &self.a, &self.b, self.scaling);
        match &self.magnitude {
            Some(magnitude) => y * (magnitude.clone() / self.row_norms(base)),
            None => y,
        }
    }

    /// `|W + s B A|` per output feature, `[1, out]`, a constant for the gradient.
    pub fn row_norms(&self, base: &Weight) -> Tensor<2> {
        let [out, _] = base.dims();
        let delta = product(self.b.clone().inner(), self.a.clone().inner()).mul_scalar(self.scaling);
        (base.to_f32() + delta).square().sum_dim(1).sqrt().reshape([1, out])
    }
}

/// A tensor of the model that is trained as it is: one of those that PEFT's `modules_to_save` means.
#[derive(Debug, Clone)]
pub struct TrainedTensor {
    /// Which.
    pub tensor: WholeTensor,
    /// What stands in its place, of its shape.
    pub value: Tensor<2>,
}

/// An adapter: the modules it has, which projection each serves, and what it has in the place of other tensors.
#[derive(Debug, Clone)]
pub struct Adapter {
    modules: Vec<LoraModule>,
    whole: Vec<TrainedTensor>,
    by_site: Vec<Option<usize>>,
}

impl Adapter {
    /// An adapter of these modules, at most one per projection, in order of their projection.
    pub fn new(mut modules: Vec<LoraModule>) -> Self {
        modules.sort_by_key(|m| m.site.index);
        let sites = modules.last().map_or(0, |m| m.site.index + 1);
        let mut by_site = vec![None; sites];
        for (index, module) in modules.iter().enumerate() {
            by_site[module.site.index] = Some(index);
        }
        Adapter { modules, whole: Vec::new(), by_site }
    }

    /// The same adapter with these tensors in the place of the model's.
    pub fn with_whole(self, whole: Vec<TrainedTensor>) -> Self {
        Adapter { whole, ..self }
    }

    /// The same on a device; nothing is copied where it is there.
    pub fn to_device(&self, device: &Device) -> Self {
        let whole =
            |whole: &TrainedTensor| TrainedTensor { value: whole.value.clone().to_device(device), ..whole.clone() };
        Adapter {
            modules: self.modules.iter().map(|module| module.to_device(device)).collect(),
            whole: self.whole.iter().map(whole).collect(),
            by_site: self.by_site.clone(),
        }
    }

    /// The tensors that it has in the place of the model's.
    pub fn whole(&self) -> &[TrainedTensor] {
        &self.whole
    }

    /// Its modules, in order of their projection.
    pub fn modules(&self) -> &[LoraModule] {
        &self.modules
    }

    /// All trainable tensors: of each module A, B, magnitudes; then those in the place of the model's.
    pub fn parameters(&self) -> Vec<Tensor<2>> {
        let whole = self.whole.iter().map(|whole| &whole.value);
        self.modules.iter().flat_map(LoraModule::parameters).chain(whole).cloned().collect()
    }

    /// The part of the model that each of the trainable tensors belongs to.
    pub fn parts(&self) -> Vec<ModelPart> {
        let of = |module: &LoraModule| std::iter::repeat_n(module.site.weight.part(), module.parameters().count());
        let whole = self.whole.iter().map(|whole| whole.tensor.id.part());
        self.modules.iter().flat_map(of).chain(whole).collect()
    }

    /// A hash of what decides its outputs, to tell whether training changed any: without B neither A nor the scale
    /// matters, so of a module whose B is zero only the magnitudes count.
    pub fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut add = |tensor: &Tensor<2>| {
            let values: Vec<f32> = tensor.clone().into_data().iter::<f32>().collect();
            let is_zero = values.iter().all(|value| *value == 0.0);
            if !is_zero {
                hasher.update(bytemuck::cast_slice(&values));
            }
            is_zero
        };
        for module in &self.modules {
            if !add(&module.b) {
                add(&module.a);
            }
            module.magnitude.iter().for_each(|magnitude| _ = add(magnitude));
        }
        self.whole.iter().for_each(|whole| _ = add(&whole.value));
        hasher.finalize()
    }

    /// Whether it leaves the model as it is, whatever the input; not known of what stands in the place of its tensors.
    pub fn is_zero(&self) -> bool {
        let is_zero = |module: &LoraModule| {
            let no_product = || module.scaling == 0.0 || module.b.clone().abs().max().into_scalar::<f32>() == 0.0;
            module.magnitude.is_none() && module.subtracted.is_none() && no_product()
        };
        self.whole.is_empty() && self.modules.iter().all(is_zero)
    }

    /// Replaces all trainable tensors, in the order of [`Adapter::parameters`].
    pub fn set_parameters(&mut self, values: Vec<Tensor<2>>) {
        let whole = self.whole.iter_mut().map(|whole| &mut whole.value);
        let targets = self.modules.iter_mut().flat_map(LoraModule::parameters_mut).chain(whole);
        for (target, value) in targets.zip(values) {
            *target = value;
        }
    }

    /// Number of trainable values.
    pub fn trainable(&self) -> u64 {
        self.parameters().iter().map(|p| p.shape().num_elements() as u64).sum()
    }

    /// Whether it trains something in this stage.
    pub fn has(&self, stage: Stage) -> bool {
        let has_module = self.modules.iter().any(|module| module.site.stage == stage);
        has_module || self.whole.iter().any(|whole| whole.tensor.stage == stage)
    }

    /// The modules of one stage as leaves of a new gradient graph.
    pub fn track<'a>(&'a self, stage: Stage, dropout: Option<&'a dyn Dropout>) -> TrainedStage<'a> {
        let mut tracked = self.dropping(stage, dropout);
        let TrainedStage { modules, whole, .. } = &mut tracked;
        let modules = modules.iter_mut().flat_map(|(_, module)| module.parameters_mut());
        for parameter in modules.chain(whole.iter_mut().map(|(_, whole)| &mut whole.value)) {
            *parameter = parameter.clone().autodiff().require_grad();
        }
        tracked
    }

    /// The modules of one stage with dropout, outside any graph.
    pub fn dropping<'a>(&'a self, stage: Stage, dropout: Option<&'a dyn Dropout>) -> TrainedStage<'a> {
        let mut first_parameter = 0;
        let mut modules = Vec::new();
        for module in &self.modules {
            if module.site.stage == stage {
                modules.push((first_parameter, module.clone()));
            }
            first_parameter += module.parameters().count();
        }
        let whole = (first_parameter..).zip(self.whole.iter().cloned());
        let whole = whole.filter(|(_, whole)| whole.tensor.stage == stage).collect();
        TrainedStage { modules, whole, dropout }
    }

    fn at(&self, site: usize) -> Option<&LoraModule> {
        self.by_site.get(site).copied().flatten().map(|index| &self.modules[index])
    }
}

impl SidePath for Adapter {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        match self.at(site) {
            Some(module) => module.project(x, None, base),
            None => base.project(x),
        }
    }

    fn project_gated(&self, site: usize, gate: Tensor<2>, up: Tensor<2>, base: &Weight) -> Tensor<2> {
        match self.at(site) {
            Some(module) => module.project_gated(gate, up, base),
            None => base.project(geglu(gate, up)),
        }
    }

    fn beside(&self, site: usize, x: Tensor<2>, frozen: Tensor<2>, base: &Weight) -> Tensor<2> {
        match self.at(site) {
            Some(module) => module.beside(&x, frozen, base),
            None => frozen,
        }
    }

    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        self.whole.iter().find(|whole| whole.tensor.index == tensor).map(|whole| whole.value.clone())
    }
}

/// Decides which inputs of an adapter are dropped.
pub trait Dropout: Sync {
    /// What enters the adapter at `site`: each value of `x` times 0 or `1 / (1 - p)`. Must give the same answer each time
    /// for the same batch, since a recomputed layer asks again.
    ///
    /// # Shapes
    /// - `x`, output: `[n, in]`
    fn drop_from(&self, site: usize, x: &Tensor<2>) -> Tensor<2>;
}

/// The modules of one stage as training runs them: with dropout, and where tracked as leaves of a gradient graph.
pub struct TrainedStage<'a> {
    /// Each with the index of its first parameter, as those of `whole` with that of their own.
    modules: Vec<(usize, LoraModule)>,
    whole: Vec<(usize, TrainedTensor)>,
    dropout: Option<&'a dyn Dropout>,
}

impl TrainedStage<'_> {
    /// Takes the gradients of this stage's parameters, each with its index in [`Adapter::parameters`].
    pub fn take_gradients(&self, gradients: &mut Gradients) -> Vec<(usize, Tensor<2>)> {
        let whole = self.whole.iter().map(|(index, whole)| (*index, &whole.value));
        let modules = self.modules.iter().flat_map(|(first, module)| (*first..).zip(module.parameters()));
        let indexed = modules.chain(whole);
        indexed.filter_map(|(index, p)| Some((index, p.grad_remove(gradients)?))).collect()
    }
}

impl SidePath for TrainedStage<'_> {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        let Some((_, module)) = self.modules.iter().find(|(_, m)| m.site.index == site) else { return base.project(x) };
        let dropped = self.dropout.map(|dropout| dropout.drop_from(site, x.rows()));
        module.project(x, dropped, base)
    }

    fn project_gated(&self, site: usize, gate: Tensor<2>, up: Tensor<2>, base: &Weight) -> Tensor<2> {
        match self.modules.iter().find(|(_, m)| m.site.index == site) {
            Some((_, module)) if self.dropout.is_none() => module.project_gated(gate, up, base),
            _ => self.project(site, geglu(gate, up).into(), base),
        }
    }

    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        self.whole.iter().find(|(_, whole)| whole.tensor.index == tensor).map(|(_, whole)| whole.value.clone())
    }
}

#[cfg(test)]
mod tests;
