//! From tensors to the slices that the CPU kernels work on, and back into burn's gradient graph.

use super::graph::{self, Node, Storage};
use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, Shape, Tensor, TensorData};
use std::fmt;

/// Whether tensors of this device are in main memory, where the CPU's kernels can read them.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

impl Storage for Flex {
    fn contiguous(values: FlexTensor) -> FlexTensor {
        values.to_contiguous()
    }
}

/// A tensor on the CPU: f32, contiguous, and its place in a gradient graph if it has one.
pub type Cpu = Node<Flex>;

impl Cpu {
    /// As [`Node::new`], but rows that lie together in a larger buffer are read there. A backward pass that kept them would
    /// keep the buffer.
    pub fn in_place<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let node = Cpu::as_it_lies(tensor)?;
        if node.primitive().is_contiguous() { Some(node) } else { Cpu::new(tensor) }
    }

    /// Its elements, row after row.
    pub fn values(&self) -> &[f32] {
        values(self.primitive())
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.primitive().shape()
    }

    /// What a backward pass may keep of it.
    pub fn keep(&self) -> Kept {
        Kept(self.primitive().clone())
    }
}

fn values(tensor: &FlexTensor) -> &[f32] {
    // Contiguous f32 by construction, so this is never empty-handed.
    tensor.as_slice::<f32>().unwrap_or_default()
}

/// Values that a backward pass keeps; shared with the tensor they come from.
#[derive(Clone, Debug)]
pub struct Kept(FlexTensor);

impl Kept {
    /// The values of an operation's own result.
    pub fn of(result: &FlexTensor) -> Self {
        Kept(result.to_contiguous())
    }

    /// Its elements, row after row.
    pub fn values(&self) -> &[f32] {
        values(&self.0)
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.0.shape()
    }
}

/// A new tensor primitive of these values.
pub fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The gradients of an operation's inputs, given that of its output; only those that are wanted.
pub type Vjp<S, const N: usize> = fn(S, &[f32], [bool; N]) -> [Option<FlexTensor>; N];

/// As [`graph::finish`], with the upstream gradient as a slice.
pub fn finish<const D: usize, const N: usize, S>(
    inputs: [Cpu; N],
    output: FlexTensor,
    state: S,
    vjp: Vjp<S, N>,
) -> Tensor<D>
where
    S: Clone + Send + fmt::Debug + 'static,
{
    graph::finish(inputs, output, state, move |state, upstream, wanted| vjp(state, values(&upstream), wanted))
}
