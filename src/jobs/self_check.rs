//! Whether a device computes what the CPU computes.

use crate::adapter::{Adapter, LoraModule};
use crate::device::{Compute, attempt};
use crate::error::{Error, Kind, Result};
use crate::model::gemma3::{Gemma3, RandomModel, Site, TextConfig};
use crate::nn::{AttentionKind, Rope, Segments};
use crate::random::Rng;
use crate::train::backprop::MicroBatch;
use crate::train::step::{self, StepSettings};
use crate::weights::names::TensorId;
use crate::weights::{Form, HostDtype};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::Serialize;
use std::fmt;

/// The largest relative difference from the CPU that passes, whatever the weights are held in: they are the same numbers on both
/// sides. Factors of eleven bits (f16, and TF32, as which some GPUs multiply f32) stay below the one, factors of eight bits (bf16)
/// below eight times that; a wrong kernel does not.
pub fn tolerance(compute_dtype: FloatDType) -> f64 {
    if compute_dtype == FloatDType::BF16 { 4e-2 } else { 5e-3 }
}

/// How far a device is from the CPU, each a distance relative to the CPU's norm (L2).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Difference {
    /// The form that the frozen weights were held in.
    pub weights: &'static str,
    /// What the factors of their products were rounded to.
    #[serde(serialize_with = "dtype_name")]
    pub compute_dtype: FloatDType,
    /// Of the decoder's output.
    pub output: f64,
    /// Of the loss.
    pub loss: f64,
    /// Of the farthest of the adapter's gradients. That of the first layer comes through the input of the second.
    pub gradient: f64,
}

impl Difference {
    /// The largest of them; not a number where any is none.
    pub fn largest(&self) -> f64 {
        largest([self.output, self.loss, self.gradient])
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e} with {} weights", self.largest(), self.weights)?;
        match self.compute_dtype {
            FloatDType::F32 => Ok(()),
            dtype => write!(f, " in {} products", DType::from(dtype).name()),
        }
    }
}

fn dtype_name<S: serde::Serializer>(dtype: &FloatDType, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(DType::from(*dtype).name())
}

/// Compares a small decoder (a sliding and a full layer, shared key heads, LoRA everywhere, packed sequences) on a device with the
/// same on the CPU, for every form of weights, with products in f32 and in what the device multiplies fastest.
///
/// # Errors
/// [`Kind::Device`] when the device fails, or when it differs by more than the [`tolerance`].
pub fn compare(compute: &Compute) -> Result<Vec<Difference>> {
    let refuse = |what: String| {
        let error = Error::new(Kind::Device, format!("`{}` {what}", compute.describe()));
        error.hint("use `--device cpu`, and report this with your driver's version")
    };
    let differences = attempt(|| {
        let mut differences = Vec::new();
        for form in FORMS {
            let want = Answer::of(form, None, &Device::flex())?;
            let fastest = Answer::of(form, None, &compute.device)?;
            if fastest.compute_dtype != FloatDType::F32 {
                let exact = Answer::of(form, Some(HostDtype::F32), &compute.device)?;
                differences.push(difference(form, &exact, &want));
            }
            differences.push(difference(form, &fastest, &want));
        }
        Ok(differences)
    });
    let differences = differences.map_err(|why| refuse(format!("fails: {why}")))??;
    for difference in &differences {
        let largest = difference.largest();
        if largest.is_nan() || largest > tolerance(difference.compute_dtype) {
            return Err(refuse(format!("disagrees with the CPU: relative difference {difference}")));
        }
    }
    Ok(differences)
}

/// What the frozen weights are held in.
const FORMS: [Form; 5] = [
    Form::Dense(HostDtype::F32),
    Form::Dense(HostDtype::BF16),
    Form::Dense(HostDtype::F16),
    Form::Int8,
    Form::Nf4 { double: true },
];

fn difference(form: Form, got: &Answer, want: &Answer) -> Difference {
    let gradients = got.gradients.iter().zip(&want.gradients).map(|(got, want)| distance(got, want));
    Difference {
        weights: form.name(),
        compute_dtype: got.compute_dtype,
        output: distance(&got.output, &want.output),
        loss: (got.loss - want.loss).abs() / want.loss.abs(),
        gradient: largest(gradients),
    }
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
struct Answer {
    compute_dtype: FloatDType,
    output: Vec<f32>,
    loss: f64,
    gradients: Vec<Vec<f32>>,
}

impl Answer {
    fn of(form: Form, compute_dtype: Option<HostDtype>, device: &Device) -> Result<Self> {
        let form = |_: &TensorId| form;
        let mut maker = RandomModel::new(&form, device);
        maker.compute_dtype = compute_dtype;
        let model = Gemma3::assemble(config(), &mut maker, device)?;
        let adapter = adapter(&model, &mut maker);
        let ids: Vec<u32> = (0..29).map(|i| i * 37 % model.config.vocab_size as u32).collect();
        let labels: Vec<i32> = ids.iter().map(|&id| id.cast_signed()).collect();
        let batch = MicroBatch::new(ids, &labels, Segments::from_lengths([19, 10]));
        let output = model.hidden(&batch.input_ids, &batch.segments, &adapter);
        let settings =
            StepSettings { max_grad_norm: 0.0, activation_checkpointing: false, lora_dropout: 0.0, rng: Rng::new(1) };
        let (loss, gradients) = step::gradients(&model, &adapter, &[batch], 0, &settings);
        let floats = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
        let gradients = gradients.into_iter().map(floats).collect();
        Ok(Answer { compute_dtype: model.compute_dtype(), output: floats(output), loss, gradients })
    }
}

/// Sizes that are no multiples of a tile.
fn config() -> TextConfig {
    TextConfig {
        vocab_size: 203,
        hidden_size: 44,
        intermediate_size: 70,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 12,
        rms_norm_eps: 1e-6,
        query_pre_attn_scalar: 12.0,
        sliding_window: 7,
        layer_types: vec![AttentionKind::Sliding, AttentionKind::Full],
        rope_local: Rope { theta: 1e4, factor: 1.0 },
        rope_global: Rope { theta: 1e6, factor: 8.0 },
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        pad_token_id: None,
        multimodal: false,
    }
}

fn adapter(model: &Gemma3, maker: &mut RandomModel) -> Adapter {
    const R: usize = 3;
    let module = |site: Site| LoraModule {
        site,
        a: maker.tensor(R, site.in_features, 0.2),
        b: maker.tensor(site.out_features, R, 0.2),
        magnitude: None,
        scaling: 0.7,
        subtracted: None,
    };
    Adapter::new(model.sites().into_iter().map(module).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn every_device_agrees_with_the_cpu() {
        for found in device::all() {
            let compute = Compute::new(&found).unwrap();
            let differences = compare(&compute).unwrap();
            assert!(!differences.is_empty());
            println!("{}: {differences:?}", compute.describe());
        }
    }

    /// Also where the device has no matrix units for them.
    #[test]
    fn narrow_factors_stay_near_the_cpu() {
        for found in device::all() {
            let narrow = [(HostDtype::BF16, FloatDType::BF16), (HostDtype::F16, FloatDType::F16)];
            for (dtype, compute_dtype) in narrow.into_iter().filter(|(_, dtype)| found.device.supports_dtype(*dtype)) {
                for form in FORMS {
                    let [got, want] = [(Some(dtype), &found.device), (None, &Device::flex())]
                        .map(|(compute_dtype, device)| Answer::of(form, compute_dtype, device).unwrap());
                    let difference = difference(form, &got, &want);
                    println!("{}: {difference}", found.name());
                    if found.backend != device::Backend::Cpu {
                        assert_eq!(difference.compute_dtype, compute_dtype);
                    }
                    assert!(difference.largest() < tolerance(compute_dtype) / 2.0, "{}: {difference:?}", found.name());
                }
            }
        }
    }

    #[test]
    fn the_cpu_equals_itself() {
        let form = Form::Dense(HostDtype::BF16);
        let [once, again] = [(); 2].map(|()| Answer::of(form, None, &Device::flex()).unwrap());
        assert_eq!(difference(form, &once, &again).largest(), 0.0);
    }

    #[test]
    fn a_wrong_or_missing_number_is_seen() {
        assert!(distance(&[1.0, 2.0], &[1.0, 2.1]) > tolerance(FloatDType::F32));
        assert!(distance(&[1.0, f32::NAN], &[1.0, 2.0]).is_nan());
        let none =
            Difference { weights: "f32", compute_dtype: FloatDType::F32, output: 0.0, loss: f64::NAN, gradient: 0.0 };
        assert!(none.largest().is_nan());
    }
}
