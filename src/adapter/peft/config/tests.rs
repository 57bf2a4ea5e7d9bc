use super::*;

const LORA: &str = include_str!("../../../../tests/goldens/export/text-lora/adapter_config.json");
const PATTERNS: &str = include_str!("../../../../tests/goldens/export/text-patterns/adapter_config.json");

fn parse(text: &str) -> Result<(AdapterConfig, Vec<String>)> {
    AdapterConfig::parse(text, Path::new("adapter_config.json"))
}

/// PEFT's own file with some keys replaced.
fn changed(changes: Value) -> String {
    let Value::Object(mut keys) = serde_json::from_str(LORA).unwrap() else { unreachable!() };
    keys.extend(changes.as_object().unwrap().clone());
    Value::Object(keys).to_string()
}

fn problems(changes: Value) -> Vec<String> {
    parse(&changed(changes)).unwrap_err().iter().map(|e| e.what().to_owned()).collect()
}

#[test]
fn what_peft_wrote_is_read_in_full() {
    let (config, ignored) = parse(PATTERNS).unwrap();
    assert_eq!(ignored, Vec::<String>::new());
    assert_eq!((config.r, config.lora_alpha, config.lora_dropout), (2, 4.0, 0.0));
    assert_eq!(config.exclude_modules, ExcludeModules::Names(vec!["o_proj".into()]));
    assert_eq!(config.init_lora_weights.as_deref(), Some("gaussian"));
    assert_eq!(config.base_model_name_or_path.as_deref(), Some("tiny/text"));
    let TargetModules::Names(names) = &config.target_modules else { panic!("{:?}", config.target_modules) };
    assert_eq!(names.len(), 14);
    let patterns = config.patterns().unwrap();
    assert_eq!(patterns.rank("model.layers.0.self_attn.q_proj"), 3);
    assert_eq!(patterns.rank("model.layers.1.mlp.up_proj"), 1);
    assert_eq!(patterns.rank("model.layers.11.mlp.up_proj"), 2);
    assert_eq!(patterns.scaling("model.layers.0.self_attn.v_proj"), 4.5);
    assert_eq!(patterns.scaling("model.layers.1.self_attn.v_proj"), 2.0);
    assert_eq!(patterns.scaling("model.layers.1.mlp.up_proj"), 4.0);
}

#[test]
fn what_is_written_has_the_keys_and_the_values_of_peft() {
    for text in [LORA, PATTERNS] {
        let written = parse(text).unwrap().0.to_json();
        let (written, original): (Value, Value) =
            (serde_json::from_str(&written).unwrap(), serde_json::from_str(text).unwrap());
        assert_eq!(written, original);
        let order = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(order(&written), order(&original));
    }
    let half = AdapterConfig { lora_alpha: 0.5, ..AdapterConfig::new(8, 1.0, TargetModules::AllLinear) };
    assert!(half.to_json().contains("\"lora_alpha\": 0.5,"));
    assert!(half.to_json().contains("\"target_modules\": \"all-linear\","));
    assert_eq!(parse(&half.to_json()).unwrap().0, half);
}

#[test]
fn rslora_divides_by_the_root() {
    let config = AdapterConfig { use_rslora: true, ..AdapterConfig::new(16, 8.0, TargetModules::AllLinear) };
    assert_eq!(config.patterns().unwrap().scaling("x"), 2.0);
}

#[test]
fn every_setting_that_changes_numbers_is_refused_at_once() {
    let found = problems(json!({
        "bias": "all", "fan_in_fan_out": true, "modules_to_save": ["lm_head"],
        "trainable_token_indices": {"embed_tokens": [1]}, "use_qalora": true, "init_lora_weights": "pissa_niter_16",
        "use_future": true, "task_type": "SEQ_CLS", "lora_bias": true,
    }));
    assert_eq!(found.len(), 9, "{found:#?}");
    assert!(found.contains(
        &"`fan_in_fan_out: true` cannot be used: it means transposed weights, which is not supported".into()
    ));
    assert!(found.iter().any(|what| what.starts_with("`use_future: true` cannot be used")));
    assert!(found.iter().any(|what| what.starts_with("`init_lora_weights: pissa_niter_16` cannot be used")));
}

#[test]
fn settings_without_effect_are_ignored_and_returned() {
    let text = changed(json!({
        "layer_replication": [], "modules_to_save": [], "eva_config": {"rho": 2.0}, "some_future_key": 3,
        "another_future_key": null, "init_lora_weights": "orthogonal", "task_type": null,
    }));
    assert_eq!(parse(&text).unwrap().1, ["eva_config", "some_future_key"]);
}

#[test]
fn older_files_with_fewer_keys_are_read() {
    let text = r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ".*q_proj", "bias": "none"}"#;
    let (config, _) = parse(text).unwrap();
    assert_eq!(config, AdapterConfig::new(8, 16.0, TargetModules::Regex(".*q_proj".into())));
}

#[test]
fn an_expression_for_python_is_kept_as_text() {
    let text = changed(json!({"target_modules": "(?!.*vision).*q_proj"}));
    assert_eq!(parse(&text).unwrap().0.target_modules, TargetModules::Regex("(?!.*vision).*q_proj".into()));
}

#[test]
fn wrong_values_are_named_together() {
    let found = problems(json!({
        "r": 0, "lora_alpha": "16", "lora_dropout": 1.0, "target_modules": null, "use_dora": "yes",
        "exclude_modules": 3, "rank_pattern": {"q_proj": -1, "(": 2}, "revision": ["x"],
    }));
    assert_eq!(
        found,
        [
            "`r` must be a whole number of at least 1, found `0`",
            "`lora_alpha` must be a number, found `\"16\"`",
            "`lora_dropout` must be a number from 0 up to, not including, 1, found `1.0`",
            "`target_modules` is missing; expected a list of names or a string",
            "`exclude_modules` must be a list of names or a string, found `3`",
            "`use_dora` must be true or false, found `\"yes\"`",
            "`revision` must be a string, found `[\"x\"]`",
            "`rank_pattern` entry `q_proj` must be a rank of at least 1, found `-1`",
            "`rank_pattern` holds a regular expression that is not valid here: `(`",
        ]
    );
}

#[test]
fn layers_are_numbers_and_names() {
    let layers = |change| parse(&changed(change)).unwrap().0.layers;
    let one = layers(json!({"target_modules": ["q_proj"], "layers_to_transform": 3, "layers_pattern": "layers"}));
    assert_eq!((one.layers_to_transform, one.layers_pattern), (vec![3], vec!["layers".to_owned()]));
    assert!(layers(json!({"layers_to_transform": [], "layers_pattern": ""})).is_all());
    let found = problems(json!({"target_modules": "all-linear", "layers_to_transform": [0]}));
    assert_eq!(found, ["`layers_to_transform` stands beside a `target_modules` that is a text, which PEFT refuses"]);
    let found = problems(json!({"target_modules": ["q_proj"], "layers_to_transform": [-1], "layers_pattern": [3]}));
    assert_eq!(
        found,
        [
            "`layers_to_transform` must be a layer's number or a list of them, found `[-1]`",
            "`layers_pattern` must be a name or a list of them, found `[3]`",
        ]
    );
}

#[test]
fn an_alpha_that_f32_cannot_hold_is_refused() {
    for alpha in [1e300, -1e39, 1e-60] {
        let found = problems(json!({"lora_alpha": alpha, "alpha_pattern": {"q_proj": alpha}}));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("`lora_alpha` must be a number that f32 can hold"), "{found:?}");
        assert!(found[1].starts_with("`alpha_pattern` entry `q_proj` must be a number that f32 can hold"), "{found:?}");
    }
}

#[test]
fn what_is_no_adapter_config_says_so() {
    let error = parse("{\"r\": 1,\n oops").unwrap_err();
    assert!(error.to_string().contains("--> adapter_config.json:2:2"), "{error}");
    assert!(parse("[]").unwrap_err().what().contains("no JSON object"));
    assert!(parse("{}").unwrap_err().what().contains("`peft_type` is missing"));
    assert!(parse(r#"{"peft_type": "IA3"}"#).unwrap_err().what().contains("`IA3`"));
    assert!(parse(&"[".repeat(100_000)).is_err());
    let missing = AdapterConfig::read(Path::new("no/such/folder")).unwrap_err();
    assert_eq!((missing.what(), missing.exit_code()), ("no such folder", 2));
    let model = tempfile::tempdir().unwrap();
    let hint = || AdapterConfig::read(model.path()).unwrap_err().hint_text().unwrap().to_owned();
    assert!(hint().starts_with("an adapter is a folder with "), "{}", hint());
    std::fs::write(model.path().join("config.json"), "{}").unwrap();
    assert!(hint().starts_with("this is a model's folder, "), "{}", hint());
}

#[test]
fn a_head_that_judges_has_its_own_task() {
    // PEFT names both words for a classifier's head, whichever the model has.
    for modules in [json!(["classifier", "score"]), json!(["score"]), json!(["base.score"])] {
        let (config, ignored) = parse(&changed(json!({"modules_to_save": modules, "task_type": "SEQ_CLS"}))).unwrap();
        assert!(config.judges() && ignored.is_empty() && config.modules_to_save.len() == 1, "{modules}");
        let written: Value = serde_json::from_str(&config.to_json()).unwrap();
        assert_eq!(written["task_type"], "SEQ_CLS");
        assert_eq!(parse(&config.to_json()).unwrap().0, config);
    }
    assert!(!parse(LORA).unwrap().0.judges() && !parse(&changed(json!({"modules_to_save": null}))).unwrap().0.judges());
    assert!(problems(json!({"task_type": "SEQ_CLS"}))[0].contains("it has no `score` in `modules_to_save`"));
    assert!(problems(json!({"task_type": "TOKEN_CLS"}))[0].contains("only `CAUSAL_LM` and `SEQ_CLS` adapters"));
    assert!(problems(json!({"modules_to_save": ["classifier"]}))[0].contains("`classifier` cannot be used"));
}
