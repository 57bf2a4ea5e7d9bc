//! `tokenizer.json` read piece by piece.
//!
//! The tokenizers crate reads the model into a tree of JSON values first, which for Gemma's 262,144 words and 514,906
//! merges takes half a gigabyte. Here each merge goes straight to where it stays, and the text of the file is gone before
//! the tables are built from it: a fifth of that.

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer};

/// A `tokenizer.json` whose model is byte pair encoding, parsed and not built.
#[derive(Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default = "current_version")]
    version: String,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    decoder: Option<DecoderWrapper>,
    model: Model,
}

/// The version that Hugging Face writes.
fn current_version() -> String {
    "1.0".into()
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    vocab: Vocab,
    merges: Vec<Merge>,
}

impl TokenizerJson {
    /// The largest id of the model's own words plus one.
    pub(super) fn words(&self) -> usize {
        self.model.vocab.values().max().map_or(0, |id| *id as usize + 1)
    }

    /// Its words, and the order in which they come out of merges.
    ///
    /// # Errors
    /// What it has that no vocabulary of SentencePiece's can say.
    pub(super) fn pieces(self) -> Result<Pieces, String> {
        let Model { vocab, merges, byte_fallback, end_of_word_suffix, .. } = self.model;
        if !byte_fallback.unwrap_or_default() || !vocab.keys().any(|word| is_byte(word)) {
            return Err("the tokenizer does not spell unknown letters as bytes, as Gemma's does".into());
        }
        if end_of_word_suffix.is_some_and(|suffix| !suffix.is_empty()) {
            return Err("the tokenizer marks the ends of words, which Gemma's does not".into());
        }
        let mut words: HashMap<String, u32> = vocab.into_iter().collect();
        let mut next = words.values().max().map_or(0, |id| id + 1);
        let mut added = HashMap::new();
        for token in self.added_tokens {
            words.entry(token.content.clone()).or_insert_with(|| {
                next += 1;
                next - 1
            });
            added.insert(token.content, token.special);
        }
        let is_normal = |word: &str| !added.contains_key(word) && !is_byte(word);
        let mut ranks = HashMap::new();
        for Merge(left, right) in merges {
            let word = left + &right;
            if let Some(&id) = words.get(&word).filter(|_| is_normal(&word)) {
                let rank = ranks.len();
                ranks.entry(id).or_insert(rank);
            }
        }
        let mut rest: Vec<u32> = words.iter().filter(|(word, _)| is_normal(word)).map(|(_, id)| *id).collect();
        rest.sort_unstable();
        for id in rest {
            let rank = ranks.len();
            ranks.entry(id).or_insert(rank);
        }
        Ok(Pieces { words, added, ranks })
    }

    /// Builds what it describes, as the tokenizers crate does, without its padding and truncation.
    pub(super) fn build(self) -> tokenizers::Result<Tokenizer> {
        if self.version != current_version() {
            return Err(format!("Unknown tokenizer version '{}'", self.version).into());
        }
        let Model { unk_token, end_of_word_suffix, fuse_unk, byte_fallback, ignore_merges, vocab, merges } = self.model;
        let merges = merges.into_iter().map(|Merge(left, right)| (left, right)).collect();
        let mut model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .fuse_unk(fuse_unk.unwrap_or_default())
            .byte_fallback(byte_fallback.unwrap_or_default())
            .ignore_merges(ignore_merges.unwrap_or_default());
        if let Some(token) = unk_token {
            model = model.unk_token(token);
        }
        if let Some(suffix) = end_of_word_suffix {
            model = model.end_of_word_suffix(suffix);
        }
        let mut tokenizer = Tokenizer::new(model.build()?);
        tokenizer
            .with_normalizer(self.normalizer)
            .with_pre_tokenizer(self.pre_tokenizer)
            .with_post_processor(self.post_processor)
            .with_decoder(self.decoder);
        tokenizer.add_tokens(&self.added_tokens);
        Ok(tokenizer)
    }
}

/// The words of a `tokenizer.json`.
pub(super) struct Pieces {
    /// The id of each.
    pub words: HashMap<String, u32>,
    /// Those that were added by hand, and whether they are special.
    pub added: HashMap<String, bool>,
    /// The order in which ids come out of merges; after them those that come out of none.
    pub ranks: HashMap<u32, usize>,
}

/// Whether a word stands for a byte: `<0x0A>`.
pub(super) fn is_byte(word: &str) -> bool {
    let digits = word.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Two words that become one: `["a", "b"]`, or in older files `"a b"`.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge of two words")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
                match text.split_once(' ').filter(|(_, right)| !right.contains(' ')) {
                    Some((left, right)) => Ok(Merge(left.into(), right.into())),
                    None => Err(E::custom(format!("merge `{text}` is not of two words"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Merge, A::Error> {
                let mut next =
                    || words.next_element()?.ok_or_else(|| A::Error::custom("a merge of fewer than two words"));
                let (left, right) = (next()?, next()?);
                match words.next_element::<String>()? {
                    None => Ok(Merge(left, right)),
                    Some(_) => Err(A::Error::custom("a merge of more than two words")),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn both(json: &Value) -> [Option<String>; 2] {
        let text = json.to_string();
        let ours = serde_json::from_str::<TokenizerJson>(&text).ok().and_then(|json| json.build().ok());
        let theirs = Tokenizer::from_bytes(text.as_bytes()).ok();
        [ours, theirs].map(|tokenizer| Some(tokenizer?.to_string(false).unwrap()))
    }

    fn tiny() -> Value {
        let path = crate::testkit::golden::folder("tokenizer").join("tokenizer.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn what_is_read_is_what_the_crate_reads() {
        let mut json = tiny();
        json["padding"] = Value::Null;
        json["truncation"] = Value::Null;
        let [ours, theirs] = both(&json);
        assert!(ours.is_some());
        assert_eq!(ours, theirs);

        let mut older = json.clone();
        for merge in older["model"]["merges"].as_array_mut().unwrap() {
            *merge = format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()).into();
        }
        assert_eq!(both(&older), [ours, theirs], "merges as older files write them");

        let mut other = json.clone();
        other["model"]["unk_token"] = Value::Null;
        other["model"]["ignore_merges"] = json!(true);
        other["model"]["end_of_word_suffix"] = json!("</w>");
        other["added_tokens"] = json!([]);
        other["normalizer"] = Value::Null;
        let [ours, theirs] = both(&other);
        assert!(ours.is_some());
        assert_eq!(ours, theirs);
    }

    #[test]
    fn what_the_crate_refuses_is_refused() {
        for (pointer, value) in [
            ("/version", json!("2.0")),
            ("/model/merges", json!([["no", "such word"]])),
            ("/model/merges", json!([["one"]])),
            ("/model/merges", json!([["one", "two", "three"]])),
            ("/model/merges", json!(["one"])),
            ("/model/vocab", json!(3)),
            ("/added_tokens", json!([{"content": "x"}])),
            ("/normalizer", json!({"type": "Unheard"})),
        ] {
            let mut json = tiny();
            *json.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(both(&json), [None, None], "{pointer} {value}");
        }
    }
}
