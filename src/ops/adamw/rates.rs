//! The numbers of an update by AdamW.

/// The numbers of an update, the same for every parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// The learning rate over the first moment's correction for its beginning at 0.
    pub step_size: f64,
    /// The root of the second moment's correction.
    pub root_correction: f64,
    /// What the parameter is multiplied by beforehand: 1 less decay.
    pub keep: f64,
    /// What the gradient is multiplied by beforehand, where it is clipped: 1 leaves it as it is.
    pub scale: f64,
}
