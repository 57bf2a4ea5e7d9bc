//! A conversation and its token form: what the text room works on.

use super::media_range::{MediaKind, MediaRange, Medium};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};

/// HF's label for a position without a loss.
pub const IGNORE_INDEX: i32 = -100;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions before the first turn.
    System,
    /// The person.
    User,
    /// The model (`assistant` in data sets, `model` in Gemma's template).
    Assistant,
    /// The answer of a tool.
    Tool,
}

impl Role {
    /// The role's name in data sets and in Hugging Face's templates.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One piece of a message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture or sound.
    Media(Medium),
}

impl Part {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            Part::Media(_) => None,
        }
    }
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Part>,
    /// Tools the model calls in this turn.
    pub tool_calls: Vec<ToolCall>,
    /// Whether the turn is learnt where turns of its speaker are; `weight: 0` in a data set says no.
    pub learnt: bool,
    /// Other fields, which a model's own template may show: `reasoning_content`, `name`, `tool_call_id`.
    pub fields: Map<String, Value>,
}

impl Message {
    /// A message of one text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Message::of_parts(role, vec![Part::Text(text.into())])
    }

    /// A message of several parts, or of none.
    pub fn of_parts(role: Role, content: Vec<Part>) -> Self {
        Message { role, content, tool_calls: Vec::new(), learnt: true, fields: Map::new() }
    }

    /// A turn of the assistant that calls tools and says nothing.
    pub fn calling(tool_calls: Vec<ToolCall>) -> Self {
        Message { tool_calls, ..Message::of_parts(Role::Assistant, Vec::new()) }
    }

    /// Whether it says nothing that could be seen and calls no tool.
    pub fn is_empty(&self) -> bool {
        let says_nothing = |part: &Part| part.text().is_some_and(|text| text.trim().is_empty());
        self.tool_calls.is_empty() && self.content.iter().all(says_nothing)
    }
}

impl Message {
    /// The pictures and sounds in it, in order.
    pub fn media(&self) -> impl Iterator<Item = &Medium> {
        self.content.iter().filter_map(|part| match part {
            Part::Media(medium) => Some(medium),
            Part::Text(_) => None,
        })
    }

    /// As [`Message::media`], to be changed.
    pub fn media_mut(&mut self) -> impl Iterator<Item = &mut Medium> {
        self.content.iter_mut().filter_map(|part| match part {
            Part::Media(medium) => Some(medium),
            Part::Text(_) => None,
        })
    }
}

/// A conversation with the tools that the model may call in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The turns, oldest first.
    pub messages: Vec<Message>,
    /// Tool definitions (JSON schema objects as in Hugging Face data sets).
    pub tools: Vec<Value>,
}

impl Conversation {
    /// The pictures and sounds in it, in order.
    pub fn media(&self) -> impl Iterator<Item = &Medium> {
        self.messages.iter().flat_map(Message::media)
    }
}

/// Token ids with a label each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tokenized {
    /// Token ids, with exactly one BOS where the model has one.
    pub input_ids: Vec<u32>,
    /// Aligned with `input_ids` as in Hugging Face (the shift happens in the loss): the id, or [`IGNORE_INDEX`].
    pub labels: Vec<i32>,
    /// Whether `max_length` cut something off.
    pub truncated: bool,
    /// Where media stand, in order; nowhere in a row of text.
    pub media: Vec<MediaRange>,
    /// Where the second sequence begins, in a row that is a pair of them: each sees only itself.
    pub second: Option<usize>,
    /// Whether its answer is a good one, of a row that says so.
    pub desirable: Option<bool>,
    /// By how much the first answer of a pair is better, of a row that says so.
    pub margin: Option<f32>,
    /// The columns of a row that is a prompt, as JSON.
    pub columns: Option<String>,
}

impl Tokenized {
    /// Positions with a loss. The first token is predicted from nothing, so it never has one.
    pub fn supervised(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&l| l != IGNORE_INDEX).count()
    }

    /// Whether it is a prompt by itself, of a row that is judged: of that the last token alone counts, and an answer has its end beside
    /// its words.
    pub fn is_prompt_alone(labels: &[i32]) -> bool {
        let counted = |label: &&i32| **label != IGNORE_INDEX;
        labels.last().as_ref().is_some_and(counted) && labels.iter().skip(1).filter(counted).count() == 1
    }

    /// The same of this row, and that it is judged.
    pub fn is_judged_prompt(&self) -> bool {
        self.desirable.is_some() && Tokenized::is_prompt_alone(&self.labels)
    }

    /// Tokens of the first sequence of a pair: of its answer that is preferred, and the prompt. Of another row all.
    pub fn first_tokens(&self) -> usize {
        self.second.unwrap_or(self.input_ids.len())
    }

    /// Of a pair the second sequence alone; nothing of another row.
    pub fn second_sequence(&self) -> Option<Self> {
        let at = self.second?;
        let media = self.media.iter().filter(|medium| medium.tokens.start >= at);
        let moved = |medium: &MediaRange| MediaRange {
            tokens: medium.tokens.start - at..medium.tokens.end - at,
            ..medium.clone()
        };
        Some(Tokenized {
            input_ids: self.input_ids.get(at..)?.to_vec(),
            labels: self.labels.get(at..)?.to_vec(),
            media: media.map(moved).collect(),
            truncated: self.truncated,
            ..Tokenized::default()
        })
    }

    /// Of a pair the first sequence alone; another row as it is.
    pub fn first_sequence(mut self) -> Self {
        if let Some(at) = self.second.take() {
            self.input_ids.truncate(at);
            self.labels.truncate(at);
            self.media.retain(|medium| medium.tokens.end <= at);
        }
        self
    }
}

/// The first tokens of a row, and how many there are in all: the rest of a row that is to be cut is never held.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prefix {
    /// As many of the first tokens as were asked for.
    pub tokens: Tokenized,
    /// Tokens of the whole row.
    pub length: usize,
    /// Positions of the whole row with a loss, as [`Tokenized::supervised`] counts them.
    pub supervised: usize,
    /// The first of these.
    pub first_supervised: Option<usize>,
    most: usize,
    /// Where what is kept ends: at `most`, or before a medium that reaches further.
    end: usize,
}

impl Prefix {
    /// The first `most` tokens of a row that is yet to come.
    pub fn of_at_most(most: usize) -> Self {
        Prefix { most, end: most, ..Prefix::default() }
    }

    /// The first `most` of these tokens, of which `begins` are those before pictures and sounds.
    pub fn of(tokens: &Tokenized, most: usize, begins: &[u32]) -> Self {
        let mut prefix = Prefix::of_at_most(most);
        let mut media = tokens.media.iter().peekable();
        for (at, (&id, &label)) in tokens.input_ids.iter().zip(&tokens.labels).enumerate() {
            if let Some(MediaRange { tokens, kind, content }) = media.next_if(|medium| medium.tokens.start == at) {
                prefix.push_medium(id, tokens.len(), *kind, *content, begins);
            } else if prefix.length == at {
                prefix.push(id, label);
            }
        }
        prefix
    }

    /// Takes the row's next token.
    pub fn push(&mut self, id: u32, label: i32) {
        if label != IGNORE_INDEX && self.length > 0 {
            self.supervised += 1;
            self.first_supervised.get_or_insert(self.length);
        }
        if self.length < self.end {
            self.tokens.input_ids.push(id);
            self.tokens.labels.push(label);
        } else {
            self.tokens.truncated = true;
        }
        self.length += 1;
    }

    /// Takes the soft tokens of a picture or sound, `count` placeholders `id` that are never learnt. They are kept whole or
    /// not at all: where there is no room for them, the row ends before. The token before them, where it is one of `begins`,
    /// goes with them, and so does the one after them.
    pub fn push_medium(&mut self, id: u32, count: usize, kind: MediaKind, content: [u8; 32], begins: &[u32]) {
        let tokens = self.length..self.length + count;
        let is_whole = self.tokens.input_ids.len() == self.length;
        let begins = is_whole && self.tokens.input_ids.last().is_some_and(|last| begins.contains(last));
        if tokens.end + usize::from(begins) <= self.end {
            self.tokens.media.push(MediaRange { tokens, kind, content });
        } else {
            let kept = tokens.start - usize::from(begins);
            self.end = self.end.min(kept);
            self.tokens.input_ids.truncate(self.end);
            self.tokens.labels.truncate(self.end);
        }
        (0..count).for_each(|_| self.push(id, IGNORE_INDEX));
    }

    /// The pair of this sequence and another, each as much of it as is kept.
    pub fn followed_by(mut self, other: Prefix) -> Self {
        let at = self.tokens.input_ids.len();
        let Prefix { tokens: second, length, supervised, .. } = other;
        self.tokens.media.extend(second.media.into_iter().map(|medium| medium.moved(at)));
        self.tokens.input_ids.extend(second.input_ids);
        self.tokens.labels.extend(second.labels);
        if let Some(first) = self.tokens.labels.get_mut(at) {
            *first = IGNORE_INDEX; // or the first sequence would predict it
        }
        self.tokens.truncated |= second.truncated;
        self.tokens.second = Some(at);
        self.length += length;
        self.supervised += supervised;
        self
    }

    /// Fails if there is nothing to learn from in the row, or in what is kept of it; says whether the cut is to blame.
    ///
    /// # Errors
    /// No position with a loss among the tokens that are kept.
    pub fn require_supervised(&self) -> Result<()> {
        let Some(first) = self.first_supervised else {
            return Err(Error::new(Kind::Data, "the row has no supervised token: nothing in it has a loss")
                .hint("`data preview` shows which tokens of a row are supervised"));
        };
        if first < self.end {
            return Ok(());
        }
        let Prefix { most, supervised, length, .. } = self;
        Err(Error::new(
            Kind::Data,
            format!(
                "`max_length` {most} cuts off all {supervised} supervised tokens of the row, which has {length} tokens"
            ),
        )
        .hint_of_files(format!(
            "the first supervised token is number {}: raise `data.max_length`, or set `data.on_long: skip`",
            first + 1
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(labels: &[i32], most: usize) -> Prefix {
        let input_ids = (0..labels.len() as u32).collect();
        Prefix::of(&Tokenized { input_ids, labels: labels.to_vec(), ..Tokenized::default() }, most, &[])
    }

    #[test]
    fn the_first_token_is_never_counted_as_supervised() {
        for (labels, supervised, first) in [(&[0, 1, -100, 3][..], 2, Some(1)), (&[0, -100], 0, None), (&[], 0, None)] {
            let row = row(labels, usize::MAX);
            assert_eq!((row.supervised, row.first_supervised), (supervised, first));
            assert_eq!(row.tokens.supervised(), supervised);
        }
    }

    #[test]
    fn a_pair_is_two_sequences_each_cut_by_itself() {
        let pair = row(&[-100, 1, 2, 3], 3).followed_by(row(&[0, -100, 5], 3));
        assert_eq!(pair.tokens.input_ids, [0, 1, 2, 0, 1, 2]);
        assert_eq!(pair.tokens.labels, [-100, 1, 2, -100, -100, 5]);
        assert_eq!((pair.tokens.second, pair.tokens.truncated), (Some(3), true));
        assert_eq!((pair.length, pair.supervised, pair.tokens.supervised()), (7, 4, 3));
        let first = pair.tokens.first_sequence();
        assert_eq!((first.input_ids, first.labels, first.second), (vec![0, 1, 2], vec![-100, 1, 2], None));
    }

    #[test]
    fn what_is_cut_is_counted_and_not_held() {
        let whole = row(&[-100, -100, 2, 3, 4], 5);
        assert!(!whole.tokens.truncated);
        let cut = row(&[-100, -100, 2, 3, 4], 4);
        assert_eq!(
            (cut.tokens.input_ids.clone(), cut.tokens.labels.clone()),
            (vec![0, 1, 2, 3], vec![-100, -100, 2, 3])
        );
        assert!(cut.tokens.truncated);
        assert_eq!((cut.length, cut.supervised, cut.tokens.supervised()), (5, 3, 2));
    }

    #[test]
    fn a_row_without_supervision_says_whether_truncation_is_to_blame() {
        assert!(row(&[-100, -100, 2], 3).require_supervised().is_ok());
        let cut = row(&[-100, -100, 2], 2).require_supervised().unwrap_err();
        assert_eq!(cut.what(), "`max_length` 2 cuts off all 1 supervised tokens of the row, which has 3 tokens");
        assert_eq!(
            cut.hint_text(),
            Some("the first supervised token is number 3: raise `data.max_length`, or set `data.on_long: skip`")
        );
        let none = row(&[0, -100], 9).require_supervised().unwrap_err();
        assert_eq!(none.what(), "the row has no supervised token: nothing in it has a loss");
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init)] // lists of media
    fn a_cut_never_goes_through_a_medium() {
        let cut_at = |most: usize| {
            let mut prefix = Prefix::of_at_most(most);
            prefix.push(2, IGNORE_INDEX);
            prefix.push_medium(9, 3, MediaKind::Image, [1; 32], &[]);
            prefix.push(5, 5);
            prefix.push_medium(8, 2, MediaKind::Audio, [2; 32], &[]);
            prefix.push(6, 6);
            assert_eq!((prefix.length, prefix.supervised, prefix.first_supervised), (8, 2, Some(4)));
            let media: Vec<_> = prefix.tokens.media.iter().map(|medium| medium.tokens.clone()).collect();
            assert_eq!(prefix.tokens.labels.len(), prefix.tokens.input_ids.len());
            assert_eq!(prefix.tokens.truncated, prefix.tokens.input_ids.len() < 8);
            (prefix.tokens.input_ids, media)
        };
        let whole = vec![2, 9, 9, 9, 5, 8, 8, 6];
        assert_eq!(cut_at(usize::MAX), (whole.clone(), vec![1..4, 5..7]));
        assert_eq!(cut_at(8), (whole.clone(), vec![1..4, 5..7]));
        assert_eq!(cut_at(7), (whole[..7].to_vec(), vec![1..4, 5..7]));
        assert_eq!(cut_at(6), (whole[..5].to_vec(), vec![1..4]), "half a sound is none");
        assert_eq!(cut_at(5), (whole[..5].to_vec(), vec![1..4]));
        for most in [1, 2, 3] {
            assert_eq!(cut_at(most), (whole[..1].to_vec(), vec![]), "and nothing follows it: {most}");
        }
        let delimited = |most: usize| {
            let mut prefix = Prefix::of_at_most(most);
            [2, 7].into_iter().for_each(|id| prefix.push(id, IGNORE_INDEX));
            prefix.push_medium(9, 3, MediaKind::Image, [1; 32], &[7]);
            [8, 5].into_iter().for_each(|id| prefix.push(id, id.cast_signed()));
            assert_eq!((prefix.length, prefix.tokens.truncated), (7, most < 7));
            (prefix.tokens.input_ids, prefix.tokens.media.len())
        };
        assert_eq!(delimited(7), (vec![2, 7, 9, 9, 9, 8, 5], 1));
        assert_eq!(delimited(6), (vec![2, 7, 9, 9, 9, 8], 1));
        for most in 1..=5 {
            assert_eq!(delimited(most), (vec![2], 0), "its delimiters go with it: {most}");
        }
        let mut nothing = Prefix::of_at_most(3);
        nothing.push_medium(9, 4, MediaKind::Image, [1; 32], &[]);
        nothing.push(5, 5);
        assert!(
            nothing
                .require_supervised()
                .unwrap_err()
                .what()
                .starts_with("`max_length` 3 cuts off all 1 supervised tokens")
        );
    }
}
