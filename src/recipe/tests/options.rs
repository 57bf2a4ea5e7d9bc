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
fn items_of_lists_have_numbers() {
    let lists = format!(
        "task: grpo\n{}rewards:\n  - {{kind: program, command: [a]}}\n  - {{kind: json}}\n",
        MINIMAL.replace("rows.jsonl", "[a, {path: b, weight: 2}]")
    );
    let set = |overrides: &[&str]| read(&lists, overrides);
    let recipe =
        set(&["rewards[0].timeout=5", "rewards[1].weight=2", "data.train[1].path=c", "data.train[1].weight=3"]);
    let recipe = recipe.unwrap();
    assert_eq!((recipe.rewards[0].timeout, recipe.rewards[1].weight), (Some(5.0), 2.0));
    assert_eq!((recipe.data.train[0].path.as_str(), recipe.data.train[1].weight), ("a", 3.0));
    let recipe =
        set(&["adapter.target_modules=[q_proj, v_proj]", "adapter.target_modules[1]=k_proj", "data.train[0]=d"]);
    let recipe = recipe.unwrap();
    assert_eq!(recipe.adapter.target_modules, TargetModules::Names(vec!["q_proj".into(), "k_proj".into()]));
    assert_eq!(recipe.data.train[0].path, "d");
    for (option, what) in [
        ("rewards[2].weight=2", "`rewards[2]` cannot be set: it has 2 items, `[0]` to `[1]`"),
        ("rewards[0].tiemout=2", "unknown key `tiemout` in `rewards[]`"),
        ("rewards[0].timeout=0", "`rewards[0].timeout` must be above 0"),
        ("rewards.0.timeout=2", "write it with brackets: `--set rewards[0].timeout=..`"),
        ("rewards[a].timeout=2", "what stands before the `=` does not name a key"),
        ("data.eval[0].path=a", "`data.eval` cannot be set: the recipe does not have it"),
        ("adapter.r[0]=2", "`adapter` cannot be set: the recipe does not have it"),
        ("task[0]=2", "`task` cannot be set: it is no list, but `grpo`"),
    ] {
        let said = set(&[option]).unwrap_err().to_string();
        assert!(said.contains(what), "{option}: {said}");
    }
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
