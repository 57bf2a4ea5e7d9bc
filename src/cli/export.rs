//! `gemma-tune export`

use super::args::{expanded, path};
use super::interrupt;
use crate::error::Result;
use crate::jobs::export::{self, Exported};
use crate::report::{ProgressBar, text};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

/// Arguments of `export`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Write a model, with an adapter folded in, as a GGUF file for llama.cpp
    Gguf {
        /// The model: a Hub id[@revision], a folder, or a .gguf file
        #[arg(long, value_parser = expanded)]
        model: String,
        /// The adapter folder
        #[arg(long, value_parser = path())]
        adapter: Option<PathBuf>,
        /// The kind of file, as llama.cpp names it
        #[arg(long, value_parser = quants(), ignore_case = true, hide_possible_values = true)]
        quant: String,
        /// The new file
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a model, with an adapter folded in, as a folder for `ollama create NAME -f OUTPUT/Modelfile`
    Ollama {
        /// The model: a Hub id[@revision], a folder, or a .gguf file
        #[arg(long, value_parser = expanded)]
        model: String,
        /// The adapter folder
        #[arg(long, value_parser = path())]
        adapter: Option<PathBuf>,
        /// The kind of GGUF file, as llama.cpp names it
        #[arg(long, value_parser = quants(), ignore_case = true, hide_possible_values = true, default_value = "Q4_K_M")]
        quant: String,
        /// A system message that the model has where a request brings none
        #[arg(long)]
        system: Option<String>,
        /// The new folder
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what looks at pictures, with an adapter folded in, as the GGUF file that llama.cpp takes as `--mmproj`
    GgufMmproj {
        /// The model: a Hub id[@revision] or a folder
        #[arg(long, value_parser = expanded)]
        model: String,
        /// The adapter folder
        #[arg(long, value_parser = path())]
        adapter: Option<PathBuf>,
        /// The kind of file
        #[arg(long, value_parser = kinds(), ignore_case = true, default_value = "F16")]
        quant: String,
        /// The new file
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an adapter as a GGUF file that llama.cpp applies beside its base
    GgufLora {
        /// The adapter folder
        #[arg(long, value_parser = path())]
        adapter: PathBuf,
        /// The base to hold it against, such as the .gguf file it is for; else the one that it was trained on
        #[arg(long, value_parser = expanded)]
        model: Option<String>,
        /// The new file
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
}

/// The kinds of GGUF files.
fn quants() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(export::quants().map(PossibleValue::new))
}

/// The kinds of GGUF files of towers.
fn kinds() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(export::mmproj::kinds().map(PossibleValue::new))
}

impl Args {
    /// Exports.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        interrupt::end_on_signal(&screen)?;
        match self.verb {
            Verb::Gguf { model, adapter, quant, output, json } => {
                let exported = export::gguf::export(&model, adapter.as_deref(), &quant, &output, &screen)?;
                report(&exported, &quant, &output, json, &screen)
            }
            Verb::Ollama { model, adapter, quant, system, output, json } => {
                let (adapter, system) = (adapter.as_deref(), system.as_deref());
                let exported = export::ollama::export(&model, adapter, &quant, system, &output, &screen)?;
                report(&exported, &quant, &output, json, &screen)
            }
            Verb::GgufMmproj { model, adapter, quant, output, json } => {
                let exported = export::mmproj::export(&model, adapter.as_deref(), &quant, &output, &screen)?;
                report(&exported, &quant, &output, json, &screen)
            }
            Verb::GgufLora { adapter, model, output, json } => {
                let exported = export::lora::export(model.as_deref(), &adapter, &output, &screen)?;
                match json {
                    true => super::print_json(&serde_json::json!({
                        "output": output, "modules": exported.modules, "alpha": exported.alpha, "bytes": exported.bytes,
                    })),
                    false => {
                        screen.note(&format!(
                            "{}: {}, an adapter of {} weights, alpha {}",
                            output.display(),
                            text::bytes(exported.bytes),
                            exported.modules,
                            exported.alpha
                        ));
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Says what was written.
fn report(exported: &Exported, quant: &str, output: &Path, json: bool, screen: &ProgressBar) -> Result<()> {
    if json {
        return super::print_json(&serde_json::json!({
            "output": output, "quant": quant, "tensors": exported.tensors, "modules": exported.modules,
            "bytes": exported.bytes, "types": exported.types,
        }));
    }
    let types: Vec<String> = exported.types.iter().map(|(of, count)| format!("{count} {of}")).collect();
    let folded = match exported.modules {
        0 => String::new(),
        modules => format!("; the adapter is in {modules} of them"),
    };
    screen.note(&format!(
        "{}: {}, {} tensors ({}){folded}",
        output.display(),
        text::bytes(exported.bytes),
        exported.tensors,
        types.join(", ")
    ));
    Ok(())
}
