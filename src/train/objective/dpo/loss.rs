//! What is made of the two answers of a pair.

use crate::train::objective::smooth::{bump, sigmoid, softplus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much more likely the answers of a pair are than under the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// `log p - log p_ref` of the answer that is preferred.
    pub chosen: f64,
    /// The same of the other.
    pub rejected: f64,
    /// Tokens of the answer that is preferred.
    pub chosen_tokens: usize,
    /// Those of the other.
    pub rejected_tokens: usize,
}

/// A loss of pairs, by TRL's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLoss {
    // `-log sigmoid(beta (c - r))`: Rafailov et al. 2023, equation 7.
    /// DPO's own.
    Sigmoid,
    // Of the means over tokens.
    /// The same of log-probabilities per token.
    SigmoidNorm,
    // `max(0, 1 - beta (c - r))`: Zhao et al. 2023.
    /// SLiC's: nothing is learnt of pairs that are apart far enough.
    Hinge,
    // `(c - r - 1 / (2 beta))^2` of the means over tokens: Azar et al. 2023, equation 17.
    /// IPO's: a distance that is to be reached, and not more.
    Ipo,
    // The reverse divergence from labels that may be wrong: Ji et al. 2024, equation 16.
    /// EXO's; needs `label_smoothing`.
    ExoPair,
    // Noise contrast: Chen et al. 2024.
    /// NCA's: keeps the chosen answers likely.
    NcaPair,
    // Unbiased where some labels are the wrong way round: Chowdhury et al. 2024.
    /// For preferences of which a known share is wrong: `label_smoothing`.
    Robust,
    // Jung et al. 2024.
    /// BCO's: a classifier of good and bad answers.
    BcoPair,
    // Squared distances from the ends of a game: Wu et al. 2024.
    /// SPPO's, with hard probabilities.
    SppoHard,
    // Makes chosen answers more likely and rejected ones less: D'Oosterlinck et al. 2024, equation 7.
    /// APO's for chosen answers that are better than the model's own.
    ApoZero,
    // Makes both less likely, rejected ones more so: the same, equation 8.
    /// APO's for chosen answers that are worse than the model's own.
    ApoDown,
    // A mean over their tokens.
    /// The negative log-likelihood of the chosen answers, to be added to another.
    Sft,
}

impl DpoLoss {
    /// The loss of a pair, and how it changes with `c` and with `r`; `None` of [`DpoLoss::Sft`], which is no loss of pairs.
    pub fn of(self, pair: &Pair, beta: f64, label_smoothing: f64) -> Option<[f64; 3]> {
        let &Pair { chosen: c, rejected: r, chosen_tokens, rejected_tokens } = pair;
        let [tokens_c, tokens_r] = [chosen_tokens, rejected_tokens].map(|tokens| tokens.max(1) as f64);
        let (s, a, b) = (beta * (c - r), beta * c, beta * r);
        // Of a function of `s`, and of one of `a` and `b`: its value and slopes as those with `c` and `r`.
        let of_margin = |value: f64, slope: f64| [value, beta * slope, -beta * slope];
        let of_rewards = |value: f64, by_a: f64, by_b: f64| [value, beta * by_a, beta * by_b];
        let noise = label_smoothing;
        Some(match self {
            DpoLoss::Sigmoid => of_margin(softplus(-s), -sigmoid(-s)),
            DpoLoss::SigmoidNorm => {
                let s = beta * (c / tokens_c - r / tokens_r);
                let slope = -beta * sigmoid(-s);
                [softplus(-s), slope / tokens_c, -slope / tokens_r]
            }
            DpoLoss::Hinge => of_margin((1.0 - s).max(0.0), if s < 1.0 { -1.0 } else { 0.0 }),
            DpoLoss::Ipo => {
                let gap = c / tokens_c - r / tokens_r - 1.0 / (2.0 * beta);
                [gap * gap, 2.0 * gap / tokens_c, -2.0 * gap / tokens_r]
            }
            DpoLoss::ExoPair => {
                let (right, wrong) = (sigmoid(s), sigmoid(-s));
                let (of_right, of_wrong) = (-softplus(-s) - (-noise).ln_1p(), -softplus(s) - noise.ln());
                of_margin(right * of_right + wrong * of_wrong, right * wrong * (of_right - of_wrong))
            }
            DpoLoss::NcaPair => of_rewards(
                softplus(-a) + 0.5 * softplus(a) + 0.5 * softplus(b),
                0.5 * sigmoid(a) - sigmoid(-a),
                0.5 * sigmoid(b),
            ),
            DpoLoss::Robust => {
                let whole = 1.0 - 2.0 * noise;
                of_margin(
                    ((1.0 - noise) * softplus(-s) - noise * softplus(s)) / whole,
                    -((1.0 - noise) * sigmoid(-s) + noise * sigmoid(s)) / whole,
                )
            }
            DpoLoss::BcoPair => of_rewards(softplus(-a) + softplus(b), -sigmoid(-a), sigmoid(b)),
            DpoLoss::SppoHard => {
                let [winner, loser] = [c - 0.5 / beta, r + 0.5 / beta];
                [winner * winner + loser * loser, 2.0 * winner, 2.0 * loser]
            }
            DpoLoss::ApoZero => of_rewards(sigmoid(-a) + sigmoid(b), -bump(a), bump(b)),
            DpoLoss::ApoDown => of_rewards(sigmoid(a) + sigmoid(-s), bump(a) - bump(s), bump(s)),
            DpoLoss::Sft => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DpoLoss; 11] = [
        DpoLoss::Sigmoid,
        DpoLoss::SigmoidNorm,
        DpoLoss::Hinge,
        DpoLoss::Ipo,
        DpoLoss::ExoPair,
        DpoLoss::NcaPair,
        DpoLoss::Robust,
        DpoLoss::BcoPair,
        DpoLoss::SppoHard,
        DpoLoss::ApoZero,
        DpoLoss::ApoDown,
    ];

    fn pair(chosen: f64, rejected: f64) -> Pair {
        Pair { chosen, rejected, chosen_tokens: 3, rejected_tokens: 7 }
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        const STEP: f64 = 1e-6;
        for (c, r) in [(0.0, 0.0), (1.5, -2.0), (-3.0, 0.5), (-9.0, 40.0), (12.0, 3.0)] {
            for loss in ALL {
                let of = |c, r| loss.of(&pair(c, r), 0.3, 0.1).unwrap();
                let [_, by_c, by_r] = of(c, r);
                let measured = [
                    (of(c + STEP, r)[0] - of(c - STEP, r)[0]) / (2.0 * STEP),
                    (of(c, r + STEP)[0] - of(c, r - STEP)[0]) / (2.0 * STEP),
                ];
                for (slope, measured) in [by_c, by_r].into_iter().zip(measured) {
                    assert!(
                        (slope - measured).abs() < 1e-6 * (1.0 + measured.abs()),
                        "{loss:?} {c} {r}: {slope} {measured}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_has_moved_at_the_start_and_losses_are_their_constants() {
        let of = |loss: DpoLoss| loss.of(&pair(0.0, 0.0), 0.1, 0.1).unwrap()[0];
        let ln2 = 2.0_f64.ln();
        for (loss, expected) in [
            (DpoLoss::Sigmoid, ln2),
            (DpoLoss::SigmoidNorm, ln2),
            (DpoLoss::Hinge, 1.0),
            (DpoLoss::Ipo, 25.0),
            (DpoLoss::NcaPair, 2.0 * ln2),
            (DpoLoss::Robust, ln2),
            (DpoLoss::BcoPair, 2.0 * ln2),
            (DpoLoss::SppoHard, 50.0),
            (DpoLoss::ApoZero, 1.0),
            (DpoLoss::ApoDown, 1.0),
        ] {
            assert!((of(loss) - expected).abs() < 1e-12, "{loss:?}: {}", of(loss));
        }
        assert_eq!(DpoLoss::Sft.of(&pair(0.0, 0.0), 0.1, 0.0), None);
    }

    #[test]
    fn answers_far_from_the_reference_have_losses_that_are_numbers() {
        for loss in ALL {
            for (c, r) in [(1e5, -1e5), (-1e5, 1e5), (-1e5, -1e5)] {
                let found = loss.of(&pair(c, r), 1.0, 0.1).unwrap();
                assert!(found.iter().all(|x| x.is_finite()), "{loss:?} {c} {r}: {found:?}");
            }
        }
    }
}
