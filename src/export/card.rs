//! The model card: `README.md` of a folder of results, with the front matter that the Hub reads.

use crate::adapter::peft::AdapterConfig;
use crate::adapter::target::TargetModules;
use crate::export::plot::Measure;
use crate::terminal::shell_word;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;

/// What has to be said to those who get a Gemma, or what was made of one, from somebody else.
pub const NOTICE: &str =
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms";

/// What a card is of.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// An adapter of these settings.
    Adapter(&'a AdapterConfig),
    /// A whole Hugging Face model.
    Model,
    /// The same, with a head that judges texts in the place of the one that writes.
    Judge,
    /// GGUF files of these names.
    Gguf(&'a [String]),
}

/// What a model card tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Card {
    /// The adapter's name, used as the title.
    pub name: String,
    /// The base model as the user named it: a hub id, a folder, or a `.gguf` file.
    pub base_model: String,
    /// Where the adapter was written, for a base that is a file or folder of this machine: both are named from the folder
    /// that training was started in. Empty: unknown, or none's business.
    pub folder: String,
    /// Whether `base_model` is a hub id; only then may the Hub's front matter name it.
    pub base_is_hub_id: bool,
    /// The revision of that hub id.
    pub base_revision: Option<String>,
    /// The repository of the Hub that the card is published in.
    #[serde(skip)]
    pub repository: Option<String>,
    /// The training data, one line per source.
    pub data: Vec<String>,
    /// Those sources that are data sets of the Hub, by their ids.
    pub datasets: Vec<String>,
    /// The recipe of the run, as YAML.
    pub recipe: Option<String>,
    /// What is drawn in [`Measure::file`] beside the card: the folder itself says so.
    #[serde(skip)]
    pub plot: Option<Measure>,
    /// The programs that computed, with their versions.
    pub versions: Vec<(String, String)>,
    /// Hyper-parameters beside the adapter's own: name and value.
    pub settings: Vec<(String, String)>,
    /// Measured results: name and value.
    pub results: Vec<(String, String)>,
    /// What else a user should know, one paragraph each (such as [`super::check::notes`]).
    pub notes: Vec<String>,
}

impl Card {
    /// The text of `README.md` beside an adapter.
    pub fn render(&self, config: &AdapterConfig) -> String {
        self.render_of(Subject::Adapter(config))
    }

    /// The text of `README.md` beside something.
    pub fn render_of(&self, subject: Subject) -> String {
        let mut card = self.front_matter(subject);
        let base = if self.base_is_hub_id {
            format!("[{0}](https://huggingface.co/{0})", self.base_model)
        } else if self.base_model.is_empty() {
            "Gemma".to_owned()
        } else {
            code(&shared(&self.base_model))
        };
        // Writing to a String cannot fail, so the results are dropped.
        let _ = write!(card, "\n# {}\n\n", one_line(&self.name));
        let trained = if self.settings.is_empty() { "" } else { ", trained with gemma-tune" };
        let _ = match subject {
            Subject::Adapter(config) => writeln!(card, "A {} adapter for {base}{trained}.", method(config)),
            Subject::Model if trained.is_empty() => writeln!(card, "A model made from {base}."),
            Subject::Model => writeln!(card, "{base} with a LoRA adapter folded in{trained}."),
            Subject::Judge => {
                writeln!(
                    card,
                    "A reward model, which gives each text a number: {base} with a LoRA adapter folded in{trained}."
                )
            }
            Subject::Gguf(_) => writeln!(card, "GGUF files of a model made from {base}{trained}."),
        };
        if !self.data.is_empty() {
            card.push_str("\n## Training data\n\n");
            for source in &self.data {
                let _ = writeln!(card, "- {}", one_line(&shared(source)));
            }
        }
        let own = match subject {
            Subject::Adapter(config) => own_settings(config),
            Subject::Model | Subject::Judge | Subject::Gguf(_) => Vec::new(),
        };
        let settings: Vec<_> = own.into_iter().chain(self.settings.iter().cloned()).collect();
        if !settings.is_empty() {
            card.push_str("\n## Hyper-parameters\n\n");
            table(&mut card, "setting", settings.into_iter());
        }
        if let Some(recipe) = &self.recipe {
            let fence = fence(recipe);
            let _ = write!(card, "\n## Recipe\n\n{fence}yaml\n{}\n{fence}\n", recipe.trim_end());
        }
        if !self.results.is_empty() {
            card.push_str("\n## Results\n\n");
            table(&mut card, "measure", self.results.iter().cloned());
        }
        if let Some(plot) = self.plot {
            let _ = write!(card, "\n![{}]({})\n", plot.title(), plot.file());
        }
        match subject {
            Subject::Adapter(config) => self.usage(&mut card, config.judges()),
            Subject::Model => self.usage_of_model(&mut card, false),
            Subject::Judge => self.usage_of_model(&mut card, true),
            Subject::Gguf(files) => self.usage_of_gguf(&mut card, files),
        }
        if !self.notes.is_empty() {
            card.push_str("\n## Notes\n\n");
            for note in &self.notes {
                let _ = writeln!(card, "- {}", one_line(note));
            }
        }
        if !self.versions.is_empty() {
            card.push_str("\n## Versions\n\n");
            table(&mut card, "program", self.versions.iter().cloned());
        }
        let what = match subject {
            Subject::Adapter(_) => "An adapter for Gemma",
            Subject::Model | Subject::Judge | Subject::Gguf(_) => "What is made from Gemma",
        };
        let _ = write!(
            card,
            "\n## Licence\n\n{what} is a model derivative under the \
             [Gemma terms of use](https://ai.google.dev/gemma/terms).\n\n{NOTICE}.\n"
        );
        card
    }

    fn front_matter(&self, subject: Subject) -> String {
        let mut tags = vec!["gemma3", "gemma-tune"];
        let (library, relation) = match subject {
            Subject::Adapter(config) => {
                tags.push("lora");
                tags.extend(config.use_dora.then_some("dora"));
                tags.extend(config.use_rslora.then_some("rslora"));
                (Some("peft"), "adapter")
            }
            Subject::Model | Subject::Judge => (Some("transformers"), "finetune"),
            Subject::Gguf(_) => {
                tags.push("gguf");
                (None, "quantized")
            }
        };
        let mut text = String::from("---\n");
        if self.base_is_hub_id {
            let _ = writeln!(text, "base_model: {}", quoted(&self.base_model));
            if !matches!(subject, Subject::Adapter(_)) {
                let _ = writeln!(text, "base_model_relation: {relation}");
            }
        }
        if !self.datasets.is_empty() {
            text.push_str("datasets:\n");
            for id in &self.datasets {
                let _ = writeln!(text, "- {}", quoted(id));
            }
        }
        if let Some(library) = library {
            let _ = writeln!(text, "library_name: {library}");
        }
        let judges = match subject {
            Subject::Adapter(config) => config.judges(),
            Subject::Judge => true,
            Subject::Model | Subject::Gguf(_) => false,
        };
        let pipeline = if judges { "text-classification" } else { "text-generation" };
        let _ = writeln!(text, "license: gemma\npipeline_tag: {pipeline}\ntags:");
        if self.base_is_hub_id {
            let _ = writeln!(text, "- {}", quoted(&format!("base_model:{relation}:{}", self.base_model)));
        }
        for tag in tags {
            let _ = writeln!(text, "- {tag}");
        }
        text.push_str("---\n");
        text
    }

    fn usage_of_model(&self, card: &mut String, judges: bool) {
        let model = self.repository.as_deref().unwrap_or(".");
        let (python, shell) = (quoted(model), shell_word(model));
        let (class, command) = match judges {
            true => ("AutoModelForSequenceClassification", "score --input rows.jsonl"),
            false => ("AutoModelForCausalLM", "chat"),
        };
        let _ = write!(
            card,
            "\n## Use\n\nWith transformers:\n\n```python\n\
             from transformers import {class}, AutoTokenizer\n\n\
             tokenizer = AutoTokenizer.from_pretrained({python})\n\
             model = {class}.from_pretrained({python})\n```\n\n\
             With gemma-tune:\n\n```sh\ngemma-tune {command} --model {shell}\n```\n"
        );
    }

    fn usage_of_gguf(&self, card: &mut String, files: &[String]) {
        card.push_str("\n## Use\n\nWith llama.cpp:\n\n```sh\n");
        for file in files {
            let file = shell_word(file);
            let _ = match &self.repository {
                Some(id) => writeln!(card, "llama-cli --hf-repo {} --hf-file {file}", shell_word(id)),
                None => writeln!(card, "llama-cli --model {file}"),
            };
        }
        card.push_str("```\n");
    }

    fn usage(&self, card: &mut String, judges: bool) {
        let revision = self.base_revision.as_deref().filter(|_| self.base_is_hub_id);
        let (base, at) = match revision {
            Some(revision) => (self.base_model.clone(), format!("@{revision}")),
            None if self.base_is_hub_id => (self.base_model.clone(), String::new()),
            None => (shared(&self.base_model), String::new()),
        };
        let private = !self.base_is_hub_id && base != self.base_model;
        // A card of a local base is read where both were; one of a Hub model, in the folder itself.
        let here = self.base_is_hub_id || private || self.folder.is_empty() || is_absolute(&self.folder);
        let folder = if here { "." } else { self.folder.as_str() };
        let place = if here { "this folder" } else { "this folder, from where it was trained" };
        let shell = shell_word(&format!("{base}{at}"));
        let mut adapter = shell_word(folder);
        let (mut folder, mut place, mut download) = (quoted(folder), place, String::new());
        if let Some(id) = &self.repository {
            (folder, place) = (quoted(id), "this repository");
            adapter = shell_word(id.rsplit('/').next().unwrap_or(id));
            download = format!("hf download {} --local-dir {adapter}\n", shell_word(id));
        }
        let file = gguf(&base).filter(|_| !self.base_is_hub_id);
        // The path of a base on the machine that trained is not for the card; PEFT keeps it in the config.
        let (imports, found) = match private {
            true => (
                "from pathlib import Path\nfrom peft import PeftConfig, PeftModel\n",
                "base = Path(PeftConfig.from_pretrained(folder).base_model_name_or_path)  # on another machine: its path there\n",
            ),
            false => ("from peft import PeftModel\n", ""),
        };
        let base = match file {
            Some(_) if private => "base.parent, gguf_file=base.name".to_owned(),
            None if private => "base".to_owned(),
            Some((parent, file)) => format!("{}, gguf_file={}", quoted(parent), quoted(file)),
            None => quoted(&base),
        };
        let (class, labels, command) = match judges {
            true => (
                "AutoModelForSequenceClassification",
                ", num_labels=1",
                format!("score --input rows.jsonl --model {shell}"),
            ),
            false => ("AutoModelForCausalLM", "", format!("chat --model {shell}")),
        };
        let with_path = if private { " (with the path of the base)" } else { "" };
        let revision = revision.map(|revision| format!(", revision={}", quoted(revision))).unwrap_or_default();
        let _ = write!(
            card,
            "\n## Use\n\nWith PEFT:\n\n```python\n\
             {imports}\
             from transformers import {class}, AutoTokenizer\n\n\
             folder = {folder}  # {place}\n\
             {found}\
             tokenizer = AutoTokenizer.from_pretrained(folder)\n\
             model = {class}.from_pretrained({base}{revision}{labels})\n\
             model = PeftModel.from_pretrained(model, folder)\n```\n\n\
             With gemma-tune{with_path}:\n\n```sh\n\
             {download}\
             gemma-tune {command} --adapter {adapter}\n\
             gemma-tune merge --model {shell} --adapter {adapter} --output merged\n```\n"
        );
    }
}

/// What an adapter's configuration says of how it was made.
fn own_settings(config: &AdapterConfig) -> Vec<(String, String)> {
    let targets = match &config.target_modules {
        TargetModules::Names(names) if names.len() <= 7 => names.join(", "),
        TargetModules::Names(names) => format!("{} modules, listed in adapter_config.json", names.len()),
        TargetModules::AllLinear => crate::adapter::target::ALL_LINEAR.into(),
        TargetModules::Regex(pattern) => code(pattern),
    };
    let own = [
        ("method", method(config).to_owned()),
        ("r", config.r.to_string()),
        ("lora_alpha", config.lora_alpha.to_string()),
        ("lora_dropout", config.lora_dropout.to_string()),
        ("target_modules", targets),
    ];
    own.map(|(name, value)| (name.to_owned(), value)).into()
}

/// As many backticks as `text` can stand between.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(3.max(longest + 1))
}

/// A path as strangers may see it: of one that begins at the root, which tells whose machine it was, its last part.
pub fn shared(path: &str) -> String {
    let name = Path::new(path).file_name().filter(|_| is_absolute(path));
    name.map_or_else(|| path.into(), |name| name.to_string_lossy().into_owned())
}

fn is_absolute(path: &str) -> bool {
    Path::new(path).is_absolute() || path.starts_with('~')
}

/// The folder and the name of a GGUF file, as transformers takes them.
fn gguf(path: &str) -> Option<(&str, &str)> {
    let (folder, file) = path.rsplit_once('/').unwrap_or((".", path));
    file.to_ascii_lowercase().ends_with(".gguf").then_some((folder, file))
}

/// What the adapter is called in the field.
fn method(config: &AdapterConfig) -> &'static str {
    match (config.use_dora, config.use_rslora) {
        (false, false) => "LoRA",
        (false, true) => "rank-stabilised LoRA",
        (true, false) => "DoRA",
        (true, true) => "rank-stabilised DoRA",
    }
}

fn table(card: &mut String, head: &str, rows: impl Iterator<Item = (String, String)>) {
    let cell = |text: &str| one_line(text).replace('|', "\\|");
    let _ = write!(card, "| {head} | value |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(card, "| {} | {} |", cell(&name), cell(&value));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn code(text: &str) -> String {
    format!("`{}`", one_line(text).replace('`', "'"))
}

/// A string as JSON writes it: valid in YAML and in Python.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card {
            name: "support".into(),
            base_model: "google/gemma-3-1b-it".into(),
            folder: "out/support/adapter".into(),
            repository: None,
            base_is_hub_id: true,
            base_revision: Some("abc".into()),
            data: vec!["data/support.jsonl: 200 conversations".into(), "hf://datasets/ann/chats".into()],
            datasets: vec!["ann/chats".into()],
            recipe: Some("data:\n  system: \"```\"\n".into()),
            plot: Some(Measure::Loss),
            versions: vec![("gemma-tune".into(), "1.2.3".into())],
            settings: vec![("learning_rate".into(), "0.0002".into())],
            results: vec![("eval_loss".into(), "1.25 | 1.5".into())],
            notes: vec!["vLLM refuses rank 24\nunless it is allowed".into()],
        }
    }

    fn config() -> AdapterConfig {
        AdapterConfig::new(16, 32.0, TargetModules::Names(vec!["q_proj".into(), "v_proj".into()]))
    }

    #[test]
    fn a_whole_card() {
        assert_eq!(card().render(&config()), include_str!("../../tests/goldens/export/card.md"));
    }

    #[test]
    fn a_published_card_is_read_where_it_is() {
        let card = Card { repository: Some("ann/support".into()), ..card() };
        let text = card.render(&config());
        assert!(text.contains("folder = \"ann/support\"  # this repository\n"), "{text}");
        assert!(text.contains("hf download ann/support --local-dir support\n"), "{text}");
        assert!(text.contains("--adapter support --output merged"), "{text}");
    }

    #[test]
    fn models_and_gguf_files_have_cards_too() {
        let card = Card { repository: Some("ann/support".into()), ..card() };
        insta::assert_snapshot!("card_of_a_model", card.render_of(Subject::Model));
        let judge = card.render_of(Subject::Judge);
        for said in [
            "pipeline_tag: text-classification\n",
            "A reward model, which gives each text a number: ",
            "model = AutoModelForSequenceClassification.from_pretrained(\"ann/support\")\n",
            "gemma-tune score --input rows.jsonl --model ann/support\n",
        ] {
            assert!(judge.contains(said), "{said}: {judge}");
        }
        assert!(!judge.contains("CausalLM"), "{judge}");
        let bare = Card { name: "x".into(), ..Card::default() };
        insta::assert_snapshot!("card_of_gguf_files", bare.render_of(Subject::Gguf(&["x q4.gguf".into()])));
    }

    #[test]
    fn a_local_base_stays_out_of_the_front_matter() {
        let card = Card { base_model: "my models/it's.gguf".into(), base_is_hub_id: false, ..card() };
        let text = card.render(&AdapterConfig { use_dora: true, use_rslora: true, ..config() });
        let front = text.split("---\n").nth(1).unwrap();
        assert!(!front.contains("base_model"), "{front}");
        assert!(front.contains("- dora\n- rslora\n"));
        assert!(text.contains("A rank-stabilised DoRA adapter for `my models/it's.gguf`"));
        assert!(text.contains(r"--model 'my models/it'\''s.gguf' --adapter out/support/adapter"), "{text}");
        assert!(text.contains(r#"from_pretrained("my models", gguf_file="it's.gguf")"#), "{text}");
        assert!(text.contains(r#"folder = "out/support/adapter""#), "{text}");
        let folder = Card { base_model: "models/gemma".into(), ..card };
        assert!(folder.render(&config()).contains(r#"from_pretrained("models/gemma")"#));
        let beside = Card { base_model: "g.GGUF".into(), ..folder };
        assert!(beside.render(&config()).contains(r#"from_pretrained(".", gguf_file="g.GGUF")"#));
    }

    #[test]
    fn paths_that_tell_whose_machine_it_was_are_not_shared() {
        let base_model = "/home/ann/models/g.gguf".into();
        let data = vec!["/home/ann/secret/rows.jsonl".into(), "~/ann/more.jsonl".into(), "hf://datasets/a/b".into()];
        let (folder, datasets) = ("/home/ann/out/adapter".into(), vec!["a/b".into()]);
        let card = Card { base_model, base_is_hub_id: false, folder, data, datasets, ..card() };
        let text = card.render(&config());
        assert!(!text.contains("/home") && !text.contains("ann"), "{text}");
        assert!(
            text.contains("base = Path(PeftConfig.from_pretrained(folder).base_model_name_or_path)")
                && text.contains("from_pretrained(base.parent, gguf_file=base.name)")
                && text.contains("With gemma-tune (with the path of the base):"),
            "{text}"
        );
        assert!(text.contains("- rows.jsonl\n- more.jsonl\n- hf://datasets/a/b\n"), "{text}");
    }

    #[test]
    fn hostile_names_cannot_break_the_front_matter() {
        let card = Card { base_model: "a\"b\n---\nx: y".into(), ..card() };
        let text = card.render(&config());
        assert!(text.starts_with("---\nbase_model: \"a\\\"b\\n---\\nx: y\"\n"), "{text}");
    }
}
