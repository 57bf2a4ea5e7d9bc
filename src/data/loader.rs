//! Batches prepared ahead on a thread, while the model is busy with earlier ones.

use super::batch::{PackedBatch, collate};
use super::dataset::Dataset;
use super::plan::Epoch;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// The micro-batches of an epoch, in order. Dropping it ends its thread.
pub struct Loader {
    batches: Option<Receiver<Result<PackedBatch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts loading micro-batches of `batch_size` bins, from number `first` (from 0) to the end of `epoch`; at most
    /// `ahead` wait to be taken.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        dataset: Arc<Dataset>,
        epoch: Arc<Epoch>,
        batch_size: usize,
        first: usize,
        ahead: usize,
    ) -> Result<Self> {
        let (sender, batches) = sync_channel(ahead);
        let batch_size = batch_size.max(1);
        let work = move || {
            for batch in first..epoch.batches(batch_size) {
                let bins = batch * batch_size..epoch.len().min((batch + 1) * batch_size);
                let bins: Vec<&[u32]> = bins.map(|bin| epoch.bin(bin)).collect();
                let batch = collate(&dataset, &bins);
                let failed = batch.is_err();
                // Sending fails when the loader was dropped.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("data loader".into())
            .spawn(work)
            .map_err(|e| Error::new(Kind::Run, "the data loader's thread could not be started").caused_by(e))?;
        Ok(Loader { batches: Some(batches), thread: Some(thread) })
    }
}

impl Iterator for Loader {
    type Item = Result<PackedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.batches.as_ref()?.recv() {
            return Some(batch);
        }
        self.batches = None;
        // The thread is over: at its end, or by a panic that must not pass for an end of the data.
        match self.thread.take()?.join() {
            Ok(()) => None,
            Err(_) => Some(Err(Error::new(Kind::Run, "the data loader's thread failed"))),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // First the receiver: a thread that waits to send wakes up and ends.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::testing::{Bytes, spec, write};
    use super::super::{RowFormat, local_only, prepare};
    use super::*;
    use crate::progress::Silent;

    fn data(dir: &std::path::Path) -> (Arc<Dataset>, Arc<Epoch>) {
        let lines: String = (0..50).map(|i| format!("{{\"text\": \"{}\"}}\n", "x".repeat(i % 7 + 1))).collect();
        let path = write(dir, "a.jsonl", lines);
        let dataset = prepare(&spec(&path, RowFormat::Text), &Bytes, &dir.join("cache"), &local_only, &Silent).unwrap();
        let plan = Plan { packing: true, max_length: 16, shuffle: true, seed: 3 };
        let epoch = plan.epoch(&dataset, 0).unwrap();
        (Arc::new(dataset), Arc::new(epoch))
    }

    #[test]
    fn batches_come_in_order_and_from_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let (dataset, epoch) = data(dir.path());
        let all: Vec<_> = Loader::start(dataset.clone(), epoch.clone(), 4, 0, 2).unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len(), epoch.batches(4));
        let rows: Vec<u32> = all.iter().flat_map(|batch| batch.rows.iter().copied()).collect();
        assert_eq!(rows, epoch.bins().flatten().copied().collect::<Vec<_>>());
        let resumed: Vec<_> = Loader::start(dataset, epoch, 4, 2, 1).unwrap().map(Result::unwrap).collect();
        assert_eq!(resumed, all[2..]);
    }

    #[test]
    fn stopping_early_ends_the_thread() {
        let dir = tempfile::tempdir().unwrap();
        let (dataset, epoch) = data(dir.path());
        let mut loader = Loader::start(dataset.clone(), epoch, 1, 0, 1).unwrap();
        loader.next().unwrap().unwrap();
        drop(loader);
        assert_eq!(Arc::strong_count(&dataset), 1);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_the_last_item() {
        let dir = tempfile::tempdir().unwrap();
        let (dataset, epoch) = data(dir.path());
        let cache = std::fs::read_dir(dir.path().join("cache")).unwrap().map(|e| e.unwrap().path());
        let rows = cache.into_iter().find(|path| path.extension().is_some_and(|e| e == "rows")).unwrap();
        std::fs::OpenOptions::new().write(true).open(rows).unwrap().set_len(100).unwrap();
        let batches: Vec<_> = Loader::start(dataset, epoch, 4, 0, 2).unwrap().collect();
        let (last, before) = batches.split_last().unwrap();
        assert!(last.is_err() && before.iter().all(Result::is_ok));
    }
}
