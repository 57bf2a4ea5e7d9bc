use super::*;
use crate::model::{Modality, RandomModel, SoftTokens};
use crate::nn::{BaseOnly, Segments};
use crate::weights::names::TensorId;
use crate::weights::{Form, HostDtype};
use std::ops::Range;

fn model() -> Gemma3 {
    let device = Device::flex();
    let form = |_: &TensorId| Form::Dense(HostDtype::F32);
    Gemma3::assemble(TextConfig::small(), &mut RandomModel::new(&form, &device), &device).unwrap()
}

fn features(rows: usize, purpose: u8) -> Tensor<2> {
    let form = |_: &TensorId| Form::Dense(HostDtype::F32);
    let device = Device::flex();
    let mut random = RandomModel::new(&form, &device);
    (0..purpose).for_each(|_| drop(random.tensor(1, 1, 1.0)));
    random.tensor(rows, TextConfig::small().hidden_size, 1.0)
}

fn soft(rows: Range<usize>, modality: Modality) -> SoftTokens {
    SoftTokens { features: Features::Encoded(features(rows.len(), rows.start as u8)), rows, modality }
}

fn encoded(soft: &SoftTokens) -> Tensor<2> {
    match &soft.features {
        Features::Encoded(features) => features.clone(),
        Features::Prepared { .. } => panic!("no tower here"),
    }
}

/// Two sequences; in the first a picture that is longer than the window of 7 and one beside it, in the second a sound.
fn inputs() -> Inputs {
    let soft_tokens = vec![soft(4..14, Modality::Image), soft(14..17, Modality::Image), soft(25..29, Modality::Audio)];
    Inputs { input_ids: (0..33).collect(), segments: Segments::from_lengths([22, 11]), soft_tokens }
}

fn rows(tensor: &Tensor<2>, rows: Range<usize>) -> Vec<f32> {
    tensor.clone().narrow(0, rows.start, rows.len()).into_data().iter().collect()
}

/// Which rows of the output change with the features of some rows.
fn reached(model: &Gemma3, changed: Range<usize>) -> Vec<usize> {
    let inputs = inputs();
    let before = model.hidden(&inputs, &BaseOnly);
    let mut other = inputs.clone();
    for soft in &mut other.soft_tokens {
        let shift = |row| if changed.contains(&row) { 1.0 } else { 0.0 };
        let shifts: Vec<f32> = soft.rows.clone().map(shift).collect();
        let len = shifts.len();
        let shifts = Tensor::<1>::from_floats(shifts.as_slice(), &Device::flex()).reshape([len, 1]);
        soft.features = Features::Encoded(encoded(soft) + shifts);
    }
    let after = model.hidden(&other, &BaseOnly);
    (0..33).filter(|&row| rows(&before, row..row + 1) != rows(&after, row..row + 1)).collect()
}

#[test]
fn features_stand_in_their_rows_unscaled() {
    let (model, inputs) = (model(), inputs());
    let embedded = model.embed(&inputs, &BaseOnly).hidden;
    let text = model.embed(&Inputs { soft_tokens: Vec::new(), ..inputs.clone() }, &BaseOnly).hidden;
    for soft in &inputs.soft_tokens {
        assert_eq!(rows(&embedded, soft.rows.clone()), rows(&encoded(soft), 0..soft.rows.len()));
    }
    for between in [0..4, 17..25, 29..33] {
        assert_eq!(rows(&embedded, between.clone()), rows(&text, between));
    }
}

#[test]
fn pictures_see_themselves_forwards_and_sounds_do_not() {
    let model = model();
    assert_eq!(reached(&model, 13..14), (4..22).collect::<Vec<_>>(), "the last row of a picture reaches its first");
    assert_eq!(reached(&model, 16..17), (14..22).collect::<Vec<_>>(), "and no other picture");
    assert_eq!(reached(&model, 27..28), (27..33).collect::<Vec<_>>(), "a sound is read in order");
}

#[test]
fn answers_to_one_prompt_with_pictures_are_those_of_whole_sequences() {
    let model = model();
    // Its last picture begins where the windows of the answers still reach.
    let prompt = inputs().slice(0..18);
    let answers = [&[30, 31, 32][..], &[5], &[30, 8, 9, 10, 11, 12, 13, 14, 15]];
    let group = model.hidden(&prompt.answered(answers), &BaseOnly);
    let mut first = 18;
    for answer in answers {
        let ids = [&prompt.input_ids, answer].concat();
        let whole = Inputs { soft_tokens: prompt.soft_tokens.clone(), ..Inputs::of(ids) };
        let whole = rows(&model.hidden(&whole, &BaseOnly), 0..18 + answer.len());
        let got = [rows(&group, 0..18), rows(&group, first..first + answer.len())].concat();
        let largest = whole.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(got.iter().zip(&whole).all(|(a, b)| (a - b).abs() <= 1e-5 * largest) && got.len() == whole.len());
        first += answer.len();
    }
    assert_eq!(group.dims()[0], first);
}

#[test]
fn what_is_cached_is_what_is_read_at_once() {
    let (model, inputs) = (model(), inputs());
    let whole = model.hidden(&inputs, &BaseOnly);
    let mut cache = model.cache(2);
    // Pieces of the two sequences, none of which cuts soft tokens.
    let mut got = [Vec::new(), Vec::new()];
    for [first, second] in [[0..3, 0..7], [3..14, 7..8], [14..21, 8..9], [21..22, 9..11]] {
        let lengths = [first.len(), second.len()];
        let piece = Inputs::joined([inputs.slice(first.clone()), inputs.slice(second.start + 22..second.end + 22)]);
        let hidden = model.hidden_cached(&piece, &lengths, &mut cache, &BaseOnly);
        got[0].extend(rows(&hidden, 0..first.len()));
        got[1].extend(rows(&hidden, first.len()..first.len() + second.len()));
    }
    let whole = rows(&whole, 0..33);
    let largest = whole.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!(got.concat().iter().zip(&whole).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
}
