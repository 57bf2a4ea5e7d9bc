//! `gemma-tune verify`

use super::args::{expanded, path, whole};
use super::interrupt;
use super::relief::Relief;
use crate::error::{Error, Kind, Result};
use crate::jobs::score::Input;
use crate::jobs::verify::{self, Exports, Line, Report, served};
use crate::report::{ProgressBar, text};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The base model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
    #[arg(long, value_parser = expanded)]
    model: String,
    /// The adapter folder, or the output.dir of a run
    #[arg(long, value_parser = path())]
    adapter: PathBuf,
    /// A folder that `merge` wrote; repeatable
    #[arg(long, value_name = "DIR", value_parser = path())]
    merged: Vec<PathBuf>,
    /// A file that `export gguf` wrote; repeatable
    #[arg(long, value_name = "F.gguf", value_parser = path())]
    gguf: Vec<PathBuf>,
    /// A file that `export gguf-lora` wrote; repeatable
    #[arg(long, value_name = "F.gguf", value_parser = path())]
    gguf_lora: Vec<PathBuf>,
    /// Rows to compare on, as `score` takes them; without it the evaluation rows of the adapter's run, else a built-in text
    #[arg(long, value_name = "FILE", value_parser = path())]
    input: Option<PathBuf>,
    /// The most tokens to compare; of Gemma's 262,144 words each takes 2 MiB of memory
    #[arg(long, default_value_t = 512, value_name = "N", allow_negative_numbers = true, value_parser = whole::<1, usize>)]
    tokens: usize,
    /// Say what another program would refuse or ignore of the adapter, and the options it needs, instead of comparing
    #[arg(long, value_parser = ["vllm"], conflicts_with_all = ["merged", "gguf", "gguf_lora", "input"])]
    target: Option<String>,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    device: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        Relief::on("verifying", &self.device).with("a smaller `--tokens`")
    }

    /// Compares.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        interrupt::end_on_signal(&screen)?;
        if self.target.is_some() {
            return self.served(&screen);
        }
        let input = self.input.map(|path| Input::read(&path, &screen).map(|rows| (path, rows))).transpose()?;
        let Args { model, adapter, merged, gguf, gguf_lora, tokens, device, .. } = self;
        let exports = Exports { model, adapter, merged, gguf, gguf_lora, input, tokens, device };
        let report = verify::verify(exports, &screen)?;
        match self.json {
            true => super::print_json(&report)?,
            false => table(&report)?,
        }
        failed(report.problems)
    }

    /// What vLLM makes of the adapter.
    fn served(&self, screen: &ProgressBar) -> Result<()> {
        let served = served::vllm(&self.model, &self.adapter, screen)?;
        let notes: Vec<_> = served.notes.iter().map(|note| json!({"what": note.what, "advice": note.advice})).collect();
        match self.json {
            true => super::print_json(&json!({"target": "vllm", "flags": served.flags, "notes": notes}))?,
            false => super::print_text(&format!("vLLM is started with: {}", served.flags.join(" ")))?,
        }
        failed(served.notes.into_iter().map(|note| format!("vLLM {}; {}", note.what, note.advice)).collect())
    }
}

/// The problems as what made the run fail.
fn failed(problems: Vec<String>) -> Result<()> {
    let problems = problems.into_iter().map(|what| Error::new(Kind::Run, what)).collect();
    Error::many(problems).map_or(Ok(()), Err)
}

/// The report for people.
fn table(report: &Report) -> Result<()> {
    let (tokens, rows) = (text::counted(report.tokens, "token"), text::counted(report.rows, "row"));
    super::print_text(&format!("Against base and adapter, at {tokens} of {rows} of {}:", report.rows_from))?;
    let heads = ["mean KL", "max KL", "same top word", "adapter in it"];
    super::print_text(&format!("{:<18} {:>9} {:>9} {:>14} {:>14}  limit", "", heads[0], heads[1], heads[2], heads[3]))?;
    report.compared.iter().try_for_each(|line| super::print_text(&shown(line)))
}

fn shown(line: &Line) -> String {
    let name = match &line.stored {
        Some(stored) => format!("{} {stored}", line.what),
        None => line.what.to_owned(),
    };
    let effect = line.effect.map_or("-".to_owned(), |effect| format!("{:.1} %", 100.0 * effect));
    let limit = match line.limit {
        Some(limit) => format!("{} {limit:.0e}  {}", if line.mean_kl <= limit { "<" } else { "ABOVE" }, line.path),
        None => format!("what the adapter does  {}", line.path),
    };
    format!(
        "{name:<18} {:>9.2e} {:>9.2e} {:>12.1} % {effect:>14}  {limit}",
        line.mean_kl,
        line.max_kl,
        100.0 * line.top_1
    )
}
