use super::*;
use crate::device;
use crate::random::{Label, Rng};
use burn::tensor::{Device, TensorData};

/// Several tiles of words on every path, and two rows of them on none.
const WORDS: usize = 2_600;
const WIDTH: usize = 16;
const ROWS: usize = 9;

fn random(purpose: &'static str, rows: usize, size: f32) -> Vec<f32> {
    let values = Rng::new(3).stream(&[Label::Purpose(purpose)]).normal_f32(rows * WIDTH);
    values.into_iter().map(|x| x * size).collect()
}

fn targets() -> Vec<u32> {
    (0..ROWS as u32).map(|row| row * 797 % WORDS as u32).collect()
}

/// Losses and gradient of plain sums in f64.
fn expected(x: &[f32], head: &[f32], softcap: Option<f64>, scale: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut losses, mut gradient) = (Vec::new(), Vec::new());
    for (x, target) in x.chunks(WIDTH).zip(targets()) {
        let dot = |e: &[f32]| x.iter().zip(e).map(|(x, e)| f64::from(*x) * f64::from(*e)).sum::<f64>();
        let raw: Vec<f64> = head.chunks(WIDTH).map(dot).collect();
        let bent: Vec<f64> = raw.iter().map(|z| softcap.map_or(*z, |c| c * (z / c).tanh())).collect();
        let slope = |z: f64| softcap.map_or(1.0, |c| 1.0 - (z / c).powi(2));
        let max = bent.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = bent.iter().map(|z| (z - max).exp()).sum();
        losses.push(sum.ln() + max - bent[target as usize]);
        let mut row = vec![0.0; WIDTH];
        for (word, e) in head.chunks(WIDTH).enumerate() {
            let one = if word == target as usize { 1.0 } else { 0.0 };
            let by = ((bent[word] - max).exp() / sum - one) * slope(bent[word]) * scale;
            row.iter_mut().zip(e).for_each(|(sum, e)| *sum += by * f64::from(*e));
        }
        gradient.extend(row);
    }
    (losses, gradient)
}

fn distance(got: &[f64], want: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied())
}

fn floats(tensor: Tensor<2>) -> Vec<f64> {
    tensor.into_data().iter::<f32>().map(f64::from).collect()
}

#[test]
fn soft_caps_bend_losses_and_gradients_on_every_path() {
    let (x, head) = (random("x", ROWS, 2.0), random("head", WORDS, 1.5));
    for softcap in [None, Some(4.0_f32), Some(30.0)] {
        let (losses, gradient) = expected(&x, &head, softcap.map(f64::from), 0.25);
        let check = |what: &str, got: (Vec<f64>, Tensor<2>)| {
            let (of_losses, of_gradient) = (distance(&got.0, &losses), distance(&floats(got.1), &gradient));
            assert!(of_losses < 2e-5, "{what}, cap {softcap:?}: losses {of_losses:e}");
            assert!(of_gradient < 2e-5, "{what}, cap {softcap:?}: gradient {of_gradient:e}");
        };
        for found in device::all() {
            let tensor = |values: &[f32], rows| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, WIDTH]), &found.device)
            };
            let (x, weight) = (tensor(&x, ROWS), Weight::new(tensor(&head, WORDS)));
            let head = Head { weight: &weight, softcap };
            let Loss { sum, gradient } = linear_cross_entropy(&x, head, &targets(), Some(0.25));
            let apart = token_nll(&x, head, &targets());
            assert!((sum - apart.iter().sum::<f64>()).abs() < 1e-5 * sum);
            check(&found.name(), (apart, gradient.unwrap()));
            // Logits that are all there say the same.
            let logits = floats(head.logits(x.clone()));
            let nll = logits.chunks(WORDS).zip(targets()).map(|(logits, target)| {
                let max = logits.iter().copied().fold(f64::MIN, f64::max);
                logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max - logits[target as usize]
            });
            assert!(distance(&nll.collect::<Vec<_>>(), &losses) < 2e-5, "{}", found.name());
        }
        let device = Device::flex();
        let tensor = |values: &[f32], rows| Tensor::from_data(TensorData::new(values.to_vec(), [rows, WIDTH]), &device);
        let weight = Weight::new(tensor(&head, WORDS));
        let (losses, gradient) =
            chunk_loss(tensor(&x, ROWS), Head { weight: &weight, softcap }, &targets(), Some(0.25));
        check("by tensors", (losses, gradient.unwrap()));
    }
}

/// Each row's gradient is its own, times what comes from above: also where that is negative or nothing.
#[test]
fn log_probabilities_pass_on_what_comes_from_above_row_by_row() {
    let (x, head) = (random("x", ROWS, 2.0), random("head", WORDS, 1.5));
    let upstream: Vec<f64> = (0..ROWS).map(|row| [0.5, -2.0, 0.0, 0.125][row % 4]).collect();
    for softcap in [None, Some(4.0_f32)] {
        let (losses, gradient) = expected(&x, &head, softcap.map(f64::from), 1.0);
        let wanted: Vec<f64> = losses.iter().map(|loss| -loss).collect();
        let rows = gradient.chunks(WIDTH).zip(&upstream);
        let gradient: Vec<f64> = rows.flat_map(|(row, by)| row.iter().map(move |g| -by * g)).collect();
        for found in device::all() {
            let tensor = |values: &[f32], rows| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, WIDTH]), &found.device)
            };
            let (x, weight) = (tensor(&x, ROWS), Weight::new(tensor(&head, WORDS)));
            let head = Head { weight: &weight, softcap };
            let got = linear_log_probabilities(&x, head, &targets(), true);
            assert!(distance(&got.values, &wanted) < 2e-5, "{}, cap {softcap:?}", found.name());
            let of_gradient = distance(&floats(got.backward(&upstream).unwrap()), &gradient);
            assert!(of_gradient < 2e-5, "{}, cap {softcap:?}: {of_gradient:e}", found.name());
            let alone = linear_log_probabilities(&x, head, &targets(), false);
            assert!(distance(&alone.values, &wanted) < 2e-5 && alone.backward(&upstream).is_none());
        }
    }
}

#[test]
fn logits_are_cooled_as_their_rows_are_also_where_they_are_bent() {
    let (x, weight) = (random("x", ROWS, 2.0), random("head", WORDS, 1.5));
    let device = Device::flex();
    let tensor =
        |values: &[f32], rows: usize| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, WIDTH]), &device);
    let weight = Weight::new(tensor(&weight, WORDS));
    for (softcap, temperature) in [(None, 0.5), (Some(4.0), 0.7), (Some(30.0), 2.0)] {
        let head = Head { weight: &weight, softcap };
        let hidden = tensor(&x, ROWS);
        let expected = floats(head.logits(hidden.clone()).div_scalar(temperature));
        let got = floats(head.cooled(temperature).logits(hidden.div_scalar(temperature)));
        assert!(distance(&got, &expected) < 1e-5, "cap {softcap:?} at {temperature}");
    }
}
