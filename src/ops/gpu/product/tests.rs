use super::*;
use crate::device::{self, Backend, Found};
use burn::tensor::{Device, FloatDType, TensorData};

/// The devices with kernels here; says so where there are none.
fn gpus() -> Vec<Found> {
    let gpus: Vec<Found> = device::all().into_iter().filter(|found| found.backend != Backend::Cpu).collect();
    if gpus.is_empty() {
        println!("no device but the CPU: no kernels to choose among");
    }
    gpus
}

/// Whole numbers from -4 to 4.
fn whole(shape: [usize; 2], step: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|at| (at * step % 9) as f32 - 4.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn storage(matrix: Tensor<2>) -> CubeTensor {
    matrix.try_into_primitive::<Cube>().ok().unwrap()
}

/// Products of bins of any number of tokens, with weights and with adapters of any rank, in each dtype: each can be set
/// up. Under `scripts/check_cuda_kernels.sh` nothing is computed, so nothing is compared here.
#[test]
fn no_number_of_tokens_and_no_rank_ends_a_run() {
    const TOKENS: [usize; 24] =
        [1, 2, 3, 5, 8, 13, 16, 17, 31, 64, 65, 100, 127, 128, 129, 256, 257, 511, 513, 1000, 1025, 2047, 3001, 4096];
    const RANKS: [usize; 5] = [1, 3, 8, 16, 64];
    const WIDTH: usize = 72;
    for found in gpus() {
        let dtypes = [FloatDType::F32, FloatDType::BF16, FloatDType::F16];
        for dtype in dtypes.into_iter().filter(|dtype| found.device.supports_dtype(*dtype)) {
            let zeros = |shape: [usize; 2]| storage(Tensor::<2>::zeros(shape, &found.device).cast(dtype));
            for n in TOKENS {
                let x = zeros([n, WIDTH]);
                for other in RANKS.into_iter().chain([WIDTH + 1]) {
                    let (a, narrow) = (zeros([other, WIDTH]), zeros([n, other]));
                    // x A^T, (dy B) A, dA = (dy B)^T x
                    for (x, w) in [(&x, &turned::<2>(&a)), (&narrow, &a), (&turned::<2>(&narrow), &x)] {
                        let product = multiply(x, w);
                        let what = format!("{} {dtype:?} {:?}", found.name(), Matrices::of(x, w));
                        x.client.check([&product.handle]).unwrap_or_else(|why| panic!("{what}: {why}"));
                    }
                }
            }
        }
    }
}

#[test]
fn each_way_multiplies_whole_numbers_exactly() {
    let cpu = Device::flex();
    for found in gpus() {
        assert_eq!(unusable_ways(&found.device), [""; 0], "{}", found.name());
        for [n, k, m] in [[1, 1, 1], [3, 70, 40], [70, 33, 130], [1, 640, 48]] {
            let want = whole([n, k], 7, &cpu).matmul(whole([k, m], 31, &cpu)).into_data();
            let dtypes = [FloatDType::F32, FloatDType::BF16, FloatDType::F16];
            for dtype in dtypes.into_iter().filter(|dtype| found.device.supports_dtype(*dtype)) {
                let [x, w] = [whole([n, k], 7, &found.device), whole([k, m], 31, &found.device)]
                    .map(|matrix| storage(matrix.cast(dtype)));
                for way in [Way::Tiles, Way::Units, Way::Naive] {
                    let product = empty(&x, [n, m]);
                    // The first needs a device's help; the last, which follows the second, was made for f32.
                    let may_refuse = way != Way::Units && (way, dtype) != (Way::Naive, FloatDType::F32);
                    match launch(way, &x, &w, &product) {
                        Ok(()) => assert_eq!(
                            tensor::<2>(&product).into_data(),
                            want,
                            "{} {dtype:?} {way:?} [{n}, {k}, {m}]",
                            found.name()
                        ),
                        Err(why) => assert!(may_refuse, "{} {dtype:?} {way:?}: {why}", found.name()),
                    }
                }
                assert_eq!(tensor::<2>(&multiply(&x, &w)).into_data(), want, "{} [{n}, {k}, {m}]", found.name());
            }
        }
    }
}

#[test]
fn what_is_chosen_is_remembered_and_what_is_unusable_is_left_out() {
    for found in gpus() {
        let [x, w] = [[37, 41], [41, 43]].map(|shape| storage(whole(shape, 5, &found.device)));
        let key = (x.device.clone(), Matrices::of(&x, &w));
        multiply(&x, &w);
        assert_eq!(table().choices.get(&key), Some(&Way::Units), "{}", found.name());
        // A product that nothing else multiplies, so that no other test meets it.
        table().choices.insert(key.clone(), Way::Naive);
        let (first, again) = (multiply(&x, &w), multiply(&x, &w));
        assert_eq!(tensor::<2>(&first).into_data(), tensor::<2>(&again).into_data());
        assert_eq!(table().choices.get(&key), Some(&Way::Naive));
    }
}
