//! Several replicas of a model that share out the micro-batches of a window.
//!
//! Each takes the next micro-batch that none has begun, and computes its loss and gradients alone. They are added up here,
//! in the order of the micro-batches, so that the sum does not show who computed what, or how many there are. A replica may
//! be one micro-batch ahead of the sum, and then waits: what it holds is bounded, however uneven micro-batches are.

use crate::adapter::Adapter;
use crate::error::{Error, Kind, Result};
use crate::guard::{Panic, watched};
use crate::model::LanguageModel;
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::Score;
use crate::train::step::{Computed, Pass, Passed, StepSettings, Sum, Watch, WindowGradients};
use burn::tensor::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Memory is taken only where a stack reaches.
const STACK_BYTES: usize = 16 << 20;

/// Models on one device each, or one model that several groups of threads compute with.
#[derive(Debug)]
pub struct Replicas<'a>(Vec<Replica<'a>>);

/// A model, and the threads that compute with it.
#[derive(Debug)]
struct Replica<'a> {
    model: &'a dyn LanguageModel,
    threads: ThreadPool,
}

impl<'a> Replicas<'a> {
    /// Replicas of so many threads each. `models` are the same weights, each where it computes; on the CPU one may stand for
    /// several replicas.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(models: &[&'a dyn LanguageModel], threads: usize) -> Result<Self> {
        let replica = |&model: &&'a dyn LanguageModel| {
            let threads = ThreadPoolBuilder::new().num_threads(threads.max(1)).stack_size(STACK_BYTES).build();
            let threads = threads.map_err(|e| {
                Error::new(Kind::Run, format!("the threads of {} replicas cannot be started: {e}", models.len()))
                    .hint("name fewer devices; `ulimit -u` and `ulimit -v` show what the system allows")
            })?;
            Ok(Replica { model, threads })
        };
        models.iter().map(replica).collect::<Result<_>>().map(Replicas)
    }
}

impl WindowGradients for Replicas<'_> {
    fn gradients(
        &self,
        adapter: &Adapter,
        window: &[MicroBatch],
        step: u64,
        settings: &StepSettings,
        watch: Watch,
    ) -> Option<Computed> {
        let mut sum = Sum::new(adapter, window, settings);
        let pass = Pass { step, goal: sum.goal(), settings };
        let (next, added) = (AtomicUsize::new(0), Added::default());
        let shared = Shared { adapter, window, pass, stop: watch.stop, next, added };
        let (tell, told) = channel();
        let work = |replica: &Replica| {
            if let Err(panic) = watched(|| shared.work(replica.model, &tell)) {
                let _ = tell.send(Said::Failed(panic)); // nobody listens where the window was left already
            }
        };
        let replicas = self.0.get(..window.len()).unwrap_or(&self.0);
        let end = at_once(replicas, &work, &mut || {
            let _whatever_happens = GivenUp(&shared.added);
            add_up(&told, &mut sum, &shared.added, watch.on_progress)
        });
        match end {
            End::Whole => Some(sum.finish(adapter)),
            End::Stopped => None,
            // As if it had been computed here: whoever runs the loop knows what to do about it.
            End::Failed(panic) => panic.resume(),
        }
    }
}

/// Runs `work` on the threads of each replica, and `beside` here meanwhile. A replica's work begins on the same thread of
/// its own each time: a GPU's queue and the memory that it keeps for later belong to a thread.
fn at_once(replicas: &[Replica], work: &(dyn Fn(&Replica) + Sync), beside: &mut dyn FnMut() -> End) -> End {
    let Some((replica, others)) = replicas.split_first() else { return beside() };
    replica.threads.in_place_scope(|scope| {
        scope.spawn_broadcast(move |_, thread| {
            if thread.index() == 0 {
                work(replica);
            }
        });
        at_once(others, work, beside)
    })
}

/// What the replicas of a window share.
struct Shared<'w> {
    adapter: &'w Adapter,
    window: &'w [MicroBatch],
    pass: Pass<'w>,
    stop: &'w AtomicBool,
    /// The micro-batch that none has begun.
    next: AtomicUsize,
    added: Added,
}

/// What a replica says.
enum Said {
    /// Part of a micro-batch is done, from 0 to 1.
    Part { micro: usize, part: f64 },
    /// A micro-batch is done: what the objective says of it, and its gradients where the replica computes.
    Done { micro: usize, score: Score, gradients: Vec<Option<Tensor<2>>> },
    /// The window is left, as the user wished.
    Stopped,
    /// The replica failed, with this to say.
    Failed(Panic),
}

impl Shared<'_> {
    /// Computes micro-batches until there are no more.
    fn work(&self, model: &dyn LanguageModel, tell: &Sender<Said>) {
        let device = model.device();
        let adapter = self.adapter.to_device(device);
        let parameters = adapter.parameters().len();
        // Micro-batches in the sum once it has this replica's last one.
        let mut last = 0;
        loop {
            let micro = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = self.window.get(micro) else { return };
            let batch = batch.to_device(device);
            let mut gradients = vec![None; parameters];
            let mut go_on = |part| {
                let _ = tell.send(Said::Part { micro, part });
                !self.stop.load(Ordering::Relaxed) && !self.added.is_given_up()
            };
            let score = self.pass.accumulate(&mut go_on, model, &adapter, (micro, &batch), &mut gradients);
            let Some(score) = score else {
                let _ = tell.send(Said::Stopped);
                return;
            };
            if !self.added.wait_for(last) {
                return;
            }
            let _ = tell.send(Said::Done { micro, score, gradients });
            last = micro + 1;
        }
    }
}

/// How a window ended.
enum End {
    Whole,
    Stopped,
    Failed(Panic),
}

/// Adds up what replicas say, in the order of micro-batches.
fn add_up(told: &Receiver<Said>, sum: &mut Sum, added: &Added, on_progress: &mut dyn FnMut(Passed)) -> End {
    let mut parts = BTreeMap::new(); // of micro-batches that are not in the sum
    let mut waiting = BTreeMap::new();
    while !sum.is_whole() {
        match told.recv() {
            Ok(Said::Part { micro, part }) => {
                parts.insert(micro, part);
                on_progress(passed(sum.done(), &parts));
            }
            Ok(Said::Done { micro, score, gradients }) => {
                parts.insert(micro, 1.0);
                waiting.insert(micro, (score, gradients));
                while let Some((score, gradients)) = waiting.remove(&sum.done()) {
                    parts.remove(&sum.done());
                    let passed = sum.add(&score, gradients);
                    added.set(sum.done());
                    on_progress(passed);
                }
            }
            Ok(Said::Failed(panic)) => return End::Failed(panic),
            Ok(Said::Stopped) | Err(_) => return End::Stopped,
        }
    }
    End::Whole
}

/// How far a window is, as if its micro-batches were computed one after the other.
fn passed(done: usize, parts: &BTreeMap<usize, f64>) -> Passed {
    let all = done as f64 + parts.values().sum::<f64>();
    Passed::Part { micro_batch: all as usize + 1, part: all.fract() }
}

/// How many micro-batches are in the sum, for replicas that wait for it.
#[derive(Debug, Default)]
struct Added {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Added {
    fn set(&self, count: usize) {
        self.state().0 = count;
        self.changed.notify_all();
    }

    fn give_up(&self) {
        self.state().1 = true;
        self.changed.notify_all();
    }

    fn is_given_up(&self) -> bool {
        self.state().1
    }

    /// Waits until so many are in the sum; no if there will never be.
    fn wait_for(&self, count: usize) -> bool {
        let is_ahead = |&mut (added, is_given_up): &mut (usize, bool)| added < count && !is_given_up;
        let state = self.changed.wait_while(self.state(), is_ahead).unwrap_or_else(PoisonError::into_inner);
        !state.1
    }

    fn state(&self) -> MutexGuard<'_, (usize, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets nobody wait for a sum any more once it is gone.
struct GivenUp<'a>(&'a Added);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

#[cfg(test)]
mod tests;
