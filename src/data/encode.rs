//! One raw row to one usable row, or the reason why not.

use super::blank;
use super::formats::{self, Columns};
use super::layout::Layout;
use super::media::{self, MediaReader};
use super::object::Object;
use super::options::OnLong;
use super::row::{Encode, Noticed, Row};
use super::split::Pieces;
use crate::error::{Error, Kind, Result};
use crate::text::{Prefix, Role, Tokenized};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Why a row is not in the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// It has more than `max_length` tokens.
    TooLong,
    /// It is no JSON, no CSV record, no UTF-8, or too large.
    Unreadable,
    /// Its columns do not hold what the format says.
    WrongLayout,
    /// It cannot be rendered or tokenised.
    NotEncodable,
    /// No token of it has a loss.
    NothingSupervised,
    /// A picture or sound of it cannot be used.
    BrokenMedia,
    /// Of two answers neither can be preferred.
    SameAnswers,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::TooLong => "longer than max_length",
            SkipReason::Unreadable => "unreadable",
            SkipReason::WrongLayout => "columns do not fit the format",
            SkipReason::NotEncodable => "cannot be encoded",
            SkipReason::NothingSupervised => "no supervised token",
            SkipReason::BrokenMedia => "a picture or sound that cannot be used",
            SkipReason::SameAnswers => "both answers are the same",
        })
    }
}

/// What is known of a row that is ready to be trained on.
#[derive(Debug, PartialEq)]
pub(super) struct Usable {
    /// Tokens of all that became of it.
    pub length: usize,
    /// Positions with a loss.
    pub supervised: u32,
    /// Whether one of them is a stop token.
    pub stops: bool,
    /// Tokens that were cut off.
    pub cut: u64,
    /// Whether the model is to say nothing in one of its turns.
    pub is_empty: bool,
    /// Whether the answer that is a bad one says nothing.
    pub is_rejected_empty: bool,
    /// Whether somebody says a word in it that a program writes where there is no value.
    pub is_word_for_nothing: bool,
    /// Whether it is asked nothing in one of the others.
    pub is_unasked: bool,
    /// What is taken otherwise than it is written.
    pub noticed: Noticed,
    /// How much was cut off its sounds, in milliseconds.
    pub cut_sound_ms: u64,
    /// How long those of its sounds are that became several, in milliseconds.
    pub split_sound_ms: u64,
}

/// A row that is not: the reason as a category and for people.
#[derive(Debug)]
pub(super) struct Refused {
    pub reason: SkipReason,
    pub error: Error,
    /// Its tokens, where they could be counted.
    pub tokens: u64,
}

/// Understands, encodes and checks rows by the rules of one data set.
pub(super) struct RowEncoder<'a> {
    pub encoder: &'a dyn Encode,
    /// What [`Encode::stop_tokens`] gives.
    pub stop_tokens: &'a [u32],
    pub max_length: usize,
    /// `None`: what is usual for the row's format.
    pub on_long: Option<OnLong>,
    /// What follows each answer of a pair, where it does not already.
    pub eos: Option<u32>,
    /// Whether the answers of a pair are rows of their own, a good one and a bad one.
    pub unpair: bool,
    /// Looks at pictures and sounds.
    pub media: &'a MediaReader<'a>,
    /// The folder of the rows' file.
    pub folder: &'a Path,
    /// Its number.
    pub file: u32,
}

impl RowEncoder<'_> {
    /// Makes the raw row of this number usable: calls `each` with the tokens that are trained on, which of a text that is split are
    /// several rows, made one after the other.
    ///
    /// # Errors
    /// The reason why it cannot be used, and nothing of it is then to be kept; the caller decides by `on_long` or
    /// `on_bad_row` what that means.
    pub fn encode(
        &self,
        layout: &Layout,
        (number, row): (u32, Result<Object>),
        columns: Option<&[String]>,
        each: &mut dyn FnMut(Tokenized),
    ) -> Result<Usable, Refused> {
        let on_long = self.on_long.unwrap_or_else(|| OnLong::usual(layout.format));
        let refuse = |reason| move |error| Refused { reason, error, tokens: 0 };
        let object = row.map_err(refuse(SkipReason::Unreadable))?;
        if self.encoder.is_of_media() {
            media::refuse(&object, columns, layout).map_err(refuse(SkipReason::WrongLayout))?;
        }
        let mut row =
            formats::parse(&Columns::new(&object, columns, layout)).map_err(refuse(SkipReason::WrongLayout))?;
        drop(object);
        let (mut cut_sound_ms, mut split_sound_ms) = (0, 0);
        for medium in row.media_mut() {
            let seen = self.media.look(medium, Some(self.folder), (self.file, number));
            let seen = seen.map_err(refuse(SkipReason::BrokenMedia))?;
            cut_sound_ms += seen.cut_ms;
            split_sound_ms += seen.split_ms;
        }
        let (is_empty, is_rejected_empty) = (blank::says_nothing(&row), blank::rejects_nothing(&row));
        let (is_unasked, noticed) = (blank::asks_nothing(&row), self.encoder.noticed(&row));
        let is_word_for_nothing = blank::says_a_word_for_nothing(&row);
        let refuse_unencodable = refuse(SkipReason::NotEncodable);
        let is_of_prompt = matches!(&row, Row::Unpaired { row, .. } if matches!(**row, Row::Prompt { .. }));
        let is_stop = |&label: &i32| u32::try_from(label).is_ok_and(|id| self.stop_tokens.contains(&id));
        let (mut supervised, mut stops) = (0, is_of_prompt); // which has no answer that could be without an end
        let mut take = |tokens: Tokenized| {
            supervised += tokens.supervised();
            stops |= tokens.labels.iter().skip(1).any(is_stop);
            each(tokens);
        };
        let (length, cut) = if on_long == OnLong::Split {
            let mut pieces = Pieces::new(self.max_length, self.encoder.bos(), &mut take);
            match &row {
                Row::Text(text) => self.encoder.each_of_text(text, &mut |id| pieces.push(id, id.cast_signed())),
                row => {
                    let all = self.encoder.encode(row, usize::MAX).map_err(refuse_unencodable)?;
                    if all.length > self.max_length && !all.tokens.media.is_empty() {
                        return Err(self.too_long(all.length, " and media, which cannot be split"));
                    }
                    pieces.extend(&all.tokens);
                    Ok(())
                }
            }
            .map_err(refuse_unencodable)?;
            (pieces.finish(), 0)
        } else {
            let sequence = |row: &Row| {
                let prefix = self.encoder.encode(row, self.max_length).map_err(refuse_unencodable)?;
                if prefix.length > self.max_length && matches!(on_long, OnLong::Skip | OnLong::Error) {
                    return Err(self.too_long(prefix.length, ""));
                }
                if prefix.supervised > 0 {
                    prefix.require_supervised().map_err(refuse(SkipReason::NothingSupervised))?;
                }
                Ok(prefix)
            };
            let answer = |row: &Row| Ok(self.ended(sequence(row)?));
            let judged = |row: &Row, desirable| {
                let mut prefix = sequence(row)?;
                prefix.tokens.desirable = Some(desirable);
                Ok(prefix)
            };
            let mut other = None;
            let prefix = match &row {
                Row::Preference { chosen, rejected, .. } if self.unpair => {
                    let [good, bad] = [judged(chosen, true)?, judged(rejected, false)?];
                    differ(&good, &bad)?;
                    other = Some(bad);
                    good
                }
                Row::Preference { chosen, rejected, margin } => {
                    let mut prefix = pair(answer(chosen)?, answer(rejected)?)?;
                    prefix.tokens.margin = *margin;
                    prefix
                }
                Row::Unpaired { .. } if self.unpair && is_of_prompt => {
                    let what = "the row judges a prompt, and has no `completion` that is good or bad";
                    let error = Error::new(Kind::Data, what)
                        .hint("`task: reward` with `data.format: unpaired` learns who is to answer a prompt");
                    return Err(refuse(SkipReason::WrongLayout)(error));
                }
                Row::Unpaired { desirable, .. } => judged(&row, *desirable)?,
                Row::Prompt { row: asked, columns } => {
                    // Of a prompt that is cut, another question would be answered.
                    let mut prefix = self.encoder.encode(&row, self.max_length).map_err(refuse_unencodable)?;
                    if prefix.length > self.max_length {
                        return Err(self.long_prompt(prefix.length));
                    }
                    prefix.tokens.columns = Some(formats::with_system(columns, asked, self.encoder.system()));
                    prefix
                }
                row => sequence(row)?,
            };
            let (mut length, mut kept) = (0, 0);
            for prefix in std::iter::once(prefix).chain(other) {
                length += prefix.length;
                kept += prefix.tokens.input_ids.len();
                take(prefix.tokens);
            }
            (kept, (length - kept) as u64)
        };
        if supervised == 0 && !matches!(row, Row::Prompt { .. }) {
            let nothing = Prefix::default().require_supervised();
            nothing.map_err(|e| explain(&row, e)).map_err(refuse(SkipReason::NothingSupervised))?;
        }
        let supervised = u32::try_from(supervised).unwrap_or(u32::MAX);
        Ok(Usable {
            length,
            supervised,
            stops,
            cut,
            is_empty,
            is_rejected_empty,
            is_word_for_nothing,
            is_unasked,
            noticed,
            cut_sound_ms,
            split_sound_ms,
        })
    }

    /// An answer of a pair with what follows it.
    fn ended(&self, mut prefix: Prefix) -> Prefix {
        if let Some(eos) = self.eos.filter(|eos| prefix.tokens.input_ids.last() != Some(eos))
            && prefix.length < self.max_length
        {
            prefix.push(eos, eos.cast_signed());
        }
        prefix
    }

    /// The problem of a prompt of so many tokens.
    fn long_prompt(&self, length: usize) -> Refused {
        let what = format!("the prompt has {length} tokens, and there is room for {}", self.max_length);
        let hint = "`data.max_length` holds a prompt and `grpo.max_completion_length` tokens of its answer: raise it, or set \
                    `data.on_long: skip`";
        let error = Error::new(Kind::Data, what).hint(hint);
        Refused { reason: SkipReason::TooLong, error, tokens: length as u64 }
    }

    /// The problem of a row of so many tokens, and of what else.
    fn too_long(&self, length: usize, and: &str) -> Refused {
        let what = format!("the row has {length} tokens{and}, `max_length` is {}", self.max_length);
        let hint = "raise `data.max_length`, or set `data.on_long: truncate` or `data.on_long: skip`";
        let error = Error::new(Kind::Data, what).hint(hint);
        Refused { reason: SkipReason::TooLong, error, tokens: length as u64 }
    }
}

/// Two answers as one row, of which each has something to learn.
fn pair(chosen: Prefix, rejected: Prefix) -> Result<Prefix, Refused> {
    differ(&chosen, &rejected)?;
    Ok(chosen.followed_by(rejected))
}

/// Refuses two answers to a prompt of which one has nothing to learn, or that are the same.
fn differ(chosen: &Prefix, rejected: &Prefix) -> Result<(), Refused> {
    let refused = |reason, error| Refused { reason, error, tokens: (chosen.length + rejected.length) as u64 };
    for (name, answer) in [("chosen", chosen), ("rejected", rejected)] {
        if answer.supervised == 0 {
            let error = Error::new(Kind::Data, format!("`{name}` has no token that is learnt: it is empty"));
            return Err(refused(SkipReason::NothingSupervised, error));
        }
    }
    if chosen.tokens.input_ids == rejected.tokens.input_ids {
        let is_cut = chosen.tokens.truncated;
        let what = format!("`chosen` and `rejected` are the same{}", if is_cut { " up to `max_length`" } else { "" });
        let error = Error::new(Kind::Data, what).hint("leave the row out, or set `data.on_bad_row: skip`");
        return Err(refused(SkipReason::SameAnswers, error));
    }
    Ok(())
}

/// Adds to a complaint about missing supervision why it is missing, where the row shows it.
fn explain(row: &Row, error: Error) -> Error {
    match row {
        Row::Conversation(c) if !c.messages.iter().any(|m| m.role == Role::Assistant) => {
            error.hint("the conversation has no assistant turn")
        }
        Row::Completion { completion, .. } if !completion.iter().any(|m| m.role == Role::Assistant) => {
            error.hint("the completion has no assistant turn")
        }
        Row::PromptCompletion { completion, .. } if completion.is_empty() => error.hint("`completion` is empty"),
        Row::Unpaired { row, .. } => explain(row, error),
        Row::Tokens { labels: Some(_), .. } => error.hint("all `labels` from the second on are -100"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bytes;
    use super::*;
    use crate::data::media::MediaRules;
    use crate::data::options::RowFormat;
    use crate::text::Encoder;
    use serde_json::{Value, json};

    fn encode(
        max_length: usize,
        on_long: OnLong,
        format: RowFormat,
        row: Value,
    ) -> Result<(Usable, Vec<Tokenized>), Refused> {
        encode_with(false, max_length, on_long, format, row)
    }

    fn encode_with(
        unpair: bool,
        max_length: usize,
        on_long: OnLong,
        format: RowFormat,
        row: Value,
    ) -> Result<(Usable, Vec<Tokenized>), Refused> {
        let rules = MediaRules::default();
        let media = &MediaReader::new(&rules, Path::new(""));
        let (stop_tokens, on_long, folder) = (&[Bytes::STOP], Some(on_long), Path::new(""));
        let eos = on_long.is_some_and(|on_long| on_long == OnLong::Error).then_some(Bytes::EOS);
        let (encoder, file) = (&Bytes, 0);
        let encoder = RowEncoder { encoder, stop_tokens, max_length, on_long, eos, unpair, media, folder, file };
        let mut rows = Vec::new();
        let mut each = |row| rows.push(row);
        let row = Ok(row.as_object().unwrap().clone());
        let usable = encoder.encode(&Layout::new(format, false), (1, row), None, &mut each)?;
        Ok((usable, rows))
    }

    fn refused(max_length: usize, on_long: OnLong, format: RowFormat, row: Value) -> (SkipReason, String) {
        let refused = encode(max_length, on_long, format, row).unwrap_err();
        (refused.reason, format!("{} [{}]", refused.error.what(), refused.error.hint_text().unwrap_or_default()))
    }

    #[test]
    fn a_prompt_and_its_completion() {
        let (usable, rows) =
            encode(8, OnLong::Error, RowFormat::PromptCompletion, json!({"prompt": "ab", "completion": "c"})).unwrap();
        assert_eq!(rows[0].input_ids, [Bytes::BOS, 97, 98, 99, Bytes::STOP]);
        assert_eq!(rows[0].labels, [-100, -100, -100, 99, Bytes::STOP as i32]);
        assert_eq!((usable.supervised, usable.stops, usable.cut, rows[0].truncated), (2, true, 0, false));
    }

    #[test]
    fn a_pair_is_two_sequences_that_differ() {
        let of = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
        let mut row = of("a", "b", "cde");
        row["margin"] = json!(0.5);
        let (usable, rows) = encode(4, OnLong::Truncate, RowFormat::Preference, row).unwrap();
        assert_eq!(rows[0].margin, Some(0.5));
        assert_eq!(rows[0].input_ids, [Bytes::BOS, 97, 98, Bytes::STOP, Bytes::BOS, 97, 99, 100]);
        assert_eq!(rows[0].labels, [-100, -100, 98, Bytes::STOP as i32, -100, -100, 99, 100]);
        assert_eq!((rows.len(), rows[0].second), (1, Some(4)));
        assert_eq!((usable.length, usable.supervised, usable.cut, usable.stops), (8, 4, 2, true));
        for (row, most, reason, what) in [
            (of("a", "b", "b"), 9, SkipReason::SameAnswers, "`chosen` and `rejected` are the same ["),
            (
                of("a", "bc", "bd"),
                3,
                SkipReason::SameAnswers,
                "`chosen` and `rejected` are the same up to `max_length`",
            ),
            (of("a", "b", ""), 9, SkipReason::NothingSupervised, "`rejected` has no token that is learnt"),
            (of("abc", "b", "cde"), 4, SkipReason::NothingSupervised, "`max_length` 4 cuts off all 2 supervised"),
        ] {
            let (found, said) = refused(most, OnLong::Truncate, RowFormat::Preference, row);
            assert!(found == reason && said.starts_with(what), "{said}");
        }
        let (reason, _) = refused(4, OnLong::Skip, RowFormat::Preference, of("a", "b", "cde"));
        assert_eq!(reason, SkipReason::TooLong);
    }

    #[test]
    fn a_bad_answer_of_nothing_is_told_from_a_good_one() {
        let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        let pair = |chosen: &str, rejected: &str| {
            let of = |text: &str| turn("assistant", text);
            json!({"prompt": turn("user", "a"), "chosen": of(chosen), "rejected": of(rejected)})
        };
        let judged = |text: &str, label: bool| json!({"prompt": turn("user", "a"), "completion": turn("assistant", text), "label": label});
        for (format, row, expected) in [
            (RowFormat::Preference, pair("b", "c"), (false, false)),
            (RowFormat::Preference, pair("b", " "), (false, true)),
            (RowFormat::Preference, pair("", "c"), (true, false)),
            (RowFormat::Unpaired, judged("", true), (true, false)),
            (RowFormat::Unpaired, judged("\n", false), (false, true)),
            (RowFormat::Unpaired, judged("b", false), (false, false)),
        ] {
            let (usable, _) = encode(16, OnLong::Truncate, format, row.clone()).unwrap();
            assert_eq!((usable.is_empty, usable.is_rejected_empty), expected, "{row}");
        }
    }

    #[test]
    fn a_prompt_has_nothing_to_learn_and_is_never_cut() {
        let row = || json!({"prompt": "ab", "answer": 4});
        let (usable, rows) = encode(3, OnLong::Truncate, RowFormat::PromptOnly, row()).unwrap();
        assert_eq!((&rows[0].input_ids[..], &rows[0].labels[..]), (&[Bytes::BOS, 97, 98][..], &[-100; 3][..]));
        assert_eq!(rows[0].columns.as_deref(), Some(r#"{"prompt":"ab","answer":4}"#));
        assert_eq!((usable.length, usable.supervised, usable.cut, usable.is_empty), (3, 0, 0, false));
        let (reason, said) = refused(2, OnLong::Truncate, RowFormat::PromptOnly, row());
        assert!(reason == SkipReason::TooLong && said.starts_with("the prompt has 3 tokens"), "{said}");
    }

    #[test]
    fn answers_of_pairs_may_end_in_eos_where_there_is_room() {
        let row = || json!({"prompt": "a", "chosen": "b", "rejected": "cd"});
        let stop = Bytes::STOP;
        let (usable, rows) = encode(5, OnLong::Error, RowFormat::Preference, row()).unwrap();
        assert_eq!(rows[0].input_ids, [Bytes::BOS, 97, 98, stop, Bytes::EOS, Bytes::BOS, 97, 99, 100, stop]);
        assert_eq!((rows[0].labels[4], rows[0].second, usable.supervised), (Bytes::EOS as i32, Some(5), 6));
        assert!(!rows[0].truncated);
        // Other rows have no such end.
        let (_, rows) =
            encode(9, OnLong::Error, RowFormat::PromptCompletion, json!({"prompt": "a", "completion": "b"})).unwrap();
        assert_eq!(rows[0].input_ids.last(), Some(&stop));
    }

    #[test]
    fn a_judged_answer_keeps_its_judgement() {
        let of = |label: Value| json!({"prompt": "a", "completion": "b", "label": label});
        for (label, desirable) in [(json!(true), true), (json!("False"), false), (json!(1), true)] {
            let (usable, rows) = encode(9, OnLong::Truncate, RowFormat::Unpaired, of(label)).unwrap();
            assert_eq!(rows[0].input_ids, [Bytes::BOS, 97, 98, Bytes::STOP]);
            assert_eq!((rows[0].desirable, usable.supervised, rows[0].second), (Some(desirable), 2, None));
        }
        let (reason, said) = refused(9, OnLong::Truncate, RowFormat::Unpaired, of(json!("good")));
        assert!(reason == SkipReason::WrongLayout && said.starts_with("`label` must be true or false"), "{said}");
    }

    #[test]
    fn a_judged_prompt_counts_at_its_last_token() {
        let row = || json!({"prompt": "ab", "label": "remote"});
        let (usable, rows) = encode(3, OnLong::Skip, RowFormat::Unpaired, row()).unwrap();
        assert_eq!((&rows[0].input_ids[..], rows[0].labels[2]), (&[Bytes::BOS, 97, 98][..], 98));
        assert_eq!((rows[0].desirable, usable.supervised, usable.stops), (Some(false), 1, true));
        // One that is cut would be judged in its middle, and an answer that is not there cannot be good.
        assert_eq!(refused(2, OnLong::Truncate, RowFormat::Unpaired, row()).0, SkipReason::NothingSupervised);
        let apart = encode_with(true, 9, OnLong::Truncate, RowFormat::Unpaired, row());
        assert!(apart.is_err_and(|refused| refused.error.what().contains("has no `completion`")));
    }

    #[test]
    fn a_pair_may_be_a_good_and_a_bad_answer() {
        let of = |chosen: &str, rejected: &str| json!({"prompt": "a", "chosen": chosen, "rejected": rejected});
        let apart = |row| encode_with(true, 4, OnLong::Truncate, RowFormat::Preference, row);
        let (usable, rows) = apart(of("b", "cde")).unwrap();
        let [good, bad] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (&good.input_ids[..], &bad.input_ids[..]),
            (&[Bytes::BOS, 97, 98, Bytes::STOP][..], &[Bytes::BOS, 97, 99, 100][..])
        );
        assert_eq!([good.desirable, bad.desirable], [Some(true), Some(false)]);
        assert_eq!((good.second, bad.margin, usable.length, usable.supervised, usable.cut), (None, None, 8, 4, 2));
        for (row, reason) in [(of("b", "b"), SkipReason::SameAnswers), (of("b", ""), SkipReason::NothingSupervised)] {
            assert_eq!(apart(row).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn truncation_is_marked_and_may_cut_the_stop() {
        let row = json!({"prompt": "ab", "completion": "c"});
        let (usable, rows) = encode(4, OnLong::Truncate, RowFormat::PromptCompletion, row).unwrap();
        assert_eq!(rows[0].input_ids, [Bytes::BOS, 97, 98, 99]);
        assert_eq!((usable.supervised, usable.stops, usable.cut, rows[0].truncated), (1, false, 1, true));
    }

    #[test]
    fn a_row_ends_before_a_picture_that_does_not_fit_and_is_not_split_within_one() {
        let row = || json!({"input_ids": [1, 7, 258, 258, 258, 9]});
        let tokens = RowFormat::Tokens;
        let (usable, rows) = encode(4, OnLong::Truncate, tokens, row()).unwrap();
        assert_eq!((usable.length, usable.cut, rows[0].truncated, rows[0].media.len()), (2, 4, true, 0));
        let (_, rows) = encode(5, OnLong::Truncate, tokens, row()).unwrap();
        assert_eq!((rows[0].input_ids.len(), rows[0].media[0].tokens.clone()), (5, 2..5));
        let (_, rows) = encode(6, OnLong::Split, tokens, row()).unwrap();
        assert_eq!((rows.len(), rows[0].media.len()), (1, 1));
        let (reason, why) = refused(4, OnLong::Split, tokens, row());
        assert_eq!(reason, SkipReason::TooLong);
        assert!(why.starts_with("the row has 6 tokens and media, which cannot be split, `max_length` is 4"), "{why}");
    }

    #[test]
    fn a_text_becomes_rows_and_one_of_nothing_is_refused() {
        let (usable, rows) = encode(4, OnLong::Split, RowFormat::Text, json!({"text": "abcdefg"})).unwrap();
        assert_eq!((usable.length, usable.supervised, usable.cut, rows.len()), (8, 7, 0, 3));
        assert_eq!(rows[1].input_ids, [Bytes::BOS, 100, 101, 102]);
        assert_eq!(rows[2].labels, [-100, 103]);
        let nothing = json!({"input_ids": [1, 2], "labels": [1, -100]});
        let refused = encode(4, OnLong::Split, RowFormat::Tokens, nothing).unwrap_err();
        assert_eq!(refused.reason, SkipReason::NothingSupervised);
    }

    #[test]
    fn reasons_name_what_to_change() {
        let pair = |completion: &str| json!({"prompt": "ab", "completion": completion});
        assert_eq!(
            refused(3, OnLong::Truncate, RowFormat::PromptCompletion, pair("c")),
            (
                SkipReason::NothingSupervised,
                "`max_length` 3 cuts off all 2 supervised tokens of the row, which has 5 tokens \
                 [the first supervised token is number 4: raise `data.max_length`, or set `data.on_long: skip`]"
                    .into()
            )
        );
        assert_eq!(
            refused(4, OnLong::Skip, RowFormat::PromptCompletion, pair("c")),
            (
                SkipReason::TooLong,
                "the row has 5 tokens, `max_length` is 4 [raise `data.max_length`, or set `data.on_long: truncate` or `data.on_long: skip`]"
                    .into()
            )
        );
        let (reason, message) =
            refused(9, OnLong::Error, RowFormat::Messages, json!({"messages": [{"role": "user", "content": "a"}]}));
        assert_eq!(reason, SkipReason::NothingSupervised);
        assert!(message.ends_with("[the conversation has no assistant turn]"), "{message}");
    }

    #[test]
    fn what_the_model_does_not_have_is_refused_and_what_teaches_nothing() {
        let encoder = Encoder::tokens_only().with_vocab_size(258);
        let rules = MediaRules::default();
        let media = &MediaReader::new(&rules, Path::new(""));
        let folder = Path::new("");
        let rows = RowEncoder {
            encoder: &encoder,
            stop_tokens: &[],
            max_length: 9,
            on_long: None,
            eos: None,
            unpair: false,
            media,
            folder,
            file: 0,
        };
        let of = |ids: Value, labels: Value| {
            let row = json!({"input_ids": ids, "labels": labels});
            let row = (1, Ok(row.as_object().unwrap().clone()));
            let refused = rows.encode(&Layout::new(RowFormat::Tokens, true), row, None, &mut drop).unwrap_err();
            (refused.reason, refused.error.what().to_owned())
        };
        let reason = |(reason, _): (SkipReason, String)| reason;
        assert_eq!(
            of(json!([1, 258]), json!(null)),
            (SkipReason::NotEncodable, "token 258 is not in the model's vocabulary of 258".into())
        );
        assert_eq!(
            of(json!([1, 2]), json!([-100, -1])),
            (SkipReason::NotEncodable, "label -1 is neither -100 nor an id of the model's vocabulary".into())
        );
        assert_eq!(reason(of(json!([1, 2]), json!([2]))), SkipReason::WrongLayout);
        assert_eq!(reason(of(json!([1, 2]), json!([1, -100]))), SkipReason::NothingSupervised);
    }
}
