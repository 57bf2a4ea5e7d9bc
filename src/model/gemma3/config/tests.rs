use super::*;
use crate::weights::gguf;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FILE: &str = "models/a/config.json";

fn read(value: &Value) -> Result<(TextConfig, Vec<String>)> {
    TextConfig::from_hf_json(&serde_json::to_string_pretty(value).unwrap(), Path::new(FILE))
}

/// A small text-only config, with `change` applied.
fn tiny(change: Value) -> Value {
    let mut value = json!({
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 512, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 8, "max_position_embeddings": 256
    });
    for (key, new) in change.as_object().unwrap() {
        value[key] = new.clone();
    }
    value
}

fn problems(value: &Value) -> Vec<String> {
    read(value).unwrap_err().iter().map(|e| e.what().to_string()).collect()
}

fn published(size: &str) -> (TextConfig, Vec<String>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/models");
    let path = dir.join(format!("gemma-3-{size}.json"));
    TextConfig::from_hf_json(&std::fs::read_to_string(&path).unwrap(), &path).unwrap()
}

#[test]
fn every_published_size_reads() {
    // (size, d, f, layers, full layers, h, g, e, scalar, window, rope factor, vocabulary, positions)
    let table = [
        ("270m", 640, 2048, 18, 3, 4, 1, 256, 256.0, 512, 1.0, 262_144, 32_768),
        ("1b", 1152, 6912, 26, 4, 4, 1, 256, 256.0, 512, 1.0, 262_144, 32_768),
        ("4b", 2560, 10240, 34, 5, 8, 4, 256, 256.0, 1024, 8.0, 262_208, 131_072),
        ("12b", 3840, 15360, 48, 8, 16, 8, 256, 256.0, 1024, 8.0, 262_208, 131_072),
        ("27b", 5376, 21504, 62, 10, 32, 16, 128, 168.0, 1024, 8.0, 262_208, 131_072),
    ];
    for (size, d, f, layers, full, h, g, e, scalar, window, factor, v, positions) in table {
        let (config, _) = published(size);
        assert_eq!((config.hidden_size, config.intermediate_size, config.num_hidden_layers), (d, f, layers), "{size}");
        assert_eq!(config.layer_types.iter().filter(|&&l| l == AttentionKind::Full).count(), full, "{size}");
        assert_eq!(config.layer_types[5], AttentionKind::Full, "{size}");
        assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (h, g, e), "{size}");
        assert_eq!((config.query_pre_attn_scalar, config.sliding_window), (scalar, window), "{size}");
        assert_eq!(config.rope_local, Rope { theta: 1e4, factor: 1.0 }, "{size}");
        assert_eq!(config.rope_global, Rope { theta: 1e6, factor }, "{size}");
        assert_eq!((config.vocab_size, config.max_position_embeddings), (v, positions), "{size}");
        assert_eq!((config.rms_norm_eps, config.tie_word_embeddings), (1e-6, true), "{size}");
        assert_eq!(config.multimodal, matches!(size, "4b" | "12b" | "27b"), "{size}");
    }
    assert_eq!(published("270m").0.eos_token_ids, [1]);
    assert_eq!(published("4b").0.eos_token_ids, [1, 106]);
    assert_eq!(published("4b").1, ["initializer_range", "torch_dtype", "transformers_version"]);
}

#[test]
fn both_generations_of_rope_keys_read_alike() {
    let old = tiny(
        json!({"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    );
    let new = tiny(json!({"rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}}}));
    // As some exporters write: nested without the bases, which stand outside.
    let mixed = tiny(json!({"rope_theta": 5e5, "rope_local_base_freq": 2e4,
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_type": "default"}}}));
    for value in [&old, &new, &mixed] {
        let (config, ignored) = read(value).unwrap();
        assert_eq!(config.rope_local, Rope { theta: 2e4, factor: 1.0 });
        assert_eq!(config.rope_global, Rope { theta: 5e5, factor: 8.0 });
        assert_eq!(ignored, Vec::<String>::new());
    }
    let local = tiny(
        json!({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "rope_theta": 3.0, "factor": 2.0}}}),
    );
    assert_eq!(read(&local).unwrap().0.rope_local, Rope { theta: 3.0, factor: 2.0 });
}

#[test]
fn rope_keys_that_would_not_do_what_they_say_are_refused() {
    let cases = [
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            "`rope_scaling.rope_type`: it is \"yarn\"; supported: `default` or `linear`",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 4.0}}),
            "`rope_scaling.type`: transformers versions read it differently; supported: `rope_type`: `default` or `linear`",
        ),
        (
            json!({"rope_scaling": {"rope_type": "linear"}}),
            "`rope_scaling.factor`: it is missing; supported: a number above 0 beside `rope_type` `linear`",
        ),
        (
            json!({"rope_scaling": {"rope_type": "default", "factor": 8.0}}),
            "`rope_scaling.factor`: it has no effect beside `rope_type` `default`; supported: `factor` with `rope_type` `linear`",
        ),
        (
            json!({"rope_parameters": {"rope_theta": 3.0}}),
            "`rope_parameters.rope_theta`: it stands outside a layer type, where it has no effect; supported: an object under `full_attention` and one under `sliding_attention`",
        ),
        (
            json!({"rope_theta": 7.0, "rope_parameters": {"full_attention": {"rope_theta": 3.0}}}),
            "`rope_theta`: `rope_parameters.full_attention.rope_theta` says otherwise; supported: one value",
        ),
        (json!({"rope_theta": -1.0}), "`rope_theta`: it is -1.0; supported: a number above 0"),
        (
            json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}),
            "`rope_scaling.factor`: it is 0.0; supported: a number above 0",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(problems(&tiny(change))[0], expected);
    }
}

#[test]
fn the_layer_pattern_comes_from_the_list_or_the_number() {
    let full = |config: &TextConfig| -> Vec<usize> {
        (0..config.layer_types.len()).filter(|&i| config.layer_types[i] == AttentionKind::Full).collect()
    };
    assert_eq!(full(&read(&tiny(json!({}))).unwrap().0), [5]);
    assert_eq!(full(&read(&tiny(json!({"sliding_window_pattern": 3}))).unwrap().0), [2, 5]);
    let (s, f) = ("sliding_attention", "full_attention");
    // transformers writes its default beside a list that it does not fit; the list decides.
    let listed = tiny(json!({"layer_types": [s, f, s, s, f, s, s], "_sliding_window_pattern": 6}));
    assert_eq!(full(&read(&listed).unwrap().0), [1, 4]);
    let all_full = tiny(json!({"layer_types": [f, f, f, f, f, f, f], "sliding_window": null}));
    assert_eq!(read(&all_full).unwrap().0.sliding_window, 256);

    assert_eq!(
        problems(&tiny(json!({"layer_types": [s, f]}))),
        [
            "`layer_types`: it has 2 entries for 7 layers; supported: one `sliding_attention` or `full_attention` per layer"
        ]
    );
    assert!(
        problems(&tiny(json!({"layer_types": [s, f, s, s, f, s, "chunked_attention"]})))[0]
            .contains("an entry other than")
    );
    assert!(problems(&tiny(json!({"_sliding_window_pattern": 3})))[0].contains("transformers ignores it and uses 6"));
    assert!(problems(&tiny(json!({"sliding_window": null})))[0].starts_with("`sliding_window`: it is null"));
}

#[test]
fn of_quantised_weights_only_nf4_can_be_read() {
    let of = |config: Value| tiny(json!({"quantization_config": config}));
    let nf4 = json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"});
    assert!(read(&of(nf4)).is_ok());
    for (config, form) in [
        (
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}),
            "bitsandbytes fp4",
        ),
        (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "bitsandbytes int8"),
        (json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        (json!({"bits": 4}), "unknown"),
    ] {
        let expected = format!("`quantization_config`: the weights are stored quantised (`{form}`); supported: ");
        assert!(problems(&of(config))[0].starts_with(&expected), "{form}");
    }
}

#[test]
fn keys_that_change_the_numbers_are_refused_together_and_others_listed() {
    let value = tiny(json!({
        "attention_bias": true, "final_logit_softcapping": 30.0, "hidden_activation": "silu",
        "use_bidirectional_attention": true, "residual_multiplier": 0.5, "num_local_experts": 8,
        "quantization_config": {"quant_method": "bitsandbytes"}, "use_cache": false, "my_note": "hello",
        "attn_logit_softcapping": null, "attention_dropout": 0, "mlp_bias": false
    }));
    assert_eq!(
        problems(&value),
        [
            "`hidden_activation`: it is \"silu\"; supported: \"gelu_pytorch_tanh\"",
            "`attention_bias`: it is true; supported: false",
            "`use_bidirectional_attention`: it is true; supported: false",
            "`final_logit_softcapping`: it is 30.0; supported: null",
            "`residual_multiplier`: it is 0.5, and this program does not act on this key; supported: a config without it (or with null)",
            "`num_local_experts`: it is 8, and this program does not act on this key; supported: a config without it (or with null)",
            "`quantization_config`: the weights are stored quantised (`bitsandbytes`); supported: bitsandbytes NF4, unquantised safetensors (the original checkpoint), or a `.gguf` file",
        ]
    );
    let error = read(&value).unwrap_err();
    assert_eq!(error.place().unwrap().to_string(), "models/a/config.json:18:3");
    assert_eq!(error.exit_code(), 2);
    let fine = tiny(json!({"use_cache": false, "my_note": "hello", "mlp_bias": false, "torch_dtype": "bfloat16"}));
    assert_eq!(read(&fine).unwrap().1, ["use_cache", "my_note", "mlp_bias", "torch_dtype"]);
}

#[test]
fn impossible_sizes_are_refused_before_anything_is_allocated() {
    let cases = [
        (json!({"hidden_size": 0}), "`hidden_size`: it is 0; supported: a whole number from 1 to 131072"),
        (json!({"vocab_size": 1e30}), "`vocab_size`: it is 1e+30; supported: a whole number from 1 to 4194304"),
        (
            json!({"num_hidden_layers": 18446744073709551615u64}),
            "`num_hidden_layers`: it is 18446744073709551615; supported: a whole number from 1 to 1024",
        ),
        (
            json!({"num_hidden_layers": "7"}),
            "`num_hidden_layers`: it is \"7\"; supported: a whole number from 1 to 1024",
        ),
        (
            // The list is right: the number is what is wrong.
            json!({"num_hidden_layers": 0, "layer_types": vec!["full_attention"; 7]}),
            "`num_hidden_layers`: it is 0; supported: a whole number from 1 to 1024",
        ),
        (json!({"num_key_value_heads": 3}), "`num_attention_heads` (4) is not a multiple of `num_key_value_heads` (3)"),
        (json!({"hidden_size": 66}), "`hidden_size` (66) is not a multiple of `num_attention_heads` (4)"),
        (json!({"head_dim": 15}), "`head_dim` (15) is odd; rotary embeddings turn pairs"),
        (json!({"rms_norm_eps": 0}), "`rms_norm_eps`: it is 0; supported: a number above 0"),
        (json!({"eos_token_id": [1, "x"]}), "`eos_token_id`: it is [1,\"x\"]; supported: a token id or a list of them"),
        (json!({"bos_token_id": -2}), "`bos_token_id`: it is -2; supported: a token id"),
    ];
    for (change, expected) in cases {
        assert_eq!(problems(&tiny(change)), [expected]);
    }
    let mut value = tiny(json!({}));
    value.as_object_mut().unwrap().remove("hidden_size");
    assert_eq!(problems(&value), ["`hidden_size`: it is missing; supported: a whole number from 1 to 131072"]);
}

#[test]
fn another_model_is_named() {
    let cases = [
        (
            json!({"model_type": "gemma3n_vision_tower"}),
            "`model_type` is `gemma3n_vision_tower`: another Gemma, not Gemma 3",
        ),
        (json!({"model_type": "gemma2"}), "`model_type` is `gemma2`: another Gemma, not Gemma 3"),
        (json!({"model_type": "llama"}), "`model_type` is `llama`: not a Gemma 3 model"),
        (json!({"hidden_size": 3}), "`model_type` is missing, so this may be any model"),
        (json!({"model_type": "gemma3"}), "`model_type` is `gemma3` but there is no `text_config`"),
        (json!({"model_type": "gemma3", "text_config": 3}), "`text_config` is not a JSON object"),
        (
            json!({"model_type": "gemma3", "text_config": {"model_type": "llama"}}),
            "`text_config.model_type` is `llama`; supported: `gemma3_text`",
        ),
        (json!([1]), "expected a JSON object"),
        (
            tiny(json!({"architectures": ["Gemma3ForSequenceClassification"]})),
            "`architectures` names `Gemma3ForSequenceClassification` with 2 labels; supported: one, the reward of a text",
        ),
        (
            tiny(json!({"architectures": ["Gemma3ForTokenClassification"]})),
            "`architectures` names `Gemma3ForTokenClassification`; supported: `Gemma3ForCausalLM`, `Gemma3ForConditionalGeneration`",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(problems(&value), [expected]);
    }
    let broken = TextConfig::from_hf_json("{\n  \"a\": ", Path::new(FILE)).unwrap_err();
    assert_eq!(broken.place().unwrap().to_string(), "models/a/config.json:2:7");
}

#[test]
fn a_model_of_one_label_judges() {
    let class = "Gemma3TextForSequenceClassification";
    for labels in [json!({"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}), json!({"num_labels": 1})] {
        let mut value = tiny(labels);
        value["architectures"] = json!([class]);
        value["tie_word_embeddings"] = json!(false);
        let (config, ignored) = read(&value).unwrap();
        assert!(config.judges && config.tie_word_embeddings && ignored.is_empty(), "{ignored:?}");
    }
    let several = tiny(json!({"architectures": [class], "id2label": {"0": "a", "1": "b", "2": "c"}}));
    assert!(problems(&several)[0].contains("with 3 labels"));
    assert!(!read(&tiny(json!({}))).unwrap().0.judges);
}

#[test]
fn what_is_written_reads_back() {
    let irregular = tiny(json!({"layer_types": ["full_attention", "sliding_attention", "full_attention",
        "sliding_attention", "full_attention", "sliding_attention", "full_attention"], "tie_word_embeddings": false,
        "rope_parameters": {"sliding_attention": {"rope_type": "linear", "rope_theta": 3.0, "factor": 2.0}}}));
    for (mut config, _) in
        ["270m", "1b", "4b", "12b", "27b"].map(published).into_iter().chain([read(&irregular).unwrap()])
    {
        let written = config.to_hf_json("bfloat16");
        let (again, ignored) = read(&written).unwrap();
        (config.multimodal, config.images) = (false, None);
        assert_eq!(again, config);
        assert_eq!(ignored, ["initializer_range", "torch_dtype", "use_cache"]);
    }
    assert_eq!(published("27b").0.to_hf_json("float32")["query_pre_attn_scalar"].to_string(), "168");
    assert_eq!(published("27b").0.to_hf_json("float32")["sliding_window_pattern"].to_string(), "6");
}

#[test]
fn stop_tokens_come_from_the_generation_config() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), tiny(json!({})).to_string()).unwrap();
    assert_eq!(TextConfig::from_folder(dir.path()).unwrap().0.eos_token_ids, [1]);
    let path = dir.path().join("generation_config.json");
    std::fs::write(&path, r#"{"eos_token_id": [1, 106], "do_sample": true, "top_k": 64, "top_p": 0.95}"#).unwrap();
    assert_eq!(TextConfig::from_folder(dir.path()).unwrap().0.eos_token_ids, [1, 106]);
    let generation = GenerationConfig::from_folder(dir.path()).unwrap().unwrap();
    assert_eq!((generation.do_sample, generation.top_k, generation.temperature), (Some(true), Some(64), None));
    std::fs::write(&path, r#"{"eos_token_id": "x"}"#).unwrap();
    assert_eq!(
        TextConfig::from_folder(dir.path()).unwrap_err().what(),
        "`eos_token_id` is \"x\"; expected a token id or a list of them"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(TextConfig::from_folder(empty.path()).unwrap_err().what().contains("needs a `config.json`"));
}

/// A value as a GGUF file holds it.
fn stored(value: &Value) -> gguf::Value {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => gguf::Value::Unsigned(whole),
            None => gguf::Value::F64(number.as_f64().unwrap()),
        },
        Value::String(text) => gguf::Value::String(text.clone()),
        Value::Array(values) => {
            gguf::Value::Array(match values.iter().map(|v| v.as_str().map(str::to_owned)).collect() {
                Some(texts) => gguf::Array::String(texts),
                None => gguf::Array::U64(values.iter().map(|v| v.as_u64().unwrap()).collect()),
            })
        }
        _ => panic!("{value} is not in the tests' files"),
    }
}

fn gguf(change: Value) -> Result<(TextConfig, Vec<String>)> {
    // What a converted 270M carries, with a smaller vocabulary; floats are f32 in the file.
    let mut map: BTreeMap<String, Value> = serde_json::from_value(json!({
        "general.architecture": "gemma3", "general.name": "Gemma 3 270m", "gemma3.context_length": 32768,
        "gemma3.embedding_length": 640, "gemma3.block_count": 18, "gemma3.feed_forward_length": 2048,
        "gemma3.attention.head_count": 4, "gemma3.attention.layer_norm_rms_epsilon": 9.999999974752427e-07,
        "gemma3.attention.key_length": 256, "gemma3.attention.value_length": 256, "gemma3.rope.freq_base": 1000000.0,
        "gemma3.attention.sliding_window": 512, "gemma3.attention.head_count_kv": 1,
        "tokenizer.ggml.tokens": ["<pad>", "<eos>", "<bos>", "<end_of_turn>"], "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.padding_token_id": 0
    }))
    .unwrap();
    for (key, value) in change.as_object().unwrap() {
        if value.is_null() {
            map.remove(key)
        } else {
            map.insert(key.clone(), value.clone())
        };
    }
    let metadata = map.iter().map(|(key, value)| (key.clone(), stored(value))).collect();
    TextConfig::from_gguf(&metadata, Path::new("a.gguf"))
}

#[test]
fn gguf_metadata_gives_the_published_configuration() {
    let (config, ignored) = gguf(json!({})).unwrap();
    let mut expected = published("270m").0;
    (expected.vocab_size, expected.eos_token_ids) = (4, vec![1, 3]);
    assert_eq!(config, expected);
    assert_eq!(ignored, Vec::<String>::new());

    let big = json!({"gemma3.block_count": 62, "gemma3.embedding_length": 5376, "gemma3.feed_forward_length": 21504,
        "gemma3.attention.head_count": 32, "gemma3.attention.head_count_kv": 16, "gemma3.attention.key_length": 128,
        "gemma3.attention.value_length": 128, "gemma3.attention.sliding_window": 1024,
        "gemma3.context_length": 131072, "gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0});
    let mut expected = published("27b").0;
    (expected.vocab_size, expected.eos_token_ids) = (4, vec![1, 3]);
    (expected.multimodal, expected.images) = (false, None);
    assert_eq!(gguf(big).unwrap().0, expected);
}

#[test]
fn gguf_metadata_that_cannot_be_is_refused_together() {
    let error =
        gguf(json!({"gemma3.block_count": null, "gemma3.embedding_length": 0, "gemma3.attention.head_count": [4, 4],
        "gemma3.rope.scaling.type": "yarn", "gemma3.final_logit_softcapping": 30.0, "gemma3.expert_count": 8,
        "tokenizer.ggml.tokens": null}))
        .unwrap_err();
    let what: Vec<&str> = error.iter().map(Error::what).collect();
    assert_eq!(
        what,
        [
            "`gemma3.block_count`: it is missing",
            "`gemma3.embedding_length`: it is 0; supported: 1 to 131072",
            "`gemma3.attention.head_count`: it has a type that is not supported (a value per layer?)",
            "`gemma3.final_logit_softcapping`: soft-capped logits are not supported",
            "`gemma3.vocab_size`: missing, and there is no `tokenizer.ggml.tokens` either",
            "`gemma3.rope.scaling.type`: it is `yarn`; supported: `linear` or `none`",
            "`gemma3.expert_count`: this program does not know this key, and it may change what the model computes",
        ]
    );
    assert_eq!(
        gguf(json!({"general.architecture": "gemma3n"})).unwrap_err().what(),
        "`general.architecture` is `gemma3n`; supported: `gemma3`"
    );
}
