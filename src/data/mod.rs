//! Data sets: sources, row formats, preparation with a cache, packing into bins, batches.
//!
//! ```text
//! files --source--> chunks of raw rows --formats--> Row --Encode--> Tokenized --cache--> Dataset
//! Dataset --Binning--> Epoch (bins of rows) --collate--> PackedBatch
//! ```

mod batch;
mod blank;
mod cache;
mod check;
mod dataset;
mod encode;
mod epoch;
pub mod exact;
mod few;
mod formats;
mod layout;
mod losses;
mod media;
mod misread;
mod object;
pub mod options;
mod outside_texts;
mod packing;
mod pairs;
mod prepare;
mod preview;
mod raw_object;
mod row;
mod source;
mod spec;
mod spelling;
mod split;
mod stats;
mod survey;
mod tally;
#[cfg(test)]
mod testing;
mod text_encoder;
mod unnamed;

pub use batch::{PackedBatch, collate};
pub use check::{Checked, check_rows};
pub use dataset::{DataFile, Dataset, Totals};
pub use encode::SkipReason;
pub use epoch::{Binning, Epoch};
pub use few::{FewRow, read_few, read_few_or_pairs, understand, unread_beside_prompt};
pub use layout::Layout;
pub use media::{MediaRules, MediaTable, Prepared, check_medium, look_at, media_column};
pub use object::{digits, one_column, to_json};
pub use options::{OnBadRow, OnLong, RowFormat};
pub use pairs::PairLengths;
pub use prepare::{check_files, prepare};
pub use preview::{Piece, Preview, preview};
pub use raw_object::with_fields;
pub use row::{Encode, Row, RowId, supervise_after};
pub use source::{FindHub, JsonRow, MAX_ROW_BYTES, check_source, local_only, read_any, read_rows};
pub use spec::{DataSpec, SourceSpec, split_needs_text};
pub use stats::{FileStats, LeftOut, Lengths, SkippedStats, SourceStats, Stats};
pub use unnamed::UnnamedColumns;
