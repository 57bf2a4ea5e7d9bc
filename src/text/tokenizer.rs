//! Text to ids and back, exactly as Hugging Face's tokenizer does it.

use crate::weights::gguf::Vocabulary;
use super::stream::TokenStream;
use crate::atomic;
use crate::error::{Error, Kind, Result};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
}

/// Where the tokenizer came from, for writing it out again.
enum Origin {
    /// This `tokenizer.json`.
    File(PathBuf),
    /// A GGUF's vocabulary; this `tokenizer_config.json` describes it to Hugging Face.
    Vocabulary { config: Value },
}

/// Token ids with the bytes of the text that each stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Aligned with `ids`. All bytes of a character that is spelt byte by byte have the range of the whole character.
    pub offsets: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, with the names of its begin and end tokens from the `tokenizer_config.json` beside it.
    ///
    /// # Errors
    /// A missing or malformed file, or a named token that is not in the vocabulary.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::new(Kind::Tokenizer, "the model has no `tokenizer.json`")
                .at_path(path)
                .hint("copy it from the model's repository; only data of the format `tokens` needs none"),
            _ => Error::io("reading the tokenizer", path, e),
        })?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| {
            Error::new(Kind::Tokenizer, format!("this is no usable `tokenizer.json`: {e}")).at_path(path)
        })?;
        // Settings that Hugging Face overrides at each call, and that would cut or fill rows behind our back.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| Error::new(Kind::Tokenizer, e.to_string()).at_path(path))?;

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
        let fingerprint = fingerprint(&bytes, bos, eos);
        Ok(Tokenizer::new(tokenizer, bos, eos, fingerprint, Origin::File(path.into())))
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
        Ok(Tokenizer::new(tokenizer, bos, eos, vocabulary.fingerprint(), Origin::Vocabulary { config }))
    }

    fn new(
        tokenizer: tokenizers::Tokenizer,
        bos: Option<u32>,
        eos: Option<u32>,
        fingerprint: String,
        origin: Origin,
    ) -> Self {
        let vocab_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Tokenizer(Arc::new(Inner { tokenizer, bos, eos, vocab_size, fingerprint, origin }))
    }

    /// The ids of `text`. Special tokens written in it are recognised; none is added.
    ///
    /// # Errors
    /// A vocabulary that cannot spell the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.0.tokenizer.encode_fast(text, false).map_err(unspellable)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`Tokenizer::encode`], with the bytes of `text` that each token stands for.
    pub(crate) fn encode_with_offsets(&self, text: &str) -> Result<Encoded> {
        let encoding = self.0.tokenizer.encode(text, false).map_err(unspellable)?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets })
    }

    /// The text of `ids`, with or without the special tokens. Bytes that are no UTF-8 become `�`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.0.tokenizer.decode(ids, skip_special).unwrap_or_default()
    }

    /// A decoder for ids that arrive one at a time; it leaves special tokens out.
    pub fn stream(&self) -> TokenStream {
        TokenStream::new(self.clone())
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
            Origin::File(path) => std::fs::read(path.with_file_name(name)).ok(),
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
            && let Ok(bytes) = std::fs::read(path)
            && fingerprint(&bytes, self.0.bos, self.0.eos) == self.0.fingerprint
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

/// Reads `tokenizer_config.json`; `None` when there is none.
pub(crate) fn read_config(path: &Path) -> Result<Option<Value>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("reading the tokenizer's configuration", path, e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::new(Kind::Tokenizer, format!("this is no JSON: {e}")).at_path(path))
}

/// The spelling of a token in `tokenizer_config.json`: a string, or an object with its `content`.
pub(crate) fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn fingerprint(tokenizer_json: &[u8], bos: Option<u32>, eos: Option<u32>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tokenizer_json);
    hasher.update(format!("bos {bos:?} eos {eos:?}").as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn unspellable(error: tokenizers::Error) -> Error {
    Error::new(Kind::Tokenizer, format!("the tokenizer cannot spell this text: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tokenizer::{golden_json, tiny_tokenizer, tiny_tokenizer_folder, tiny_vocabulary};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// The tiny tokenizer from its `tokenizer.json` and from its GGUF vocabulary.
    static BOTH: LazyLock<[Tokenizer; 2]> =
        LazyLock::new(|| [tiny_tokenizer().unwrap(), Tokenizer::from_gguf(&tiny_vocabulary().unwrap()).unwrap()]);

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn both_sources_give_the_ids_and_texts_of_hugging_face() {
        let cases = golden_json("cases.json").unwrap();
        for (tokenizer, source) in BOTH.iter().zip(["tokenizer.json", "gguf"]) {
            for case in cases["texts"].as_array().unwrap() {
                let (text, expected) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
                // The GGUF's vocabulary ends where the model's does, before this token.
                if source == "gguf" && text == "<image_soft_token>" {
                    continue;
                }
                assert_eq!(tokenizer.encode(text).unwrap(), expected, "{source}: {text:?}");
                assert_eq!(tokenizer.decode(&expected, false), case["decoded"], "{source}: {text:?}");
                assert_eq!(tokenizer.decode(&expected, true), case["decoded_without_special"], "{source}: {text:?}");
            }
        }
    }

    #[test]
    fn offsets_are_those_of_hugging_face_in_bytes() {
        let cases = golden_json("cases.json").unwrap();
        let tokenizer = tiny_tokenizer().unwrap();
        for case in cases["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let byte = |char: &Value| {
                let char = char.as_u64().unwrap() as usize;
                text.char_indices().nth(char).map_or(text.len(), |(byte, _)| byte)
            };
            let expected: Vec<_> =
                case["offsets"].as_array().unwrap().iter().map(|o| byte(&o[0])..byte(&o[1])).collect();
            assert_eq!(tokenizer.encode_with_offsets(text).unwrap().offsets, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_the_same_ids_from_both_sources_and_comes_back(text in r"([ \n\t▁<>a-z]|<start_of_turn>|<eos>|the|\PC){0,40}") {
            let [file, gguf] = &*BOTH;
            let ids = file.encode(&text).unwrap();
            prop_assert_eq!(&gguf.encode(&text).unwrap(), &ids);
            prop_assert_eq!(file.decode(&ids, false), text.replace('▁', " "));
            let encoded = file.encode_with_offsets(&text).unwrap();
            prop_assert_eq!(encoded.ids, ids);
            // Offsets leave nothing out: each begins where the one before ends, or is the same character again.
            let mut end = 0;
            for (i, range) in encoded.offsets.iter().enumerate() {
                prop_assert!(range.start == end || encoded.offsets[i - 1] == *range);
                end = range.end;
            }
            prop_assert_eq!(end, text.len());
        }
    }

    #[test]
    fn the_named_tokens_come_from_the_model() {
        let [file, gguf] = &*BOTH;
        assert_eq!((file.bos(), file.eos(), file.vocab_size()), (Some(2), Some(9), 513)); // its eos is <end_of_turn>
        assert_eq!((gguf.bos(), gguf.eos(), gguf.vocab_size()), (Some(2), Some(1), 512));
        assert_eq!(file.id("<end_of_turn>"), Some(9));
        assert_eq!(file.token(9).as_deref(), Some("<end_of_turn>"));
        assert!(file.is_special(9) && gguf.is_special(9));
        assert_eq!(file.id("no such token"), None);
        let unused = file.id("<unused0>").unwrap();
        assert!(!file.is_special(unused) && !gguf.is_special(unused));
    }

    #[test]
    fn a_saved_tokenizer_is_the_same_tokenizer() {
        let [file, gguf] = &*BOTH;
        let folder = tempfile::tempdir().unwrap();
        file.save(folder.path()).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            let (saved, own) = (folder.path().join(name), tiny_tokenizer_folder().join(name));
            assert_eq!(std::fs::read(saved).unwrap(), std::fs::read(own).unwrap(), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        gguf.save(folder.path()).unwrap();
        let again = Tokenizer::from_file(&folder.path().join("tokenizer.json")).unwrap();
        assert_eq!((again.bos(), again.eos()), (Some(2), Some(1)));
        let text = "  the 你 👋 <start_of_turn>\n\n\n";
        assert_eq!(again.encode(text).unwrap(), gguf.encode(text).unwrap());
        let both: [Value; 2] = [folder.path(), &tiny_tokenizer_folder()]
            .map(|folder| serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap());
        for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model"] {
            assert_eq!(both[0][part], both[1][part], "{part}");
        }
    }

    #[test]
    fn a_tokenizer_whose_file_changed_is_still_written_as_it_was_read() {
        let (home, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = home.path().join("tokenizer.json");
        std::fs::copy(tiny_tokenizer_folder().join("tokenizer.json"), &path).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        tokenizer.save(target.path()).unwrap();
        let again = Tokenizer::from_file(&target.path().join("tokenizer.json")).unwrap();
        assert_eq!(again.encode("the cat").unwrap(), tokenizer.encode("the cat").unwrap());
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let what = || Tokenizer::from_file(&path).unwrap_err();
        assert_eq!(what().what(), "the model has no `tokenizer.json`");
        std::fs::write(&path, "{\"model\": ").unwrap();
        assert!(what().what().starts_with("this is no usable `tokenizer.json`: "), "{}", what());
        std::fs::copy(tiny_tokenizer_folder().join("tokenizer.json"), &path).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"bos_token": {"content": "<s>"}}"#).unwrap();
        assert_eq!(what().what(), "`bos_token` is `<s>`, which is not in the vocabulary");
        std::fs::write(folder.path().join("tokenizer_config.json"), "[").unwrap();
        assert!(what().what().starts_with("this is no JSON: "), "{}", what());
    }

    #[test]
    fn the_fingerprint_follows_what_decides_ids() {
        let vocabulary = tiny_vocabulary().unwrap();
        let print = |v: &Vocabulary| Tokenizer::from_gguf(v).unwrap().fingerprint();
        assert_eq!(print(&vocabulary), print(&vocabulary.clone()));
        let mut other = vocabulary.clone();
        other.scores[500] = -7.5;
        assert_ne!(print(&other), print(&vocabulary));
    }
}
