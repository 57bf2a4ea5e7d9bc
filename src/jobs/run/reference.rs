//! What the policy that a run starts from says of the answers it is trained or evaluated on, and its file.

use crate::atomic;
use crate::error::Result;
use crate::input;
use std::io::Write;
use std::path::Path;

/// Bytes of the hash before the numbers.
const HASH_BYTES: usize = blake3::OUT_LEN;

/// Log-probabilities of the answers of a data set's rows, summed over their tokens. Of each pair the answer that is preferred, then
/// the other; of each single answer its own, then that of the other answer that its prompt is mismatched with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference(Vec<[f64; 2]>);

impl Reference {
    /// Of each row in turn.
    pub fn new(pairs: Vec<[f64; 2]>) -> Self {
        Reference(pairs)
    }

    /// What a file keeps of so many rows; `None` where it does not.
    pub fn kept(path: &Path, rows: usize) -> Option<Self> {
        let bytes = input::read(path).ok()?;
        Self::decoded(&bytes).filter(|kept| kept.0.len() == rows)
    }

    /// Keeps it in a file.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn keep(&self, path: &Path) -> Result<()> {
        atomic::write_with(path, |out| out.write_all(&self.encoded()))
    }

    /// What it says of sequences, given the row of each: two of each row, one after the other.
    pub fn of_pairs(&self, rows: &[u32]) -> Vec<f64> {
        rows.iter().step_by(2).flat_map(|row| self.of_row(*row)).collect()
    }

    /// What it says of sequences that are a row each.
    pub fn of_answers(&self, rows: &[u32]) -> Vec<f64> {
        rows.iter().map(|row| self.of_row(*row)[0]).collect()
    }

    /// What it says of the prompts of such rows with answers to others.
    pub fn of_mismatched(&self, rows: &[u32]) -> Vec<f64> {
        rows.iter().map(|row| self.of_row(*row)[1]).collect()
    }

    fn of_row(&self, row: u32) -> [f64; 2] {
        self.0.get(row as usize).copied().unwrap_or([f64::NAN; 2])
    }

    fn encoded(&self) -> Vec<u8> {
        let numbers: Vec<u8> = self.0.iter().flatten().flat_map(|sum| sum.to_le_bytes()).collect();
        [blake3::hash(&numbers).as_bytes().as_slice(), &numbers].concat()
    }

    /// The numbers of a file; `None` where its bytes are not all right.
    fn decoded(bytes: &[u8]) -> Option<Self> {
        let (hash, numbers) = bytes.split_at_checked(HASH_BYTES)?;
        let (pairs, rest) = numbers.as_chunks::<16>();
        if hash != blake3::hash(numbers).as_bytes() || !rest.is_empty() {
            return None;
        }
        let pair = |bytes: &[u8; 16]| {
            let (chosen, rejected) = bytes.split_first_chunk::<8>()?;
            Some([f64::from_le_bytes(*chosen), f64::from_le_bytes(*rejected.first_chunk::<8>()?)])
        };
        pairs.iter().map(pair).collect::<Option<_>>().map(Reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_every_bit_and_damage_is_seen() {
        let reference = Reference(vec![[-1.5, -0.1], [f64::MIN_POSITIVE, -12345.678]]);
        let bytes = reference.encoded();
        assert_eq!(Reference::decoded(&bytes), Some(reference.clone()));
        assert_eq!(Reference::decoded(&bytes[..bytes.len() - 1]), None);
        for at in [0, HASH_BYTES, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Reference::decoded(&damaged), None, "{at}");
        }
        assert_eq!(Reference::decoded(&[]), None);
        assert_eq!(reference.of_pairs(&[1, 1, 0, 0]), [f64::MIN_POSITIVE, -12345.678, -1.5, -0.1]);
        assert_eq!(reference.of_answers(&[1, 0]), [f64::MIN_POSITIVE, -1.5]);
        assert_eq!(reference.of_mismatched(&[1, 0]), [-12345.678, -0.1]);
        assert!(reference.of_pairs(&[7, 7]).iter().all(|sum| sum.is_nan()));
    }
}
