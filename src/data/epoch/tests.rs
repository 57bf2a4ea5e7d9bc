use super::*;
use crate::data::options::RowFormat;
use crate::data::spec::{DataSpec, SourceSpec};
use crate::data::testing::{Bytes, spec, write};
use crate::data::{local_only, prepare};
use crate::progress::Silent;
use proptest::prelude::*;

/// Data sets whose rows have the given lengths (at least 2), one source per list.
fn dataset_of(sources: &[(&[u32], f64)]) -> Dataset {
    let dir = tempfile::tempdir().unwrap();
    let mut whole: Option<DataSpec> = None;
    for (i, (lengths, weight)) in sources.iter().enumerate() {
        let lines: String =
            lengths.iter().map(|&length| format!("{{\"input_ids\": {:?}}}\n", vec![1; length as usize])).collect();
        let path = write(dir.path(), &format!("{i}.jsonl"), lines);
        let spec = whole.get_or_insert_with(|| DataSpec { sources: vec![], ..spec(&path, RowFormat::Tokens) });
        spec.sources.push(SourceSpec { weight: *weight, ..SourceSpec::new(path.to_str().unwrap(), RowFormat::Tokens) });
    }
    prepare(&whole.unwrap(), &Bytes, &dir.path().join("cache"), &local_only, &Silent).unwrap()
}

fn binning(packing: bool, max_length: usize, shuffle: bool, seed: u64) -> Binning {
    Binning { packing, max_length, shuffle, seed, together: 1 }
}

fn bins(epoch: &Epoch) -> Vec<Vec<u32>> {
    epoch.bins().map(<[u32]>::to_vec).collect()
}

fn sorted(epoch: &Epoch) -> Vec<u32> {
    let mut rows: Vec<u32> = epoch.bins().flatten().copied().collect();
    rows.sort_unstable();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packing_loses_nothing_and_overfills_nothing(
        lengths in prop::collection::vec(2_u32..=64, 1..80), seed: u64, epoch: u64, shuffle: bool,
    ) {
        let dataset = dataset_of(&[(&lengths, 1.0)]);
        let packed = binning(true, 64, shuffle, seed).epoch(&dataset, epoch).unwrap();
        prop_assert_eq!(sorted(&packed), (0..lengths.len() as u32).collect::<Vec<_>>());
        let filled: Vec<u32> = packed.bins().map(|bin| bin.iter().map(|&row| lengths[row as usize]).sum()).collect();
        prop_assert!(filled.iter().all(|&tokens| tokens > 0 && tokens <= 64));
        // First fit leaves at most one bin half empty.
        prop_assert!(filled.iter().filter(|&&tokens| tokens <= 32).count() <= 1);
        let fill_rate = packed.fill_rate().unwrap();
        prop_assert!((fill_rate - f64::from(lengths.iter().sum::<u32>()) / (64.0 * packed.len() as f64)).abs() < 1e-12);
        prop_assert_eq!(binning(true, 64, shuffle, seed).epoch(&dataset, epoch).unwrap(), packed);
    }
}

#[test]
fn without_packing_every_row_is_its_own_bin() {
    let dataset = dataset_of(&[(&[5, 3, 9, 2], 1.0)]);
    let in_order = binning(false, 64, false, 1).epoch(&dataset, 0).unwrap();
    assert_eq!(bins(&in_order), [[0], [1], [2], [3]]);
    assert_eq!((in_order.tokens(), in_order.fill_rate()), (19, None));
    let shuffled: Vec<_> =
        (0..4).map(|epoch| bins(&binning(false, 64, true, 1).epoch(&dataset, epoch).unwrap())).collect();
    assert!(shuffled.iter().any(|order| *order != shuffled[0]), "epochs differ");
    assert_eq!(in_order.bin(4), [0_u32; 0]);
}

#[test]
fn the_order_never_changes_between_versions() {
    // A resumed run must see the rows in the order of the version that wrote its checkpoint.
    let dataset = dataset_of(&[(&[5, 3, 9, 2, 4, 6, 7, 8], 1.0)]);
    let order = |packing, seed, epoch| bins(&binning(packing, 16, true, seed).epoch(&dataset, epoch).unwrap());
    assert_eq!(order(false, 42, 0).concat(), [5, 6, 4, 2, 7, 1, 0, 3]);
    assert_eq!(order(false, 42, 1).concat(), [3, 2, 0, 6, 4, 7, 1, 5]);
    assert_eq!(order(false, 43, 0).concat(), [3, 7, 5, 1, 0, 6, 2, 4]);
    assert_eq!(order(true, 42, 0), [vec![5, 7, 3], vec![4, 1, 0], vec![6, 2]]);
}

#[test]
fn without_shuffle_packed_bins_keep_file_order() {
    let dataset = dataset_of(&[(&[20, 40, 60, 4, 24], 1.0)]);
    let epoch = binning(true, 64, false, 7).epoch(&dataset, 3).unwrap();
    assert_eq!(bins(&epoch), [vec![0], vec![1, 4], vec![2, 3]]);
}

#[test]
fn companions_change_from_epoch_to_epoch_but_the_number_of_bins_does_not() {
    let dataset = dataset_of(&[(&[32; 40], 1.0)]);
    let binning = binning(true, 64, true, 5);
    let pairs = |epoch| -> std::collections::BTreeSet<Vec<u32>> {
        let mut pairs = bins(&binning.epoch(&dataset, epoch).unwrap());
        pairs.iter_mut().for_each(|pair| pair.sort_unstable());
        pairs.into_iter().collect()
    };
    assert_eq!((pairs(0).len(), pairs(1).len()), (20, 20));
    assert!(pairs(0).intersection(&pairs(1)).count() < 10);
}

#[test]
fn weights_repeat_rows_and_choose_the_rest_anew() {
    let dataset = dataset_of(&[(&[2; 10], 2.5), (&[3; 4], 0.5), (&[4; 3], 0.0), (&[5; 2], 1.0)]);
    let count = |epoch: u64| {
        let epoch = binning(true, 64, true, 9).epoch(&dataset, epoch).unwrap();
        let mut times = vec![0; 19];
        sorted(&epoch).iter().for_each(|&row| times[row as usize] += 1);
        times
    };
    let first = count(0);
    assert_eq!(first[..10].iter().sum::<u32>(), 25);
    assert!(first[..10].iter().all(|&times| times == 2 || times == 3));
    assert_eq!(first[10..14].iter().sum::<u32>(), 2);
    assert_eq!(first[14..], [0, 0, 0, 1, 1]);
    assert!((1..5).any(|epoch| count(epoch) != first), "the choice changes");
    assert_eq!(count(0), first);
}

#[test]
fn steps_count_partial_batches_and_windows() {
    let dataset = dataset_of(&[(&[2; 11], 1.0)]);
    let binning = binning(false, 64, true, 0);
    let epoch = binning.epoch(&dataset, 0).unwrap();
    assert_eq!((epoch.batches(2), epoch.steps(2, 4), epoch.steps(1, 1)), (6, 2, 11));
    assert_eq!(binning.steps(&dataset, 3, 2, 4).unwrap(), 6);
    let fractional = dataset_of(&[(&[2; 11], 0.5)]);
    assert_eq!(binning.steps(&fractional, 3, 1, 1).unwrap(), 18);
}

#[test]
fn a_row_that_fits_no_bin_is_an_error() {
    let dataset = dataset_of(&[(&[2, 9], 1.0)]);
    let error = binning(true, 8, true, 0).epoch(&dataset, 0).unwrap_err();
    assert!(error.what().ends_with("0.jsonl, row 2 has 9 tokens, more than 8"), "{error}");
}

#[test]
fn rows_that_stay_together_do_so_in_every_epoch() {
    let dataset = dataset_of(&[(&[2; 11], 1.0)]);
    let of = |shuffle, number| {
        let epoch = Binning { together: 3, ..binning(false, 64, shuffle, 5) }.epoch(&dataset, number).unwrap();
        bins(&epoch).concat()
    };
    let groups = |rows: &[u32]| rows.chunks(3).map(<[u32]>::to_vec).collect::<Vec<_>>();
    let (first, second) = (of(true, 0), of(true, 1));
    assert_eq!(first.iter().copied().collect::<std::collections::BTreeSet<u32>>(), (0..11).collect());
    assert_ne!(first, second);
    assert_ne!(first, (0..11).collect::<Vec<u32>>());
    let sorted = |rows: &[u32]| {
        let mut groups = groups(rows);
        groups.sort();
        groups
    };
    assert_eq!(sorted(&first), sorted(&second));
    assert_eq!(first[9..], second[9..], "what is left stays last, or it would shift the others");
    assert_eq!((of(true, 1), of(false, 4)), (second, (0..11).collect()));
}
