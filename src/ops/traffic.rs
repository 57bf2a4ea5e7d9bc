//! What is carried between main memory and a device, counted: bytes that go there are slow beside a kernel, and what comes
//! back waits for all that is queued.

use super::node::{Cpu, is_cpu};
use burn::tensor::kind::Basic;
use burn::tensor::{Device, Tensor, TensorData};
use std::cell::Cell;
use std::ops::Deref;

/// What was carried to and from devices other than the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Times that something was uploaded.
    pub uploads: u64,
    /// How many bytes that was.
    pub uploaded_bytes: u64,
    /// Times that results were waited for.
    pub readbacks: u64,
}

impl Traffic {
    const NONE: Traffic = Traffic { uploads: 0, uploaded_bytes: 0, readbacks: 0 };

    /// What this thread has carried so far.
    pub fn of_this_thread() -> Self {
        TRAFFIC.get()
    }

    /// What was carried since.
    pub fn since(self, before: Self) -> Self {
        Traffic {
            uploads: self.uploads - before.uploads,
            uploaded_bytes: self.uploaded_bytes - before.uploaded_bytes,
            readbacks: self.readbacks - before.readbacks,
        }
    }
}

thread_local! {
    static TRAFFIC: Cell<Traffic> = const { Cell::new(Traffic::NONE) };
}

/// Counts an upload.
pub(super) fn uploaded(bytes: usize) {
    let Traffic { uploads, uploaded_bytes, readbacks } = TRAFFIC.get();
    TRAFFIC.set(Traffic { uploads: uploads + 1, uploaded_bytes: uploaded_bytes + bytes as u64, readbacks });
}

/// Values on a device.
pub fn upload<const D: usize, K: Basic>(values: TensorData, device: &Device) -> Tensor<D, K> {
    let tensor = Tensor::from_data(values, device);
    if !is_cpu(device) {
        uploaded(tensor.shape().num_elements() * tensor.dtype().size());
    }
    tensor
}

/// The values of a tensor, once all that makes them is done.
pub fn read_back<const D: usize, K: Basic>(tensor: Tensor<D, K>) -> TensorData {
    if !is_cpu(&tensor.device()) {
        TRAFFIC.set(Traffic { readbacks: TRAFFIC.get().readbacks + 1, ..TRAFFIC.get() });
    }
    tensor.into_data()
}

/// The elements of a tensor in main memory, row after row: where they are, or brought there.
pub enum Values {
    /// Where they are.
    Here(Cpu),
    /// Read back.
    Brought(Vec<f32>),
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Values::Here(here) => here.values(),
            Values::Brought(values) => values,
        }
    }
}

/// The elements of a tensor of f32, for those who only read them: nothing is copied where they are in main memory.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Values {
    match Cpu::new(&tensor) {
        Some(here) => Values::Here(here),
        None => Values::Brought(read_back(tensor).try_into_vec_as().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_main_memory_is_not_carried() {
        let before = Traffic::of_this_thread();
        let here: Tensor<1> = upload(TensorData::new(vec![1.0f32, 2.0], [2]), &Device::flex());
        assert_eq!(read_back(here).iter::<f32>().collect::<Vec<_>>(), [1.0, 2.0]);
        assert_eq!(Traffic::of_this_thread().since(before), Traffic::NONE);
        uploaded(12);
        let now = Traffic::of_this_thread().since(before);
        assert_eq!(now, Traffic { uploads: 1, uploaded_bytes: 12, readbacks: 0 });
    }
}
