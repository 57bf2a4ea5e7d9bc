//! What a recipe that comes from the page may name: files that were uploaded, runs that are here, models.

use super::folder::{Folder, is_name};
use crate::error::{Error, Kind, Place, Result};
use crate::paths::named;
use crate::recipe;

/// What may stand before the name of a data set of the Hub.
const OF_THE_HUB: &str = "hf://";

/// Looks at every value of a recipe's text before anything that it names is opened.
///
/// # Errors
/// Every value that leads out of the studio's folder, or starts a program.
pub fn check(text: &str, folder: &Folder) -> Result<()> {
    let problems = recipe::texts(text).into_iter().filter_map(|(key, value)| {
        let hint = refused(&key, &value, folder)?;
        let what = format!("`{value}` is not opened for a page in the browser");
        Some(Error::new(Kind::Recipe, what).at(Place::Key(key)).hint(hint))
    });
    Error::many(problems.collect()).map_or(Ok(()), Err)
}

/// What to do instead, of a value that is not taken.
fn refused(key: &str, value: &str, folder: &Folder) -> Option<&'static str> {
    const TRAIN: &str = "`gemma-tune train` takes such a recipe";
    match key {
        "extends" => Some("put what that file says into this recipe"),
        "data.train" | "data.train.path" | "data.eval" | "data.eval.path" => {
            let is_known = folder.has_data(value) || value.starts_with(OF_THE_HUB);
            (!is_known)
                .then_some("drop the file into the page, or name a data set of the Hub: `hf://datasets/owner/name`")
        }
        "adapter.init_from" => (run_of(value, folder).is_none()).then_some("choose a run of this studio"),
        "output.dir" => (run_of(value, folder).is_none()).then_some("give the run a name of letters and digits"),
        "rewards.command" | "rewards.url" | "rewards.schema_file" | "rewards.base" => Some(TRAIN),
        "rewards.adapter" => (run_of(value, folder).is_none()).then_some(TRAIN),
        key if key.starts_with("rewards.headers") => Some(TRAIN),
        _ => None,
    }
}

/// The name of the run whose folder a path is, as the page writes it.
pub fn run_of<'a>(path: &'a str, folder: &Folder) -> Option<&'a str> {
    let name = path.strip_prefix(&named(&folder.run("")))?;
    (is_name(name) && named(&folder.run(name)) == path).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::folder::Uploaded;

    #[test]
    fn a_recipe_names_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        folder.add(Uploaded { file: "1-a.csv".into(), name: "a".into(), bytes: 1, added: 1 }).unwrap();
        let (data, runs) = (folder.dir().join("data"), folder.dir().join("runs"));
        let (data, runs) = (data.display(), runs.display());
        let is_taken = |text: String| check(&text, &folder).is_ok();
        assert!(is_taken(format!("data: {{train: {data}/1-a.csv}}\noutput: {{dir: {runs}/a}}")));
        assert!(is_taken(format!(
            "data: {{train: [{{path: 'hf://datasets/a/b'}}]}}\nadapter: {{init_from: {runs}/b}}"
        )));
        for text in [
            "data: {train: /etc/passwd}".to_owned(),
            "data: {train: [{path: /etc/passwd}]}".to_owned(),
            "data: {eval: [~/x.csv]}".to_owned(),
            format!("data: {{train: {data}/../data/1-a.csv}}"),
            format!("data: {{train: {data}/2-b.csv}}"),
            "extends: a.yaml".to_owned(),
            "{\"\\x65xtends\": a.yaml}".to_owned(),
            format!("output: {{dir: {runs}/../../x}}"),
            format!("output: {{dir: {runs}}}"),
            format!("output: {{dir: {runs}/a/b}}"),
            format!("output: {{dir: {runs}/./a}}"),
            "adapter: {init_from: /x}".to_owned(),
            "rewards: [{kind: program, command: [sh, -c, id]}]".to_owned(),
            "rewards: [{kind: http, url: 'http://10.0.0.1'}]".to_owned(),
            "rewards: [{kind: json_schema, schema_file: /etc/passwd}]".to_owned(),
        ] {
            assert!(!is_taken(text.clone()), "{text}");
        }
        let problems = check("extends: a\ndata: {train: b, eval: c}", &folder).unwrap_err();
        assert_eq!(problems.iter().count(), 3);
        assert_eq!(run_of(&format!("{runs}/a"), &folder), Some("a"));
        assert_eq!(recipe::value_of("model: {base: m}", "model.base").as_deref(), Some("m"));
    }
}
