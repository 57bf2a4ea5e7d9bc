//! A model as Ollama takes it: a GGUF file and a Modelfile.

use super::described;
use super::gguf::{Measured, Opened, Rounding};
use super::lora;
use crate::atomic::{self, Claim};
use crate::error::{Error, Kind, Result};
use crate::export::folder::{Existing, may_write, write_folder};
use crate::export::gguf::Exported;
use crate::export::gguf::lora::ExportedLora;
use crate::export::ollama::{ADAPTER, From, MODEL, MODELFILE, modelfile};
use crate::hub;
use crate::jobs::base::provenance;
use crate::progress::Progress;
use crate::text::{ChatTemplate, Conversation, Message, Role};
use std::path::Path;

/// Writes a model, with an adapter folded in if one is named, into the folder `output` for `ollama create`.
///
/// # Errors
/// As [`super::gguf::export`], a system message that a Modelfile cannot hold, and a folder that is there and is not one of
/// these.
pub fn export(
    model: &str,
    adapter: Option<&Path>,
    rounding: &Rounding,
    system: Option<&str>,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Exported> {
    let file_type = described::file_type(rounding.quant)?;
    let modelfile = modelfile(From::Model, system)?;
    may_write(output, Existing::ReplaceIfHas(MODELFILE))?;
    let _claim = Claim::folder("--output", output);
    let _claim_of_imatrix = rounding.claim_imatrix(&[])?;
    let opened = Opened::language_model(model, adapter, progress)?;
    if let Some(template) = described::template(&opened.base, opened.folder.as_deref())?
        && !is_gemmas(&template)
    {
        progress.note(
            "Warning: the model's chat template is not Gemma's, which the Modelfile has: Ollama takes templates of another \
             language. Put its own into the Modelfile.",
        );
    }
    let measured = Measured::of(&opened, rounding, file_type, progress)?;
    let mut exported = None;
    write_folder(output, Existing::ReplaceIfHas(MODELFILE), |folder| {
        exported = Some(opened.write(file_type, &measured, &folder.join(MODEL), output, progress)?);
        opened.folder.iter().try_for_each(|adapter| provenance::carry(adapter, folder))?;
        atomic::write(&folder.join(MODELFILE), modelfile.as_bytes())
    })?;
    exported.ok_or_else(|| Error::new(Kind::Run, "nothing was exported"))
}

/// Writes an adapter alone into the folder `output` for `ollama create`: the Modelfile begins with `model`, a model of Ollama
/// (`ollama:gemma3:270m`) or a `.gguf` file, which stays as it is.
///
/// # Errors
/// As [`lora::export`], a model of another kind, a name or a system message that a Modelfile cannot hold, and a folder that
/// is there and is not one of these.
pub fn export_adapter(
    model: &str,
    adapter: &Path,
    system: Option<&str>,
    output: &Path,
    progress: &dyn Progress,
) -> Result<ExportedLora> {
    may_write(output, Existing::ReplaceIfHas(MODELFILE))?;
    let _claim = Claim::folder("--output", output);
    let path = Path::new(model);
    let is_gguf = path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let from = match hub::ollamas_name(model) {
        Some(name) => name,
        None if is_gguf => std::path::absolute(path).map_err(|e| Error::io("reading", path, e))?.display().to_string(),
        None => {
            return Err(Error::new(Kind::Recipe, "Ollama begins with a model of its own or a `.gguf` file").hint(
                "name one, `--model ollama:gemma3:270m`, or leave `--adapter-only` out to write the whole model",
            ));
        }
    };
    let modelfile = modelfile(From::Adapted(&from), system)?;
    let mut exported = None;
    write_folder(output, Existing::ReplaceIfHas(MODELFILE), |folder| {
        exported = Some(lora::export(Some(model), adapter, &folder.join(ADAPTER), progress)?);
        atomic::write(&folder.join(MODELFILE), modelfile.as_bytes())
    })?;
    exported.ok_or_else(|| Error::new(Kind::Run, "nothing was exported"))
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
