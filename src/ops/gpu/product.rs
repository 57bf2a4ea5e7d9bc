//! Products of matrices by the kernels of cubek, which of them being chosen here: its own choice panics where a kernel
//! cannot be set up, and multiplies f32 as TF32 where it can.
//!
//! Each [`Way`] to multiply is tried in turn, best first, until one can be set up; what a product of some sizes took is
//! remembered. The last way asks nothing of a device.

mod trial;
mod way;

pub use trial::unusable_ways;
pub use way::has_units_for;

use self::way::{Kinds, Matrices, Way};
use super::{CubeTensor, Gpu, empty, tensor};
use crate::guard::{Panic, caught};
use crate::ops::graph::finish;
use burn::backend::Cube;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeDevice;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric::zeros_client;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::std::InputBinding;
use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// See [`crate::ops::product()`]; `None` for matrices of other devices, and for batches one of which is repeated.
pub fn product<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    if a.dims()[..D - 2] != b.dims()[..D - 2] {
        return None;
    }
    let (a, b) = (Gpu::open_as_it_lies(a)?, Gpu::open_as_it_lies(b)?);
    let kept = (a.keep(), b.keep());
    let product = multiply(&kept.0, &kept.1);
    Some(finish([a, b], product, kept, |(a, b), d_product, [a_wanted, b_wanted]| {
        let da = a_wanted.then(|| multiply(&d_product, &turned::<D>(&b)));
        let db = b_wanted.then(|| multiply(&turned::<D>(&a), &d_product));
        [da, db]
    }))
}

/// Matrices seen as their transposes.
fn turned<const D: usize>(matrices: &CubeTensor) -> CubeTensor {
    match tensor::<D>(matrices).swap_dims(D - 2, D - 1).try_into_primitive::<Cube>() {
        Ok(view) => view,
        Err(_) => unreachable!("a view is where its matrix is"),
    }
}

/// `x w` in f32, of matrices of one dtype, or batches of as many.
///
/// # Shapes
/// - `x`: `[.., n, k]`
/// - `w`: `[.., k, m]`
/// - output: `[.., n, m]`
pub fn multiply(x: &CubeTensor, w: &CubeTensor) -> CubeTensor {
    let sizes = Matrices::of(x, w);
    let mut shape = x.meta.shape().clone();
    let columns = shape.len() - 1;
    shape[columns] = sizes.m;
    if sizes.is_nothing() {
        return zeros_client(x.client.clone(), x.device.clone(), shape, DType::F32);
    }
    if cfg!(feature = "autotune") && sizes.is_narrow() {
        let tuned = || matmul(x.clone(), w.clone(), None, MatmulStrategy::default(), DType::F32).ok();
        if let Ok(Some(product)) = caught(tuned) {
            return product;
        }
    }
    let product = empty(x, shape);
    let known = table().choices.get(&(x.device.clone(), sizes)).copied();
    let mut refusals = Vec::new();
    for way in way::ways(&sizes, Kinds::of(x)) {
        if known.is_some_and(|known| way < known) || table().unusable.contains(&(x.device.clone(), way)) {
            continue;
        }
        match launch(way, x, w, &product) {
            Ok(()) if known == Some(way) => return product,
            Ok(()) if is_written(x, w, &product) => {
                table().remember(x.device.clone(), sizes, way);
                return product;
            }
            Ok(()) => refusals.push(format!("{way:?} cannot be compiled")),
            Err(why) => refusals.push(format!("{way:?}: {why}")),
        }
    }
    // Operations return tensors, not errors; who runs a step catches this.
    let what = format!("no kernel for a product of {sizes:?}: {}", refusals.join("; "));
    Panic::of_device(what).resume()
}

/// Sets up and launches one of cubek's kernels.
///
/// # Errors
/// Why it cannot be set up.
fn launch(way: Way, x: &CubeTensor, w: &CubeTensor, product: &CubeTensor) -> Result<(), String> {
    let [factor, sum] = [x.dtype, product.dtype].map(dtype_to_storage_type);
    let mut dtypes = MatmulElems::from_globals(&MatmulGlobalElems { lhs: factor, rhs: factor, out: sum });
    let [left, right] = [x, w].map(|factors| InputBinding::new(factors.clone().binding(), factor));
    let out = product.clone().binding();
    let set_up = || launch_ref(&way.strategy(), &x.client, left, right, out, &mut dtypes);
    match caught(set_up) {
        Ok(outcome) => outcome.map_err(|error| format!("{error:?}")),
        Err(panic) => Err(panic.to_string()),
    }
}

/// Whether a kernel that was launched could be compiled and queued. Where its factors are not to be trusted themselves,
/// for want of memory before it, that is not its fault.
fn is_written(x: &CubeTensor, w: &CubeTensor, product: &CubeTensor) -> bool {
    let is_good = |handles: &[&CubeTensor]| {
        caught(|| x.client.check(handles.iter().map(|tensor| &tensor.handle)).is_ok()).unwrap_or(false)
    };
    is_good(&[product]) || !is_good(&[x, w])
}

/// What products took, and what they must not take.
#[derive(Debug, Default)]
struct Table {
    choices: HashMap<(CubeDevice, Matrices), Way>,
    unusable: HashSet<(CubeDevice, Way)>,
}

impl Table {
    fn remember(&mut self, device: CubeDevice, sizes: Matrices, way: Way) {
        // Bins of any number of tokens come and go.
        const MOST: usize = 1 << 14;
        if self.choices.len() >= MOST {
            self.choices.clear();
        }
        self.choices.insert((device, sizes), way);
    }
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
