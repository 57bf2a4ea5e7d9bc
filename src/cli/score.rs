//! `gemma-tune score`

use super::args::{ModelArgs, path};
use super::interrupt;
use super::relief::Relief;
use crate::atomic::{Claim, check_target};
use crate::error::Result;
use crate::jobs::score::{self, Input};
use crate::report::ProgressBar;
use std::path::PathBuf;

/// Arguments of `score`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Rows of {"input_ids": [..]}, {"text": ".."}, {"messages": [..]}, {"prompt": "..", "completion": ".."} or any other format
    /// that can be trained on: JSON lines, JSON, CSV, Parquet, Arrow
    #[arg(long, value_parser = path())]
    input: PathBuf,
    /// Where rows {"input_ids", "logprobs", "nll", "supervised_nll"} go, with a reward model as adapter {"input_ids", "reward"};
    /// stdout without it
    #[arg(long, value_parser = path())]
    output: Option<PathBuf>,
    /// Save the logits too, as f32 tensors `logits.<row>` [tokens, vocabulary]
    #[arg(long, value_name = "FILE.safetensors", value_parser = path())]
    logits: Option<PathBuf>,
    /// Accepted for symmetry: rows are always JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        self.model.relief("scoring")
    }

    /// Scores the rows.
    pub fn run(self) -> Result<()> {
        let read = [&[self.input.as_path()], self.model.files().as_slice()].concat();
        let outputs = [("--output", &self.output), ("--logits", &self.logits)];
        let outputs = outputs.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?)));
        let _claims: Vec<Claim> =
            outputs.map(|(option, path)| check_target(option, path, &read)).collect::<Result<_>>()?;
        let screen = ProgressBar::stderr();
        let rows = Input::read_with_pairs(&self.input, &screen)?;
        interrupt::end_on_signal(&screen)?;
        let model = self.model.open_judge(&screen)?;
        let scores = score::score(&model, &rows, self.logits.as_deref(), &screen)?;
        let lines: Vec<String> = scores.iter().map(|score| score.to_string()).collect();
        match &self.output {
            Some(path) => crate::atomic::write(path, (lines.join("\n") + "\n").as_bytes()),
            None => lines.iter().try_for_each(|line| super::print(line)),
        }
    }
}
