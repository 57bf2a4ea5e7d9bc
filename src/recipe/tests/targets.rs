//! Names of modules: those that no Gemma 3 has, and those that some has.

use super::*;

#[test]
fn slips_of_the_pen() {
    assert_snapshot!(wrong_after(
        "adapter:\n  target_modules:\n    - q_proj\n    - v_porj\n    - self_atn.k_proj\n    - lm_head\n    - .*proj\n    - query\n  \
         exclude_modules: [o_prj, vision_tower]\n"
    ), @r##"
error: `target_modules` entry `v_porj` matches no module
  --> recipe.yaml:7:7
  7 |     - v_porj
    |       ^^^^^^
  hint: did you mean `v_proj`?

error: `target_modules` entry `self_atn.k_proj` matches no module
  --> recipe.yaml:8:7
  8 |     - self_atn.k_proj
    |       ^^^^^^^^^^^^^^^
  hint: did you mean `self_attn.k_proj`?

error: `target_modules` entry `lm_head` matches no module
  --> recipe.yaml:9:7
  9 |     - lm_head
    |       ^^^^^^^
  hint: adapters go on the linear layers inside the language model, not on its embedding or head

error: `target_modules` entry `.*proj` matches no module
  --> recipe.yaml:10:7
  10 |     - .*proj
     |       ^^^^^^
  hint: a list holds names; write a regular expression as one string

error: `target_modules` entry `query` matches no module
  --> recipe.yaml:11:7
  11 |     - query
     |       ^^^^^
  hint: modules here are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, per_layer_input_gate, per_layer_projection, linear_left, linear_right, modality_router, prediction_coefs, correction_coefs, altup_projections.0, altup_unembed_projections.0, per_layer_model_projection, as in `model.layers.0.self_attn.q_proj`

error: `exclude_modules` entry `o_prj` matches no module
  --> recipe.yaml:12:21
  12 |   exclude_modules: [o_prj, vision_tower]
     |                     ^^^^^
  hint: did you mean `o_proj`?

6 problems
"##);
}

#[test]
fn names_of_every_length_are_right() {
    for name in [
        "down_proj",
        "mlp.down_proj",
        "17.mlp.down_proj",
        "layers.17.mlp.down_proj",
        "model.layers.17.mlp.down_proj",
        "language_model.layers.17.mlp.down_proj",
        "model.language_model.layers.17.mlp.down_proj",
    ] {
        right_after(&format!("adapter: {{target_modules: [{name}, q_proj], exclude_modules: [{name}]}}"));
    }
    right_after("adapter: {target_modules: \".*v_proj|.*layers.99.mlp.up_proj\"}");
    right_after("adapter: {exclude_modules: [vision_tower, lm_head, vision_tower.encoder.layers.0.self_attn.q_porj]}");
    right_after("adapter: {exclude_modules: [out_proj, layers.0.self_attn.out_proj, fc1]}");
}

#[test]
fn expressions_that_match_nothing() {
    assert_snapshot!(wrong_after("adapter: {target_modules: v_porj}\n"), @r##"
error: `target_modules` expression `v_porj` matches no module
  --> recipe.yaml:4:27
  4 | adapter: {target_modules: v_porj}
    |                           ^^^^^^
  hint: a string must match the whole path, such as `model.layers.0.self_attn.q_proj`; did you mean the list `[v_proj]`?
"##);
    for pattern in [".*layers.*v_porj", "q_proj"] {
        let said = wrong_after(&format!("adapter: {{target_modules: \"{pattern}\"}}\n"));
        let what = format!("error: `target_modules` expression `{pattern}` matches no module\n  --> recipe.yaml:4:27");
        assert!(said.starts_with(&what), "{said}");
    }
}

#[test]
fn misspelt_exclusions_with_their_layer() {
    assert_snapshot!(wrong_after("adapter: {exclude_modules: [layers.3.self_attn.q_porj]}\n"), @r##"
error: `exclude_modules` entry `layers.3.self_attn.q_porj` matches no module
  --> recipe.yaml:4:29
  4 | adapter: {exclude_modules: [layers.3.self_attn.q_porj]}
    |                             ^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: did you mean `layers.3.self_attn.q_proj`?
"##);
}

/// Lists of every layer's modules are long, and so may be what is wrong with them.
#[test]
fn long_lists_of_names() {
    let names = |word: &str| -> String {
        let of_layer = |layer| ["q", "k", "v", "o"].map(|p| format!("layers.{layer}.self_attn.{p}_{word}"));
        (0..1000).flat_map(of_layer).collect::<Vec<_>>().join(", ")
    };
    right_after(&format!("adapter: {{target_modules: [{}]}}", names("proj")));
    let said = wrong_after(&format!("adapter: {{target_modules: [{}]}}", names("porj")));
    assert!(said.contains("... and 3976 more") && said.ends_with("4000 problems"), "{}", said.lines().last().unwrap());
}

#[test]
fn wrong_paths_are_no_suffixes() {
    for name in ["proj", "self_attn.down_proj", "x.mlp.down_proj", "1.down_proj", "model.17.mlp.down_proj", "mlp", ""] {
        assert!(read(&format!("{MINIMAL}adapter: {{target_modules: [\"{name}\"]}}"), &[]).is_err(), "{name}");
    }
}

#[test]
fn exclusions_that_leave_nothing() {
    assert_snapshot!(wrong_after("adapter:\n  target_modules: [q_proj]\n  exclude_modules: [self_attn.q_proj]\n"), @r##"
error: `exclude_modules` leaves out every module that `target_modules` names
  --> recipe.yaml:6:20
  6 |   exclude_modules: [self_attn.q_proj]
    |                    ^
  hint: exclude fewer modules
"##);
    right_after("adapter: {target_modules: [q_proj], exclude_modules: [layers.0.self_attn.q_proj]}");
}
