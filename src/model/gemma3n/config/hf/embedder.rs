//! What the `vision_config` and the `audio_config` of a Gemma 3n say of their embedders.

use super::from_zero;
use crate::model::gemma3::config::hf::table::Table;
use crate::model::gemma3::config::limit;
use crate::model::gemma3n::EmbedderConfig;
use crate::weights::names::Embedder;

/// Reads the keys of an embedder of what is `hidden_size` wide; its words begin at `vocab_offset` unless `t` says another
/// number. Problems stay in the table.
pub(super) fn read(t: &mut Table, of: Embedder, hidden_size: usize, vocab_offset: usize) -> EmbedderConfig {
    EmbedderConfig {
        of,
        hidden_size,
        vocab_size: t.size("vocab_size", 128, limit::VOCABULARY),
        vocab_offset: from_zero(t, "vocab_offset", vocab_offset, limit::VOCABULARY),
        rms_norm_eps: t.positive("rms_norm_eps", 1e-6, limit::EPS),
    }
}
