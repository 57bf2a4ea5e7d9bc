//! A list of matrices on the host, and its file form.

use crate::error::{Error, Kind, Result};
use crate::weights::HostDtype;
use crate::weights::safetensors_file::{LaidOut, TensorSpec, laid_out};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::io::{self, Write};

/// Matrices `[rows, columns]` in f32, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensors(Vec<([usize; 2], Vec<f32>)>);

impl Tensors {
    /// Copies matrices from their device.
    pub fn from_device(tensors: &[Tensor<2>]) -> Self {
        Tensors(tensors.iter().map(|t| (t.dims(), t.to_data().iter::<f32>().collect())).collect())
    }

    /// Copies the matrices to a device.
    pub fn to_device(&self, device: &Device) -> Vec<Tensor<2>> {
        let tensor = |(shape, values): &([usize; 2], Vec<f32>)| {
            Tensor::from_data(TensorData::new(values.clone(), *shape), device)
        };
        self.0.iter().map(tensor).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their shapes, in order.
    pub fn shapes(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        self.0.iter().map(|(shape, _)| *shape)
    }

    /// Writes the file form: safetensors with the index as the name.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let shapes: Vec<[usize; 2]> = self.shapes().collect();
        write(&shapes, |i| Cow::Borrowed(&self.0[i].1), out)
    }

    /// Reads what [`Tensors::write`] wrote.
    ///
    /// # Errors
    /// [`Kind::Checkpoint`] when the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::new(Kind::Checkpoint, format!("not a list of tensors: {e}")).caused_by(e))?;
        let tensor = |i: usize| {
            let view = file.tensor(&i.to_string()).ok()?;
            let [rows, columns] = *view.shape() else { return None };
            let values: Vec<f32> =
                view.data().as_chunks().0.iter().map(|bytes: &[u8; 4]| f32::from_le_bytes(*bytes)).collect();
            (view.dtype() == Dtype::F32).then_some(([rows, columns], values))
        };
        (0..file.len())
            .map(|i| tensor(i).ok_or_else(|| Error::new(Kind::Checkpoint, format!("tensor {i} is not an f32 matrix"))))
            .collect::<Result<_>>()
            .map(Tensors)
    }
}

/// Writes matrices as [`Tensors::write`] does, copying one after the other from their device: a run's optimiser is large
/// enough not to be held once more.
///
/// # Errors
/// When writing fails.
pub fn write_from_device(tensors: &[Tensor<2>], out: &mut dyn Write) -> io::Result<()> {
    let shapes: Vec<[usize; 2]> = tensors.iter().map(Tensor::dims).collect();
    write(&shapes, |i| Cow::Owned(tensors[i].to_data().iter::<f32>().collect()), out)
}

/// Writes a matrix of each shape, with the values that `values` gives for its index.
fn write<'v>(shapes: &[[usize; 2]], values: impl Fn(usize) -> Cow<'v, [f32]>, out: &mut dyn Write) -> io::Result<()> {
    let spec = |i: usize| TensorSpec { name: i.to_string(), dtype: HostDtype::F32, shape: shapes[i].to_vec() };
    let LaidOut { head, tensors } =
        laid_out((0..shapes.len()).map(|i| (spec(i), i)).collect(), &[]).map_err(io::Error::other)?;
    out.write_all(&head)?;
    // Little endian in memory, as in the file (see `weights`).
    tensors.iter().try_for_each(|&(_, i)| out.write_all(bytemuck::cast_slice(&values(i))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn bytes_keep_every_bit_and_are_those_of_safetensors() {
        let special = [1.0, -0.0, f32::MIN_POSITIVE, 1e-42, 3.5, f32::MAX];
        let mut tensors = vec![([2, 3], special.to_vec()), ([1, 1], vec![0.1]), ([0, 4], vec![])];
        // Names that sort otherwise than numbers do.
        tensors.extend((0..9).map(|i| ([1, 2], vec![i as f32, 0.5])));
        let tensors = Tensors(tensors);
        let mut bytes = Vec::new();
        tensors.write(&mut bytes).unwrap();
        assert_eq!(Tensors::from_bytes(&bytes).unwrap(), tensors);
        let views = tensors.0.iter().enumerate().map(|(i, (shape, values))| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).unwrap();
            (i.to_string(), view)
        });
        assert_eq!(safetensors::serialize(views, None).unwrap(), bytes);

        let mut from_device = Vec::new();
        write_from_device(&tensors.to_device(&Device::flex()), &mut from_device).unwrap();
        assert_eq!(from_device, bytes);
        assert_eq!(Tensors::from_bytes(b"nonsense").unwrap_err().kind(), Kind::Checkpoint);
    }
}
