//! Every operation, on every device that this build has and this machine can use, against the plain composition of
//! burn's own on the CPU: values and all gradients.

use super::*;
use crate::device;
use crate::nn::cross_entropy;
use crate::random::{Label, Rng};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

mod conv;
mod factors;
mod quantized;

/// Reproducible normal values on the CPU.
pub struct Values(crate::random::Stream);

impl Values {
    pub fn new(seed: u64) -> Self {
        Values(Rng::new(seed).stream(&[Label::Purpose("test")]))
    }

    pub fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let values = self.0.normal_f32(shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }
}

/// A constant where `x` is.
fn beside<const D: usize, const E: usize>(x: &Tensor<D>, constant: &Tensor<E>) -> Tensor<E> {
    constant.clone().to_device(&x.device().inner())
}

/// L2 distance of the values relative to the expected norm, in f64. What should vanish (the gradient of a query that
/// sees one key) is compared with 1.
fn distance<const D: usize>(got: Tensor<D>, want: Tensor<D>) -> f64 {
    assert_eq!(got.dims(), want.dims());
    let (got, want) = (got.into_data(), want.into_data());
    let pairs = || got.iter::<f32>().zip(want.iter::<f32>()).map(|(a, b)| (f64::from(a), f64::from(b)));
    let error: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = pairs().map(|(_, b)| b.powi(2)).sum();
    error.sqrt() / norm.sqrt().max(1.0)
}

/// What the factors of an operation's products are asked to be on a device, and how many products its longest chain has,
/// that of a gradient.
type Rounding<'a> = (&'a dyn Fn(&Device) -> FloatDType, f64);

/// As [`agree_as`], of an operation in f32.
fn agree<const D: usize, const O: usize>(
    inputs: &[Tensor<D>],
    kernel: impl Fn(&[Tensor<D>]) -> Tensor<O>,
    composed: impl Fn(&[Tensor<D>]) -> Tensor<O>,
) {
    agree_as((&|_| FloatDType::F32, 5.0), inputs, kernel, composed);
}

/// Runs the operation on every device and the composed form on the CPU, on leaves of these values, and compares outputs
/// and gradients under a random upstream gradient: as near as the factors of its products are there.
fn agree_as<const D: usize, const O: usize>(
    (compute_dtype, products): Rounding,
    inputs: &[Tensor<D>],
    kernel: impl Fn(&[Tensor<D>]) -> Tensor<O>,
    composed: impl Fn(&[Tensor<D>]) -> Tensor<O>,
) {
    let run = |f: &dyn Fn(&[Tensor<D>]) -> Tensor<O>, device: &Device| {
        let leaves: Vec<_> = inputs.iter().map(|t| t.clone().to_device(device).autodiff().require_grad()).collect();
        let output = f(&leaves);
        let upstream = Values::new(99).tensor(output.dims()).to_device(device);
        let mut tape = (output.clone() * upstream).sum().backward();
        let gradients: Vec<_> = leaves.iter().map(|leaf| leaf.grad_remove(&mut tape).unwrap()).collect();
        (output.inner(), gradients)
    };
    let (want, want_gradients) = run(&composed, &Device::flex());
    for found in device::all() {
        let name = found.name();
        let (got, gradients) = run(&kernel, &found.device);
        let moved: Vec<_> = inputs.iter().map(|t| t.clone().to_device(&found.device)).collect();
        assert_eq!(kernel(&moved).into_data(), got.to_data(), "{name}: the same bytes with and without a graph");
        let rounded = Roundoff::of(&found.device, compute_dtype(&found.device));
        let allowed = rounded.tolerance(products);
        let gap = distance(got, want.clone());
        assert!(gap < allowed, "{name}, {rounded}: output {gap}");
        for (i, (got, want)) in gradients.into_iter().zip(&want_gradients).enumerate() {
            let gap = distance(got, want.clone());
            assert!(gap < allowed, "{name}, {rounded}: gradient {i}: {gap}");
        }
    }
}

/// What the products of a weight of this dtype, or of a compressed one, round to where nothing else is asked for.
fn rounding_of(held: FloatDType) -> impl Fn(&Device) -> FloatDType {
    move |device| if held == FloatDType::F32 { held } else { fastest_factors(device) }
}

#[test]
fn rms_norm_agrees() {
    for shape in [[1, 2], [1, 7], [3, 16], [5, 33], [130, 640]] {
        let mut values = Values::new(1);
        let gain = values.tensor([shape[1]]);
        let inputs = [values.tensor(shape), values.tensor(shape)];
        agree(
            &inputs[..1],
            |t| rms_norm(t[0].clone(), &beside(&t[0], &gain), 1e-6, None),
            |t| plain::rms_norm(t[0].clone(), &gain, 1e-6, None),
        );
        agree(
            &inputs,
            |t| rms_norm(t[0].clone(), &beside(&t[0], &gain), 1e-6, Some(t[1].clone())),
            |t| plain::rms_norm(t[0].clone(), &gain, 1e-6, Some(t[1].clone())),
        );
    }
}

#[test]
fn a_view_is_read_as_it_looks() {
    let mut values = Values::new(2);
    let gain = values.tensor([8]);
    let wide = values.tensor([6, 4, 8]);
    let view = |t: &Tensor<3>| t.clone().narrow(0, 1, 4).swap_dims(0, 1);
    agree(
        &[wide],
        |t| rms_norm(view(&t[0]), &beside(&t[0], &gain), 1e-6, None),
        |t| plain::rms_norm(view(&t[0]), &gain, 1e-6, None),
    );
}

#[test]
fn rotated_rms_norm_agrees() {
    for [n, h, e] in [[1, 1, 2], [3, 2, 6], [7, 4, 36], [40, 4, 256], [5, 2, 512]] {
        let mut values = Values::new(3);
        let gain = values.tensor([e]);
        let angles = values.tensor([n, 1, e / 2]);
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        agree(
            &[values.tensor([n, h, e])],
            |t| {
                let [cos, sin] = [&cos, &sin].map(|table| beside(&t[0], table));
                rotated_rms_norm(t[0].clone(), &beside(&t[0], &gain), 1e-6, &cos, &sin)
            },
            |t| plain::rotate(plain::rms_norm(t[0].clone(), &gain, 1e-6, None), &cos, &sin),
        );
    }
}

#[test]
fn geglu_agrees() {
    for shape in [[1, 1], [2, 19], [70, 512]] {
        let mut values = Values::new(4);
        let inputs = [values.tensor(shape).mul_scalar(3.0), values.tensor(shape)];
        agree(&inputs, |t| geglu(t[0].clone(), t[1].clone()), |t| plain::geglu(t[0].clone(), t[1].clone()));
    }
}

#[test]
fn geglu_matches_its_definition_and_stays_finite_far_out() {
    let points = [-1e30f32, -100.0, -12.0, -3.0, -0.5, 0.0, 0.5, 3.0, 12.0, 100.0, 1e30];
    let device = Device::flex();
    let gate = Tensor::<2>::from_data(TensorData::new(points.to_vec(), [1, points.len()]), &device);
    let gate = gate.autodiff().require_grad();
    let y = geglu(gate.clone(), Tensor::ones([1, points.len()], &device));
    for (got, x) in y.clone().inner().into_data().iter::<f32>().zip(points) {
        let x = f64::from(x);
        let want = 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs().max(1e-2), "gelu({x}): {got} {want}");
    }
    let tape = y.sum().backward();
    let slope: Vec<f32> = gate.grad(&tape).unwrap().into_data().iter().collect();
    assert_eq!((slope[0], slope[1], slope[9], slope[10]), (0.0, 0.0, 1.0, 1.0));
    assert!(slope.iter().all(|g| g.is_finite()), "{slope:?}");
}

/// A matrix held on a device in its own dtype, or in f32 where the device has no such numbers.
fn hold(matrix: &Tensor<2>, device: &Device) -> Weight {
    let held =
        if device.supports_dtype(matrix.dtype()) { matrix.clone() } else { matrix.clone().cast(FloatDType::F32) };
    Weight::new(held.to_device(device))
}

#[test]
fn linear_and_lora_agree_for_every_dtype() {
    for [n, input, out, r] in
        [[1, 1, 1, 1], [1, 40, 70, 2], [3, 9, 35, 4], [5, 33, 17, 3], [9, 40, 70, 37], [70, 640, 300, 16]]
    {
        for dtype in [FloatDType::F32, FloatDType::BF16, FloatDType::F16] {
            let mut values = Values::new(5);
            let weight: Tensor<2> = values.tensor([out, input]).cast(dtype);
            let held = |x: &Tensor<2>| hold(&weight, &x.device().inner());
            let weight = weight.clone().cast(FloatDType::F32);
            let inputs = [values.tensor([n, input]), values.tensor([r, input]), values.tensor([out, r])];
            let project = |x: &Tensor<2>| x.clone().matmul(weight.clone().transpose());
            let dtype = rounding_of(dtype);
            agree_as((&dtype, 1.0), &inputs[..1], |t| held(&t[0]).project(t[0].clone()), |t| project(&t[0]));
            agree_as(
                (&dtype, 1.0),
                &inputs,
                |t| held(&t[0]).project_adapted(t[0].clone(), &t[1], &t[2], 0.7),
                |t| plain::add_low_rank(project(&t[0]), &t[0], &t[1], &t[2], 0.7),
            );
            let gated = [values.tensor([n, input]), inputs[0].clone(), inputs[1].clone(), inputs[2].clone()];
            // Two products: a GPU that rounds factors keeps the halves of the gated product rounded too.
            agree_as(
                (&dtype, 2.0),
                &gated,
                |t| held(&t[0]).project_gated(t[0].clone(), t[1].clone(), &t[2], &t[3], 0.7),
                |t| {
                    let act = plain::geglu(t[0].clone(), t[1].clone());
                    plain::add_low_rank(project(&act), &act, &t[2], &t[3], 0.7)
                },
            );
        }
    }
}

/// Compares attention under a mask, for these shapes of heads.
fn check_attention(visibility: &Visibility, shapes: &[AttentionShape]) {
    for shape in shapes {
        let last = visibility.groups.last().unwrap();
        let (n, t) = (last.queries.end, last.keys.end);
        let mask = AttentionMask::new(visibility.clone());
        let tiles = plain::attention::tiles(visibility, &Device::flex());
        let &AttentionShape { heads, kv_heads, head_dim, .. } = shape;
        let mut values = Values::new(6);
        let inputs = [
            values.tensor([n, heads, head_dim]),
            values.tensor([t, kv_heads, head_dim]),
            values.tensor([t, kv_heads, head_dim]),
        ];
        agree(
            &inputs,
            |t| attention(t[0].clone(), t[1].clone(), t[2].clone(), shape, &mask),
            |t| plain::attention::attention(t[0].clone(), t[1].clone(), t[2].clone(), shape, &tiles),
        );
        #[cfg(feature = "gpu")]
        agree(
            &inputs,
            |t| attention::attention_by_products(t[0].clone(), t[1].clone(), t[2].clone(), shape, &mask),
            |t| plain::attention::attention(t[0].clone(), t[1].clone(), t[2].clone(), shape, &tiles),
        );
    }
}

#[test]
fn top_of_row_agrees() {
    for (shape, cutoff) in [([1, 7], 0.5), ([3, 33], 0.0), ([70, 512], 1.644_853_5)] {
        let x = Values::new(6).tensor(shape).mul_scalar(3.0).add_scalar(1.5);
        agree(&[x], |t| top_of_row(t[0].clone(), cutoff), |t| plain::top_of_row(t[0].clone(), cutoff));
    }
}

/// A feed-forward block whose gate lets a twentieth pass, that skips the rest, and one that does not.
fn check_passing(
    rounding: Rounding,
    held: &dyn Fn(&str, &Device) -> Weight,
    dense: &dyn Fn(&str) -> Tensor<2>,
    [n, d, f]: [usize; 3],
) {
    let mut values = Values::new(14);
    let r = 3;
    let shapes = [[n, d], [n, f], [r, d], [f, r], [r, f], [d, r]];
    let inputs = shapes.map(|shape| values.tensor(shape));
    let cutoff = 1.644_853_5;
    agree_as(
        rounding,
        &inputs,
        |t| {
            let device = t[0].device().inner();
            let gate = top_of_row(t[1].clone(), cutoff);
            let (up, down) = (held("up", &device), held("down", &device));
            match Passing::of(&gate) {
                Some(passing) => {
                    let up = up.with_outputs(&passing).project_adapted(t[0].clone(), &t[2], &t[3], 0.7);
                    down.with_inputs(&passing).project_gated(gate, up, &t[4], &t[5], 0.7)
                }
                None => {
                    assert!(device != Device::flex(), "the CPU skips what is zero");
                    let up = up.project_adapted(t[0].clone(), &t[2], &t[3], 0.7);
                    down.project_gated(gate, up, &t[4], &t[5], 0.7)
                }
            }
        },
        |t| {
            let [up, down] = ["up", "down"].map(|name| dense(name).transpose());
            let gate = plain::top_of_row(t[1].clone(), cutoff);
            let up = plain::add_low_rank(t[0].clone().matmul(up), &t[0], &t[2], &t[3], 0.7);
            let act = plain::geglu(gate, up);
            plain::add_low_rank(act.clone().matmul(down), &act, &t[4], &t[5], 0.7)
        },
    );
}

#[test]
fn products_that_skip_what_does_not_pass_agree() {
    for [n, d, f] in [[4, 1, 130], [32, 33, 130], [70, 100, 1200], [33, 64, 512], [64, 200, 513]] {
        let mut values = Values::new(15);
        let up = values.tensor([f, d]).mul_scalar((d as f32).powf(-0.5));
        let down = values.tensor([d, f]).mul_scalar((f as f32).powf(-0.5));
        let of = |name: &str| if name == "up" { up.clone() } else { down.clone() };
        let exact: Rounding = (&|_| FloatDType::F32, 4.0);
        check_passing(exact, &|name, device| Weight::new(of(name).to_device(device)), &of, [n, d, f]);
        let bf16 = |name: &str| of(name).cast(FloatDType::BF16);
        // A device multiplies numbers of bf16 in its own way.
        let held = |name: &str, device: &Device| match *device == Device::flex() {
            true => Weight::new(bf16(name)),
            false => Weight::new(bf16(name).cast(FloatDType::F32).to_device(device)),
        };
        check_passing(exact, &held, &|name| bf16(name).cast(FloatDType::F32), [n, d, f]);
    }
}

#[test]
fn what_passes_is_found_where_it_is_little_and_skipped_alike_on_any_threads() {
    let gate = |n: usize, cutoff: f32| top_of_row(Values::new(16).tensor([n, 700]), cutoff);
    assert!(Passing::of(&gate(70, 1.6)).is_some());
    assert!(Passing::of(&gate(70, 1.0)).is_none(), "a sixth is too much");
    assert!(Passing::of(&gate(3, 1.6)).is_none(), "too few tokens");
    assert!(Passing::of(&Tensor::zeros([70, 700], &Device::flex())).is_some());

    let (x, w) = (Values::new(17).tensor([70, 90]), Weight::new(Values::new(18).tensor([700, 90])));
    let alike = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let leaf = x.clone().autodiff().require_grad();
            let gate = gate(70, 1.6);
            let up = w.with_outputs(&Passing::of(&gate).unwrap()).project(leaf.clone());
            let mut tape = (up.clone() * gate.autodiff()).sum().backward();
            [up.inner(), leaf.grad_remove(&mut tape).unwrap()].map(|t| t.into_data())
        })
    };
    let one = alike(1);
    assert!([2, 3, 7].into_iter().all(|threads| alike(threads) == one));
}

#[test]
fn dropout_has_the_same_bits_everywhere() {
    for (shape, p) in
        [([1, 1], 0.5), ([7, 33], 0.1), ([300, 640], 0.05), ([40, 16], 0.999), ([5, 5], 1.0), ([5, 5], 0.0)]
    {
        let mask = Rng::new(3).mask(&[Label::Purpose("dropout"), Label::Step(5)], p);
        let (x, dy) = (Values::new(21).tensor(shape), Values::new(22).tensor(shape));
        let factors = mask.draw(shape[0] * shape[1]);
        let times = |x: &Tensor<2>| -> Vec<u32> {
            let values: Vec<f32> = x.clone().into_data().iter().collect();
            values.iter().zip(&factors).map(|(x, f)| if *f == 0.0 { 0 } else { (x * f).to_bits() }).collect()
        };
        // A factor of 0 may leave a zero of either sign.
        let bits = |x: Tensor<2>| -> Vec<u32> { x.into_data().iter::<f32>().map(|x| (x + 0.0).to_bits()).collect() };
        for found in device::all() {
            let leaf = x.clone().to_device(&found.device).autodiff().require_grad();
            let y = dropout(&leaf, &mask);
            assert_eq!(bits(y.clone().inner()), times(&x), "{}: {shape:?} {p}", found.name());
            let mut tape = backward_from(y, dy.clone().to_device(&found.device)).backward();
            assert_eq!(bits(leaf.grad_remove(&mut tape).unwrap()), times(&dy), "{}: {shape:?} {p}", found.name());
        }
    }
}

#[test]
fn squares_are_summed_in_one_order() {
    let shapes = [[1, 1], [3, 1000], [640, 16], [2, 100_003]];
    let tensors = shapes.map(|shape| Values::new(23).tensor(shape));
    let exact = tensors.each_ref().map(|t| t.to_data().iter::<f32>().map(|x| f64::from(x).powi(2)).sum::<f64>());
    for found in device::all() {
        let here: Vec<Tensor<2>> = tensors.iter().map(|t| t.clone().to_device(&found.device)).collect();
        let sums = square_sums(&here);
        for (sum, exact) in sums.iter().zip(exact) {
            assert!((sum / exact - 1.0).abs() < 1e-6, "{}: {sum} of {exact}", found.name());
        }
        assert!((0..5).all(|_| square_sums(&here) == sums), "{}", found.name());
    }
    assert!(square_sums(&[]).is_empty());
}

#[test]
fn an_update_agrees() {
    let shapes = [[1, 1], [3, 33], [16, 640]];
    for ((shape, keep), scale) in shapes.into_iter().zip([1.0, 0.999, 0.5]).zip([1.0, 0.3, 1e-3]) {
        let mut values = Values::new(26);
        let [parameter, gradient, first] = [(); 3].map(|()| values.tensor::<2>(shape));
        let second = values.tensor(shape).square();
        let by = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step_size: 2e-3, root_correction: 0.05, keep, scale };
        let want = plain::adamw(parameter.clone(), gradient.clone(), &first, &second, &by);
        for found in device::all() {
            let [p, g, m, v] = [&parameter, &gradient, &first, &second].map(|t| t.clone().to_device(&found.device));
            for (got, want) in adamw(p, g, &m, &v, &by).into_iter().zip(&want) {
                let gap = distance(got, want.clone());
                assert!(gap < 1e-6, "{} {shape:?}: {gap}", found.name());
            }
        }
    }
}

#[test]
fn a_backward_pass_begins_with_any_gradient() {
    let (x, dy) = (Values::new(24).tensor([5, 33]), Values::new(25).tensor([5, 33]));
    for found in device::all() {
        let [x, dy] = [&x, &dy].map(|t| t.clone().to_device(&found.device));
        let leaf = x.autodiff().require_grad();
        let y = leaf.clone().mul_scalar(2.0);
        // Two starts, as a layer that hands on two streams has them; 1 and 0.5 lose nothing.
        let both = backward_from(y.clone(), dy.clone()) + backward_from(y, dy.clone().mul_scalar(0.5));
        let gradient = leaf.grad_remove(&mut both.backward()).unwrap();
        let want: Vec<f32> = dy.clone().mul_scalar(3.0).into_data().iter().collect();
        let distance = distance(gradient, dy.mul_scalar(3.0));
        assert!(distance < 1e-6 && want.iter().any(|x| *x != 0.0), "{}: {distance}", found.name());
    }
}

#[test]
fn a_row_of_equal_numbers_has_gradients() {
    for top in [top_of_row, plain::top_of_row] {
        let x = Tensor::<2>::ones([2, 3], &Device::flex()).autodiff().require_grad();
        let y = top(x.clone(), 0.5);
        let mut tape = y.clone().sum().backward();
        let gradient: Vec<f32> = x.grad_remove(&mut tape).unwrap().into_data().iter().collect();
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }
}

fn heads(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scaling: 0.3, softcap: None, compute_dtype: FloatDType::F32 }
}

#[test]
fn attention_agrees() {
    let whole = |rows: std::ops::Range<usize>| Group { queries: rows.clone(), keys: rows };
    let beginning = |queries, keys| Group { queries, keys };
    let cases = [
        (vec![whole(0..1)], usize::MAX, vec![]),
        (vec![whole(0..7), whole(7..8), whole(8..40)], 5, vec![]),
        (vec![whole(0..300)], 64, vec![]),
        (vec![whole(0..30), whole(30..60)], 8, vec![4..13, 40..52]),
        // Sequences that begin with keys of others.
        (
            vec![whole(0..20), beginning(20..27, 20..39), beginning(27..40, 39..52)],
            usize::MAX,
            std::iter::once(4..13).collect(),
        ),
        (vec![whole(0..20), beginning(20..27, 20..39), beginning(27..40, 39..52)], 6, vec![]),
    ];
    for (groups, window, spans) in cases {
        let visibility = Visibility { groups, window, spans };
        check_attention(&visibility, &[heads(1, 1, 8), heads(4, 1, 16), heads(4, 2, 6)]);
    }
}

#[test]
fn attention_agrees_for_wide_heads_and_bent_scores() {
    let rows = 0..45;
    let visibility =
        Visibility { groups: vec![Group { queries: rows.clone(), keys: rows }], window: usize::MAX, spans: vec![] };
    let bent = AttentionShape { softcap: Some(2.0), ..heads(2, 1, 33) };
    let [mut wide, mut wider, mut widest] = [heads(2, 1, 256), heads(1, 1, 260), heads(4, 2, 512)];
    (wide.scaling, wider.scaling, widest.scaling) = (0.06, 0.06, 0.04);
    check_attention(&visibility, &[bent, wide, wider, widest]);
}

#[test]
fn new_queries_agree_on_cached_keys() {
    for (new, seen, window) in [(1, 1, 4), (1, 70, usize::MAX), (3, 100, 5), (40, 75, 64)] {
        let group = Group { queries: 0..new, keys: 0..seen };
        check_attention(&Visibility { groups: vec![group], window, spans: vec![] }, &[heads(4, 2, 12)]);
    }
}

#[test]
fn queries_that_see_nothing_give_nothing() {
    let group = |queries, keys| Group { queries, keys };
    for (groups, n, t) in [(vec![group(2..5, 0..3), group(40..44, 5..9)], 70, 80), (vec![group(0..5, 0..3)], 5, 3)] {
        let visibility = Visibility { groups, window: usize::MAX, spans: vec![] };
        let mask = AttentionMask::new(visibility.clone());
        let mut values = Values::new(10);
        let inputs = [values.tensor([n, 2, 8]), values.tensor([t, 1, 8]), values.tensor([t, 1, 8])];
        let run = |t: &[Tensor<3>]| attention(t[0].clone(), t[1].clone(), t[2].clone(), &heads(2, 1, 8), &mask);
        // Of each group the rows that see something, attending alone; the last query sees all keys.
        let alone = |t: &[Tensor<3>]| {
            let zeros = |rows: usize| Tensor::<2>::zeros([rows, 16], &t[0].device());
            let (mut parts, mut done) = (Vec::new(), 0);
            for Group { queries, keys } in &visibility.groups {
                let (len, seeing) = (keys.len(), queries.end - keys.len()..queries.end);
                let group = Group { queries: 0..len, keys: 0..len };
                let own = Visibility { groups: vec![group], ..visibility.clone() };
                let tiles = plain::attention::tiles(&own, &Device::flex());
                let part = |i: usize, from: usize| t[i].clone().narrow(0, from, len);
                let (q, k, v) = (part(0, seeing.start), part(1, keys.start), part(2, keys.start));
                parts.extend([
                    zeros(seeing.start - done),
                    plain::attention::attention(q, k, v, &heads(2, 1, 8), &tiles),
                ]);
                done = seeing.end;
            }
            Tensor::cat(parts.into_iter().chain([zeros(n - done)]).filter(|part| part.dims()[0] > 0).collect(), 0)
        };
        agree(&inputs, run, alone);
        #[cfg(feature = "gpu")]
        agree(
            &inputs,
            |t| {
                let [q, k, v] = [0, 1, 2].map(|i| t[i].clone());
                attention::attention_by_products(q, k, v, &heads(2, 1, 8), &mask)
            },
            alone,
        );
        for found in device::all() {
            let moved: Vec<_> = inputs.iter().map(|t| t.clone().to_device(&found.device)).collect();
            assert_eq!(run(&moved).slice([0..2, 0..16]).abs().sum().into_scalar::<f32>(), 0.0, "{}", found.name());
        }
    }
}

/// Losses and gradient from the definition, in f64.
fn cross_entropy_by_definition(x: &[f32], head: &[f32], d: usize, targets: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let mut losses = Vec::new();
    let mut gradient = vec![0.0; x.len()];
    for ((x, gradient), &target) in x.chunks(d).zip(gradient.chunks_mut(d)).zip(targets) {
        let logits: Vec<f64> =
            head.chunks(d).map(|e| x.iter().zip(e).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()).collect();
        let max = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
        losses.push(sum.ln() + max - logits[target as usize]);
        for (word, (l, e)) in logits.iter().zip(head.chunks(d)).enumerate() {
            let p = (l - max).exp() / sum - f64::from(u8::from(word == target as usize));
            gradient.iter_mut().zip(e).for_each(|(g, e)| *g += p * f64::from(*e));
        }
    }
    (losses, gradient)
}

#[test]
fn cross_entropy_agrees_with_its_definition() {
    // Fewer words than a tile, several tiles, and more rows than a chunk; the largest logit in any of the tiles.
    for (m, d, words) in [(1, 1, 2), (3, 7, 50), (9, 16, 2500), (1030, 4, 1100)] {
        let mut values = Values::new(7);
        let (x, head): (Tensor<2>, Tensor<2>) = (values.tensor([m, d]).mul_scalar(2.0), values.tensor([words, d]));
        let targets: Vec<u32> = (0..m).map(|row| (row * 37 % words) as u32).collect();
        let floats = |t: &Tensor<2>| t.to_data().iter::<f32>().collect::<Vec<_>>();
        let (losses, gradient) = cross_entropy_by_definition(&floats(&x), &floats(&head), d, &targets);
        let frozen = Weight::new(head.clone());
        let got = linear_cross_entropy(&x, &frozen, None, &targets, Some(0.5)).unwrap();
        for (got, want) in got.losses.iter().zip(&losses) {
            assert!((got - want).abs() < 2e-6 * want.max(1.0), "{got} {want}");
        }
        let want = gradient.iter().map(|g| (g * 0.5) as f32).collect();
        let want = Tensor::<2>::from_data(TensorData::new::<f32, _>(want, [m, d]), &Device::flex());
        let gap = distance(got.gradient.unwrap(), want.clone());
        assert!(gap < 1e-5, "{gap}");
        assert_eq!(linear_cross_entropy(&x, &frozen, None, &targets, None).unwrap().losses, got.losses);
        for found in device::all() {
            let (x, head) = (x.clone().to_device(&found.device), hold(&head, &found.device));
            let nll = cross_entropy::token_nll(&x, cross_entropy::Head::plain(&head), &targets);
            let gap = nll.iter().zip(&losses).map(|(got, want)| (got - want).abs() / want.max(1.0)).fold(0.0, f64::max);
            assert!(gap < 2e-6, "{}: losses {gap}", found.name());
            let gradient =
                cross_entropy::linear_cross_entropy(&x, cross_entropy::Head::plain(&head), &targets, Some(0.5))
                    .gradient
                    .unwrap();
            let gap = distance(gradient, want.clone());
            assert!(gap < 1e-5, "{}: gradient {gap}", found.name());
        }
    }
}
