//! What a model thinks of given rows.

use crate::data::{self, Encode, FewRow, Row};
use crate::error::{Error, Kind, Place, Result};
use crate::infer::score as infer;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::media::{self, Features};
use crate::model::Inputs;
use crate::progress::Progress;
use crate::text::{Conversation, Encoder, IGNORE_INDEX, Role, Tokenized, TrainOn};
use crate::weights::safetensors_file::{TensorSpec, write_streamed};
use crate::weights::{HostDtype, HostTensor};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A row to score.
#[derive(Debug, Clone)]
pub struct Input {
    row: Row,
    place: Place,
    /// What to do about a column that seems to hold pictures or sounds and is not read.
    unread: Option<String>,
}

impl Input {
    /// The rows of a file, as data is read: rows of JSON or a table, in any format that can be trained on, and conversations
    /// without an answer.
    ///
    /// # Errors
    /// When the file cannot be read, and the first row that is of no format.
    pub fn read(path: &Path, progress: &dyn Progress) -> Result<Vec<Self>> {
        Ok(Input::of(path, data::read_few(path, progress)?))
    }

    /// As [`Input::read`], of rows that may be pairs of answers too, which a reward model judges.
    ///
    /// # Errors
    /// As [`Input::read`].
    pub fn read_with_pairs(path: &Path, progress: &dyn Progress) -> Result<Vec<Self>> {
        Ok(Input::of(path, data::read_few_or_pairs(path, progress)?))
    }

    fn of(path: &Path, rows: Vec<FewRow>) -> Vec<Self> {
        let input = |FewRow { number, row, unread }| Input {
            row,
            place: Place::Row { path: path.into(), row: number },
            unread,
        };
        rows.into_iter().map(input).collect()
    }

    /// A plain text at this place.
    pub fn of_text(text: String, place: Place) -> Self {
        Input { row: Row::Text(text), place, unread: None }
    }

    /// Whether it holds pictures or sounds.
    pub fn has_media(&self) -> bool {
        !self.row.clone().media_mut().is_empty()
    }

    /// Where it is from.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The tokens of a row of text.
    ///
    /// # Errors
    /// When it cannot be encoded, or holds pictures or sounds.
    pub fn tokens(&self, encoder: &Encoder) -> Result<Vec<u32>> {
        if self.has_media() {
            return Err(Error::new(Kind::Data, "the row holds pictures or sounds, and text is read here")
                .at(self.place.clone()));
        }
        Ok(encode(encoder, &self.row).map_err(|e| e.or_at(self.place.clone()))?.input_ids)
    }

    /// A row of any format.
    ///
    /// # Errors
    /// When it is of none.
    pub fn new(row: &Map<String, Value>, place: Place) -> Result<Self> {
        Ok(Input { row: data::understand(row).map_err(|e| e.or_at(place.clone()))?, place, unread: None })
    }
}

/// Scores rows: objects `{"input_ids", "logprobs", "nll", "supervised_nll"}`, with the logits of row `i` saved as
/// `logits.<i>` where a file is named. `nll` is the mean over all tokens after the first, `supervised_nll` over those
/// that training on the row would learn.
///
/// # Errors
/// When a row cannot be encoded, a log-probability is not finite, or the logits cannot be written.
pub fn score(model: &PeftModel, rows: &[Input], logits: Option<&Path>, progress: &dyn Progress) -> Result<Vec<Value>> {
    if model.judges() {
        if logits.is_some() {
            return Err(Error::new(
                Kind::Adapter,
                "this is a reward model, which has no logits: it gives a number for a text",
            )
            .at(Place::Named("--logits".into()))
            .hint("leave the option out"));
        }
        return rewards(model, rows, progress);
    }
    if let Some(pair) = rows.iter().find(|input| matches!(input.row, Row::Preference { .. })) {
        return Err(Error::new(Kind::Data, "the row is a pair of answers, which a reward model judges")
            .at(pair.place.clone())
            .hint("name one as `--adapter`, or give each answer a row of `prompt` and `completion`"));
    }
    let places = rows.iter().map(|input| &input.place);
    let (rows, features) = encode_all(model, rows, progress)?;
    let features = features.as_ref();
    let lengths = rows.iter().zip(places.clone()).map(|(row, place)| (row.input_ids.len(), place.to_string()));
    model.base.warn_of_context(lengths, progress);
    progress.start("Scoring", Some(rows.len() as u64), "rows");
    let mut scores = Vec::with_capacity(rows.len());
    for (row, place) in rows.iter().zip(places) {
        let hidden = infer::hidden(model.model.as_ref(), model.side(), &inputs(row, features)?);
        let logprobs = infer::logprobs(model.model.as_ref(), &hidden, &row.input_ids);
        if let Some(at) = logprobs.iter().position(|logprob| !logprob.is_finite()) {
            let what = format!("the log-probability of token {} is not finite", at + 2);
            let hint = "the model or its adapter is damaged, or had diverged in training";
            return Err(Error::new(Kind::NonFinite, what).at(place.clone()).hint(hint));
        }
        let supervised = logprobs.iter().zip(row.labels.iter().skip(1)).filter(|(_, label)| **label != IGNORE_INDEX);
        scores.push(json!({
            "input_ids": row.input_ids,
            "nll": mean(logprobs.iter().copied()),
            "supervised_nll": mean(supervised.map(|(logprob, _)| *logprob)),
            "logprobs": logprobs,
        }));
        progress.advance(1);
    }
    progress.finish();
    if let Some(path) = logits {
        save_logits(model, &rows, features, path)?;
    }
    Ok(scores)
}

/// What a reward model makes of rows: objects `{"input_ids", "reward"}`, and of pairs `{"chosen", "rejected", "margin"}`, the first two
/// such objects.
fn rewards(model: &PeftModel, rows: &[Input], progress: &dyn Progress) -> Result<Vec<Value>> {
    let places = rows.iter().map(|input| &input.place);
    let (rows, features) = encode_all(model, rows, progress)?;
    let lengths = rows.iter().zip(places.clone()).map(|(row, place)| (row.first_tokens(), place.to_string()));
    model.base.warn_of_context(lengths, progress);
    progress.start("Scoring", Some(rows.len() as u64), "rows");
    let mut scores = Vec::with_capacity(rows.len());
    for (row, place) in rows.into_iter().zip(places) {
        let of = |sequence: Tokenized| {
            let inputs = inputs(&sequence, features.as_ref())?;
            let said = infer::rewards(model.model.as_ref(), model.side(), &inputs).unwrap_or_default();
            match said.first().filter(|reward| reward.is_finite()) {
                Some(&reward) => Ok((reward, json!({"input_ids": sequence.input_ids, "reward": reward}))),
                None => Err(Error::new(Kind::NonFinite, "the reward is not finite")
                    .at(place.clone())
                    .hint("the model or its adapter is damaged, or had diverged in training")),
            }
        };
        let second = row.second_sequence();
        let (first, said) = of(row.first_sequence())?;
        scores.push(match second.map(of).transpose()? {
            None => said,
            Some((other, rejected)) => json!({"chosen": said, "rejected": rejected, "margin": first - other}),
        });
        progress.advance(1);
    }
    progress.finish();
    Ok(scores)
}

/// The tokens of all rows, and what the towers say of their pictures and sounds.
///
/// # Errors
/// When a row cannot be encoded, or has no tokens.
pub fn encode_all(
    model: &PeftModel,
    rows: &[Input],
    progress: &dyn Progress,
) -> Result<(Vec<Tokenized>, Option<Features>)> {
    let mut seen: Vec<Row> = rows.iter().map(|input| input.row.clone()).collect();
    let features = media::rows::features(seen.iter_mut().zip(rows.iter().map(|input| &input.place)), model, progress)?;
    let unread = rows.iter().map(|input| (&input.place, input.unread.as_deref()));
    media::rows::say_unread(unread, features.as_ref(), &model.base, progress);
    let encode = |(input, row): (&Input, &Row)| {
        let encoded = encode(&model.base.encoder, row).map_err(|e| e.or_at(input.place.clone()))?;
        if encoded.input_ids.is_empty() {
            return Err(Error::new(Kind::Data, "the row has no tokens").at(input.place.clone()));
        }
        Ok(encoded)
    };
    Ok((rows.iter().zip(&seen).map(encode).collect::<Result<_>>()?, features))
}

/// A row's tokens, with labels where training on it would learn: nowhere in a conversation without an answer.
fn encode(encoder: &Encoder, row: &Row) -> Result<Tokenized> {
    let unanswered = |talk: &Conversation| talk.messages.iter().all(|message| message.role != Role::Assistant);
    if !matches!(row, Row::Conversation(talk) if unanswered(talk)) {
        return Ok(Encode::encode(encoder, row, usize::MAX)?.tokens);
    }
    let mut encoded = Encode::encode(&encoder.clone().with_train_on(TrainOn::All), row, usize::MAX)?.tokens;
    encoded.labels.fill(IGNORE_INDEX);
    Ok(encoded)
}

/// What the model reads of a row.
fn inputs(row: &Tokenized, features: Option<&Features>) -> Result<Inputs> {
    media::inputs(row.input_ids.clone(), &row.media, features)
}

/// The mean of negated log-probabilities; `None` of none.
fn mean(logprobs: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = logprobs.fold((0.0, 0u64), |(sum, count), logprob| (sum - logprob, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Writes the logits row by row, so that only one row's are in memory.
fn save_logits(model: &PeftModel, rows: &[Tokenized], features: Option<&Features>, path: &Path) -> Result<()> {
    let words = model.model.config().vocab_size();
    let spec = |(i, row): (usize, &Tokenized)| TensorSpec {
        name: format!("logits.{i}"),
        dtype: HostDtype::F32,
        shape: vec![row.input_ids.len(), words],
    };
    let specs: Vec<TensorSpec> = rows.iter().enumerate().map(spec).collect();
    write_streamed(path, &specs, &[("format", "pt")], |spec| {
        let index = specs.iter().position(|other| other.name == spec.name).unwrap_or_default();
        let ids = &rows[index].input_ids;
        let hidden = infer::hidden(model.model.as_ref(), model.side(), &inputs(&rows[index], features)?);
        Ok(HostTensor::f32([ids.len(), words], infer::logits(model.model.as_ref(), &hidden, 0, ids.len())))
    })
}
