//! The model of a run on each of its devices.

use crate::device::{Compute, Devices};
use crate::error::Result;
use crate::model::LanguageModel;
use crate::progress::counted;
use crate::train::replicas::Replicas;
use crate::train::step::{OneDevice, WindowGradients};

/// The frozen model of a run: once in main memory, however many replicas the CPU has, and once on each other device.
pub struct Models {
    first: Box<dyn LanguageModel>,
    /// Those of the other devices, where they are none of the CPU's.
    others: Vec<Box<dyn LanguageModel>>,
}

impl Models {
    /// Loads the model as `load` does, on each device.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(devices: &Devices, load: &dyn Fn(&Compute) -> Result<Box<dyn LanguageModel>>) -> Result<Self> {
        let first = load(&devices.first)?;
        let others = devices.others.iter().filter(|_| !devices.are_cpu());
        Ok(Models { first, others: others.map(load).collect::<Result<_>>()? })
    }

    /// That of the first device.
    pub fn first(&self) -> &dyn LanguageModel {
        self.first.as_ref()
    }

    /// What computes the gradients of a run's windows on these devices.
    ///
    /// # Errors
    /// When the threads of replicas cannot be started.
    pub fn computing(&self, devices: &Devices) -> Result<Box<dyn WindowGradients + '_>> {
        if devices.count() == 1 {
            return Ok(Box::new(OneDevice(self.first())));
        }
        let models: Vec<&dyn LanguageModel> = match devices.are_cpu() {
            true => vec![self.first(); devices.count()],
            false => std::iter::once(self.first()).chain(self.others.iter().map(AsRef::as_ref)).collect(),
        };
        Ok(Box::new(Replicas::new(&models, devices.threads_each())?))
    }
}

/// How steps of so many micro-batches are shared out, and which of the devices have nothing to do; nothing of one device.
pub fn remarks(devices: &Devices, micro_batches: usize) -> Vec<String> {
    let count = devices.count();
    if count == 1 {
        return Vec::new();
    }
    let threads = counted(devices.threads_each(), "thread");
    let replicas = format!("{count} replicas ({}), {threads} each", devices.name());
    let mut shared_out = format!("{replicas}, share out the {} of a step", counted(micro_batches, "micro-batch"));
    if micro_batches > count && !micro_batches.is_multiple_of(count) {
        shared_out += &format!(
            "; with a multiple of {count} (`training.gradient_accumulation_steps`) none would wait for the last of them"
        );
    }
    let idle = (micro_batches < count).then(|| {
        format!(
            "warning: a step has fewer micro-batches than there are replicas, and {} of {count} never have anything to do: \
             name fewer devices, or more `training.gradient_accumulation_steps`",
            count - micro_batches
        )
    });
    std::iter::once(shared_out).chain(idle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_is_idle_is_said() {
        let of = |list: &str, micro_batches| remarks(&Devices::open(list).unwrap(), micro_batches);
        assert_eq!(of("cpu", 1), Vec::<String>::new());
        let even = of("cpu,cpu", 4);
        assert_eq!(even.len(), 1);
        assert!(even[0].starts_with("2 replicas (cpu,cpu), ") && even[0].ends_with("the 4 micro-batches of a step"));
        let uneven = of("cpu,cpu", 5);
        assert!(uneven.len() == 1 && uneven[0].contains("with a multiple of 2"), "{uneven:?}");
        let idle = of("cpu,cpu,cpu", 1);
        assert_eq!(idle.len(), 2);
        assert!(idle[0].ends_with("share out the 1 micro-batch of a step"), "{}", idle[0]);
        assert!(
            idle[1].starts_with("warning: ") && idle[1].contains("2 of 3 never have anything to do"),
            "{}",
            idle[1]
        );
    }
}
