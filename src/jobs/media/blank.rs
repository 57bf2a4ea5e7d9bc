//! Proof, before the first step, that pictures and sounds reach the loss: with empty ones it is another.

use super::features::Features;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::jobs::run::batches::row_batch;
use crate::model::LanguageModel;
use crate::nn::SidePath;
use crate::text::MediaKind;
use crate::train::backprop;

/// What was found of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// What it holds.
    pub kind: MediaKind,
    /// Where it came from.
    pub row: String,
    /// Its mean loss.
    pub loss: f64,
    /// With an empty picture, or silence.
    pub blank_loss: f64,
}

impl Counts {
    /// The sentence about it.
    pub fn describe(&self) -> String {
        let (what, blank) = match self.kind {
            MediaKind::Image => ("Pictures", "an empty picture"),
            MediaKind::Audio => ("Sounds", "silence"),
        };
        let Counts { row, loss, blank_loss, .. } = self;
        format!("{what} count: the loss of {row} is {loss:.4}, and {blank_loss:.4} with {blank} in their place.")
    }
}

/// Compares the loss of the first row of each kind with that of the same row with empty ones.
///
/// # Errors
/// When the loss is the same: the model would be trained on placeholders. When a row cannot be read.
pub fn prove(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    dataset: &Dataset,
    features: &Features,
) -> Result<Vec<Counts>> {
    let mut found: Vec<Counts> = Vec::new();
    let kinds = MediaKind::ALL.into_iter().filter(|&kind| dataset.media().count(kind) > 0);
    for kind in kinds {
        for row in 0..dataset.len() {
            let tokens = dataset.get(row)?;
            // All media before what is learnt: what comes after plays no part.
            let Some(learnt) = tokens.labels.iter().rposition(|&label| label != crate::text::IGNORE_INDEX) else {
                continue;
            };
            if !tokens.media.iter().any(|medium| medium.kind == kind && medium.tokens.end <= learnt) {
                continue;
            }
            let soft = features.soft_tokens(&tokens.media)?;
            let mut blanks = features.blanks(&tokens.media)?;
            for (blank, (soft, medium)) in blanks.iter_mut().zip(soft.iter().zip(&tokens.media)) {
                if medium.kind != kind {
                    *blank = soft.clone();
                }
            }
            let loss = |soft| {
                let batch = row_batch(&tokens, soft);
                backprop::loss(model, side, &batch) / (batch.supervised() as f64).max(1.0)
            };
            let (loss, blank_loss, row) = (loss(soft), loss(blanks), dataset.origin(row)?.to_string());
            let counts = Counts { kind, row, loss, blank_loss };
            if loss == blank_loss {
                let what = format!(
                    "the loss of {} is {loss:.6} with its {} and with an empty one: what is trained on does not depend on it",
                    counts.row,
                    kind.name()
                );
                return Err(Error::new(Kind::Run, what)
                    .hint("the weights that look at it are missing, zero or damaged, or the picture is empty"));
            }
            found.push(counts);
            break;
        }
    }
    Ok(found)
}
