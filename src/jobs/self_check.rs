//! Whether a device computes what the CPU computes.

use crate::adapter::{Adapter, Dropout, LoraModule};
use crate::device::Compute;
use crate::error::{Error, Kind, Result};
use crate::guard::watched;
use crate::model::{self, LanguageModel, ModelConfig, RandomModel, Site};
use crate::nn::Segments;
use crate::ops::{F32_TOLERANCE, Roundoff, unusable_ways};
use crate::random::Rng;
use crate::train::backprop;
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::Sft;
use crate::train::recompute::Recompute;
use crate::train::step::{self, Masks, StepSettings};
use crate::weights::names::TensorId;
use crate::weights::{Form, HostDtype};
use burn::tensor::{Device, FloatDType, Tensor};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// The largest relative difference from the CPU that passes, whatever the weights are held in: they are the same
/// numbers on both sides.
///
/// # Numerics
/// The longest way, to the gradient of the first of two layers, has six products in each layer and as many on the way
/// back; the roundings of 24 products are independent, and add up as five do. As many other operations lie between
/// them, and f32 loses its part in each of these fifty. That is 0.05 % where nothing is rounded, 0.5 % more for factors
/// of eleven bits (f16, TF32), 4 % for those of eight (bf16); a wrong kernel does not stay below.
pub fn tolerance(factors: Roundoff) -> f64 {
    const PRODUCTS: f64 = 5.0;
    const OPERATIONS: f64 = 50.0;
    OPERATIONS * F32_TOLERANCE + factors.of_products(PRODUCTS)
}

/// What a device computes, compared with the CPU.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// How far it is from the CPU, for each form of weights that it can hold.
    pub differences: Vec<Difference>,
    /// What it makes of the factors of products in f32.
    pub f32_products: Roundoff,
    /// Kernels for large products that fail there or give wrong numbers, and are not used.
    pub unusable: Vec<String>,
}

impl Agreement {
    /// What a run should know of that, as warnings.
    pub fn warnings(&self) -> Vec<String> {
        let of_kernels = self.unusable.iter().map(|what| format!("left out, as they do not work here: {what}"));
        let of_f32 = (self.f32_products != Roundoff::F32)
            .then(|| format!("products in f32 round their factors to {} here", self.f32_products));
        of_kernels.chain(of_f32).collect()
    }
}

/// How far a device is from the CPU, each a distance relative to the CPU's norm (L2).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Difference {
    /// The form that the frozen weights were held in.
    pub weights: &'static str,
    /// What the factors of their products were rounded to.
    #[serde(serialize_with = "name")]
    pub compute_dtype: Roundoff,
    /// Of the decoder's output.
    pub output: f64,
    /// Of the loss.
    pub loss: f64,
    /// Of the farthest of the adapter's gradients. That of the first layer comes through the input of the second.
    pub gradient: f64,
    /// Of the farthest gradient of an adapter in a layer whose input is not tracked: in its graph adapters alone are.
    pub adapters_alone: f64,
    /// The same where the input is tracked too, and of the input's own gradient.
    pub with_input: f64,
}

impl Difference {
    /// The largest of them; not a number where any is none.
    pub fn largest(&self) -> f64 {
        largest([self.output, self.loss, self.gradient, self.adapters_alone, self.with_input])
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e} with {} weights", self.largest(), self.weights)?;
        match self.compute_dtype {
            Roundoff::F32 => Ok(()),
            rounded => write!(f, " in {rounded} products"),
        }
    }
}

/// A rounding by its name.
pub fn name<S: serde::Serializer>(rounded: &Roundoff, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(rounded.name())
}

/// Compares a small decoder (a sliding and a full layer, shared key heads, LoRA everywhere, packed sequences) on a
/// device with the same on the CPU, for every form of weights, with products in f32 and in what the device multiplies
/// fastest; and each of its layers alone, with LoRA and with DoRA under dropout, both where only adapters have
/// gradients and where the layer's input has one too. Kernels for large products are tried before.
///
/// # Errors
/// [`Kind::Device`] when the device fails, or when it differs by more than the [`tolerance`].
pub fn compare(compute: &Compute) -> Result<Agreement> {
    let agreement = watched(|| {
        let unusable = unusable_ways(&compute.device);
        let f32_products = Roundoff::of(&compute.device, FloatDType::F32);
        let mut differences = Vec::new();
        for form in FORMS {
            let want = Answer::of(form, None, &Device::flex())?;
            let fastest = Answer::of(form, None, &compute.device)?;
            if fastest.compute_dtype != FloatDType::F32 {
                let exact = Answer::of(form, Some(HostDtype::F32), &compute.device)?;
                differences.push(difference(form, &exact, &want, f32_products));
            }
            differences.push(difference(form, &fastest, &want, f32_products));
        }
        Ok(Agreement { differences, f32_products, unusable })
    });
    let name = compute.describe();
    let agreement: Agreement = agreement.map_err(|why| refused(&name, format!("fails: {why}")))??;
    Ok(Agreement { differences: accept(&name, agreement.differences)?, ..agreement })
}

/// The differences of a device, where none of them is too large.
fn accept(name: &str, differences: Vec<Difference>) -> Result<Vec<Difference>> {
    for difference in &differences {
        let largest = difference.largest();
        if largest.is_nan() || largest > tolerance(difference.compute_dtype) {
            return Err(refused(name, format!("disagrees with the CPU: relative difference {difference}")));
        }
    }
    Ok(differences)
}

fn refused(name: &str, what: String) -> Error {
    // What CUDA's driver says of PTX that is too new for it, and NVRTC of a GPU.
    const TOO_NEW: [&str; 3] = ["UNSUPPORTED_PTX_VERSION", "unsupported toolchain", "CUDA_ERROR(222)"];
    const TOO_OLD: [&str; 2] = ["invalid value for --gpu-architecture", "NVRTC_ERROR_INVALID_OPTION"];
    let says = |words: &[&str]| words.iter().any(|words| what.contains(words));
    let hint = if says(&TOO_NEW) {
        "the NVRTC of the CUDA toolkit (`CUDA_PATH`, else /usr/local/cuda) is newer than the driver: install a toolkit \
         that is no newer than it, or a newer driver"
    } else if says(&TOO_OLD) {
        "the NVRTC of the CUDA toolkit (`CUDA_PATH`, else /usr/local/cuda) is older than this GPU: install a newer \
         toolkit, as new as the driver at most"
    } else {
        "use `--device cpu`, and report this with your driver's version"
    };
    Error::new(Kind::Device, format!("`{name}` {what}")).hint(hint)
}

/// What the frozen weights are held in.
const FORMS: [Form; 5] = [
    Form::Dense(HostDtype::F32),
    Form::Dense(HostDtype::BF16),
    Form::Dense(HostDtype::F16),
    Form::Int8,
    Form::Nf4 { double: true },
];

fn difference(form: Form, got: &Answer, want: &Answer, f32_products: Roundoff) -> Difference {
    Difference {
        weights: form.name(),
        compute_dtype: match got.compute_dtype {
            FloatDType::BF16 => Roundoff::Bf16,
            FloatDType::F16 => Roundoff::F16,
            _ => f32_products,
        },
        output: distance(&got.output, &want.output),
        loss: (got.loss - want.loss).abs() / want.loss.abs(),
        gradient: farthest(&got.gradients, &want.gradients),
        adapters_alone: farthest(&got.adapters_alone, &want.adapters_alone),
        with_input: farthest(&got.with_input, &want.with_input),
    }
}

/// The largest distance of any tensor; not a number where one is missing.
fn farthest(got: &[Vec<f32>], want: &[Vec<f32>]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    largest(got.iter().zip(want).map(|(got, want)| distance(got, want)))
}

/// The largest value; not a number where any is none.
fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |a, b| if a.is_nan() || a > b { a } else { b })
}

/// `|got - want| / |want|`.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let pairs = got.iter().zip(want).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let (error, norm) = pairs.fold((0.0, 0.0), |(e, n), (a, b)| (e + square(a - b), n + square(b)));
    (error / norm).sqrt()
}

/// What a device answers.
#[derive(Clone)]
struct Answer {
    compute_dtype: FloatDType,
    output: Vec<f32>,
    loss: f64,
    gradients: Vec<Vec<f32>>,
    /// Of each layer alone and each kind of adapter, the adapter's gradients.
    adapters_alone: Vec<Vec<f32>>,
    /// The same, and the input's.
    with_input: Vec<Vec<f32>>,
}

impl Answer {
    fn of(form: Form, compute_dtype: Option<HostDtype>, device: &Device) -> Result<Self> {
        let form = |_: &TensorId| form;
        let mut maker = RandomModel::new(&form, device);
        maker.compute_dtype = compute_dtype;
        let model = model::assemble(ModelConfig::small(), &mut maker, device)?;
        let model = model.as_ref();
        let lora = adapter(model, &mut maker, false);
        let dora = adapter(model, &mut maker, true);
        let batch = batch(model);
        let output = model.hidden(&batch.inputs, &lora);
        let layers =
            Layers { model, batch: &batch, upstream: maker.tensor(batch.tokens(), model.config().hidden_size(), 1.0) };
        let alone = |tracked| [layers.gradients(&lora, 0.0, tracked), layers.gradients(&dora, 0.25, tracked)].concat();
        let (adapters_alone, with_input) = (alone(false), alone(true));
        let (loss, gradients) = step::gradients(model, &lora, &[batch], 0, &settings());
        Ok(Answer {
            compute_dtype: model.compute_dtype(),
            output: floats(output),
            loss,
            gradients: gradients.into_iter().map(floats).collect(),
            adapters_alone,
            with_input,
        })
    }
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The layers of a model, each run alone on the embedded tokens of a batch.
struct Layers<'a> {
    model: &'a dyn LanguageModel,
    batch: &'a MicroBatch,
    /// The gradient of each layer's output, `[n, d]`.
    upstream: Tensor<2>,
}

impl Layers<'_> {
    /// The gradients of the adapter in every layer, with those of the layers' inputs where these are tracked.
    fn gradients(&self, adapter: &Adapter, dropout: f64, tracked: bool) -> Vec<Vec<f32>> {
        let Layers { model, batch, upstream } = self;
        let layout = model.layout(&batch.inputs);
        let masks = Masks { rng: Rng::new(2), step: 0, micro: 0, p: dropout };
        let dropout = (dropout > 0.0).then_some(&masks as &dyn Dropout);
        let one = |layer| {
            let input = backprop::leaves(&model.embed(&batch.inputs, adapter), tracked);
            let (parameters, streams) =
                backprop::layer_gradients(*model, adapter, layer, input, upstream, &layout, dropout);
            parameters.into_iter().chain(streams).flatten().map(floats)
        };
        (0..model.num_layers()).flat_map(one).collect()
    }
}

/// Two packed sequences.
fn batch(model: &dyn LanguageModel) -> MicroBatch {
    let ids: Vec<u32> = (0..29).map(|i| i * 37 % model.config().vocab_size() as u32).collect();
    let labels: Vec<i32> = ids.iter().map(|&id| id.cast_signed()).collect();
    MicroBatch::new(ids, &labels, Segments::from_lengths([19, 10]))
}

fn settings() -> StepSettings {
    StepSettings {
        objective: Arc::new(Sft),
        max_grad_norm: 0.0,
        recompute: Recompute::NOTHING,
        lora_dropout: 0.0,
        rng: Rng::new(1),
    }
}

/// LoRA or DoRA on every projection.
fn adapter(model: &dyn LanguageModel, maker: &mut RandomModel, use_dora: bool) -> Adapter {
    const R: usize = 3;
    let module = |site: Site| LoraModule {
        site,
        a: maker.tensor(R, site.in_features, 0.2),
        b: maker.tensor(site.out_features, R, 0.2),
        magnitude: use_dora.then(|| maker.tensor(1, site.out_features, 0.1).add_scalar(1.0)),
        scaling: 0.7,
        subtracted: None,
    };
    Adapter::new(model.sites().into_iter().map(module).collect())
}

#[cfg(test)]
mod tests;
