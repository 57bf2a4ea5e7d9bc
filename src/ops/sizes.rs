//! How much of an intermediate result exists at a time: what decides tiles, and what estimates of memory count with.
//!
//! Those of GPUs are little in tests, so that there are several tiles.

/// Bytes of a weight that are unpacked or converted at once on a device other than the CPU.
pub const UNPACKED_TILE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 20 };

/// Bytes of scores where a GPU attends by products of matrices.
pub const GPU_SCORE_BYTES: usize = if cfg!(test) { 16 << 10 } else { 64 << 20 };

/// Queries that are handled together there, where their scores are few enough.
pub const GPU_QUERIES: usize = 512;

/// Words whose logits exist at a time on a GPU are a multiple of this: rows of any other width are laid out with gaps, and
/// copied before kernels read them one number at a time.
pub const LOSS_GPU_WORDS: usize = 128;

/// Words whose logits exist at a time there, for so many rows of this width, of a vocabulary of any size.
pub fn loss_gpu_tile(rows: usize, width: usize) -> usize {
    (LOSS_GPU_TILE_BYTES / rows.max(width).max(1).saturating_mul(4)).max(1).next_multiple_of(LOSS_GPU_WORDS)
}

/// Words whose logits exist at a time.
pub const LOSS_TILE_WORDS: usize = 1024;

/// Rows whose logits exist at a time: the more, the less often the head is read.
pub const LOSS_CHUNK_ROWS: usize = 1024;

/// Bytes of logits, and of converted rows of the head, that exist at a time on a GPU.
pub const LOSS_GPU_TILE_BYTES: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };
