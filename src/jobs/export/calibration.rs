//! What a model is read with before its numbers are rounded: texts that show which of them count.

use crate::error::{Error, Kind, Place, Result};
use crate::export::gguf::importance::{Importance, Squares};
use crate::infer::score;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::score::Input;
use crate::model::{Inputs, LanguageModel};
use crate::nn::InputSquares;
use crate::progress::{Progress, counted};
use crate::text::Encoder;
use crate::weights::names::TensorId;
use std::collections::BTreeMap;
use std::path::Path;

/// The most tokens that are read at once, as llama.cpp's own tool reads them.
const STRETCH: usize = 512;

/// Texts as tokens, in stretches of at most [`STRETCH`].
pub struct Texts {
    /// The stretches.
    pub stretches: Vec<Vec<u32>>,
    /// The file's name, without its folder.
    pub name: String,
}

impl Texts {
    /// Reads a plain text (`.txt`, `.md`), or rows as `score` takes them.
    ///
    /// # Errors
    /// When the file cannot be read, a row is none, or there is too little text.
    pub fn read(path: &Path, encoder: &Encoder, progress: &dyn Progress) -> Result<Self> {
        let is_text = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt") || e.eq_ignore_ascii_case("md"));
        let rows = match is_text {
            true => {
                let text = crate::input::read_to_string(path).map_err(|e| Error::io("reading", path, e))?;
                vec![Input::of_text(text, Place::Path(path.into())).tokens(encoder)?]
            }
            false => Input::read(path, progress)?.iter().map(|input| input.tokens(encoder)).collect::<Result<_>>()?,
        };
        let stretches: Vec<Vec<u32>> = rows.iter().flat_map(|row| row.chunks(STRETCH)).map(<[u32]>::to_vec).collect();
        let stretches: Vec<Vec<u32>> = stretches.into_iter().filter(|stretch| stretch.len() > 1).collect();
        if stretches.is_empty() {
            return Err(Error::new(Kind::Data, "there is no text of two tokens").at_path(path));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Texts { stretches, name })
    }

    /// What is known of the importance that they show before a model has read them.
    pub fn unread(&self) -> Importance {
        let chunks = [self.stretches.len() as u64, STRETCH as u64];
        Importance { dataset: self.name.clone(), chunks, ..Importance::default() }
    }

    /// Their tokens.
    pub fn tokens(&self) -> usize {
        self.stretches.iter().map(Vec::len).sum()
    }

    /// What comes into each matrix while the model reads them.
    pub fn importance(&self, model: &PeftModel, progress: &dyn Progress) -> Importance {
        let decoder = model.model.as_ref();
        let squares = InputSquares::new(model.side());
        let mut of_head = Squares::default();
        progress.start("Calibrating", Some(self.tokens() as u64), "tokens");
        for stretch in &self.stretches {
            let hidden = score::hidden(decoder, &squares, &Inputs::of(stretch.clone()));
            let [rows, width] = hidden.dims();
            of_head.sums.resize(width, 0.0);
            of_head.tokens += rows as u64;
            for (i, value) in hidden.into_data().iter::<f32>().enumerate() {
                of_head.sums[i % width] += value * value;
            }
            progress.advance(stretch.len() as u64);
        }
        progress.finish();
        let names: BTreeMap<usize, TensorId> =
            model.base.config.all_sites().into_iter().map(|site| (site.index, site.weight)).collect();
        let mut of: BTreeMap<TensorId, Squares> = squares
            .into_sums()
            .into_iter()
            .filter_map(|(site, (sums, tokens))| {
                let sums = sums.into_iter().map(|sum| sum as f32).collect();
                Some((*names.get(&site)?, Squares { sums, tokens }))
            })
            .collect();
        of.insert(head_of(decoder), of_head);
        progress.note(&format!("What counts was measured on {} of `{}`.", counted(self.tokens(), "token"), self.name));
        Importance { of, ..self.unread() }
    }
}

/// The matrix that makes logits.
pub fn head_of(model: &dyn LanguageModel) -> TensorId {
    if model.config().tie_word_embeddings() { TensorId::EmbedTokens } else { TensorId::LmHead }
}
