//! Products whose factors are rounded, on every device that has such numbers.

use super::*;
use crate::quant::QuantizedMatrix;

/// The dtypes that a device can round to, and what becomes of factors there.
fn dtypes(device: &Device) -> impl Iterator<Item = (FloatDType, Roundoff)> {
    let all = [FloatDType::F32, FloatDType::BF16, FloatDType::F16];
    let supported = all.into_iter().filter(|dtype| device.supports_dtype(*dtype));
    supported.map(|dtype| (dtype, Roundoff::of(device, dtype))).collect::<Vec<_>>().into_iter()
}

/// Whole numbers of at most seven bits.
fn whole<const D: usize>(values: &mut Values, shape: [usize; D]) -> Tensor<D> {
    values.tensor(shape).mul_scalar(40.0).round().clamp(-127.0, 127.0)
}

#[test]
fn factors_that_need_no_rounding_have_exact_products() {
    for [n, input, out] in [[1, 1, 1], [3, 40, 70], [33, 70, 130]] {
        let mut values = Values::new(11);
        let (x, w, dy) =
            (whole(&mut values, [n, input]), whole(&mut values, [out, input]), whole(&mut values, [n, out]));
        let codes: Vec<i8> = w.to_data().iter::<f32>().map(|code| code as i8).collect();
        let int8 = QuantizedMatrix::int8([out, input], codes.into(), vec![1.0; out].into()).unwrap();
        let (y, dx) = (x.clone().matmul(w.clone().transpose()), dy.clone().matmul(w.clone()));
        for found in device::all() {
            let (name, device) = (found.name(), &found.device);
            for (dtype, _) in dtypes(device) {
                for weight in [hold(&w, device), Weight::quantized(int8.clone(), device)] {
                    let weight = weight.computed_in(dtype);
                    let leaf = x.clone().to_device(device).autodiff().require_grad();
                    let got = weight.project(leaf.clone());
                    let mut tape = (got.clone() * dy.clone().to_device(device)).sum().backward();
                    assert_eq!(got.inner().into_data(), y.to_data(), "{name} {dtype:?} [{n}, {input}, {out}]");
                    let got = leaf.grad_remove(&mut tape).unwrap();
                    assert_eq!(got.into_data(), dx.to_data(), "{name} {dtype:?} [{n}, {input}, {out}]");
                }
            }
        }
    }
}

/// Each factor is off by its unit roundoff at most, however large or small the rows are.
#[test]
fn rows_of_any_size_are_rounded_relative_to_themselves() {
    const SIZES: [f32; 7] = [0.0, 1e-30, 1e-9, 1.0, 1e5, 1e9, 1e30];
    let mut values = Values::new(12);
    let (n, input, out) = (SIZES.len(), 96, 40);
    let sizes = Tensor::<2>::from_data(TensorData::new(SIZES.to_vec(), [n, 1]), &Device::flex());
    let (x, w) = (values.tensor([n, input]) * sizes, values.tensor([out, input]));
    let want: Vec<f32> = x.clone().matmul(w.clone().transpose()).into_data().iter().collect();
    let bound: Vec<f32> = x.clone().abs().matmul(w.clone().abs().transpose()).into_data().iter().collect();
    for found in device::all() {
        for (dtype, roundoff) in dtypes(&found.device) {
            let weight = hold(&w, &found.device).computed_in(dtype);
            let got = weight.project(x.clone().to_device(&found.device)).into_data();
            for ((got, want), bound) in got.iter::<f32>().zip(&want).zip(&bound) {
                // Values far below the largest of their row lose some bits more; their share of a sum is as small.
                let allowed = bound * roundoff.tolerance(1.0) as f32;
                assert!((got - want).abs() <= allowed, "{} {dtype:?}: {got} {want}", found.name());
            }
        }
    }
}

#[test]
fn losses_of_rounded_factors_are_near_and_never_below_zero() {
    let mut values = Values::new(13);
    let (m, d, words) = (9, 64, 2500);
    let head: Tensor<2> = values.tensor([words, d]);
    let targets: Vec<u32> = (0..m).map(|row| (row * 37 % words) as u32).collect();
    let chosen: Tensor<2> = hold(&head, &Device::flex()).select(&targets);
    // Rows that point at their targets: their losses are next to nothing.
    for (x, sure) in [(values.tensor([m, d]).div_scalar(8.0), false), (chosen.mul_scalar(3.0), true)] {
        let exact = linear_cross_entropy(&x, &Weight::new(head.clone()), None, &targets, Some(1.0)).unwrap();
        for found in device::all() {
            for (dtype, roundoff) in dtypes(&found.device) {
                let (x, head) = (x.clone().to_device(&found.device), hold(&head, &found.device).computed_in(dtype));
                let got =
                    cross_entropy::linear_cross_entropy(&x, cross_entropy::Head::plain(&head), &targets, Some(1.0));
                let name = found.name();
                let gap = (got.sum - exact.losses.iter().sum::<f64>()).abs() / m as f64;
                // The gradient is a product of exponentials of products, whose errors they magnify.
                let allowed = roundoff.tolerance(4.0);
                assert!(gap <= allowed, "{name} {dtype:?}: loss off by {gap}");
                assert!(got.sum >= -1e-5, "{name} {dtype:?}: {}", got.sum);
                let gradient = distance(got.gradient.unwrap(), exact.gradient.clone().unwrap());
                assert!(sure || gradient <= allowed, "{name} {dtype:?}: gradient off by {gradient}");
            }
        }
    }
}

#[test]
fn attention_of_rounded_factors_is_near() {
    let group = |rows: std::ops::Range<usize>| Group { queries: rows.clone(), keys: rows };
    let groups = vec![group(0..50), group(50..57), group(57..140)];
    let visibility = Visibility { groups, window: 40, spans: vec![60..80, 90..95] };
    let mask = AttentionMask::new(visibility.clone());
    let tiles = plain::attention::tiles(&visibility, &Device::flex());
    for softcap in [None, Some(3.0)] {
        let mut values = Values::new(14);
        let shape = AttentionShape { softcap, ..heads(4, 2, 24) };
        let inputs = [values.tensor([140, 4, 24]), values.tensor([140, 2, 24]), values.tensor([140, 2, 24])];
        // Gradients as small as those of a mean over many tokens.
        let upstream: Tensor<2> = values.tensor([140, 96]).mul_scalar(1e-9);
        let run = |device: &Device, f: &dyn Fn([Tensor<3>; 3]) -> Tensor<2>| {
            let leaves = inputs.each_ref().map(|t| t.clone().to_device(device).autodiff().require_grad());
            let out = f(leaves.clone());
            let mut tape = (out.clone() * upstream.clone().to_device(device)).sum().backward();
            (out.inner(), leaves.map(|leaf| leaf.grad_remove(&mut tape).unwrap().div_scalar(1e-9)))
        };
        let (want, want_gradients) =
            run(&Device::flex(), &|[q, k, v]| plain::attention::attention(q, k, v, &shape, &tiles));
        for found in device::all() {
            for (compute_dtype, roundoff) in dtypes(&found.device) {
                let shape = AttentionShape { compute_dtype, ..shape };
                let (got, gradients) = run(&found.device, &|[q, k, v]| attention(q, k, v, &shape, &mask));
                let (name, allowed) = (found.name(), roundoff.tolerance(2.0));
                let gap = distance(got, want.clone());
                assert!(gap < allowed, "{name} {compute_dtype:?}: output {gap}");
                for (i, (got, want)) in gradients.into_iter().zip(&want_gradients).enumerate() {
                    let gap = distance(got, want.clone());
                    assert!(gap < allowed, "{name} {compute_dtype:?}: gradient {i}: {gap}");
                }
            }
        }
    }
}

/// What a backward pass keeps is rounded as factors are, row by row, whatever the size of the rows.
#[test]
fn gradients_of_what_is_kept_as_factors_are_near() {
    const SIZES: [f32; 6] = [1.0, 1e5, 20.0, 1e-4, 1e-9, 0.0];
    let (n, width, out, r) = (SIZES.len(), 96, 40, 5);
    let mut values = Values::new(21);
    let sizes = |sizes: Vec<f32>| Tensor::<2>::from_data(TensorData::new(sizes, [n, 1]), &Device::flex());
    let gate: Tensor<2> = values.tensor([n, width]) * sizes(SIZES.to_vec());
    let up: Tensor<2> = values.tensor([n, width]) * sizes(SIZES.iter().map(|size| size.sqrt()).collect());
    let (a, b): (Tensor<2>, Tensor<2>) = (values.tensor([r, width]), values.tensor([out, r]));
    let weight: Tensor<2> = values.tensor([out, width]);
    let upstream: Tensor<2> = values.tensor([n, out]).mul_scalar(1e-6);
    let inputs = [gate, up, a, b];
    type Ran = (Tensor<2>, Vec<Tensor<2>>);
    type Operation<'a> = &'a dyn Fn(&[Tensor<2>; 4]) -> Tensor<2>;
    let run = |device: &Device, f: Operation| -> Ran {
        let leaves = inputs.each_ref().map(|t| t.clone().to_device(device).autodiff().require_grad());
        let y = f(&leaves);
        let mut tape = (y.clone() * upstream.clone().to_device(device)).sum().backward();
        (y.inner(), leaves.iter().filter_map(|leaf| leaf.grad_remove(&mut tape)).collect())
    };
    let composed = |x: &Tensor<2>, [.., a, b]: &[Tensor<2>; 4]| {
        plain::add_low_rank(x.clone().matmul(weight.clone().transpose()), x, a, b, 0.7)
    };
    let of_product = run(&Device::flex(), &|t| composed(&plain::geglu(t[0].clone(), t[1].clone()), t));
    let of_input = run(&Device::flex(), &|t| composed(&t[0], t));
    // Relative to each token by itself; of an adapter's matrices to the whole.
    let gap = |got: &Tensor<2>, want: &Tensor<2>| {
        assert_eq!(got.dims(), want.dims());
        let numbers = |t: &Tensor<2>| t.clone().into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        let (got, want, [rows, width]) = (numbers(got), numbers(want), want.dims());
        let together = if rows == n { width } else { rows * width };
        let far = got.chunks(together).zip(want.chunks(together)).map(|(got, want)| {
            let error: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
            let norm: f64 = want.iter().map(|b| b.powi(2)).sum();
            if norm == 0.0 { error } else { (error / norm).sqrt() }
        });
        far.fold(0.0, f64::max)
    };
    for found in device::all() {
        for (dtype, roundoff) in dtypes(&found.device) {
            let weight = hold(&weight, &found.device).computed_in(dtype);
            let kernels: [(&Ran, Operation); 2] = [
                (&of_product, &|t| weight.project_gated(t[0].clone(), t[1].clone(), &t[2], &t[3], 0.7)),
                (&of_input, &|t| weight.project_adapted(t[0].clone(), &t[2], &t[3], 0.7)),
            ];
            for ((want, want_gradients), kernel) in kernels {
                let (got, gradients) = run(&found.device, kernel);
                let (name, allowed) = (found.name(), roundoff.tolerance(3.0));
                let off = gap(&got, want);
                assert!(off < allowed, "{name} {dtype:?}: output {off}");
                assert_eq!(gradients.len(), want_gradients.len());
                for (i, (got, want)) in gradients.iter().zip(want_gradients).enumerate() {
                    let off = gap(got, want);
                    assert!(off < allowed, "{name} {dtype:?}: gradient {i}: {off}");
                }
            }
        }
    }
}

/// bf16 numbers, whatever they are held in, have the same products on the CPU: of many rows and few, cut into tiles and
/// not.
#[test]
fn the_cpu_rounds_the_same_whatever_a_weight_is_held_in() {
    let device = Device::flex();
    let mut values = Values::new(14);
    for [n, input, out] in [[5, 70, 1100], [13, 1030, 40]] {
        let w = values.tensor([out, input]).cast(FloatDType::BF16);
        let (x, dy) = (values.tensor([n, input]), values.tensor([n, out]));
        let products = |weight: Weight| {
            let weight = weight.computed_in(FloatDType::BF16);
            let leaf = x.clone().autodiff().require_grad();
            let y = weight.project(leaf.clone());
            let mut tape = (y.clone() * dy.clone()).sum().backward();
            let losses = linear_cross_entropy(&x, &weight, Some(9.0), &vec![3; n], Some(0.5)).unwrap();
            let dx = leaf.grad_remove(&mut tape).unwrap();
            [y.inner(), dx, losses.gradient.unwrap()].map(|tensor| tensor.into_data())
        };
        let bytes: Vec<u8> = w.to_data().bytes().to_vec();
        let blocks = QuantizedMatrix::blocks([out, input], crate::quant::QuantType::BF16, bytes.into()).unwrap();
        let want = products(Weight::new(w.clone()));
        assert_eq!(products(Weight::new(w.clone().cast(FloatDType::F32))), want);
        assert_eq!(products(Weight::quantized(blocks, &device)), want);
        let exact = x.clone().matmul(w.cast(FloatDType::F32).transpose());
        let gap = distance(Tensor::<2>::from_data(want[0].clone(), &device), exact);
        assert!(gap > 1e-4 && gap < Roundoff::Bf16.tolerance(1.0), "{gap}: nothing was rounded, or too much");
    }
}
