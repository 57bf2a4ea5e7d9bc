use super::*;

const KINDS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

fn paths(stem: &str) -> Vec<String> {
    (0..12).flat_map(|layer| KINDS.map(|kind| format!("{stem}.{layer}.{kind}"))).collect()
}

fn text() -> Vec<String> {
    paths("model.layers")
}

fn names(names: &[&str]) -> TargetModules {
    TargetModules::Names(names.iter().map(|name| (*name).into()).collect())
}

fn none() -> ExcludeModules {
    ExcludeModules::default()
}

fn without(names: &[&str]) -> ExcludeModules {
    ExcludeModules::Names(names.iter().map(|name| (*name).into()).collect())
}

fn selected(target: &TargetModules, exclude: &ExcludeModules) -> Vec<String> {
    let paths = text();
    select(&paths, target, exclude).unwrap().indices.into_iter().map(|i| paths[i].clone()).collect()
}

#[test]
fn names_match_whole_parts_of_a_path_only() {
    assert_eq!(selected(&names(&["q_proj", "mlp.down_proj"]), &none()).len(), 24);
    assert_eq!(selected(&names(&["layers.1.self_attn.q_proj"]), &none()), ["model.layers.1.self_attn.q_proj"]);
    // Not layer 11: a name begins at a dot. And `proj` alone is no module.
    assert_eq!(selected(&names(&["1.self_attn.q_proj"]), &none()), ["model.layers.1.self_attn.q_proj"]);
    assert!(select(&text(), &names(&["proj"]), &none()).is_err());
}

#[test]
fn an_expression_must_match_the_whole_path() {
    let regex = |pattern: &str| TargetModules::from_text(pattern);
    assert_eq!(selected(&regex(r".*\.(q|v)_proj"), &none()).len(), 24);
    assert_eq!(selected(&regex(r"model\.layers\.(0|11)\.mlp\..*"), &none()).len(), 6);
    // Alternatives without brackets are each matched in full, as in Python.
    assert_eq!(selected(&regex(r".*q_proj|.*v_proj"), &none()).len(), 24);
    let error = select(&text(), &regex("q_proj"), &none()).unwrap_err();
    assert_eq!(error.what(), "`target_modules` expression `q_proj` matches no module");
    assert!(error.hint_text().unwrap().contains("`[q_proj]`"), "{error}");
}

#[test]
fn all_linear_is_every_projection_in_any_case() {
    assert_eq!(TargetModules::from_text("All-Linear"), TargetModules::AllLinear);
    let selection = select(&text(), &TargetModules::AllLinear, &none()).unwrap();
    assert_eq!(selection.indices.len(), 84);
    assert_eq!(selection.kinds[4], KindCount { kind: "gate_proj".into(), matched: 12, total: 12 });
}

#[test]
fn exclusions_win_and_unused_ones_are_reported() {
    let selection =
        select(&text(), &TargetModules::AllLinear, &without(&["o_proj", "layers.0.mlp.up_proj", "vision_tower"]))
            .unwrap();
    assert_eq!(selection.indices.len(), 84 - 12 - 1);
    assert_eq!(selection.kinds[3], KindCount { kind: "o_proj".into(), matched: 0, total: 12 });
    assert_eq!(selection.kinds[5].matched, 11);
    assert_eq!(selection.unused_exclusions, ["vision_tower"]);

    let tower = ExcludeModules::Regex(".*vision_tower.*".into());
    assert_eq!(select(&text(), &names(&["q_proj"]), &tower).unwrap().unused_exclusions, [".*vision_tower.*"]);
    assert_eq!(selected(&names(&["q_proj"]), &ExcludeModules::Regex(String::new())).len(), 12);
    let all = select(&text(), &names(&["q_proj"]), &without(&["self_attn.q_proj"])).unwrap_err();
    assert!(all.what().contains("leaves out every module"), "{all}");
}

#[test]
fn every_unknown_name_is_told_with_what_was_meant() {
    let error = select(&text(), &names(&["q_porj", "k_proj", "lm_head", "query"]), &without(&["o_prj"])).unwrap_err();
    let shown: Vec<_> = error.iter().map(|e| (e.what().to_owned(), e.hint_text().unwrap().to_owned())).collect();
    assert_eq!(shown.len(), 4);
    assert_eq!(shown[0].0, "`target_modules` entry `q_porj` matches no module");
    assert_eq!(shown[0].1, "did you mean `q_proj`?");
    assert!(shown[1].0.contains("`lm_head`") && shown[1].1.contains("not on its embedding or head"));
    assert!(shown[2].0.contains("`query`") && shown[2].1.contains("q_proj, k_proj"));
    assert_eq!(shown[3], ("`exclude_modules` entry `o_prj` matches no module".into(), "did you mean `o_proj`?".into()));
}

#[test]
fn list_entries_that_are_not_names_are_explained() {
    let hint = |name: &str| select(&text(), &names(&[name]), &none()).unwrap_err().hint_text().unwrap().to_owned();
    assert!(hint(r".*q_proj").contains("as one string"));
    assert!(hint("all-linear").contains("as a string, not as a list"));
    assert!(select(&text(), &names(&[]), &none()).unwrap_err().what().contains("is empty"));
}

#[test]
fn python_only_expressions_are_refused_with_a_reason() {
    let error = |pattern: &str| select(&text(), &TargetModules::Regex(pattern.into()), &none()).unwrap_err();
    let ahead = error(r"(?!.*vision).*q_proj");
    assert!(ahead.hint_text().unwrap().contains("Python only"), "{ahead}");
    assert!(ahead.to_string().contains("look-around"), "{ahead}");
    assert!(error(r".*q_proj\Z").hint_text().unwrap().contains(r"`\z`"));
    assert!(error(r"(q)_\1").hint_text().unwrap().contains("back-references"));
    assert!(error("a)(b").what().contains("not valid here"));
}

#[test]
fn written_targets_choose_the_same_modules_again() {
    let check = |paths: Vec<String>, target: &TargetModules, exclude: &ExcludeModules| {
        let selection = select(&paths, target, exclude).unwrap();
        let written = exact_targets(&paths, &selection);
        assert_eq!(select(&paths, &written, &none()).unwrap().indices, selection.indices);
        written
    };
    assert_eq!(check(text(), &TargetModules::from_text(r".*\.(q|v)_proj"), &none()), names(&["q_proj", "v_proj"]));
    assert_eq!(check(text(), &TargetModules::AllLinear, &without(&["o_proj"])), {
        names(&["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"])
    });
    let uneven = check(text(), &TargetModules::from_text(r".*layers\.(3|4)\..*v_proj"), &none());
    assert_eq!(uneven, names(&["model.layers.3.self_attn.v_proj", "model.layers.4.self_attn.v_proj"]));
    let multimodal = check(paths("model.language_model.layers"), &names(&["q_proj", "up_proj"]), &none());
    assert_eq!(multimodal, {
        TargetModules::Regex(r"model\.language_model\.layers\.\d+\.(self_attn\.q_proj|mlp\.up_proj)".into())
    });
    let of_list = (0..3).map(|at| format!("model.language_model.altup_projections.{at}")).collect();
    let one_of_list = check(of_list, &names(&["altup_projections.1"]), &none());
    assert_eq!(one_of_list, names(&["model.language_model.altup_projections.1"]), "what ends with its number");
}

#[test]
fn pattern_keys_match_at_a_dot() {
    let key = tail_match("rank_pattern", "q_proj").unwrap();
    assert!(key.is_match("model.layers.0.self_attn.q_proj") && key.is_match("q_proj"));
    assert!(!key.is_match("model.layers.0.self_attn.xq_proj"));
    let anchored = tail_match("rank_pattern", r"^model\.layers\.3\..*").unwrap();
    assert!(anchored.is_match("model.layers.3.mlp.up_proj") && !anchored.is_match("model.layers.31.mlp.up_proj"));
}
