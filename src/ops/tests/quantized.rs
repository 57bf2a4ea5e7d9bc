//! Weights in every compressed form, on every device.

use super::*;
use crate::quant::{QuantType, QuantizedMatrix};

/// The forms that hold a matrix of these sizes: quantised normal values, and blocks of any bytes whose scales are
/// finite.
fn forms(values: &mut Values, dims: [usize; 2]) -> Vec<QuantizedMatrix> {
    let floats: Vec<f32> = values.tensor(dims).into_data().iter().collect();
    let mut forms = vec![
        QuantizedMatrix::to_int8(&floats, dims).unwrap(),
        QuantizedMatrix::to_nf4(&floats, dims, false).unwrap(),
        QuantizedMatrix::to_nf4(&floats, dims, true).unwrap(),
    ];
    for of in QuantType::ALL {
        let Some(row) = of.bytes_of(dims[1]) else { continue };
        let random = values.tensor([1, row * dims[0]]).into_data();
        // An exponent of all ones would be an infinity.
        let finite = |byte: u8| if byte & 0x7c == 0x7c { byte & 0xbf } else { byte };
        let bytes: Vec<u8> = random.iter::<f32>().map(|x| finite((x * 1e4) as i32 as u8)).collect();
        forms.push(QuantizedMatrix::blocks(dims, of, bytes.into()).unwrap());
    }
    forms
}

fn bits(tensor: Tensor<2>) -> Vec<u32> {
    tensor.into_data().iter::<f32>().map(f32::to_bits).collect()
}

#[test]
fn every_device_unpacks_the_same_bits() {
    for dims in [[1, 1], [7, 33], [5, 96], [3, 512], [70, 256]] {
        for matrix in forms(&mut Values::new(8), dims) {
            // A row at a time on this thread, by functions that have goldens of their own.
            let row = |row: usize| {
                let mut values = vec![0.0f32; dims[1]];
                matrix.dequantize_rows(row..row + 1, &mut values);
                values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let of = |rows: &mut dyn Iterator<Item = usize>| rows.flat_map(row).collect::<Vec<_>>();
            let [rows, _] = dims;
            let indices = [rows as u32 - 1, 0, rows as u32 / 2, 0];
            for found in device::all() {
                let (name, kind) = (found.name(), matrix.kind());
                let weight = Weight::quantized(matrix.clone(), &found.device);
                assert!(weight.is_quantized());
                assert_eq!(weight.bytes(), matrix.bytes(), "{name} {kind}");
                assert_eq!(bits(weight.to_f32()), of(&mut (0..rows)), "{name} {kind} {dims:?}");
                let mut range = rows / 3..rows;
                assert_eq!(bits(weight.rows(range.clone())), of(&mut range), "{name} {kind} {dims:?}");
                let chosen = bits(weight.select(&indices));
                assert_eq!(chosen, of(&mut indices.map(|i| i as usize).into_iter()), "{name} {kind} {dims:?}");
                assert_eq!(weight.select(&[]).dims(), [0, dims[1]]);
            }
        }
    }
}

#[test]
fn linear_and_lora_agree_for_every_form() {
    for [n, input, out, r] in [[1, 1, 1, 1], [9, 256, 70, 3]] {
        let mut values = Values::new(9);
        for matrix in forms(&mut values, [out, input]) {
            let weight = Weight::quantized(matrix.clone(), &Device::flex()).to_f32();
            // Blocks of any bytes are of any size; outputs near 1 keep the tolerance meaningful.
            let size = weight.clone().abs().max().into_scalar::<f32>().max(1e-20);
            let held = |x: &Tensor<2>| Weight::quantized(matrix.clone(), &x.device().inner());
            let project = |x: &Tensor<2>| x.clone().div_scalar(size).matmul(weight.clone().transpose());
            let inputs = [values.tensor([n, input]), values.tensor([r, input]), values.tensor([out, r])];
            let fastest = rounding_of(FloatDType::BF16);
            agree_as(
                (&fastest, 1.0),
                &inputs[..1],
                |t| held(&t[0]).project(t[0].clone().div_scalar(size)),
                |t| project(&t[0]),
            );
            agree_as(
                (&fastest, 1.0),
                &inputs,
                |t| {
                    let x = t[0].clone().div_scalar(size);
                    held(&x).project_adapted(x, &t[1].clone().mul_scalar(size), &t[2], 0.7)
                },
                |t| plain::add_low_rank(project(&t[0]), &t[0], &t[1], &t[2], 0.7),
            );
        }
    }
}

#[test]
fn what_does_not_pass_is_skipped_in_every_form() {
    let [n, d, f] = [40, 256, 768];
    let mut values = Values::new(19);
    for (up, down) in forms(&mut values, [f, d]).into_iter().zip(forms(&mut Values::new(20), [d, f])) {
        // Blocks of any bytes are of any size, and the gradients of two layers multiply them.
        if !matches!(up.kind(), "INT8" | "NF4" | "NF4_DOUBLE") {
            continue;
        }
        let of = |name: &str| if name == "up" { &up } else { &down };
        let dense = |name: &str| Weight::quantized(of(name).clone(), &Device::flex()).to_f32();
        let fastest = rounding_of(FloatDType::BF16);
        check_passing((&fastest, 4.0), &|name, device| Weight::quantized(of(name).clone(), device), &dense, [n, d, f]);
    }
}

#[test]
fn a_few_rows_are_multiplied_as_each_alone() {
    let mut values = Values::new(11);
    let device = Device::flex();
    let dims = [70, 256];
    let dense = Weight::new(values.tensor(dims));
    let forms = forms(&mut values, dims).into_iter().map(|matrix| Weight::quantized(matrix, &device));
    for weight in forms.chain([dense]) {
        assert!(weight.rows_alone() >= 3);
        for rows in 2..=weight.rows_alone() {
            let x: Tensor<2> = values.tensor([rows, 256]);
            let alone = (0..rows).flat_map(|row| bits(weight.project(x.clone().narrow(0, row, 1))));
            assert_eq!(bits(weight.project(x.clone())), alone.collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_few_rows_are_multiplied_alike_with_every_form() {
    let mut values = Values::new(13);
    let device = Device::flex();
    let dims @ [_, input] = [70, 256];
    let dense = Weight::new(values.tensor(dims));
    let forms = forms(&mut values, dims).into_iter().map(|matrix| Weight::quantized(matrix, &device));
    for weight in forms.chain([dense]) {
        let x: Tensor<2> = values.tensor([60, input]);
        let [of_x, w] = [x.clone(), weight.to_f32()]
            .map(|floats| floats.into_data().iter().map(|x: f32| f64::from(x)).collect::<Vec<_>>());
        // From so many rows on all are multiplied in the same way, until they are no longer few.
        let least = if weight.is_in_blocks() { 4 } else { weight.rows_alone().max(3) + 1 };
        let project = |rows| inference(|| weight.project(x.clone().narrow(0, 0, rows)));
        let first = bits(project(least).narrow(0, 0, 4));
        // Just below, at and above the number from which on they are no longer few.
        for rows in [2, 4, 5, 8, 9, 31, 47, 48, 49, 60] {
            let y = project(rows);
            let found: Vec<f32> = y.clone().into_data().iter().collect();
            for (found, x) in found.chunks(dims[0]).zip(of_x.chunks(input)) {
                for (found, w) in found.iter().zip(w.chunks(input)) {
                    let terms = || w.iter().zip(x).map(|(w, x)| w * x);
                    let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    assert!((f64::from(*found) - expected).abs() <= 1e-6 * size, "{rows} rows: {found} for {expected}");
                }
            }
            if (least..=Weight::FEW_ROWS).contains(&rows) {
                assert_eq!(bits(y.narrow(0, 0, 4)), first, "whatever is beside them, {rows} rows");
            }
        }
    }
}

#[test]
fn any_number_of_rounded_rows_is_multiplied_as_each_alone() {
    let mut values = Values::new(12);
    let device = Device::flex();
    let dims = [70, 256];
    let forms = forms(&mut values, dims).into_iter().map(|matrix| Weight::quantized(matrix, &device));
    let rounding: Vec<Weight> =
        forms.map(Weight::with_rounded_inputs).filter(|weight| weight.rounding_inputs().is_some()).collect();
    assert_eq!(rounding.len(), 13, "signed bytes, and every type of blocks");
    for weight in rounding {
        let x: Tensor<2> = values.tensor([21, 256]);
        let alone = (0..21).flat_map(|row| bits(weight.project(x.clone().narrow(0, row, 1))));
        assert_eq!(bits(weight.project(x.clone())), alone.collect::<Vec<_>>());
    }
    let floats = Weight::new(values.tensor(dims)).with_rounded_inputs();
    assert!(floats.rounding_inputs().is_none(), "plain floats have no codes");
}
