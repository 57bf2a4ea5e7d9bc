//! What llama.cpp expects of the tensors of a model's file beyond what a Hugging Face model has.

use crate::weights::names::TensorId;

/// Whether files of this architecture hold norms as `1 + w`, the gain, where Hugging Face has `w`; those of Gemma 3n hold
/// what Hugging Face has, which is the gain there.
pub fn norms_hold_one_plus(architecture: &str) -> bool {
    architecture != "gemma3n"
}

/// What readers of GGUF files ask of a model's file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demands {
    /// Tensors that every file has, whether the model has them or not.
    pub constants: Vec<Constant>,
    /// Tables of which a file has more rows than the model: those beyond are as the first.
    pub rows: Vec<(TensorId, usize)>,
    /// What readers compute otherwise than the model, for the user.
    pub warnings: Vec<String>,
}

/// A tensor of one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Which.
    pub id: TensorId,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Each of its numbers.
    pub value: f32,
    /// Whether one of this shape that the model's files hold is written in its place.
    pub gives_way: bool,
}
