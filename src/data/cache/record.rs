//! A row's tokens as bytes: flags, ids, labels. Little-endian.
//!
//! Labels are mostly the ids themselves or -100, so a bit per token says which; only where a label is something else
//! are all of them written out.

use crate::text::{IGNORE_INDEX, Tokenized};

const TRUNCATED: u8 = 1;
const FULL_LABELS: u8 = 2;

/// The bytes of a row, and what stands in the index about them.
pub(crate) struct Record {
    pub length: u32,
    /// The first 64 bits of BLAKE3 over the bytes: checks them, and names the row's content.
    pub hash: u64,
}

/// Appends `tokens` to `bytes`. Labels must be as many as ids, at most 2^32.
pub(crate) fn encode(tokens: &Tokenized, bytes: &mut Vec<u8>) -> Record {
    let start = bytes.len();
    let plain =
        tokens.input_ids.iter().zip(&tokens.labels).all(|(&id, &l)| l == IGNORE_INDEX || i64::from(l) == i64::from(id));
    bytes.push(u8::from(tokens.truncated) * TRUNCATED + u8::from(!plain) * FULL_LABELS);
    bytes.extend(tokens.input_ids.iter().flat_map(|id| id.to_le_bytes()));
    if plain {
        let bits = |labels: &[i32]| labels.iter().rev().fold(0, |byte, &l| byte << 1 | u8::from(l != IGNORE_INDEX));
        bytes.extend(tokens.labels.chunks(8).map(bits));
    } else {
        bytes.extend(tokens.labels.iter().flat_map(|l| l.to_le_bytes()));
    }
    Record { length: u32::try_from(tokens.input_ids.len()).unwrap_or(u32::MAX), hash: hash(&bytes[start..]) }
}

/// The tokens in `bytes`, which hold `length` of them; `None` unless hash and size are right.
pub(crate) fn decode(bytes: &[u8], length: u32, expected_hash: u64) -> Option<Tokenized> {
    if hash(bytes) != expected_hash {
        return None;
    }
    let (&flags, rest) = bytes.split_first()?;
    let (ids, labels) = rest.split_at_checked((length as usize).checked_mul(4)?)?;
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    let input_ids = words(ids);
    let labels: Vec<i32> = if flags & FULL_LABELS != 0 {
        (labels.len() == ids.len()).then(|| words(labels).into_iter().map(u32::cast_signed).collect())?
    } else if labels.len() == input_ids.len().div_ceil(8) {
        let supervised = |i: usize| labels[i / 8] >> (i % 8) & 1 == 1;
        input_ids
            .iter()
            .enumerate()
            .map(|(i, &id)| if supervised(i) { id.cast_signed() } else { IGNORE_INDEX })
            .collect()
    } else {
        return None;
    };
    Some(Tokenized { input_ids, labels, truncated: flags & TRUNCATED != 0 })
}

/// The first 64 bits of BLAKE3.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
