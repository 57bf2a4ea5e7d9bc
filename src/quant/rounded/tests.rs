use super::*;
use crate::quant::{QuantType, QuantizedMatrix};
use crate::testkit::numbers;

/// A matrix in every form that is a run of codes.
fn every_form(values: &[f32], dims: [usize; 2]) -> Vec<QuantizedMatrix> {
    let blocks = QuantType::ALL.into_iter().filter(|of| !of.is_float()).map(|of| {
        let mut bytes = vec![0; of.bytes_of(values.len()).unwrap()];
        of.quantize(values, None, &mut bytes).unwrap();
        QuantizedMatrix::blocks(dims, of, bytes.into()).unwrap()
    });
    blocks.chain(QuantizedMatrix::to_int8(values, dims)).collect()
}

/// What the codes of `x` stand for: two to four rows, whose units lie in fours.
fn back(x: &RoundedRows) -> Vec<f32> {
    let units = (0..x.len()).flat_map(|row| x.units.iter().skip(row).step_by(4));
    units.flat_map(|unit| unit.codes.map(|code| unit.scale * f32::from(code))).collect()
}

#[test]
fn products_are_those_of_the_unpacked_rows_with_the_rounded_inputs() {
    let dims @ [rows, width] = [5, 512];
    let values = numbers(rows * width, 1);
    let x = RoundedRows::new(&numbers(3 * width, 2), width);
    assert_eq!(x.len(), 3);
    let rounded = back(&x);
    for matrix in every_form(&values, dims) {
        assert!(matrix.has_codes(), "{}", matrix.kind());
        let mut unpacked = vec![0.0; rows * width];
        matrix.dequantize_rows(0..rows, &mut unpacked);
        let mut found = [f32::NAN; 3 * 4];
        matrix.times_rounded(1..5, &x, &mut found);
        for (row, found) in found.chunks_exact(4).enumerate() {
            for (found, w) in found.iter().zip(unpacked.chunks_exact(width).skip(1)) {
                let products = || w.iter().zip(&rounded[row * width..]).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (expected, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                let off = (f64::from(*found) - expected).abs();
                assert!(off <= 1e-6 * size, "{}: {found} for {expected}", matrix.kind());
            }
        }
    }
}

#[test]
fn widths_that_are_no_whole_chunks_are_filled_up() {
    let dims @ [rows, width] = [2, 77];
    let values = numbers(rows * width, 3);
    let input = numbers(width, 4);
    let matrix = QuantizedMatrix::to_int8(&values, dims).unwrap();
    let mut found = [f32::NAN; 2];
    matrix.times_rounded(0..2, &RoundedRows::new(&input, width), &mut found);
    for (found, w) in found.iter().zip(values.chunks_exact(width)) {
        let expected: f32 = w.iter().zip(&input).map(|(w, x)| w * x).sum();
        assert!((found - expected).abs() < 0.05, "{found} for {expected}");
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let matrix = QuantizedMatrix::to_int8(&numbers(64, 9), [2, 32]).unwrap();
    let mut input = numbers(64, 10);
    input[40] = f32::INFINITY;
    let mut found = [0.0; 4];
    matrix.times_rounded(0..2, &RoundedRows::new(&input, 32), &mut found);
    assert!(found[..2].iter().all(|y| y.is_finite()) && found[2..].iter().all(|y| y.is_nan()), "{found:?}");
}
