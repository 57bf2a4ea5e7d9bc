//! What is known of a tensor before it is read.

/// What a file says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// The size of each axis, outermost first.
    pub shape: Vec<usize>,
    /// How its elements are stored: `BF16`, `Q4_K`.
    pub dtype: String,
    /// Its bytes in the file; 0 for GGUF types that cannot be read.
    pub bytes: u64,
}
