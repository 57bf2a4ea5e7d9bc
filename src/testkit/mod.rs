//! What tests need: a tiny tokenizer, a golden reader and tolerances. Not for other use; it panics where a test should
//! fail.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a golden that is missing is a failed test")]

pub mod golden;
pub mod tokenizer;

use crate::paths;
use std::fs;
use std::path::Path;

/// Numbers without a pattern, from -1 to 1.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// All that is in a folder, but for what is locked, in another one.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in paths::entries(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { copy(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
    }
}
