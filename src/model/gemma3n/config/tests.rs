use super::*;
use serde_json::{Value, json};

/// The sizes of the published E2B, as its file states them.
fn e2b() -> Value {
    json!({
        "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n", "audio_soft_tokens_per_image": 188,
        "audio_config": {"model_type": "gemma3n_audio"}, "vision_config": {"model_type": "gemma3n_vision"},
        "audio_token_id": 262273, "boi_token_id": 255999, "eos_token_id": [1, 106], "vision_soft_tokens_per_image": 256,
        "text_config": {
            "activation_sparsity_pattern": vec![0.95; 10].into_iter().chain(vec![0.0; 20]).collect::<Vec<f64>>(),
            "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": true, "altup_num_inputs": 4,
            "attention_bias": false, "attention_dropout": 0.0, "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2048, "hidden_size_per_layer_input": 256,
            "initializer_range": 0.02, "intermediate_size": vec![8192; 30], "laurel_rank": 64,
            "max_position_embeddings": 32768, "model_type": "gemma3n_text", "num_attention_heads": 8,
            "num_hidden_layers": 30, "num_key_value_heads": 2, "num_kv_shared_layers": 10, "rms_norm_eps": 1e-6,
            "rope_local_base_freq": 10000.0, "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": 512,
            "query_pre_attn_scalar": 256, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 262400,
            "vocab_size_per_layer_input": 262144,
        },
    })
}

fn read(value: &Value) -> Result<(TextConfig, Vec<String>)> {
    TextConfig::from_hf_json(&value.to_string(), Path::new("config.json"))
}

/// The same file with other values in `text_config`.
fn with(change: Value) -> Value {
    let mut config = e2b();
    for (key, value) in change.as_object().unwrap() {
        config["text_config"][key] = value.clone();
    }
    config
}

#[test]
fn the_published_sizes_are_read() {
    let (config, ignored) = read(&e2b()).unwrap();
    assert_eq!((config.num_hidden_layers(), config.first_shared_layer()), (30, 20));
    assert_eq!(config.kv_makers(), [18, 19]);
    assert_eq!(
        (config.kv_source(7), config.kv_source(20), config.kv_source(24), config.kv_source(29)),
        (7, 18, 19, 19)
    );
    assert_eq!((config.eos_token_ids.as_slice(), config.multimodal), ([1, 106].as_slice(), true));
    assert_eq!(config.layer_types.iter().filter(|kind| **kind == AttentionKind::Full).count(), 6);
    assert!(config.sounds.is_some() && !ignored.contains(&"audio_config".into()), "{ignored:?}");
    assert!(TextConfig::is_meant(&e2b().to_string()) && !TextConfig::is_meant("{}"));
}

#[test]
fn what_is_left_out_is_as_in_transformers() {
    let text = json!({"model_type": "gemma3n_text", "num_hidden_layers": 35, "hidden_size": 2048});
    let (config, _) = read(&text).unwrap();
    assert_eq!((config.num_kv_shared_layers, config.intermediate_size.clone()), (15, vec![16_384; 35]));
    assert_eq!(config.activation_sparsity_pattern[9..11], [0.95, 0.0]);
    assert_eq!((config.vocab_size, config.laurel_rank, config.altup_coef_clip), (262_400, 64, Some(120.0)));
    assert_eq!(config.final_logit_softcapping, Some(30.0));
    let few = json!({"model_type": "gemma3n_text", "num_hidden_layers": 10, "hidden_size": 64, "num_kv_shared_layers": 0,
                     "final_logit_softcapping": null, "intermediate_size": 96});
    let (config, _) = read(&few).unwrap();
    assert_eq!((config.activation_sparsity_pattern, config.intermediate_size), (vec![0.0; 10], vec![96; 10]));
    assert_eq!(config.final_logit_softcapping, None);
}

#[test]
fn what_is_written_is_read_again() {
    let (config, _) = read(&e2b()).unwrap();
    let (again, ignored) = read(&config.to_hf_json("bfloat16")).unwrap();
    assert_eq!(again, TextConfig { multimodal: false, images: None, sounds: None, ..config });
    assert_eq!(ignored, ["dtype", "initializer_range", "use_cache"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    for (change, expected) in [
        (json!({"intermediate_size": vec![8192; 29]}), "it has 29 entries for 30 layers"),
        (json!({"intermediate_size": "wide"}), "it is \"wide\""),
        (json!({"activation_sparsity_pattern": 0.95}), "it is 0.95"),
        (json!({"activation_sparsity_pattern": vec![1.0; 30]}), "it has 1.0"),
        (json!({"altup_active_idx": 4}), "names none of `altup_num_inputs` (4)"),
        (json!({"num_kv_shared_layers": 30}), "leaves none of the 30 layers"),
        (json!({"num_kv_shared_layers": 27}), "has a kind among them that no earlier layer has"),
        (json!({"num_kv_shared_layers": -1}), "a whole number from 0"),
        (json!({"vocab_size_per_layer_input": 262_401}), "is more than `vocab_size`"),
        (json!({"altup_correct_scale": 1}), "true or false"),
        (json!({"final_logit_softcapping": 0}), "a number above 0"),
        (json!({"attn_logit_softcapping": 50.0}), "it is 50.0"),
        (json!({"moe_experts": 8}), "does not act on this key"),
        (json!({"model_type": "gemma3_text"}), "supported: `gemma3n_text`"),
        (json!({"head_dim": 7}), "is odd"),
        (json!({"num_key_value_heads": 3}), "is not a multiple of"),
    ] {
        let error = read(&with(change)).unwrap_err();
        assert!(error.iter().any(|e| e.what().contains(expected)), "{expected}: {error:?}");
    }
    let (mut without, mut audio, mut classifier) = (e2b(), e2b(), e2b());
    without.as_object_mut().unwrap().remove("text_config");
    audio["model_type"] = json!("gemma3n_audio");
    classifier["architectures"] = json!(["Gemma3nForSequenceClassification"]);
    for (config, expected) in
        [(without, "no `text_config`"), (audio, "a part of a Gemma 3n"), (classifier, "names `Gemma3nForSequence")]
    {
        assert!(read(&config).unwrap_err().what().contains(expected), "{expected}");
    }
}
