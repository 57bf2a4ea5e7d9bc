//! A recipe from a model and data alone: what suits them is chosen, or left to the run to choose.

use crate::error::{Place, Result};
use crate::jobs::base::outline::Outline;
use crate::jobs::base::{Base, provenance};
use crate::jobs::forecast::beside::Beside;
use crate::jobs::forecast::fit::Sizes;
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::batches::{Largest, largest_tokens};
use crate::jobs::run::data::Data;
use crate::jobs::run::settings::RunSettings;
use crate::jobs::run::suited;
use crate::paths;
use crate::recipe::{Given, Reading, Recipe};
use crate::report::ProgressBar;
use std::path::{Path, PathBuf};

/// Where runs go that nobody gave a folder.
const RUNS: &str = "out";
/// The longest part of a folder's name that comes from a model or data.
const NAME_CHARS: usize = 40;

/// What a recipe is made of.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// The model, as the user named it.
    pub model: &'a str,
    /// Sources of rows, as the user named them.
    pub data: &'a [String],
    /// Where the run is to leave everything; a folder named after model and data without it.
    pub output: Option<&'a Path>,
    /// `--set` options.
    pub set: &'a [String],
}

impl Draft<'_> {
    /// The recipe, with `auto` where the data decides. A run that is to be resumed has its folder already.
    ///
    /// # Errors
    /// Every problem of what was given.
    pub fn recipe(&self, resume: bool, screen: &ProgressBar) -> Result<Recipe> {
        let dir = match self.output {
            Some(dir) => dir.to_owned(),
            None => free_folder(&Path::new(RUNS).join(self.name()), resume, screen),
        };
        let given = |option, key, values: Vec<String>, is_list| Given { option, key, values, is_list };
        let given = [
            given("--model", "model.base", vec![self.model.to_owned()], false),
            given("--data", "data.train", self.data.to_vec(), true),
            given("--output", "output.dir", vec![dir.display().to_string()], false),
        ];
        Reading::made(&given, self.set).finish()
    }

    /// What to call the run: after the model and the first of the data.
    fn name(&self) -> String {
        let model = self.model.split('@').next().unwrap_or_default();
        let data = self.data.first().map_or("data", String::as_str);
        format!("{}-{}", stem(model), stem(data))
    }
}

/// The recipe with every `auto` replaced by what suits its data, which is read for that.
///
/// # Errors
/// When the model's configuration or tokenizer, or the data, cannot be read.
pub fn suited(recipe: &Recipe, screen: &ProgressBar) -> Result<Recipe> {
    let read = || {
        let Outline { config, source, .. } = Outline::find(&recipe.model.base, screen)?;
        let named = Place::Key("model.base".into());
        let (encoder, processors) = Base::encoder(&recipe.model.base, named, screen)?;
        let prepare = |recipe: &Recipe| Data::of(recipe, &encoder, &processors, screen);
        let mut data = prepare(recipe)?;
        let chosen = suited::choose(recipe, &mut data, &config, &prepare)?;
        data.say_left_out(screen);
        let settings = RunSettings::of(&chosen);
        let adapter = AdapterPlan::of(recipe.task, &recipe.adapter, &config)?;
        let sizes = Sizes {
            frozen: Frozen { config: &config, source: source.as_ref() },
            trainable: adapter.trainable(),
            beside: Beside::of(&adapter, recipe, &config),
            optimizer_slots: settings.rule.slots() as u64,
            largest: &|batch_size, max_length| {
                Largest::of_recipe(recipe, batch_size, max_length, |rows, most| {
                    largest_tokens(&data.train, &data.binning, rows, most)
                })
            },
            devices: 1,
            capacity: settings.open_device("auto")?.capacity(),
        };
        Ok(suited::hold(&chosen, &sizes))
    };
    read().map_err(|error| recipe.places.locate(provenance::name_bases(error, &recipe.model.base)))
}

/// A folder that holds nothing yet: `dir`, or else `dir-2` and so on. The last one that there is where a run is resumed.
fn free_folder(dir: &Path, resume: bool, screen: &ProgressBar) -> PathBuf {
    let numbered = |number: u32| match number {
        1 => dir.to_owned(),
        number => PathBuf::from(format!("{}-{number}", dir.display())),
    };
    let is_used = |dir: &Path| paths::is_vacant(dir).is_ok_and(|is_vacant| !is_vacant) || dir.is_file();
    let free = (1..).find(|&number| !is_used(&numbered(number))).unwrap_or(1);
    if resume {
        return numbered(free.saturating_sub(1).max(1));
    }
    if free > 1 {
        let (used, free) = (numbered(free - 1), numbered(free));
        screen.note(&format!("`{}` holds something already: this run goes to `{}`", used.display(), free.display()));
    }
    numbered(free)
}

/// What is particular about the name of a model or of data, as part of a folder's name.
fn stem(name: &str) -> String {
    const ENDINGS: [&str; 12] =
        [".gz", ".zst", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md", ".gguf", ".arrow"];
    let mut parts = name.split(['/', '\\']).filter(|part| !part.is_empty() && !part.contains(['*', '?', '[', ':']));
    // Not `.` and `..`, which say nothing.
    let mut last = parts.rfind(|part| part.chars().any(char::is_alphanumeric)).unwrap_or("data");
    while let Some(shorter) =
        ENDINGS.iter().find_map(|ending| last.strip_suffix(ending).filter(|rest| !rest.is_empty()))
    {
        last = shorter;
    }
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    last.chars().map(plain).take(NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn runs_are_called_after_model_and_data() {
        let name = |model: &str, data: &str| Draft { model, data: &[data.to_owned()], output: None, set: &[] }.name();
        assert_eq!(name("google/gemma-3-1b-it@main", "data/faq.csv"), "gemma-3-1b-it-faq");
        assert_eq!(name("models/gemma-3-270m-q4_k_m.gguf", "a/b.jsonl.gz"), "gemma-3-270m-q4_k_m-b");
        assert_eq!(name("./m/", "notes/*.txt"), "m-notes");
        assert_eq!(name("m", "hf://datasets/owner/my name@x"), "m-my_name_x");
        assert_eq!(name("..", ".."), "data-data");
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let screen = ProgressBar::lines(std::io::sink(), Duration::ZERO);
        let run = dir.path().join("run");
        assert_eq!(free_folder(&run, false, &screen), run);
        assert_eq!(free_folder(&run, true, &screen), run);
        std::fs::create_dir_all(run.join("adapter")).unwrap();
        std::fs::write(dir.path().join("run-2"), "a file").unwrap();
        assert_eq!(free_folder(&run, false, &screen), dir.path().join("run-3"));
        assert_eq!(free_folder(&run, true, &screen), dir.path().join("run-2"));
    }
}
