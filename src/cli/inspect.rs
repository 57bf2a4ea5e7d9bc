//! `gemma-tune inspect`

use crate::error::Result;
use crate::jobs::inspect;
use crate::report::{ProgressBar, text};

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// A Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]; without it, which models are on this machine
    #[arg(value_parser = super::args::expanded)]
    model: Option<String>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// As JSON, with every tensor
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Inspects.
    pub fn run(self) -> Result<()> {
        let Some(model) = &self.model else { return list(self.json) };
        let model = inspect::inspect(model, &ProgressBar::stderr())?;
        if self.json {
            return super::print_json(&model);
        }
        let [heads, kv_heads, head_dim] = model.attention_heads;
        let stored: Vec<String> =
            model.stored_bytes.iter().map(|(dtype, bytes)| format!("{dtype} {}", text::bytes(*bytes))).collect();
        let yes = |is: bool, yes: &str, no: &str| if is { yes.to_owned() } else { no.to_owned() };
        let mut lines = vec![
            ("model", model.path.clone()),
            ("architecture", format!("{}{}", model.architecture, yes(model.multimodal, ", multimodal checkpoint", ""))),
            ("variant", format!("{}: {}", model.variant, model.variant_clue)),
            ("parameters", text::count(model.parameters)),
            (
                "layers",
                format!(
                    "{} of width {}, MLP {}; {} see everything, the others {} tokens",
                    model.num_hidden_layers,
                    model.hidden_size,
                    model.intermediate_size,
                    model.full_attention_layers,
                    model.sliding_window
                ),
            ),
            ("attention", format!("{heads} heads, {kv_heads} key heads, width {head_dim}")),
            ("context", text::count(model.max_position_embeddings as u64)),
            ("vocabulary", text::count(model.vocab_size as u64)),
            ("stored", stored.join(", ")),
            ("tokenizer", yes(model.has_tokenizer, "yes", "none")),
            ("chat template", yes(model.has_chat_template, "the model's own", "none; Gemma's standard one is used")),
            ("stop tokens", format!("{:?}", model.stop_token_ids)),
        ];
        if let Some(problem) = &model.chat_problem {
            lines.push(("chat", format!("impossible: {problem}")));
        }
        if model.tower_tensors > 0 {
            lines.push(("towers", format!("{} tensors beside the language model", model.tower_tensors)));
        }
        if model.unused_tensors > 0 {
            lines.push(("unused", format!("{} tensors that no part of the model reads", model.unused_tensors)));
        }
        if !model.ignored_keys.is_empty() {
            lines.push(("ignored", model.ignored_keys.join(", ")));
        }
        lines.iter().try_for_each(|(name, value)| super::print_text(&format!("{name:<14} {value}")))?;
        if self.tensors {
            let line = |t: &inspect::Tensor| format!("{:<6} {:?} {}", t.dtype, t.shape, t.name);
            model.tensors.iter().try_for_each(|tensor| super::print_text(&line(tensor)))?;
        }
        Ok(())
    }
}

/// Says which models are on this machine.
fn list(json: bool) -> Result<()> {
    let models = inspect::here()?;
    if json {
        return super::print_json(&models);
    }
    if models.is_empty() {
        ProgressBar::stderr().note(
            "There is no model in this folder, in the Hub's cache or in Ollama's store; `--model google/gemma-3-1b-it` downloads one",
        );
    }
    models.iter().try_for_each(|model| super::print_text(&format!("{:>9}  {}", text::bytes(model.bytes), model.name)))
}
