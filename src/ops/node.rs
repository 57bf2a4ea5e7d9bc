//! From tensors to the slices that the CPU kernels work on, and back into burn's gradient graph.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use std::fmt;

/// Whether tensors of this device are in main memory, where the CPU's kernels can read them.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// A tensor on the CPU: f32, contiguous, and its place in a gradient graph if it has one.
pub struct Cpu {
    values: FlexTensor,
    guard: Option<NodeGuard>,
}

impl Cpu {
    /// The tensor's storage; `None` on any other device.
    pub fn new<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let (values, guard) = match tensor.clone().try_into_primitive::<Flex>() {
            Ok(values) => (values, None),
            Err(_) => {
                let tracked = tensor.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
                let (values, guard) = tracked.into_parts();
                (values, Some(guard))
            }
        };
        let plain = values.dtype() == DType::F32;
        plain.then(|| Cpu { values: values.to_contiguous(), guard })
    }

    /// Its elements, row after row.
    pub fn values(&self) -> &[f32] {
        values(&self.values)
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.values.shape()
    }

    /// What a backward pass may keep of it.
    pub fn keep(&self) -> Kept {
        Kept(self.values.clone())
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

/// Makes `output` the result of an operation on `inputs`: where any of them is in a gradient graph, the result is too, and
/// `vjp` gives the inputs' gradients from `state`.
pub fn finish<const D: usize, const N: usize, S>(
    inputs: [Cpu; N],
    output: FlexTensor,
    state: S,
    vjp: Vjp<S, N>,
) -> Tensor<D>
where
    S: Clone + Send + fmt::Debug + 'static,
{
    if inputs.iter().all(|input| input.guard.is_none()) {
        return Tensor::from_primitive::<Flex>(output);
    }
    let guards = inputs.map(|input| match input.guard {
        Some(guard) => guard,
        None => FloatTensor::<Autodiff<Flex>>::new(input.values).into_parts().1,
    });
    let step = Step { vjp };
    let output = match Backward::<Flex, N>::prepare::<NoCheckpointing>(step, guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

struct Step<S, const N: usize> {
    vjp: Vjp<S, N>,
}

impl<S, const N: usize> fmt::Debug for Step<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

impl<S: Clone + Send + fmt::Debug + 'static, const N: usize> Backward<Flex, N> for Step<S, N> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = (self.vjp)(ops.state, values(&upstream), wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<Flex>(parent.id, result);
            }
        }
    }
}
