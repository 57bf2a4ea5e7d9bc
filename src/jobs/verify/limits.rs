//! How far an export may be from the model it was made of.

/// What a merged folder or a file of plain f32 may be off: rounding alone is a hundred times less.
const EXACT: f64 = 1e-4;

/// Per kind of file, the mean divergence in nats that an export stays below; `docs/verify.md` says what was measured.
const LIMITS: [(&str, f64); 19] = [
    ("F32", EXACT),
    ("F16", EXACT),
    ("BF16", 0.001),
    ("Q8_0", 0.005),
    ("Q6_K", 0.02),
    ("Q5_K_M", 0.1),
    ("Q5_K_S", 0.15),
    ("Q5_1", 0.15),
    ("Q5_0", 0.2),
    ("Q4_K_M", 0.4),
    ("Q4_K_S", 0.6),
    ("IQ4_NL", 0.6),
    ("IQ4_XS", 0.6),
    ("Q4_1", 0.7),
    ("Q4_0", 1.2),
    ("Q3_K_L", 1.2),
    ("Q3_K_M", 1.2),
    ("Q3_K_S", 1.5),
    ("Q2_K", 3.0),
];

/// Less than this much of an adapter's effect is not the adapter, or not at its scale.
pub const LEAST_EFFECT: f64 = 0.5;

/// A largest divergence below this is rounding.
pub const NOTHING: f64 = 1e-8;

/// The limit of a kind of file by its name; that of the coarsest for one that is not known.
pub fn of(kind: &str) -> f64 {
    let known = LIMITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    known.unwrap_or(&LIMITS[LIMITS.len() - 1]).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::gguf::mixture::FileType;

    #[test]
    fn every_kind_that_is_written_has_a_limit_of_its_own() {
        for kind in FileType::all() {
            assert!(LIMITS.iter().any(|(name, _)| *name == kind.name()), "{kind}");
        }
        assert!(LIMITS.windows(2).all(|pair| pair[0].1 <= pair[1].1), "from the finest to the coarsest");
        assert_eq!((of("f32"), of("IQ1_S")), (EXACT, of("Q2_K")));
    }
}
