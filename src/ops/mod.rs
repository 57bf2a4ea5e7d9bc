//! Operations with their own gradient.
