//! `--set` options.

use super::*;

#[test]
fn are_checked_like_the_file() {
    assert_snapshot!(wrong_set("data.packing=maybe"), @r##"
error: `data.packing` must be `true` or `false`, found `maybe`
  --> --set data.packing=maybe
"##);
    assert_snapshot!(wrong_set("adapter.lora_aplha=3"), @r##"
error: unknown key `lora_aplha` in `adapter`
  --> --set adapter.lora_aplha=3
  hint: did you mean `lora_alpha`?
"##);
    assert_snapshot!(wrong_set("r=3"), @r##"
error: unknown section or key `r`
  --> --set r=3
  hint: it belongs in `adapter`: `adapter.r`
"##);
}

#[test]
fn malformed() {
    assert_snapshot!(wrong_set("adapter.r"), @r##"
error: there is no `=`
  --> --set adapter.r
  hint: write `--set section.key=value`
"##);
    assert_snapshot!(wrong_set("=3"), @r##"
error: what stands before the `=` does not name a key
  --> --set =3
  hint: write `--set section.key=value`
"##);
    assert_snapshot!(wrong_set("adapter.=3"), @r##"
error: what stands before the `=` does not name a key
  --> --set adapter.=3
  hint: write `--set section.key=value`
"##);
    assert_snapshot!(wrong_set("adapter.r="), @r##"
error: `adapter.r` has no value
  --> --set adapter.r=
  hint: leave the key out for its default, `16`
"##);
    assert_snapshot!(wrong_set("adapter.target_modules=[q_proj"), @r##"
error: this is not valid YAML: while parsing a flow sequence, expected ',' or ']'
  --> --set adapter.target_modules=[q_proj
  hint: a `[` or `{` is not closed, or a comma is missing
"##);
    assert_snapshot!(wrong_set("extends=a.yaml"), @r##"
error: `extends` cannot be set, only written into a recipe
  --> --set extends=a.yaml
"##);
}

#[test]
fn replace_what_the_file_says() {
    let recipe = read(
        MINIMAL,
        &["training.learning_rate=1e-3", "adapter.target_modules=all-linear", "data.train=[a, {path: b, weight: 2}]"],
    )
    .unwrap();
    assert_eq!(recipe.training.learning_rate, 1e-3);
    assert_eq!(recipe.adapter.target_modules, TargetModules::AllLinear);
    assert_eq!(
        recipe.data.train.iter().map(|s| (s.path.as_str(), s.weight)).collect::<Vec<_>>(),
        [("a", 1.0), ("b", 2.0)]
    );
    assert_eq!(read(MINIMAL, &["output.dir=a=b"]).unwrap().output.dir, PathBuf::from("a=b"));
    assert_eq!(read(MINIMAL, &["adapter.r=2", "adapter.r=3"]).unwrap().adapter.r, 3);
}
