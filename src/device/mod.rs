//! What computes: the devices that this build knows and this machine has, the one that is opened, and the machine
//! around it.

pub mod found;
pub mod host;
#[cfg(any(test, feature = "kernel-cache"))]
mod kernels;
pub mod open;
pub mod several;

pub use found::{Backend, Found, Memory, all, memory, release};
pub use open::{AUTO, Capacity, Compute, open};
pub use several::Devices;
