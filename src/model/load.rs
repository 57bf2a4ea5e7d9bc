//! Putting a model together: from its files, one tensor at a time, or from any other parts.

use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::gemma3::{Gemma3, Vision};
use crate::model::gemma3n::{self, Gemma3n};
use crate::model::language_model::LanguageModel;
use crate::model::parts::{NormShape, Parts};
use crate::model::towers::Towers;
use crate::nn::RmsNorm;
use crate::ops::{self, Weight};
use crate::progress::Progress;
use crate::weights::names::TensorId;
use crate::weights::{Holding, HostData, HostDtype, HostTensor, Source};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

/// Loads the model that `config` describes from `source`, with the towers that it has ([`ModelConfig::of_text`] has none).
/// Matrices are held as `holding` says, norms in f32. At most one tensor more than the model itself is in memory, and what
/// is quantised never is in another form as a whole.
///
/// # Errors
/// [`crate::error::Kind::Weights`] for a missing tensor or a wrong shape, naming the tensor, and for one of a tower that is
/// not known; a holding that contradicts how the model is stored (see [`Source::check`]).
pub fn load(
    config: ModelConfig,
    source: &Source,
    holding: &Holding,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Box<dyn LanguageModel>> {
    source.check(holding)?;
    config.check_towers(source)?;
    progress.start("Loading the model", Some(config.num_hidden_layers() as u64 + 1), "parts");
    let model = assemble(config, &mut Loader { source, holding, device, progress }, device)?;
    progress.finish();
    Ok(model)
}

/// Puts together the model that `config` describes.
///
/// # Errors
/// Those of `parts`.
pub fn assemble(config: ModelConfig, parts: &mut dyn Parts, device: &Device) -> Result<Box<dyn LanguageModel>> {
    Ok(match config {
        ModelConfig::Gemma3(config) => Box::new(Gemma3::assemble(config, parts, device)?),
        ModelConfig::Gemma3n(config) => Box::new(Gemma3n::assemble(config, parts, device)?),
    })
}

/// Loads the towers alone of the model that `config` describes; `None` if it has none.
///
/// # Errors
/// As [`load`].
pub fn load_towers(
    config: &ModelConfig,
    source: &Source,
    holding: &Holding,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Option<Box<dyn Towers>>> {
    config.check_towers(source)?;
    let mut parts = Loader { source, holding, device, progress };
    Ok(match config {
        ModelConfig::Gemma3(config) => {
            Vision::assemble(config, &mut parts)?.map(|vision| Box::new(vision) as Box<dyn Towers>)
        }
        ModelConfig::Gemma3n(config) => {
            gemma3n::Towers::assemble(config, &mut parts, device)?.map(|towers| Box::new(towers) as Box<dyn Towers>)
        }
    })
}

/// The parts of a model in files.
pub struct Loader<'a> {
    /// The files.
    pub source: &'a Source,
    /// What matrices are held as.
    pub holding: &'a Holding,
    /// Where it will compute.
    pub device: &'a Device,
    /// Is told of each layer.
    pub progress: &'a dyn Progress,
}

impl Loader<'_> {
    /// A kernel `[out, ..]` as a matrix.
    fn convolution(&self, id: TensorId, shape: &[usize]) -> Result<Weight> {
        let tensor = self.source.read(&id, shape, self.holding.dtype)?;
        let dims = [shape[0], shape[1..].iter().product()];
        let weight = dense(HostTensor { shape: dims.to_vec(), ..tensor }, dims, self.device)?;
        Ok(computed_in(weight, self.holding.compute_dtype))
    }
}

impl Parts for Loader<'_> {
    fn matrix(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight> {
        let weight = match self.source.read_compressed(&id, dims, self.holding)? {
            Some(matrix) => Weight::quantized(matrix, self.device),
            None => dense(self.source.read(&id, &dims, self.holding.dtype)?, dims, self.device)?,
        };
        let weight = computed_in(weight, self.holding.compute_dtype);
        Ok(if self.holding.int8_inputs { weight.with_rounded_inputs() } else { weight })
    }

    fn norm(&mut self, id: TensorId, shape: NormShape) -> Result<RmsNorm> {
        Ok(shape.norm(self.vector(id, shape.width)?))
    }

    fn vector(&mut self, id: TensorId, len: usize) -> Result<Tensor<1>> {
        Ok(to_device(self.source.read(&id, &[len], Some(HostDtype::F32))?, self.device))
    }

    fn kernel(&mut self, id: TensorId, dims: [usize; 4]) -> Result<Weight> {
        self.convolution(id, &dims)
    }

    fn row_kernel(&mut self, id: TensorId, dims: [usize; 3]) -> Result<Weight> {
        self.convolution(id, &dims)
    }

    fn table(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight> {
        let host = Device::flex();
        match self.source.read_compressed(&id, dims, self.holding)? {
            Some(matrix) => Ok(Weight::quantized(matrix, &host)),
            None => dense(self.source.read(&id, &dims, self.holding.dtype)?, dims, &host),
        }
    }

    fn layer_done(&mut self) {
        self.progress.advance(1);
    }
}

/// The weight, with products in this dtype; `None` is what its device multiplies fastest.
pub fn computed_in(weight: Weight, compute_dtype: Option<HostDtype>) -> Weight {
    match compute_dtype {
        Some(dtype) => weight.computed_in(float_dtype(dtype)),
        None => weight,
    }
}

/// A matrix of plain floats on a device: a tensor, or its bytes where there are no such tensors (WGSL has no bf16).
///
/// # Errors
/// If it has not these dimensions.
pub fn dense(tensor: HostTensor, dims: [usize; 2], device: &Device) -> Result<Weight> {
    let bytes = tensor.data.as_bytes().len() as u64;
    Ok(match ops::can_hold(device, float_dtype(tensor.dtype()), bytes) {
        true => Weight::new(to_device(tensor, device)),
        false => Weight::quantized(tensor.into_blocks(dims)?, device),
    })
}

/// Moves a host tensor to the device in its own dtype, or as f32 where the device has no such numbers.
pub fn to_device<const D: usize>(tensor: HostTensor, device: &Device) -> Tensor<D> {
    let (dtype, shape) = (float_dtype(tensor.dtype()), tensor.shape);
    let data = match tensor.data {
        HostData::F32(values) => TensorData::new(values, shape),
        HostData::BF16(values) => TensorData::new(values, shape),
        HostData::F16(values) => TensorData::new(values, shape),
    };
    let dtype = DType::from(if device.supports_dtype(dtype) { dtype } else { FloatDType::F32 });
    // What stays for as long as the model does lies by itself: else the largest of it decides what all else is carved from.
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data.convert_dtype(dtype), (device, dtype)))
}

/// A dtype in burn's words.
pub fn float_dtype(dtype: HostDtype) -> FloatDType {
    match dtype {
        HostDtype::F32 => FloatDType::F32,
        HostDtype::BF16 => FloatDType::BF16,
        HostDtype::F16 => FloatDType::F16,
    }
}
