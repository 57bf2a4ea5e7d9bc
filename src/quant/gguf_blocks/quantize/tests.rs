use super::*;
use proptest::prelude::*;

/// Numbers as weights are spread, from a fixed start.
fn weights(len: usize, size: f32) -> Vec<f32> {
    let mut state = 0x1234_5678u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| size * (uniform() + uniform() + uniform() + uniform())).collect()
}

fn there_and_back(of: QuantType, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut bytes = vec![0; of.bytes_of(values.len()).unwrap()];
    of.quantize(values, importance, &mut bytes).unwrap();
    let mut back = vec![f32::NAN; values.len()];
    of.dequantize(&bytes, &mut back).unwrap();
    back
}

/// The error's square sum as a part of the values'.
fn loss(values: &[f32], back: &[f32]) -> f64 {
    let off: f64 = values.iter().zip(back).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    off / values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
}

/// What is lost of normally spread numbers at most.
fn most(of: QuantType) -> f64 {
    match of {
        QuantType::F32 => 0.0,
        QuantType::F16 => 1e-7,
        QuantType::BF16 => 4e-6,
        QuantType::Q8_0 => 2.6e-5,
        QuantType::Q6K => 3.2e-4,
        QuantType::Q5K | QuantType::Q5_1 => 1.4e-3,
        QuantType::Q5_0 => 1.7e-3,
        QuantType::Q4_1 | QuantType::Q4K => 5.8e-3,
        QuantType::IQ4NL | QuantType::IQ4XS => 5.5e-3,
        QuantType::Q4_0 => 6.9e-3,
        QuantType::Q3K => 2.4e-2,
        QuantType::Q2K => 8e-2,
    }
}

#[test]
fn little_is_lost_of_weights_of_any_size() {
    for of in QuantType::ALL {
        for size in [0.05, 1.0, 300.0] {
            let values = weights(1 << 14, size);
            let lost = loss(&values, &there_and_back(of, &values, None));
            assert!(lost <= most(of), "{of} at {size}: {lost:e}");
        }
    }
}

#[test]
fn rows_of_special_kinds_come_back() {
    for of in QuantType::ALL {
        assert_eq!(there_and_back(of, &[0.0; 512], None), [0.0; 512], "{of}: zeros");
        for constant in [0.25f32, -3.0, 60_000.0, 1e-3] {
            let back = there_and_back(of, &[constant; 256], None);
            assert!(back.iter().all(|x| (x - constant).abs() <= 0.02 * constant.abs()), "{of}: {constant} {back:?}");
        }
        let mut one = vec![0.0; 512];
        one[300] = -40_000.0;
        let back = there_and_back(of, &one, None);
        assert!((back[300] + 40_000.0).abs() < 1000.0 && back[..256].iter().all(|x| *x == 0.0), "{of}: {}", back[300]);
        let mut outlier = weights(256, 0.05);
        outlier[7] = 20.0;
        let back = there_and_back(of, &outlier, None);
        assert!(loss(&outlier, &back) < 1e-2, "{of}: one huge value");
        // Smaller than any scale.
        assert!(there_and_back(of, &[1e-30; 256], None).iter().all(|x| x.abs() <= 1e-29), "{of}");
        // Of one sign: a minimum cannot be above zero.
        let above: Vec<f32> = weights(1024, 1.0).iter().map(|x| x.abs() + 1.0).collect();
        for sign in [1.0, -1.0] {
            let values: Vec<f32> = above.iter().map(|x| sign * x).collect();
            let lost = loss(&values, &there_and_back(of, &values, None));
            assert!(lost < if of == QuantType::Q2K { 3e-2 } else { 1e-2 }, "{of}: {lost:e}");
        }
    }
}

#[test]
fn what_no_block_can_hold_is_named() {
    for of in QuantType::ALL {
        for wrong in [f32::NAN, f32::INFINITY, 1e30] {
            let mut values = weights(512, 1.0);
            values[400] = wrong;
            let mut bytes = vec![0; of.bytes_of(512).unwrap()];
            let found = of.quantize(&values, None, &mut bytes).unwrap_err();
            assert_eq!((found.element, found.value.to_bits(), found.is_scale), (400, wrong.to_bits(), false), "{of}");
        }
        let is_wide = matches!(of, QuantType::F32 | QuantType::BF16);
        let mut bytes = vec![0; of.bytes_of(256).unwrap()];
        assert_eq!(of.quantize(&[70_000.0; 256], None, &mut bytes).is_ok(), is_wide, "{of}");
    }
}

#[test]
fn columns_that_count_are_nearer() {
    let values = weights(1 << 14, 1.0);
    let importance: Vec<f32> = (0..256).map(|i| if i % 4 == 0 { 50.0 } else { 0.5 }).collect();
    for of in QuantType::ALL.into_iter().filter(|of| !of.is_float()) {
        let of_important = |back: &[f32]| {
            let important = |of: &[f32]| of.iter().step_by(4).copied().collect::<Vec<f32>>();
            loss(&important(&values), &important(back))
        };
        let plain = of_important(&there_and_back(of, &values, None));
        let weighted = of_important(&there_and_back(of, &values, Some(&importance)));
        assert!(weighted < 0.95 * plain, "{of}: {weighted:e} {plain:e}");
        for none in [vec![0.0; 256], vec![f32::NAN; 256]] {
            assert_eq!(of_important(&there_and_back(of, &values, Some(&none))), plain, "{of}");
        }
    }
}

/// What a reader sees is what was packed: blocks whose scales were chosen come back when they are quantised again.
#[test]
fn a_second_time_changes_little() {
    for of in QuantType::ALL {
        let values = weights(1 << 13, 0.3);
        let once = there_and_back(of, &values, None);
        let twice = there_and_back(of, &once, None);
        assert!(loss(&once, &twice) <= 0.3 * most(of), "{of}: {:e}", loss(&once, &twice));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_element_is_further_off_than_its_block_is_wide(
        values in prop::collection::vec(prop_oneof![-1f32..1.0, -1e-3f32..1e-3, Just(0.0), -60_000f32..60_000.0], 256)
    ) {
        for of in QuantType::ALL {
            let back = there_and_back(of, &values, None);
            let lost = loss(&values, &back);
            // Never worse than no block at all, and all of it finite.
            prop_assert!(back.iter().all(|x| x.is_finite()), "{of}");
            prop_assert!(lost.is_nan() || lost <= if of == QuantType::Q2K { 0.5 } else { 0.15 }, "{of}: {lost:e}");
        }
    }
}
