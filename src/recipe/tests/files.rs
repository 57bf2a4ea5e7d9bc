//! Recipe files and what they extend.

use super::*;

/// Committed files, whose paths are the same on every machine.
const FOLDER: &str = "tests/goldens/recipe";

fn load_error(path: &Path) -> String {
    here(load(path, &[]).unwrap_err().to_string())
}

/// A message with the folder of the repository taken out.
fn here(message: String) -> String {
    message.replace(&format!("{}/", std::env::current_dir().unwrap().display()), "HERE/")
}

/// Loads the first of `files`; `HERE` in them is the folder that they are written to.
fn extending(files: &[(&str, &str)], overrides: &[&str]) -> Result<Recipe> {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display().to_string();
    for (name, text) in files {
        fs::write(folder.path().join(name), text.replace("HERE", &here)).unwrap();
    }
    let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
    load(&folder.path().join(files[0].0), &overrides)
}

#[test]
fn missing_or_a_folder() {
    assert_snapshot!(load_error(Path::new("no/such.yaml")), @r##"
error: there is no such recipe file
  --> no/such.yaml
  hint: relative paths start at the folder in which the program runs: it would be `HERE/no/such.yaml`
"##);
    assert_snapshot!(load_error(Path::new(FOLDER)), @r##"
error: this is a folder, not a recipe
  --> tests/goldens/recipe
  hint: name the `.yaml` file in it
"##);
}

#[test]
fn too_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(load(&path, &[]).unwrap_err().what(), "the file is larger than 1 MB, so it is not a recipe");
}

#[test]
fn a_recipe_is_laid_over_what_it_extends() {
    let recipe = extending(
        &[
            (
                "recipe.yaml",
                "extends: [HERE/a.yaml, HERE/b.yaml]\nmodel: {base: mine}\ndata: {train: d}\noutput: {dir: o}\ntraining:\n",
            ),
            ("a.yaml", "extends: HERE/c.yaml\nadapter: {r: 4, lora_alpha: 4}\n"),
            ("b.yaml", "adapter:\n  r: 8\n"),
            ("c.yaml", "model: {base: theirs, dtype: f32}\ntraining: {seed: 7}\nadapter: {target_modules: [q_proj]}\n"),
        ],
        &["adapter.lora_alpha=2"],
    )
    .unwrap();
    assert_eq!((recipe.model.base.as_str(), recipe.model.dtype), ("mine", AutoDtype(Some(HostDtype::F32))));
    assert_eq!((recipe.adapter.r, recipe.adapter.lora_alpha, recipe.training.seed), (8, 2.0, 7));
    assert_eq!(recipe.adapter.target_modules, TargetModules::Names(vec!["q_proj".into()]));
}

#[test]
fn problems_point_into_the_file_that_has_them() {
    let recipe = "extends: tests/goldens/recipe/wrong_preset.yaml\nmodel: {base: m}\ndata: {train: d}\noutput: {dir: o, \
                  save_steps: 0}\n";
    assert_snapshot!(read(recipe, &["data.packing=maybe"]).unwrap_err(), @r##"
error: `output.save_steps` must be at least 1, found the number `0`
  --> recipe.yaml:4:30
  4 | output: {dir: o, save_steps: 0}
    |                              ^
  hint: to save at the end only, write more steps than there are: `1000000`

error: `adapter.r` must be a whole number, found `none`
  --> tests/goldens/recipe/wrong_preset.yaml:3:6
  3 |   r: none
    |      ^^^^

error: unknown key `rr` in `adapter`
  --> tests/goldens/recipe/wrong_preset.yaml:4:3
  4 |   rr: 3
    |   ^^
  hint: did you mean `r`?

error: `data.packing` must be `true` or `false`, found `maybe`
  --> --set data.packing=maybe

4 problems
"##);
}

#[test]
fn circles_are_found() {
    assert_snapshot!(load_error(&Path::new(FOLDER).join("circle_a.yaml")), @r##"
error: `tests/goldens/recipe/circle_a.yaml` extends itself
  --> tests/goldens/recipe/circle_b.yaml:1:11
  1 | extends: [tests/goldens/recipe/circle_a.yaml]
    |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: take one file out of the circle
"##);
}

#[test]
fn files_to_extend_must_be_readable() {
    let problems = wrong("extends:\n  - no/such.yaml\n  - tests/goldens/recipe\n  - [x]\n  -\nmodel: 3\n");
    assert_snapshot!(here(problems), @r##"
error: `no/such.yaml` cannot be extended: there is no such recipe file
  --> recipe.yaml:2:5
  2 |   - no/such.yaml
    |     ^^^^^^^^^^^^
  hint: relative paths start at the folder in which the program runs: it would be `HERE/no/such.yaml`

error: `tests/goldens/recipe` cannot be extended: this is a folder, not a recipe
  --> recipe.yaml:3:5
  3 |   - tests/goldens/recipe
    |     ^^^^^^^^^^^^^^^^^^^^
  hint: name the `.yaml` file in it

error: `extends` must be a path or a list of paths, found a list
  --> recipe.yaml:4:5
  4 |   - [x]
    |     ^

error: `extends` must be a path or a list of paths, found nothing
  --> recipe.yaml:5:4
  5 |   -
    |    ^

4 problems
"##);
}

#[test]
fn a_diamond_of_files_is_bounded() {
    let twice = |name: &str| format!("extends: [HERE/{name}, HERE/{name}]\n");
    let texts: Vec<(String, String)> =
        (0..30).map(|n| (format!("{n}.yaml"), twice(&format!("{}.yaml", n + 1)))).collect();
    let mut files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.push(("30.yaml", MINIMAL));
    assert!(extending(&files, &[]).unwrap_err().what().contains("more than 32 files"));
}

#[test]
fn a_file_to_extend_that_lies_beside_the_recipe_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("preset-of-mine.yaml"), "adapter: {r: 4}\n").unwrap();
    let path = folder.path().join("recipe.yaml");
    fs::write(&path, "extends: preset-of-mine.yaml\n").unwrap();
    let error = load_error(&path);
    assert!(
        error.contains("not at that of the recipe: `") && error.contains("/preset-of-mine.yaml` is there"),
        "{error}"
    );
}
