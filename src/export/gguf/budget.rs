//! Which type each matrix gets so that a file of a size does the least harm.

use crate::quant::QuantType;

/// A type that a matrix may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// The type.
    pub of: QuantType,
    /// The matrix's bytes in it.
    pub bytes: u64,
    /// What it costs, in the same unit for all matrices.
    pub harm: f64,
}

/// The types that may suit a matrix with rows of this length: those whose blocks rows are made of.
pub fn candidates(row: usize) -> Vec<QuantType> {
    const TYPES: [QuantType; 12] = [
        QuantType::Q2K,
        QuantType::Q3K,
        QuantType::IQ4XS,
        QuantType::IQ4NL,
        QuantType::Q4K,
        QuantType::Q4_1,
        QuantType::Q5_0,
        QuantType::Q5K,
        QuantType::Q5_1,
        QuantType::Q6K,
        QuantType::Q8_0,
        QuantType::BF16,
    ];
    TYPES.into_iter().filter(|of| row.is_multiple_of(of.block_size())).collect()
}

/// The option of each matrix that together stay within `budget` bytes and do about the least harm; `None` where even the
/// smallest do not fit.
///
/// All begin at their smallest; then, while bytes are left, the step is taken that saves the most harm a byte. Steps are
/// those of each matrix's lower convex hull, so that a large step is not hidden behind a small bad one.
pub fn choose(matrices: &[Vec<Offer>], budget: u64) -> Option<Vec<Offer>> {
    let hulls: Vec<Vec<Offer>> = matrices.iter().map(|options| hull(options)).collect();
    let mut at = vec![0usize; hulls.len()];
    let mut used: u64 = hulls.iter().filter_map(|hull| hull.first()).map(|option| option.bytes).sum();
    if used > budget || hulls.iter().any(Vec::is_empty) {
        return None;
    }
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (matrix, hull) in hulls.iter().enumerate() {
        for (step, pair) in hull.windows(2).enumerate() {
            let saved = (pair[0].harm - pair[1].harm) / (pair[1].bytes - pair[0].bytes) as f64;
            steps.push((saved, matrix, step));
        }
    }
    // Along a hull steps save less and less, so those of a matrix come in their order.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
    let mut is_full = vec![false; hulls.len()];
    for (_, matrix, step) in steps {
        let more = hulls[matrix][step + 1].bytes - hulls[matrix][step].bytes;
        if is_full[matrix] || used + more > budget {
            is_full[matrix] = true;
            continue;
        }
        used += more;
        at[matrix] = step + 1;
    }
    Some(hulls.iter().zip(at).map(|(hull, at)| hull[at]).collect())
}

/// The options of a matrix that some budget could ask for: by size, each with less harm, saving less and less a byte.
fn hull(options: &[Offer]) -> Vec<Offer> {
    let mut sorted = options.to_vec();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.harm.total_cmp(&b.harm)));
    let mut hull: Vec<Offer> = Vec::new();
    for option in sorted {
        if hull.last().is_some_and(|last| option.harm >= last.harm) {
            continue;
        }
        let slope = |from: &Offer, to: &Offer| (from.harm - to.harm) / (to.bytes - from.bytes) as f64;
        while let [.., before, last] = &hull[..]
            && slope(before, last) <= slope(last, &option)
        {
            hull.pop();
        }
        hull.push(option);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn option(bytes: u64, harm: f64) -> Offer {
        Offer { of: QuantType::Q4K, bytes, harm }
    }

    #[test]
    fn what_is_hurt_most_gets_the_bytes() {
        let matrices =
            [vec![option(10, 8.0), option(20, 1.0), option(40, 0.0)], vec![option(10, 2.0), option(20, 1.0)]];
        let bytes = |budget| choose(&matrices, budget).map(|chosen| chosen.iter().map(|o| o.bytes).collect::<Vec<_>>());
        assert_eq!(bytes(19), None);
        assert_eq!(bytes(20), Some(vec![10, 10]));
        assert_eq!(bytes(30), Some(vec![20, 10]));
        assert_eq!(bytes(40), Some(vec![20, 20]));
        assert_eq!(bytes(60), Some(vec![40, 20]));
        // A bad step in between is stepped over; what is larger and worse is never taken.
        let odd = [vec![option(10, 8.0), option(11, 7.99), option(12, 9.0), option(20, 1.0)]];
        assert_eq!(choose(&odd, 20).map(|chosen| chosen[0].bytes), Some(20));
        assert_eq!(choose(&odd, 12).map(|chosen| chosen[0].bytes), Some(10));
    }

    #[test]
    fn candidates_fill_their_rows() {
        assert!(candidates(640).contains(&QuantType::Q5_0) && !candidates(640).contains(&QuantType::Q4K));
        assert!(candidates(2048).contains(&QuantType::Q2K));
        assert_eq!(candidates(7), [QuantType::BF16]);
    }

    proptest! {
        /// Never over the budget, and within one step of the best there is.
        #[test]
        fn a_choice_is_near_the_best(
            harms in proptest::collection::vec(proptest::collection::vec(0.0..10.0f64, 3), 1..5),
            budget in 0u64..200,
        ) {
            let matrix = |harms: &Vec<f64>| harms.iter().zip([10, 20, 40]).map(|(harm, bytes)| option(bytes, *harm)).collect();
            let matrices: Vec<Vec<Offer>> = harms.iter().map(matrix).collect();
            let mut best = f64::INFINITY;
            for code in 0..3usize.pow(matrices.len() as u32) {
                let picked: Vec<Offer> = (0..matrices.len()).map(|i| matrices[i][code / 3usize.pow(i as u32) % 3]).collect();
                if picked.iter().map(|o| o.bytes).sum::<u64>() <= budget {
                    best = best.min(picked.iter().map(|o| o.harm).sum());
                }
            }
            match choose(&matrices, budget) {
                None => prop_assert!(best.is_infinite()),
                Some(chosen) => {
                    prop_assert!(chosen.iter().map(|o| o.bytes).sum::<u64>() <= budget);
                    let most = harms.iter().map(|h| h.iter().fold(0.0f64, |a, b| a.max(*b))).fold(0.0, f64::max);
                    prop_assert!(chosen.iter().map(|o| o.harm).sum::<f64>() <= best + most + 1e-9);
                }
            }
        }
    }
}
