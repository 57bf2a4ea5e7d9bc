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

/// The ids of a text, and the bytes that each stands for.
fn with_offsets(tokenizer: &Tokenizer, text: &str) -> (Vec<u32>, Vec<std::ops::Range<usize>>) {
    let mut encoded = (Vec::new(), Vec::new());
    let mut each = |id, at| {
        encoded.0.push(id);
        encoded.1.push(at);
        Ok(())
    };
    tokenizer.encode_each(text, &mut each).unwrap();
    encoded
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
        let expected: Vec<_> = case["offsets"].as_array().unwrap().iter().map(|o| byte(&o[0])..byte(&o[1])).collect();
        assert_eq!(with_offsets(&tokenizer, text).1, expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_has_the_same_ids_from_both_sources_and_comes_back(text in r"([ \n\t▁<>a-z]|<start_of_turn>|<eos>|the|\PC){0,40}") {
        let [file, gguf] = &*BOTH;
        let ids = file.encode(&text).unwrap();
        prop_assert_eq!(&gguf.encode(&text).unwrap(), &ids);
        prop_assert_eq!(file.decode(&ids, false), text.replace('▁', " "));
        let (again, offsets) = with_offsets(file, &text);
        prop_assert_eq!(again, ids);
        // Offsets leave nothing out: each begins where the one before ends, or is the same character again.
        let mut end = 0;
        for (i, range) in offsets.iter().enumerate() {
            prop_assert!(range.start == end || offsets[i - 1] == *range);
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
    assert!(what().what().starts_with("this is no usable `tokenizer.json`: EOF"), "{}", what());
    let change = |from: &str, to: &str| {
        let whole = std::fs::read_to_string(tiny_tokenizer_folder().join("tokenizer.json")).unwrap();
        assert!(whole.contains(from));
        std::fs::write(&path, whole.replace(from, to)).unwrap();
        what().what().to_owned()
    };
    for (from, to) in [
        ("\"ByteFallback\"}", "\"ByteFallback\\ud800\"}"),
        ("\"ByteFallback\"}", "3"),
        ("\"dropout\":null", "\"dropout\":0.1"),
        ("\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"x\""),
        ("\"content\":\"▁\"", "\"content\":\"a text that takes the place of every space\""),
    ] {
        assert!(change(from, to).starts_with("this is no usable `tokenizer.json`: "), "{from} -> {to}");
    }
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

#[test]
fn long_texts_are_cut_where_no_token_stands_across() {
    // Words, runs of spaces and lines, special tokens, characters that the vocabulary does not have.
    let words = ["the ", "a", "  ", "\n\n", "é", "<start_of_turn>", "▁", "xyz ", "日本", "\t", "</b>", ". "];
    let mut state = 7_usize;
    let mut text = String::new();
    while text.len() < 300_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(words[(state >> 33) % words.len()]);
    }
    for tokenizer in BOTH.iter() {
        let whole = tokenizer.0.tokenizer.encode(text.as_str(), false).unwrap();
        assert!(tokenizer.pieces(&text).len() > 5, "{} pieces", tokenizer.pieces(&text).len());
        assert_eq!(tokenizer.encode(&text).unwrap(), whole.get_ids());
        let (ids, offsets) = with_offsets(tokenizer, &text);
        assert_eq!(ids, whole.get_ids());
        assert!(offsets.iter().zip(whole.get_offsets()).all(|(a, &(start, end))| *a == (start..end)));
        for (begin, text, end) in
            [("<bos>", text.as_str(), "<eos>"), ("", &text, ""), ("<bos>", "", ""), ("a", "b", "c")]
        {
            let mut between = Vec::new();
            let mut each = |id| {
                between.push(id);
                Ok(())
            };
            tokenizer.encode_between(begin, text, end, &mut each).unwrap();
            let whole = tokenizer.0.tokenizer.encode([begin, text, end].concat(), false).unwrap();
            assert_eq!(between, whole.get_ids());
        }
    }
}
