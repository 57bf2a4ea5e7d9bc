//! A row's tokens as bytes: flags (which also say whether an answer was judged), of a pair where its second sequence begins and by
//! how much the first is better, ids, labels. Little-endian.
//!
//! Labels are mostly the ids themselves or -100, so a bit per token says which; only where a label is something else
//! are all of them written out. Media come after them, and the columns of a prompt last, each only where there are any.

use crate::text::{IGNORE_INDEX, MediaKind, MediaRange, Tokenized};

const TRUNCATED: u8 = 1;
const FULL_LABELS: u8 = 2;
const MEDIA: u8 = 4;
const PAIR: u8 = 8;
const JUDGED: u8 = 16;
const DESIRABLE: u8 = 32;
const MARGIN: u8 = 64;
const COLUMNS: u8 = 128;

/// Start and number of the tokens of a medium (4 bytes each), what it is, the hash of what it shows.
const MEDIUM_BYTES: usize = 4 + 4 + 1 + 32;

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
    let has_media = !tokens.media.is_empty();
    let flags = [
        (tokens.truncated, TRUNCATED),
        (!plain, FULL_LABELS),
        (has_media, MEDIA),
        (tokens.second.is_some(), PAIR),
        (tokens.desirable.is_some(), JUDGED),
        (tokens.desirable == Some(true), DESIRABLE),
        (tokens.columns.is_some(), COLUMNS),
        (tokens.margin.is_some(), MARGIN),
    ];
    bytes.push(flags.into_iter().map(|(is_set, flag)| u8::from(is_set) * flag).sum());
    bytes.extend(tokens.second.iter().flat_map(|&at| u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes()));
    bytes.extend(tokens.margin.iter().flat_map(|margin| margin.to_le_bytes()));
    bytes.extend(tokens.input_ids.iter().flat_map(|id| id.to_le_bytes()));
    if plain {
        let bits = |labels: &[i32]| labels.iter().rev().fold(0, |byte, &l| byte << 1 | u8::from(l != IGNORE_INDEX));
        bytes.extend(tokens.labels.chunks(8).map(bits));
    } else {
        bytes.extend(tokens.labels.iter().flat_map(|l| l.to_le_bytes()));
    }
    if has_media {
        for MediaRange { tokens, kind, content } in &tokens.media {
            let [start, count] = [tokens.start, tokens.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            bytes.extend(start.to_le_bytes().into_iter().chain(count.to_le_bytes()));
            bytes.push(u8::from(*kind == MediaKind::Audio));
            bytes.extend(content);
        }
        bytes.extend(u32::try_from(tokens.media.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    if let Some(columns) = &tokens.columns {
        bytes.extend(columns.as_bytes());
        bytes.extend(u32::try_from(columns.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    Record { length: u32::try_from(tokens.input_ids.len()).unwrap_or(u32::MAX), hash: hash(&bytes[start..]) }
}

/// The tokens in `bytes`, which hold `length` of them; `None` unless hash and size are right.
pub(crate) fn decode(bytes: &[u8], length: u32, expected_hash: u64) -> Option<Tokenized> {
    if hash(bytes) != expected_hash {
        return None;
    }
    let (&flags, rest) = bytes.split_first()?;
    let (second, rest) = if flags & PAIR == 0 {
        (None, rest)
    } else {
        let (at, rest) = rest.split_first_chunk::<4>()?;
        (Some(u32::from_le_bytes(*at)).filter(|&at| at < length).map(|at| at as usize), rest)
    };
    let (rest, columns) = if flags & COLUMNS == 0 { (rest, None) } else { columns(rest)? };
    let (margin, rest) = if flags & MARGIN == 0 {
        (None, rest)
    } else {
        let (margin, rest) = rest.split_first_chunk::<4>()?;
        (Some(f32::from_le_bytes(*margin)), rest)
    };
    let (rest, media) = if flags & MEDIA == 0 { (rest, Vec::new()) } else { media(rest, length)? };
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
    let desirable = (flags & JUDGED != 0).then_some(flags & DESIRABLE != 0);
    Some(Tokenized { input_ids, labels, truncated: flags & TRUNCATED != 0, media, second, desirable, margin, columns })
}

/// The columns at the end of a record, and what is before them.
fn columns(bytes: &[u8]) -> Option<(&[u8], Option<String>)> {
    let (bytes, size) = bytes.split_last_chunk::<4>()?;
    let (bytes, columns) = bytes.split_at_checked(bytes.len().checked_sub(u32::from_le_bytes(*size) as usize)?)?;
    Some((bytes, Some(String::from_utf8(columns.to_vec()).ok()?)))
}

/// The media at the end of a record of `length` tokens, and what is before them.
fn media(bytes: &[u8], length: u32) -> Option<(&[u8], Vec<MediaRange>)> {
    let (bytes, count) = bytes.split_last_chunk::<4>()?;
    let size = (u32::from_le_bytes(*count) as usize).checked_mul(MEDIUM_BYTES)?;
    let (bytes, media) = bytes.split_at_checked(bytes.len().checked_sub(size)?)?;
    let medium = |bytes: &[u8]| {
        let (start, bytes) = bytes.split_first_chunk::<4>()?;
        let (count, bytes) = bytes.split_first_chunk::<4>()?;
        let (&kind, content) = bytes.split_first()?;
        let kind = match kind {
            0 => MediaKind::Image,
            1 => MediaKind::Audio,
            _ => return None,
        };
        let start = u32::from_le_bytes(*start);
        let end = start.checked_add(u32::from_le_bytes(*count)).filter(|&end| end <= length)?;
        Some(MediaRange { tokens: start as usize..end as usize, kind, content: content.try_into().ok()? })
    };
    Some((bytes, media.chunks_exact(MEDIUM_BYTES).map(medium).collect::<Option<_>>()?))
}

/// The first 64 bits of BLAKE3.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
