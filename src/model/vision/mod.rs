//! Towers that look at pictures.

pub mod mobilenet;
pub mod siglip;
