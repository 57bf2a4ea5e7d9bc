use super::*;
use crate::adapter::Init;
use crate::adapter::init::{self, LoraOptions};
use crate::adapter::peft::testing::golden;
use crate::fence::injected;
use crate::model::{self, LanguageModel, ModelConfig};
use crate::nn::Segments;
use crate::progress::Silent;
use crate::random::Rng;
use crate::train::event::Doing;
use crate::train::objective::Sft;
use crate::train::optimizer::Rule;
use crate::train::recompute::Recompute;
use crate::train::schedule::Kind as Decay;
use crate::train::step::OneDevice;
use crate::weights::{Holding, Source};
use burn::tensor::Device;
use std::cell::RefCell;
use std::sync::Arc;

fn model() -> Box<dyn LanguageModel> {
    let source = Source::open_folder(&golden("text")).unwrap();
    let (config, _) = ModelConfig::from_folder(&golden("text")).unwrap();
    model::load(config, &source, &Holding::default(), &Device::flex(), &Silent).unwrap()
}

/// A new adapter and plain gradient descent, so that an update is its rate times the gradient.
fn state(model: &dyn LanguageModel) -> State {
    let options = LoraOptions { r: 2, lora_alpha: 4.0, use_rslora: false, use_dora: false, init: Init::Kaiming };
    let adapter = init::create(model, &model.sites(), options, Rng::new(1));
    State::new(adapter, Optimizer::new(Rule::Sgd { momentum: 0.0, weight_decay: 0.0 }))
}

/// Ten steps, with an evaluation before the first and after each.
fn plan() -> StepPlan {
    const STEPS: u64 = 10;
    StepPlan {
        total_steps: STEPS,
        schedule: Schedule::new(Decay::Linear, 0.1, 2, STEPS),
        step: StepSettings {
            objective: Arc::new(Sft),
            max_grad_norm: 0.0,
            recompute: Recompute::NOTHING,
            lora_dropout: 0.0,
            rng: Rng::new(1),
        },
        eval_steps: Some(1),
        eval_on_start: true,
        best_by: BestBy::default(),
        early_stopping_patience: None,
        keep_best: false,
        save_steps: 0,
    }
}

/// The same window again and again.
struct OneWindow;

impl Windows for OneWindow {
    fn len(&mut self, _: u64) -> Result<u64> {
        Ok(4)
    }

    fn window(&mut self, _: u64, _: u64) -> Result<Window> {
        let ids = vec![2u32, 7, 4, 9, 4, 11];
        let labels: Vec<i32> = ids.iter().map(|&id| id.cast_signed()).collect();
        let batch = MicroBatch::new(ids, &labels, Segments::from_lengths([6]));
        Ok(Window { batches: vec![batch], rows: vec![0], ..Window::default() })
    }

    fn origins(&self, _: &[u32]) -> Result<Vec<String>> {
        Ok(vec!["rows.jsonl, row 1".into()])
    }
}

/// Three micro-batches in each window.
struct Three;

impl Windows for Three {
    fn len(&mut self, epoch: u64) -> Result<u64> {
        OneWindow.len(epoch)
    }

    fn window(&mut self, epoch: u64, index: u64) -> Result<Window> {
        let mut window = OneWindow.window(epoch, index)?;
        window.batches = vec![window.batches[0].clone(); 3];
        Ok(window)
    }

    fn origins(&self, rows: &[u32]) -> Result<Vec<String>> {
        OneWindow.origins(rows)
    }
}

/// Whether an event is the one that is waited for.
type Is = fn(&Event) -> bool;

/// Presses Ctrl-C at an event.
struct Press<'a>(Log, &'a AtomicBool, Is);

impl Sink for Press<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        if self.2(event) {
            self.1.store(true, Ordering::SeqCst);
        }
        self.0.event(event)
    }
}

impl Outputs for Press<'_> {
    fn save(&mut self, state: &State) -> Result<PathBuf> {
        self.0.save(state)
    }
}

/// What a run said.
#[derive(Default)]
struct Log(Vec<Event>);

impl Sink for Log {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.0.push(event.clone());
        Ok(())
    }
}

impl Outputs for Log {
    fn save(&mut self, state: &State) -> Result<PathBuf> {
        Ok(format!("step-{}", state.position.step).into())
    }
}

/// What the evaluation before the first step finds, and that after each.
const LOSSES: [f64; 11] = [5.0, 4.0, 4.5, 4.0, 3.9, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6];

/// Runs a plan whose evaluations find [`LOSSES`]; presses Ctrl-C in the one after `stop_at` steps.
fn run_on(state: &mut State, plan: &StepPlan, stop_at: Option<u64>) -> (Ending, Log) {
    let (model, stop, mut log) = (model(), AtomicBool::new(false), Log::default());
    let done = RefCell::new(state.position.evaluated.map_or(0, |step| step as usize + 1));
    let evaluate = |_: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
        let mut done = done.borrow_mut();
        stop.store(stop_at == Some(*done as u64), Ordering::SeqCst);
        *done += 1;
        Ok(Evaluation { loss: Some(LOSSES[*done - 1]), tokens: 5, metrics: Default::default(), samples: Vec::new() })
    };
    let ending = run(&OneDevice(&*model), state, plan, &mut OneWindow, Some(&evaluate), &mut log, &stop).unwrap();
    (ending, log)
}

#[test]
fn a_run_stops_after_as_many_evaluations_without_improvement_as_it_has_patience() {
    for (patience, ending, steps) in [
        (None, Ending::Done, 10),
        (Some(1), Ending::StoppedEarly, 2),
        (Some(2), Ending::StoppedEarly, 3), // the same loss again is no improvement
        (Some(3), Ending::StoppedEarly, 7),
        (Some(6), Ending::StoppedEarly, 10),
        (Some(7), Ending::Done, 10),
    ] {
        let mut state = state(&*model());
        let (ended, log) = run_on(&mut state, &StepPlan { early_stopping_patience: patience, ..plan() }, None);
        assert_eq!((ended, state.position.step), (ending, steps), "{patience:?}");
        assert_eq!(log.0.last(), Some(&Event::Finished { step: steps }), "{patience:?}");
        let evaluations = log.0.iter().filter(|event| matches!(event, Event::Eval(_))).count();
        assert_eq!(evaluations as u64, steps + 1, "{patience:?}");
    }
}

#[test]
fn any_metric_of_an_evaluation_tells_the_best_one() {
    let (model, stop) = (model(), AtomicBool::new(false));
    let best_by = |metric: &str, greater_is_better| BestBy { metric: metric.into(), greater_is_better };
    // The loss is the least after 4 steps, and the reward the greatest after 7; there is no number for it before the third.
    for (loss, best_by, step) in [
        (Some(()), best_by("eval_loss", false), 4),
        (Some(()), best_by("eval_loss", true), 10),
        (Some(()), best_by("eval_reward", true), 7),
        (None, best_by("eval_reward", true), 7),
        (None, best_by("eval_reward", false), 2),
    ] {
        let done = RefCell::new(0u64);
        let evaluate = |_: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
            let step = done.replace_with(|done| *done + 1);
            let [loss_of, reward] = [step.abs_diff(4) as f64, 10.0 - step.abs_diff(7) as f64];
            let reward = if step < 2 { f64::NAN } else { reward };
            let metrics = [("reward".to_owned(), reward)].into();
            Ok(Evaluation { loss: loss.map(|()| loss_of), tokens: 5, metrics, samples: Vec::new() })
        };
        let (mut state, mut log) = (state(&*model), Log::default());
        let plan = StepPlan { best_by: best_by.clone(), ..plan() };
        run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, Some(&evaluate), &mut log, &stop).unwrap();
        assert_eq!(state.position.best.map(|best| best.step), Some(step), "{best_by:?}");
        let mut best = log.0.iter().filter_map(|event| match event {
            Event::Eval(event) if event.is_best => Some(event),
            _ => None,
        });
        let last = best.next_back().unwrap();
        assert_eq!((last.step, last.get(&best_by.metric)), (step, state.position.best.map(|best| best.value)));
    }
    // Rows of one kind may give less than others.
    let evaluate = |_: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
        let metrics = [("reward".to_owned(), 1.0)].into();
        Ok(Evaluation { loss: Some(1.0), tokens: 5, metrics, samples: Vec::new() })
    };
    let plan = StepPlan { best_by: best_by("eval_rewards/margins", true), ..plan() };
    let mut state = state(&*model);
    let ended =
        run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, Some(&evaluate), &mut Log::default(), &stop);
    let error = ended.unwrap_err();
    assert_eq!(error.what(), "the evaluation rows give no `eval_rewards/margins`");
    assert_eq!((error.exit_code(), error.hint_text()), (2, Some("they give `eval_loss`, `eval_reward`")));
    // As a run before wrote it.
    let best: Best = serde_json::from_str(r#"{"step": 4, "eval_loss": 0.5}"#).unwrap();
    assert_eq!(best, Best { step: 4, value: 0.5 });
}

#[test]
fn patience_outlives_an_interruption() {
    let mut state = state(&*model());
    let plan = StepPlan { early_stopping_patience: Some(3), ..plan() };
    assert_eq!(run_on(&mut state, &plan, Some(6)).0, Ending::Interrupted);
    assert_eq!((state.position.step, state.position.evaluations_since_best), (6, 2));
    let position = serde_json::to_string(&state.position).unwrap();
    state.position = serde_json::from_str(&position).unwrap();
    assert_eq!(run_on(&mut state, &plan, None).0, Ending::StoppedEarly);
    assert_eq!(state.position.step, 7);
}

#[test]
fn the_best_adapter_is_kept_and_the_last_one_is_another() {
    let (model, stop) = (model(), AtomicBool::new(false));
    for (keep_best, patience) in [(true, None), (true, Some(2)), (false, None)] {
        let seen = RefCell::new(Vec::new());
        let evaluate = |adapter: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
            let mut seen = seen.borrow_mut();
            seen.push(Tensors::from_device(&adapter.parameters()));
            // The best evaluation is that after four steps.
            Ok(Evaluation {
                loss: Some((seen.len() as f64 - 5.0).abs()),
                tokens: 5,
                metrics: Default::default(),
                samples: Vec::new(),
            })
        };
        let mut state = state(&*model);
        let plan = StepPlan { keep_best, early_stopping_patience: patience, ..plan() };
        run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, Some(&evaluate), &mut Log::default(), &stop)
            .unwrap();
        let seen = seen.into_inner();
        assert_eq!(state.position.best, Some(Best { step: 4, value: 0.0 }));
        assert_eq!(state.best_adapter.as_ref(), keep_best.then(|| &seen[4]));
        let last = Tensors::from_device(&state.adapter.parameters());
        assert_eq!(last, seen[if patience.is_some() { 6 } else { 10 }]);
        assert_ne!(last, seen[4]);
    }
}

/// The rates that a run tells are those of its schedule, the first update's first, and its updates have them.
#[test]
fn each_update_has_its_own_learning_rate() {
    let (model, stop) = (model(), AtomicBool::new(false));
    let seen = RefCell::new(Vec::new());
    let evaluate = |adapter: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
        seen.borrow_mut().push(adapter.parameters());
        Ok(Evaluation { loss: Some(1.0), tokens: 5, metrics: Default::default(), samples: Vec::new() })
    };
    let (mut state, mut log) = (state(&*model), Log::default());
    run(&OneDevice(&*model), &mut state, &plan(), &mut OneWindow, Some(&evaluate), &mut log, &stop).unwrap();
    let steps = log.0.iter().filter_map(|event| if let Event::Step(step) = event { Some(step) } else { None });
    // Up in two steps, down in eight.
    let rates = [0.0, 0.05, 0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125];
    for (((number, step), rate), ends) in (1..).zip(steps).zip(rates).zip(seen.borrow().windows(2)) {
        assert_eq!(step.step, number);
        assert!((step.learning_rate - rate).abs() < 1e-15, "step {number}: {}", step.learning_rate);
        let moved: Vec<_> = ends[0].iter().zip(&ends[1]).map(|(from, to)| to.clone() - from.clone()).collect();
        let (moved, expected) = (step::norm(&moved), rate * step.grad_norm);
        assert!((moved - expected).abs() <= 1e-4 * expected, "step {number}: moved by {moved} instead of {expected}");
    }
    assert_eq!(seen.borrow().len(), rates.len() + 1);
}

#[test]
fn a_step_that_is_stopped_changes_nothing_and_is_taken_again() {
    let model = model();
    let plan = StepPlan { eval_steps: None, eval_on_start: false, total_steps: 3, ..plan() };
    let mut whole = state(&*model);
    let never = AtomicBool::new(false);
    run(&OneDevice(&*model), &mut whole, &plan, &mut Three, None, &mut Log::default(), &never).unwrap();

    let first: Is = |event| matches!(event, Event::MicroBatch(e) if e.step == 1 && e.done == 1);
    let third: Is = |event| matches!(event, Event::MicroBatch(e) if e.step == 3 && e.done == 2);
    let mut stopped = state(&*model);
    for (press, steps, saved) in [(first, 0, None), (third, 2, Some("step-2"))] {
        let stop = AtomicBool::new(false);
        let mut log = Press(Log::default(), &stop, press);
        let ending = run(&OneDevice(&*model), &mut stopped, &plan, &mut Three, None, &mut log, &stop).unwrap();
        assert_eq!((ending, stopped.position.step), (Ending::Interrupted, steps));
        let path =
            log.0.0.iter().find_map(|event| if let Event::Saved { path, .. } = event { path.to_str() } else { None });
        assert_eq!(path, saved, "nothing is saved before the first step");
    }
    let mut log = Log::default();
    assert_eq!(
        run(&OneDevice(&*model), &mut stopped, &plan, &mut Three, None, &mut log, &never).unwrap(),
        Ending::Done
    );
    let parameters = |state: &State| Tensors::from_device(&state.adapter.parameters());
    assert_eq!(parameters(&stopped), parameters(&whole));
    let parts = log
        .0
        .iter()
        .filter_map(|event| if let Event::MicroBatch(e) = event { Some((e.step, e.done, e.of)) } else { None });
    assert_eq!(parts.collect::<Vec<_>>(), [(3, 1, 3), (3, 2, 3)], "the last one is the step");
}

#[test]
fn an_evaluation_that_is_stopped_is_not_in_the_books() {
    let (model, stop) = (model(), AtomicBool::new(false));
    let evaluate = |_: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
        stop.store(true, Ordering::SeqCst);
        Err(Error::new(Kind::Interrupted, "stopped"))
    };
    let mut stopped = state(&*model);
    let plan = StepPlan { eval_on_start: false, eval_steps: Some(10), total_steps: 1, ..plan() };
    let mut log = Log::default();
    let ending =
        run(&OneDevice(&*model), &mut stopped, &plan, &mut OneWindow, Some(&evaluate), &mut log, &stop).unwrap();
    assert_eq!((ending, stopped.position.evaluated), (Ending::Interrupted, None), "the last step is not the end yet");
    assert!(log.0.iter().any(|event| matches!(event, Event::Saved { step: 1, .. })));
    let (ending, log) = run_on(&mut stopped, &plan, None);
    assert_eq!(ending, Ending::Done);
    assert!(log.0.iter().any(|event| matches!(event, Event::Eval(e) if e.step == 1)));
}

#[test]
fn the_end_is_saved_and_a_run_that_stopped_early_stays_stopped() {
    let mut ended = state(&*model());
    let plan = StepPlan { early_stopping_patience: Some(2), save_steps: 100, ..plan() };
    let (ending, log) = run_on(&mut ended, &plan, None);
    assert_eq!(ending, Ending::StoppedEarly);
    assert!(log.0.iter().any(|event| matches!(event, Event::Saved { step: 3, .. })), "{:?}", log.0);
    let (again, log) = run_on(&mut ended, &plan, None);
    assert_eq!((again, ended.position.step), (Ending::StoppedEarly, 3));
    assert!(!log.0.iter().any(|event| matches!(event, Event::Step(_) | Event::Saved { .. })), "{:?}", log.0);
}

/// No space left.
struct Full(Log);

impl Sink for Full {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.0.event(event)
    }
}

impl Outputs for Full {
    fn save(&mut self, _: &State) -> Result<PathBuf> {
        Err(Error::new(Kind::NoSpace, "no space left while saving"))
    }
}

#[test]
fn a_last_checkpoint_that_cannot_be_saved_costs_no_adapter() {
    let model = model();
    let plan = StepPlan { total_steps: 2, save_steps: 5, ..plan() };
    let (mut state, mut full) = (state(&*model), Full(Log::default()));
    let ending = run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, None, &mut full, &AtomicBool::new(false));
    assert_eq!(ending.unwrap(), Ending::Done);
    let why = "no space left while saving".to_owned();
    assert!(full.0.0.contains(&Event::NotSaved { step: 2, why }));
    let plan = StepPlan { total_steps: 9, ..plan };
    let during = run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, None, &mut full, &AtomicBool::new(false));
    assert_eq!(during.unwrap_err().kind(), Kind::NoSpace, "there is more to lose");
}

/// What was done before a device failed is saved, and the run goes on from there as if nothing had been.
#[test]
fn a_device_that_fails_costs_the_step_and_no_other() {
    let model = model();
    let never = AtomicBool::new(false);
    let plan = StepPlan { eval_steps: Some(2), eval_on_start: false, ..plan() };
    let evaluate = |_: &Adapter, _: u64, _: &mut dyn FnMut(Underway)| {
        Ok(Evaluation { loss: Some(1.0), tokens: 5, metrics: Default::default(), samples: Vec::new() })
    };
    let mut whole = state(&*model);
    run(&OneDevice(&*model), &mut whole, &plan, &mut OneWindow, Some(&evaluate), &mut Log::default(), &never).unwrap();
    for (doing, said, kind, steps) in [
        ("step 1", "out of device memory allocating 5 bytes", Kind::OutOfMemory, 0),
        ("step 4", "out of device memory allocating 5 bytes", Kind::OutOfMemory, 3),
        ("step 10", "an illegal address", Kind::Computing, 9),
        ("the evaluation after step 6", "an illegal address", Kind::Computing, 6),
    ] {
        let (mut failing, mut log) = (state(&*model), Log::default());
        injected::next(doing, said);
        let failed = run(&OneDevice(&*model), &mut failing, &plan, &mut OneWindow, Some(&evaluate), &mut log, &never)
            .unwrap_err();
        assert_eq!((failed.kind(), failed.exit_code()), (kind, 1), "{doing}");
        assert!(failed.what().starts_with(&format!("{doing}: the device ")), "{failed}");
        assert_eq!(failing.position.step, steps, "{doing}");
        let saved = log.0.iter().filter(|event| matches!(event, Event::Saved { step, .. } if *step == steps)).count();
        assert_eq!(saved, usize::from(steps > 0), "{doing}: {:?}", log.0);
        let mut log = Log::default();
        run(&OneDevice(&*model), &mut failing, &plan, &mut OneWindow, Some(&evaluate), &mut log, &never).unwrap();
        let parameters = |state: &State| Tensors::from_device(&state.adapter.parameters());
        assert_eq!(parameters(&failing), parameters(&whole), "{doing}");
    }
}

#[test]
fn what_a_failed_update_left_is_not_saved() {
    let (model, never) = (model(), AtomicBool::new(false));
    let plan = StepPlan { eval_steps: None, eval_on_start: false, ..plan() };
    let (mut state, mut log) = (state(&*model), Log::default());
    injected::next("step 3", "an illegal address");
    run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, None, &mut log, &never).unwrap_err();
    assert!(state.is_whole() && log.0.iter().any(|event| matches!(event, Event::Saved { step: 2, .. })));
    // An update that began and is in no step.
    let parameters = state.adapter.parameters();
    state.optimizer.step(0.0, parameters.clone(), parameters);
    assert!(!state.is_whole());
    let mut log = Log::default();
    injected::next("step 4", "an illegal address");
    run(&OneDevice(&*model), &mut state, &plan, &mut OneWindow, None, &mut log, &never).unwrap_err();
    assert_eq!(state.position.step, 3);
    assert!(!log.0.iter().any(|event| matches!(event, Event::Saved { .. })), "{:?}", log.0);
}

/// A window that is waited for.
struct Awaited;

impl Windows for Awaited {
    fn len(&mut self, epoch: u64) -> Result<u64> {
        OneWindow.len(epoch)
    }

    fn window(&mut self, epoch: u64, index: u64) -> Result<Window> {
        OneWindow.window(epoch, index)
    }

    fn next(
        &mut self,
        position: &Position,
        _: &Adapter,
        tell: &mut dyn FnMut(Underway),
        _: &AtomicBool,
    ) -> Result<Option<Window>> {
        tell(Underway { doing: Doing::Answering, done: 1, of: 2, tokens: 9 });
        self.window(position.epoch, position.window).map(Some)
    }

    fn origins(&self, rows: &[u32]) -> Result<Vec<String>> {
        OneWindow.origins(rows)
    }
}

#[test]
fn what_a_step_waits_for_and_what_an_evaluation_does_is_told() {
    let (model, never, mut log) = (model(), AtomicBool::new(false), Log::default());
    let asked = RefCell::new(Vec::new());
    let evaluate = |_: &Adapter, step: u64, tell: &mut dyn FnMut(Underway)| {
        asked.borrow_mut().push(step);
        tell(Underway { doing: Doing::Reading, done: 3, of: 4, tokens: 0 });
        Ok(Evaluation { loss: Some(1.0), tokens: 5, metrics: Default::default(), samples: Vec::new() })
    };
    let plan = StepPlan { total_steps: 2, ..plan() };
    run(&OneDevice(&*model), &mut state(&*model), &plan, &mut Awaited, Some(&evaluate), &mut log, &never).unwrap();
    let told = log.0.iter().filter_map(|event| match event {
        Event::Underway(told) => Some((told.step, told.is_evaluation, told.underway.doing, told.underway.done)),
        _ => None,
    });
    let (evaluation, step) = ((true, Doing::Reading, 3), (false, Doing::Answering, 1));
    let expected = [(0, evaluation), (1, step), (1, evaluation), (2, step), (2, evaluation)];
    assert_eq!(told.collect::<Vec<_>>(), expected.map(|(number, (is, doing, done))| (number, is, doing, done)));
    assert_eq!(*asked.borrow(), [0, 1, 2]);

    // Who cannot take that down ends the run.
    struct Full;
    impl Sink for Full {
        fn event(&mut self, event: &Event) -> Result<()> {
            match event {
                Event::Underway(_) => Err(Error::new(Kind::Run, "the disk is full")),
                _ => Ok(()),
            }
        }
    }
    impl Outputs for Full {
        fn save(&mut self, _: &State) -> Result<PathBuf> {
            Ok(PathBuf::new())
        }
    }
    for evaluate in [Some(&evaluate as &Evaluate), None] {
        let mut state = state(&*model);
        let error = run(&OneDevice(&*model), &mut state, &plan, &mut Awaited, evaluate, &mut Full, &never).unwrap_err();
        assert_eq!((error.what(), state.position.step), ("the disk is full", 0));
    }
}
