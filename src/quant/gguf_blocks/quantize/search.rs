//! The scale, and the offset, that fit a run of elements best.

use super::codes::{Codes, Lanes, TRIES, below, inverse, least, within};

/// Below this a run is zero: no f16 is that small.
const NOTHING: f32 = 1e-12;

/// The element of the largest magnitude.
#[inline(always)]
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}

/// A scale, and the sum of squares that is left of a run's own if it is used: smaller is better.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub scale: f32,
    pub error: f32,
}

/// Per candidate the scale that fits the codes which it leads to, `x ~ scale * code`.
#[inline(always)]
fn fit<C: Codes, const N: usize>(x: &[f32; N], weights: &[f32; N], scales: &Lanes) -> [Scale; TRIES] {
    let inverses = scales.map(inverse);
    let (mut products, mut squares) = ([0f32; TRIES], [0f32; TRIES]);
    for i in 0..N {
        below!(lane, TRIES, {
            let code = C::nearest(x[i] * inverses[lane]);
            let weighted = weights[i] * code;
            products[lane] += weighted * x[i];
            squares[lane] += weighted * code;
        });
    }
    std::array::from_fn(|lane| {
        let scale = products[lane] * inverse(squares[lane]);
        Scale { scale, error: -scale * products[lane] }
    })
}

/// Two scales for a run: the best that lays its extreme at the lower end of the codes, and the best that lays it at the
/// upper end. Where codes reach further on one side, the sign matters. `step` is the distance between the ends tried.
#[inline(always)]
pub(super) fn both_signs<C: Codes, const N: usize>(x: &[f32; N], weights: &[f32; N], step: f32) -> [Scale; 2] {
    let extreme = extreme(x);
    if extreme.abs() < NOTHING {
        return [Scale { scale: 0.0, error: 0.0 }; 2];
    }
    // The extreme becomes a code at either end, or one that is cut off a little.
    const HALF: usize = TRIES / 2;
    let scales = std::array::from_fn(|lane| match lane {
        0..HALF => extreme / (C::LOW - step * (lane as f32 - 3.0)),
        _ => extreme / (C::HIGH + step * ((lane - HALF) as f32 - 3.0)),
    });
    let fits = fit::<C, N>(x, weights, &scales);
    let best = |of: &[Scale]| of.iter().copied().reduce(|one, two| if two.error < one.error { two } else { one });
    let nothing = Scale { scale: 0.0, error: 0.0 };
    let (low, high) = fits.split_at(HALF);
    [best(low).unwrap_or(nothing), best(high).unwrap_or(nothing)]
}

/// The scale for a run that has one of its own, searched for more finely in each of `passes`.
#[inline(always)]
pub(super) fn alone<C: Codes, const N: usize>(x: &[f32; N], weights: &[f32; N], step: f32, passes: &[f32]) -> f32 {
    let [one, other] = both_signs::<C, N>(x, weights, step);
    let mut best = if other.error < one.error { other } else { one };
    // Around the best so far: what fits its codes best leads to codes of its own.
    for step in passes {
        let step = step / C::HIGH;
        let scales = std::array::from_fn(|lane| best.scale * (1.0 + step * (lane as f32 - 7.0)));
        for found in fit::<C, N>(x, weights, &scales) {
            best = if found.error < best.error { found } else { best };
        }
    }
    best.scale
}

/// `x ~ scale * code + offset`, codes from 0 to `HIGH`.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub scale: f32,
    pub offset: f32,
}

/// The scale and offset for a run; with `lowered` the offset is not above 0.
#[inline(always)]
pub(super) fn line<C: Codes, const N: usize>(x: &[f32; N], weights: &[f32; N], lowered: bool) -> Line {
    let (mut low, mut high) = if lowered { (0.0, 0.0) } else { (x[0], x[0]) };
    for x in x {
        low = if *x < low { *x } else { low };
        high = if *x > high { *x } else { high };
    }
    if high - low < NOTHING {
        return Line { scale: 0.0, offset: within(low, f32::MIN, if lowered { 0.0 } else { f32::MAX }) };
    }
    let (mut sum_w, mut sum_x) = (0f32, 0f32);
    for (x, w) in x.iter().zip(weights) {
        sum_w += w;
        sum_x += w * x;
    }
    let mut best = (Line { scale: (high - low) / C::HIGH, offset: low }, f32::INFINITY);
    let whole = best.0;
    for pass in 0..3 {
        // Codes that cut off a little at the far end; then at both; then whatever is near the best so far.
        let (from, more, step, share) = match pass {
            0 => (whole, -0.9, 0.12, 0.0),
            1 => (whole, -0.2, 0.12, 0.5),
            _ => (best.0, -0.3, 0.04, 0.5),
        };
        let lines: [Line; TRIES] = std::array::from_fn(|lane| {
            let narrower = from.scale * (C::HIGH / (C::HIGH + more + step * lane as f32));
            Line { scale: narrower, offset: from.offset + share * C::HIGH * (from.scale - narrower) }
        });
        let (found, error) = refit::<C, N>(x, weights, &lines, (sum_w, sum_x), lowered);
        if error < best.1 {
            best = (found, error);
        }
    }
    best.0
}

/// The best of the lines that fit the codes which candidates lead to, and what it leaves of the sum of squares.
#[inline(always)]
fn refit<C: Codes, const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    lines: &[Line; TRIES],
    (sum_w, sum_x): (f32, f32),
    lowered: bool,
) -> (Line, f32) {
    let inverses = lines.map(|line| inverse(line.scale));
    let offsets = lines.map(|line| line.offset);
    let (mut sums, mut squares, mut products) = ([0f32; TRIES], [0f32; TRIES], [0f32; TRIES]);
    for i in 0..N {
        below!(lane, TRIES, {
            let code = C::nearest((x[i] - offsets[lane]) * inverses[lane]);
            let weighted = weights[i] * code;
            sums[lane] += weighted;
            squares[lane] += weighted * code;
            products[lane] += weighted * x[i];
        });
    }
    let (mut found, mut errors) = ([0f32; TRIES], [0f32; TRIES]);
    let mut scales = [0f32; TRIES];
    below!(lane, TRIES, {
        let (q, qq, xq) = (sums[lane], squares[lane], products[lane]);
        let determinant = inverse(sum_w * qq - q * q);
        let (mut scale, mut offset) = ((sum_w * xq - sum_x * q) * determinant, (qq * sum_x - q * xq) * determinant);
        let cut = lowered && offset > 0.0;
        scale = if cut { xq * inverse(qq) } else { scale };
        offset = if cut { 0.0 } else { offset };
        scales[lane] = scale;
        found[lane] = offset;
        let error =
            scale * (scale * qq - 2.0 * xq) + offset * (offset * sum_w - 2.0 * sum_x) + 2.0 * scale * offset * q;
        // A scale that is none comes of codes that are all the same.
        errors[lane] = if scale > 0.0 { error } else { f32::INFINITY };
    });
    let best = least(&errors);
    (Line { scale: scales[best], offset: found[best] }, errors[best])
}
