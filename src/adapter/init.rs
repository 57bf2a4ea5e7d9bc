//! How a new adapter starts.

use crate::adapter::{Adapter, LoraModule, TrainedTensor, pissa};
use crate::model::{LanguageModel, Site, WholeTensor};
use crate::random::{Label, Rng};
use crate::weights::names::TensorId;
use burn::tensor::{Tensor, TensorData};

/// How A and B are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Init {
    /// A uniform in `+-1/sqrt(in)`, B zero: PEFT's default.
    #[default]
    Kaiming,
    /// A normal with standard deviation `1/r`, B zero.
    Gaussian,
    /// The principal singular vectors of the weight.
    Pissa,
}

/// What a new adapter looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraOptions {
    /// Rank.
    pub r: usize,
    /// Strength; see [`LoraOptions::scaling`].
    pub lora_alpha: f64,
    /// Divide by the root of the rank instead of the rank.
    pub use_rslora: bool,
    /// Learn magnitudes too.
    pub use_dora: bool,
    /// How A and B start.
    pub init: Init,
}

impl LoraOptions {
    /// `lora_alpha / r`, or `lora_alpha / sqrt(r)` with rsLoRA.
    ///
    /// # Source
    /// Kalajdzievski 2023 (rsLoRA), section 3.
    pub fn scaling(&self) -> f64 {
        self.lora_alpha / if self.use_rslora { (self.r as f64).sqrt() } else { self.r as f64 }
    }
}

/// A new adapter for these projections. Each tensor depends only on the seed and its own name.
pub fn create(model: &dyn LanguageModel, sites: &[Site], options: LoraOptions, rng: Rng) -> Adapter {
    Adapter::new(sites.iter().map(|&site| module(model, site, options, rng)).collect())
}

/// How far the numbers of a new head are from 0: `initializer_range`, which transformers draws all weights by.
const INITIALIZER_RANGE: f32 = 0.02;

/// The tensors of the model that are trained as they are, as it has them; a head that judges, which it has not, of random numbers
/// as transformers draws them: normal, of standard deviation 0.02.
pub fn whole(model: &dyn LanguageModel, tensors: &[WholeTensor], rng: Rng) -> Vec<TrainedTensor> {
    let trained = |&tensor: &WholeTensor| {
        let value =
            if tensor.id == TensorId::Score { head(model, tensor.dims, rng) } else { model.whole(tensor.index)? };
        Some(TrainedTensor { tensor, value })
    };
    tensors.iter().filter_map(trained).collect()
}

fn head(model: &dyn LanguageModel, dims: [usize; 2], rng: Rng) -> Tensor<2> {
    let mut random = rng.stream(&[Label::Purpose("score")]);
    let values: Vec<f32> = random.normal_f32(dims[0] * dims[1]).into_iter().map(|x| x * INITIALIZER_RANGE).collect();
    Tensor::from_data(TensorData::new(values, dims), model.device())
}

fn module(model: &dyn LanguageModel, site: Site, options: LoraOptions, rng: Rng) -> LoraModule {
    let Site { in_features, out_features, .. } = site;
    let weight = &model.linear(site.index).weight;
    let name = site.weight.hf();
    let mut random = rng.stream(&[Label::Purpose("lora_A"), Label::Module(&name)]);
    let tensor =
        |values: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), model.device());
    let zeros = Tensor::zeros([out_features, options.r], model.device());
    let elements = options.r * in_features;
    let scaling = options.scaling();
    let (a, b, subtracted) = match options.init {
        Init::Kaiming => {
            let bound = 1.0 / (in_features as f32).sqrt();
            (tensor(random.uniform_f32(elements, -bound, bound), [options.r, in_features]), zeros, None)
        }
        Init::Gaussian => {
            let values = random.normal_f32(elements).into_iter().map(|x| x / options.r as f32).collect();
            (tensor(values, [options.r, in_features]), zeros, None)
        }
        Init::Pissa => {
            let (a, b) = pissa::principal(&weight.to_f32(), options.r, scaling, &mut random);
            (a.clone(), b.clone(), Some((a, b)))
        }
    };
    let mut module = LoraModule { site, a, b, magnitude: None, scaling, subtracted };
    if options.use_dora {
        module.magnitude = Some(module.row_norms(weight));
    }
    module
}
