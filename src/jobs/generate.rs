//! Answers to prompts.

mod journal;

use self::journal::{Journal, Sizes};
use crate::adapter::peft;
use crate::atomic;
use crate::data::{self, JsonRow, Row, RowFormat};
use crate::error::{Error, Kind, Place, Result};
use crate::fence::fenced;
use crate::infer::{self, CacheDtype, FinishReason, GenerationSettings, Sampling};
use crate::jobs::base::Base;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::media::{self, Features};
use crate::progress::{Progress, counted};
use crate::text::{Conversation, MediaRange, Message, Role};
use crate::train::checkpoint::Fingerprint;
use crate::weights::HostDtype;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::journal::{check_journal, is_begun, is_finished};

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
    /// The most tokens that are guessed at once, where one prompt runs at a time; no answer depends on it.
    pub drafts: usize,
    /// What keys and values are held in.
    pub cache_dtype: CacheDtype,
}

/// Something to answer.
#[derive(Debug, Clone)]
pub struct Prompt {
    row: Map<String, Value>,
    text: String,
    conversation: Conversation,
    place: Place,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub completion: String,
    /// Tokens in it.
    pub tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// How answering ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every prompt has its answer.
    Done,
    /// The user asked to stop; the answers so far are kept.
    Interrupted {
        /// Answers that are kept.
        answers: usize,
    },
}

impl Prompt {
    /// A user's message.
    pub fn text(text: &str) -> Self {
        let row = Map::from_iter([("prompt".to_owned(), Value::from(text))]);
        let written = Value::Object(row.clone()).to_string();
        Prompt { row, text: written, conversation: user(text), place: Place::Named("--prompt".into()) }
    }

    /// The rows of a file, `{"messages": [..]}` or `{"prompt": ".."}`.
    ///
    /// # Errors
    /// When the file cannot be read, and the first row that is neither, or both.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        data::read_rows(path)?.into_iter().map(|row| Prompt::from_row(row, path)).collect()
    }

    fn from_row(row: JsonRow, path: &Path) -> Result<Self> {
        let JsonRow { number, object: row, text } = row;
        let place = Place::Row { path: path.into(), row: number };
        let at = |error: Error| error.or_at(place.clone());
        let conversation = match data::one_column(&row, &["prompt", "messages"], "answered").map_err(at)? {
            Some("prompt") => match row.get("prompt") {
                Some(Value::String(text)) => asked(&row, text).map_err(at)?,
                _ => return Err(at(Error::new(Kind::Data, "`prompt` must be a text"))),
            },
            _ => conversation(&row).map_err(at)?,
        };
        Ok(Prompt { row, text, conversation, place })
    }

    /// The row with its answer, as a line of JSON. What the row holds beside keeps its bytes.
    pub fn with(&self, answer: &Answer) -> String {
        data::with_fields(
            &self.text,
            &[
                ("completion", json!(answer.completion)),
                ("tokens", json!(answer.tokens)),
                ("finish_reason", json!(answer.finish_reason)),
            ],
        )
    }
}

fn user(text: &str) -> Conversation {
    Conversation { messages: vec![Message::new(Role::User, text)], tools: Vec::new() }
}

/// The user's message of a row with a prompt, and with the pictures and sounds that its columns hold beside it.
///
/// # Errors
/// Columns that hold something else than pictures or sounds.
fn asked(row: &Map<String, Value>, prompt: &str) -> Result<Conversation> {
    if data::media_column(row).is_none() {
        return Ok(user(prompt));
    }
    let mut row = row.clone();
    row.remove("prompt");
    row.insert("messages".into(), json!([{"role": "user", "content": prompt}]));
    conversation(&row)
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

/// Answers prompts, several at once; `each` sees every prompt with its answer, in order, as they come.
///
/// # Errors
/// When the model has no tokenizer, or a prompt cannot be rendered: before anything is generated; when the model computes
/// numbers that are not finite; and those of `each`.
pub fn generate(
    model: &PeftModel,
    prompts: &[Prompt],
    options: &GenerateOptions,
    progress: &dyn Progress,
    each: &mut dyn FnMut(&Prompt, &Answer) -> Result<()>,
) -> Result<()> {
    let (encoded, features) = encode_all(model, prompts, options, progress)?;
    warn_of_context(&model.base, prompts, &encoded, options, progress);
    let go_on = AtomicBool::new(false);
    let mut done = 0;
    let features = features.as_ref();
    run(model, &Asked { prompts, encoded: &encoded, features, done }, options, &go_on, progress, &mut |answers| {
        let answered = prompts[done..].iter().zip(answers);
        done += answers.len();
        answered.into_iter().try_for_each(|(prompt, answer)| each(prompt, answer))
    })
    .map(|_| ())
}

/// Answers prompts into what is no regular file: a pipe, a device. Rows are written as they come.
///
/// # Errors
/// As [`generate`], and when a row cannot be written.
pub fn generate_into(
    model: &PeftModel,
    prompts: &[Prompt],
    options: &GenerateOptions,
    output: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    // The writer of files speaks io::Error: ours is kept aside.
    let mut failure = None;
    let written = atomic::write_with(output, |writer| {
        let mut each = |prompt: &Prompt, answer: &Answer| {
            let line = writeln!(writer, "{}", prompt.with(answer)).and_then(|()| writer.flush());
            line.map_err(|e| Error::io("writing", output, e))
        };
        generate(model, prompts, options, progress, &mut each).map_err(|e| {
            failure = Some(e);
            io::Error::other("no answers")
        })
    });
    failure.map_or(written, Err)
}

/// Answers prompts into a file, which appears when all have their answers. Until then the answers lie in a journal
/// beside it, which `resume` continues: the file is the same as without an interruption.
///
/// # Errors
/// As [`generate`], when the journal belongs to other prompts, another model or other options, or when a file cannot be
/// written.
pub fn generate_to_file(
    model: &PeftModel,
    prompts: &[Prompt],
    options: &GenerateOptions,
    output: &Path,
    resume: bool,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Ending> {
    let (encoded, features) = encode_all(model, prompts, options, progress)?;
    warn_of_context(&model.base, prompts, &encoded, options, progress);
    let sizes = Sizes { prompts: prompts.len(), batch: options.batch_size.max(1) };
    let identity = identity(model, prompts, &encoded, options)?;
    let mut journal = Journal::open(output, resume, &identity, sizes, progress)?;
    let done = journal.answers().len();
    if done > 0 {
        progress.note(&format!("Continuing after {done} of {}", counted(prompts.len(), "answer")));
    }
    let asked = Asked { prompts, encoded: &encoded, features: features.as_ref(), done };
    run(model, &asked, options, stop, progress, &mut |answers| journal.append(answers))?;
    let answers = journal.answers().len();
    if answers < prompts.len() {
        return Ok(Ending::Interrupted { answers });
    }
    let rows = prompts.iter().zip(journal.answers());
    atomic::write_with(output, |writer| {
        rows.into_iter().try_for_each(|(prompt, answer)| writeln!(writer, "{}", prompt.with(answer)))
    })?;
    journal.remove()?;
    Ok(Ending::Done)
}

/// The ids of all prompts, and what the towers say of their pictures and sounds.
fn encode_all(
    model: &PeftModel,
    prompts: &[Prompt],
    options: &GenerateOptions,
    progress: &dyn Progress,
) -> Result<(Vec<Encoded>, Option<Features>)> {
    model.base.tokenizer()?;
    let mut rows: Vec<Row> = prompts.iter().map(|prompt| Row::Conversation(prompt.conversation.clone())).collect();
    let placed = rows.iter_mut().zip(prompts.iter().map(|prompt| &prompt.place));
    let features = media::rows::features(placed, model, progress)?;
    let unread: Vec<_> = prompts.iter().map(|prompt| data::unread_beside_prompt(&prompt.row)).collect();
    let unread = prompts.iter().map(|prompt| &prompt.place).zip(unread.iter().map(Option::as_deref));
    media::rows::say_unread(unread, features.as_ref(), &model.base, progress);
    let encode = |(prompt, row): (&Prompt, &Row)| match row {
        Row::Conversation(conversation) => encode(&model.base, prompt, conversation, options.raw),
        _ => Err(Error::new(Kind::Run, "a prompt is no conversation")),
    };
    Ok((prompts.iter().zip(&rows).map(encode).collect::<Result<_>>()?, features))
}

/// Warns of prompts that leave no room for their answers.
fn warn_of_context(
    base: &Base,
    prompts: &[Prompt],
    encoded: &[Encoded],
    options: &GenerateOptions,
    progress: &dyn Progress,
) {
    let lengths = prompts.iter().zip(encoded).map(|(prompt, (ids, _))| {
        let what = format!("{} with an answer of {}", prompt.place, counted(options.max_tokens, "token"));
        (ids.len().saturating_add(options.max_tokens), what)
    });
    base.warn_of_context(lengths, progress);
}

/// Prompts with their ids; the first `done` of them, a multiple of the batch size, are answered.
struct Asked<'a> {
    prompts: &'a [Prompt],
    encoded: &'a [Encoded],
    features: Option<&'a Features>,
    done: usize,
}

/// Answers the prompts that are not `done`, until `stop`; `each` takes the answers of every batch. A batch that is
/// stopped gives none.
fn run(
    model: &PeftModel,
    asked: &Asked,
    options: &GenerateOptions,
    stop: &AtomicBool,
    progress: &dyn Progress,
    each: &mut dyn FnMut(&[Answer]) -> Result<()>,
) -> Result<()> {
    let tokenizer = model.base.tokenizer()?;
    let mut generation = GenerationSettings {
        max_new_tokens: options.max_tokens,
        sampling: options.sampling,
        stop: model.base.stop_ids(),
        seed: options.seed,
        first_prompt: asked.done,
        drafts: options.drafts,
        cache_dtype: options.cache_dtype,
    };
    progress.start("Generating", None, "tokens");
    let stopped = || stop.load(Ordering::SeqCst);
    for batch in asked.encoded[asked.done.min(asked.encoded.len())..].chunks(options.batch_size.max(1)) {
        let count = |_, _| {
            progress.advance(1);
            if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let inputs = batch
            .iter()
            .map(|(ids, media)| media::inputs(ids.clone(), media, asked.features))
            .collect::<Result<Vec<_>>>()?;
        let places = asked.prompts[generation.first_prompt..].iter().map(|prompt| &prompt.place);
        let first = places.clone().next().map(|place| format!(" {place}")).unwrap_or_default();
        let generated = fenced(&format!("answering{first}"), || {
            infer::generate(model.model.as_ref(), model.side(), &inputs, &generation, count)
        })?;
        if stopped() {
            break;
        }
        generation.first_prompt += batch.len();
        let answer = |(generated, place): (infer::Generated, &Place)| {
            let generated = generated.checked().map_err(|e| e.at(place.clone()))?;
            Ok(Answer {
                completion: tokenizer.decode(&generated.tokens, true),
                tokens: generated.tokens.len(),
                finish_reason: generated.finish_reason,
            })
        };
        each(&generated.into_iter().zip(places).map(answer).collect::<Result<Vec<_>>>()?)?;
    }
    progress.finish();
    Ok(())
}

/// What decides the answers, by the options that say it.
fn identity(
    model: &PeftModel,
    prompts: &[Prompt],
    encoded: &[Encoded],
    options: &GenerateOptions,
) -> Result<Fingerprint> {
    let mut rows = blake3::Hasher::new();
    for (prompt, (ids, media)) in prompts.iter().zip(encoded) {
        rows.update(&(prompt.text.len() as u64).to_le_bytes()).update(prompt.text.as_bytes());
        rows.update(&(ids.len() as u64).to_le_bytes());
        for id in ids {
            rows.update(&id.to_le_bytes());
        }
        for medium in media {
            rows.update(&medium.content);
        }
    }
    // Guesses change no answer.
    let GenerateOptions { max_tokens, sampling, seed, raw, batch_size, drafts: _, cache_dtype } = options;
    Ok(Fingerprint::new()
        .with("--input", rows.finalize().to_hex().to_string())
        .with("--model", &model.base.fingerprint)
        .with("--adapter", model.adapter_folder.as_deref().map_or(Ok(String::new()), adapter_hash)?)
        .with("--dtype", model.holding.dtype.map_or("auto", HostDtype::name))
        .with("--compute-dtype", model.holding.computes_in())
        .with("--cache-dtype", cache_dtype.name())
        .with("--device", &model.compute.name)
        .with("--max-tokens", max_tokens.to_string())
        .with("--temperature", sampling.temperature.to_string())
        .with("--top-k", sampling.top_k.to_string())
        .with("--top-p", sampling.top_p.to_string())
        .with("--seed", seed.to_string())
        .with("--raw", raw.to_string())
        .with("--batch-size", batch_size.to_string())
        .with("number of threads", model.compute.threads.to_string())
        .with("program's version", env!("CARGO_PKG_VERSION")))
}

/// A hash of the files of an adapter that it is made of.
fn adapter_hash(folder: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for name in [peft::CONFIG_FILE, peft::TENSORS_FILE] {
        let path = folder.join(name);
        crate::input::open(&path)
            .and_then(|file| hasher.update_reader(file).map(drop))
            .map_err(|e| Error::io("reading", &path, e))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A prompt's ids, and where its pictures and sounds are.
type Encoded = (Vec<u32>, Vec<MediaRange>);

/// The ids of a prompt, whose conversation is as it is given.
fn encode(base: &Base, prompt: &Prompt, conversation: &Conversation, raw: bool) -> Result<Encoded> {
    if !raw {
        return base.encoder.prompt(conversation).map_err(|e| e.or_at(prompt.place.clone()));
    }
    let Some(Value::String(text)) = prompt.row.get("prompt") else {
        return Err(Error::new(Kind::Data, "`--raw` takes rows with `prompt` only").at(prompt.place.clone()));
    };
    let ids = base.plain_prompt(text).map_err(|e| e.or_at(prompt.place.clone()))?;
    Ok((ids, Vec::new()))
}
