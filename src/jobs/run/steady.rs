//! A base that stays what it is while a run reads it from its file.

use crate::adapter::Adapter;
use crate::error::{Error, Kind, Result};
use crate::train::event::Underway;
use crate::train::run::{Position, Window, Windows};
use crate::weights::Source;
use std::sync::atomic::AtomicBool;

/// Windows that are only given as long as the base is what it was when the run began.
///
/// Weights that are held as they are stored stay in their file: who writes into it changes the model under the adapter. Who
/// cuts it short ends the process with a bus error where a step is reading just then; between two steps it is noticed here.
pub struct Steady<'a> {
    inner: Box<dyn Windows + 'a>,
    source: &'a Source,
    fingerprint: &'a str,
    /// Whether anything is read from the file.
    is_in_use: bool,
}

impl<'a> Steady<'a> {
    /// The windows of `inner`, for a base with this fingerprint.
    pub fn new(inner: Box<dyn Windows + 'a>, source: &'a Source, fingerprint: &'a str, is_in_use: bool) -> Self {
        Steady { inner, source, fingerprint, is_in_use }
    }

    fn check(&self) -> Result<()> {
        if !self.is_in_use {
            return Ok(());
        }
        self.source.check_steady(self.fingerprint).map_err(|error| {
            let what = format!("the base is no longer what this run is trained on: {}", error.what());
            Error::new(Kind::Run, what).at_path(self.source.path()).hint(
                "put the file back as it was, then `--resume` goes on from the last checkpoint; `model.quantization: none` \
                 keeps the weights in memory",
            )
        })
    }
}

impl Windows for Steady<'_> {
    fn len(&mut self, epoch: u64) -> Result<u64> {
        self.inner.len(epoch)
    }

    fn window(&mut self, epoch: u64, index: u64) -> Result<Window> {
        self.check()?;
        self.inner.window(epoch, index)
    }

    fn next(
        &mut self,
        position: &Position,
        adapter: &Adapter,
        tell: &mut dyn FnMut(Underway),
        stop: &AtomicBool,
    ) -> Result<Option<Window>> {
        self.check()?;
        self.inner.next(position, adapter, tell, stop)
    }

    fn origins(&self, rows: &[u32]) -> Result<Vec<String>> {
        self.inner.origins(rows)
    }
}
