//! Answers to prompts.

use crate::data::{self, Row, RowFormat};
use crate::error::{Error, Kind, Place, Result};
use crate::infer::{self, FinishReason, GenerationSettings, Sampling};
use crate::jobs::base::Base;
use crate::jobs::base::peft_model::PeftModel;
use crate::progress::Progress;
use crate::text::{Conversation, Message, Role};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::Path;

/// How prompts are answered.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// At most this many new tokens per answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Decides what is sampled.
    pub seed: u64,
    /// Take prompts as plain text.
    pub raw: bool,
    /// Prompts that run at once.
    pub batch_size: usize,
}

/// Something to answer.
#[derive(Debug, Clone)]
pub struct Prompt {
    row: Map<String, Value>,
    conversation: Conversation,
    place: Place,
}

/// What the model said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text.
    pub completion: String,
    /// Tokens in it.
    pub tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

impl Prompt {
    /// A user's message.
    pub fn text(text: &str) -> Self {
        let conversation = user(text);
        let row = Map::from_iter([("prompt".to_owned(), Value::from(text))]);
        Prompt { row, conversation, place: Place::Named("--prompt".into()) }
    }

    /// The rows of a file of JSON lines, `{"messages": [..]}` or `{"prompt": ".."}`.
    ///
    /// # Errors
    /// When the file cannot be read, and the first row that is neither.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let rows = data::read_jsonl(path)?.into_iter();
        rows.map(|(row, object)| Prompt::from_row(object, Place::Row { path: path.into(), row })).collect()
    }

    /// A row `{"messages": [..]}` or `{"prompt": ".."}`.
    ///
    /// # Errors
    /// When it is neither.
    fn from_row(row: Map<String, Value>, place: Place) -> Result<Self> {
        let conversation = match row.get("prompt") {
            Some(Value::String(text)) => user(text),
            Some(_) => return Err(Error::new(Kind::Data, "`prompt` must be a text").at(place)),
            None => conversation(&row).map_err(|e| e.or_at(place.clone()))?,
        };
        Ok(Prompt { row, conversation, place })
    }

    /// The row with its answer.
    pub fn with(&self, answer: &Answer) -> Value {
        let mut row = self.row.clone();
        row.insert("completion".into(), json!(answer.completion));
        row.insert("tokens".into(), json!(answer.tokens));
        row.insert("finish_reason".into(), json!(answer.finish_reason));
        Value::Object(row)
    }
}

fn user(text: &str) -> Conversation {
    Conversation { messages: vec![Message::new(Role::User, text)], tools: Vec::new() }
}

/// The conversation of a row in the `messages` format.
///
/// # Errors
/// When the row is none.
pub fn conversation(row: &Map<String, Value>) -> Result<Conversation> {
    match RowFormat::Messages.parse(row)? {
        Row::Conversation(conversation) => Ok(conversation),
        _ => Err(Error::new(Kind::Data, "the row has neither `messages` nor `prompt`")),
    }
}

/// Answers prompts, several at once.
///
/// # Errors
/// When the model has no tokenizer, or a prompt cannot be rendered: before anything is generated. When the model computes
/// numbers that are not finite.
pub fn generate(
    model: &PeftModel,
    prompts: &[Prompt],
    options: &GenerateOptions,
    progress: &dyn Progress,
) -> Result<Vec<Answer>> {
    let tokenizer = model.base.tokenizer()?;
    let encoded: Vec<Vec<u32>> =
        prompts.iter().map(|prompt| encode(&model.base, prompt, options.raw)).collect::<Result<_>>()?;
    let mut generation = GenerationSettings {
        max_new_tokens: options.max_tokens,
        sampling: options.sampling,
        stop: model.base.stop_ids(),
        seed: options.seed,
        first_prompt: 0,
    };
    progress.start("Generating", None, "tokens");
    let mut answers = Vec::with_capacity(prompts.len());
    for batch in encoded.chunks(options.batch_size.max(1)) {
        let count = |_, _| {
            progress.advance(1);
            ControlFlow::Continue(())
        };
        let generated = infer::generate(&model.model, model.side(), batch, &generation, count);
        let places = prompts[generation.first_prompt..].iter().map(|prompt| &prompt.place);
        generation.first_prompt += batch.len();
        for (generated, place) in generated.into_iter().zip(places) {
            let generated = generated.checked().map_err(|e| e.at(place.clone()))?;
            answers.push(Answer {
                completion: tokenizer.decode(&generated.tokens, true),
                tokens: generated.tokens.len(),
                finish_reason: generated.finish_reason,
            });
        }
    }
    progress.finish();
    Ok(answers)
}

/// The ids of a prompt.
fn encode(base: &Base, prompt: &Prompt, raw: bool) -> Result<Vec<u32>> {
    if !raw {
        return base.encoder.encode_prompt(&prompt.conversation).map_err(|e| e.or_at(prompt.place.clone()));
    }
    let Some(Value::String(text)) = prompt.row.get("prompt") else {
        return Err(Error::new(Kind::Data, "`--raw` takes rows with `prompt` only").at(prompt.place.clone()));
    };
    let tokenizer = base.tokenizer()?;
    Ok(tokenizer.bos().into_iter().chain(tokenizer.encode(text)?).collect())
}
