//! The normal distribution.
#![expect(clippy::excessive_precision, reason = "the coefficients as they are published")]

/// The numerator's and the denominator's coefficients of a rational function, lowest power first.
type Rational = ([f64; 8], [f64; 8]);

/// Where `|p - 0.5| <= 0.425`, of `0.180625 - (p - 0.5)^2`.
const CENTRE: Rational = (
    [
        3.387_132_872_796_366_608,
        133.141_667_891_784_377_45,
        1_971.590_950_306_551_442_7,
        13_731.693_765_509_461_125,
        45_921.953_931_549_871_457,
        67_265.770_927_008_700_853,
        33_430.575_583_588_128_105,
        2_509.080_928_730_122_672_7,
    ],
    [
        1.0,
        42.313_330_701_600_911_252,
        687.187_007_492_057_908_3,
        5_394.196_021_424_751_107_7,
        21_213.794_301_586_595_867,
        39_307.895_800_092_710_61,
        28_729.085_735_721_942_674,
        5_226.495_278_852_854_561,
    ],
);

/// Where the distance `r = sqrt(-ln p)` from the nearer end is up to 5, of `r - 1.6`.
const SHOULDER: Rational = (
    [
        1.423_437_110_749_683_577_34,
        4.630_337_846_156_545_295_9,
        5.769_497_221_460_691_405_5,
        3.647_848_324_763_204_605_04,
        1.270_458_252_452_368_382_58,
        0.241_780_725_177_450_611_77,
        0.022_723_844_989_269_184_583_3,
        7.745_450_142_783_414_076_4e-4,
    ],
    [
        1.0,
        2.053_191_626_637_758_821_87,
        1.676_384_830_183_803_849_4,
        0.689_767_334_985_100_004_55,
        0.148_103_976_427_480_074_59,
        0.015_198_666_563_616_457_196_6,
        5.475_938_084_995_344_946e-4,
        1.050_750_071_644_416_843_24e-9,
    ],
);

/// Beyond, of `r - 5`.
const TAIL: Rational = (
    [
        6.657_904_643_501_103_777_2,
        5.463_784_911_164_114_369_9,
        1.784_826_539_917_291_335_8,
        0.296_560_571_828_504_891_23,
        0.026_532_189_526_576_123_093,
        0.001_242_660_947_388_078_438_6,
        2.711_555_568_743_487_578_15e-5,
        2.010_334_399_292_288_132_65e-7,
    ],
    [
        1.0,
        0.599_832_206_555_887_937_69,
        0.136_929_880_922_735_805_31,
        0.014_875_361_290_850_615_025,
        7.868_691_311_456_132_591e-4,
        1.846_318_317_510_054_681_8e-5,
        1.421_511_758_316_445_888_7e-7,
        2.044_263_103_389_939_785_64e-15,
    ],
);

/// The number below which the share `p` of a standard normal distribution lies.
///
/// # Numerics
/// About 1e-16 relative.
///
/// # Source
/// Wichura 1988, algorithm AS 241 (PPND16).
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * value(&CENTRE, 0.180_625 - q * q);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let x = if r <= 5.0 { value(&SHOULDER, r - 1.6) } else { value(&TAIL, r - 5.0) };
    x.copysign(q)
}

/// The share of a standard normal distribution that lies below `x`: the inverse of [`quantile`].
///
/// # Numerics
/// As exact as that is: found by halving, for what is computed once a layer.
pub fn share_below(x: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // After as many halvings nothing lies between the two.
    for _ in 0..f64::MANTISSA_DIGITS + 11 {
        let middle = 0.5 * (low + high);
        if quantile(middle) < x { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

fn value((numerator, denominator): &Rational, x: f64) -> f64 {
    let of = |coefficients: &[f64; 8]| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
    of(numerator) / of(denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's `statistics.NormalDist().inv_cdf`.
    #[test]
    fn quantiles_are_known() {
        for (p, expected) in QUANTILES {
            assert!((quantile(p) - expected).abs() <= 1e-14 * expected.abs(), "{p}: {} {expected}", quantile(p));
            assert!((share_below(expected) - p).abs() <= 1e-15, "{p}: {}", share_below(expected));
        }
    }

    const QUANTILES: [(f64, f64); 10] = [
        (0.949999988079071, 1.6448535113665228),
        (0.5, 0.0),
        (0.6, 0.2533471031357998),
        (0.9249, 1.4388253927525403),
        (0.93, 1.4757910281791708),
        (0.05, -1.6448536269514726),
        (1e-05, -4.2648907939228256),
        (1e-12, -7.034483825301132),
        (0.999999999, 5.997807019601638),
        (0.999, 3.090232306167813),
    ];
}
