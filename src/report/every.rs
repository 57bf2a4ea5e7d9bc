//! Thinning out: `logging_steps`.

use crate::error::Result;
use crate::train::event::{Event, Sink};

/// Passes on the first step and every `n`th, and all other events.
pub struct EveryNth<S> {
    sink: S,
    n: u64,
}

impl<S: Sink> EveryNth<S> {
    /// Thins out what `sink` sees; with an `n` of 0 or 1 it sees every step.
    pub fn new(sink: S, n: u64) -> Self {
        Self { sink, n: n.max(1) }
    }
}

impl<S: Sink> Sink for EveryNth<S> {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) if step.step != 1 && !step.step.is_multiple_of(self.n) => Ok(()),
            event => self.sink.event(event),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.sink.flush()
    }
}
