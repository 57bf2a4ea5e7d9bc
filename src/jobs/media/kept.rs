//! What towers said of pictures and sounds, on disk: a file of rows for each, which says by its checksum what it is of.

use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::progress::{Progress, counted};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// Begins each file; its last byte is the format's version.
const MAGIC: [u8; 8] = *b"gtsoft\0\x02";

/// Rows of soft tokens in a folder, by the contents of what they stand for.
#[derive(Debug)]
pub struct Store {
    /// Named after what decides the rows, beside their contents.
    folder: PathBuf,
    /// What could not be kept there.
    spare: Option<Spare>,
}

/// Rows that are kept for this process alone.
#[derive(Debug)]
struct Spare {
    folder: TempDir,
    contents: BTreeSet<[u8; 32]>,
}

/// What a file is found to be.
#[derive(PartialEq)]
enum Found {
    Whole,
    Damaged,
    /// Written before the format's version.
    Old,
}

impl Store {
    /// The rows in `folder`, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Store { folder, spare: None }
    }

    /// Those of `contents` that are kept and can be read, each read whole: a run does not begin on what it cannot finish
    /// with. What is damaged is made again, and that is said.
    pub fn whole(&self, contents: BTreeSet<[u8; 32]>, progress: &dyn Progress) -> BTreeSet<[u8; 32]> {
        let kept: Vec<[u8; 32]> = contents.into_iter().filter(|content| self.path(content).exists()).collect();
        if kept.is_empty() {
            return BTreeSet::new();
        }
        progress.start("Checking what is kept of pictures and sounds", Some(kept.len() as u64), "files");
        let look = |content: &[u8; 32]| {
            let found = self.look(content);
            progress.advance(1);
            (*content, found)
        };
        let found: Vec<([u8; 32], Found)> = kept.par_iter().map(look).collect();
        progress.finish();
        let (whole, now) = (found.iter().filter(|(_, found)| *found == Found::Whole), SystemTime::now());
        // Where room is made, it is by when files were used; where that cannot be written, by when they were made.
        whole.for_each(|(content, _)| drop(used(&self.path(content), now)));
        match found.iter().filter(|(_, found)| *found == Found::Damaged).count() {
            0 => {}
            damaged => progress.note(&format!(
                "warning: damaged, and made again: {} of what is kept of pictures and sounds, in `{}`",
                counted(damaged, "file"),
                self.folder.display()
            )),
        }
        found.into_iter().filter(|(_, found)| *found == Found::Whole).map(|(content, _)| content).collect()
    }

    /// Keeps the rows of `content`; for this process alone, which is said, where the folder does not take them.
    ///
    /// # Errors
    /// When there is no space, or no temporary folder either.
    pub fn keep(&mut self, content: &[u8; 32], rows: &Tensor<2>, progress: &dyn Progress) -> Result<()> {
        let [count, width] = rows.dims();
        let mut bytes = MAGIC.to_vec();
        bytes.extend([count, width].iter().flat_map(|&n| (n as u64).to_le_bytes()));
        bytes.extend(rows.to_data().iter::<f32>().flat_map(f32::to_le_bytes));
        bytes.extend(self.checksum(content, &bytes));
        let failed = match write(&self.path(content), &bytes) {
            Err(error) if error.kind() != Kind::NoSpace => error,
            written => return written,
        };
        let mut spare = match self.spare.take() {
            Some(spare) => spare,
            None => Spare::open(failed, progress)?,
        };
        write(&spare.path(content), &bytes)?;
        spare.contents.insert(*content);
        self.spare = Some(spare);
        Ok(())
    }

    /// The rows of `content`.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn read(&self, content: &[u8; 32], device: &Device) -> Result<Tensor<2>> {
        let spare = self.spare.as_ref().filter(|spare| spare.contents.contains(content));
        let path = spare.map_or_else(|| self.path(content), |spare| spare.path(content));
        let bytes = input::read(&path).map_err(|e| Error::io("reading", &path, e))?;
        let Some((values, dims)) = self.values(content, &bytes) else {
            return Err(Error::new(Kind::Data, "what was kept of a picture or sound was damaged since this began")
                .at_path(&path)
                .hint("the same command makes it anew"));
        };
        let values: Vec<f32> = values.iter().map(|four| f32::from_le_bytes(*four)).collect();
        Ok(Tensor::from_data(TensorData::new(values, dims), device))
    }

    fn look(&self, content: &[u8; 32]) -> Found {
        let [name @ .., version] = MAGIC;
        let Ok(bytes) = input::read(&self.path(content)) else { return Found::Damaged };
        match bytes.strip_prefix(&name) {
            Some([before, ..]) if *before < version => Found::Old,
            _ if self.values(content, &bytes).is_some() => Found::Whole,
            _ => Found::Damaged,
        }
    }

    /// The values of a file and their shape, unless it is damaged, or of something else.
    fn values<'b>(&self, content: &[u8; 32], bytes: &'b [u8]) -> Option<(&'b [[u8; 4]], [usize; 2])> {
        let (bytes, sum) = bytes.split_last_chunk::<32>()?;
        let is_sound = self.checksum(content, bytes) == *sum;
        let (dims, values) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<16>()?;
        let (dims, values) = (dims.as_chunks::<8>().0, values.as_chunks::<4>().0);
        let [count, width] = [0, 1].map(|i| usize::try_from(u64::from_le_bytes(dims[i])).unwrap_or(usize::MAX));
        (is_sound && count.checked_mul(width)? == values.len()).then_some((values, [count, width]))
    }

    /// Of the bytes, of what they are kept for, and of what decided them: a file in the place of another is not taken for it.
    fn checksum(&self, content: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
        let decided_by = self.folder.file_name().unwrap_or_default().as_encoded_bytes();
        *blake3::Hasher::new().update(decided_by).update(content).update(bytes).finalize().as_bytes()
    }

    fn path(&self, content: &[u8; 32]) -> PathBuf {
        path_in(&self.folder, content)
    }
}

impl Spare {
    /// A folder that nobody else sees, for the first that `failed` to be kept elsewhere.
    fn open(failed: Error, progress: &dyn Progress) -> Result<Self> {
        let place = failed.place().map(|place| format!(" (`{place}`)")).unwrap_or_default();
        progress.note(&format!(
            "warning: what the towers say is kept for this run alone where it cannot be kept for later ones: {}{place}",
            failed.what()
        ));
        let folder = tempfile::Builder::new().prefix("gemma-tune-").tempdir().map_err(|_| failed)?;
        Ok(Spare { folder, contents: BTreeSet::new() })
    }

    fn path(&self, content: &[u8; 32]) -> PathBuf {
        path_in(self.folder.path(), content)
    }
}

fn path_in(folder: &Path, content: &[u8; 32]) -> PathBuf {
    let hex = blake3::Hash::from_bytes(*content).to_hex();
    folder.join(&hex[..2]).join(&hex[2..])
}

/// Takes down when a file was used.
fn used(path: &Path, at: SystemTime) -> std::io::Result<()> {
    std::fs::File::options().append(true).open(path)?.set_modified(at)
}

/// Writes a file; an empty folder in its place is nobody's work.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, e))?;
    if path.is_dir() {
        let _ = std::fs::remove_dir(path); // or writing says why not
    }
    atomic::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::progress::testing::Notes;
    use std::fs;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    fn rows(first: f32) -> Tensor<2> {
        Tensor::from_floats([[first, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::flex())
    }

    fn first(store: &Store, content: &[u8; 32]) -> f32 {
        let rows = store.read(content, &Device::flex()).unwrap();
        assert_eq!(rows.dims(), [2, 3]);
        rows.into_data().iter::<f32>().next().unwrap()
    }

    fn stored(dir: &Path) -> Store {
        let mut store = Store::new(dir.join("key"));
        store.keep(&A, &rows(10.0), &Silent).unwrap();
        store.keep(&B, &rows(20.0), &Silent).unwrap();
        store
    }

    #[test]
    fn a_file_is_read_for_what_it_was_made_of_alone() {
        let (dir, notes) = (tempfile::tempdir().unwrap(), Notes::default());
        let (store, both) = (stored(dir.path()), BTreeSet::from([A, B]));
        assert_eq!(store.whole(both.clone(), &notes), both);
        assert_eq!((first(&store, &A), first(&store, &B)), (10.0, 20.0));
        assert_eq!(notes.take(), [""; 0]);
        let [a, b] = [A, B].map(|content| fs::read(store.path(&content)).unwrap());
        // Those of two pictures are exchanged; then one of them is whole again.
        fs::write(store.path(&A), &b).unwrap();
        fs::write(store.path(&B), &a).unwrap();
        assert_eq!(store.whole(both.clone(), &notes), BTreeSet::new());
        assert!(notes.take().concat().contains("damaged, and made again: 2 files of"));
        assert!(store.read(&A, &Device::flex()).is_err());
        fs::write(store.path(&A), &a).unwrap();
        assert_eq!(store.whole(both.clone(), &notes), BTreeSet::from([A]));
        // Those of another model, and of a version before, of which there is nothing to say.
        fs::rename(dir.path().join("key"), dir.path().join("other")).unwrap();
        let other = Store::new(dir.path().join("other"));
        notes.take();
        assert_eq!(other.whole(BTreeSet::from([A]), &notes), BTreeSet::new());
        assert_eq!(notes.take().len(), 1);
        fs::write(other.path(&A), [b"gtsoft\0\x01".as_slice(), &a[8..]].concat()).unwrap();
        assert_eq!(other.whole(BTreeSet::from([A]), &notes), BTreeSet::new());
        assert_eq!(notes.take(), [""; 0]);
    }

    #[test]
    fn what_stands_in_the_place_of_a_file_ends_nothing() {
        let (dir, notes) = (tempfile::tempdir().unwrap(), Notes::default());
        let mut store = stored(dir.path());
        for content in [A, B] {
            fs::remove_file(store.path(&content)).unwrap();
            fs::create_dir(store.path(&content)).unwrap();
        }
        let theirs = store.path(&A).join("theirs");
        fs::write(&theirs, b"x").unwrap();
        const C: [u8; 32] = [3; 32];
        fs::write(store.path(&C).parent().unwrap(), b"x").unwrap();
        assert_eq!(store.whole(BTreeSet::from([A, B, C]), &notes), BTreeSet::new());
        assert!(notes.take().concat().contains("made again: 2 files of"));
        for (content, value) in [(A, 11.0), (B, 21.0), (C, 31.0)] {
            store.keep(&content, &rows(value), &notes).unwrap();
            assert_eq!(first(&store, &content), value);
        }
        let said = notes.take();
        assert!(said.len() == 1 && said[0].contains("kept for this run alone"), "{said:?}");
        // An empty folder makes room; what is somebody's stays.
        assert!(store.path(&B).is_file() && theirs.exists());
        let again = Store::new(store.folder.clone());
        assert_eq!(again.whole(BTreeSet::from([A, B, C]), &notes), BTreeSet::from([B]));
    }
}
