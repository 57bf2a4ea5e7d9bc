//! Texts that show how a run goes: rows as the model sees them, and its answers to evaluation prompts.

use crate::data::Preview;
use crate::error::Result;
use crate::infer::{self, CacheDtype, GenerationSettings, Sampling};
use crate::jobs::base::Base;
use crate::jobs::media::{inputs, processors::kind};
use crate::jobs::run::data::Data;
use crate::model::{Inputs, LanguageModel, SoftTokens};
use crate::nn::SidePath;
use crate::progress::counted;
use crate::text::{Encoder, IGNORE_INDEX, MediaRange, Tokenized};
use crate::train::event::{Doing, RowEvent, Sample, Underway};
use crate::train::step::Watch;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

/// Training rows that are shown before the first step.
const ROWS: usize = 2;

/// The most new tokens of a sampled answer.
pub const ANSWER_TOKENS: usize = 64;

/// Prompts that are answered at once.
pub const BATCH: usize = 8;

/// The first training rows as the model sees them.
///
/// # Errors
/// When a row cannot be read.
pub fn rows(data: &Data, base: &Base) -> Result<Vec<RowEvent>> {
    let previews = data.first_rows(&base.encoder, ROWS)?;
    let row = |(number, preview): (usize, Preview)| {
        let (text, supervised) = preview.marked();
        RowEvent { number, text, supervised }
    };
    Ok((1..).zip(previews).map(row).collect())
}

/// Prompts of evaluation rows, and what the rows answer.
pub struct Prompts {
    encoder: Encoder,
    stop_ids: Vec<u32>,
    /// Prompt and answer of each row.
    rows: Vec<(Inputs, Vec<u32>)>,
}

impl Prompts {
    /// The prompts of the first `count` evaluation rows that have one: all before the last answer. A row that is learnt
    /// from its beginning has none. `None` if no prompt is wanted.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn of(data: &Data, count: usize, base: &Base) -> Result<Option<Self>> {
        let Some(eval) = data.eval.as_ref().filter(|_| count > 0) else { return Ok(None) };
        let mut rows = Vec::new();
        for row in 0..eval.len() {
            if rows.len() == count {
                break;
            }
            let Some((prompt, media, answer)) = cut(eval.get(row)?) else { continue };
            rows.push((inputs(prompt, &media, data.features.as_ref())?, answer));
        }
        Ok(Some(Prompts { encoder: base.encoder.clone(), stop_ids: base.stop_ids(), rows }))
    }

    /// Answers them with the most likely tokens; `None` where `watch` stops it.
    pub fn answer(
        &self,
        model: &dyn LanguageModel,
        side: &dyn SidePath,
        watch: Watch<Underway>,
    ) -> Option<Vec<Sample>> {
        let settings = GenerationSettings {
            max_new_tokens: ANSWER_TOKENS,
            sampling: Sampling::GREEDY,
            stop: self.stop_ids.clone(),
            seed: 0,
            first_prompt: 0,
            drafts: 0,
            cache_dtype: CacheDtype::F32,
        };
        let stopped = || watch.stop.load(Ordering::Relaxed);
        let mut answers = Vec::with_capacity(self.rows.len());
        let mut underway = Underway { doing: Doing::Answering, done: 0, of: self.rows.len(), tokens: 0 };
        for rows in self.rows.chunks(BATCH) {
            let prompts: Vec<Inputs> = rows.iter().map(|(prompt, _)| prompt.clone()).collect();
            let go_on = |_, _| {
                underway.tokens += 1;
                (watch.on_progress)(underway);
                if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            answers.extend(infer::generate(model, side, &prompts, &settings, go_on));
            underway.done = answers.len();
            if stopped() {
                return None;
            }
        }
        let sample = |((prompt, reference), answer): (&(Inputs, Vec<u32>), infer::Generated)| Sample {
            prompt: self.read_out(prompt),
            completion: self.encoder.decode(&answer.tokens),
            reference: self.encoder.decode(reference),
        };
        Some(self.rows.iter().zip(answers).map(sample).collect())
    }

    /// A prompt for the eye: of a picture or sound that it is there, not its placeholders, which are hundreds.
    fn read_out(&self, prompt: &Inputs) -> String {
        let mut text = String::new();
        let mut from = 0;
        for SoftTokens { rows, modality, .. } in &prompt.soft_tokens {
            text += &self.encoder.decode(&prompt.input_ids[from..rows.start]);
            text += &format!("[{}: {}]", kind(*modality).name(), counted(rows.len(), "token"));
            from = rows.end;
        }
        text + &self.encoder.decode(&prompt.input_ids[from..])
    }
}

/// A row as all before its last answer, the pictures and sounds in that, and the answer; `None` of a row without a prompt, and of an
/// answer that is not wanted.
pub fn cut(row: Tokenized) -> Option<(Vec<u32>, Vec<MediaRange>, Vec<u32>)> {
    if row.desirable == Some(false) {
        return None;
    }
    let learnt = |at: usize| row.labels[at] != IGNORE_INDEX;
    // Of a pair the answer that is preferred.
    let end = (0..row.first_tokens()).rfind(|&at| learnt(at))? + 1;
    let start = (0..end).rfind(|&at| !learnt(at))? + 1;
    let media = row.media.into_iter().filter(|medium| medium.tokens.end <= start).collect();
    Some((row.input_ids[..start].to_vec(), media, row.input_ids[start..end].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_all_before_the_last_answer() {
        let row = |labels: &[i32]| Tokenized {
            input_ids: (10..10 + labels.len() as u32).collect(),
            labels: labels.to_vec(),
            ..Tokenized::default()
        };
        assert_eq!(cut(row(&[-100, 11, -100, 13, 14])), Some((vec![10, 11, 12], vec![], vec![13, 14])));
        assert_eq!(cut(row(&[-100, -100, 12, -100])), Some((vec![10, 11], vec![], vec![12])));
        assert_eq!(cut(row(&[10, 11])), None, "no prompt");
        assert_eq!(cut(Tokenized { desirable: Some(false), ..row(&[-100, 11]) }), None, "a bad answer");
        assert_eq!(cut(row(&[-100, -100])), None, "no answer");
    }
}
