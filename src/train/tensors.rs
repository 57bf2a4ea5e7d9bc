//! A list of matrices on the host, and its file form.

use crate::error::{Error, Kind, Result};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

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

    /// The file form: safetensors with the index as the name.
    ///
    /// # Errors
    /// When the list is too large for the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        // Little endian in memory, as in the file (see `weights`): a run's optimiser is large enough to be held once less.
        let views = self.0.iter().enumerate().map(|(i, (shape, values))| {
            TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).map(|view| (i.to_string(), view))
        });
        let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(unwritable)?;
        safetensors::serialize(views, None).map_err(unwritable)
    }

    /// Reads what [`Tensors::to_bytes`] wrote.
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

fn unwritable(error: safetensors::SafeTensorError) -> Error {
    Error::new(Kind::Run, format!("tensors cannot be written: {error}")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_every_bit() {
        let tensors = Tensors(vec![
            ([2, 3], vec![1.0, -0.0, f32::MIN_POSITIVE, 1e-42, 3.5, f32::MAX]),
            ([1, 1], vec![0.1]),
            ([0, 4], vec![]),
        ]);
        let back = Tensors::from_bytes(&tensors.to_bytes().unwrap()).unwrap();
        assert_eq!(back.to_bytes().unwrap(), tensors.to_bytes().unwrap());
        assert_eq!(back, tensors);
        assert_eq!(Tensors::from_bytes(b"nonsense").unwrap_err().kind(), Kind::Checkpoint);
    }
}
