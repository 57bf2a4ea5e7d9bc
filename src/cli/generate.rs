//! `gemma-tune generate`

use super::args::{ModelArgs, path, whole};
use super::interrupt::Stop;
use super::relief::Relief;
use crate::atomic::{Claim, check_target, is_file};
use crate::error::{Error, Kind, Place, Result};
use crate::infer::{CacheDtype, Sampling};
use crate::jobs::generate::{self, Answer, Ending, GenerateOptions, Prompt};
use crate::progress::counted;
use crate::recipe::with_point;
use crate::report::ProgressBar;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

/// Arguments of `generate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// One prompt, as the user's message
    #[arg(long, conflicts_with = "input", required_unless_present = "input")]
    prompt: Option<String>,
    /// Prompts: a file of JSON lines, {"messages": [..]} or {"prompt": ".."}; `-` reads standard input
    #[arg(long, value_parser = path())]
    input: Option<PathBuf>,
    /// Where answers go: the input's rows with "completion", "tokens" and "finish_reason"
    #[arg(long, requires = "input", value_parser = path())]
    output: Option<PathBuf>,
    /// Continue where an interrupted run with this output has stopped
    #[arg(long, requires = "output")]
    resume: bool,
    /// Take prompts as plain text, without the chat template
    #[arg(long)]
    raw: bool,
    /// At most this many new tokens per answer
    #[arg(long, default_value_t = 256, allow_negative_numbers = true, value_parser = whole::<0, usize>)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Prompts that run at once
    #[arg(long, default_value_t = 8, allow_negative_numbers = true, value_parser = whole::<1, u32>)]
    batch_size: u32,
    /// Print rows as JSON
    #[arg(long)]
    json: bool,
}

/// How tokens are chosen, and held.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// 0 always takes the most likely token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    temperature: f64,
    /// Only the k most likely tokens; 0 for all
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = top_k)]
    top_k: usize,
    /// Only the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = number)]
    top_p: f64,
    /// Decides what is sampled
    #[arg(long, default_value_t = 42, allow_negative_numbers = true, value_parser = whole::<0, u64>)]
    pub seed: u64,
    /// Guess up to so many tokens at once where text repeats itself, of one prompt at a time without an adapter on the CPU; no
    /// answer depends on it
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = whole::<0, u32>)]
    pub drafts: u32,
    /// What keys and values of tokens that were read are held in: f16 rounds them, and takes half the memory
    #[arg(long, default_value = "f32", value_parser = cache_dtypes())]
    pub cache_dtype: CacheDtype,
}

/// The words for what keys and values are held in.
pub fn cache_dtypes() -> impl TypedValueParser<Value = CacheDtype> {
    let words = [CacheDtype::F32, CacheDtype::F16].map(CacheDtype::name);
    PossibleValuesParser::new(words).map(|word| if word == "f16" { CacheDtype::F16 } else { CacheDtype::F32 })
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| match with_point(text) {
        Some(meant) => format!("write `{meant}`"),
        None => "it must be a number, such as `0.7`".to_owned(),
    })
}

fn top_k(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "top-k must be a whole number, 0 or more".to_owned())
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
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        let relief = self.model.relief("generating").with_fewer_at_once(self.batch_size as usize);
        relief.with("a smaller `--max-tokens`")
    }

    /// Answers the prompts, and returns the exit code.
    pub fn run(self) -> Result<u8> {
        let sampling = self.sampling.sampling()?;
        let output = self.output.as_deref();
        let claim = output.map(|path| self.check_output(path)).transpose()?;
        let to_file = claim.as_ref().is_some_and(|(to_file, _)| *to_file);
        let prompts = match (&self.prompt, &self.input) {
            (Some(prompt), _) => vec![Prompt::text(prompt)],
            (None, Some(path)) => Prompt::read(path)?,
            (None, None) => Vec::new(),
        };
        let screen = ProgressBar::stderr();
        if let Some(output) = output
            && to_file
            && generate::is_finished(output, self.resume)?
        {
            screen.note(&format!("`{}` is finished; without `--resume` it is made anew.", output.display()));
            return Ok(0);
        }
        let stop = match output.filter(|_| to_file).map(Path::to_path_buf) {
            Some(output) => Some(Stop::on_signal(&screen, move || generate::is_begun(&output))?),
            None => None,
        };
        let model = self.model.open(&screen)?;
        if !self.raw {
            model.warn_of_no_chat(&screen);
        }
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            sampling,
            seed: self.sampling.seed,
            raw: self.raw,
            batch_size: self.batch_size as usize,
            drafts: self.sampling.drafts as usize,
            cache_dtype: self.sampling.cache_dtype,
        };
        match (output, &stop) {
            (Some(output), Some(stop)) => {
                let begun = stop.begin();
                match generate::generate_to_file(&model, &prompts, &options, output, self.resume, begun, &screen)? {
                    Ending::Done => Ok(0),
                    Ending::Interrupted { answers } => {
                        let all = prompts.len();
                        screen.note(&format!(
                            "Interrupted after {answers} of {}; `--resume` continues.",
                            counted(all, "answer")
                        ));
                        Ok(Kind::Interrupted.exit_code())
                    }
                }
            }
            (Some(output), None) => generate::generate_into(&model, &prompts, &options, output, &screen).map(|()| 0),
            (None, _) => {
                let as_rows = self.json || self.input.is_some();
                let mut print = |prompt: &Prompt, answer: &Answer| match as_rows {
                    true => super::print(&prompt.with(answer)),
                    false => super::print(&answer.completion),
                };
                generate::generate(&model, &prompts, &options, &screen, &mut print).map(|()| 0)
            }
        }
    }

    /// Checks and claims the output before any work, and says whether it is a regular file.
    fn check_output(&self, output: &Path) -> Result<(bool, Claim)> {
        let read: Vec<&Path> = self.input.as_deref().into_iter().chain(self.model.files()).collect();
        let claim = check_target("--output", output, &read)?;
        let to_file = is_file(output)?;
        if to_file {
            generate::check_journal(output, self.resume)?;
        } else if self.resume {
            return Err(Error::new(Kind::Recipe, "`--resume` continues answers in a file, and the output is none")
                .at_path(output)
                .hint("leave `--resume` out"));
        }
        Ok((to_file, claim))
    }
}
