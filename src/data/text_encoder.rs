//! The text room's encoder as the rows' encoder.

use super::row::{Encode, Noticed, Row, supervise_after};
use crate::error::{Error, Kind, Result};
use crate::text::{Encoder, IGNORE_INDEX, MediaKind, Message, Part, Prefix, Role, Tokenized, Tokenizer, TrainOn};

/// Makes sure that a plain text can begin and end as the model knows it: else the model would learn to begin anywhere, and
/// never to stop.
fn ends_are_tokens(encoder: &Encoder) -> Result<()> {
    let Some(tokenizer) = encoder.tokenizer() else { return Ok(()) };
    let (name, what) = match (tokenizer.bos(), tokenizer.eos()) {
        (None, _) => ("<bos>", "begins"),
        (_, None) => ("<eos>", "ends"),
        _ => return Ok(()),
    };
    let error = Error::new(Kind::Tokenizer, format!("the tokenizer has no `{name}`, which {what} each text"));
    Err(error.hint("the tokenizer's file is not complete, or `tokenizer_config.json` is missing beside it"))
}

impl Encode for Encoder {
    fn encode(&self, row: &Row, most: usize) -> Result<Prefix> {
        match row {
            Row::Conversation(conversation) => self.conversation(conversation, most),
            Row::Completion { prompt, completion } => {
                let mut full = prompt.clone();
                full.messages.extend(completion.iter().cloned());
                match self.train_on() {
                    // As TRL without `completion_only_loss`.
                    TrainOn::All => self.conversation(&full, most),
                    TrainOn::Assistant | TrainOn::LastAssistant => {
                        let full = self.encode_conversation(&full)?;
                        let prompt = self.encode_conversation(prompt)?;
                        Ok(Prefix::of(&supervise_after(full, &prompt), most, &self.media_begins()))
                    }
                }
            }
            Row::PromptCompletion { prompt, completion } => {
                ends_are_tokens(self).and_then(|()| self.prompt_completion(prompt, completion, most))
            }
            Row::Preference { chosen, rejected, .. } => {
                Ok(Encode::encode(self, chosen, most)?.followed_by(Encode::encode(self, rejected, most)?))
            }
            Row::Unpaired { row, .. } => match &**row {
                // It is judged at its last token, which is what counts of it.
                Row::Prompt { row, .. } => unanswered(self, row, most, true),
                row => Encode::encode(self, row, most),
            },
            Row::Prompt { row, .. } => unanswered(self, row, most, false),
            Row::Text(text) => ends_are_tokens(self).and_then(|()| self.text(text, most)),
            Row::Tokens { input_ids, labels, media } => self.tokens(input_ids, labels.as_deref(), media, most),
        }
    }

    fn each_of_text(&self, text: &str, each: &mut dyn FnMut(u32)) -> Result<()> {
        ends_are_tokens(self).and_then(|()| Encoder::each_of_text(self, text, each))
    }

    fn fingerprint(&self) -> String {
        Encoder::fingerprint(self)
    }

    fn stop_tokens(&self) -> Vec<u32> {
        self.stop_ids()
    }

    fn bos(&self) -> Option<u32> {
        self.tokenizer().and_then(Tokenizer::bos)
    }

    fn eos(&self) -> Option<u32> {
        self.tokenizer().and_then(Tokenizer::eos)
    }

    fn is_of_media(&self) -> bool {
        Encoder::is_of_media(self)
    }

    fn system(&self) -> Option<&str> {
        Encoder::system(self)
    }

    fn noticed(&self, row: &Row) -> Noticed {
        let (messages, completion): (&[Message], &[Message]) = match row {
            Row::Conversation(conversation) => (&conversation.messages, &[]),
            Row::Completion { prompt, completion } => (&prompt.messages, completion),
            Row::Preference { chosen, rejected, .. } => {
                let [chosen, rejected] = [chosen, rejected].map(|row| self.noticed(row));
                return Noticed {
                    control_words: chosen.control_words | rejected.control_words,
                    ends: chosen.ends | rejected.ends,
                    placeholders: chosen.placeholders | rejected.placeholders,
                };
            }
            Row::Unpaired { row, .. } | Row::Prompt { row, .. } => return self.noticed(row),
            _ => return Noticed::default(),
        };
        let ends = |message: &Message| match message.content.last() {
            Some(Part::Text(last)) if message.role == Role::Assistant => self.without_end(last).is_some(),
            _ => false,
        };
        let mut noticed = Noticed::default();
        for message in messages.iter().chain(completion) {
            noticed.control_words |= self.count_typed(message) > 0;
            noticed.ends |= ends(message);
        }
        noticed.placeholders = MediaKind::ALL.into_iter().any(|kind| {
            let all = || messages.iter().chain(completion);
            let has_medium = all().any(|message| message.media().any(|medium| medium.kind == kind));
            let says =
                |message: &Message| message.content.iter().filter_map(Part::text).any(|t| t.contains(kind.word()));
            !has_medium && all().any(|message| message.role == Role::User && says(message))
        });
        noticed
    }
}

/// The first `most` tokens of a prompt, up to where the model begins to speak: none of them is learnt, or the last alone.
fn unanswered(encoder: &Encoder, row: &Row, most: usize, with_last: bool) -> Result<Prefix> {
    let (input_ids, media) = match row {
        Row::Conversation(conversation) => encoder.prompt(conversation)?,
        Row::Text(text) => {
            ends_are_tokens(encoder)?;
            let whole = encoder.prompt_completion(text, "", usize::MAX)?.tokens;
            // What ends the text is not the prompt's.
            let prompt = whole.labels.iter().take_while(|label| **label == IGNORE_INDEX).count();
            (whole.input_ids[..prompt].to_vec(), Vec::new())
        }
        _ => return Err(Error::new(Kind::Data, "the prompt is neither a text nor a list of messages")),
    };
    let mut labels = vec![IGNORE_INDEX; input_ids.len()];
    if let (Some(label), Some(id), true) = (labels.last_mut(), input_ids.last(), with_last) {
        *label = id.cast_signed();
    }
    let all = Tokenized { input_ids, labels, media, ..Tokenized::default() };
    Ok(Prefix::of(&all, most, &encoder.media_begins()))
}
