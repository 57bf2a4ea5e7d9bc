//! Tensors that are lists of matrices, taken apart.

use super::header::Entry;
use crate::weights::names::TensorId;

/// Parts of a list that are looked at: far more than any model has.
const MOST: usize = 1 << 10;

/// The entries, with the parts of each list in its place. A list whose bytes cannot be told apart stays what it is.
pub(super) fn apart(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().flat_map(|entry| parts(entry).unwrap_or_else(|| vec![entry.clone()])).collect()
}

fn parts(entry: &Entry) -> Option<Vec<Entry>> {
    let part_of = TensorId::of_stack(&entry.name)?;
    let &[count @ 1..=MOST, rows, columns] = entry.shape.as_slice() else { return None };
    // Rows are whole blocks, so parts are; of a type that cannot be read there are no bytes.
    let bytes = Some(entry.bytes.len() / count).filter(|bytes| bytes * count == entry.bytes.len())?;
    let part = |place: usize| Entry {
        name: part_of(place).gguf(),
        shape: vec![rows, columns],
        bytes: entry.bytes.start + place * bytes..entry.bytes.start + (place + 1) * bytes,
        ..*entry
    };
    Some((0..count).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, shape: &[usize], bytes: std::ops::Range<usize>) -> Entry {
        Entry { name: name.into(), ggml_type: 0, shape: shape.to_vec(), bytes }
    }

    #[test]
    fn a_list_is_its_parts() {
        let norm = entry("output_norm.weight", &[4], 96..112);
        let found = apart(&[entry("altup_proj.weight", &[2, 3, 4], 0..96), norm.clone()]);
        let expected =
            [entry("altup_proj.0.weight", &[3, 4], 0..48), entry("altup_proj.1.weight", &[3, 4], 48..96), norm];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_list_stays() {
        for (name, shape) in [
            ("altup_proj.weight", &[6, 4][..]),
            ("altup_proj.weight", &[0, 6, 4]),
            ("altup_proj.weight", &[usize::MAX, 0, 4]),
            ("altup_proj.weight", &[7, 1, 4]),
            ("token_embd.weight", &[2, 3, 4]),
        ] {
            let one = entry(name, shape, 0..96);
            assert_eq!(apart(std::slice::from_ref(&one)), [one]);
        }
    }
}
