//! `gemma-tune generate`

use super::args::{ModelArgs, path};
use crate::error::{Error, Place, Result};
use crate::infer::Sampling;
use crate::jobs::generate::{self, Answer, GenerateOptions, Prompt};
use crate::report::ProgressBar;
use std::path::PathBuf;

/// Arguments of `generate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// One prompt, as the user's message
    #[arg(long, conflicts_with = "input", required_unless_present = "input")]
    prompt: Option<String>,
    /// Prompts: a jsonl file of {"messages": [..]} or {"prompt": ".."}
    #[arg(long, value_parser = path())]
    input: Option<PathBuf>,
    /// Where answers go: the input's rows with "completion", "tokens" and "finish_reason"
    #[arg(long, requires = "input", value_parser = path())]
    output: Option<PathBuf>,
    /// Take prompts as plain text, without the chat template
    #[arg(long)]
    raw: bool,
    /// At most this many new tokens per answer
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Prompts that run at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Print rows as JSON
    #[arg(long)]
    json: bool,
}

/// How tokens are chosen.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// 0 always takes the most likely token
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Only the k most likely tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Only the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Decides what is sampled
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl SamplingArgs {
    /// The checked choice.
    pub fn sampling(&self) -> Result<Sampling> {
        let wrong = |name: &str, what: &str| {
            Error::new(crate::error::Kind::Recipe, what.to_owned()).at(Place::Named(name.to_owned()))
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(wrong("--temperature", "the temperature must be 0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(wrong("--top-p", "top-p must be above 0 and at most 1"));
        }
        Ok(Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p })
    }
}

impl Args {
    /// Answers the prompts.
    pub fn run(self) -> Result<()> {
        let sampling = self.sampling.sampling()?;
        let prompts = match (&self.prompt, &self.input) {
            (Some(prompt), _) => vec![Prompt::text(prompt)],
            (None, Some(path)) => Prompt::read(path)?,
            (None, None) => Vec::new(),
        };
        let screen = ProgressBar::stderr();
        let tuned = self.model.open(&screen)?;
        let settings = GenerateOptions {
            max_tokens: self.max_tokens,
            sampling,
            seed: self.sampling.seed,
            raw: self.raw,
            batch_size: self.batch_size as usize,
        };
        let answers = generate::generate(&tuned, &prompts, &settings, &screen)?;
        let rows = || prompts.iter().zip(&answers).map(|(prompt, answer)| prompt.with(answer));
        if let Some(path) = &self.output {
            let lines: String = rows().map(|row| format!("{row}\n")).collect();
            return crate::atomic::write(path, lines.as_bytes());
        }
        if self.json || self.input.is_some() {
            return rows().try_for_each(|row| super::print(&row.to_string()));
        }
        answers.iter().try_for_each(|Answer { completion, .. }| super::print(completion))
    }
}
