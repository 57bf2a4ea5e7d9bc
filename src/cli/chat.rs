//! `gemma-tune chat`

use super::args::ModelArgs;
use super::generate::SamplingArgs;
use crate::error::{Error, Result};
use crate::infer::{Dialogue, GenerationSettings};
use crate::nn::BaseOnly;
use crate::report::ProgressBar;
use crate::text::{Conversation, Message, Role};
use std::io::{BufRead, Write};
use std::ops::ControlFlow;

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

const HELP: &str = "/adapter on|off compares with the base · /clear starts anew · /quit ends";

impl Args {
    /// Talks until the input ends.
    pub fn run(self) -> Result<()> {
        let sampling = self.sampling.sampling()?;
        let screen = ProgressBar::stderr();
        let tuned = self.model.open(&screen)?;
        let tokenizer = tuned.base.tokenizer()?.clone();
        screen.note(HELP);
        let mut adapter_is_on = tuned.adapter.is_some();
        let fresh = || Conversation {
            messages: self.system.iter().map(|text| Message::new(Role::System, text.as_str())).collect(),
            tools: Vec::new(),
        };
        let mut conversation = fresh();
        let mut tuned_speaker = Dialogue::new(&tuned.model, tuned.side());
        let mut base_speaker = Dialogue::new(&tuned.model, &BaseOnly);
        loop {
            eprint!("{}> ", if adapter_is_on { "tuned" } else { "base" });
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line).map_err(|e| Error::io("reading", "stdin", e))?;
            match line.trim() {
                _ if read == 0 => return Ok(()),
                "" => continue,
                "/quit" | "/exit" => return Ok(()),
                "/clear" => conversation = fresh(),
                "/adapter on" if tuned.adapter.is_none() => screen.note("No adapter was given (`--adapter`)."),
                "/adapter on" => adapter_is_on = true,
                "/adapter off" => adapter_is_on = false,
                command if command.starts_with('/') => screen.note(HELP),
                text => {
                    conversation.messages.push(Message::new(Role::User, text));
                    let prompt = tuned.base.encoder.encode_prompt(&conversation)?;
                    let settings = GenerationSettings {
                        max_new_tokens: self.max_tokens,
                        sampling,
                        stop: tuned.base.stop_ids(),
                        seed: self.sampling.seed.wrapping_add(conversation.messages.len() as u64),
                        first_prompt: 0,
                    };
                    let mut stream = tokenizer.stream();
                    let show = |token| match stream.push(token).map(|text| say(&text)) {
                        Some(Err(_)) => ControlFlow::Break(()),
                        _ => ControlFlow::Continue(()),
                    };
                    let speaker = if adapter_is_on { &mut tuned_speaker } else { &mut base_speaker };
                    let answer = speaker.answer(&prompt, &settings, show);
                    let rest = stream.finish().unwrap_or_default();
                    say(&format!("{rest}\n")).map_err(|e| Error::io("writing", "stdout", e))?;
                    let text = tokenizer.decode(&answer.tokens, true);
                    conversation.messages.push(Message::new(Role::Assistant, text));
                }
            }
        }
    }
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
