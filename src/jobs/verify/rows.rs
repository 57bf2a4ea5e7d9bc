//! The rows that models are compared on.

use crate::data::Dataset;
use crate::error::{Error, Kind, Place, Result};
use crate::jobs::base::Base;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::media::Features;
use crate::jobs::run::data::Data;
use crate::jobs::run::folder;
use crate::jobs::score::{self, Input};
use crate::progress::counted;
use crate::recipe;
use crate::report::ProgressBar;
use crate::text::Tokenized;
use crate::weights::{Holding, HostDtype};
use serde_json::json;
use std::path::Path;

/// What is read where nobody names rows, and the run has none of its own.
const TEXT: &str = "The harbour master wrote down every ship that came in: its name, its home port, what it carried and who \
had sailed it. In summer there were twenty a day, in winter sometimes none for a week. On the third of March a schooner \
arrived with 1,250 crates of oranges, two of which were given to the school. \"What do you do,\" a child asked him, \"when \
two ships want the same berth?\" He thought for a moment. \"The one that is loaded comes first, because fruit does not \
wait; and if both are loaded, the smaller one, since it is out again sooner.\" Then he closed the book, put the pen back \
into its holder and went to light the lamp at the end of the pier.\n\ndef berth(ships):\n    return sorted(ships, \
key=lambda ship: (not ship.loaded, ship.length))\n";

/// The same with turns.
const TALK: [(&str, &str); 4] = [
    ("user", "Which is farther from the sun, Mars or Venus?"),
    ("assistant", "Mars. Venus is about 108 million kilometres away from the sun, Mars about 228 million."),
    ("user", "And how long is a year on Mars?"),
    ("assistant", "About 687 days on Earth, nearly two of our years."),
];

/// Rows, and where they are from.
pub struct Rows {
    /// Where they are from, for people.
    pub from: String,
    of: Of,
    /// What ends a text or an answer of the base.
    stop_ids: Vec<u32>,
}

enum Of {
    /// As the user gave them, or built in.
    Inputs(Vec<Input>),
    /// Prepared by the run that made the adapter: its evaluation rows.
    Run(Box<Data>),
}

/// A row that is compared.
pub struct Compared {
    /// Its tokens.
    pub tokens: Tokenized,
    /// Of them, those that are read: the others are beyond what is compared.
    pub read: usize,
    /// Its number among all rows, for messages.
    pub place: String,
}

impl Compared {
    /// The positions whose next words are compared: none of a picture or sound.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        let is_medium = |at: usize| self.tokens.media.iter().any(|medium| medium.tokens.contains(&at));
        (0..self.read).filter(move |at| !is_medium(*at))
    }
}

impl Rows {
    /// Those given, else the evaluation rows of the run that the adapter's folder is in, else built-in ones.
    ///
    /// # Errors
    /// A model without a tokenizer where there is nothing but built-in text.
    pub fn find(given: Option<(&Path, Vec<Input>)>, adapter: &Path, base: &Base, screen: &ProgressBar) -> Result<Self> {
        if let Some((path, rows)) = given {
            return Ok(Rows { from: format!("`{}`", path.display()), of: Of::Inputs(rows), stop_ids: base.stop_ids() });
        }
        match folder::recipe_beside(adapter).map(|recipe| evaluation_rows(&recipe, base, screen)) {
            Some(Ok(Some(data))) => {
                let is_prompts = data.eval.as_ref().is_some_and(|eval| eval.stats().supervised_tokens == 0);
                let answers = match data.eval.as_ref().is_some_and(Dataset::has_pairs) {
                    true => ", of each pair the preferred answer",
                    false if is_prompts => ", which are prompts",
                    false => "",
                };
                let from = format!("the evaluation rows of the adapter's run{answers}");
                return Ok(Rows { from, of: Of::Run(Box::new(data)), stop_ids: base.stop_ids() });
            }
            Some(Ok(None)) => screen.note("The adapter's run has no evaluation rows: a built-in text is read."),
            Some(Err(error)) => screen.note(&format!(
                "The evaluation rows of the adapter's run cannot be read ({}): a built-in text is read.",
                error.what()
            )),
            None => {}
        }
        Rows::built_in(base)
    }

    fn built_in(base: &Base) -> Result<Self> {
        base.tokenizer().map_err(|e| e.hint("name rows of token ids with `--input`"))?;
        let talk: Vec<_> = TALK.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        let rows = [json!({"text": TEXT}), json!({"messages": talk})].into_iter().filter_map(|row| match row {
            serde_json::Value::Object(row) => Some(Input::new(&row, Place::Named("the built-in text".into()))),
            _ => None,
        });
        let of = Of::Inputs(rows.collect::<Result<_>>()?);
        Ok(Rows { from: "a built-in text".into(), of, stop_ids: base.stop_ids() })
    }

    /// The first rows, until they have `most` tokens: the last of them is cut. Without towers, rows of pictures or sounds are
    /// left out where the run has them, and said; see [`without_media`] of those that the user gave.
    ///
    /// # Errors
    /// A row that cannot be encoded; none that is left.
    pub fn compared(
        &mut self,
        model: &PeftModel,
        most: usize,
        without_towers: bool,
        screen: &ProgressBar,
    ) -> Result<(Vec<Compared>, Option<Features>)> {
        let (all, features) = match &mut self.of {
            Of::Inputs(rows) => score::encode_all(model, rows, screen)?,
            Of::Run(data) => {
                let Some(eval) = &data.eval else { return Err(nothing()) };
                let mut all = Vec::new();
                let mut left_out = 0;
                let mut tokens = 0;
                for row in 0..eval.len() {
                    let row = eval.get(row)?.first_sequence();
                    if without_towers && !row.media.is_empty() {
                        left_out += 1;
                        continue;
                    }
                    tokens += row.input_ids.len();
                    all.push(row);
                    if tokens >= most {
                        break;
                    }
                }
                if left_out > 0 {
                    let rows = counted(left_out, "row");
                    screen.note(&format!("{rows} with pictures or sounds left out: a GGUF file has no towers."));
                }
                (all, None)
            }
        };
        let has_media = all.iter().any(|row| !row.media.is_empty());
        let features = match &self.of {
            Of::Run(_) if has_media => self.features(model, screen)?,
            _ => features,
        };
        let total = all.len();
        let mut left = most;
        let mut rows = Vec::new();
        for (i, tokens) in all.into_iter().enumerate() {
            let read = tokens.input_ids.len().min(left);
            if read == 0 {
                break;
            }
            left -= read;
            rows.push(Compared { tokens, read, place: format!("row {} of {total}", i + 1) });
        }
        if rows.iter().all(|row| row.positions().next().is_none()) {
            return Err(nothing());
        }
        Ok((rows, features))
    }

    /// What the towers of another model say of the same rows, and whether its tokenizer makes the same tokens of them;
    /// `None` where it has none, or was not asked.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    pub fn under(
        &mut self,
        model: &PeftModel,
        rows: &[Compared],
        screen: &ProgressBar,
    ) -> Result<(Option<Features>, Option<bool>)> {
        match &self.of {
            Of::Inputs(inputs) if model.base.encoder.tokenizer().is_some() => {
                let (theirs, features) = score::encode_all(model, inputs, screen)?;
                // What ends a text is a convention of its file, and no text that anybody types.
                let ends = [self.stop_ids.as_slice(), &model.base.stop_ids()].concat();
                let is_end = |id: &u32| ends.contains(id);
                let text = |ids: &[u32]| ids.iter().rev().skip_while(|id| is_end(id)).copied().collect::<Vec<_>>();
                let alike =
                    |(ours, theirs): (&Compared, &Tokenized)| text(&ours.tokens.input_ids) == text(&theirs.input_ids);
                let alike = rows.iter().zip(&theirs).all(alike);
                Ok((features, Some(alike)))
            }
            Of::Inputs(_) => Ok((None, None)),
            Of::Run(_) if rows.iter().any(|row| !row.tokens.media.is_empty()) => {
                Ok((self.features(model, screen)?, None))
            }
            Of::Run(_) => Ok((None, None)),
        }
    }

    /// What the towers of a model say of the run's rows.
    fn features(&mut self, model: &PeftModel, screen: &ProgressBar) -> Result<Option<Features>> {
        let Of::Run(data) = &mut self.of else { return Ok(None) };
        match model.on_towers {
            true => data.leave_media(&model.compute),
            false => {
                let holding = Holding { compute_dtype: Some(HostDtype::F32), ..Holding::dense(model.holding.dtype) };
                data.encode_media(&model.base, &holding, &model.compute, screen)?;
            }
        }
        Ok(data.features.take())
    }
}

/// Refuses rows with pictures or sounds, where something that has no towers is to read them.
///
/// # Errors
/// The first of them.
pub fn without_media(rows: &[Input]) -> Result<()> {
    let Some(row) = rows.iter().find(|row| row.has_media()) else { return Ok(()) };
    Err(Error::new(Kind::Data, "the rows show pictures or sounds, and a GGUF file has no towers")
        .at(row.place().clone())
        .hint("leave `--gguf` out, or name rows of text with `--input`"))
}

fn nothing() -> Error {
    Error::new(Kind::Data, "there is no row to compare models on").hint("name rows with `--input`")
}

/// The evaluation rows of a run; `None` if it has none.
fn evaluation_rows(recipe: &Path, base: &Base, screen: &ProgressBar) -> Result<Option<Data>> {
    let recipe = recipe::load(recipe, &[])?;
    let data = Data::prepare(&recipe, base, screen)?;
    Ok(data.eval.as_ref().is_some_and(|eval| !eval.is_empty()).then_some(data))
}
