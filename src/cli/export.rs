//! `gemma-tune export`

use super::args::{expanded, path, verify_command};
use super::interrupt;
use super::relief::Relief;
use crate::error::Result;
use crate::jobs::base::{adapter_folder, provenance};
use crate::jobs::export::gguf::Rounding;
use crate::jobs::export::measured::Budget;
use crate::jobs::export::{self, ADAPTER, Exported, ExportedLora, MODEL, MODELFILE};
use crate::report::{ProgressBar, text};
use crate::terminal::shell_word;
use clap::builder::{ArgPredicate, PossibleValue, PossibleValuesParser, TypedValueParser};
use std::ops::RangeInclusive;
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
        /// The model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
        #[arg(long, value_parser = expanded)]
        model: String,
        /// The adapter folder, or the output.dir of a run
        #[arg(long, value_parser = path())]
        adapter: Option<PathBuf>,
        /// The kind of file, as llama.cpp names it
        #[arg(long, value_parser = quants(), ignore_case = true, hide_possible_values = true,
            required_unless_present_any = ["target_size", "bits"], default_value_if("target_size", ArgPredicate::IsPresent, "Q4_K_M"),
            default_value_if("bits", ArgPredicate::IsPresent, "Q4_K_M"))]
        quant: Option<String>,
        #[command(flatten)]
        measuring: Measuring,
        /// The new file
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a model, with an adapter folded in, as a folder for `ollama create NAME -f OUTPUT/Modelfile`
    Ollama {
        /// The model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
        #[arg(long, value_parser = expanded)]
        model: String,
        /// The adapter folder, or the output.dir of a run
        #[arg(long, value_parser = path())]
        adapter: Option<PathBuf>,
        /// The kind of GGUF file, as llama.cpp names it
        #[arg(long, value_parser = quants(), ignore_case = true, hide_possible_values = true, default_value = "Q4_K_M")]
        quant: String,
        #[command(flatten)]
        measuring: Measuring,
        /// A system message that the model has where a request brings none
        #[arg(long)]
        system: Option<String>,
        /// Leave the model as it is, a model of Ollama or a .gguf file, and write the adapter alone
        #[arg(long, requires = "adapter", conflicts_with = "quant")]
        adapter_only: bool,
        /// The new folder
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the smaller model that lies inside a Gemma 3n (MatFormer) as a Hugging Face folder
    #[command(after_help = "E2B out of E4B: --without-layers 20-24 --intermediate-size 8192")]
    Slice {
        /// The model: a Hub id[@revision] or a folder
        #[arg(long, value_parser = expanded)]
        model: String,
        /// Layers to leave out, counted from 0: 20-24, or several: 20,22-24
        #[arg(long, value_name = "LAYERS", value_delimiter = ',', value_parser = layers)]
        without_layers: Vec<RangeInclusive<usize>>,
        /// The width of all feed-forward blocks, or of each that stays: 8192, or 8192,16384,...
        #[arg(long, value_name = "WIDTHS", value_delimiter = ',')]
        intermediate_size: Vec<usize>,
        /// The new folder
        #[arg(long, value_parser = path())]
        output: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what looks at pictures in a Gemma 3, with an adapter folded in, as the GGUF file that llama.cpp takes as `--mmproj`
    GgufMmproj {
        /// The model: a Hub id[@revision] or a folder
        #[arg(long, value_parser = expanded)]
        model: String,
        /// The adapter folder, or the output.dir of a run
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
        /// The adapter folder, or the output.dir of a run
        #[arg(long, value_parser = path())]
        adapter: PathBuf,
        /// The base to hold it against, such as the .gguf file or model of Ollama it is for; else the one that it was trained on
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

/// What decides about the rounding of numbers beside the kind of file.
#[derive(clap::Args)]
struct Measuring {
    /// Texts that show which numbers count: rows as `score` takes them (JSON, CSV, Parquet), a .txt or .md file; or llama.cpp's
    /// imatrix as .gguf
    #[arg(long, value_name = "FILE", value_parser = path())]
    imatrix: Option<PathBuf>,
    /// Write what was measured on them as llama.cpp's imatrix
    #[arg(long, value_name = "FILE.gguf", value_parser = path(), requires = "imatrix")]
    save_imatrix: Option<PathBuf>,
    /// Choose each matrix's type by what it does to the answers, for a file of at most this size: 200MB
    #[arg(long, value_name = "SIZE", value_parser = super::args::size, requires = "imatrix", conflicts_with = "bits")]
    target_size: Option<u64>,
    /// The same, for so many bits a number on average: 4.5
    #[arg(long, value_name = "BITS", value_parser = bits, requires = "imatrix")]
    bits: Option<f64>,
    /// Where texts are read: auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto", requires = "imatrix")]
    device: String,
}

impl Measuring {
    fn rounding<'a>(&'a self, quant: &'a str) -> Rounding<'a> {
        Rounding {
            quant,
            imatrix: self.imatrix.as_deref(),
            save_imatrix: self.save_imatrix.as_deref(),
            budget: self.target_size.map(Budget::File).or(self.bits.map(Budget::Bits)),
            device: &self.device,
        }
    }
}

/// Bits a number.
fn bits(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(bits) if bits > 0.0 && bits <= 32.0 => Ok(bits),
        _ => Err("write a number of bits such as 4.5".into()),
    }
}

/// `20` or `20-24`.
fn layers(text: &str) -> std::result::Result<RangeInclusive<usize>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number =
        |part: &str| part.trim().parse::<usize>().map_err(|_| format!("`{}` is no layer's number", part.trim()));
    let (first, last) = (number(first)?, number(last)?);
    // A range beyond every model would be written out first.
    if first > last || last >= 10_000 { Err(format!("{first}-{last} are no layers")) } else { Ok(first..=last) }
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
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        match &self.verb {
            Verb::Gguf { measuring, .. } | Verb::Ollama { measuring, .. } => {
                Relief::on("exporting", &measuring.device).with("shorter texts for `--imatrix`")
            }
            Verb::Slice { .. } | Verb::GgufMmproj { .. } | Verb::GgufLora { .. } => Relief::nowhere("exporting"),
        }
    }

    /// Exports.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        interrupt::end_on_signal(&screen)?;
        match self.verb {
            Verb::Gguf { model, adapter, quant, measuring, output, json } => {
                let quant = quant.unwrap_or_default();
                let rounding = measuring.rounding(&quant);
                let exported = export::gguf::export(&model, adapter.as_deref(), &rounding, &output, &screen)?;
                report(&exported, &rounding, &output, json, &screen)?;
                check(&model, adapter.as_deref(), "--gguf", &output, json, &screen);
                Ok(())
            }
            Verb::Ollama { model, adapter: Some(adapter), system, adapter_only: true, output, json, .. } => {
                let system = system.as_deref();
                let exported = export::ollama::export_adapter(&model, &adapter, system, &output, &screen)?;
                report_adapter(&exported, &output, json, &screen)?;
                check(&model, Some(&adapter), "--gguf-lora", &output.join(ADAPTER), json, &screen);
                then_create(&output, json, &screen);
                Ok(())
            }
            Verb::Ollama { model, adapter, quant, measuring, system, output, json, .. } => {
                let (adapter, system) = (adapter.as_deref(), system.as_deref());
                let rounding = measuring.rounding(&quant);
                let exported = export::ollama::export(&model, adapter, &rounding, system, &output, &screen)?;
                report(&exported, &rounding, &output, json, &screen)?;
                check(&model, adapter, "--gguf", &output.join(MODEL), json, &screen);
                then_create(&output, json, &screen);
                Ok(())
            }
            Verb::Slice { model, without_layers, intermediate_size, output, json } => {
                let sliced = export::slice::export(&model, &without_layers, &intermediate_size, &output, &screen)?;
                if json {
                    return super::print_json(&sliced);
                }
                let (layers, tensors) = (sliced.layers.len(), sliced.tensors);
                let size = text::bytes(sliced.bytes);
                screen.note(&format!("{}: {size}, {tensors} tensors, {layers} layers", output.display()));
                Ok(())
            }
            Verb::GgufMmproj { model, adapter, quant, output, json } => {
                let exported = export::mmproj::export(&model, adapter.as_deref(), &quant, &output, &screen)?;
                report(&exported, &Rounding::of(&quant), &output, json, &screen)
            }
            Verb::GgufLora { adapter, model, output, json } => {
                let exported = export::lora::export(model.as_deref(), &adapter, &output, &screen)?;
                report_adapter(&exported, &output, json, &screen)?;
                let base = || provenance::base_of(&adapter_folder::locate(&adapter).ok()?);
                if let Some(model) = model.or_else(base) {
                    check(&model, Some(&adapter), "--gguf-lora", &output, json, &screen);
                }
                Ok(())
            }
        }
    }
}

/// Says what was written of an adapter.
fn report_adapter(exported: &ExportedLora, output: &Path, json: bool, screen: &ProgressBar) -> Result<()> {
    let ExportedLora { modules, alpha, bytes } = exported;
    if json {
        return super::print_json(
            &serde_json::json!({ "output": output, "modules": modules, "alpha": alpha, "bytes": bytes }),
        );
    }
    let size = text::bytes(*bytes);
    screen.note(&format!("{}: {size}, an adapter of {modules} weights, alpha {alpha}", output.display()));
    Ok(())
}

/// Says how Ollama takes the folder.
fn then_create(output: &Path, json: bool, screen: &ProgressBar) {
    if !json {
        let modelfile = output.join(MODELFILE);
        screen.note(&format!("Then: ollama create NAME -f {}", shell_word(&modelfile.to_string_lossy())));
    }
}

/// Offers to check what an adapter was folded into, which must be there to be read.
fn check(model: &str, adapter: Option<&Path>, option: &str, output: &Path, json: bool, screen: &ProgressBar) {
    if let Some(adapter) = adapter.filter(|_| !json && output.is_file()) {
        screen.note(&verify_command(model, adapter, option, output));
    }
}

/// Says what was written.
fn report(exported: &Exported, rounding: &Rounding, output: &Path, json: bool, screen: &ProgressBar) -> Result<()> {
    let quant = if rounding.budget.is_some() { "measured" } else { rounding.quant };
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
