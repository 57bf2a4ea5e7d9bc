//! A long text in parts that are tokenised one after the other, with the same tokens as in one go: a tokenizer takes many
//! times the memory of its text.

use super::tokenizer::Tokenizer;
use crate::error::Result;

/// A text up to this long is tokenised in one go.
const PART_BYTES: usize = 256 << 10;

/// The ids of `text`.
///
/// # Errors
/// As [`Tokenizer::encode`].
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    encode_parts(tokenizer, text, PART_BYTES)
}

fn encode_parts(tokenizer: &Tokenizer, text: &str, part_bytes: usize) -> Result<Vec<u32>> {
    if text.len() <= part_bytes || !lines_are_apart(tokenizer)? {
        return tokenizer.encode(text);
    }
    let (mut ids, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, after) = rest.split_at(end_of_lines(rest, part_bytes));
        ids.extend(tokenizer.encode(part)?);
        rest = after;
    }
    Ok(ids)
}

/// Where a line begins that is not blank, at `from` or later.
fn end_of_lines(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    (from..bytes.len()).find(|&at| at > 0 && bytes[at - 1] == b'\n' && bytes[at] != b'\n').unwrap_or(bytes.len())
}

/// Whether no token reaches from the end of a line into the next, as none of Gemma's does: pairs are merged within
/// tokens only, so what stands in one line decides nothing in another.
fn lines_are_apart(tokenizer: &Tokenizer) -> Result<bool> {
    let ids = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let reaches_on = |token: String| token.trim_end_matches('\n').contains('\n');
    if (0..ids).filter_map(|id| tokenizer.token(id)).any(reaches_on) {
        return Ok(false);
    }
    // Some tokenizers add something at the beginning of each text.
    let (line, next) = ("a b\n", "c d");
    let apart = [tokenizer.encode(line)?, tokenizer.encode(next)?].concat();
    Ok(tokenizer.encode(&format!("{line}{next}"))? == apart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn parts_have_the_tokens_of_the_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer/tokenizer.json");
        let tokenizer = Tokenizer::from_file(&folder).unwrap();
        let text = "A line of words.\n\n\n  Another,\tindented\r\nand more \n x\n".repeat(40) + "\n\n";
        let whole = tokenizer.encode(&text).unwrap();
        for part_bytes in [1, 7, 100, 5000] {
            assert_eq!(encode_parts(&tokenizer, &text, part_bytes).unwrap(), whole, "{part_bytes}");
        }
        assert_eq!(end_of_lines("ab\n\nc\nd", 1), 4);
        assert_eq!(end_of_lines("ab", 1), 2);
    }
}
