//! Which device computes.

use super::found::{self, Backend, Found};
use super::host;
use crate::error::{Error, Kind, Place, Result};
use crate::guard::caught;
use crate::ops::fastest_factors;
use burn::tensor::{DType, Device, FloatDType};

/// A device and the name that a run records.
#[derive(Debug, Clone)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// `cpu`, `cuda:0`, ...
    pub name: String,
    /// What the device calls itself, where it says so.
    pub hardware: Option<String>,
    /// CPU threads.
    pub threads: usize,
}

impl Compute {
    /// Opens a device that is there.
    ///
    /// # Errors
    /// [`Kind::Device`] when its driver fails.
    pub fn new(found: &Found) -> Result<Self> {
        let name = found.name();
        let hardware = caught(|| found.hardware()).map_err(|why| {
            let error = Error::new(Kind::Device, format!("`{name}` cannot be opened: {why}"));
            error.hint("check the driver, or use `--device cpu`")
        })?;
        Ok(Compute { device: found.device.clone(), name, hardware, threads: host::threads() })
    }

    /// Its name and what it calls itself.
    pub fn describe(&self) -> String {
        match &self.hardware {
            Some(hardware) => format!("{} ({hardware})", self.name),
            None => self.name.clone(),
        }
    }

    /// Refuses to round the factors of products to what it does not have.
    ///
    /// # Errors
    /// [`Kind::Recipe`] at `model.compute_dtype`.
    pub fn check(&self, compute_dtype: Option<FloatDType>) -> Result<()> {
        let Some(dtype) = compute_dtype.filter(|&dtype| dtype != FloatDType::F32) else { return Ok(()) };
        let here = match self.is_cpu() {
            true => dtype == FloatDType::BF16,
            false => self.device.supports_dtype(dtype),
        };
        let what = || match self.is_cpu() {
            true => "the CPU multiplies in f32 and bf16".to_owned(),
            false => format!("`{}` has no {}", self.describe(), DType::from(dtype).name()),
        };
        let refusal = || Error::new(Kind::Recipe, what()).at(Place::Key("model.compute_dtype".into()));
        here.then_some(())
            .ok_or_else(|| refusal().hint("`compute_dtype: auto` takes what each device multiplies fastest"))
    }

    /// The memory that it computes in. What others use of a GPU's is not known, and counts as free.
    pub fn capacity(&self) -> Capacity {
        let Some(memory) = self.memory() else {
            let (available_bytes, total_bytes) = (host::available_bytes(), host::machine_bytes());
            return Capacity { available_bytes, total_bytes, gpu: None, is_own: false };
        };
        Capacity {
            available_bytes: memory.total_bytes.map(|total| total.saturating_sub(memory.reserved_bytes)),
            total_bytes: memory.total_bytes,
            gpu: Some(fastest_factors(&self.device)),
            is_own: named(&self.name).is_ok_and(|(backend, _)| backend.has_own_memory())
                && !memory.total_bytes.is_some_and(is_the_machines),
        }
    }

    /// The memory of a GPU; `None` of the CPU.
    pub fn memory(&self) -> Option<found::Memory> {
        found::memory(&self.device)
    }

    /// Whether it is the CPU itself.
    pub fn is_cpu(&self) -> bool {
        self.name == Backend::Cpu.name()
    }
}

/// The memory of what computes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Capacity {
    /// What is free, where that can be asked.
    pub available_bytes: Option<u64>,
    /// All of it, where that can be asked.
    pub total_bytes: Option<u64>,
    /// On a GPU, what it multiplies fastest.
    pub gpu: Option<FloatDType>,
    /// Whether it is a GPU's own, and not the machine's.
    pub is_own: bool,
}

/// Whether a GPU's memory is all of the machine's, which a board with one memory for both says it is.
fn is_the_machines(total_bytes: u64) -> bool {
    host::machine_bytes().is_some_and(|machine| total_bytes <= machine && total_bytes >= machine / 8 * 7)
}

impl Capacity {
    /// What is taken of what is free by who may take less. Half leaves as much to other programs. Of a GPU's own memory an eighth is
    /// left, and 2 GiB at least: for what a driver, compiled kernels and a desktop take, and for what an estimate may
    /// be off by.
    pub fn budget_bytes(&self) -> Option<u64> {
        let available = self.available_bytes?;
        let left = if self.is_own { LEFT_OF_A_GPU.max(available / 8) } else { available / 2 };
        Some(available - left.min(available / 2))
    }
}

/// Bytes of a GPU's own memory that are left in any case, but for small ones, of which half is.
const LEFT_OF_A_GPU: u64 = 2 << 30;

/// Opens the device that the user named: `auto`, `cpu`, or another [`Backend`] with or without a number (`cuda:0`).
/// `auto` is the best device that this build can use, but never a software adapter: the CPU itself is faster.
///
/// # Errors
/// [`Kind::Device`] for a device that this build or this machine does not have; [`Kind::Recipe`] for a name that is
/// none, or for several.
pub fn open(name: &str) -> Result<Compute> {
    if name.contains(',') {
        let error = Error::new(Kind::Recipe, format!("`{name}` is several devices, and one computes here"));
        return Err(error.at(place(name)).hint("`train` and `estimate` take several; name one of them"));
    }
    if name == AUTO {
        let best = found::all().into_iter().find(|found| found.backend == Backend::Cpu || !found.is_software());
        return Compute::new(&best.ok_or_else(|| unknown(name))?);
    }
    let (backend, index) = named(name).map_err(|error| error.at(place(name)))?;
    Compute::new(&find(backend, index).map_err(|error| error.at(place(name)))?).map_err(|error| error.at(place(name)))
}

/// The name of the best device that there is.
pub const AUTO: &str = "auto";

/// Where the user named a device.
pub(super) fn place(name: &str) -> Place {
    Place::Named(format!("--device {name}"))
}

/// The backend and the number of a device that has this name, whether it is there or not.
///
/// # Errors
/// [`Kind::Recipe`] for a name that is none.
pub(super) fn named(name: &str) -> Result<(Backend, usize)> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) if kind != Backend::Cpu.name() => (kind, index.parse().map_err(|_| unknown(name))?),
        _ => (name, 0),
    };
    let backend = Backend::ALL.into_iter().find(|backend| backend.name() == kind);
    backend.map(|backend| (backend, index)).ok_or_else(|| unknown(name))
}

/// A device of this machine.
///
/// # Errors
/// [`Kind::Device`] for one that this build or this machine does not have.
pub(super) fn find(backend: Backend, index: usize) -> Result<Found> {
    let kind = backend.name();
    if !backend.is_compiled_in() {
        let error = Error::new(Kind::Device, format!("this build has no `{kind}`"));
        return Err(error.hint(format!("build with `--features {kind}`, or use `--device cpu`")));
    }
    let missing = || {
        let here: Vec<String> = found::all().iter().map(Found::name).collect();
        let error = Error::new(Kind::Device, format!("this machine has no `{kind}:{index}`"));
        error.hint(format!("devices here: {}", here.join(", ")))
    };
    let device = backend.devices().into_iter().nth(index).ok_or_else(missing)?;
    Ok(Found { backend, index, device })
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Kind::Recipe, format!("`{name}` is not a device"));
    match name.split_once(':') {
        Some((kind, _)) if kind == Backend::Cpu.name() => {
            error.hint("the CPU has no number: `cpu` is all of it, and `cpu,cpu` are two replicas on it")
        }
        _ => error.hint(
            "devices are auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i], wgpu[:i]; several: cuda:0,1 or cpu,cpu",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tensor;

    #[test]
    fn a_device_is_named_found_or_explained() {
        assert_eq!(open("cpu").unwrap().name, "cpu");
        for name in ["gpu", "cpu:0", "cuda:x", "cuda:", ""] {
            let error = open(name).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&format!("`{name}` is not a device")), "{error}");
        }
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_compiled_in()) {
            let error = open(backend.name()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&format!("build with `--features {}`", backend.name())), "{error}");
        }
    }

    #[test]
    fn a_number_that_is_not_there_is_explained() {
        let error = open("cpu:99").unwrap_err();
        assert!(error.to_string().contains("`cpu:99` is not a device"), "{error}");
        let others = Backend::ALL.into_iter().filter(|b| b.is_compiled_in() && *b != Backend::Cpu);
        if others.clone().count() == 0 {
            println!("no backend but the CPU's in this build: none has numbers");
        }
        for backend in others {
            let error = open(&format!("{}:99", backend.name())).unwrap_err();
            assert!(error.to_string().contains("devices here: "), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn auto_is_never_a_software_adapter() {
        let compute = open("auto").unwrap();
        let found = found::all().into_iter().find(|found| found.name() == compute.name).unwrap();
        assert!(found.backend == Backend::Cpu || !found.is_software());
    }

    #[test]
    fn the_cpu_refuses_products_of_f16() {
        let cpu = open("cpu").unwrap();
        for dtype in [None, Some(FloatDType::F32), Some(FloatDType::BF16)] {
            assert!(cpu.check(dtype).is_ok(), "{dtype:?}");
        }
        let error = cpu.check(Some(FloatDType::F16)).unwrap_err();
        assert_eq!((error.exit_code(), error.what()), (2, "the CPU multiplies in f32 and bf16"));
        assert!(cpu.capacity().total_bytes.is_some_and(|total| total > 1 << 20));
    }

    #[test]
    fn a_gpu_tells_what_of_its_memory_is_taken() {
        // The CPU's is the machine's.
        let cpu = open("cpu").unwrap();
        assert_eq!((cpu.memory(), cpu.capacity().gpu), (None, None));
        let gpus: Vec<Found> = found::all().into_iter().filter(|found| found.backend != Backend::Cpu).collect();
        if gpus.is_empty() {
            println!("no device but the CPU: no memory to ask for");
        }
        for found in gpus {
            let compute = Compute::new(&found).unwrap();
            let held = Tensor::<1>::zeros([1 << 20], &compute.device);
            let memory = compute.memory().unwrap();
            assert!(memory.reserved_bytes >= 4 << 20, "{}: {memory:?}", found.name());
            assert!(memory.total_bytes.is_none_or(|total| total >= memory.reserved_bytes));
            assert!(compute.capacity().gpu.is_some());
            drop(held);
        }
    }
}
