//! From conversations and texts to ids and labels: the one path on which training data is tokenised.

mod tokens;

use super::controls::ControlWords;
use super::conversation::{Conversation, IGNORE_INDEX, Message, Part, Prefix, Role, Tokenized};
use super::marks::{Marks, Shown};
use super::media_range::{MediaRange, MediaTokens, Medium};
use super::options::TrainOn;
use super::render::{END_OF_TURN, START_OF_TURN};
use super::rendered::Rendered;
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Kind, Result};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Counts changes of this room that change ids or labels, so that caches made before them are not used.
const VERSION: u32 = 3;

/// Begins a tool's answer in FunctionGemma's format.
const RESPONSE: &str = "<start_function_response>";

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
    /// Whether the model sees pictures or hears.
    of_media: bool,
    /// What stands for pictures and sounds.
    marks: Arc<Marks>,
    /// Words that only the template may write.
    controls: Arc<ControlWords>,
    /// Words without which there are no turns, that the template writes and that are no tokens.
    unknown: Arc<[String]>,
    /// Other control words that the template writes and that are no tokens.
    spelt_out: Arc<[String]>,
}

impl Encoder {
    /// An encoder that trains on the assistant's turns.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate) -> Self {
        let vocab_size = Some(tokenizer.vocab_size());
        let controls = Arc::new(tokenizer.control_words());
        let unknown = template.control_words().into_iter();
        let unknown = unknown.filter(|word| tokenizer.encode(word).ok().is_none_or(|ids| ids.len() != 1));
        let is_turn = |word: &String| word == template.bos() || [START_OF_TURN, END_OF_TURN].contains(&word.as_str());
        let (unknown, spelt_out): (Vec<_>, Vec<_>) = unknown.partition(is_turn);
        let (unknown, spelt_out) = (unknown.into(), spelt_out.into());
        let (tokenizer, train_on) = (Some(tokenizer), TrainOn::default());
        Encoder {
            tokenizer,
            template,
            train_on,
            system: None,
            vocab_size,
            of_media: false,
            marks: Arc::default(),
            controls,
            unknown,
            spelt_out,
        }
    }

    /// An encoder for a model folder without a tokenizer: it takes rows of the format `tokens` only.
    pub fn tokens_only() -> Self {
        Encoder {
            tokenizer: None,
            template: ChatTemplate::gemma3(),
            train_on: TrainOn::default(),
            system: None,
            vocab_size: None,
            of_media: false,
            marks: Arc::default(),
            controls: Arc::default(),
            unknown: Arc::default(),
            spelt_out: Arc::default(),
        }
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

    /// The system message that conversations without one are given.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Refuses ids from `vocab_size` on: the model has no embedding for them.
    pub fn with_vocab_size(mut self, vocab_size: usize) -> Self {
        self.vocab_size = Some(vocab_size);
        self
    }

    /// Says whether the model sees pictures or hears, and which tokens stand for them.
    pub fn with_media(mut self, of_media: bool, tokens: &[MediaTokens]) -> Self {
        self.of_media = of_media;
        self.marks = Arc::new(Marks::new(tokens, self.tokenizer.as_ref(), self.template.source()));
        self
    }

    /// The tokens that stand for pictures and sounds; none for a model of text.
    pub fn media_tokens(&self) -> Vec<MediaTokens> {
        self.marks.tokens()
    }

    /// Whether the model sees pictures or hears.
    pub fn is_of_media(&self) -> bool {
        self.of_media
    }

    /// The tokens that begin pictures and sounds.
    pub fn media_begins(&self) -> Vec<u32> {
        self.marks.begins()
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

    /// A conversation for training, checked against the model's own template. Control words in messages are text, ends
    /// that an answer brings along are left out, and turns with `weight: 0` are not learnt.
    ///
    /// # Errors
    /// What the template refuses or does not show, and a conversation in which the assistant says nothing.
    pub fn encode_conversation(&self, conversation: &Conversation) -> Result<Tokenized> {
        Ok(self.conversation(conversation, usize::MAX)?.tokens)
    }

    /// The first `most` tokens of [`Encoder::encode_conversation`].
    ///
    /// # Errors
    /// As [`Encoder::encode_conversation`].
    pub fn conversation(&self, conversation: &Conversation, most: usize) -> Result<Prefix> {
        let conversation = self.prepared(conversation);
        let (Rendered { text, spans, said }, shown) = self.render(&conversation, false)?;
        if spans.is_empty() && self.train_on != TrainOn::All {
            return Err(Error::new(
                Kind::Data,
                "the conversation has no assistant turn, so there is nothing to train on",
            )
            .hint_of_files("`data.train_on: all` trains on every token"));
        }
        let answers = conversation.messages.iter().filter(|message| message.role == Role::Assistant);
        let answers: Vec<(&Range<usize>, bool)> = spans.iter().zip(answers.map(|message| message.learnt)).collect();
        let learnt = |answers: &[(&Range<usize>, bool)], wanted: bool| -> Vec<Range<usize>> {
            answers.iter().filter(|(_, learnt)| *learnt == wanted).map(|(span, _)| (*span).clone()).collect()
        };
        let spans = match self.train_on {
            TrainOn::Assistant => learnt(&answers, true),
            TrainOn::LastAssistant => learnt(&answers[answers.len().saturating_sub(1)..], true),
            TrainOn::All => between(&learnt(&answers, false), text.len()),
        };
        self.label(&text, &spans, &self.typed(&text, &said), shown, most)
    }

    /// The ids of a conversation up to where the model begins to speak, for generation. Control words in messages are
    /// text.
    ///
    /// # Errors
    /// As [`Encoder::encode_conversation`], and a conversation in which the model has already spoken last.
    pub fn encode_prompt(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        Ok(self.prompt(conversation)?.0)
    }

    /// As [`Encoder::encode_prompt`], with where its pictures and sounds are.
    ///
    /// # Errors
    /// As [`Encoder::encode_prompt`].
    pub fn prompt(&self, conversation: &Conversation) -> Result<(Vec<u32>, Vec<MediaRange>)> {
        if conversation.messages.last().is_some_and(|message| message.role == Role::Assistant) {
            return Err(Error::new(
                Kind::Data,
                "the conversation ends with the assistant's turn: there is nothing to answer",
            ));
        }
        let conversation = self.prepared(conversation);
        let (Rendered { text, said, .. }, shown) = self.render(&conversation, true)?;
        let Tokenized { input_ids, media, .. } =
            self.label(&text, &[], &self.typed(&text, &said), shown, usize::MAX)?.tokens;
        Ok((input_ids, media))
    }

    /// A warning of control words that the template writes, and that the tokenizer has no tokens for: those of tools, as
    /// where a template of FunctionGemma came to another model. Words of images are never written.
    pub fn warning(&self) -> Option<String> {
        let of_text = |word: &&String| !word.contains("image") && !word.contains("audio");
        let words: Vec<_> = self.spelt_out.iter().filter(of_text).map(|word| format!("`{word}`")).collect();
        (!words.is_empty()).then(|| {
            let words = words.join(", ");
            format!("warning: the chat template writes {words}, which are no tokens of the tokenizer: they are spelt out as text")
        })
    }

    /// Renders a conversation, with what a processor makes of its pictures and sounds, and makes sure that what begins and
    /// ends turns are tokens.
    fn render(&self, conversation: &Conversation, prompt: bool) -> Result<(Rendered, Shown)> {
        self.need_tokenizer()?;
        let media: Vec<&Medium> = conversation.media().collect();
        media.iter().try_for_each(|medium| self.marks.written(medium.kind).map(drop))?;
        let rendered = self.template.checked(conversation, prompt, &self.controls, &self.marks)?;
        match self.unknown.iter().find(|word| rendered.text.contains(word.as_str())) {
            Some(word) => Err(Error::new(
                Kind::Tokenizer,
                format!("the chat template writes `{word}`, which is no token of the tokenizer: it would be spelt out as text"),
            )
            .hint("template and tokenizer belong to different models, or the tokenizer's file is not complete")),
            None => self.marks.expand(rendered, &media),
        }
    }

    /// Where control words stand in what was `said`.
    fn typed(&self, text: &str, said: &[Range<usize>]) -> Vec<Range<usize>> {
        let found = |said: &Range<usize>| {
            let moved = |at: Range<usize>| said.start + at.start..said.start + at.end;
            self.controls.find(&text[said.clone()]).into_iter().map(moved).collect::<Vec<_>>()
        };
        said.iter().flat_map(found).collect()
    }

    /// How many control words a message has as mere text, the ends that an answer brings along not counted.
    pub fn count_typed(&self, message: &Message) -> usize {
        let ends = |text: &str| match message.role {
            Role::Assistant => self.without_end(text).map_or(text.len(), str::len),
            _ => text.len(),
        };
        message.content.iter().filter_map(Part::text).map(|text| self.controls.find(&text[..ends(text)]).len()).sum()
    }

    /// An answer without the ends of a turn that it brings along; `None` if it has none.
    pub fn without_end<'a>(&self, answer: &'a str) -> Option<&'a str> {
        let ends = [Some(END_OF_TURN.to_owned()), Some("<eos>".to_owned()), self.eos_name()];
        let mut rest = answer.trim_end();
        while let Some(shorter) = ends.iter().flatten().find_map(|end| rest.strip_suffix(end.as_str())) {
            rest = shorter.trim_end();
        }
        (rest.len() < answer.trim_end().len()).then_some(rest)
    }

    /// A prompt and its completion, as plain text: `<bos>`, both, `<eos>`. The completion and `<eos>` have a loss, and
    /// with [`TrainOn::All`] the prompt too. Control words are control tokens, as in [`Encoder::encode_text`].
    ///
    /// Where the completion merges with the end of the prompt into other tokens than the prompt's own, the loss begins
    /// with the first of these, as in TRL: else ` yes` after `answer: ` would never be learnt.
    ///
    /// # Errors
    /// A text that cannot be tokenised, or that has tokens which the model does not.
    pub fn encode_prompt_completion(&self, prompt: &str, completion: &str) -> Result<Tokenized> {
        Ok(self.prompt_completion(prompt, completion, usize::MAX)?.tokens)
    }

    /// The first `most` tokens of [`Encoder::encode_prompt_completion`].
    ///
    /// # Errors
    /// As [`Encoder::encode_prompt_completion`].
    pub fn prompt_completion(&self, prompt: &str, completion: &str, most: usize) -> Result<Prefix> {
        let tokenizer = self.need_tokenizer()?;
        let (bos, prompt) = self.begin(prompt)?;
        let before = bos.len() + prompt.len();
        let (completion, end) = self.end(completion);
        let text = [&bos, prompt, completion, &end].concat();
        let mut prefix = Prefix::of_at_most(most);
        let mut crosses = None;
        tokenizer.encode_each(&text, &mut |id, token| {
            self.check_id(id)?;
            if crosses.is_none() && token.end > before {
                crosses = Some(token.start < before);
            }
            let learnt = self.train_on == TrainOn::All || crosses.is_some();
            prefix.push(id, if learnt { label(id) } else { IGNORE_INDEX });
            Ok(())
        })?;
        if self.train_on == TrainOn::All || crosses != Some(true) {
            // No merge crosses the border, so the tokens before it are the prompt's own.
            return Ok(prefix);
        }
        let (alone, whole) = (tokenizer.encode(&text[..before])?, tokenizer.encode(&text)?);
        let same = alone.iter().zip(&whole).take_while(|(a, b)| a == b).count();
        let mut prefix = Prefix::of_at_most(most);
        (0..).zip(&whole).for_each(|(i, &id)| prefix.push(id, if i < same { IGNORE_INDEX } else { label(id) }));
        Ok(prefix)
    }

    /// Plain text: `<bos>`, the text, `<eos>`. All of it has a loss. Such a text may have been made by a template already:
    /// its control words are control tokens, and of begins and ends it keeps one.
    ///
    /// # Errors
    /// An empty text, and as [`Encoder::encode_prompt_completion`].
    pub fn encode_text(&self, text: &str) -> Result<Tokenized> {
        Ok(self.text(text, usize::MAX)?.tokens)
    }

    /// The first `most` tokens of [`Encoder::encode_text`].
    ///
    /// # Errors
    /// As [`Encoder::encode_text`].
    pub fn text(&self, text: &str, most: usize) -> Result<Prefix> {
        let mut prefix = Prefix::of_at_most(most);
        self.each_of_text(text, &mut |id| prefix.push(id, label(id)))?;
        Ok(prefix)
    }

    /// Calls `each` with the tokens of [`Encoder::encode_text`] in order. Those of a long text are never held together.
    ///
    /// # Errors
    /// As [`Encoder::encode_text`].
    pub fn each_of_text(&self, text: &str, each: &mut dyn FnMut(u32)) -> Result<()> {
        if text.is_empty() {
            return Err(Error::new(Kind::Data, "the text is empty"));
        }
        let (bos, text) = self.begin(text)?;
        let (text, eos) = self.end(text);
        self.need_tokenizer()?.encode_between(&bos, text, &eos, &mut |id| {
            self.check_id(id)?;
            each(id);
            Ok(())
        })
    }

    /// The ids after which the model stops, one of which every answer should teach: `<end_of_turn>` and `<eos>`, and where
    /// the template answers for tools within the model's turn, the token that begins such an answer.
    pub fn stop_ids(&self) -> Vec<u32> {
        let Some(tokenizer) = &self.tokenizer else { return Vec::new() };
        // FunctionGemma's way to wait for a function's result.
        let waits = self.template.control_words().iter().any(|word| word == RESPONSE).then(|| tokenizer.id(RESPONSE));
        let mut ids: Vec<u32> = [tokenizer.id(END_OF_TURN), tokenizer.eos(), tokenizer.id("<eos>"), waits.flatten()]
            .into_iter()
            .flatten()
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A hash that changes when any row could get other ids or labels.
    pub fn fingerprint(&self) -> String {
        let mut decisive = serde_json::json!({
            "version": VERSION,
            "tokenizer": self.tokenizer.as_ref().map(Tokenizer::fingerprint),
            "template": [Some(self.template.source()), self.template.tool_use_source()],
            "bos": self.template.bos(),
            "train_on": self.train_on,
            "system": self.system,
            "vocab_size": self.vocab_size,
        });
        if self.of_media {
            decisive["of_media"] = format!("{:?}", self.marks).into();
        }
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

    /// The conversation with the default system message, and without the ends that answers bring along.
    fn prepared<'a>(&self, conversation: &'a Conversation) -> Cow<'a, Conversation> {
        let mut conversation = Cow::Borrowed(conversation);
        if let (Some(system), Some(first)) = (&self.system, conversation.messages.first())
            && first.role != Role::System
        {
            conversation.to_mut().messages.insert(0, Message::new(Role::System, system));
        }
        for i in 0..conversation.messages.len() {
            let message = &conversation.messages[i];
            if let (Role::Assistant, Some(Part::Text(last))) = (message.role, message.content.last())
                && let Some(rest) = self.without_end(last).map(str::to_owned)
                && let Some(last) = conversation.to_mut().messages[i].content.last_mut()
            {
                *last = Part::Text(rest);
            }
        }
        conversation
    }

    fn need_tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::new(Kind::Tokenizer, "the model has no tokenizer, which all data but the format `tokens` needs")
                .hint("copy `tokenizer.json` and `tokenizer_config.json` from the model's repository into its folder")
        })
    }

    fn eos_name(&self) -> Option<String> {
        let tokenizer = self.tokenizer.as_ref()?;
        tokenizer.token(tokenizer.eos()?)
    }

    /// `<bos>`, and `text` without each that it brings along.
    fn begin<'t>(&self, text: &'t str) -> Result<(String, &'t str)> {
        let tokenizer = self.need_tokenizer()?;
        let bos = tokenizer.bos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        let mut rest = text;
        while let Some(after) = rest.trim_start().strip_prefix(&bos).filter(|_| !bos.is_empty()) {
            rest = after;
        }
        Ok((bos, rest))
    }

    /// `last` and the `<eos>` after it, unless it brings along an end: then it keeps one.
    fn end<'t>(&self, last: &'t str) -> (&'t str, String) {
        let eos = self.eos_name().unwrap_or_default();
        let Some(rest) = self.without_end(last) else { return (last, eos) };
        // The first of the ends, with the newline that follows it in Gemma's format.
        let brought = &last[rest.len()..];
        let (space, ends) = brought.split_at(brought.len() - brought.trim_start().len());
        let end = [END_OF_TURN, "<eos>", &eos].into_iter().find(|end| !end.is_empty() && ends.starts_with(end));
        let end = end.unwrap_or(&eos).to_owned();
        let newline = if last.ends_with('\n') && end == END_OF_TURN { "\n" } else { "" };
        (rest, format!("{space}{end}{newline}"))
    }

    /// Calls `each` with the tokens of `text` and their bytes. The words at `typed`, in order, are no control tokens.
    fn encode_typed(
        &self,
        text: &str,
        typed: &[Range<usize>],
        each: &mut dyn FnMut(u32, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let tokenizer = self.need_tokenizer()?;
        let cuts = typed.iter().map(|word| text.ceil_char_boundary(word.start + 1));
        let mut words = typed.iter().peekable();
        let mut start = 0;
        for end in cuts.chain([text.len()]) {
            tokenizer.encode_each(&text[start..end], &mut |id, at| {
                let at = start + at.start..start + at.end;
                while words.next_if(|word| word.end <= at.start).is_some() {}
                let inside = words.peek().is_some_and(|word| word.start <= at.start && at.end <= word.end);
                if inside && tokenizer.token(id).is_some_and(|token| self.controls.contains(&token)) {
                    return Err(Error::new(
                        Kind::Data,
                        "a message holds a control word that cannot be spelt out as text",
                    ));
                }
                each(id, at)
            })?;
            start = end;
        }
        Ok(())
    }

    /// The first `most` tokens of `text`; those that cover a byte of a span have a loss. `spans` are in order and do not
    /// overlap. The words at `typed` are no control tokens.
    ///
    /// The soft tokens in it are those of what is `shown`, in order. They never have a loss, nor has what stands around them:
    /// their delimiters, and the blank lines that no model says.
    fn label(
        &self,
        text: &str,
        spans: &[Range<usize>],
        typed: &[Range<usize>],
        Shown { mut pieces, blocks }: Shown,
        most: usize,
    ) -> Result<Prefix> {
        let mut prefix = Prefix::of_at_most(most);
        let spans = without(spans, &blocks);
        let mut spans = spans.iter().peekable();
        let has_media = !pieces.is_empty();
        self.encode_typed(text, typed, &mut |id, token| {
            if let Some((tokens, content)) = pieces.pop_front_if(|(tokens, _)| tokens.soft == id) {
                prefix.push_medium(id, tokens.per_piece, tokens.kind, content, &[tokens.begin]);
                return Ok(());
            }
            self.check_id(id)?;
            while spans.next_if(|span| span.end <= token.start).is_some() {}
            let supervised = spans.peek().is_some_and(|span| span.start < token.end);
            let learnt = supervised && !(has_media && self.marks.contains(id));
            prefix.push(id, if learnt { label(id) } else { IGNORE_INDEX });
            Ok(())
        })?;
        match pieces.front() {
            None => Ok(prefix),
            Some((tokens, _)) => Err(Error::new(
                Kind::Tokenizer,
                format!("the tokenizer does not take the word of token {} for that token", tokens.soft),
            )
            .hint("its file is not complete, or it belongs to another model")),
        }
    }

    fn check_id(&self, id: u32) -> Result<()> {
        if let Some(tokens) = self.marks.soft(id) {
            let kind = tokens.kind.name();
            let what =
                format!("the row has a placeholder of `{kind}` (token {id}) that no picture or sound stands for");
            return Err(Error::new(Kind::Data, what)
                .hint("pictures and sounds are parts of messages, or columns beside `input_ids`"));
        }
        let limit = self.vocab_size.map_or(i32::MAX as usize, |n| n.min(i32::MAX as usize)); // labels are i32
        if (id as usize) < limit {
            return Ok(());
        }
        let name = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token(id));
        let name = name.map(|name| format!(" `{name}`")).unwrap_or_default();
        Err(Error::new(Kind::Data, format!("token {id}{name} is not in the model's vocabulary of {limit}")))
    }
}

/// The bytes of a text of `length` that are in none of `spans`.
fn between(spans: &[Range<usize>], length: usize) -> Vec<Range<usize>> {
    let starts = [0].into_iter().chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain([length]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|span| !span.is_empty()).collect()
}

/// The bytes of `spans` that are in none of `blocks`; both are in order and do not overlap among themselves.
fn without(spans: &[Range<usize>], blocks: &[Range<usize>]) -> Vec<Range<usize>> {
    let rest = spans.iter().flat_map(|span| {
        let inside = blocks.iter().filter(|block| block.start < span.end && span.start < block.end);
        let starts = [span.start].into_iter().chain(inside.clone().map(|block| block.end));
        let ends = inside.map(|block| block.start).chain([span.end]);
        starts.zip(ends).map(|(start, end)| start..end)
    });
    rest.filter(|span| !span.is_empty()).collect()
}

/// The label of a token with a loss.
fn label(id: u32) -> i32 {
    // Ids are checked against the vocabulary, or below `i32::MAX`, before.
    id as i32
}

#[cfg(test)]
mod tests;
