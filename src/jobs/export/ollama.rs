//! A model as Ollama takes it: a GGUF file and a Modelfile.

use super::described;
use super::gguf::Opened;
use crate::atomic;
use crate::error::Result;
use crate::export::folder::{Existing, may_write, write_folder};
use crate::export::gguf::Exported;
use crate::export::ollama::{MODEL, MODELFILE, modelfile};
use crate::progress::Progress;
use crate::text::{ChatTemplate, Conversation, Message, Role};
use std::path::Path;

/// Writes a model, with an adapter folded in if one is named, into the folder `output` for `ollama create`.
///
/// # Errors
/// As [`super::gguf::export`], and a folder that is there and is not one of these.
pub fn export(
    model: &str,
    adapter: Option<&Path>,
    quant: &str,
    system: Option<&str>,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Exported> {
    let file_type = described::file_type(quant)?;
    may_write(output, Existing::ReplaceIfHas(MODELFILE))?;
    let opened = Opened::language_model(model, adapter, progress)?;
    if let Some(template) = described::template(&opened.base, opened.folder.as_deref())?
        && !is_gemmas(&template)
    {
        progress.note(
            "Warning: the model's chat template is not Gemma's, which the Modelfile has: Ollama takes templates of another \
             language. Put its own into the Modelfile.",
        );
    }
    let mut exported = None;
    write_folder(output, Existing::ReplaceIfHas(MODELFILE), |folder| {
        exported = Some(opened.write(file_type, &folder.join(MODEL), output, progress)?);
        atomic::write(&folder.join(MODELFILE), modelfile(system).as_bytes())
    })?;
    exported.ok_or_else(|| crate::Error::new(crate::error::Kind::Run, "nothing was exported"))
}

/// Whether a template writes a plain conversation as Gemma's does.
fn is_gemmas(template: &ChatTemplate) -> bool {
    let said = |role, text: &str| Message::of_parts(role, vec![crate::text::Part::Text(text.to_owned())]);
    let messages = vec![
        said(Role::System, "Be brief."),
        said(Role::User, "Two and two?"),
        said(Role::Assistant, "Four."),
        said(Role::User, "And three?"),
    ];
    let conversation = Conversation { messages, tools: Vec::new() };
    let text = |template: &ChatTemplate| template.render(&conversation, true).ok().map(|rendered| rendered.text);
    text(template) == text(&ChatTemplate::gemma3())
}
