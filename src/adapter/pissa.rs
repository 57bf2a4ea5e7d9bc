//! Principal singular vectors of a weight, for PiSSA.

use crate::ops::product;
use crate::random::Stream;
use burn::tensor::{Tensor, TensorData};

/// Extra directions that are followed and then dropped; they make the kept ones accurate.
const OVERSAMPLING: usize = 10;

/// Power iterations; each multiplies the gap between kept and dropped singular values.
const ITERATIONS: usize = 16;

/// `(A, B)` with `s B A` the best rank-`r` approximation of `weight`: `A = sqrt(S/s) V^T`, `B = U sqrt(S/s)`.
///
/// # Shapes
/// - `weight`: `[out, in]`
/// - output: `[r, in]`, `[out, r]`
///
/// # Numerics
/// Randomised subspace iteration in f32 with re-orthogonalisation, the small factorisation in f64.
///
/// # Source
/// Meng et al. 2024 (PiSSA), equations 2-4; Halko et al. 2011, algorithm 4.4.
pub fn principal(weight: &Tensor<2>, r: usize, scaling: f64, random: &mut Stream) -> (Tensor<2>, Tensor<2>) {
    let [out, input] = weight.dims();
    let width = (r + OVERSAMPLING).min(out).min(input);
    let start = TensorData::new(random.normal_f32(input * width), [input, width]);
    let mut right = orthonormal(Tensor::from_data(start, &weight.device())); // [in, w]
    for _ in 0..ITERATIONS {
        let left = orthonormal(product(weight.clone(), right));
        right = orthonormal(product(weight.clone().transpose(), left));
    }
    let image = product(weight.clone(), right.clone()); // [out, w] = U S Z^T
    let gram = to_f64(&product(image.clone().transpose(), image.clone())); // Z S^2 Z^T
    let (squares, z) = eigen(gram, width);
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&i, &j| squares[j].total_cmp(&squares[i]));

    // U = image Z S^-1 and V = right Z, so A and B need Z with its columns scaled.
    let mut for_a = vec![0.0f32; width * r];
    let mut for_b = vec![0.0f32; width * r];
    for (column, &k) in order.iter().take(r).enumerate() {
        let singular = squares[k].max(0.0).sqrt();
        let root = (singular / scaling).sqrt();
        for row in 0..width {
            for_a[row * r + column] = (z[row * width + k] * root) as f32;
            for_b[row * r + column] = if singular > 0.0 { (z[row * width + k] * root / singular) as f32 } else { 0.0 };
        }
    }
    let tensor = |values| Tensor::<2>::from_data(TensorData::new(values, [width, r]), &weight.device());
    (product(right, tensor(for_a)).transpose(), product(image, tensor(for_b)))
}

/// Columns made orthonormal through the eigenvectors of their Gram matrix, twice for accuracy.
fn orthonormal(mut columns: Tensor<2>) -> Tensor<2> {
    let [_, width] = columns.dims();
    for _ in 0..2 {
        let (squares, vectors) = eigen(to_f64(&product(columns.clone().transpose(), columns.clone())), width);
        let floor = squares.iter().copied().fold(0.0, f64::max) * 1e-12;
        let scaled: Vec<f32> = (0..width * width)
            .map(|i| {
                let square = squares[i % width];
                if square > floor { (vectors[i] / square.sqrt()) as f32 } else { 0.0 }
            })
            .collect();
        let device = columns.device();
        columns = product(columns, Tensor::from_data(TensorData::new(scaled, [width, width]), &device));
    }
    columns
}

fn to_f64(matrix: &Tensor<2>) -> Vec<f64> {
    matrix.to_data().iter::<f32>().map(f64::from).collect()
}

/// Eigenvalues and eigenvectors (as columns) of a symmetric matrix, by cyclic Jacobi rotations.
///
/// # Source
/// Golub & Van Loan, Matrix Computations, section 8.5.
fn eigen(mut m: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let total: f64 = m.iter().map(|x| x * x).sum();
    const SWEEPS: usize = 30;
    for _ in 0..SWEEPS {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| m[i] * m[i]).sum();
        if off <= 1e-26 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if m[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (m[q * n + q] - m[p * n + p]) / (2.0 * m[p * n + q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (a, b) = (m[k * n + p], m[k * n + q]);
                    (m[k * n + p], m[k * n + q]) = (c * a - s * b, s * a + c * b);
                }
                for k in 0..n {
                    let (a, b) = (m[p * n + k], m[q * n + k]);
                    (m[p * n + k], m[q * n + k]) = (c * a - s * b, s * a + c * b);
                    let (a, b) = (vectors[k * n + p], vectors[k * n + q]);
                    (vectors[k * n + p], vectors[k * n + q]) = (c * a - s * b, s * a + c * b);
                }
            }
        }
    }
    ((0..n).map(|i| m[i * n + i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Label, Rng};
    use burn::tensor::Device;

    #[test]
    fn the_product_is_the_best_low_rank_approximation() {
        // W = sum_k s_k u_k v_k^T with known singular values: the residual of rank r has norm sqrt(sum of the rest).
        let device = Device::flex();
        let mut random = Rng::new(1).stream(&[Label::Purpose("test")]);
        let basis = |rows: usize, random: &mut Stream| {
            orthonormal(Tensor::from_data(TensorData::new(random.normal_f32(rows * 6), [rows, 6]), &device))
        };
        let (u, v) = (basis(40, &mut random), basis(30, &mut random));
        let values = [9.0f32, 5.0, 3.0, 1.0, 0.5, 0.25];
        let s = Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, 6]), &device);
        let w = (u * s).matmul(v.transpose());
        let (a, b) = principal(&w, 3, 2.0, &mut random);
        assert_eq!((a.dims(), b.dims()), ([3, 30], [40, 3]));
        let residual = (w - b.matmul(a).mul_scalar(2.0)).square().sum().sqrt().into_scalar::<f32>();
        let expected = (1.0f32 + 0.25 + 0.0625).sqrt();
        assert!((residual - expected).abs() < 1e-4, "{residual} {expected}");
    }
}
