//! Sinks of training events: progress, metrics.jsonl, TensorBoard, summary.
//!
//! Training emits [`Event`]s and knows nothing of files or terminals; the sinks here show and store them. With `cli`
//! this is the only place that prints, and it prints to stderr: stdout belongs to data.

pub mod every;
pub mod jsonl;
pub mod logged;
pub mod problem;
pub mod progress_bar;
pub mod style;
pub mod summary;
pub mod tensorboard;
pub mod text;

pub use every::EveryNth;
pub use jsonl::JsonLines;
pub use progress_bar::ProgressBar;
pub use summary::{Evaluated, StopReason, Summary, Totals};
pub use tensorboard::TensorBoard;

use crate::error::Result;
use crate::train::event::{Event, Sink};
use std::cell::RefCell;
use std::rc::Rc;

/// Passes every event on to several sinks, in their order.
#[derive(Default)]
pub struct Sinks(Vec<Box<dyn Sink>>);

impl Sinks {
    /// No sinks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sink: owned, or as `Rc<RefCell<_>>` where its state is wanted while the run goes on.
    pub fn with(mut self, sink: impl Sink + 'static) -> Self {
        self.0.push(Box::new(sink));
        self
    }
}

impl Sink for Sinks {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.event(event))
    }

    fn flush(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.flush())
    }
}

/// A sink that someone else looks at between events: `metrics.borrow().position()` for a checkpoint.
impl<S: Sink> Sink for Rc<RefCell<S>> {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.borrow_mut().event(event)
    }

    fn flush(&mut self) -> Result<()> {
        self.borrow_mut().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::event::EvalEvent;

    /// Remembers the steps of what it sees.
    #[derive(Default)]
    struct Seen {
        steps: Vec<u64>,
        flushed: bool,
    }

    impl Sink for Seen {
        fn event(&mut self, event: &Event) -> Result<()> {
            if let Event::Step(step) = event {
                self.steps.push(step.step);
            }
            if let Event::Eval(eval) = event {
                self.steps.push(100 + eval.step);
            }
            Ok(())
        }

        fn flush(&mut self) -> Result<()> {
            self.flushed = true;
            Ok(())
        }
    }

    #[test]
    fn every_sink_sees_every_event_unless_thinned_out() {
        let (all, third) = (Rc::new(RefCell::new(Seen::default())), Rc::new(RefCell::new(Seen::default())));
        let mut sinks = Sinks::new().with(all.clone()).with(EveryNth::new(third.clone(), 3));
        for step in 1..=7 {
            sinks.event(&testing::step(step, 1.0)).unwrap();
        }
        sinks
            .event(&Event::Eval(EvalEvent {
                step: 7,
                epoch: 1.0,
                eval_loss: Some(1.0),
                eval_tokens: 1,
                ..EvalEvent::default()
            }))
            .unwrap();
        sinks.flush().unwrap();
        assert_eq!(all.borrow().steps, [1, 2, 3, 4, 5, 6, 7, 107]);
        assert_eq!(third.borrow().steps, [1, 3, 6, 107]);
        assert!(all.borrow().flushed && third.borrow().flushed);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Events for the tests of the sinks.

    use crate::train::event::{Event, StepEvent};

    /// Step `step` with `loss`; the other numbers are always the same.
    pub fn step(step: u64, loss: f64) -> Event {
        Event::Step(StepEvent {
            step,
            epoch: 0.25,
            loss,
            grad_norm: 0.5,
            grad_norms: std::collections::BTreeMap::default(),
            learning_rate: 2e-4,
            tokens: 512,
            supervised_tokens: 100,
            tokens_per_second: 812.5,
            skipped: 0,
            metrics: std::collections::BTreeMap::default(),
        })
    }
}
