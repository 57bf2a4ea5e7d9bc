//! From tensors to the storage that one backend's kernels work on, and back into burn's gradient graph.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use std::fmt;

/// A backend whose storage has kernels of ours.
pub trait Storage: Backend {
    /// The same values, row after row without gaps.
    fn contiguous(values: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// A tensor of backend `B`: f32, contiguous unless it was taken as it lies, and its place in a gradient graph if it has
/// one.
pub struct Node<B: Backend> {
    values: FloatTensor<B>,
    guard: Option<NodeGuard>,
}

impl<B: Storage> Node<B>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    /// The tensor's storage, row after row; `None` on any other backend.
    pub fn new<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let Node { values, guard } = Node::as_it_lies(tensor)?;
        Some(Node { values: B::contiguous(values), guard })
    }

    /// The tensor's storage, which may be a view with other strides; `None` on any other backend.
    pub fn as_it_lies<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let (values, guard) = match tensor.clone().try_into_primitive::<B>() {
            Ok(values) => (values, None),
            Err(_) => {
                let tracked = tensor.clone().try_into_primitive::<Autodiff<B>>().ok()?;
                let (values, guard) = tracked.into_parts();
                (values, Some(guard))
            }
        };
        (values.dtype() == DType::F32).then_some(Node { values, guard })
    }

    /// Whether it is in a gradient graph.
    pub fn is_tracked(&self) -> bool {
        self.guard.is_some()
    }

    /// Its storage.
    pub fn primitive(&self) -> &FloatTensor<B> {
        &self.values
    }
}

/// Makes `output` the result of an operation on `inputs`: where any of them is in a gradient graph, the result is too,
/// and `vjp` gives the inputs' gradients from `state` and the (contiguous) gradient of the output; only those that are
/// wanted.
pub fn finish<B, const D: usize, const N: usize, S, V>(
    inputs: [Node<B>; N],
    output: FloatTensor<B>,
    state: S,
    vjp: V,
) -> Tensor<D>
where
    B: Storage,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
    S: Clone + Send + fmt::Debug + 'static,
    V: FnOnce(S, FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + Sync + 'static,
{
    if inputs.iter().all(|input| input.guard.is_none()) {
        return Tensor::from_primitive::<B>(output);
    }
    let guards = inputs.map(|input| match input.guard {
        Some(guard) => guard,
        None => FloatTensor::<Autodiff<B>>::new(input.values).into_parts().1,
    });
    let step = Step { vjp, state: std::marker::PhantomData };
    let output = match Backward::<B, N>::prepare::<NoCheckpointing>(step, guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<B>>(output)
}

/// See [`crate::ops::backward_from`].
pub fn backward_from<B: Storage>(y: Node<B>, gradient: Node<B>) -> Tensor<1>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
    FloatTensor<B>: fmt::Debug,
{
    let gradient = gradient.values;
    assert_eq!(gradient.shape(), y.values.shape());
    let zero = B::float_zeros(Shape::new([1]), &gradient.device(), DType::F32.into());
    finish([y], zero, gradient, |gradient, _, [wanted]| [wanted.then_some(gradient)])
}

struct Step<S, V> {
    vjp: V,
    state: std::marker::PhantomData<fn(S)>,
}

impl<S, V> fmt::Debug for Step<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

impl<B, const N: usize, S, V> Backward<B, N> for Step<S, V>
where
    B: Storage,
    S: Clone + Send + fmt::Debug + 'static,
    V: FnOnce(S, FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + Sync + 'static,
{
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = B::contiguous(gradients.consume::<B>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = (self.vjp)(ops.state, upstream, wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}
