use super::*;
use crate::testkit::tokenizer::{golden_chats, golden_json, tiny_tokenizer_folder};
use crate::text::Message;

fn one(role: Role, text: &str) -> Conversation {
    Conversation { messages: vec![Message::new(role, text)], tools: vec![] }
}

#[test]
fn our_text_is_that_of_hugging_face() {
    let template = ChatTemplate::gemma3();
    let mut refused = 0;
    for (name, conversation, case) in golden_chats().unwrap() {
        for (kind, generation) in [("train", false), ("generate", true)] {
            match case[kind]["text"].as_str() {
                Some(text) => {
                    assert_eq!(template.render(&conversation, generation).unwrap().text, text, "{name}, {kind}")
                }
                None => {
                    refused += 1;
                    template.render(&conversation, generation).unwrap_err();
                }
            }
        }
    }
    assert_eq!(refused, 4); // bad_roles and assistant_first
}

#[test]
fn the_models_template_a_training_template_and_ours_agree() {
    let training = golden_json("cases.json").unwrap()["training_template"].as_str().unwrap().to_owned();
    let witnesses = [
        ChatTemplate::from_model_folder(&tiny_tokenizer_folder()).unwrap(),
        ChatTemplate::from_source(&training, "<bos>", "<eos>").unwrap(),
        ChatTemplate::from_source(ChatTemplate::gemma3().source(), "<bos>", "<eos>").unwrap(),
    ];
    for template in witnesses {
        assert!(!template.is_built_in());
        for (name, conversation, case) in golden_chats().unwrap() {
            if case["train"]["text"].is_string() {
                template.verify(&conversation).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}

#[test]
fn a_foreign_template_is_shown_where_it_differs() {
    let source = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content.strip() }}<end_of_turn>\n{% endfor %}";
    let template = ChatTemplate::from_source(source, "<bos>", "<eos>").unwrap();
    let mut conversation = one(Role::User, "Hi");
    conversation.messages.push(Message::new(Role::Assistant, "Ho"));
    let error = template.verify(&conversation).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: the model's chat template is not Gemma 3's: the texts differ from character 57\n  \
         Gemma 3:  \"of_turn>\\n<start_of_turn>model\\nHo<end_of_turn>\\n\"\n  \
         template: \"of_turn>\\n<start_of_turn>assistant\\nHo<end_of_turn>\\n\"\n  \
         hint: training in a format that the model does not know harms it: check that this is a Gemma 3 model"
    );
}

#[test]
fn what_the_models_template_refuses_is_told_in_its_words() {
    let source = "{{ raise_exception('no thanks') }}";
    let template = ChatTemplate::from_source(source, "<bos>", "<eos>").unwrap();
    let error = template.verify(&one(Role::User, "a")).unwrap_err();
    assert_eq!(
        error.what(),
        "the model's chat template refuses the conversation: invalid operation: no thanks (in chat_template:1)"
    );
}

#[test]
fn a_template_that_does_not_compile_is_refused_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat_template.jinja");
    std::fs::write(&path, "{% if %}").unwrap();
    let error = ChatTemplate::from_model_folder(folder.path()).unwrap_err();
    assert!(error.what().starts_with("the chat template does not compile: syntax error"), "{error}");
    assert_eq!(error.place(), Some(&Place::Path(path)));
}

#[test]
fn templates_are_found_where_hugging_face_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let found = || ChatTemplate::from_model_folder(folder.path());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert!(found().unwrap().is_built_in());
    write("chat_template.json", r#"{"chat_template": "c"}"#);
    assert_eq!(found().unwrap().source(), "c");
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "x", "template": "x"}, {"name": "default", "template": "b"}]}"#,
    );
    assert_eq!(found().unwrap().source(), "b");
    write("chat_template.jinja", "a");
    assert_eq!(found().unwrap().source(), "a");
    write("chat_template.jinja", "\n");
    assert!(found().unwrap().is_built_in());
    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    write("tokenizer_config.json", r#"{"chat_template": [{"name": "x", "template": "x"}]}"#);
    assert_eq!(found().unwrap_err().what(), "`chat_template` is a list without one named `default`");
    write("tokenizer_config.json", r#"{"chat_template": 3}"#);
    assert_eq!(found().unwrap_err().what(), "`chat_template` is neither a text nor a list");
}

#[test]
fn a_gguf_brings_its_template_and_tokens() {
    let mut vocabulary = Vocabulary { tokens: vec!["<e>".into(), "<b>".into()], bos: Some(1), ..Vocabulary::default() };
    assert!(ChatTemplate::from_gguf(&vocabulary).unwrap().is_built_in());
    vocabulary.chat_template = Some("{{ bos_token }}".into());
    let template = ChatTemplate::from_gguf(&vocabulary).unwrap();
    assert_eq!((template.source(), template.bos()), ("{{ bos_token }}", "<b>"));
}

#[test]
fn conversations_with_tools_agree_once_lowered() {
    let template = ChatTemplate::from_model_folder(&tiny_tokenizer_folder()).unwrap();
    let mut conversation = one(Role::User, "Weather?");
    conversation.tools.push(serde_json::json!({"name": "get_weather"}));
    template.verify(&conversation).unwrap();
    assert!(template.render(&conversation, true).unwrap().text.contains("\"name\": \"get_weather\""));
}
