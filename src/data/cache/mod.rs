//! Prepared rows on disk, found again by content.
//!
//! A cache file is named by everything that decides its bytes: the content of the data files, the encoder, the options
//! and this program's version. It is written whole or not at all, checked when opened, and made anew when damaged.

mod folder;
mod hash;
mod record;
mod store;

pub(super) use folder::{Folder, keep_media, kept_media};
pub(super) use hash::{HashedFile, Stamp, hash_files};
pub(super) use record::encode;
pub(super) use store::{Meta, RowMeta, Sequences, SkippedRow, Store, Writer};

#[cfg(test)]
mod tests;
