//! `gemma-tune doctor`

use crate::error::Result;
use crate::jobs::doctor;
use crate::report::text;

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// The device to check
    #[arg(long, default_value = "auto")]
    device: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Checks.
    pub fn run(self) -> Result<()> {
        let report = doctor::examine(&self.device)?;
        if self.json {
            return super::print_json(&report);
        }
        let memory = report.available_bytes.map_or("unknown".into(), text::bytes);
        let lines = [
            ("version", report.versions.iter().map(|(name, v)| format!("{name} {v}")).collect::<Vec<_>>().join(", ")),
            ("device", report.device),
            ("threads", report.threads.to_string()),
            ("free memory", memory),
            ("compiled in", report.compiled_in.join(", ")),
            ("self-check", format!("largest relative error of a gradient {:.1e}: good", report.gradient_error)),
        ];
        lines.iter().try_for_each(|(name, value)| super::print(&format!("{name:<14} {value}")))
    }
}
