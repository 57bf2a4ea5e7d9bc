//! Data sets: sources, row formats, preparation with a cache, packing into bins.

pub mod options;
