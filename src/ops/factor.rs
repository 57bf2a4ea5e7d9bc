//! The left factor of products, in the numbers that a device multiplies fastest.

#[cfg(feature = "gpu")]
use super::gpu;
use super::product::product;
use burn::tensor::{FloatDType, Tensor};

/// Rows that are multiplied with frozen weights, or in attention: rounded once to a dtype, then used for every tile of
/// the other factor.
///
/// # Numerics
/// bf16 has the range of f32, and rounds to 8 bits. f16 rounds to 11 bits and ends at 65,504, below what Gemma's
/// activations reach and far above its gradients; so each row is first multiplied by a power of two that brings its
/// largest value to 2^14, and its products are multiplied back: rows neither overflow nor vanish. Sums are f32 in every
/// case.
#[derive(Debug, Clone)]
pub struct Factor<const D: usize> {
    values: Tensor<D>,
    /// What the products of each row are multiplied by, `[.., n, 1]`.
    scales: Option<Tensor<D>>,
}

impl<const D: usize> Factor<D> {
    /// Rounds `x`; where a device has no such products, it stays f32.
    ///
    /// # Shapes
    /// - `x`: `[.., n, k]`, f32, outside of any gradient graph
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
    pub fn new(x: &Tensor<D>, dtype: FloatDType) -> Self {
        #[cfg(feature = "gpu")]
        if dtype != FloatDType::F32
            && let Some((values, scales)) = gpu::round_rows(x, dtype)
        {
            return Factor { values, scales };
        }
        Factor::as_is(x.clone())
    }

    /// `x` as a left factor, and its transpose as another, read from where `x` lies: bf16 is rounded once for both, and
    /// f16 takes a power of two of each row, and of each column.
    ///
    /// # Shapes
    /// - `x`: as in [`Factor::new`]
    #[cfg(feature = "gpu")]
    pub fn both_ways(x: &Tensor<D>, dtype: FloatDType) -> [Self; 2] {
        let turned = |x: &Tensor<D>| x.clone().swap_dims(D - 2, D - 1);
        let rows = Factor::new(x, dtype);
        let columns = match &rows.scales {
            None => Factor::as_is(turned(&rows.values)),
            Some(_) => match gpu::round_columns(x) {
                Some((values, scales)) => Factor { values: turned(&values), scales: Some(scales) },
                None => Factor::new(&turned(x), dtype),
            },
        };
        [rows, columns]
    }

    /// Values that are rounded already, and what the products of each row are multiplied by.
    #[cfg(feature = "gpu")]
    pub fn of(values: Tensor<D>, scales: Option<Tensor<D>>) -> Self {
        Factor { values, scales }
    }

    /// Values that are rounded already.
    pub fn as_is(values: Tensor<D>) -> Self {
        Factor { values, scales: None }
    }

    /// The rows as they are multiplied, in f32.
    ///
    /// # Shapes
    /// - output: `[.., n, k]`
    #[cfg(feature = "gpu")]
    pub fn rounded(&self) -> Tensor<D> {
        self.scale_back(to_f32(self.values.clone()))
    }

    /// `x w`, in f32.
    ///
    /// # Shapes
    /// - `w`: `[.., k, out]`, of the dtype that the rows were rounded to
    /// - output: `[.., n, out]`
    pub fn times(&self, w: Tensor<D>) -> Tensor<D> {
        self.scale_back(self.times_unscaled(w))
    }

    /// The same before its rows are multiplied by [`Factor::scales`].
    pub fn times_unscaled(&self, w: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "gpu")]
        if self.values.dtype() != FloatDType::F32.into()
            && let Some(product) = gpu::product_in_f32(&self.values, &w)
        {
            return product;
        }
        product(to_f32(self.values.clone()), to_f32(w))
    }

    /// What the products of each row are to be multiplied by, where it is anything.
    ///
    /// # Shapes
    /// - output: `[.., n, 1]`
    #[cfg(feature = "gpu")]
    pub fn scales(&self) -> Option<Tensor<D>> {
        self.scales.clone()
    }

    /// The rows as they are multiplied, before their scales.
    #[cfg(feature = "gpu")]
    pub fn values(&self) -> Tensor<D> {
        self.values.clone()
    }

    fn scale_back(&self, product: Tensor<D>) -> Tensor<D> {
        match &self.scales {
            Some(scales) => product * scales.clone(),
            None => product,
        }
    }
}

/// The same values in f32.
pub fn to_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    to_dtype(tensor, FloatDType::F32)
}

/// The values in a dtype.
pub fn to_dtype<const D: usize>(tensor: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    if tensor.dtype() == dtype.into() { tensor } else { tensor.cast(dtype) }
}

/// Rounded to a dtype, in f32.
#[cfg(feature = "gpu")]
pub fn round<const D: usize>(tensor: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    to_f32(to_dtype(tensor, dtype))
}
