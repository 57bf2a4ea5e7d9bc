use super::*;
use burn::tensor::Device;

/// The keys of tokens `range`: token `i` is `[i, -i]` for each of two heads.
fn keys(range: Range<usize>) -> Tensor<3> {
    let values: Vec<f32> = range.clone().flat_map(|i| [i as f32, -(i as f32), i as f32, -(i as f32)]).collect();
    Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([range.len(), 2, 2])
}

fn tokens(keys: &Tensor<3>) -> Vec<usize> {
    let values: Vec<f32> = keys.clone().into_data().iter().collect();
    values.chunks(4).map(|row| row[0] as usize).collect()
}

fn cache(reaches: &[usize], sequences: usize) -> KvCache {
    let layers = reaches.iter().map(|&reach| LayerCache::new(reach, 4, sequences)).collect();
    KvCache { layers, lengths: vec![0; sequences] }
}

/// Gives sequence `at` its next tokens; what those may look at, layer by layer.
fn give(cache: &mut KvCache, at: usize, new: usize) -> Vec<Vec<usize>> {
    let start = cache.lengths[at];
    let next = keys(start..start + new);
    let seen = cache.layers.iter_mut().map(|layer| {
        let Seen { keys, values, .. } = layer.extend(at, next.clone(), next.clone().neg(), &[]);
        let all: Vec<usize> = tokens(&keys);
        assert_eq!(tokens(&values.neg()), all);
        all
    });
    let seen = seen.collect();
    cache.lengths[at] += new;
    seen
}

#[test]
fn tokens_see_their_window_however_they_come() {
    for reach in [1, 2, 5, 700] {
        let mut cache = cache(&[reach, usize::MAX], 2);
        for new in [3, 1, 1, 300, 1, 140, 7, 1].into_iter().chain([1; 300]) {
            let start = cache.lengths[1];
            let [sliding, full] = give(&mut cache, 1, new).try_into().unwrap();
            assert_eq!(sliding, (start - start.min(reach - 1)..start + new).collect::<Vec<_>>());
            assert_eq!(full, (0..start + new).collect::<Vec<_>>());
        }
    }
}

#[test]
fn half_the_bytes_hold_as_many_tokens() {
    let mut cache = cache(&[6, usize::MAX], 1).held_in(FloatDType::F16);
    let whole = self::cache(&[6, usize::MAX], 1).bytes_of(500, 40);
    for new in [40, 1, 20, 1, 1] {
        let start = cache.lengths[0];
        // Whole numbers up to 2048 are not rounded.
        assert_eq!(give(&mut cache, 0, new)[1], (0..start + new).collect::<Vec<_>>());
    }
    let seen = cache.layers[0].extend(0, keys(9..10).mul_scalar(1.0 / 3.0), keys(9..10), &[]);
    assert_eq!(seen.keys.dtype(), DType::F32);
    assert_eq!(cache.bytes_of(500, 40) * 2, whole);
    assert!(cache.bytes_at(0) <= cache.bytes_of(500, 40));
}

#[test]
fn room_is_as_large_as_was_said() {
    for (reach, most, pieces) in [
        (usize::MAX, 1000, &[40, 20][..]),
        (64, 1000, &[512, 100]),
        (64, 1000, &[1]),
        (64, 50, &[30]),
        (1, 700, &[600]),
    ] {
        let mut cache = cache(&[reach], 1);
        let past = cache.remove(0);
        cache.insert(0, past, most);
        let piece = pieces.iter().copied().max().unwrap();
        let ones = vec![1; most - pieces.iter().sum::<usize>()];
        for new in pieces.iter().copied().chain(ones) {
            give(&mut cache, 0, new);
            assert!(cache.bytes_at(0) <= cache.bytes_of(most, piece), "{reach} {}", cache.lengths[0]);
        }
        if reach > most {
            assert_eq!(cache.bytes_at(0), (2 * 4 * 4 * most) as u64);
        }
    }
    // Layers of a model that sees 512 back: what a long text takes hardly grows there.
    let (short, long) = (cache(&[512], 0).bytes_of(2_000, 512), cache(&[512], 0).bytes_of(200_000, 512));
    assert_eq!((short, long), (32 * 1023, 32 * 1023));
}

#[test]
fn what_is_written_in_place_moves_seldom() {
    let mut cache = cache(&[100, usize::MAX], 1);
    let rooms = |cache: &KvCache| -> Vec<usize> {
        cache.layers.iter().map(|layer| layer.sequences[0].rows.as_ref().unwrap().first).collect()
    };
    let (mut moves, mut before) = (0, vec![0, 0]);
    for _ in 0..2000 {
        give(&mut cache, 0, 1);
        moves += usize::from(rooms(&cache) != before);
        before = rooms(&cache);
    }
    assert!((10..=20).contains(&moves), "{moves}");
    assert_eq!(before[1], 0);
}

#[test]
fn a_copy_goes_its_own_way() {
    let mut cache = cache(&[4, usize::MAX], 1);
    give(&mut cache, 0, 9);
    let past = cache.past(0);
    cache.insert(1, past, 40);
    // Both write behind the same tokens.
    let next = |cache: &mut KvCache, at: usize, as_token: usize| {
        let k = keys(as_token..as_token + 1);
        let seen: Vec<_> =
            cache.layers.iter_mut().map(|l| tokens(&l.extend(at, k.clone(), k.clone(), &[]).keys)).collect();
        cache.lengths[at] += 1;
        seen
    };
    assert_eq!(next(&mut cache, 0, 50)[0], [6, 7, 8, 50]);
    assert_eq!(next(&mut cache, 1, 60)[0], [6, 7, 8, 60]);
    assert_eq!(next(&mut cache, 0, 51)[0], [7, 8, 50, 51]);
    assert_eq!(next(&mut cache, 1, 61)[1], [0, 1, 2, 3, 4, 5, 6, 7, 8, 60, 61]);
    let first = cache.remove(0);
    assert_eq!((first.tokens, cache.lengths.as_slice()), (11, &[11][..]));
    assert_eq!(next(&mut cache, 0, 62)[0], [8, 60, 61, 62]);
}

#[test]
fn a_sequence_is_cut_back_as_far_as_its_window_is_there() {
    let mut cache = cache(&[10, usize::MAX], 1);
    give(&mut cache, 0, 100);
    let past = cache.past(0);
    let cut = cache.cut(&past, 60).unwrap();
    cache.insert(1, cut, 1000);
    assert_eq!(give(&mut cache, 1, 2), [(51..62).collect::<Vec<_>>(), (0..62).collect()]);
    assert_eq!(give(&mut cache, 0, 1)[0], (91..101).collect::<Vec<_>>(), "the original is as it was");
    assert_eq!(cache.cut(&past, 0).unwrap().tokens, 0);
    assert!(cache.cut(&past, 101).is_none());
    // After many more the window has moved on.
    (0..400).for_each(|_| drop(give(&mut cache, 0, 1)));
    let past = cache.past(0);
    assert!(cache.cut(&past, 60).is_none());
    assert_eq!(cache.cut(&past, past.tokens - 1).map(|past| past.tokens), Some(500));
    // What came last is taken back, and comes in another way.
    give(&mut cache, 0, 3);
    cache.take_back(0, 2);
    assert_eq!(give(&mut cache, 0, 1)[0], (493..503).collect::<Vec<_>>());
}

#[test]
fn tokens_that_are_looked_at_one_by_one_see_the_same() {
    let mut cache = cache(&[5], 1);
    give(&mut cache, 0, 8);
    cache.look_one_by_one(0, true);
    let k = keys(8..11);
    let seen = cache.layers[0].extend(0, k.clone(), k, &[]);
    assert_eq!(tokens(&seen.keys), [4, 5, 6, 7, 8, 9, 10]);
    let visible = Visibility {
        groups: (0..3).map(|i| Group { queries: i..i + 1, keys: 0..5 + i }).collect(),
        window: 5,
        spans: Vec::new(),
    };
    assert_eq!(visible.runs(), [0..5, 1..6, 2..7]);
    assert_eq!(format!("{:?}", seen.mask), format!("{:?}", AttentionMask::new(visible)));
}
