use super::*;
use crate::device::{self, Backend, Found};

fn cpu(form: Form) -> Answer {
    Answer::of(form, None, &Device::flex()).unwrap()
}

/// The devices that can be compared with the CPU; says so where there are none.
fn others() -> Vec<Found> {
    let others: Vec<Found> = device::all().into_iter().filter(|found| found.backend != Backend::Cpu).collect();
    if others.is_empty() {
        println!("no device but the CPU: nothing to compare it with");
    }
    others
}

#[test]
fn every_other_device_agrees_with_the_cpu() {
    for found in others() {
        let compute = Compute::new(&found).unwrap();
        let Agreement { differences, f32_products, unusable } = compare(&compute).unwrap();
        assert!(differences.len() >= FORMS.len());
        assert_eq!((f32_products, unusable), (Roundoff::F32, Vec::new()), "{}", compute.describe());
        println!("{}: {differences:?}", compute.describe());
    }
}

/// Also where the device has no matrix units for them.
#[test]
fn narrow_factors_stay_near_the_cpu() {
    for found in others() {
        let narrow =
            [(HostDtype::BF16, FloatDType::BF16, Roundoff::Bf16), (HostDtype::F16, FloatDType::F16, Roundoff::F16)];
        for (dtype, _, rounded) in narrow.into_iter().filter(|(_, dtype, _)| found.device.supports_dtype(*dtype)) {
            for form in FORMS {
                let got = Answer::of(form, Some(dtype), &found.device).unwrap();
                let difference = difference(form, &got, &cpu(form), Roundoff::F32);
                println!("{}: {difference}", found.name());
                assert_eq!(difference.compute_dtype, rounded);
                assert!(difference.largest() < tolerance(rounded) / 2.0, "{}: {difference:?}", found.name());
            }
        }
    }
}

#[test]
fn the_cpu_equals_itself() {
    let agreement = compare(&device::open("cpu").unwrap()).unwrap();
    assert_eq!(agreement.differences.len(), FORMS.len());
    assert!(agreement.differences.iter().all(|difference| difference.largest() == 0.0), "{agreement:?}");
    assert_eq!(agreement.warnings(), Vec::<String>::new());
}

#[test]
fn what_a_device_does_not_do_as_it_should_is_said() {
    let unusable = vec!["products of bf16 factors, Copied: 3 of 9 numbers are wrong".to_owned()];
    let agreement = Agreement { differences: Vec::new(), f32_products: Roundoff::Tf32, unusable };
    assert_eq!(
        agreement.warnings(),
        [
            "left out, as they do not work here: products of bf16 factors, Copied: 3 of 9 numbers are wrong",
            "products in f32 round their factors to tf32 here"
        ]
    );
}

/// What is exact has a bar that TF32 does not pass, and that of TF32 is one that bf16 does not pass.
#[test]
fn the_bar_follows_the_rounding_of_factors() {
    let [exact, tf32, f16, bf16] = [Roundoff::F32, Roundoff::Tf32, Roundoff::F16, Roundoff::Bf16].map(tolerance);
    assert!((exact - 5e-4).abs() < 1e-12 && tf32 == f16, "{exact} {tf32} {f16}");
    assert!(tf32 < 6e-3 && 7.0 * tf32 < bf16 && bf16 < 4e-2, "{tf32} {bf16}");
}

/// What all devices are compared with is right by itself: its gradients, as a direction, are the way in which the loss
/// rises, and their length is its slope.
#[test]
fn the_cpus_gradients_are_the_slope_of_the_loss() {
    for form in FORMS {
        let form_of = |_: &TensorId| form;
        let device = Device::flex();
        let mut maker = RandomModel::new(&form_of, &device);
        let model = model::assemble(ModelConfig::small(), &mut maker, &device).unwrap();
        let model = model.as_ref();
        let mut adapter = adapter(model, &mut maker, false);
        let batch = batch(model);
        let (_, gradients) = step::gradients(model, &adapter, std::slice::from_ref(&batch), 0, &settings());
        let (start, slope) = (adapter.parameters(), step::norm(&gradients));
        let mut loss = |by: f64| {
            let moved = start.iter().zip(&gradients).map(|(p, g)| p.clone() + g.clone().mul_scalar(by / slope));
            adapter.set_parameters(moved.collect());
            backprop::loss(model, &adapter, &batch) / batch.supervised() as f64
        };
        const STEP: f64 = 0.01;
        let (near, far) = (loss(STEP) - loss(-STEP), loss(2.0 * STEP) - loss(-2.0 * STEP));
        let measured = (8.0 * near - far) / (12.0 * STEP); // of fourth order
        assert!((measured - slope).abs() < 1e-3 * slope, "{}: {measured} {slope}", form.name());
    }
}

/// On the CPU to the last bit; that others agree with it in both is what [`compare`] finds out.
#[test]
fn adapters_have_the_same_gradients_whether_or_not_the_input_has_one() {
    let Answer { adapters_alone, with_input, .. } = cpu(Form::Dense(HostDtype::F32));
    // Of each layer seven projections with A and B, and in DoRA magnitudes; then the input.
    const LORA: usize = 7 * 2;
    const DORA: usize = 7 * 3;
    assert_eq!(adapters_alone.len(), 2 * (LORA + DORA));
    let mut with_input = with_input;
    for input in [2 * (LORA + 1) + 2 * (DORA + 1) - 1, 2 * (LORA + 1) + DORA, 2 * (LORA + 1) - 1, LORA] {
        assert_eq!(with_input.remove(input).len(), 29 * 44);
    }
    assert_eq!(adapters_alone, with_input);
    assert!(adapters_alone.iter().all(|gradient| gradient.iter().any(|&g| g != 0.0)));
}

/// The ways in which devices were seen to go wrong, in each thing that is compared: numbers that are none, a gradient
/// of zero, one that is a little off, one that never came.
#[test]
fn a_wrong_answer_is_refused() {
    let form = Form::Dense(HostDtype::F32);
    let right = cpu(form);
    let judge = |got: &Answer| accept("a gpu", vec![difference(form, got, &right, Roundoff::F32)]);
    assert_eq!(judge(&right).unwrap()[0].largest(), 0.0);
    type Gradients = Vec<Vec<f32>>;
    let gradients: [fn(&mut Answer) -> &mut Gradients; 3] =
        [|a| &mut a.gradients, |a| &mut a.adapters_alone, |a| &mut a.with_input];
    let wrongs: [fn(&mut Gradients, usize); 4] = [
        |all, i| all[i].fill(f32::NAN),
        |all, i| all[i].fill(0.0),
        |all, i| all[i].iter_mut().for_each(|g| *g *= 1.01),
        |all, i| drop(all.remove(i)),
    ];
    for (which, place) in gradients.into_iter().enumerate() {
        for (how, wrong) in wrongs.into_iter().enumerate() {
            for index in 0..place(&mut right.clone()).len() {
                let mut got = right.clone();
                wrong(place(&mut got), index);
                let error = judge(&got).expect_err(&format!("gradient {index} of {which}, wrong {how}"));
                assert!(error.what().starts_with("`a gpu` disagrees with the CPU: relative difference "), "{error}");
            }
        }
    }
    let wrongs: [fn(&mut Answer); 3] = [|a| a.loss *= 1.01, |a| a.loss = f64::NAN, |a| a.output[3] = f32::NAN];
    for wrong in wrongs {
        let mut got = right.clone();
        wrong(&mut got);
        assert!(judge(&got).is_err());
    }
}

#[test]
fn a_compiler_that_does_not_go_with_the_driver_is_named() {
    let hint = |what: &str| refused("cuda:0", format!("fails: {what}")).hint_text().unwrap().to_owned();
    let too_new = "DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"the provided PTX was compiled with an unsupported toolchain.\")";
    assert!(hint(too_new).contains("is newer than the driver"));
    assert!(hint("nvrtc: error: invalid value for --gpu-architecture (-arch)").contains("is older than this GPU"));
    assert!(hint("no such type").contains("--device cpu"));
}

#[test]
fn a_wrong_or_missing_number_is_seen() {
    assert!(distance(&[1.0, 2.0], &[1.0, 2.1]) > tolerance(Roundoff::F32));
    assert!(distance(&[1.0, f32::NAN], &[1.0, 2.0]).is_nan());
    assert!(farthest(&[vec![1.0]], &[]).is_nan());
    assert!(largest([0.0, f64::NAN, 1.0]).is_nan());
}

#[cfg(feature = "gpu")]
mod steps;
