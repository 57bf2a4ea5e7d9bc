//! Dropout whose mask is drawn where it is used: the words of ChaCha8, a unit per block of them.

use super::{CubeTensor, Gpu, Numbers, UNITS, buffer, empty};
use crate::ops::graph::finish;
use crate::random::Mask;
use burn::tensor::Tensor;
use cubecl::prelude::*;

/// Words of a block, and as many elements.
const WORDS: usize = 16;

/// See [`crate::ops::dropout`]. Keeps the mask's key alone.
pub fn dropout(x: &Tensor<2>, mask: &Mask) -> Option<Tensor<2>> {
    let x = Gpu::open(x)?;
    let y = masked(x.primitive(), mask);
    Some(finish([x], y, mask.clone(), |mask, dy, [wanted]| [wanted.then(|| masked(&dy, &mask))]))
}

fn masked(x: &CubeTensor, mask: &Mask) -> CubeTensor {
    let len = x.meta.num_elements();
    let (Some(last_dropped), 1..) = (mask.last_dropped(), len) else { return x.clone() };
    let out = empty(x, x.meta.shape().clone());
    dropout_kernel::launch(
        &x.client,
        cubecl::calculate_cube_count_elemwise(&x.client, len.div_ceil(WORDS), CubeDim::new_1d(UNITS)),
        CubeDim::new_1d(UNITS),
        buffer(x),
        Numbers::upload(mask.key(), x).buffer(),
        buffer(&out),
        last_dropped,
        mask.kept(),
    );
    out
}

/// A quarter of a round.
#[cube]
fn quarter_round(
    s: &mut Array<u32>,
    #[comptime] a: usize,
    #[comptime] b: usize,
    #[comptime] c: usize,
    #[comptime] d: usize,
) {
    s[a] += s[b];
    s[d] = rotated(s[d] ^ s[a], 16u32);
    s[c] += s[d];
    s[b] = rotated(s[b] ^ s[c], 12u32);
    s[a] += s[b];
    s[d] = rotated(s[d] ^ s[a], 8u32);
    s[c] += s[d];
    s[b] = rotated(s[b] ^ s[c], 7u32);
}

#[cube]
fn rotated(word: u32, #[comptime] by: u32) -> u32 {
    (word << by) | (word >> comptime!(32 - by))
}

/// # Source
/// Bernstein 2008, "ChaCha, a variant of Salsa20", with 8 rounds and a counter of 64 bits, of which no mask needs more
/// than the lower half.
#[cube(launch)]
fn dropout_kernel(x: &[f32], key: &[u32], out: &mut [f32], last_dropped: u32, kept: f32) {
    let first = ABSOLUTE_POS * WORDS;
    if first < out.len() {
        // "expand 32-byte k"
        let mut s = Array::<u32>::new(WORDS);
        s[0] = 0x6170_7865u32;
        s[1] = 0x3320_646eu32;
        s[2] = 0x7962_2d32u32;
        s[3] = 0x6b20_6574u32;
        #[unroll]
        for i in 0..8usize {
            s[4 + i] = key[i];
        }
        s[12] = ABSOLUTE_POS as u32;
        s[13] = 0u32;
        s[14] = 0u32;
        s[15] = 0u32;
        let mut start = Array::<u32>::new(WORDS);
        #[unroll]
        for i in 0..WORDS {
            start[i] = s[i];
        }
        for _ in 0..4u32 {
            quarter_round(&mut s, 0usize, 4usize, 8usize, 12usize);
            quarter_round(&mut s, 1usize, 5usize, 9usize, 13usize);
            quarter_round(&mut s, 2usize, 6usize, 10usize, 14usize);
            quarter_round(&mut s, 3usize, 7usize, 11usize, 15usize);
            quarter_round(&mut s, 0usize, 5usize, 10usize, 15usize);
            quarter_round(&mut s, 1usize, 6usize, 11usize, 12usize);
            quarter_round(&mut s, 2usize, 7usize, 8usize, 13usize);
            quarter_round(&mut s, 3usize, 4usize, 9usize, 14usize);
        }
        #[unroll]
        for i in 0..WORDS {
            if first + i < out.len() {
                let mut value = 0.0f32;
                if s[i] + start[i] > last_dropped {
                    value = x[first + i] * kept;
                }
                out[first + i] = value;
            }
        }
    }
}
