//! Towers that look at pictures.

pub mod siglip;
