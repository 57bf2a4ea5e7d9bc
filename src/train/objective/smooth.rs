//! Functions that losses of preferences are made of, in f64 and without overflow.

pub(super) use crate::nn::score::sigmoid;

/// `log(1 + exp(x))`, which is `-log sigmoid(-x)`.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The slope of [`sigmoid`].
pub(super) fn bump(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

/// `log(p / (1 - p))` of a probability, given its logarithm, and its slope `1 / (1 - p)`. A probability of 1 is taken as the next
/// below it.
pub(super) fn log_odds(log_p: f64) -> [f64; 2] {
    const SUREST: f64 = -1e-12;
    let log_p = log_p.min(SUREST);
    let rest = -log_p.exp_m1(); // 1 - p
    // Near 1 the one way loses digits, near 0 the other.
    let log_rest = if log_p < -std::f64::consts::LN_2 { (-log_p.exp()).ln_1p() } else { rest.ln() };
    [log_p - log_rest, 1.0 / rest]
}

/// The mean of some numbers; 0 of none.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_exact_at_both_ends_and_have_their_slope() {
        assert!(log_odds(0.5_f64.ln())[0].abs() < 1e-15);
        assert_eq!(log_odds(-800.0), [-800.0, 1.0]);
        assert!((log_odds(-1e-9)[0] - 9.0 * 10.0_f64.ln()).abs() < 1e-6);
        for surest in [0.0, -0.0] {
            assert!(log_odds(surest).iter().all(|number| number.is_finite()));
        }
        for log_p in [-0.01, -0.3, -0.693, -0.7, -2.0, -9.0] {
            let step = 1e-6 * f64::abs(log_p);
            let measured = (log_odds(log_p + step)[0] - log_odds(log_p - step)[0]) / (2.0 * step);
            let slope = log_odds(log_p)[1];
            assert!((measured - slope).abs() < 1e-6 * slope, "{log_p}: {measured} {slope}");
        }
    }

    #[test]
    fn means_are_of_what_there_is() {
        assert_eq!(mean([1.0, 2.0, 6.0].into_iter()), 3.0);
        assert_eq!(mean([].into_iter()), 0.0);
    }
}
