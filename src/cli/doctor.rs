//! `gemma-tune doctor`

use super::relief::Relief;
use crate::error::{Error, Kind, Result};
use crate::jobs::doctor::{self, Checked};
use crate::jobs::self_check::Difference;
use crate::report::text;

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// The device to check; auto checks all that there are
    #[arg(long, default_value = "auto")]
    device: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        Relief::on("examining", &self.device)
    }

    /// Prints what this machine has; a device that computes other numbers than the CPU is an error.
    pub fn run(self) -> Result<()> {
        let report = doctor::examine(&self.device)?;
        let bad = report.devices.iter().find_map(|device| Some((device.problem.clone()?, device.hint.clone())));
        if self.json {
            super::print_json(&report)?;
        } else {
            show(report)?;
        }
        match bad {
            Some((problem, hint)) => {
                let alone = "leave that device alone: use `--device cpu`".to_owned();
                Err(Error::new(Kind::Device, problem).hint(hint.unwrap_or(alone)))
            }
            None => Ok(()),
        }
    }
}

fn show(report: doctor::Report) -> Result<()> {
    let memory = report.available_bytes.map_or("unknown".into(), text::bytes);
    let peaks = report.peaks;
    let lines = [
        ("version", report.versions.iter().map(|(name, v)| format!("{name} {v}")).collect::<Vec<_>>().join(", ")),
        ("device", report.device),
        ("threads", report.threads.to_string()),
        ("instructions", report.instruction_set.to_owned()),
        ("bf16 products", report.bf16_products.to_owned()),
        ("free memory", memory),
        ("speed", format!("{:.0} GFLOP/s in f32 products on the CPU", report.gemm_gflops)),
        (
            "at most",
            format!(
                "{:.0} GFLOP/s in f32, {:.0} in bf16, {:.0} GOP/s in int8; {:.1} GB/s read from memory",
                peaks.f32_gflops, peaks.bf16_gflops, peaks.int8_gops, peaks.read_gbytes
            ),
        ),
        ("compiled in", report.compiled_in.join(", ")),
        ("self-check", format!("largest relative error of a gradient {:.1e}: good", report.gradient_error)),
    ];
    let devices = report.devices.iter().map(|device| ("", format!("{}: {}", device.name, verdict(device))));
    lines.into_iter().chain(devices).try_for_each(|(name, value)| super::print_text(&format!("{name:<14} {value}")))
}

fn verdict(device: &Checked) -> String {
    let differences = device.differences.iter().map(Difference::to_string);
    match &device.problem {
        Some(_) => "BAD".into(),
        None => {
            let unusable = device.unusable.iter().map(|what| format!("; left out: {what}"));
            let f32_products = device.f32_products.filter(|rounded| *rounded != "f32");
            let rounded = f32_products.map(|rounded| format!("; products in f32 are made of {rounded} factors"));
            let differences = differences.collect::<Vec<_>>().join(", ");
            format!("differs from the CPU by {differences}: good{}", unusable.chain(rounded).collect::<String>())
        }
    }
}
