//! The enums that keys can have as values.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, choice};
use super::raw::Node;
use super::{ComputeDtype, Dtype, EmbeddingQuantization, Fit, Optimizer, Quantization, Scheduler, Sink};
use crate::data::options::{OnBadRow, OnLong, RowFormat};
use crate::text::TrainOn;

/// Lets keys have these enums as values.
macro_rules! choices {
    ($($kind:ty),*) => {$(
        impl FromNode for $kind {
            fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
                choice(node, path, diagnosis)
            }
        }
    )*};
}

choices!(RowFormat, OnLong, OnBadRow, TrainOn);
choices!(ComputeDtype, Dtype, EmbeddingQuantization, Fit, Optimizer, Quantization, Scheduler, Sink);
