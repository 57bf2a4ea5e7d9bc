//! Ollama's Modelfile for a Gemma model.

mod value;

use crate::error::Result;
use std::fmt::Write;
use value::{bare, quoted};

/// The name of the file in the folder, by which a folder of ours is known.
pub const MODELFILE: &str = "Modelfile";

/// The name of the model's GGUF file beside it.
pub const MODEL: &str = "model.gguf";

/// The name of the adapter's, where the model stays as it is.
pub const ADAPTER: &str = "adapter.gguf";

/// Gemma's turns as a template of Go, which is what Ollama takes. The system message stands before the first thing that
/// the user says, as in Gemma's own template, even an empty one; `<bos>` is put there by the tokenizer. Go has no function
/// that trims: `trimmed` calls itself with a byte less until neither end is white, and knows the white space of ASCII.
const TEMPLATE: &str = r#"{{- define "trimmed" }}
{{- if . }}
{{- $first := slice . 0 1 }}{{ $last := slice . (len (slice . 1)) }}
{{- if eq $first " " "\n" "\t" "\r" "\v" "\f" }}{{ template "trimmed" (slice . 1) }}
{{- else if eq $last " " "\n" "\t" "\r" "\v" "\f" }}{{ template "trimmed" (slice . 0 (len (slice . 1))) }}
{{- else }}{{ . }}{{ end }}
{{- end }}
{{- end }}
{{- $told := false }}{{ $begun := false }}
{{- range $i, $message := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "system" }}{{ $told = true }}
{{- else if eq .Role "user" }}<start_of_turn>user
{{ if and (not $begun) (or $told $.System) }}{{ $.System }}

{{ end }}{{ $begun = true }}{{ template "trimmed" .Content }}<end_of_turn>
{{ else if eq .Role "assistant" }}<start_of_turn>model
{{ template "trimmed" .Content }}{{ if not $last }}<end_of_turn>
{{ end }}
{{- end }}
{{- if and $last (ne .Role "assistant") }}<start_of_turn>model
{{ end }}
{{- end }}"#;

/// What ends an answer.
const STOP: &str = "<end_of_turn>";

/// How Gemma 3 is meant to be sampled.
const SAMPLING: [(&str, &str); 3] = [("temperature", "1.0"), ("top_k", "64"), ("top_p", "0.95")];

/// What a Modelfile begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// [`MODEL`] beside it.
    Model,
    /// A model by its name in Ollama or its file, with [`ADAPTER`] beside the Modelfile.
    Adapted(&'a str),
}

/// The text of a Modelfile, with a system message if there is one, which the option `--system` gave.
///
/// # Errors
/// A system message or the name of a model that Ollama would read as something else.
pub fn modelfile(from: From, system: Option<&str>) -> Result<String> {
    // Writing to a String cannot fail, so the results are dropped.
    let mut text = match from {
        From::Model => format!("FROM ./{MODEL}\n"),
        From::Adapted(base) => format!("FROM {}\nADAPTER ./{ADAPTER}\n", bare(base, "--model")?),
    };
    let _ = writeln!(text, "TEMPLATE \"\"\"{TEMPLATE}\"\"\"");
    if let Some(system) = system {
        let _ = writeln!(text, "SYSTEM {}", quoted(system, "--system")?);
    }
    let _ = writeln!(text, "PARAMETER stop {STOP}");
    for (name, value) in SAMPLING {
        let _ = writeln!(text, "PARAMETER {name} {value}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_modelfile() {
        let text = modelfile(From::Model, Some("Be \"\"\"brief\"\"\".")).unwrap();
        assert!(text.starts_with("FROM ./model.gguf\nTEMPLATE \"\"\"{{- define \"trimmed\" }}\n"));
        let rest = text.split("{{- end }}\"\"\"\n").nth(1).unwrap();
        assert_eq!(
            rest,
            "SYSTEM \"\"\"Be \"\"\"brief\"\"\".\"\"\"\nPARAMETER stop <end_of_turn>\nPARAMETER temperature 1.0\n\
             PARAMETER top_k 64\nPARAMETER top_p 0.95\n"
        );
        assert!(!modelfile(From::Model, None).unwrap().contains("SYSTEM"));
        let adapted = modelfile(From::Adapted("gemma3:270m"), None).unwrap();
        assert!(adapted.starts_with("FROM gemma3:270m\nADAPTER ./adapter.gguf\nTEMPLATE \"\"\"{{- define"));
    }

    #[test]
    fn the_template_is_read_as_it_is() {
        assert!(quoted(TEMPLATE, "").is_ok());
    }
}
