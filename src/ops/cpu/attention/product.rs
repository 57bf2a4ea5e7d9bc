//! Products of tiles, on the calling thread alone.

use super::visible::VisibleGroup;
use crate::ops::attention::shape::AttentionShape;
use crate::ops::cpu::bf16;
use crate::ops::cpu::matmul::{Product, Store};
use burn::tensor::FloatDType;
use gemm::Parallelism;

/// What the factors of a group's products are rounded to: nothing of few queries, as those of few rows with weights.
pub(super) fn factors(shape: &AttentionShape, group: &VisibleGroup) -> FloatDType {
    const FEW: usize = 3;
    if group.queries.len() <= FEW { FloatDType::F32 } else { shape.compute_dtype }
}

/// The product, or what `out` held and the product, where the columns of `out` are runs of `m` numbers, `column_stride` apart. The
/// factors are rounded to `dtype`, f32 or bf16.
///
/// # Shapes
/// - `out`: `[m, n]`
///
/// # Panics
/// When a slice is too short for its matrix, as an index out of bounds.
pub(super) fn product(dtype: FloatDType, product: Product, out: &mut [f32], column_stride: usize) {
    let Product { dims: [m, n, k], factor, lhs, rhs, store } = product;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    if dtype == FloatDType::BF16 {
        return bf16::product_here(product, out, column_stride);
    }
    let end =
        |strides: [usize; 2], [rows, columns]: [usize; 2]| (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1;
    let out = &mut out[..end([1, column_stride], [m, n])];
    let lhs_data = &lhs.data[..end(lhs.strides, [m, k])];
    let rhs_data = &rhs.data[..end(rhs.strides, [k, n])];
    assert!(column_stride >= m, "columns of the result overlap");
    // SAFETY: the three slices above end with the last element of their matrices, so every element that gemm touches
    // lies inside of them (the strides are not negative). `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            column_stride as isize,
            1,
            store == Store::Add,
            lhs_data.as_ptr(),
            lhs.strides[1] as isize,
            lhs.strides[0] as isize,
            rhs_data.as_ptr(),
            rhs.strides[1] as isize,
            rhs.strides[0] as isize,
            1.0, // what `out` held is multiplied by
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
