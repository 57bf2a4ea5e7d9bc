//! What a configuration needs, from a real GGUF file.

use super::Metadata;
use crate::weights::gguf::{Array, Gguf};

impl Metadata for Gguf {
    fn u64(&self, key: &str) -> Option<u64> {
        self.metadata(key)?.as_u64()
    }

    fn f64(&self, key: &str) -> Option<f64> {
        self.metadata(key)?.as_f64()
    }

    fn str(&self, key: &str) -> Option<&str> {
        self.metadata(key)?.as_str()
    }

    fn array_len(&self, key: &str) -> Option<usize> {
        self.metadata(key)?.as_array().map(Array::len)
    }

    fn position(&self, key: &str, text: &str) -> Option<usize> {
        self.metadata(key)?.as_array().and_then(Array::as_strings)?.iter().position(|s| s == text)
    }

    fn keys(&self) -> Vec<&str> {
        self.header().metadata.keys().map(String::as_str).collect()
    }
}
