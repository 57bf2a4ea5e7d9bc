//! How the sequences of a batch lie, as all layers need to know it.

use crate::nn::{AttentionKind, AttentionPlan, Rope, RopeTable};
use crate::ops::{is_cpu, upload};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::sync::{Arc, Mutex, PoisonError};

/// How the sequences of a batch lie, as all layers need to know it: rotations and masks. Made once per batch.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The rotations.
    pub rotations: Rotations,
    /// The masks of sliding and of full layers.
    pub plan: AttentionPlan,
}

/// The rotations of some tokens in layers of each kind.
#[derive(Debug, Clone)]
pub struct Rotations {
    /// Of sliding layers.
    pub local: RopeTable,
    /// Of full layers.
    pub global: RopeTable,
}

impl Rotations {
    /// Those of layers of this kind.
    pub fn of(&self, kind: AttentionKind) -> &RopeTable {
        match kind {
            AttentionKind::Sliding => &self.local,
            AttentionKind::Full => &self.global,
        }
    }
}

/// What makes the rotations of a model's tokens.
///
/// On a device other than the CPU it keeps those of all positions up to the last that came, so that of a batch positions
/// alone are uploaded, not a cosine and a sine for each pair of a head.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// Of sliding and of full layers.
    ropes: [Rope; 2],
    head_dim: usize,
    device: Device,
    /// Of positions from 0 on.
    known: Arc<Mutex<Option<Rotations>>>,
}

impl Rotary {
    /// For heads of `head_dim`, by the ropes of sliding and of full layers.
    pub fn new(ropes: [Rope; 2], head_dim: usize, device: &Device) -> Self {
        Rotary { ropes, head_dim, device: device.clone(), known: Arc::default() }
    }

    /// The rotations of tokens at `positions`.
    pub fn at(&self, positions: &[usize]) -> Rotations {
        if is_cpu(&self.device) {
            return self.tables(positions);
        }
        let Rotations { local, global } = self.up_to(positions.iter().max().map_or(1, |last| last + 1));
        let rows: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
        let rows: Tensor<1, Int> = upload(TensorData::new(rows, [positions.len()]), &self.device);
        let at = |table: RopeTable| RopeTable {
            cos: table.cos.select(0, rows.clone()),
            sin: table.sin.select(0, rows.clone()),
        };
        Rotations { local: at(local), global: at(global) }
    }

    /// Those of positions from 0 on, `count` or more of them.
    fn up_to(&self, count: usize) -> Rotations {
        const FEWEST: usize = 256;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(known) if known.local.cos.dims()[0] >= count => known.clone(),
            _ => {
                let all: Vec<usize> = (0..count.next_power_of_two().max(FEWEST)).collect();
                known.insert(self.tables(&all)).clone()
            }
        }
    }

    fn tables(&self, positions: &[usize]) -> Rotations {
        let [local, global] = self.ropes.map(|rope| rope.table(positions, self.head_dim, &self.device));
        Rotations { local, global }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn every_device_turns_by_the_same_angles_whichever_came_before() {
        let ropes = [Rope { theta: 1e4, factor: 1.0 }, Rope { theta: 1e6, factor: 8.0 }];
        let bits = |rotations: Rotations| {
            let Rotations { local, global } = rotations;
            let tables = [local.cos, local.sin, global.cos, global.sin];
            tables.map(|table| table.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>())
        };
        for found in device::all() {
            let rotary = Rotary::new(ropes, 12, &found.device);
            for positions in [vec![0, 1, 2, 0, 1], vec![700, 3], vec![5, 255, 256], vec![0]] {
                let want = Rotary::new(ropes, 12, &Device::flex()).at(&positions);
                assert_eq!(bits(rotary.at(&positions)), bits(want), "{} {positions:?}", found.name());
            }
        }
    }
}
