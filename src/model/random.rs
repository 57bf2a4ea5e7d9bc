//! A model of random numbers, in the forms that real weights are held in.

use crate::error::Result;
use crate::model::load;
use crate::model::parts::{NormShape, Parts};
use crate::nn::RmsNorm;
use crate::ops::Weight;
use crate::quant::absmax::DoubleQuantized;
use crate::quant::{Absmax, QuantType, QuantizedMatrix, nf4};
use crate::random::{Label, Rng, Stream};
use crate::weights::names::TensorId;
use crate::weights::{Form, HostData, HostDtype, HostTensor};
use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};

/// Numbers that are drawn; a larger matrix repeats them. A prime, so that no two rows of a matrix are the same.
const DRAWN: usize = 65_521;

/// The parts of a model of random numbers: the same numbers on every device.
pub struct RandomModel<'a> {
    /// The form of each matrix.
    pub form: &'a dyn Fn(&TensorId) -> Form,
    /// What the factors of products are rounded to; `None` is what a GPU multiplies fastest, and f32 on the CPU.
    pub compute_dtype: Option<HostDtype>,
    /// Where it will compute.
    pub device: &'a Device,
    random: Stream,
}

impl<'a> RandomModel<'a> {
    /// One that begins at the start of its random numbers.
    pub fn new(form: &'a dyn Fn(&TensorId) -> Form, device: &'a Device) -> Self {
        RandomModel { form, compute_dtype: None, device, random: Rng::new(1).stream(&[Label::Purpose("random model")]) }
    }

    /// A dense matrix of normal numbers of this size.
    pub fn tensor(&mut self, rows: usize, columns: usize, size: f32) -> Tensor<2> {
        let values = self.values(rows * columns, size);
        Tensor::from_data(TensorData::new(values, [rows, columns]), self.device)
    }

    /// Normal numbers of this size.
    fn values(&mut self, len: usize, size: f32) -> Vec<f32> {
        let drawn: Vec<f32> = self.random.normal_f32(len.min(DRAWN)).into_iter().map(|x| x * size).collect();
        repeated(&drawn, len)
    }

    /// Random bytes, each changed by `change`.
    fn bytes(&mut self, len: usize, change: impl Fn(u8) -> u8) -> Vec<u8> {
        let words = (0..len.min(DRAWN).div_ceil(8)).flat_map(|_| self.random.next_u64().to_le_bytes());
        let drawn: Vec<u8> = words.map(change).collect();
        repeated(&drawn, len)
    }

    /// The bytes of numbers of about this size in blocks of some type.
    fn blocks(&mut self, of: QuantType, bytes: usize, size: f32) -> Vec<u8> {
        let dtype = match of {
            QuantType::F32 => HostDtype::F32,
            QuantType::BF16 => HostDtype::BF16,
            QuantType::F16 => HostDtype::F16,
            // Whichever two bytes of a block are its scale, they are an f16 of about 1e-3: small and finite.
            _ => return self.bytes(bytes, |byte| byte & 0x97 | 0x10),
        };
        self.floats(dtype, bytes / of.block_bytes(), size).as_bytes().to_vec()
    }

    /// Normal numbers of this size and type.
    fn floats(&mut self, dtype: HostDtype, len: usize, size: f32) -> HostData {
        let drawn = self.values(len.min(DRAWN), size);
        match dtype {
            HostDtype::F32 => HostData::F32(repeated(&drawn, len)),
            HostDtype::BF16 => HostData::BF16(repeated(&Vec::from_iter(drawn.into_iter().map(bf16::from_f32)), len)),
            HostDtype::F16 => HostData::F16(repeated(&Vec::from_iter(drawn.into_iter().map(f16::from_f32)), len)),
        }
    }

    /// A matrix of numbers of about this size.
    fn held(&mut self, form: Form, dims: [usize; 2], size: f32, device: &Device) -> Result<Weight> {
        let elements = dims[0] * dims[1];
        let matrix = match form {
            Form::Dense(dtype) => {
                let tensor = HostTensor { shape: dims.to_vec(), data: self.floats(dtype, elements, size) };
                return load::dense(tensor, dims, device);
            }
            Form::Int8 => {
                let codes: Vec<i8> = self.bytes(elements, |byte| byte).into_iter().map(u8::cast_signed).collect();
                QuantizedMatrix::int8(dims, codes.into(), vec![size / 64.0; dims[0]].into())
            }
            Form::Nf4 { double } => {
                let codes = self.bytes(elements.div_ceil(2), |byte| byte);
                let maxima = self.values(elements.div_ceil(nf4::BLOCK), size);
                let maxima: Vec<f32> = maxima.into_iter().map(|maximum| size + maximum.abs()).collect();
                let maxima = match double {
                    true => Absmax::Double(DoubleQuantized::new(&maxima)),
                    false => Absmax::Plain(maxima.into()),
                };
                QuantizedMatrix::nf4(dims, codes.into(), maxima)
            }
            Form::Blocks(of) => {
                let bytes = self.blocks(of, form.bytes(dims) as usize, size);
                QuantizedMatrix::blocks(dims, of, bytes.into())
            }
        };
        matrix.map(|matrix| Weight::quantized(matrix, device))
    }
}

impl Parts for RandomModel<'_> {
    fn matrix(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight> {
        let size = if id == TensorId::EmbedTokens { 0.2 } else { (dims[1] as f32).powf(-0.5) };
        let weight = self.held((self.form)(&id), dims, size, self.device)?;
        Ok(load::computed_in(weight, self.compute_dtype))
    }

    fn norm(&mut self, _: TensorId, NormShape { width, .. }: NormShape) -> Result<RmsNorm> {
        let gain = self.tensor(1, width, 0.1).add_scalar(1.0).reshape([width]);
        Ok(RmsNorm::new(gain, 1e-6))
    }

    fn vector(&mut self, _: TensorId, width: usize) -> Result<Tensor<1>> {
        Ok(self.tensor(1, width, 0.1).add_scalar(1.0).reshape([width]))
    }

    fn kernel(&mut self, id: TensorId, [out, input, height, width]: [usize; 4]) -> Result<Weight> {
        self.matrix(id, [out, input * height * width])
    }

    fn row_kernel(&mut self, id: TensorId, [out, input, rows]: [usize; 3]) -> Result<Weight> {
        self.matrix(id, [out, input * rows])
    }

    fn table(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight> {
        self.held((self.form)(&id), dims, 0.2, &Device::flex())
    }
}

/// `drawn` again and again.
fn repeated<T: Copy>(drawn: &[T], len: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    while values.len() < len && !drawn.is_empty() {
        values.extend_from_slice(&drawn[..drawn.len().min(len - values.len())]);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(form: Form) -> Vec<f32> {
        let device = Device::flex();
        let form_of = |_: &TensorId| form;
        let weight = RandomModel::new(&form_of, &device).matrix(TensorId::Norm, [24, 512]).unwrap();
        assert_eq!((weight.dims(), weight.bytes()), ([24, 512], form.bytes([24, 512])), "{form:?}");
        weight.to_f32().into_data().iter::<f32>().collect()
    }

    #[test]
    fn every_form_holds_numbers_of_about_the_same_size() {
        let dense = [HostDtype::F32, HostDtype::BF16, HostDtype::F16].map(Form::Dense);
        let packed = [Form::Int8, Form::Nf4 { double: false }, Form::Nf4 { double: true }];
        for form in dense.into_iter().chain(packed).chain(QuantType::ALL.map(Form::Blocks)) {
            let values = values(form);
            let root_mean_square = (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt();
            assert!((1e-3..3.0).contains(&root_mean_square), "{form:?}: {root_mean_square}");
            assert_ne!(values[..512], values[512..1024], "{form:?}");
        }
    }

    #[test]
    fn the_same_numbers_are_drawn_again() {
        assert_eq!(values(Form::Int8), values(Form::Int8));
        assert_eq!(repeated(&[1, 2, 3], 7), [1, 2, 3, 1, 2, 3, 1]);
        assert!(repeated::<u8>(&[], 7).is_empty());
    }
}
