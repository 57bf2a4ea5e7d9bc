//! Gemma's tokenizer rebuilt from the vocabulary inside a GGUF file.
//!
//! A GGUF holds SentencePiece's tokens, scores and types; `tokenizer.json` holds the same words with a list of merges.
//! The merges follow from the vocabulary: each word can come from any split into two words, the best score first. So
//! both files give the same tokenizer, merge for merge.

use crate::error::{Error, Kind, Result};
use crate::weights::gguf::Vocabulary;
use std::cmp::Ordering;
use std::collections::HashMap;
use tokenizers::decoders::{DecoderWrapper, byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// A word that SentencePiece learnt.
pub(super) const NORMAL: i32 = 1;
/// The token for what cannot be spelt.
const UNKNOWN: i32 = 2;
/// A token that only a template writes, such as `<start_of_turn>`.
pub(super) const CONTROL: i32 = 3;
/// A word that was put into the vocabulary by hand and always matches, such as a run of newlines.
pub(super) const USER_DEFINED: i32 = 4;

/// The longest word that is split into merges. Gemma's longest has 93 bytes; the work grows with the square.
const LONGEST_WORD_BYTES: usize = 1024;

/// Gemma's tokens that decoding leaves out. The GGUF types do not tell: `<unused0>` has the type of `<bos>`.
const SPECIAL: [&str; 9] = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
];

impl Vocabulary {
    /// The word with this id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// A hash over all that decides ids.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"gguf vocabulary 1");
        for (token, (score, kind)) in self.tokens.iter().zip(self.scores.iter().zip(&self.types)) {
            hasher.update(&(token.len() as u64).to_le_bytes());
            hasher.update(token.as_bytes());
            hasher.update(&score.to_le_bytes());
            hasher.update(&kind.to_le_bytes());
        }
        for id in [self.bos, self.eos, self.unknown, self.padding] {
            hasher.update(&id.map_or(u64::MAX, u64::from).to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(Kind::Tokenizer, what));
        let n = self.tokens.len();
        if n == 0 {
            return wrong("the GGUF's vocabulary is empty".into());
        }
        if self.scores.len() != n || self.types.len() != n {
            return wrong(format!(
                "the GGUF's vocabulary has {n} tokens, but {} scores and {} types",
                self.scores.len(),
                self.types.len()
            ));
        }
        if let Some(id) = self.scores.iter().position(|s| !s.is_finite()) {
            return wrong(format!("the score of token {id} `{}` in the GGUF is {}", self.tokens[id], self.scores[id]));
        }
        let named = [("bos", self.bos), ("eos", self.eos), ("unknown", self.unknown), ("padding", self.padding)];
        for (name, id) in named.into_iter().filter_map(|(name, id)| Some((name, id?))) {
            if self.token(id).is_none() {
                return wrong(format!("`tokenizer.ggml.{name}_token_id` is {id}, but the vocabulary has {n} tokens"));
            }
        }
        if self.add_space_prefix {
            return Err(Error::new(Kind::Tokenizer, "the GGUF's tokenizer puts a space before the text")
                .hint("Gemma's does not: `tokenizer.ggml.add_space_prefix` should be false"));
        }
        Ok(())
    }

    /// The words as `tokenizer.json` spells them: with `▁` for a space.
    fn words(&self) -> Vec<String> {
        let spelt = |(word, &kind): (&String, &i32)| match kind {
            NORMAL | USER_DEFINED => word.replace(' ', "▁"),
            _ => word.clone(),
        };
        self.tokens.iter().zip(&self.types).map(spelt).collect()
    }

    /// The merges of `words`, first the one to apply first, exactly as in Gemma's `tokenizer.json`.
    fn merges(&self, words: &[String], ids: &HashMap<&str, u32>) -> Vec<(u32, u32)> {
        struct Merge {
            score: f32,
            lengths: (usize, usize), // characters
            pair: (u32, u32),
        }
        let mut merges = Vec::new();
        for (word, (&score, &kind)) in words.iter().zip(self.scores.iter().zip(&self.types)) {
            // Words put in by hand come before all learnt ones, whatever score the file gives them.
            let score = match kind {
                NORMAL => score + 0.0, // -0.0 becomes 0.0, which it must tie with
                USER_DEFINED => 0.0,
                _ => continue,
            };
            let first = merges.len();
            let length = word.chars().count();
            for (left, (at, _)) in word.char_indices().enumerate().skip(1) {
                if let (Some(&a), Some(&b)) = (ids.get(&word[..at]), ids.get(&word[at..])) {
                    merges.push(Merge { score, lengths: (left, length - left), pair: (a, b) });
                }
            }
            merges[first..].sort_by_key(|merge| merge.pair);
        }
        // Stable: equal merges stay in the order of their words.
        merges.sort_by(|a, b| match b.score.total_cmp(&a.score) {
            Ordering::Equal => b.lengths.cmp(&a.lengths),
            order => order,
        });
        merges.into_iter().map(|merge| merge.pair).collect()
    }

    /// The tokenizer that Gemma's `tokenizer.json` describes, from this vocabulary.
    pub(crate) fn build(&self) -> Result<tokenizers::Tokenizer> {
        self.check()?;
        let words = self.words();
        let mut ids: HashMap<&str, u32> = HashMap::with_capacity(words.len());
        for (id, word) in words.iter().enumerate() {
            if word.len() > LONGEST_WORD_BYTES {
                return Err(Error::new(
                    Kind::Tokenizer,
                    format!("token {id} of the GGUF's vocabulary is {} bytes long", word.len()),
                ));
            }
            if let Some(other) = ids.insert(word, id as u32) {
                let what = format!("the GGUF's vocabulary has `{word}` twice, as token {other} and as token {id}");
                return Err(Error::new(Kind::Tokenizer, what));
            }
        }
        let merges = self.merges(&words, &ids);
        let merges = merges.into_iter().map(|(a, b)| (words[a as usize].clone(), words[b as usize].clone())).collect();
        let vocab: Vocab = words.iter().cloned().zip(0..).collect();
        let mut model = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = self.unknown {
            model = model.unk_token(words[unknown as usize].clone());
        }
        self.assemble(model.build().map_err(refused)?, &words).map_err(refused)
    }

    /// Puts Gemma's normalizer, decoder and added tokens around the model.
    fn assemble(&self, model: BPE, words: &[String]) -> tokenizers::Result<tokenizers::Tokenizer> {
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(Replace::new(" ", "▁")?))
            .with_pre_tokenizer(Some(Split::new(
                SplitPattern::String(" ".into()),
                SplitDelimiterBehavior::MergedWithPrevious,
                false,
            )?))
            .with_decoder(Some(Sequence::new(vec![
                DecoderWrapper::Replace(Replace::new("▁", " ")?),
                DecoderWrapper::ByteFallback(ByteFallback::new()),
                DecoderWrapper::Fuse(Fuse::new()),
            ])));
        if let Some(bos) = self.bos {
            let name = words[bos as usize].as_str();
            let begins = TemplateProcessing::builder()
                .try_single(format!("{name} $A"))?
                .try_pair(format!("{name} $A {name}:1 $B:1"))?
                .special_tokens(vec![(name, bos)])
                .build()?;
            tokenizer.with_post_processor(Some(begins));
        }
        let named = [self.bos, self.eos, self.unknown, self.padding];
        let added: Vec<AddedToken> = words
            .iter()
            .zip(&self.types)
            .enumerate()
            // By name too: some converters call all words normal.
            .filter(|(_, (word, kind))| {
                matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED) || SPECIAL.contains(&word.as_str())
            })
            .map(|(id, (word, _))| {
                let special = SPECIAL.contains(&word.as_str()) || named.contains(&Some(id as u32));
                AddedToken::from(word.as_str(), special).normalized(false)
            })
            .collect();
        tokenizer.add_tokens(&added);
        Ok(tokenizer)
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Tokenizer, format!("the GGUF's vocabulary makes no tokenizer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tokenizer::{golden_json, tiny_vocabulary};

    #[test]
    fn the_merges_are_those_of_tokenizer_json_in_their_order() {
        let vocabulary = tiny_vocabulary().unwrap();
        let words = vocabulary.words();
        let ids = words.iter().map(String::as_str).zip(0..).collect();
        let merges: Vec<[&str; 2]> =
            vocabulary.merges(&words, &ids).iter().map(|&(a, b)| [&*words[a as usize], &*words[b as usize]]).collect();
        let expected = golden_json("tokenizer.json").unwrap()["model"]["merges"].clone();
        assert_eq!(serde_json::to_value(merges).unwrap(), expected);
    }

    #[test]
    fn runs_of_spaces_are_spelt_as_in_tokenizer_json() {
        let vocabulary = tiny_vocabulary().unwrap();
        let spaces: Vec<usize> = (0..512).filter(|&id| vocabulary.tokens[id].starts_with(' ')).collect();
        assert_eq!(spaces.len(), 5); // two to six
        assert!(spaces.iter().all(|&id| vocabulary.words()[id].chars().all(|c| c == '▁')));
    }

    #[test]
    fn special_tokens_are_recognised_whatever_their_type() {
        let mut vocabulary = tiny_vocabulary().unwrap();
        (vocabulary.types[3], vocabulary.types[8]) = (UNKNOWN, NORMAL); // <unk>, <start_of_turn>
        let tokenizer = vocabulary.build().unwrap();
        assert_eq!(tokenizer.encode("<unk><start_of_turn>", false).unwrap().get_ids(), [3, 8]);
        assert_eq!(tokenizer.decode(&[3, 8], true).unwrap(), "");
    }

    #[test]
    fn vocabularies_that_contradict_themselves_are_refused() {
        let refused = |change: fn(&mut Vocabulary)| {
            let mut vocabulary = tiny_vocabulary().unwrap();
            change(&mut vocabulary);
            vocabulary.build().unwrap_err().what().to_owned()
        };
        assert_eq!(
            refused(|v| v.scores.truncate(5)),
            "the GGUF's vocabulary has 512 tokens, but 5 scores and 512 types"
        );
        assert_eq!(refused(|v| v.scores[3] = f32::NAN), "the score of token 3 `<unk>` in the GGUF is NaN");
        assert_eq!(
            refused(|v| v.tokens[1] = "<pad>".into()),
            "the GGUF's vocabulary has `<pad>` twice, as token 0 and as token 1"
        );
        assert_eq!(
            refused(|v| v.bos = Some(512)),
            "`tokenizer.ggml.bos_token_id` is 512, but the vocabulary has 512 tokens"
        );
        assert_eq!(refused(|v| v.add_space_prefix = true), "the GGUF's tokenizer puts a space before the text");
        assert_eq!(
            refused(|v| v.tokens[400] = "a".repeat(2000)),
            "token 400 of the GGUF's vocabulary is 2000 bytes long"
        );
        assert_eq!(refused(|v| *v = Vocabulary::default()), "the GGUF's vocabulary is empty");
    }
}
