//! `gemma-tune chat`

use super::args::ModelArgs;
use super::generate::SamplingArgs;
use crate::error::{Error, Result};
use crate::jobs::chat::{Chat, ChatOptions, HELP, Next};
use crate::report::ProgressBar;
use std::io::{BufRead, Write};

/// Arguments of `chat`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A system message
    #[arg(long)]
    system: Option<String>,
    /// At most this many new tokens per answer
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Args {
    /// Talks until the input ends.
    pub fn run(self) -> Result<()> {
        let sampling = self.sampling.sampling()?;
        let options =
            ChatOptions { system: self.system, max_tokens: self.max_tokens, sampling, seed: self.sampling.seed };
        let screen = ProgressBar::stderr();
        let model = self.model.open(&screen)?;
        let mut chat = Chat::new(&model, options)?;
        screen.note(HELP);
        loop {
            eprint!("{}> ", chat.speaker());
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("reading", "stdin", e))?;
            match chat.take(&line, &mut say)? {
                _ if read == 0 => return Ok(()),
                Next::End => return Ok(()),
                Next::Note(text) => screen.note(text),
                Next::Line => {}
            }
        }
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Error::io("writing", "stdout", e))
}
