use super::pack::{LEAST_LEFT, LEAST_RIGHT, scale};
use super::runs::runs;
use super::*;
use crate::ops::cpu::matmul::{Matrix, Product, Store};
use half::bf16;

/// Numbers of both signs and many sizes.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    let mut number = || ((next() >> 8) as f32 / (1 << 23) as f32 - 1.0) * 2f32.powi((next() >> 28) as i32 - 8);
    (0..len).map(|_| number()).collect()
}

fn in_bf16(values: &[f32]) -> Vec<u16> {
    let mut rounded = vec![0; values.len()];
    round(values, 0.0, &mut rounded);
    rounded
}

/// What every kernel promises, element by element: runs from 0 on, of each pair the second product first.
fn promised(x: &[f32], w: &[f32], k: usize) -> f32 {
    let number = |values: &[f32], at: usize| bf16::from_f32(values[at]).to_f32();
    runs(k).fold(0.0, |sum, run| {
        let of_run = run.clone().step_by(2).fold(0f32, |sum, at| {
            let second = if at + 1 < run.end { number(x, at + 1).mul_add(number(w, at + 1), sum) } else { sum };
            number(x, at).mul_add(number(w, at), second)
        });
        if run.start == 0 { of_run } else { sum + of_run }
    })
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| {
        let here = kernel.runs_here();
        if !here {
            println!("{kernel:?} is not of this processor, and was not tried");
        }
        here
    })
}

#[test]
fn every_kernel_keeps_its_promise() {
    for kernel in kernels() {
        let error = kernel.error();
        println!("{kernel:?}: {error:e}, {}", kernel.name());
        assert!(error < 1e-4, "{kernel:?}: {error}");
        // The instruction's order is its manual's; the others have no other.
        assert!(error == 0.0 || kernel.is_native(), "{kernel:?}: {error}");
    }
    assert!(Kernel::best().runs_here());
}

/// All kernels, on any number of threads, with tiles that end anywhere.
#[test]
fn products_have_the_promised_bits() {
    for [m, k, n] in [[1, 1, 1], [5, 7, 3], [13, 64, 33], [12, 130, 32], [3, 1027, 40], [50, 31, 65]] {
        let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
        let turned: Vec<f32> = (0..n * k).map(|at| w[at % n * k + at / n]).collect();
        let (w16, turned16) = (in_bf16(&w), in_bf16(&turned));
        let want: Vec<f32> = (0..m * n).map(|at| promised(&x[at / n * k..][..k], &w[at % n * k..][..k], k)).collect();
        for kernel in kernels().filter(|kernel| kernel.error() == 0.0) {
            let left = Left::packed_for(kernel, &x, [m, k]);
            let stride = n + 3;
            let mut out = vec![7.0; m * stride];
            times_transposed(&left, Right { values: &w16, rows: n, width: k }, Store::Replace, &mut out, stride);
            for (got, want) in out.chunks(stride).zip(want.chunks(n)) {
                assert_eq!(got[..n], *want, "{kernel:?} [{m}, {k}, {n}]");
                assert_eq!(got[n..], [7.0; 3], "{kernel:?} [{m}, {k}, {n}]: written beside");
            }
            // Run by run, as a weight is visited that is not held in bf16.
            let mut out = vec![0.0; m * n];
            for run in runs(k) {
                let w = Right { values: &turned16[run.start * n..run.end * n], rows: run.len(), width: n };
                times(&left, run, w, Store::Add, &mut out, n);
            }
            assert_eq!(out, want, "{kernel:?} [{m}, {k}, {n}]");
            let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let mut same = vec![0.0; m * n];
            let w = Right { values: &turned16, rows: k, width: n };
            alone.install(|| times(&left, 0..k, w, Store::Add, &mut same, n));
            assert_eq!(out, same, "{kernel:?} [{m}, {k}, {n}] on one thread");
        }
    }
}

#[test]
fn numbers_are_rounded_to_nearest_even_and_the_least_are_dropped() {
    let values = [1.0, -1.003_906_3, 1.011_718_8, f32::INFINITY, f32::MAX, 1e-13, -0.0, 3.0e-38, 0.3, -7.7e9];
    let want: Vec<u16> = values.iter().map(|x| bf16::from_f32(*x).to_bits()).collect();
    assert_eq!(in_bf16(&values), want);
    assert!(bf16::from_bits(in_bf16(&[f32::from_bits(0x7f80_0001)])[0]).is_nan());
    let mut dropped = [9; 3];
    round(&[LEAST_RIGHT, -LEAST_RIGHT.next_down(), LEAST_LEFT], LEAST_RIGHT, &mut dropped);
    assert_eq!(dropped, [bf16::from_f32(LEAST_RIGHT).to_bits(), 0, 0]);
    // The least product's last bit is not subnormal.
    assert_eq!(LEAST_LEFT * LEAST_RIGHT * 2f32.powi(-14), f32::MIN_POSITIVE);
}

#[test]
fn rows_far_from_one_are_brought_near_it() {
    for (row, want) in [
        (vec![0.0; 3], 1.0),
        (vec![1e-9, -3.0], 1.0),
        (vec![f32::NAN, 1e-30], 1.0),
        (vec![f32::INFINITY], 1.0),
        (vec![-2f32.powi(-100), 0.0], 2f32.powi(100)),
        (vec![2f32.powi(100); 40], 2f32.powi(-100)),
        (vec![f32::from_bits(1)], 2f32.powi(126)),
        (vec![f32::MAX], 2f32.powi(-126)),
    ] {
        assert_eq!(scale(&row), want, "{row:?}");
    }
    // A row that is a power of two times another has the same bits, but for the exponent.
    let (x, w) = (numbers(80, 3), in_bf16(&numbers(2 * 80, 4)));
    let product = |by: f32| {
        let x: Vec<f32> = x.iter().map(|x| x * by).collect();
        let mut out = [0.0; 2];
        times_transposed(
            &Left::new(&x, [1, 80]),
            Right { values: &w, rows: 2, width: 80 },
            Store::Replace,
            &mut out,
            2,
        );
        out
    };
    for by in [2f32.powi(-100), 2f32.powi(90)] {
        assert_eq!(product(by), product(1.0).map(|y| y * by), "{by:e}");
    }
}

/// Factors that lie in every way that attention has, with numbers of any size, and what is written beside.
#[test]
fn products_on_one_thread_are_those_of_the_rounded_factors() {
    for [m, n, k] in [[1, 1, 1], [4, 7, 3], [33, 13, 64], [64, 50, 256], [40, 3, 1027]] {
        for (size, in_rows) in [(1.0, true), (1.0, false), (2f32.powi(-60), true), (2f32.powi(60), false)] {
            let (l_stride, r_stride, out_stride) = (m + 2, if in_rows { n } else { k } + 1, m + 3);
            let l = numbers(k * l_stride, 1);
            let r: Vec<f32> = numbers(if in_rows { k } else { n } * r_stride, 2).iter().map(|x| x * size).collect();
            let lhs = Matrix { data: &l, strides: [1, l_stride] };
            let rhs = Matrix { data: &r, strides: if in_rows { [r_stride, 1] } else { [1, r_stride] } };
            let number = |m: &Matrix, i: usize, j: usize| {
                f64::from(bf16::from_f32(m.data[i * m.strides[0] + j * m.strides[1]]).to_f32())
            };
            let before = numbers(n * out_stride, 3);
            let results = kernels().map(|kernel| {
                let mut out: Vec<f32> = before.iter().map(|x| x * size).collect();
                let product = Product::added([m, n, k], 0.7, lhs, rhs);
                here::by(kernel, product, &mut out, out_stride);
                out
            });
            let results: Vec<Vec<f32>> = results.collect();
            for out in &results {
                assert_eq!(*out, results[0]);
            }
            for (j, (out, before)) in results[0].chunks(out_stride).zip(before.chunks(out_stride)).enumerate() {
                for (i, (got, before)) in out.iter().zip(before).enumerate() {
                    let before = f64::from(before * size);
                    let terms = || (0..k).map(|p| number(&lhs, i, p) * number(&rhs, p, j));
                    let (want, most) = match i < m {
                        true => {
                            (before + 0.7 * terms().sum::<f64>(), before.abs() + terms().map(f64::abs).sum::<f64>())
                        }
                        false => (before, 0.0),
                    };
                    let error = (f64::from(*got) - want).abs();
                    assert!(error <= 2e-6 * most, "[{m}, {n}, {k}] {size:e} {i} {j}: {got}, not {want}");
                }
            }
        }
    }
}
