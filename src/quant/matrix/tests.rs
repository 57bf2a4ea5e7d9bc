use super::*;
use proptest::prelude::*;
use safetensors::SafeTensors;

const BLOCKS: &[u8] = include_bytes!("../../../tests/goldens/quant/blocks.safetensors");
const CASES: [&str; 8] = ["whole", "odd", "zeros", "even", "spread", "rounded", "long", "short"];

/// A golden's bytes and shape.
fn golden(name: &str) -> (Vec<u8>, Vec<usize>) {
    let file = SafeTensors::deserialize(BLOCKS).unwrap();
    let tensor = file.tensor(name).unwrap();
    (tensor.data().to_vec(), tensor.shape().to_vec())
}

fn floats(name: &str) -> Vec<f32> {
    golden(name).0.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn input(case: &str) -> (Vec<f32>, [usize; 2]) {
    let name = format!("{case}.input");
    (floats(&name), golden(&name).1.try_into().unwrap())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn unpacked(matrix: &QuantizedMatrix) -> Vec<f32> {
    let [rows, cols] = matrix.dims();
    let mut out = vec![f32::NAN; rows * cols];
    matrix.dequantize_rows(0..rows, &mut out);
    out
}

#[test]
fn nf4_equals_bitsandbytes_bit_for_bit() {
    for case in CASES {
        let (values, dims) = input(case);
        let matrix = QuantizedMatrix::to_nf4(&values, dims, false).unwrap();
        let Storage::Nf4(codes, Absmax::Plain(maxima)) = matrix.storage() else { panic!("{matrix:?}") };
        assert_eq!(**codes, golden(&format!("{case}.nf4.packed")).0, "{case}");
        assert_eq!(bits(maxima), bits(&floats(&format!("{case}.nf4.absmax"))), "{case}");
        assert_eq!(bits(&unpacked(&matrix)), bits(&floats(&format!("{case}.nf4.values"))), "{case}");
        assert_eq!(matrix.bytes(), nf4_bytes(dims, false), "{case}");
    }
}

#[test]
fn nf4_with_quantised_scales_equals_bitsandbytes_bit_for_bit() {
    for case in CASES {
        let (values, dims) = input(case);
        let of = |part: &str| format!("{case}.nf4_double.{part}");
        let matrix = QuantizedMatrix::to_nf4(&values, dims, true).unwrap();
        let Storage::Nf4(codes, Absmax::Double(maxima)) = matrix.storage() else { panic!("{matrix:?}") };
        assert_eq!(**codes, golden(&of("packed")).0, "{case}");
        assert_eq!(bits(&*maxima.map), bits(&floats(&of("map"))), "{case}");
        assert_eq!(bits(&[maxima.offset]), bits(&floats(&of("offset"))), "{case}");
        assert_eq!(bits(&maxima.scales), bits(&floats(&of("scales"))), "{case}");
        assert_eq!(*maxima.codes, golden(&of("absmax")).0, "{case}");
        assert_eq!(bits(&unpacked(&matrix)), bits(&floats(&of("values"))), "{case}");
        assert_eq!(matrix.bytes(), nf4_bytes(dims, true), "{case}");
    }
}

#[test]
fn int8_codes_are_those_of_bitsandbytes() {
    for case in CASES.into_iter().filter(|case| *case != "zeros") {
        let (values, dims) = input(case);
        let matrix = QuantizedMatrix::to_int8(&values, dims).unwrap();
        let Storage::Int8(codes, scales) = matrix.storage() else { panic!("{matrix:?}") };
        let expected: Vec<i8> = golden(&format!("{case}.int8.codes")).0.into_iter().map(u8::cast_signed).collect();
        assert_eq!(**codes, *expected, "{case}");
        let maxima: Vec<f32> = floats(&format!("{case}.int8.absmax")).iter().map(|m| m / 127.0).collect();
        assert_eq!(bits(scales), bits(&maxima), "{case}");
        assert_eq!(matrix.bytes(), int8_bytes(dims), "{case}");
        // Half a step of the row, and the rounding of the scale.
        for ((row, unpacked), scale) in values.chunks(dims[1]).zip(unpacked(&matrix).chunks(dims[1])).zip(&**scales) {
            assert!(row.iter().zip(unpacked).all(|(a, b)| (a - b).abs() <= 0.5001 * scale), "{case}");
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for matrix in [
        QuantizedMatrix::to_int8(&[0.0; 192], [2, 96]),
        QuantizedMatrix::to_nf4(&[0.0; 192], [2, 96], false),
        QuantizedMatrix::to_nf4(&[0.0; 192], [2, 96], true),
    ] {
        assert_eq!(unpacked(&matrix.unwrap()), [0.0; 192]);
    }
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = [1.0; 128];
        values[70] = bad;
        assert!(QuantizedMatrix::to_int8(&values, [2, 64]).is_none());
        assert!(QuantizedMatrix::to_nf4(&values, [2, 64], false).is_none());
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let blocks = |dims, bytes: usize| QuantizedMatrix::blocks(dims, QuantType::Q8_0, vec![0; bytes].into());
    assert!(blocks([2, 32], 68).is_ok());
    let error = blocks([2, 32], 67).unwrap_err();
    assert_eq!(error.what(), "a matrix [2, 32] as Q8_0 is not stored in 67 bytes");
    assert!(blocks([2, 31], 68).is_err(), "a row is not whole blocks");
    assert!(blocks([usize::MAX, 32], 68).is_err());
    assert!(QuantizedMatrix::int8([2, 3], vec![0; 6].into(), vec![0.0; 1].into()).is_err());
    let plain = |blocks: usize| Absmax::Plain(vec![1.0; blocks].into());
    assert!(QuantizedMatrix::nf4([3, 33], vec![0; 50].into(), plain(2)).is_ok());
    assert!(QuantizedMatrix::nf4([3, 33], vec![0; 49].into(), plain(2)).is_err());
    assert!(QuantizedMatrix::nf4([3, 33], vec![0; 50].into(), plain(1)).is_err());
    let Absmax::Double(mut double) = Absmax::Double(DoubleQuantized::new(&[1.0; 300])) else { unreachable!() };
    double.scales = vec![1.0].into();
    assert!(QuantizedMatrix::nf4([300, 64], vec![0; 9600].into(), Absmax::Double(double)).is_err());
}

/// The same values in every form.
fn every_form(values: &[f32], dims: [usize; 2]) -> Vec<QuantizedMatrix> {
    let mut forms = vec![
        QuantizedMatrix::to_int8(values, dims).unwrap(),
        QuantizedMatrix::to_nf4(values, dims, false).unwrap(),
        QuantizedMatrix::to_nf4(values, dims, true).unwrap(),
    ];
    for of in QuantType::ALL {
        if let Some(row) = of.bytes_of(dims[1]) {
            let bytes: Vec<u8> = (0..row * dims[0]).map(|i| (i * 37 % 59) as u8).collect();
            forms.push(QuantizedMatrix::blocks(dims, of, bytes.into()).unwrap());
        }
    }
    forms
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_rows_equal_those_of_the_whole(
        rows in 1usize..40, cols in prop_oneof![1usize..200, Just(256), Just(512)], a in 0usize..40, b in 0usize..40
    ) {
        let range = a.min(b).min(rows)..a.max(b).min(rows);
        let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0).collect();
        for matrix in every_form(&values, [rows, cols]) {
            let whole = bits(&unpacked(&matrix));
            let expected = &whole[range.start * cols..range.end * cols];
            let mut out = vec![f32::NAN; expected.len()];
            matrix.dequantize_rows(range.clone(), &mut out);
            prop_assert_eq!(bits(&out), expected, "{}", matrix.kind());
            out.fill(f32::NAN);
            matrix.dequantize_rows_parallel(range.clone(), &mut out);
            prop_assert_eq!(bits(&out), expected, "{} on all threads", matrix.kind());
        }
    }
}

#[test]
fn rows_that_do_not_exist_are_left_out() {
    for matrix in every_form(&[1.0; 512], [2, 256]) {
        let mut out = [7.0; 1024];
        matrix.dequantize_rows(1..4, &mut out);
        assert!(out[256..].iter().all(|v| *v == 7.0), "{}", matrix.kind());
        matrix.dequantize_rows(usize::MAX - 1..usize::MAX, &mut out);
        matrix.dequantize_rows(0..2, &mut []);
    }
}

#[test]
fn a_dot_product_is_that_of_the_unpacked_row() {
    let dims = [5, 777]; // NF4 blocks begin and end inside of rows
    let values: Vec<f32> = (0..dims[0] * dims[1]).map(|i| (i as f32 * 0.71).sin()).collect();
    let x: Vec<f32> = (0..dims[1]).map(|i| (i as f32 * 0.37).cos()).collect();
    let forms = [
        QuantizedMatrix::to_nf4(&values, dims, false).unwrap(),
        QuantizedMatrix::to_nf4(&values, dims, true).unwrap(),
        QuantizedMatrix::to_int8(&values, dims).unwrap(),
    ];
    for matrix in forms {
        let mut found = [f32::NAN; 3];
        matrix.dot_rows(1..4, &PlainRows::new(&x, dims[1]), &mut found);
        let unpacked = unpacked(&matrix);
        for (found, row) in found.iter().zip(unpacked.chunks_exact(dims[1]).skip(1)) {
            let products = || row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let (expected, scale) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * scale, "{}: {found} {expected}", matrix.kind());
        }
    }
}
