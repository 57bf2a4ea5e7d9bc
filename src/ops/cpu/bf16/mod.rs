//! Products whose factors are rounded to bf16, with sums in f32.
//!
//! A product is cut into tiles of some rows of the left factor by some columns of the right one, and each tile sums in
//! registers. Both factors are packed for it: pairs of the dimension that is summed lie together, and the pairs of a
//! tile's rows (or columns) one after the other. The left factor is packed once for all products that it is in; the
//! right one, a frozen weight, panel by panel beside its use, where it stays in a core's cache. Factors that are no weight's, those
//! of attention, are both packed where they are multiplied.
//!
//! # Numerics
//! A factor is rounded to 8 bits, to nearest even, and what is smaller than [`pack::LEAST_LEFT`] or [`pack::LEAST_RIGHT`]
//! becomes 0, so that nothing in a product is ever subnormal, which the instruction of a processor would lose; a row of
//! the left factor whose largest number is far from 1 is brought near it by a power of two, and its products are
//! multiplied back. The dimension that is summed is cut into runs whose length depends on it alone; each is summed from 0 on, in the order that [`tile::Tile`]
//! names, and the sums of the runs are added up in their order. So results are the same bits for any number of threads,
//! and on every processor, with the instruction or without.

mod avx2;
mod avx512;
mod here;
mod kernel;
mod pack;
mod plain;
mod product;
mod runs;
mod tile;

pub use here::product as product_here;
pub use kernel::Kernel;
pub use pack::round;
pub use product::{Left, Right, times, times_transposed};
pub use runs::run_of;

#[cfg(test)]
mod tests;
