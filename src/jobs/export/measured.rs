//! A mixture of types for a size: how much each matrix may be rounded is measured by what it does to the model's answers.

use super::calibration::{Texts, head_of};
use crate::error::{Error, Kind, Place, Result};
use crate::eval::divergence::{Divergence, NextWord};
use crate::export::gguf::budget::{Offer, candidates, choose};
use crate::export::gguf::importance::Importance;
use crate::export::gguf::rounding::{Rounded, smallest, trial, unmeasured};
use crate::export::gguf::{GgufExport, Matrices, Types};
use crate::jobs::base::peft_model::PeftModel;
use crate::model::{Carry, Inputs, LanguageModel, Layout, Stage};
use crate::nn::cross_entropy::Head;
use crate::nn::{Segments, SidePath};
use crate::ops::{Input, Weight};
use crate::progress::Progress;
use crate::report::text;
use crate::weights::names::TensorId;
use burn::tensor::{Int, Tensor, TensorData};
use std::collections::BTreeMap;

/// The most tokens that the measuring reads.
const TOKENS: usize = 1024;
/// The most places whose distributions are compared: each is as long as the vocabulary.
const PLACES: usize = 192;
/// How large the file may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// So many bytes, everything in it counted.
    File(u64),
    /// So many bits for each number of a matrix, on average.
    Bits(f64),
}

/// The matrices of a file whose types are chosen, and the bytes that they may have together.
#[derive(Debug)]
pub struct Room {
    matrices: Vec<(TensorId, [usize; 2])>,
    bytes: u64,
}

impl Room {
    /// What `budget` leaves for the matrices of the file.
    ///
    /// # Errors
    /// A budget below the smallest file, and bits for a model without a matrix to choose for.
    pub fn of(export: &GgufExport, budget: Budget) -> Result<Self> {
        let Matrices { of: matrices, beside } = export.matrices()?;
        if matrices.is_empty() && matches!(budget, Budget::Bits(_)) {
            let what = "no matrix of the model fills blocks, so that no bits can be chosen";
            let hint = format!("the file has {} as it is", text::bytes(beside));
            return Err(Error::new(Kind::Recipe, what).at(Place::Named("--bits".into())).hint(hint));
        }
        let numbers: u64 = matrices.iter().map(|(_, [rows, columns])| (rows * columns) as u64).sum();
        // What is no such matrix takes its part of a file, and may be more than all of it.
        let bytes = match budget {
            Budget::File(bytes) => bytes.checked_sub(beside),
            Budget::Bits(bits) => Some((bits / 8.0 * numbers as f64) as u64),
        };
        let least: u64 = matrices.iter().map(|(_, dims)| smallest(*dims)).sum();
        if let Some(bytes) = bytes.filter(|bytes| least <= *bytes) {
            return Ok(Room { matrices, bytes });
        }
        let (said, key) = match budget {
            Budget::File(wanted) => (format!("{} are too few", text::bytes(wanted)), "--target-size"),
            Budget::Bits(bits) => (format!("{bits} bits are too few"), "--bits"),
        };
        let mut hint = format!("the smallest file has {}", text::bytes(least + beside));
        if numbers > 0 {
            hint += &format!(", {:.2} bits for each number", 8.0 * least as f64 / numbers as f64);
        }
        Err(Error::new(Kind::Recipe, said).at(Place::Named(key.into())).hint(hint))
    }
}

/// The types of the matrices of a file within `room` that change the model's answers to `texts` least.
///
/// Each matrix is rounded alone, to a type of about four bits, and the divergence from the distributions of the unrounded
/// model is measured; what other types would do follows from their squared errors, weighed by what comes into the matrix.
///
/// # Errors
/// Weights that cannot be read.
pub fn types(
    export: &GgufExport,
    model: &PeftModel,
    texts: &Texts,
    importance: &Importance,
    room: &Room,
    progress: &dyn Progress,
) -> Result<Types> {
    let Room { matrices, bytes } = room;
    if matrices.is_empty() {
        progress.note("No matrix of the model fills blocks: the file is as small as it gets, and nothing is measured.");
        return Ok(Types::new());
    }
    let probe = Probe::new(model, texts);
    progress.start("Measuring", Some(matrices.len() as u64), "matrices");
    let mut offers = Vec::with_capacity(matrices.len());
    for (id, [rows, columns]) in matrices {
        let weight = export.weight(id, &[*rows, *columns])?;
        let of_inputs = importance.of_inputs(id, *columns);
        offers.push(probe.offers(*id, &weight, [*rows, *columns], of_inputs.as_deref())?);
        progress.advance(1);
    }
    progress.finish();
    let chosen = choose(&offers, *bytes).ok_or_else(|| Error::new(Kind::Run, "no mixture fits the size"))?;
    let harm: f64 = chosen.iter().map(|offer| offer.harm).sum();
    progress
        .note(&format!("The mixture is expected to be {} nats a token from the unrounded model.", text::metric(harm)));
    Ok(matrices.iter().zip(chosen).map(|((id, _), offer)| (*id, offer.of)).collect())
}

/// A model's own answers, and all that is needed to ask it again from any layer on.
struct Probe<'a> {
    model: &'a dyn LanguageModel,
    side: &'a dyn SidePath,
    ids: Vec<u32>,
    layout: Layout,
    /// What comes into each layer, and out of the last.
    carries: Vec<Carry>,
    places: Tensor<1, Int>,
    /// What the norm gives at the places, `[n, d]`.
    normed: Tensor<2>,
    /// What the model thinks of the next word there.
    own: Vec<NextWord>,
    sites: BTreeMap<TensorId, (usize, Stage)>,
}

impl<'a> Probe<'a> {
    fn new(model: &'a PeftModel, texts: &Texts) -> Self {
        let (decoder, side) = (model.model.as_ref(), model.side());
        let (mut ids, mut lengths): (Vec<u32>, Vec<usize>) = (Vec::new(), Vec::new());
        // From all over the text, not from its beginning alone.
        let step = (texts.tokens() / TOKENS).max(1);
        for stretch in texts.stretches.iter().step_by(step) {
            let room = TOKENS - ids.len();
            let stretch = &stretch[..stretch.len().min(room)];
            if stretch.len() > 1 {
                ids.extend(stretch);
                lengths.push(stretch.len());
            }
        }
        let inputs =
            Inputs { input_ids: ids.clone(), segments: Segments::from_lengths(lengths), soft_tokens: Vec::new() };
        let layout = decoder.layout(&inputs);
        let mut carries = vec![decoder.embed(&inputs, side)];
        for layer in 0..decoder.num_layers() {
            let next = decoder.layer(layer, carries[layer].clone(), &layout, side);
            carries.push(next);
        }
        let every = ids.len().div_ceil(PLACES).max(1);
        let places: Vec<i32> = (0..ids.len()).skip(every - 1).step_by(every).map(|at| at as i32).collect();
        let count = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), decoder.device());
        let last = decoder.last_hidden(carries[decoder.num_layers()].clone().select(&places), side);
        let normed = decoder.norm().forward(last);
        let own = next_words(&decoder.head(), &normed);
        let sites = decoder.sites().into_iter().map(|site| (site.weight, (site.index, site.stage))).collect();
        Probe { model: decoder, side, ids, layout, carries, places, normed, own, sites }
    }

    /// The types that a matrix may have, with what each would do.
    fn offers(&self, id: TensorId, weight: &[f32], dims: [usize; 2], importance: Option<&[f32]>) -> Result<Vec<Offer>> {
        let rounded = Rounded { weight, dims, importance };
        let [rows, columns] = dims;
        let trial = trial(columns);
        let of_trial = match trial {
            Some(trial) => {
                let weight = Weight::quantized(rounded.to(trial)?, self.model.device());
                self.divergence(id, &weight.computed_in(self.model.compute_dtype()))
            }
            None => None,
        };
        let sample = rounded.sample();
        let sampled = Rounded { weight: &sample, dims: [sample.len() / columns, columns], importance };
        let per_error = match (trial, of_trial) {
            (Some(trial), Some(divergence)) => Some(divergence / sampled.error(trial)?.max(f64::MIN_POSITIVE)),
            _ => None,
        };
        let mut offers = Vec::new();
        for of in candidates(columns) {
            let harm = per_error.map_or(Ok(unmeasured(of)), |per_error| Ok(per_error * sampled.error(of)?));
            offers.push(Offer { of, bytes: of.bytes_of(rows * columns).unwrap_or(usize::MAX) as u64, harm: harm? });
        }
        Ok(offers)
    }

    /// How far the answers are from the model's own with this matrix in the place of its own, in nats a token; `None` of a
    /// matrix that the probe does not reach.
    fn divergence(&self, id: TensorId, weight: &Weight) -> Option<f64> {
        let head = self.model.head();
        let rounded_head = Head { weight, softcap: head.softcap };
        let is_head = id == head_of(self.model);
        let normed = match (id, self.sites.get(&id)) {
            (_, Some((site, stage))) => {
                let side = Replaced { inner: self.side, site: *site, weight };
                let from = match stage {
                    Stage::Layer(layer) => *layer,
                    Stage::Embed => return None,
                    Stage::LastHidden => self.model.num_layers(),
                };
                self.normed(self.carries[from].clone(), from, &side)
            }
            // A head of its own says nothing of the embedding.
            (TensorId::EmbedTokens, None) if is_head => {
                let scale = (self.model.config().hidden_size() as f64).sqrt() as f32;
                let own = self.model.lm_head().select(&self.ids);
                let mut carry = self.carries[0].clone();
                carry.hidden = carry.hidden + (weight.select(&self.ids) - own).mul_scalar(scale);
                self.normed(carry, 0, self.side)
            }
            (TensorId::LmHead, None) => self.normed.clone(),
            _ => return None,
        };
        let mut divergence = Divergence::default();
        let other = next_words(if is_head { &rounded_head } else { &head }, &normed);
        divergence.add(&self.own, &self.own, &other);
        Some(divergence.mean())
    }

    /// What the norm gives at the places of what comes into layer `from`.
    fn normed(&self, carry: Carry, from: usize, side: &dyn SidePath) -> Tensor<2> {
        let layers = from..self.model.num_layers();
        let carry = layers.fold(carry, |carry, layer| self.model.layer(layer, carry, &self.layout, side));
        self.model.norm().forward(self.model.last_hidden(carry.select(&self.places), side))
    }
}

/// Another matrix in the place of one; an adapter on it is in it already.
struct Replaced<'a> {
    inner: &'a dyn SidePath,
    site: usize,
    weight: &'a Weight,
}

impl SidePath for Replaced<'_> {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        if site == self.site { self.weight.project(x) } else { self.inner.project(site, x, base) }
    }

    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        self.inner.whole(tensor)
    }
}

/// What the model thinks of the next word at each of these rows.
fn next_words(head: &Head, normed: &Tensor<2>) -> Vec<NextWord> {
    let logits: Vec<f32> = head.logits(normed.clone()).into_data().iter::<f32>().collect();
    NextWord::rows(&logits, head.weight.dims()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::peft::testing::golden;
    use crate::export::gguf::mixture::{FileType, Traits};
    use crate::weights::Source;
    use crate::weights::gguf::{Demands, Value};

    #[test]
    fn a_model_without_a_matrix_to_choose_for_has_a_size_and_no_bits() {
        let source = Source::open_folder(&golden("text")).unwrap();
        let metadata = [("general.architecture".to_owned(), Value::String("gemma3".into()))];
        let demands = Demands::default();
        let export = GgufExport {
            source: &source,
            adapter: None,
            traits: Traits { layers: 2, heads_per_group: 2, tied: true, has_importance: true },
            file_type: FileType::Q4_K_M,
            types: None,
            importance: None,
            demands: &demands,
            metadata: &metadata,
        };
        let whole = export.matrices().unwrap();
        assert!(whole.of.is_empty(), "{whole:?}");
        let refused = |budget| Room::of(&export, budget).unwrap_err();
        let bits = refused(Budget::Bits(4.5));
        assert_eq!(bits.what(), "no matrix of the model fills blocks, so that no bits can be chosen");
        assert_eq!((bits.exit_code(), bits.place()), (2, Some(&Place::Named("--bits".into()))));
        let hint = format!("the file has {} as it is", text::bytes(whole.beside));
        assert_eq!(bits.hint_text(), Some(hint.as_str()));
        // A size is a question all the same.
        assert!(Room::of(&export, Budget::File(whole.beside)).unwrap().matrices.is_empty());
        let small = refused(Budget::File(whole.beside - 1));
        let hint = format!("the smallest file has {}", text::bytes(whole.beside));
        assert_eq!((small.exit_code(), small.hint_text()), (2, Some(hint.as_str())));
    }
}
