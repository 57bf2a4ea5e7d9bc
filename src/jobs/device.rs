//! Which device computes.

use crate::error::{Error, Kind, Place, Result};
use burn::tensor::Device;

/// A device and the name that a run records.
#[derive(Debug, Clone)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// `cpu`, `cuda:0`, ...
    pub name: String,
    /// CPU threads.
    pub threads: usize,
}

/// Opens the device that the user named: `auto`, `cpu`, `cuda[:i]`, `wgpu[:i]`, `vulkan[:i]`.
///
/// # Errors
/// [`Kind::Device`] for a device that this build does not have; [`Kind::Recipe`] for a name that is none.
pub fn open(name: &str) -> Result<Compute> {
    let kind = name.split(':').next().unwrap_or(name);
    let place = || Place::Named(format!("--device {name}"));
    match kind {
        "auto" | "cpu" if !name.contains(':') => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(Compute { device: Device::flex(), name: "cpu".into(), threads })
        }
        "cuda" | "wgpu" | "vulkan" => Err(Error::new(Kind::Device, format!("this build has no `{kind}`"))
            .at(place())
            .hint("this version computes on the CPU: use `--device cpu`")),
        _ => {
            let error = Error::new(Kind::Recipe, format!("`{name}` is not a device")).at(place());
            Err(error.hint("devices are auto, cpu, cuda[:i], wgpu[:i], vulkan[:i]"))
        }
    }
}
