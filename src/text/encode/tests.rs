use super::*;
use crate::testkit::tokenizer::{golden_chats, golden_json, tiny_encoder, tiny_tokenizer, tiny_vocabulary};
use serde_json::Value;

fn talk(messages: &[(Role, &str)]) -> Conversation {
    let messages = messages.iter().map(|&(role, text)| Message::new(role, text)).collect();
    Conversation { messages, tools: vec![] }
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The text of the tokens with a loss.
fn learnt(encoder: &Encoder, row: &Tokenized) -> String {
    let ids: Vec<u32> = row.labels.iter().filter_map(|&label| u32::try_from(label).ok()).collect();
    encoder.tokenizer().unwrap().decode(&ids, false)
}

#[test]
fn ids_and_masks_are_those_of_trl() {
    let encoder = tiny_encoder().unwrap();
    let mut masks = 0;
    for (name, conversation, case) in golden_chats().unwrap() {
        let Some(mask) = case["mask"].as_array() else { continue };
        let row = encoder.encode_conversation(&conversation).unwrap();
        assert_eq!(row.input_ids, numbers::<u32>(&case["train"]["ids"]), "{name}");
        let expected: Vec<i32> =
            row.input_ids.iter().zip(mask).map(|(&id, on)| if *on == 1 { id as i32 } else { IGNORE_INDEX }).collect();
        assert_eq!(row.labels, expected, "{name}");
        assert!(encoder.stop_ids().iter().any(|&id| row.labels.contains(&(id as i32))), "{name}");
        masks += 1;
    }
    assert_eq!(masks, 11);
}

#[test]
fn prompts_for_generation_have_the_ids_of_hugging_face() {
    let encoder = tiny_encoder().unwrap();
    let mut prompts = 0;
    for (name, conversation, case) in golden_chats().unwrap() {
        if case["generate"]["ids"].is_array() && conversation.messages.last().unwrap().role == Role::User {
            let ids = encoder.encode_prompt(&conversation).unwrap();
            assert_eq!(ids, numbers::<u32>(&case["generate"]["ids"]), "{name}");
            prompts += 1;
        }
    }
    assert_eq!(prompts, 4);
    let error = encoder.encode_prompt(&talk(&[(Role::User, "a"), (Role::Assistant, "b")])).unwrap_err();
    assert_eq!(error.what(), "the conversation ends with the assistant's turn: there is nothing to answer");
}

#[test]
fn completions_are_those_of_trl() {
    let encoder = tiny_encoder().unwrap();
    for case in golden_json("cases.json").unwrap()["completions"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let row = encoder.encode_prompt_completion(text("prompt"), text("completion")).unwrap();
        assert_eq!(row.input_ids, numbers::<u32>(&case["ids"]), "{case}");
        assert_eq!(row.labels, numbers::<i32>(&case["labels"]), "{case}");
    }
}

#[test]
fn what_is_trained_on_is_the_users_choice() {
    let conversation = talk(&[(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c"), (Role::Assistant, "d")]);
    let learnt = |train_on| {
        let encoder = tiny_encoder().unwrap().with_train_on(train_on);
        learnt(&encoder, &encoder.encode_conversation(&conversation).unwrap())
    };
    assert_eq!(learnt(TrainOn::Assistant), "b<end_of_turn>\nd<end_of_turn>\n");
    assert_eq!(learnt(TrainOn::LastAssistant), "d<end_of_turn>\n");
    assert_eq!(learnt(TrainOn::All), tiny_encoder().unwrap().template().render(&conversation, false).unwrap().text);
}

#[test]
fn a_conversation_without_an_answer_is_refused_unless_all_is_trained() {
    let question = talk(&[(Role::User, "a")]);
    let encoder = tiny_encoder().unwrap();
    let error = encoder.encode_conversation(&question).unwrap_err();
    assert_eq!(error.what(), "the conversation has no assistant turn, so there is nothing to train on");
    let row = encoder.with_train_on(TrainOn::All).encode_conversation(&question).unwrap();
    assert_eq!(row.supervised(), row.input_ids.len() - 1);
}

#[test]
fn the_default_system_message_is_for_conversations_without_one() {
    let encoder = tiny_encoder().unwrap().with_system(Some("S".into()));
    let text = |conversation| {
        let row = encoder.encode_conversation(&conversation).unwrap();
        encoder.tokenizer().unwrap().decode(&row.input_ids, true)
    };
    assert_eq!(text(talk(&[(Role::User, "a"), (Role::Assistant, "b")])), "user\nS\n\na\nmodel\nb\n");
    assert_eq!(
        text(talk(&[(Role::System, "T"), (Role::User, "a"), (Role::Assistant, "b")])),
        "user\nT\n\na\nmodel\nb\n"
    );
}

#[test]
fn there_is_one_bos_and_one_eos() {
    let encoder = tiny_encoder().unwrap();
    let eos = encoder.tokenizer().unwrap().eos().unwrap();
    for text in ["the cat", "<bos>the cat", "the cat<end_of_turn>"] {
        let row = encoder.encode_text(text).unwrap();
        assert_eq!(row.input_ids.iter().filter(|&&id| id == 2).count(), 1, "{text}");
        assert_eq!(row.input_ids.iter().filter(|&&id| id == eos).count(), 1, "{text}");
        assert_eq!((row.input_ids.first(), row.input_ids.last()), (Some(&2), Some(&eos)), "{text}");
        assert_eq!(row.labels, row.input_ids.iter().map(|&id| id as i32).collect::<Vec<_>>());
    }
    let row = encoder.encode_prompt_completion("<bos>a\n", "b<end_of_turn>").unwrap();
    assert_eq!(learnt(&encoder, &row), "b<end_of_turn>");
    assert_eq!(row.input_ids.iter().filter(|&&id| id == 2).count(), 1);
    assert_eq!(encoder.encode_text("").unwrap_err().what(), "the text is empty");
}

#[test]
fn bytes_of_one_character_have_one_label() {
    let encoder = tiny_encoder().unwrap();
    let row = encoder.encode_prompt_completion("👋", "👋👋").unwrap();
    assert_eq!(learnt(&encoder, &row), "👋👋<end_of_turn>");
    assert_eq!(row.supervised(), 2 * 4 + 1);
}

#[test]
fn tokenised_rows_are_checked_and_kept() {
    let encoder = Encoder::tokens_only().with_vocab_size(10);
    let row = encoder.encode_tokens(vec![2, 5, 9], Some(vec![-100, -100, 9])).unwrap();
    assert_eq!((row.supervised(), row.input_ids.len()), (1, 3));
    assert_eq!(encoder.encode_tokens(vec![2, 5], None).unwrap().labels, [2, 5]);
    let refused = |ids: &[u32], labels: Option<&[i32]>| {
        encoder.encode_tokens(ids.to_vec(), labels.map(<[i32]>::to_vec)).unwrap_err().what().to_owned()
    };
    assert_eq!(refused(&[], None), "`input_ids` is empty");
    assert_eq!(refused(&[3, 10], None), "token 10 is not in the model's vocabulary of 10");
    assert_eq!(refused(&[3], Some(&[3, 3])), "2 `labels` for 1 `input_ids`");
    assert_eq!(refused(&[3], Some(&[10])), "label 10 is neither -100 nor an id of the model's vocabulary");
    assert_eq!(refused(&[3], Some(&[-1])), "label -1 is neither -100 nor an id of the model's vocabulary");
    let error = Encoder::tokens_only().encode_tokens(vec![u32::MAX], None).unwrap_err();
    assert_eq!(error.what(), "token 4294967295 is not in the model's vocabulary of 2147483647");
    assert_eq!(
        encoder.encode_text("a").unwrap_err().what(),
        "the model has no tokenizer, which all data but the format `tokens` needs"
    );
}

#[test]
fn tokens_that_the_model_lacks_are_refused_by_name() {
    let error = tiny_encoder().unwrap().encode_text("a <image_soft_token>").unwrap_err();
    assert_eq!(error.what(), "token 512 `<image_soft_token>` is not in the model's vocabulary of 512");
}

#[test]
fn the_fingerprint_follows_every_choice() {
    let encoder = tiny_encoder().unwrap();
    let gguf = Tokenizer::from_gguf(&tiny_vocabulary().unwrap()).unwrap();
    let foreign = ChatTemplate::from_source("{{ bos_token }}", "<bos>", "<eos>").unwrap();
    let prints = [
        encoder.fingerprint(),
        encoder.clone().with_train_on(TrainOn::All).fingerprint(),
        encoder.clone().with_system(Some(String::new())).fingerprint(),
        encoder.clone().with_vocab_size(511).fingerprint(),
        Encoder::new(gguf, encoder.template().clone()).with_vocab_size(512).fingerprint(),
        Encoder::new(tiny_tokenizer().unwrap(), foreign).with_vocab_size(512).fingerprint(),
        Encoder::tokens_only().fingerprint(),
    ];
    assert_eq!(encoder.clone().fingerprint(), prints[0]);
    assert_eq!(prints.iter().collect::<std::collections::HashSet<_>>().len(), prints.len());
}

#[test]
fn threads_share_an_encoder() {
    use rayon::prelude::*;
    let encoder = tiny_encoder().unwrap();
    let rows: Vec<Tokenized> =
        (0..64).into_par_iter().map(|i| encoder.encode_text(&format!("row {i}")).unwrap()).collect();
    assert_eq!(rows[7], encoder.encode_text("row 7").unwrap());
}

#[test]
fn what_is_saved_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Encoder::new(Tokenizer::from_gguf(&tiny_vocabulary().unwrap()).unwrap(), ChatTemplate::gemma3());
    encoder.save(folder.path()).unwrap();
    let template = ChatTemplate::from_model_folder(folder.path()).unwrap();
    let again = Encoder::new(Tokenizer::from_file(&folder.path().join("tokenizer.json")).unwrap(), template);
    let conversation = talk(&[(Role::System, "S"), (Role::User, "the 👋"), (Role::Assistant, "b")]);
    assert_eq!(again.encode_conversation(&conversation).unwrap(), encoder.encode_conversation(&conversation).unwrap());
    assert!(!again.template().is_built_in());
}
