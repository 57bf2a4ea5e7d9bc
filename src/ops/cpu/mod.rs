//! Kernels for the CPU: all threads, and vectors as wide as the machine has.
//!
//! They are plain loops, compiled once for each instruction set and chosen at run time. Every value is computed by one
//! thread in a fixed order, so results do not depend on the number of threads.

pub mod attention;
pub mod bf16;
pub mod conv;
pub mod cross_entropy;
pub mod geglu;
pub mod instructions;
pub mod matmul;
pub mod norm;
pub mod passing;
pub mod peak;
pub mod rows;
pub mod scattered;
pub mod simd;
pub mod top_of_row;
