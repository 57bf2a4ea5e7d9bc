//! The most memory of its GPUs that a run has taken.

use crate::device::{Compute, Devices};
use crate::error::Result;
use crate::train::event::{Event, PartEvent, Sink};

/// Looks now and then at what GPUs hold, since they give memory back in between: after each step, and in each micro-batch between
/// its way forward and its way back, when all is there that it keeps. A look waits for what was launched to be under way, so
/// there are no more.
pub struct DevicePeak {
    devices: Vec<Compute>,
    bytes: Option<u64>,
    /// Step and micro-batch of the last look on the way.
    looked: Option<(u64, usize)>,
}

impl DevicePeak {
    /// Of GPUs; of the CPU nothing is known.
    pub fn of(devices: &Devices) -> Self {
        let devices = devices.all().filter(|compute| !compute.is_cpu()).cloned().collect();
        DevicePeak { devices, bytes: None, looked: None }
    }

    /// That of the GPU that had most, in bytes.
    pub fn bytes(&mut self) -> Option<u64> {
        let now = self.devices.iter().filter_map(|compute| Some(compute.memory()?.reserved_bytes)).max();
        self.bytes = self.bytes.max(now);
        self.bytes
    }
}

impl Sink for DevicePeak {
    fn event(&mut self, event: &Event) -> Result<()> {
        let is_time = match event {
            Event::Part(PartEvent { step, micro_batch, part, .. }) => {
                let this = Some((*step, *micro_batch));
                let is_first = *part >= FORWARD && self.looked != this;
                if is_first {
                    self.looked = this;
                }
                is_first
            }
            Event::Step(_) => true,
            _ => false,
        };
        if is_time {
            self.bytes();
        }
        Ok(())
    }
}

/// The share of a micro-batch that its way forward is, a little less.
const FORWARD: f64 = 0.333;
