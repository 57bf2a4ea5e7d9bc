//! The vocabulary of a `tokenizer.json` as GGUF files hold it: SentencePiece's words with scores and types.
//!
//! Scores follow from the merges: of two words the one that is merged first has the higher. So the tokenizer that a reader
//! of the file builds merges as `tokenizer.json` does.

use super::gguf_vocab::{CONTROL, NORMAL, USER_DEFINED};
use super::tokenizer::{read_config, token_name};
use super::tokenizer_json::{TokenizerJson, is_byte};
use crate::error::{Error, Kind, Result};
use crate::weights::gguf::Vocabulary;
use std::path::Path;

/// A row of the embedding that no word has.
const UNUSED: i32 = 5;
/// One of the 256 bytes.
const BYTE: i32 = 6;

/// The score of what is never merged.
const NEVER: f32 = -1000.0;

/// Reads the vocabulary of a model folder for an embedding of `rows` rows: words beyond are left out, and rows beyond
/// the words have names of their own.
///
/// # Errors
/// A `tokenizer.json` that cannot be read, or that is no tokenizer of Gemma's kind.
pub fn vocabulary(folder: &Path, rows: usize) -> Result<Vocabulary> {
    let path = folder.join("tokenizer.json");
    let wrong = |what: String| Error::new(Kind::Tokenizer, what).at_path(&path);
    let text = crate::input::read_to_string(&path)
        .map_err(|e| Error::input(Kind::Tokenizer, "reading the tokenizer", &path, e))?;
    let json: TokenizerJson = serde_json::from_str(&text)
        .map_err(|e| wrong(format!("a GGUF file takes byte pair encoding, as Gemma's tokenizer is: {e}")))?;
    drop(text);
    let pieces = json.pieces().map_err(wrong)?;
    let config = read_config(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let id = |key: &str, usual: &str| {
        let name = token_name(&config[key]).unwrap_or(usual);
        pieces.words.get(name).copied().filter(|id| (*id as usize) < rows)
    };
    // The end of a text, also where an instruct model calls the end of a turn so: that one has a key of its own.
    let end = pieces.words.get("<eos>").copied().filter(|id| (*id as usize) < rows);
    let (bos, eos) = (id("bos_token", "<bos>"), end.or_else(|| id("eos_token", "<eos>")));
    let (unknown, padding) = (id("unk_token", "<unk>"), id("pad_token", "<pad>"));
    let mut vocabulary = Vocabulary {
        tokens: (0..rows).map(|row| format!("[PAD{row}]")).collect(),
        scores: vec![NEVER; rows],
        types: vec![UNUSED; rows],
        bos,
        eos,
        unknown,
        padding,
        ..Vocabulary::default()
    };
    for (word, id) in pieces.words {
        let Some(token) = vocabulary.tokens.get_mut(id as usize) else { continue };
        let added = pieces.added.get(&word);
        let kind = match added {
            Some(true) => CONTROL,
            Some(false) if is_control(&word) => CONTROL,
            Some(false) => USER_DEFINED,
            None if is_byte(&word) => BYTE,
            None => NORMAL,
        };
        let scores = &mut vocabulary.scores[id as usize];
        *scores = match kind {
            NORMAL => pieces.ranks.get(&id).map_or(NEVER, |rank| -(*rank as f32)),
            BYTE => 0.0,
            _ => NEVER,
        };
        vocabulary.types[id as usize] = kind;
        *token = if kind == USER_DEFINED { word.replace('▁', " ") } else { word };
    }
    Ok(vocabulary)
}

/// Whether a word that was added by hand and is not called special means nothing in a text all the same: converters call
/// these control words.
fn is_control(word: &str) -> bool {
    let unused = word.strip_prefix("<unused").and_then(|rest| rest.strip_suffix('>'));
    matches!(word, "<mask>" | "<2mass>" | "[@BOS@]") || unused.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tokenizer::{golden_json, tiny_tokenizer_folder, tiny_vocabulary};
    use crate::text::Tokenizer;

    #[test]
    fn the_vocabulary_is_that_of_the_gguf() {
        // With the row of pictures, which the file does not have.
        let (ours, theirs) = (vocabulary(&tiny_tokenizer_folder(), 513).unwrap(), tiny_vocabulary().unwrap());
        assert_eq!(ours.tokens[..512], theirs.tokens);
        // The file's converter did not know that these two are special.
        let images = |id: usize| matches!(ours.tokens[id].as_str(), "<start_of_image>" | "<end_of_image>");
        let differing: Vec<usize> = (0..512).filter(|&id| ours.types[id] != theirs.types[id]).collect();
        assert!(differing.iter().all(|&id| images(id)) && differing.len() == 2, "{differing:?}");
        assert_eq!(
            (ours.bos, ours.eos, ours.unknown, ours.padding),
            (theirs.bos, theirs.eos, theirs.unknown, theirs.padding)
        );
        // The same order of merges, whatever the numbers.
        let one = Tokenizer::from_gguf(&ours).unwrap();
        let other = Tokenizer::from_file(&tiny_tokenizer_folder().join("tokenizer.json")).unwrap();
        let cases = golden_json("cases.json").unwrap();
        let mut texts = vec!["The quick brown fox\n\n  jumps over 12 dogs. é 你好 <start_of_turn>".to_owned()];
        let given = cases["texts"].as_array().unwrap().iter();
        texts.extend(given.map(|case| case["text"].as_str().unwrap().to_owned()));
        for text in texts {
            assert_eq!(one.encode(&text).unwrap(), other.encode(&text).unwrap(), "{text:?}");
        }
    }

    #[test]
    fn rows_and_words_need_not_be_as_many() {
        let more = vocabulary(&tiny_tokenizer_folder(), 520).unwrap();
        assert_eq!((more.tokens[515].as_str(), more.types[515], more.scores[515]), ("[PAD515]", UNUSED, NEVER));
        let fewer = vocabulary(&tiny_tokenizer_folder(), 300).unwrap();
        assert_eq!((fewer.tokens.len(), &fewer.tokens[..], fewer.bos), (300, &more.tokens[..300], Some(2)));
        Tokenizer::from_gguf(&more).unwrap();
    }

    #[test]
    fn other_tokenizers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |json: &serde_json::Value| {
            std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
            let error = vocabulary(dir.path(), 512).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.what().to_owned()
        };
        let mut json = golden_json("tokenizer.json").unwrap();
        json["model"]["byte_fallback"] = false.into();
        assert!(refused(&json).contains("does not spell unknown letters as bytes"));
        json["model"] = serde_json::json!({"type": "WordPiece", "vocab": {}});
        assert!(refused(&json).contains("byte pair encoding"));
        assert!(vocabulary(&dir.path().join("none"), 512).unwrap_err().to_string().contains("tokenizer.json"));
    }
}
