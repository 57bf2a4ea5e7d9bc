//! One value from those of all units of a cube, in a fixed order.

use cubecl::prelude::*;

/// Their sum.
#[cube]
pub fn sum_of_units(value: f32, #[comptime] units: u32) -> f32 {
    reduce(value, units, false)
}

/// The largest of them.
#[cube]
pub fn max_of_units(value: f32, #[comptime] units: u32) -> f32 {
    reduce(value, units, true)
}

/// Halves a row of `units` values, a power of two, until one is left.
#[cube]
fn reduce(value: f32, #[comptime] units: u32, #[comptime] is_max: bool) -> f32 {
    let mut values = Shared::<[f32]>::new_slice(units as usize);
    values[UNIT_POS as usize] = value;
    sync_cube();
    #[unroll]
    for level in 1..comptime!(units.ilog2() + 1) {
        let half = comptime!(units >> level);
        if UNIT_POS < half {
            let (a, b) = (values[UNIT_POS as usize], values[(UNIT_POS + half) as usize]);
            if is_max {
                values[UNIT_POS as usize] = max(a, b);
            } else {
                values[UNIT_POS as usize] = a + b;
            }
        }
        sync_cube();
    }
    let result = values[0];
    // The memory may serve the next one.
    sync_cube();
    result
}
