//! Text to ids and back, exactly as Hugging Face's tokenizer does it.

mod cuts;

use super::controls::ControlWords;
use super::tokenizer_json::TokenizerJson;
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::weights::gguf::Vocabulary;
use cuts::Cuts;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Files beside `tokenizer.json` that belong to the tokenizer and go where it goes.
const COMPANIONS: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"];

/// Gemma's tokenizer. Cloning shares it; any number of threads may use it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    tokenizer: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    vocab_size: usize,
    fingerprint: String,
    origin: Origin,
    /// Where long texts may be cut; learnt when the first of them comes.
    cuts: OnceLock<Option<Cuts>>,
}

/// Where the tokenizer came from, for writing it out again.
enum Origin {
    /// This `tokenizer.json`.
    File(PathBuf),
    /// A GGUF's vocabulary; this `tokenizer_config.json` describes it to Hugging Face.
    Vocabulary { config: Value },
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, with the names of its begin and end tokens from the `tokenizer_config.json` beside it.
    ///
    /// # Errors
    /// A missing or malformed file, or a named token that is not in the vocabulary.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = crate::input::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::new(Kind::Tokenizer, "the model has no `tokenizer.json`")
                .at_path(path)
                .hint("copy it from the model's repository; only data of the format `tokens` needs none"),
            _ => Error::input(Kind::Tokenizer, "reading the tokenizer", path, e),
        })?;
        let Parsed { tokenizer, words, hasher } = parse(bytes).map_err(|e| e.at_path(path))?;
        let config = read_config(&path.with_file_name("tokenizer_config.json"))?;
        let named = |key: &str, usual: &str| match config.as_ref().and_then(|c| token_name(&c[key])) {
            Some(name) => match tokenizer.token_to_id(name) {
                Some(id) => Ok(Some(id)),
                None => {
                    Err(Error::new(Kind::Tokenizer, format!("`{key}` is `{name}`, which is not in the vocabulary"))
                        .at_path(path.with_file_name("tokenizer_config.json")))
                }
            },
            None => Ok(tokenizer.token_to_id(usual)),
        };
        let (bos, eos) = (named("bos_token", "<bos>")?, named("eos_token", "<eos>")?);
        let fingerprint = fingerprint(hasher, bos, eos);
        Ok(Tokenizer::new(tokenizer, words, bos, eos, fingerprint, Origin::File(path.into())))
    }

    /// Rebuilds the tokenizer from a GGUF's vocabulary; it gives the same ids as the model's `tokenizer.json`.
    ///
    /// # Errors
    /// A vocabulary that contradicts itself: lists of different lengths, a word twice, ids out of range.
    pub fn from_gguf(vocabulary: &Vocabulary) -> Result<Self> {
        let tokenizer = vocabulary.build()?;
        let mut config = json!({
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": true,
            "add_eos_token": false,
            "clean_up_tokenization_spaces": false,
            "spaces_between_special_tokens": false,
        });
        let named = [
            ("bos_token", vocabulary.bos),
            ("eos_token", vocabulary.eos),
            ("unk_token", vocabulary.unknown),
            ("pad_token", vocabulary.padding),
        ];
        for (key, id) in named {
            if let Some(token) = id.and_then(|id| vocabulary.token(id)) {
                config[key] = token.into();
            }
        }
        let bos = vocabulary.bos.or_else(|| tokenizer.token_to_id("<bos>"));
        let eos = vocabulary.eos.or_else(|| tokenizer.token_to_id("<eos>"));
        let (words, fingerprint) = (vocabulary.tokens.len(), vocabulary.fingerprint());
        Ok(Tokenizer::new(tokenizer, words, bos, eos, fingerprint, Origin::Vocabulary { config }))
    }

    fn new(
        tokenizer: tokenizers::Tokenizer,
        words: usize,
        bos: Option<u32>,
        eos: Option<u32>,
        fingerprint: String,
        origin: Origin,
    ) -> Self {
        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder().keys().max();
        let vocab_size = added.map_or(0, |id| *id as usize + 1).max(words);
        Tokenizer(Arc::new(Inner { tokenizer, bos, eos, vocab_size, fingerprint, origin, cuts: OnceLock::new() }))
    }

    /// The ids of `text`. Special tokens written in it are recognised; none is added.
    ///
    /// # Errors
    /// A vocabulary that cannot spell the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in self.pieces(text) {
            ids.extend_from_slice(self.0.tokenizer.encode_fast(piece, false).map_err(unspellable)?.get_ids());
        }
        Ok(ids)
    }

    /// Calls `each` with the tokens of `text` in order, each with the bytes of `text` that it stands for. Those of a long
    /// text are never held together: they may be eight times as large. All bytes of a character that is spelt byte by byte
    /// have the range of the whole character.
    ///
    /// # Errors
    /// A vocabulary that cannot spell the text, and what `each` says.
    pub(crate) fn encode_each(&self, text: &str, each: &mut dyn FnMut(u32, Range<usize>) -> Result<()>) -> Result<()> {
        let mut at = 0;
        for piece in self.pieces(text) {
            let encoding = self.0.tokenizer.encode(piece, false).map_err(unspellable)?;
            for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
                each(id, at + start..at + end)?;
            }
            at += piece.len();
        }
        Ok(())
    }

    /// Calls `each` with the tokens of `begin`, `text` and `end`, one after the other, as [`Tokenizer::encode_each`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode_each`].
    pub(crate) fn encode_between(
        &self,
        begin: &str,
        text: &str,
        end: &str,
        each: &mut dyn FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        // What stands around a long text joins its first and last piece, which are short.
        let mut pieces = self.pieces(text);
        let last = pieces.pop().unwrap_or_default();
        let mut begin = Some(begin);
        let first = |piece: &str, begin: &mut Option<&str>| begin.take().unwrap_or_default().to_owned() + piece;
        let mut encode = |piece: &str| -> Result<()> {
            let encoding = self.0.tokenizer.encode_fast(piece, false).map_err(unspellable)?;
            encoding.get_ids().iter().try_for_each(|&id| each(id))
        };
        for piece in pieces {
            match begin {
                Some(_) => encode(&first(piece, &mut begin))?,
                None => encode(piece)?,
            }
        }
        encode(&(first(last, &mut begin) + end))
    }

    /// `text`, or where it is long, pieces of it that have the same tokens together.
    fn pieces<'t>(&self, text: &'t str) -> Vec<&'t str> {
        if !cuts::is_long(text) {
            return vec![text];
        }
        let cuts = self.0.cuts.get_or_init(|| Cuts::of(&self.0.tokenizer, self.0.vocab_size));
        cuts.as_ref().map_or_else(|| vec![text], |cuts| cuts.pieces(text))
    }

    /// The text of `ids`, with or without the special tokens. Bytes that are no UTF-8 become `�`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.0.tokenizer.decode(ids, skip_special).unwrap_or_default()
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.tokenizer.token_to_id(token)
    }

    /// The spelling in the vocabulary of the token with this id: `▁the`, `<0x0A>`, `<end_of_turn>`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.tokenizer.id_to_token(id)
    }

    /// Whether decoding may leave this token out, as it does `<bos>`.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// The words that only a template may write.
    pub(crate) fn control_words(&self) -> ControlWords {
        let added = self.0.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        ControlWords::of(added.values().map(|token| (token.content.clone(), token.special)))
    }

    /// The token that begins each text.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// The token that ends a text: `eos_token` of the model's tokenizer, so `<end_of_turn>` for some instruct models.
    pub fn eos(&self) -> Option<u32> {
        self.0.eos
    }

    /// The largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size
    }

    /// A hash that changes when any text could get other ids.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint.clone()
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and their companions into `folder`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let own = |name: &str| match &self.0.origin {
            Origin::File(path) => crate::input::read(&path.with_file_name(name)).ok(),
            Origin::Vocabulary { config } if name == "tokenizer_config.json" => {
                Some(format!("{config:#}\n").into_bytes())
            }
            Origin::Vocabulary { .. } => None,
        };
        for name in COMPANIONS {
            if let Some(bytes) = own(name) {
                atomic::write(&folder.join(name), &bytes)?;
            }
        }
        // Byte for byte the model's own file if it is still the one that was read; else what was read from it.
        let target = folder.join("tokenizer.json");
        if let Origin::File(path) = &self.0.origin
            && let Ok(bytes) = crate::input::read(path)
            && fingerprint(hasher(&bytes), self.0.bos, self.0.eos) == self.0.fingerprint
        {
            return atomic::write(&target, &bytes);
        }
        let text = self.0.tokenizer.to_string(false).map_err(|e| {
            Error::new(Kind::Tokenizer, format!("the tokenizer cannot be written: {e}")).at_path(&target)
        })?;
        atomic::write(&target, text.as_bytes())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.0.vocab_size).finish_non_exhaustive()
    }
}

/// A `tokenizer.json` that was read.
struct Parsed {
    tokenizer: tokenizers::Tokenizer,
    /// The largest id of the model's own words plus one.
    words: usize,
    /// A hasher that has seen the file.
    hasher: blake3::Hasher,
}

/// Reads a `tokenizer.json`, whose text is gone before the tables are built.
fn parse(bytes: Vec<u8>) -> Result<Parsed> {
    /// The parts on which the tokenizers crate would panic, or give other ids each time.
    #[derive(Deserialize)]
    struct Parts {
        /// Parsed in full, which the crate expects to succeed.
        #[serde(default, rename = "decoder")]
        _decoder: Value,
        #[serde(default)]
        model: Model,
    }
    #[derive(Deserialize, Default)]
    struct Model {
        #[serde(default, rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        continuing_subword_prefix: Option<String>,
        #[serde(default)]
        dropout: Option<f64>,
    }
    let unusable = |e: &dyn std::fmt::Display| {
        Error::new(Kind::Tokenizer, format!("this is no usable `tokenizer.json`: {e}"))
            .hint("copy it again from the model's repository")
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| unusable(&e))?;
    let Model { kind, continuing_subword_prefix, dropout } =
        serde_json::from_str::<Parts>(text).map_err(|e| unusable(&e))?.model;
    if continuing_subword_prefix.is_some_and(|prefix| !prefix.is_empty()) {
        return Err(unusable(&"`continuing_subword_prefix` is set, which Gemma's never does"));
    }
    if dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unusable(&"`dropout` is set, so that the same text would get other ids each time"));
    }
    let hasher = hasher(&bytes);
    let (mut tokenizer, words) = match kind.as_deref() {
        Some("BPE") => {
            let json: TokenizerJson = serde_json::from_str(text).map_err(|e| unusable(&e))?;
            drop(bytes);
            let words = json.words();
            (json.build().map_err(|e| unusable(&e))?, words)
        }
        _ => {
            let tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| unusable(&e))?;
            let words = tokenizer.get_vocab(false).into_values().max().map_or(0, |id| id as usize + 1);
            (tokenizer, words)
        }
    };
    let growth = tokenizer.get_normalizer().and_then(|part| serde_json::to_value(part).ok()).map_or(1, |n| growth(&n));
    if growth > MAX_GROWTH {
        return Err(unusable(&format!("its normalizer makes texts {growth} times as long")));
    }
    // Settings that Hugging Face overrides at each call, and that would cut or fill rows behind our back.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| unusable(&e))?;
    Ok(Parsed { tokenizer, words, hasher })
}

/// How many times longer a normalizer may make a text; Gemma's writes `▁` for each space.
const MAX_GROWTH: usize = 16;

/// How many times longer a normalizer makes a text at most, as far as it replaces one text by another.
fn growth(normalizer: &Value) -> usize {
    let parts = normalizer["normalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let content = normalizer["content"].as_str().map_or(0, str::len);
    let replaced = normalizer["pattern"]["String"].as_str().map_or(1, str::len).max(1);
    let own = content.div_ceil(replaced).max(1);
    parts.iter().fold(own, |product, part| product.saturating_mul(growth(part)))
}

/// Reads `tokenizer_config.json`; `None` when there is none.
pub(crate) fn read_config(path: &Path) -> Result<Option<Value>> {
    let bytes = match crate::input::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::input(Kind::Tokenizer, "reading the tokenizer's configuration", path, e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::new(Kind::Tokenizer, format!("this is no JSON: {e}")).at_path(path))
}

/// The spelling of a token in `tokenizer_config.json`: a string, or an object with its `content`.
pub(crate) fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// A hasher that has seen the text of a `tokenizer.json`.
fn hasher(tokenizer_json: &[u8]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tokenizer_json);
    hasher
}

fn fingerprint(mut hasher: blake3::Hasher, bos: Option<u32>, eos: Option<u32>) -> String {
    hasher.update(format!("bos {bos:?} eos {eos:?}").as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn unspellable(error: tokenizers::Error) -> Error {
    Error::new(Kind::Tokenizer, format!("the tokenizer cannot spell this text: {error}"))
}

#[cfg(test)]
mod tests;
