//! The operations as CubeCL kernels, one source for every GPU that burn reaches: WGSL, SPIR-V, CUDA, HIP.
//!
//! Kernels are plain f32 with shared memory and barriers: no subgroups, no atomics, sums in a fixed order, so that the
//! same inputs give the same bytes. They keep to what WebGPU promises everywhere: cubes of 256 units, 16 KiB of shared
//! memory; neither infinities nor NaN.

mod adamw;
mod attention;
mod cross_entropy;
mod dropout;
mod geglu;
mod linear;
mod low_rank;
mod matmul;
mod norm;
mod packed;
mod product;
mod reduce;
mod squares;
mod tall;

pub use adamw::adamw;
#[cfg(test)]
pub use attention::by_products;
pub use attention::{Reach, attention};
pub use cross_entropy::linear_cross_entropy;
pub use dropout::dropout;
pub use geglu::geglu;
pub use linear::{geglu_lora_linear, linear, lora_linear};
pub use matmul::{fastest_factors, product_in_f32, round_columns, round_rows};
pub use norm::{rms_norm, rms_norm_rounded, rotated_rms_norm};
pub use packed::Packed;
pub use product::{product, unusable_ways};
pub use squares::square_sums;

use super::graph::{self, Node, Storage};
use super::traffic::uploaded;
use burn::backend::Cube;
use burn::tensor::{DType, Device, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
pub use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Whether devices with kernels here use them; the plain compositions run otherwise.
const ENABLED: bool = true;

/// A tensor on a GPU: f32, contiguous unless it was opened as it lies, and its place in a gradient graph if it has one.
type Gpu = Node<Cube>;

impl Gpu {
    /// The tensor's storage; `None` on any other device, and where the kernels are switched off.
    fn open<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if ENABLED { Gpu::new(tensor) } else { None }
    }

    /// The same, which may be a view: for kernels that read rows and columns alike.
    fn open_as_it_lies<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if ENABLED { Gpu::as_it_lies(tensor) } else { None }
    }

    /// What a backward pass may keep of it.
    fn keep(&self) -> CubeTensor {
        self.primitive().clone()
    }
}

impl Storage for Cube {
    fn contiguous(values: CubeTensor) -> CubeTensor {
        into_contiguous(values)
    }
}

/// See [`crate::ops::backward_from`].
pub fn backward_from(y: &Tensor<2>, gradient: &Tensor<2>) -> Option<Tensor<1>> {
    Some(graph::backward_from(Gpu::open(y)?, Gpu::open(gradient)?))
}

/// Units of a cube where each works on its own, or all on a row.
const UNITS: u32 = 256;

/// Some tensor on a device; `None` on those without kernels here.
fn somewhere(device: &Device) -> Option<CubeTensor> {
    Tensor::<1>::zeros([1], &device.clone().inner()).try_into_primitive::<Cube>().ok()
}

/// Bytes of the largest buffer that the device makes; `None` on those without kernels here.
pub fn largest_buffer(device: &Device) -> Option<u64> {
    Some(somewhere(device)?.client.properties().memory.max_page_size)
}

/// A new f32 tensor beside another, its values not yet written.
fn empty(beside: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_of(beside, shape, DType::F32)
}

/// As [`empty`], of a dtype.
fn empty_of(beside: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(beside.client.clone(), beside.device.clone(), shape.into(), dtype)
}

/// As many cubes of [`UNITS`] as it takes for one unit per element.
fn cubes_for(like: &CubeTensor) -> CubeCount {
    cubecl::calculate_cube_count_elemwise(&like.client, like.meta.num_elements(), CubeDim::new_1d(UNITS))
}

/// A cube for each of so many rows, found by `CUBE_POS`; there may be some more.
fn cube_per_row(beside: &CubeTensor, rows: usize) -> CubeCount {
    cubecl::calculate_cube_count_elemwise(&beside.client, rows, CubeDim::new_single())
}

fn buffer(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// A buffer of 32-bit numbers.
#[derive(Debug, Clone)]
struct Numbers {
    handle: Handle,
    len: usize,
}

impl Numbers {
    /// Uploads bytes, and zeros until they are whole numbers and at least one, since a buffer is never empty.
    fn upload(bytes: &[u8], beside: &CubeTensor) -> Self {
        let len = bytes.len().div_ceil(4).max(1);
        uploaded(4 * len);
        let handle = if bytes.len() == 4 * len {
            beside.client.create_from_slice(bytes)
        } else {
            let mut padded = bytes.to_vec();
            padded.resize(4 * len, 0);
            beside.client.create_from_slice(&padded)
        };
        Numbers { handle, len }
    }

    fn buffer(&self) -> BufferArg {
        // SAFETY: the buffer was made of `len` numbers.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.len) }
    }
}

/// A tensor outside of any graph.
fn tensor<const D: usize>(storage: &CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(storage.clone())
}

/// The storage of what burn computed of tensors that are here, row after row.
fn primitive<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    match tensor.try_into_primitive::<Cube>() {
        Ok(storage) => into_contiguous(storage),
        Err(_) => unreachable!("burn computes where its inputs are"),
    }
}
