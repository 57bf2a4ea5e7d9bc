//! The most memory of its GPUs that a run has taken.

use crate::device::{Compute, Devices};
use crate::error::Result;
use crate::train::event::{Event, PartEvent, Sink};

/// Looks now and then at what GPUs hold, since they give memory back in between: after each layer of the first step, which compiles
/// kernels all the time, later after each step and in each micro-batch between its way forward and its way back, when all is
/// there that it keeps; of several GPUs that is about then. A look waits for what was launched to be under way, so there are no
/// more.
pub struct DevicePeak {
    devices: Vec<Compute>,
    bytes: Option<u64>,
    times: Times,
}

/// When to look.
#[derive(Debug, Default)]
struct Times {
    first_step: Option<u64>,
    /// Step and micro-batch of the last look between forward and back.
    looked: Option<(u64, usize)>,
}

impl DevicePeak {
    /// Of GPUs; of the CPU nothing is known.
    pub fn of(devices: &Devices) -> Self {
        let devices = devices.all().filter(|compute| !compute.is_cpu()).cloned().collect();
        DevicePeak { devices, bytes: None, times: Times::default() }
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
        if self.times.include(event) {
            self.bytes();
        }
        Ok(())
    }
}

/// The share of a micro-batch that its way forward is, a little less.
const FORWARD: f64 = 0.333;

impl Times {
    fn include(&mut self, event: &Event) -> bool {
        match event {
            Event::Part(PartEvent { step, micro_batch, part, .. }) => {
                let this = Some((*step, *micro_batch));
                let is_turn = *part >= FORWARD && self.looked != this;
                if is_turn {
                    self.looked = this;
                }
                is_turn || *step == *self.first_step.get_or_insert(*step)
            }
            Event::Step(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_looked_at_all_the_time_and_others_at_the_turn() {
        let mut times = Times::default();
        let mut looks = |step: u64, layers: usize| {
            let parts = (0..layers).chain((layers..3 * layers).step_by(2));
            let part = |passed: usize| passed as f64 / (3 * layers) as f64;
            let events = parts.map(|passed| PartEvent { step, micro_batch: 1, of: 2, part: part(passed) });
            let looks = events.filter(|part| times.include(&Event::Part(*part)));
            looks.map(|looked| (looked.part * (3 * layers) as f64).round() as usize).collect::<Vec<_>>()
        };
        // A run that was resumed begins with any step.
        assert_eq!(looks(5, 3), [0, 1, 2, 3, 5, 7]);
        // Between forward and back, once, whatever the number of layers.
        assert_eq!(looks(6, 3), [3]);
        assert_eq!(looks(7, 62), [62]);
        assert_eq!(looks(7, 62), [0; 0], "of this micro-batch it was");
    }
}
