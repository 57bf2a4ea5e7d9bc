//! Against attention written down naively in f64, and bit for bit against other numbers of threads.

use super::*;
use crate::ops::attention::shape::AttentionShape;
use crate::ops::attention::visibility::{Group, Visibility};
use burn::tensor::FloatDType;
use std::ops::Range;

/// Everything that goes in, with numbers between -1 and 1 that a seed fixes.
struct Case {
    shape: AttentionShape,
    visibility: Visibility,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

/// Everything that comes out.
struct Results<T> {
    out: Vec<T>,
    lse: Vec<T>,
    dq: Vec<T>,
    dk: Vec<T>,
    dv: Vec<T>,
}

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

impl Case {
    /// Groups of `(queries, keys)` rows, one behind the other.
    fn new([heads, kv_heads, head_dim]: [usize; 3], groups: &[(usize, usize)], window: usize) -> Self {
        let (mut n, mut t) = (0, 0);
        let groups = groups.iter().map(|&(queries, keys)| {
            (n, t) = (n + queries, t + keys);
            Group { queries: n - queries..n, keys: t - keys..t }
        });
        let visibility = Visibility { groups: groups.collect(), window, spans: Vec::new() };
        let scaling = 2.0 / (head_dim as f32).sqrt();
        let shape =
            AttentionShape { heads, kv_heads, head_dim, scaling, softcap: None, compute_dtype: FloatDType::F32 };
        let (n, t) = (n * heads * head_dim, t * kv_heads * head_dim);
        Self { shape, visibility, q: numbers(n, 1), k: numbers(t, 2), v: numbers(t, 3), dout: numbers(n, 4) }
    }

    fn sees(&self, group: &Group, query: usize, key: usize) -> bool {
        let Some(p) = (group.keys.end + query).checked_sub(group.queries.end) else { return false };
        let near = key > p || p - key < self.visibility.window;
        let in_group = group.queries.contains(&query) && group.keys.contains(&key) && p >= group.keys.start;
        let together = self.visibility.spans.iter().any(|span| span.contains(&p) && span.contains(&key));
        in_group && near && (key <= p || together)
    }

    /// The definition, a row at a time.
    fn reference(&self) -> Results<f64> {
        let AttentionShape { heads, head_dim: e, .. } = self.shape;
        let (scaling, cap) = (f64::from(self.shape.scaling), self.shape.softcap.map(f64::from));
        let n = self.q.len() / (heads * e);
        let at = |data: &[f32], row: usize| data[row * e..][..e].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let add = |to: &mut [f64], row: usize, factor: f64, from: &[f64]| {
            to[row * e..][..e].iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
        };
        let mut r = Results {
            out: vec![0.0; self.q.len()],
            lse: vec![f64::NEG_INFINITY; n * heads],
            dq: vec![0.0; self.q.len()],
            dk: vec![0.0; self.k.len()],
            dv: vec![0.0; self.k.len()],
        };
        for group in &self.visibility.groups {
            for query in group.queries.clone() {
                for head in 0..heads {
                    let row = query * heads + head;
                    let key_row = |key: usize| key * self.shape.kv_heads + head / self.shape.fold();
                    let keys: Vec<usize> = group.keys.clone().filter(|&key| self.sees(group, query, key)).collect();
                    if keys.is_empty() {
                        continue;
                    }
                    let (q, dout) = (at(&self.q, row), at(&self.dout, row));
                    let raw = keys.iter().map(|&key| scaling * dot(&q, &at(&self.k, key_row(key))));
                    let s: Vec<f64> = raw.map(|s| cap.map_or(s, |c| c * (s / c).tanh())).collect();
                    let max = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let lse = max + s.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
                    r.lse[row] = lse;
                    for (&key, s) in keys.iter().zip(&s) {
                        add(&mut r.out, row, (s - lse).exp(), &at(&self.v, key_row(key)));
                    }
                    let delta = dot(&r.out[row * e..][..e], &dout);
                    for (&key, s) in keys.iter().zip(&s) {
                        let p = (s - lse).exp();
                        let bend = cap.map_or(1.0, |c| 1.0 - (s / c).powi(2));
                        let ds = scaling * bend * p * (dot(&dout, &at(&self.v, key_row(key))) - delta);
                        add(&mut r.dv, key_row(key), p, &dout);
                        add(&mut r.dq, row, ds, &at(&self.k, key_row(key)));
                        add(&mut r.dk, key_row(key), ds, &q);
                    }
                }
            }
        }
        r
    }

    /// Both passes, into slices full of what does not belong there.
    fn run(&self) -> Results<f32> {
        let Self { shape, visibility, q, k, v, dout } = self;
        let (mut out, mut lse) = (vec![f32::NAN; q.len()], vec![f32::NAN; q.len() / shape.head_dim]);
        forward(shape, visibility, q, k, v, &mut out, &mut lse);
        let (mut dq, mut dk, mut dv) = (vec![f32::NAN; q.len()], vec![f32::NAN; k.len()], vec![f32::NAN; k.len()]);
        backward(shape, visibility, q, k, v, &out, &lse, dout, &mut dq, &mut dk, &mut dv);
        Results { out, lse, dq, dk, dv }
    }

    fn check(&self) {
        self.check_rounded(0.0);
    }

    /// With factors that are off by as much, of their size, at most.
    fn check_rounded(&self, by: f64) {
        let (expected, found) = (self.reference(), self.run());
        let (of_values, of_gradients) = (1e-6 + 4.0 * by, 1e-5 + 4.0 * by);
        for (name, expected, found) in [("out", &expected.out, &found.out), ("lse", &expected.lse, &found.lse)] {
            let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |largest, x| largest.max(x.abs()));
            for (i, (&expected, &found)) in expected.iter().zip(found).enumerate() {
                let close = expected == f64::from(found) || (expected - f64::from(found)).abs() <= of_values * largest;
                assert!(close, "{name}[{i}]: {found} instead of {expected}, largest {largest}");
            }
        }
        let gradients =
            [("dq", &expected.dq, &found.dq), ("dk", &expected.dk, &found.dk), ("dv", &expected.dv, &found.dv)];
        for (name, expected, found) in gradients {
            let square = |x: f64| x * x;
            let error: f64 = expected.iter().zip(found).map(|(&e, &f)| square(e - f64::from(f))).sum();
            let norm: f64 = expected.iter().map(|&e| square(e)).sum();
            // With one key per query, the exact dq and dk are 0 and only rounding is left.
            let floor = square(1e-6 + by) * expected.len() as f64;
            assert!(error <= square(of_gradients) * norm + floor, "{name}: {} of {}", error.sqrt(), norm.sqrt());
        }
    }
}

#[test]
fn one_token_sees_itself() {
    let case = Case::new([4, 1, 16], &[(1, 1)], usize::MAX);
    case.check();
    let out = case.run().out;
    for head in out.chunks_exact(16) {
        assert_eq!(head, case.v);
    }
}

#[test]
fn folds_of_query_heads() {
    for heads in [[1, 1, 64], [2, 2, 32], [2, 1, 32], [4, 1, 256], [8, 2, 24], [3, 1, 7]] {
        Case::new(heads, &[(67, 67)], usize::MAX).check();
    }
}

#[test]
fn the_heads_of_gemma_3() {
    Case::new([4, 1, 256], &[(330, 330)], 200).check();
    Case::new([8, 4, 256], &[(100, 100), (60, 60)], usize::MAX).check();
}

#[test]
fn odd_sizes_around_the_tiles() {
    for n in [2, 3, 31, 33, 63, 65, 127, 129, 200, 389] {
        Case::new([2, 1, 20], &[(n, n)], usize::MAX).check();
    }
}

#[test]
fn windows_smaller_and_larger_than_tiles() {
    for window in [1, 2, 17, 64, 100, 299, 300, 1000] {
        Case::new([4, 1, 16], &[(300, 300)], window).check();
    }
}

#[test]
fn packed_segments() {
    let groups = [(40, 40), (1, 1), (150, 150), (2, 2), (7, 7), (300, 300), (1, 1)];
    Case::new([4, 2, 16], &groups, usize::MAX).check();
    Case::new([4, 2, 16], &groups, 24).check();
}

#[test]
fn segments_do_not_see_each_other() {
    let alone = Case::new([2, 1, 8], &[(30, 30)], usize::MAX);
    let mut packed = Case::new([2, 1, 8], &[(30, 30), (50, 50)], usize::MAX);
    packed.q[..alone.q.len()].copy_from_slice(&alone.q);
    packed.k[..alone.k.len()].copy_from_slice(&alone.k);
    packed.v[..alone.v.len()].copy_from_slice(&alone.v);
    packed.dout[..alone.dout.len()].copy_from_slice(&alone.dout);
    let (alone, packed) = (alone.run(), packed.run());
    assert_eq!(packed.out[..alone.out.len()], alone.out);
    assert_eq!(packed.dq[..alone.dq.len()], alone.dq);
    assert_eq!(packed.dk[..alone.dk.len()], alone.dk);
}

#[test]
fn cached_queries() {
    for (queries, keys) in [(1, 2), (1, 300), (5, 133), (64, 200), (199, 200)] {
        Case::new([4, 1, 16], &[(queries, keys)], usize::MAX).check();
        Case::new([4, 1, 16], &[(queries, keys), (queries, keys)], 90).check();
    }
}

#[test]
fn image_spans_see_forwards() {
    let mut case = Case::new([4, 1, 16], &[(20, 20), (250, 250), (90, 130)], 50);
    case.visibility.spans = vec![30..94, 94..158, 200..202, 310..330, 340..400];
    case.check();
}

#[test]
fn spans_end_with_their_group() {
    let mut case = Case::new([2, 1, 8], &[(40, 40), (40, 40)], usize::MAX);
    case.visibility.spans = vec![Range { start: 30, end: 50 }];
    case.check();
}

#[test]
fn soft_capped_scores() {
    let mut case = Case::new([4, 2, 16], &[(100, 100), (33, 66)], 40);
    case.shape.softcap = Some(0.7);
    case.visibility.spans = vec![Range { start: 10, end: 80 }];
    case.check();
}

#[test]
fn rows_in_no_group_are_zero() {
    let mut case = Case::new([2, 1, 8], &[(3, 3), (5, 5), (4, 4)], usize::MAX);
    case.visibility.groups.remove(1);
    case.check();
    case.visibility.groups.clear();
    case.check();
    Case::new([2, 1, 8], &[], usize::MAX).check();
}

#[test]
fn queries_before_the_first_key_see_nothing() {
    Case::new([2, 1, 8], &[(9, 4), (3, 0)], usize::MAX).check();
}

#[test]
fn large_scores_do_not_overflow() {
    let mut case = Case::new([2, 1, 8], &[(150, 150)], usize::MAX);
    case.q.iter_mut().for_each(|q| *q *= 300.0);
    case.run().out.iter().for_each(|out| assert!(out.abs() <= 1.0));
}

#[test]
fn nan_is_not_hidden() {
    let mut case = Case::new([2, 1, 8], &[(10, 10)], usize::MAX);
    case.k[4 * 8] = f32::NAN;
    let out = case.run().out;
    assert!(out[..4 * 16].iter().all(|out| out.is_finite()));
    assert!(out[4 * 16..].iter().all(|out| out.is_nan()));
}

#[test]
fn factors_are_rounded_to_bf16_where_that_is_asked_for() {
    const ROUNDOFF: f64 = 1.0 / 512.0;
    for (heads, groups, window) in [
        ([4, 1, 256], vec![(330, 330)], 200),
        ([4, 2, 24], vec![(40, 40), (150, 150), (7, 90), (300, 300)], usize::MAX),
        ([3, 1, 7], vec![(67, 67), (5, 5)], 24),
    ] {
        let mut case = Case::new(heads, &groups, window);
        let exact = case.run();
        case.shape.compute_dtype = FloatDType::BF16;
        case.check_rounded(ROUNDOFF);
        let rounded = case.run();
        let differs = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a != b).count() > a.len() / 2;
        for (exact, rounded) in [(&exact.out, &rounded.out), (&exact.dq, &rounded.dq), (&exact.dv, &rounded.dv)] {
            assert!(differs(exact, rounded), "{heads:?}: nothing was rounded");
        }
    }
    // Gradients far below what a weight may be.
    let mut case = Case::new([4, 1, 16], &[(100, 100)], usize::MAX);
    case.shape.compute_dtype = FloatDType::BF16;
    let large = case.run();
    case.dout.iter_mut().for_each(|x| *x *= 2f32.powi(-90));
    let small = case.run();
    for (large, small) in [(&large.dq, &small.dq), (&large.dk, &small.dk), (&large.dv, &small.dv)] {
        let small: Vec<f32> = small.iter().map(|x| x * 2f32.powi(90)).collect();
        assert_eq!(*large, small);
    }
    // Few queries round nothing.
    let mut case = Case::new([4, 1, 16], &[(3, 40)], usize::MAX);
    case.shape.compute_dtype = FloatDType::BF16;
    case.check();
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for dtype in [FloatDType::F32, FloatDType::BF16] {
        same_bits_on_any_number_of_threads(dtype);
    }
}

fn same_bits_on_any_number_of_threads(compute_dtype: FloatDType) {
    let bits = |threads: usize| {
        let mut case = Case::new([4, 1, 16], &[(600, 600), (50, 50), (300, 400)], 256);
        case.shape.compute_dtype = compute_dtype;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let Results { out, lse, dq, dk, dv } = pool.install(|| case.run());
        [out, lse, dq, dk, dv].map(|part| part.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    let one = bits(1);
    assert!(one == bits(2) && one == bits(3));
}

#[test]
fn parts_at_once_have_the_bits_that_each_has_alone() {
    for shape in [[4, 1, 32], [6, 2, 16]] {
        // One query each, as where several answers go on, and some that are read.
        let all: Vec<Case> = [(1, 9), (1, 40), (17, 30), (1, 700), (2, 1)]
            .iter()
            .map(|&(queries, keys)| Case::new(shape, &[(queries, keys)], 512))
            .collect();
        let of = |case: &Case| (case.q.len(), case.q.len() / case.shape.head_dim);
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        for case in &all {
            let (mut own_out, mut own_lse) = (vec![7.0; of(case).0], vec![7.0; of(case).1]);
            forward(&case.shape, &case.visibility, &case.q, &case.k, &case.v, &mut own_out, &mut own_lse);
            out.extend(own_out);
            lse.extend(own_lse);
        }
        let parts: Vec<Part> =
            all.iter().map(|case| Part { visibility: &case.visibility, q: &case.q, k: &case.k, v: &case.v }).collect();
        let (mut out_each, mut lse_each) = (vec![7.0; out.len()], vec![7.0; lse.len()]);
        forward_each(&all[0].shape, &parts, &mut out_each, &mut lse_each);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(bits(&out_each) == bits(&out) && bits(&lse_each) == bits(&lse), "{shape:?}");
        forward_each(&all[0].shape, &[], &mut [], &mut []);
    }
}
