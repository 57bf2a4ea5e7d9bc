use super::*;
use crate::quant::{PlainRows, QuantizedMatrix, RoundedRows};
use safetensors::SafeTensors;

const BLOCKS: &[u8] = include_bytes!("../../../tests/goldens/gguf/blocks.safetensors");

/// The golden's block bytes, values and row length of a type.
fn golden(of: QuantType) -> (Vec<u8>, Vec<f32>, usize) {
    let file = SafeTensors::deserialize(BLOCKS).unwrap();
    let bytes = file.tensor(&format!("{of}.bytes")).unwrap().data().to_vec();
    let values = file.tensor(&format!("{of}.values")).unwrap();
    let floats = values.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (bytes, floats, values.shape()[1])
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_type_equals_the_gguf_package_bit_for_bit() {
    for of in QuantType::ALL {
        let (bytes, expected, _) = golden(of);
        let mut found = vec![f32::NAN; expected.len()];
        of.dequantize(&bytes, &mut found).unwrap();
        assert_eq!(bits(&found), bits(&expected), "{of}");
    }
}

#[test]
fn a_row_range_equals_the_same_rows_of_the_whole() {
    for of in QuantType::ALL {
        let (bytes, expected, row_len) = golden(of);
        let mut found = vec![f32::NAN; 2 * row_len];
        let matrix = QuantizedMatrix::blocks([expected.len() / row_len, row_len], of, bytes.into()).unwrap();
        matrix.dequantize_rows(1..3, &mut found);
        assert_eq!(bits(&found), bits(&expected[row_len..3 * row_len]), "{of}");
    }
}

#[test]
fn all_threads_give_what_one_thread_gives() {
    for of in QuantType::ALL {
        let (bytes, expected, row_len) = golden(of);
        let times = 3 * (1 << 16) / expected.len() + 1;
        let (bytes, expected) = (bytes.repeat(times), expected.repeat(times));
        let rows = expected.len() / row_len;
        let mut found = vec![f32::NAN; expected.len()];
        let matrix = QuantizedMatrix::blocks([rows, row_len], of, bytes.into()).unwrap();
        matrix.dequantize_rows_parallel(0..rows, &mut found);
        assert_eq!(bits(&found), bits(&expected), "{of}");
    }
}

#[test]
fn lengths_that_do_not_match_are_refused() {
    let mut out = [0.0; 32];
    let error = QuantType::Q8_0.dequantize(&[0; 33], &mut out).unwrap_err();
    assert_eq!(error.what(), "32 elements of type Q8_0 are not stored in 33 bytes");
    assert_eq!(QuantType::Q4K.bytes_of(255), None);
    assert_eq!(QuantType::Q4K.bytes_of(512), Some(288));
    assert_eq!(QuantType::F32.bytes_of(usize::MAX), None);
}

#[test]
fn numbers_and_names_are_those_of_ggml() {
    for of in QuantType::ALL {
        assert_eq!(QuantType::from_ggml(of.ggml()), Some(of));
        assert_eq!(ggml_type_name(of.ggml()), Some(of.name()));
    }
    assert_eq!(QuantType::from_ggml(22), None);
    assert_eq!(ggml_type_name(22), Some("IQ2_S"));
    assert_eq!(ggml_type_name(4), None); // a type that was removed from the format
}

/// `x` that is nowhere special.
fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.37).sin() + 0.2).collect()
}

/// The products of one row with inputs `[n, in]`.
fn dots(of: QuantType, row: &[u8], x: &[f32], n: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; n];
    of.dots(row, &PlainRows::new(x, x.len() / n), &mut out);
    out
}

/// Three times the golden's blocks whose numbers are of a common size, as one row; its length.
fn long_row(of: QuantType) -> (Vec<u8>, usize) {
    let (bytes, values, _) = golden(of);
    let blocks = bytes.chunks_exact(of.block_bytes()).zip(values.chunks_exact(of.block_size()));
    let common = blocks.filter(|(_, values)| values.iter().all(|value| value.abs() < 1e6));
    let row = common.flat_map(|(bytes, _)| bytes).copied().collect::<Vec<u8>>().repeat(3);
    let blocks = row.len() / of.block_bytes();
    assert!(blocks >= 3, "{of}");
    (row, blocks * of.block_size())
}

#[test]
fn a_dot_product_is_that_of_the_unpacked_row() {
    for of in QuantType::ALL {
        let (bytes, values, _) = golden(of);
        // Golden blocks hold values of any size: compare with the sum of magnitudes, and leave infinite ones out.
        let block = of.block_bytes() * if of.is_float() { 64 } else { 1 };
        for (bytes, values) in bytes.chunks_exact(block).zip(values.chunks(block / of.block_bytes() * of.block_size()))
        {
            let x = wave(values.len());
            let products = || values.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let (expected, scale) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
            if scale < 1e30 {
                let found = if of.is_float() { of.dot(bytes, &x) } else { dots(of, bytes, &x, 1)[0] };
                let off = (f64::from(found) - expected).abs();
                assert!(off <= 1e-6 * scale, "{of}: {found} {expected}");
            }
        }
    }
}

#[test]
fn an_input_s_products_do_not_depend_on_what_is_beside_it() {
    for of in QuantType::ALL.into_iter().filter(|of| !of.is_float()) {
        let (row, row_len) = long_row(of);
        let x = wave(13 * row_len);
        let alone: Vec<f32> = x.chunks_exact(row_len).map(|x| dots(of, &row, x, 1)[0]).collect();
        for n in 1..=13 {
            assert_eq!(bits(&dots(of, &row, &x[..n * row_len], n)), bits(&alone[..n]), "{of}, {n} inputs");
        }
    }
}

#[test]
fn misaligned_floats_are_read_all_the_same() {
    let mut bytes = vec![0u8];
    bytes.extend([1.5f32, -2.0, 8.0].iter().flat_map(|v| v.to_le_bytes()));
    for start in 0..4 {
        let mut shifted = vec![0; start];
        shifted.extend(&bytes[1..]);
        assert_eq!(QuantType::F32.dot(&shifted[start..], &[1.0, 10.0, 0.5]), -14.5);
    }
}

#[test]
fn every_processor_computes_the_same_bits() {
    for of in QuantType::ALL.into_iter().filter(|of| !of.is_float()) {
        let (bytes, values, _) = golden(of);
        let mut plain = vec![0.0; values.len()];
        on_blocks::<Portable, _>(Some(of), Unpack { bytes: &bytes, out: &mut plain });
        assert_eq!(bits(&plain), bits(&values), "{of}");
        let x = wave(of.block_size());
        let (exact, rounded) = (PlainRows::new(&x, x.len()), RoundedRows::new(&x, x.len()));
        let rows = bytes.len() / of.block_bytes();
        let (mut plain, mut found) = (vec![0.0; rows], vec![0.0; rows]);
        of.dots(&bytes, &exact, &mut found);
        on_blocks::<Portable, _>(Some(of), every_row(&bytes, &exact, &mut plain));
        assert_eq!(bits(&found), bits(&plain), "{of}");
        of.dots(&bytes, &rounded, &mut found);
        on_blocks::<Portable, _>(Some(of), every_row(&bytes, &rounded, &mut plain));
        assert_eq!(bits(&found), bits(&plain), "{of} with rounded inputs");
    }
}

#[test]
fn every_processor_sums_the_blocks_of_a_row_alike() {
    fn plain<I: Inputs>(of: QuantType, rows: &[u8], x: &I) -> Vec<u32> {
        fn beside<I: Inputs, const N: usize>(of: QuantType, rows: &[u8], x: &I, out: &mut [f32]) {
            on_blocks::<Portable, _>(Some(of), Dots::<_, N> { rows, x, first: 0, outputs: 1, out });
        }
        let mut out = vec![f32::NAN; x.len()];
        match x.len() {
            1 => beside::<_, 1>(of, rows, x, &mut out),
            4 => beside::<_, 4>(of, rows, x, &mut out),
            _ => beside::<_, 8>(of, rows, x, &mut out),
        }
        bits(&out)
    }
    for of in QuantType::ALL.into_iter().filter(|of| !of.is_float()) {
        let (row, row_len) = long_row(of);
        for n in [1, 4, 8] {
            let x = wave(n * row_len);
            let (exact, rounded) = (PlainRows::new(&x, row_len), RoundedRows::new(&x, row_len));
            let mut found = vec![f32::NAN; n];
            of.dots(&row, &exact, &mut found);
            assert_eq!(bits(&found), plain(of, &row, &exact), "{of}, {n} inputs");
            of.dots(&row, &rounded, &mut found);
            assert_eq!(bits(&found), plain(of, &row, &rounded), "{of}, {n} rounded inputs");
        }
    }
}

fn every_row<'a, I: Inputs>(rows: &'a [u8], x: &'a I, out: &'a mut [f32]) -> Dots<'a, I, 1> {
    Dots { rows, x, first: 0, outputs: out.len(), out }
}
