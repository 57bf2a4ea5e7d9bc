use super::*;
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
        of.dequantize_rows(&bytes, row_len, 1..3, &mut found).unwrap();
        assert_eq!(bits(&found), bits(&expected[row_len..3 * row_len]), "{of}");
        assert!(of.dequantize_rows(&bytes, row_len, 2..4, &mut found).is_err(), "{of}: row 3 does not exist");
        assert!(of.dequantize_rows(&bytes, row_len, usize::MAX - 1..usize::MAX, &mut found).is_err(), "{of}");
    }
}

#[test]
fn all_threads_give_what_one_thread_gives() {
    for of in QuantType::ALL {
        let (bytes, expected, _) = golden(of);
        let times = 3 * CHUNK / expected.len() + 1;
        let (bytes, expected) = (bytes.repeat(times), expected.repeat(times));
        let mut found = vec![f32::NAN; expected.len()];
        of.dequantize_parallel(&bytes, &mut found).unwrap();
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
    assert_eq!(QuantType::from_ggml(23), None);
    assert_eq!(ggml_type_name(23), Some("IQ4_XS"));
    assert_eq!(ggml_type_name(4), None); // a type that was removed from the format
}
