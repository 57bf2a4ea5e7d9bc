//! What is made of a run, and the proof that it says the same.

use super::folder::Folder;
use super::jobs::{Job, Task};
use crate::error::{Error, Kind, Result};
use crate::paths::named;
use serde::Deserialize;

/// What the page asks to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What.
    pub task: Task,
    /// Of which run.
    pub run: String,
    /// The kind of GGUF file, as llama.cpp names it.
    #[serde(default)]
    quant: Option<String>,
    /// The repository of the Hub, `owner/name`.
    #[serde(default)]
    repo: Option<String>,
    /// Whether a new repository is private.
    #[serde(default)]
    private: bool,
    /// Whether what is in the repository may be replaced.
    #[serde(default)]
    replace: bool,
    /// The Hub's token, which is kept nowhere.
    #[serde(default)]
    token: Option<String>,
}

impl Wish {
    /// The job of a run of that base, which may have learnt to judge answers and writes none then.
    ///
    /// # Errors
    /// A wish that cannot be.
    pub fn job(self, model: &str, judges: bool, folder: &Folder) -> Result<Job> {
        let wrong = |what: String| Err(Error::new(Kind::Recipe, what));
        let Wish { task, run, quant, repo, private, replace, token } = self;
        let quant = quant.unwrap_or_else(|| "Q4_K_M".to_owned());
        if !quant.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || quant.is_empty() {
            return wrong(format!("`{quant}` is no kind of GGUF file"));
        }
        if judges && !matches!(task, Task::Merge | Task::Push) {
            return wrong(format!("`{run}` judges answers and writes none: it can be merged, or uploaded to the Hub"));
        }
        let adapter = folder.run(&run);
        let output = match task {
            Task::Push => adapter.clone(),
            Task::Merge => folder.ship(&format!("{run}-merged"), ""),
            Task::Gguf => folder.ship(&format!("{run}-{quant}"), ".gguf"),
            Task::Lora => folder.ship(&format!("{run}-lora"), ".gguf"),
            Task::Ollama => folder.ship(&format!("{run}-ollama"), ""),
        };
        let (adapter, to) = (format!("--adapter={}", named(&adapter)), format!("--output={}", named(&output)));
        let (model_is, quant_is) = (format!("--model={model}"), format!("--quant={quant}"));
        let shown = named(&output);
        let (words, export) = match task {
            Task::Merge => (vec!["merge", &model_is, &adapter, &to], format!("--merged={shown}")),
            Task::Gguf => (vec!["export", "gguf", &model_is, &adapter, &quant_is, &to], format!("--gguf={shown}")),
            Task::Lora => (vec!["export", "gguf-lora", &model_is, &adapter, &to], format!("--gguf-lora={shown}")),
            Task::Ollama => (
                vec!["export", "ollama", &model_is, &adapter, &quant_is, &to],
                format!("--gguf={}", named(&output.join("model.gguf"))),
            ),
            Task::Push => {
                let Some(repo) = repo.filter(|repo| is_repository(repo)) else {
                    return wrong("write the repository as `owner/name`".to_owned());
                };
                let mut words = vec!["push".to_owned(), shown, format!("--repo={repo}")];
                words.extend(private.then(|| "--private".to_owned()));
                words.extend(replace.then(|| "--yes".to_owned()));
                words.push("--json".to_owned());
                let mut job = Job::new(task, &run, model, vec![words], output);
                job.secrets.extend(token.filter(|token| !token.is_empty()).map(|token| ("HF_TOKEN", token)));
                return Ok(job);
            }
        };
        let own = |words: &[&str]| -> Vec<String> {
            words.iter().chain(&["--json"]).map(|word| (*word).to_owned()).collect()
        };
        let mut steps = vec![own(&words)];
        // What is compared is what is written next.
        if !judges {
            steps.push(own(&["verify", &model_is, &adapter, &export]));
        }
        Ok(Job::new(task, &run, model, steps, output))
    }
}

fn is_repository(repo: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    repo.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_export_is_followed_by_its_proof() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let job = |text: &str| -> Result<Job> {
            let wish = serde_json::from_str::<Wish>(text);
            wish.map_err(|e| Error::new(Kind::Recipe, e.to_string()))?.job("m", false, &folder)
        };
        for (task, verb, proof) in [
            ("merge", "merge", "--merged="),
            ("gguf", "export", "--gguf="),
            ("lora", "export", "--gguf-lora="),
            ("ollama", "export", "--gguf="),
        ] {
            let job = job(&format!(r#"{{"task": "{task}", "run": "faq", "quant": "Q8_0"}}"#)).unwrap();
            let [made, proved] = &job.steps[..] else { panic!("{:?}", job.steps) };
            assert!(made[0] == verb && proved[0] == "verify" && made.last().unwrap() == "--json", "{:?}", job.steps);
            assert!(proved.iter().any(|word| word.starts_with(proof)), "{proved:?}");
            assert!(job.output.starts_with(folder.dir().join("ship")));
        }
        let push =
            job(r#"{"task": "push", "run": "faq", "repo": "me/faq", "private": true, "token": "hf_x"}"#).unwrap();
        assert_eq!(push.steps[0][2..], ["--repo=me/faq", "--private", "--json"]);
        assert!(!serde_json::to_string(&push).unwrap().contains("hf_x"), "no file keeps it");
        let judging = |task: &str| {
            let wish = json!({"task": task, "run": "judge", "repo": "me/judge"});
            serde_json::from_value::<Wish>(wish).unwrap().job("m", true, &folder)
        };
        assert_eq!(judging("merge").unwrap().steps.len(), 1);
        assert!(judging("push").is_ok());
        for task in ["gguf", "lora", "ollama"] {
            assert!(judging(task).unwrap_err().what().contains("judges answers"), "{task}");
        }
        for wrong in [
            r#"{"task": "gguf", "run": "faq", "quant": "--x"}"#,
            r#"{"task": "push", "run": "faq", "repo": "--help"}"#,
            r#"{"task": "push", "run": "faq"}"#,
            r#"{"task": "train", "run": "faq"}"#,
        ] {
            assert!(job(wrong).is_err(), "{wrong}");
        }
    }
}
