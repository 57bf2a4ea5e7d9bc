//! The tiny models of `tests/goldens/export`.

use crate::model::{Places, Site, Stage};
use crate::testkit::golden::folder;
use crate::weights::names::{Projection, TensorId};
use std::path::PathBuf;

/// A file or folder of `tests/goldens/export`.
pub(crate) fn golden(name: &str) -> PathBuf {
    folder("export").join(name)
}

/// Their projections: two layers with d = 8, f = 12, h * e = 8, g * e = 4.
pub(crate) fn shapes() -> Places {
    let shape = |projection| match projection {
        Projection::K | Projection::V => [4, 8],
        Projection::Gate | Projection::Up => [12, 8],
        Projection::Down => [8, 12],
        _ => [8, 8],
    };
    let layer = |layer| Projection::SEVEN.map(|p| (TensorId::Projection(layer, p), Stage::Layer(layer), shape(p)));
    Places { sites: Site::numbered((0..2).flat_map(layer)), whole: Vec::new() }
}
