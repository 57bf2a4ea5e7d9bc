//! From conversations and texts to ids and labels: the one path on which training data is tokenised.

use super::conversation::{Conversation, IGNORE_INDEX, Message, Role, Tokenized};
use super::options::TrainOn;
use super::render::{END_OF_TURN, Rendered};
use super::template::ChatTemplate;
use super::tokenizer::{Encoded, Tokenizer};
use crate::error::{Error, Kind, Result};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::slice;

/// Counts changes of this room that change ids or labels, so that caches made before them are not used.
const VERSION: u32 = 1;

/// Turns rows into ids and labels. Threads may share one; cloning is cheap.
///
/// The text of a row is tokenised in one go, and a token has a loss if it covers a byte of a supervised span, which is
/// how Hugging Face maps spans to tokens.
#[derive(Debug, Clone)]
pub struct Encoder {
    tokenizer: Option<Tokenizer>,
    template: ChatTemplate,
    train_on: TrainOn,
    system: Option<String>,
    vocab_size: Option<usize>,
}

impl Encoder {
    /// An encoder that trains on the assistant's turns.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate) -> Self {
        let vocab_size = Some(tokenizer.vocab_size());
        Encoder { tokenizer: Some(tokenizer), template, train_on: TrainOn::default(), system: None, vocab_size }
    }

    /// An encoder for a model folder without a tokenizer: it takes rows of the format `tokens` only.
    pub fn tokens_only() -> Self {
        let template = ChatTemplate::gemma3();
        Encoder { tokenizer: None, template, train_on: TrainOn::default(), system: None, vocab_size: None }
    }

    /// Trains on these tokens.
    pub fn with_train_on(mut self, train_on: TrainOn) -> Self {
        self.train_on = train_on;
        self
    }

    /// Gives conversations without a system message this one.
    pub fn with_system(mut self, system: Option<String>) -> Self {
        self.system = system;
        self
    }

    /// Refuses ids from `vocab_size` on: the model has no embedding for them.
    pub fn with_vocab_size(mut self, vocab_size: usize) -> Self {
        self.vocab_size = Some(vocab_size);
        self
    }

    /// Which tokens it trains on.
    pub fn train_on(&self) -> TrainOn {
        self.train_on
    }

    /// The tokenizer, if there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The text of ids, special tokens included; without a tokenizer the ids themselves.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.decode(ids, false),
            None => ids.iter().map(|id| format!("{id} ")).collect(),
        }
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// A conversation for training, checked against the model's own template.
    ///
    /// # Errors
    /// What [`ChatTemplate::verify`] refuses, and a conversation in which the assistant says nothing.
    pub fn encode_conversation(&self, conversation: &Conversation) -> Result<Tokenized> {
        let conversation = self.with_default_system(conversation);
        self.template.verify(&conversation)?;
        let Rendered { text, spans } = self.template.render(&conversation, false)?;
        if spans.is_empty() && self.train_on != TrainOn::All {
            return Err(Error::new(
                Kind::Data,
                "the conversation has no assistant turn, so there is nothing to train on",
            )
            .hint("`data.train_on: all` trains on every token"));
        }
        let whole = 0..text.len();
        let spans = match self.train_on {
            TrainOn::Assistant => &spans[..],
            TrainOn::LastAssistant => &spans[spans.len().saturating_sub(1)..],
            TrainOn::All => slice::from_ref(&whole),
        };
        self.label(&text, spans)
    }

    /// The ids of a conversation up to where the model begins to speak, for generation.
    ///
    /// # Errors
    /// As [`Encoder::encode_conversation`], and a conversation in which the model has already spoken last.
    pub fn encode_prompt(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        if conversation.messages.last().is_some_and(|message| message.role == Role::Assistant) {
            return Err(Error::new(
                Kind::Data,
                "the conversation ends with the assistant's turn: there is nothing to answer",
            ));
        }
        let conversation = self.with_default_system(conversation);
        self.template.verify(&conversation)?;
        let text = self.template.render(&conversation, true)?.text;
        let ids = self.need_tokenizer()?.encode(&text)?;
        self.check_ids(&ids)?;
        Ok(ids)
    }

    /// A prompt and its completion, as plain text: `<bos>`, both, `<eos>`. The completion and `<eos>` have a loss, and
    /// with [`TrainOn::All`] the prompt too.
    ///
    /// Where the completion merges with the end of the prompt into other tokens than the prompt's own, the loss begins
    /// with the first of these, as in TRL: else ` yes` after `answer: ` would never be learnt.
    ///
    /// # Errors
    /// A text that cannot be tokenised, or that has tokens which the model does not.
    pub fn encode_prompt_completion(&self, prompt: &str, completion: &str) -> Result<Tokenized> {
        let tokenizer = self.need_tokenizer()?;
        let before = self.begin(prompt)?;
        let mut text = before.clone() + completion;
        self.end(&mut text, completion)?;
        let Encoded { ids, offsets } = tokenizer.encode_with_offsets(&text)?;
        self.check_ids(&ids)?;
        let prompt_tokens = match offsets.iter().position(|token| token.end > before.len()) {
            _ if self.train_on == TrainOn::All => 0,
            None => ids.len(),
            // No merge crosses the border, so the tokens before it are the prompt's own.
            Some(first) if offsets[first].start >= before.len() => first,
            Some(_) => tokenizer.encode(&before)?.iter().zip(&ids).take_while(|(a, b)| a == b).count(),
        };
        let labels = ids.iter().enumerate().map(|(i, &id)| if i < prompt_tokens { IGNORE_INDEX } else { label(id) });
        Ok(Tokenized { labels: labels.collect(), input_ids: ids, truncated: false })
    }

    /// Plain text: `<bos>`, the text, `<eos>`. All of it has a loss.
    ///
    /// # Errors
    /// An empty text, and as [`Encoder::encode_prompt_completion`].
    pub fn encode_text(&self, text: &str) -> Result<Tokenized> {
        if text.is_empty() {
            return Err(Error::new(Kind::Data, "the text is empty"));
        }
        let mut whole = self.begin(text)?;
        self.end(&mut whole, text)?;
        self.label(&whole, slice::from_ref(&(0..whole.len())))
    }

    /// A row that is tokenised already; without labels all of it has a loss.
    ///
    /// # Errors
    /// No ids, labels of another length, ids or labels that the model does not have.
    pub fn encode_tokens(&self, input_ids: Vec<u32>, labels: Option<Vec<i32>>) -> Result<Tokenized> {
        let wrong = |what: String| Err(Error::new(Kind::Data, what));
        if input_ids.is_empty() {
            return wrong("`input_ids` is empty".into());
        }
        self.check_ids(&input_ids)?;
        let labels = match labels {
            None => input_ids.iter().map(|&id| label(id)).collect(),
            Some(labels) if labels.len() != input_ids.len() => {
                let hint = "labels are aligned with `input_ids`, as in Hugging Face; -100 skips a position";
                return wrong(format!("{} `labels` for {} `input_ids`", labels.len(), input_ids.len()))
                    .map_err(|e| e.hint(hint));
            }
            Some(labels) => labels,
        };
        let limit = self.vocab_size.map_or(i64::from(i32::MAX), |n| n as i64);
        if let Some(&label) = labels.iter().find(|&&l| l != IGNORE_INDEX && !(0..limit).contains(&i64::from(l))) {
            return wrong(format!("label {label} is neither -100 nor an id of the model's vocabulary"));
        }
        Ok(Tokenized { input_ids, labels, truncated: false })
    }

    /// The ids after which the model stops, one of which every answer should teach: `<end_of_turn>` and `<eos>`.
    pub fn stop_ids(&self) -> Vec<u32> {
        let Some(tokenizer) = &self.tokenizer else { return Vec::new() };
        let mut ids: Vec<u32> =
            [tokenizer.id(END_OF_TURN), tokenizer.eos(), tokenizer.id("<eos>")].into_iter().flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A hash that changes when any row could get other ids or labels.
    pub fn fingerprint(&self) -> String {
        let decisive = serde_json::json!({
            "version": VERSION,
            "tokenizer": self.tokenizer.as_ref().map(Tokenizer::fingerprint),
            "template": self.template.source(),
            "bos": self.template.bos(),
            "train_on": self.train_on,
            "system": self.system,
            "vocab_size": self.vocab_size,
        });
        blake3::hash(decisive.to_string().as_bytes()).to_hex().to_string()
    }

    /// Writes the tokenizer's files and the chat template into `folder`, as Hugging Face lays them out.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        tokenizer.save(folder)?;
        self.template.save(folder)
    }

    fn with_default_system<'a>(&self, conversation: &'a Conversation) -> Cow<'a, Conversation> {
        match (&self.system, conversation.messages.first()) {
            (Some(system), Some(first)) if first.role != Role::System => {
                let mut conversation = conversation.clone();
                conversation.messages.insert(0, Message::new(Role::System, system));
                Cow::Owned(conversation)
            }
            _ => Cow::Borrowed(conversation),
        }
    }

    fn need_tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::new(Kind::Tokenizer, "the model has no tokenizer, which all data but the format `tokens` needs")
                .hint("copy `tokenizer.json` and `tokenizer_config.json` from the model's repository into its folder")
        })
    }

    /// `<bos>` and `text`, with one `<bos>` even if `text` brings its own.
    fn begin(&self, text: &str) -> Result<String> {
        let tokenizer = self.need_tokenizer()?;
        let bos = tokenizer.bos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Ok(if text.starts_with(&bos) { text.to_owned() } else { bos + text })
    }

    /// Ends `text` with `<eos>`, unless its `last` part brings its own.
    fn end(&self, text: &mut String, last: &str) -> Result<()> {
        let tokenizer = self.need_tokenizer()?;
        let eos = tokenizer.eos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        if !last.ends_with(&eos) {
            text.push_str(&eos);
        }
        Ok(())
    }

    /// Tokenises `text`; tokens that cover a byte of a span have a loss. `spans` are in order and do not overlap.
    fn label(&self, text: &str, spans: &[Range<usize>]) -> Result<Tokenized> {
        let Encoded { ids: input_ids, offsets } = self.need_tokenizer()?.encode_with_offsets(text)?;
        self.check_ids(&input_ids)?;
        let mut spans = spans.iter().peekable();
        let labels = input_ids
            .iter()
            .zip(offsets)
            .map(|(&id, token)| {
                while spans.next_if(|span| span.end <= token.start).is_some() {}
                let supervised = spans.peek().is_some_and(|span| span.start < token.end);
                if supervised { label(id) } else { IGNORE_INDEX }
            })
            .collect();
        Ok(Tokenized { input_ids, labels, truncated: false })
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let limit = self.vocab_size.map_or(i32::MAX as usize, |n| n.min(i32::MAX as usize)); // labels are i32
        let Some(&id) = ids.iter().find(|&&id| id as usize >= limit) else { return Ok(()) };
        let name = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token(id));
        let name = name.map(|name| format!(" `{name}`")).unwrap_or_default();
        Err(Error::new(Kind::Data, format!("token {id}{name} is not in the model's vocabulary of {limit}")))
    }
}

/// The label of a token with a loss.
fn label(id: u32) -> i32 {
    // Ids are checked against the vocabulary, or below `i32::MAX`, before.
    id as i32
}

#[cfg(test)]
mod tests;
