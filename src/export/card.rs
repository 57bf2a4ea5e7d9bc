//! The model card: `README.md` of an adapter folder, with the front matter that the Hub reads.

use crate::adapter::peft::AdapterConfig;
use crate::adapter::target::TargetModules;
use std::fmt::Write;

/// What a model card tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Card {
    /// The adapter's name, used as the title.
    pub name: String,
    /// The base model as the user named it: a hub id, a folder, or a `.gguf` file.
    pub base_model: String,
    /// Whether `base_model` is a hub id; only then may the Hub's front matter name it.
    pub base_is_hub_id: bool,
    /// The revision of that hub id.
    pub base_revision: Option<String>,
    /// The training data, one line per source.
    pub data: Vec<String>,
    /// Hyper-parameters beside the adapter's own: name and value.
    pub settings: Vec<(String, String)>,
    /// Measured results: name and value.
    pub results: Vec<(String, String)>,
    /// What else a user should know, one paragraph each (such as [`super::check::notes`]).
    pub notes: Vec<String>,
}

impl Card {
    /// The text of `README.md`.
    pub fn render(&self, config: &AdapterConfig) -> String {
        let mut card = self.front_matter(config);
        let base = if self.base_is_hub_id {
            format!("[{0}](https://huggingface.co/{0})", self.base_model)
        } else {
            code(&self.base_model)
        };
        let method = method(config);
        // Writing to a String cannot fail, so the results are dropped.
        let _ = write!(card, "\n# {}\n\n", one_line(&self.name));
        let _ = writeln!(card, "A {method} adapter for {base}, trained with gemma-tune.");
        if !self.data.is_empty() {
            card.push_str("\n## Training data\n\n");
            for source in &self.data {
                let _ = writeln!(card, "- {}", one_line(source));
            }
        }
        card.push_str("\n## Hyper-parameters\n\n");
        let targets = match &config.target_modules {
            TargetModules::Names(names) if names.len() <= 7 => names.join(", "),
            TargetModules::Names(names) => format!("{} modules, listed in adapter_config.json", names.len()),
            TargetModules::AllLinear => crate::adapter::target::ALL_LINEAR.into(),
            TargetModules::Regex(pattern) => code(pattern),
        };
        let own = [
            ("method", method.to_owned()),
            ("r", config.r.to_string()),
            ("lora_alpha", config.lora_alpha.to_string()),
            ("lora_dropout", config.lora_dropout.to_string()),
            ("target_modules", targets),
        ];
        let rows = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        table(&mut card, "setting", rows.chain(self.settings.iter().cloned()));
        if !self.results.is_empty() {
            card.push_str("\n## Results\n\n");
            table(&mut card, "measure", self.results.iter().cloned());
        }
        self.usage(&mut card);
        if !self.notes.is_empty() {
            card.push_str("\n## Notes\n\n");
            for note in &self.notes {
                let _ = writeln!(card, "- {}", one_line(note));
            }
        }
        card.push_str(
            "\n## Licence\n\nAn adapter for Gemma is a model derivative under the \
             [Gemma terms of use](https://ai.google.dev/gemma/terms).\n",
        );
        card
    }

    fn front_matter(&self, config: &AdapterConfig) -> String {
        let mut tags = vec!["gemma3", "gemma-tune", "lora"];
        tags.extend(config.use_dora.then_some("dora"));
        tags.extend(config.use_rslora.then_some("rslora"));
        let mut text = String::from("---\n");
        if self.base_is_hub_id {
            let _ = writeln!(text, "base_model: {}", quoted(&self.base_model));
        }
        text.push_str("library_name: peft\nlicense: gemma\npipeline_tag: text-generation\ntags:\n");
        if self.base_is_hub_id {
            let _ = writeln!(text, "- {}", quoted(&format!("base_model:adapter:{}", self.base_model)));
        }
        for tag in tags {
            let _ = writeln!(text, "- {tag}");
        }
        text.push_str("---\n");
        text
    }

    fn usage(&self, card: &mut String) {
        let base = quoted(&self.base_model);
        let revision = match &self.base_revision {
            Some(revision) if self.base_is_hub_id => format!(", revision={}", quoted(revision)),
            _ => String::new(),
        };
        let at =
            self.base_revision.as_deref().filter(|_| self.base_is_hub_id).map_or(String::new(), |r| format!("@{r}"));
        let shell = shell_word(&format!("{}{at}", self.base_model));
        let _ = write!(
            card,
            "\n## Use\n\nWith PEFT:\n\n```python\n\
             from peft import PeftModel\n\
             from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             folder = \".\"  # this folder\n\
             tokenizer = AutoTokenizer.from_pretrained(folder)\n\
             model = AutoModelForCausalLM.from_pretrained({base}{revision})\n\
             model = PeftModel.from_pretrained(model, folder)\n```\n\n\
             With gemma-tune:\n\n```sh\n\
             gemma-tune chat --model {shell} --adapter .\n\
             gemma-tune merge --model {shell} --adapter . --output merged\n```\n"
        );
    }
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

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card {
            name: "support".into(),
            base_model: "google/gemma-3-1b-it".into(),
            base_is_hub_id: true,
            base_revision: Some("abc".into()),
            data: vec!["data/support.jsonl: 200 conversations".into()],
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
    fn a_local_base_stays_out_of_the_front_matter() {
        let card = Card { base_model: "my models/it's.gguf".into(), base_is_hub_id: false, ..card() };
        let text = card.render(&AdapterConfig { use_dora: true, use_rslora: true, ..config() });
        let front = text.split("---\n").nth(1).unwrap();
        assert!(!front.contains("base_model"), "{front}");
        assert!(front.contains("- dora\n- rslora\n"));
        assert!(text.contains("A rank-stabilised DoRA adapter for `my models/it's.gguf`"));
        assert!(text.contains(r"--model 'my models/it'\''s.gguf' --adapter ."), "{text}");
        assert!(text.contains(r#"from_pretrained("my models/it's.gguf")"#));
    }

    #[test]
    fn hostile_names_cannot_break_the_front_matter() {
        let card = Card { base_model: "a\"b\n---\nx: y".into(), ..card() };
        let text = card.render(&config());
        assert!(text.starts_with("---\nbase_model: \"a\\\"b\\n---\\nx: y\"\n"), "{text}");
    }
}
