//! Any recipe and any text: what is written reads back, and nothing makes the reader panic.

use super::*;
use proptest::prelude::*;

/// Any text, with a liking for what YAML gives a meaning.
fn any_text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "null", "true", "1e5", "~", "- a", "a: b", "#x", "'", "\"", "\\", "\n", "\t", " ", "é", "\u{2028}", "\u{feff}",
        "😀", "\u{7f}", "\u{85}", "*a", "&a", "!t", "{", "[", "%", "@", "yes", ".5", "x",
    ]);
    prop_oneof![
        "\\PC{1,20}",
        prop::collection::vec(prop_oneof![special.prop_map(String::from), "[ -~]"], 1..8).prop_map(|p| p.concat())
    ]
    .prop_filter("not blank", |text| !text.trim().is_empty())
}

/// Any path of a resolved recipe, in which a `~` at the start has become a folder.
fn any_path() -> impl Strategy<Value = String> {
    any_text().prop_filter("resolved", |text| !text.starts_with('~'))
}

/// A name of a projection, in every length.
fn any_target() -> impl Strategy<Value = String> {
    let (layer, parts) = (0..100usize, 1..=5usize);
    (layer, parts, prop::sample::select(vec!["self_attn.v_proj", "mlp.up_proj"])).prop_map(|(layer, parts, module)| {
        let path = format!("model.layers.{layer}.{module}");
        path.splitn(6 - parts, '.').last().unwrap_or_default().to_owned()
    })
}

prop_compose! {
    fn any_source()(
        path in any_path(),
        format in prop::sample::select(vec![RowFormat::Messages, RowFormat::Text, RowFormat::PromptCompletion]),
        split in prop::option::of(any_text()),
        weight in 1e-9f64..=10_000.0,
        template in any::<bool>(),
        prompt in prop::option::of(any_text()),
    ) -> Source {
        let prompt = prompt.filter(|_| format == RowFormat::PromptCompletion);
        let columns = Renames([(format.columns()[0].to_owned(), "a \"b\"".to_owned())].into());
        Source { path, format, columns, template, prompt, split, weight }
    }
}

prop_compose! {
    fn any_recipe()(
        (base, system, dir) in (any_path(), prop::option::of(any_text()), any_path()),
        (train, eval) in (prop::collection::vec(any_source(), 1..4), prop::collection::vec(any_source(), 0..3)),
        targets in prop_oneof![
            Just(TargetModules::AllLinear),
            prop::collection::vec(any_target(), 1..4).prop_map(TargetModules::Names),
            any_text().prop_map(|text| TargetModules::Regex(format!(".*q_proj|{}", regex::escape(&text)))),
        ],
        excluded in prop::collection::vec(any_text().prop_map(|text| format!("vision_tower.{text}")), 0..3),
        (r, lora_alpha, lora_dropout) in (1usize..=4096, 1e-30..1e30, 0.0f64..1.0),
        (use_dora, init_from) in (any::<bool>(), prop::option::of(any_path())),
        (optimizer, learning_rate) in prop_oneof![
            (Just(Optimizer::Adamw), 1e-30..1.0),
            (Just(Optimizer::Sgd), 1e-30..1e30),
        ],
        (seed, max_steps) in (any::<u64>(), prop::option::of(1..=1u64 << 40)),
        (warmup_ratio, warmup_steps) in (0.0f64..=1.0, prop::option::of(0..1000u64)),
        (patience, best, on_start) in (prop::option::of(1..9u64), any::<bool>(), any::<bool>()),
        checkpointing in prop::sample::select(vec![AutoBool::Auto, AutoBool::True, AutoBool::False]),
        init in prop::sample::select(vec![InitLoraWeights::Kaiming, InitLoraWeights::Gaussian, InitLoraWeights::Pissa]),
    ) -> Recipe {
        let mut recipe = right_after("");
        recipe.model.base = base;
        recipe.data = Data { train, eval, system, ..recipe.data };
        recipe.output.dir = dir.into();
        match init_from {
            Some(folder) => {
                recipe.adapter.init_from = Some(folder.into());
                recipe.adapter.given = ["r".to_owned()].into();
                recipe.adapter.r = r;
            }
            None => {
                recipe.adapter = Adapter {
                    r,
                    lora_alpha,
                    lora_dropout,
                    target_modules: targets,
                    exclude_modules: excluded,
                    use_dora: use_dora && init != InitLoraWeights::Pissa,
                    init_lora_weights: init,
                    ..recipe.adapter
                };
            }
        }
        let warmup_ratio = if warmup_steps.is_some() { 0.0 } else { warmup_ratio };
        recipe.training = Training {
            optimizer, learning_rate, seed, max_steps, warmup_ratio, warmup_steps, activation_checkpointing: checkpointing,
            ..recipe.training
        };
        if !recipe.data.eval.is_empty() {
            recipe.evaluation = Evaluation {
                eval_steps: Some(7),
                eval_on_start: on_start,
                early_stopping_patience: patience,
                load_best_model_at_end: best,
                metric_for_best_model: best.then(|| "eval_loss".to_owned()),
                greater_is_better: on_start.then_some(false),
                samples: 2,
            };
        }
        recipe
    }
}

proptest! {
    #[test]
    fn a_resolved_recipe_reads_back_as_itself(recipe in any_recipe()) {
        let yaml = recipe.to_yaml();
        let again = read(&yaml, &[]).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        prop_assert_eq!(again, recipe, "{}", yaml);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any_text(), at in 0..3usize) {
        let shapes = [text.clone(), format!("{MINIMAL}{text}"), format!("{MINIMAL}adapter:\n  r: {text}\n")];
        let _ = read(&shapes[at], &[&text]);
        let _ = read(MINIMAL, &[&format!("data.train={text}")]);
    }

    #[test]
    fn no_damage_to_a_recipe_makes_the_reader_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"\n\t :-[]{},&*!|>'\"%@#?~0aZ\xff\0"[..])), 1..6),
        whole in any::<bool>(),
    ) {
        let mut bytes = include_bytes!("../../../recipes/sft.yaml").to_vec();
        for (at, byte) in &cuts {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if !whole {
            bytes.truncate(cuts[0].0.index(bytes.len()));
        }
        let _ = parse(Path::new("recipe.yaml"), bytes, &[]);
    }
}
