//! The devices that this build can compute on and this machine has.

use burn::tensor::Device;
#[cfg(feature = "gpu")]
use burn::{backend::Cube, tensor::Tensor};
#[cfg(feature = "gpu")]
use cubecl::MemoryScope;

/// A way to compute, best first. The CPU is in every build, the others are Cargo features of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// NVIDIA's own.
    Cuda,
    /// AMD's own.
    Rocm,
    /// Apple's own.
    Metal,
    /// Vulkan with SPIR-V kernels.
    Vulkan,
    /// WGSL kernels on Vulkan, Metal, DX12, or a software adapter.
    Wgpu,
    /// The CPU.
    Cpu,
}

impl Backend {
    /// All of them, in the order in which `auto` looks for a device.
    pub const ALL: [Backend; 6] =
        [Backend::Cuda, Backend::Rocm, Backend::Metal, Backend::Vulkan, Backend::Wgpu, Backend::Cpu];

    /// Whether its devices have memory of their own, as most of them do; those of others often use the machine's.
    pub fn has_own_memory(self) -> bool {
        matches!(self, Backend::Cuda | Backend::Rocm)
    }

    /// As in `--device`, and the Cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cuda => "cuda",
            Backend::Rocm => "rocm",
            Backend::Metal => "metal",
            Backend::Vulkan => "vulkan",
            Backend::Wgpu => "wgpu",
            Backend::Cpu => "cpu",
        }
    }

    /// Whether this build has it.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Backend::Cuda => cfg!(feature = "cuda"),
            Backend::Rocm => cfg!(feature = "rocm"),
            Backend::Metal => cfg!(feature = "metal"),
            Backend::Vulkan => cfg!(feature = "vulkan"),
            Backend::Wgpu => cfg!(feature = "wgpu"),
            Backend::Cpu => true,
        }
    }

    /// Its devices on this machine, in the order of their numbers. None where the build or the driver is missing; no
    /// device is opened.
    pub fn devices(self) -> Vec<Device> {
        #[cfg(feature = "kernel-cache")]
        super::kernels::keep();
        match self {
            Backend::Cpu => vec![Device::flex()],
            #[cfg(feature = "cuda")]
            Backend::Cuda => Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter().collect(),
            #[cfg(feature = "rocm")]
            Backend::Rocm => Device::enumerate(burn::tensor::DeviceType::Rocm).into_iter().collect(),
            #[cfg(feature = "metal")]
            Backend::Metal => Device::enumerate(burn::tensor::DeviceType::Metal).into_iter().collect(),
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Device::enumerate(burn::tensor::DeviceType::Vulkan).into_iter().collect(),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Device::enumerate(burn::tensor::DeviceType::Wgpu).into_iter().collect(),
            #[cfg(not(all(feature = "cuda", feature = "rocm", feature = "metal", feature = "vulkan")))]
            _ => Vec::new(),
        }
    }
}

/// A device that is there, and what to call it.
#[derive(Debug, Clone)]
pub struct Found {
    /// How it is reached.
    pub backend: Backend,
    /// Its number among the backend's devices.
    pub index: usize,
    /// The device.
    pub device: Device,
}

impl Found {
    /// As in `--device`: `cpu`, `cuda:0`.
    pub fn name(&self) -> String {
        match self.backend {
            Backend::Cpu => self.backend.name().into(),
            _ => format!("{}:{}", self.backend.name(), self.index),
        }
    }

    /// Whether it is the CPU, natively or through a software graphics adapter: never better than the native one.
    pub fn is_software(&self) -> bool {
        #[cfg(feature = "vulkan")]
        if self.device == Device::vulkan(burn::tensor::DeviceKind::Cpu) {
            return true;
        }
        #[cfg(feature = "wgpu")]
        if self.device == Device::wgpu(burn::tensor::DeviceKind::Cpu) {
            return true;
        }
        self.backend == Backend::Cpu
    }

    /// What the device calls itself, where it says so. Opens it.
    pub fn hardware(&self) -> Option<String> {
        #[cfg(any(feature = "cuda", feature = "rocm", feature = "wgpu"))]
        return self.device.identity().map(|identity| identity.name);
        #[cfg(not(any(feature = "cuda", feature = "rocm", feature = "wgpu")))]
        None
    }
}

/// Memory of a device that has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it, where the driver tells.
    pub total_bytes: Option<u64>,
    /// What this process has taken of it and not given back yet: more than is in use, since freed memory is kept for later.
    pub reserved_bytes: u64,
}

/// The memory of a device; `None` of the CPU.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn memory(device: &Device) -> Option<Memory> {
    #[cfg(feature = "gpu")]
    if let Ok(tensor) = Tensor::<1>::zeros([1], &device.clone().inner()).try_into_primitive::<Cube>() {
        let client = tensor.client;
        return Some(Memory {
            total_bytes: client.properties().memory.max_memory(),
            reserved_bytes: client.memory_report(MemoryScope::Device).usage().bytes_reserved,
        });
    }
    None
}

/// Gives back what a device holds of memory that nothing uses any more, where it can.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn release(device: &Device) {
    #[cfg(feature = "gpu")]
    if let Ok(tensor) = Tensor::<1>::zeros([1], &device.clone().inner()).try_into_primitive::<Cube>() {
        // What it refuses to give back it uses again.
        let _ = tensor.client.memory_cleanup();
    }
}

/// Every device that this build can use here, best first; the CPU is always one of them.
pub fn all() -> Vec<Found> {
    let found = |backend: Backend| {
        let devices = backend.devices().into_iter().enumerate();
        devices.map(move |(index, device)| Found { backend, index, device })
    };
    Backend::ALL.into_iter().flat_map(found).collect()
}
