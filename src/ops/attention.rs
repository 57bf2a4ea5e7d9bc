//! Attention over packed segments with its own gradient.

pub(super) mod shape;
pub(super) mod visibility;

use super::cpu::attention as kernel;
#[cfg(feature = "gpu")]
use super::gpu;
use super::node::{Cpu, Kept, finish, tensor};
use super::plain::attention::{self as plain, Tile};
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, Tensor};
use std::sync::{Arc, OnceLock};

pub use shape::AttentionShape;
pub use visibility::{Group, Visibility};

/// Who may look at whom in one batch; shared by all layers of a kind.
#[derive(Debug, Clone)]
pub struct AttentionMask {
    visibility: Arc<Visibility>,
    /// Masks as tensors, made on first use where there is no kernel that does without.
    tiles: Arc<OnceLock<Vec<Tile>>>,
    /// The mask as the kernels of a GPU read it, made on first use.
    #[cfg(feature = "gpu")]
    reach: Arc<OnceLock<gpu::Reach>>,
}

impl AttentionMask {
    /// The mask with this meaning.
    pub fn new(visibility: Visibility) -> Self {
        AttentionMask {
            visibility: Arc::new(visibility),
            tiles: Arc::default(),
            #[cfg(feature = "gpu")]
            reach: Arc::default(),
        }
    }

    fn tiles(&self, device: &Device) -> &[Tile] {
        self.tiles.get_or_init(|| plain::tiles(&self.visibility, device))
    }

    #[cfg(feature = "gpu")]
    fn reach(&self, beside: &gpu::CubeTensor) -> gpu::Reach {
        let reach = self.reach.get_or_init(|| gpu::Reach::new(&self.visibility, beside));
        if reach.is_beside(beside) { reach.clone() } else { gpu::Reach::new(&self.visibility, beside) }
    }
}

/// `softmax(scaling * q k^T + mask) v`, the heads side by side. Keeps `q`, `k`, `v`, the output, and one number for
/// each query and head; never the scores.
///
/// # Shapes
/// - `q`: `[n, h, e]`
/// - `k`, `v`: `[t, g, e]`
/// - output: `[n, h e]`
///
/// # Source
/// Dao 2023 (FlashAttention-2), algorithms 1 and 2.
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, shape: &AttentionShape, mask: &AttentionMask) -> Tensor<2> {
    // Keys and values that are cached lie in a larger room.
    match (Cpu::in_place(&q), Cpu::in_place(&k), Cpu::in_place(&v)) {
        (Some(q), Some(k), Some(v)) => cpu_attention(q, k, v, *shape, mask.visibility.clone()),
        _ => {
            #[cfg(feature = "gpu")]
            if let Some(out) = gpu::attention(&q, &k, &v, shape, |beside| mask.reach(beside)) {
                return out;
            }
            let device = q.device().inner();
            plain::attention(q, k, v, shape, mask.tiles(&device))
        }
    }
}

/// Queries of one sequence, and what they look at.
#[derive(Debug, Clone)]
pub struct Looking {
    /// `[n, h, e]`.
    pub q: Tensor<3>,
    /// `[t, g, e]`.
    pub k: Tensor<3>,
    /// `[t, g, e]`.
    pub v: Tensor<3>,
    /// Who sees whom.
    pub mask: AttentionMask,
}

/// [`attention`] of several sequences, of which there is at least one: what each gives, one after the other. On the CPU, outside a
/// gradient graph, they share out the threads, which is what the few queries of a decoding step alone would not keep busy.
///
/// # Shapes
/// - output: `[n, h e]` of the queries of all
///
/// # Numerics
/// Every sequence has the bits that it has alone.
pub fn attention_each(mut all: Vec<Looking>, shape: &AttentionShape) -> Tensor<2> {
    if all.len() == 1 {
        let Looking { q, k, v, mask } = all.remove(0);
        return attention(q, k, v, shape, &mask);
    }
    let on_cpu = |looking: &Looking| {
        let [q, k, v] = [&looking.q, &looking.k, &looking.v].map(Cpu::in_place);
        Some([q?, k?, v?]).filter(|all| !all.iter().any(Cpu::is_tracked))
    };
    if let Some(nodes) = all.iter().map(on_cpu).collect::<Option<Vec<_>>>() {
        let parts = nodes.iter().zip(&all).map(|([q, k, v], looking)| kernel::Part {
            visibility: &looking.mask.visibility,
            q: q.values(),
            k: k.values(),
            v: v.values(),
        });
        let parts: Vec<kernel::Part> = parts.collect();
        let n: usize = nodes.iter().map(|[q, ..]| q.shape()[0]).sum();
        let (mut out, mut lse) = (vec![0.0; n * shape.query_width()], vec![0.0; n * shape.heads]);
        kernel::forward_each(shape, &parts, &mut out, &mut lse);
        return Tensor::from_primitive::<Flex>(tensor(out, [n, shape.query_width()]));
    }
    let mixed = all.into_iter().map(|Looking { q, k, v, mask }| attention(q, k, v, shape, &mask));
    Tensor::cat(mixed.collect(), 0)
}

/// As [`attention`], by products of matrices in f32 where there are kernels for that.
#[cfg(all(test, feature = "gpu"))]
pub fn attention_by_products(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    shape: &AttentionShape,
    mask: &AttentionMask,
) -> Tensor<2> {
    let by_products = gpu::by_products(&q, &k, &v, shape, |beside| mask.reach(beside));
    by_products.unwrap_or_else(|| attention(q, k, v, shape, mask))
}

fn cpu_attention(q: Cpu, k: Cpu, v: Cpu, shape: AttentionShape, visibility: Arc<Visibility>) -> Tensor<2> {
    let (n, width) = (q.shape()[0], shape.heads * shape.head_dim);
    let mut out = vec![0.0; n * width];
    let mut lse = vec![0.0; n * shape.heads];
    kernel::forward(&shape, &visibility, q.values(), k.values(), v.values(), &mut out, &mut lse);
    let out = tensor(out, [n, width]);
    let state = State { shape, visibility, q: q.keep(), k: k.keep(), v: v.keep(), out: Kept::of(&out), lse };
    finish([q, k, v], out, state, State::backward)
}

#[derive(Debug, Clone)]
struct State {
    shape: AttentionShape,
    visibility: Arc<Visibility>,
    q: Kept,
    k: Kept,
    v: Kept,
    out: Kept,
    lse: Vec<f32>,
}

impl State {
    fn backward(self, dout: &[f32], wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let State { shape, visibility, q, k, v, out, lse } = &self;
        let zeros = |like: &Kept| vec![0.0; like.values().len()];
        let (mut dq, mut dk, mut dv) = (zeros(q), zeros(k), zeros(v));
        let (q_values, k_values, v_values) = (q.values(), k.values(), v.values());
        let results = (&mut dq[..], &mut dk[..], &mut dv[..]);
        kernel::backward(
            shape,
            visibility,
            q_values,
            k_values,
            v_values,
            out.values(),
            lse,
            dout,
            results.0,
            results.1,
            results.2,
        );
        let results = [(dq, q), (dk, k), (dv, v)];
        let mut wanted = wanted.into_iter();
        results.map(|(values, like)| wanted.next()?.then(|| tensor(values, like.shape())))
    }
}
