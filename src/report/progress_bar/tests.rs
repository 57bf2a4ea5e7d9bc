use super::*;
use crate::report::testing::step;
use crate::train::event::{EvalEvent, Sample};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines so far, with the times (which vary) cut off.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.split(" in ").next().unwrap().trim_end_matches(" left").to_owned()).collect()
    }
}

#[test]
fn one_of_many_things_is_called_by_its_own_name() {
    for (units, one) in [("matrices", "1 matrix"), ("rows", "1 row"), ("questions", "1 question")] {
        let log = Log::default();
        let bar = ProgressBar::lines(log.clone(), Duration::ZERO);
        bar.start("Measuring", Some(127), units);
        bar.advance(1);
        Progress::finish(&bar);
        assert_eq!(log.lines(), [format!("Measuring: {one} of 127 {units}"), format!("Measuring: {one}")]);
    }
}

#[test]
fn a_log_shows_the_first_and_last_step_the_news_and_what_the_interval_allows() {
    let log = Log::default();
    let mut bar = ProgressBar::lines(log.clone(), Duration::from_secs(3_600));
    bar.event(&Event::Started { step: 0, total_steps: 4 }).unwrap();
    (1..=4).for_each(|n| bar.event(&step(n, 1.5)).unwrap());
    bar.event(&Event::Eval(EvalEvent {
        step: 4,
        epoch: 1.0,
        eval_loss: Some(1.25),
        eval_tokens: 9,
        ..EvalEvent::default()
    }))
    .unwrap();
    bar.event(&Event::SkippedStep { step: 5, why: "loss is NaN".into(), rows: vec!["a.jsonl, row 3".into()] }).unwrap();
    let sample = Sample { prompt: "Hi".into(), completion: " \x1b[31mHo\n".into(), reference: "Hey".into() };
    bar.event(&Event::Sample(SampleEvent { step: 4, number: 1, sample })).unwrap();
    bar.event(&Event::Saved { step: 4, path: "out/checkpoints/step-4".into() }).unwrap();
    bar.event(&Event::Finished { step: 4 }).unwrap();
    let lines = log.lines();
    assert!(lines[0].starts_with("4 steps will take about "), "{}", lines[0]);
    assert!(lines[1].starts_with("step 1/4 · loss 1.5000 · 813 tokens/s · "), "{}", lines[1]);
    assert_eq!(
        lines[2..],
        [
            "step 4/4 · loss 1.5000 (smoothed 1.5000) · 813 tokens/s · 0.0 s",
            "step 4: eval loss 1.2500",
            "step 5: update skipped: loss is NaN (rows: a.jsonl, row 3)",
            "step 4: Hi -> ␛[31mHo",
            "step 4: saved out/checkpoints/step-4"
        ]
    );
}

#[test]
fn work_is_summed_up_when_it_is_done_even_if_nobody_says_so() {
    let log = Log::default();
    let mut bar = ProgressBar::lines(log.clone(), Duration::from_secs(3_600));
    bar.advance(3); // before any start: ignored
    bar.start("loading weights", Some(253_000_000), "bytes");
    bar.advance(100_000_000);
    bar.advance(153_000_000);
    bar.start("preparing data", None, "rows");
    bar.advance(1_234);
    bar.event(&Event::Started { step: 0, total_steps: 1 }).unwrap();
    bar.finish();
    assert_eq!(log.lines(), ["loading weights: 253 MB", "preparing data: 1,234 rows"]);
}

#[test]
fn long_work_speaks_up() {
    let log = Log::default();
    let bar = ProgressBar::lines(log.clone(), Duration::ZERO);
    bar.start("loading", Some(2_000_000), "bytes");
    bar.advance(500_000);
    bar.finish();
    assert_eq!(log.lines(), ["loading: 500 kB of 2.00 MB", "loading: 500 kB"]);
}

#[test]
fn warnings_are_kept_for_the_record() {
    let mut bar = ProgressBar::lines(Log::default(), Duration::ZERO);
    for text in ["warning: few steps", "Model: m", "Warning: another base", "warning: few steps"] {
        bar.note(text);
    }
    bar.event(&Event::NotSaved { step: 3, why: "no space left".into() }).unwrap();
    let last = "warning: step 3: the last checkpoint could not be saved: no space left";
    assert_eq!(bar.warnings(), ["warning: few steps", "Warning: another base", last]);
}

#[test]
fn the_time_left_counts_this_session_only() {
    let smoothed = Smoothed::default();
    let (since, status) = (Instant::now(), String::new());
    let run = Run { first_step: 100, total_steps: 200, since, announced: false, status, smoothed };
    assert_eq!(run.time_left(110, Duration::from_secs(20)), Some(Duration::from_secs(180)));
    assert_eq!(run.time_left(200, Duration::from_secs(20)), Some(Duration::ZERO));
    assert_eq!(run.time_left(100, Duration::from_secs(20)), None);
    assert_eq!(run.time_left(7, Duration::from_secs(20)), None);
    assert_eq!(
        run.status(1.23456, 812.5, run.time_left(110, Duration::from_secs(20))),
        "loss 1.2346 · 813 tokens/s · 3 min 00 s left"
    );
    assert_eq!(run.status(1.23456, 812.5, None), "loss 1.2346 · 813 tokens/s");
}

#[test]
fn the_first_micro_batch_tells_loss_speed_and_time() {
    let log = Log::default();
    let mut bar = ProgressBar::lines(log.clone(), Duration::ZERO);
    bar.event(&Event::Started { step: 0, total_steps: 60 }).unwrap();
    let part = |done| {
        let (step, of, loss, step_tokens, tokens_per_second) = (1, 8, 3.25, 8_000, 400.0);
        Event::MicroBatch(MicroBatchEvent { step, done, of, loss, step_tokens, tokens_per_second })
    };
    (1..=2).for_each(|done| bar.event(&part(done)).unwrap());
    assert_eq!(
        log.lines(),
        [
            "60 steps will take about 20 min 00 s, evaluations not counted",
            "step 1/60, micro-batch 1/8 · loss 3.2500 · 400 tokens/s · 20 min 00 s",
            "step 1/60, micro-batch 2/8 · loss 3.2500 · 400 tokens/s · 20 min 00 s",
        ]
    );
}

#[test]
fn a_long_micro_batch_is_not_silent() {
    let part = |step, part| Event::Part(PartEvent { step, micro_batch: 1, of: 2, part });
    let log = Log::default();
    let mut bar = ProgressBar::lines(log.clone(), Duration::from_millis(20));
    bar.event(&Event::Started { step: 0, total_steps: 60 }).unwrap();
    bar.event(&part(1, 0.1)).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    bar.event(&part(1, 0.456)).unwrap();
    bar.event(&part(1, 0.5)).unwrap();
    assert_eq!(log.lines(), ["step 1/60, micro-batch 1/2: 45 %"]);

    // On a terminal each part is seen, with what was said last.
    let mut bar = ProgressBar::new(Screen::Terminal(None), Duration::ZERO);
    let message = |bar: &ProgressBar| match &bar.state().screen {
        Screen::Terminal(Some(bar)) => bar.message(),
        _ => panic!("a bar"),
    };
    bar.event(&Event::Started { step: 0, total_steps: 2 }).unwrap();
    bar.event(&part(1, 0.3)).unwrap();
    assert_eq!(message(&bar), "1/2 30 %");
    bar.event(&step(1, 1.5)).unwrap();
    bar.event(&part(2, 0.0)).unwrap();
    assert!(message(&bar).starts_with("1/2  0 % · loss 1.5000 · 813 tokens/s"), "{}", message(&bar));
    bar.event(&Event::Finished { step: 2 }).unwrap();
}

#[test]
fn answers_and_evaluations_that_take_long_are_not_silent() {
    let underway = |step, is_evaluation, doing, done, of| {
        let underway = Underway { doing, done, of, tokens: 1_240 };
        Event::Underway(UnderwayEvent { step, is_evaluation, underway })
    };
    let log = Log::default();
    let mut bar = ProgressBar::lines(log.clone(), Duration::from_millis(20));
    bar.event(&underway(1, false, Doing::Answering, 0, 8)).unwrap(); // before a run: ignored
    bar.event(&Event::Started { step: 0, total_steps: 60 }).unwrap();
    let all = [
        underway(0, true, Doing::Answering, 1_024, 2_000),
        underway(0, true, Doing::Reading, 1, 1),
        underway(1, false, Doing::Answering, 5, 8),
        underway(1, false, Doing::Judging, 0, 8),
        underway(1, false, Doing::Measuring, 4, 8),
    ];
    for event in &all {
        std::thread::sleep(Duration::from_millis(30));
        bar.event(event).unwrap();
        bar.event(&underway(1, false, Doing::Answering, 6, 8)).unwrap(); // too soon
    }
    assert_eq!(
        log.lines(),
        [
            "evaluation after step 0: 1,024 of 2,000 answers given, 1,240 tokens",
            "evaluation after step 0: 1 of 1 row read",
            "step 1/60: 5 of 8 answers given, 1,240 tokens",
            "step 1/60: 0 of 8 answers judged",
            "step 1/60: 4 of 8 answers measured",
        ]
    );

    // On a terminal each is seen, in the place of what was said of the last step.
    let mut bar = ProgressBar::new(Screen::Terminal(None), Duration::ZERO);
    bar.event(&Event::Started { step: 0, total_steps: 2 }).unwrap();
    bar.event(&all[2]).unwrap();
    match &bar.state().screen {
        Screen::Terminal(Some(bar)) => assert_eq!(bar.message(), "5 of 8 answers given, 1,240 tokens"),
        _ => panic!("a bar"),
    }
    bar.event(&Event::Finished { step: 2 }).unwrap();
}

#[test]
fn a_smoothed_loss_follows_slowly_and_forgets_what_is_not_finite() {
    let mut smoothed = Smoothed::default();
    smoothed.add(4.0);
    assert_eq!(smoothed.mean(), None, "the loss itself");
    smoothed.add(f64::NAN);
    smoothed.add(2.0);
    assert!((smoothed.mean().unwrap() - (0.9 * 4.0 + 2.0) / 1.9).abs() < 1e-12);
    (0..200).for_each(|_| smoothed.add(1.0));
    assert!((smoothed.mean().unwrap() - 1.0).abs() < 1e-6);
}

#[test]
fn a_terminal_that_nobody_sees_is_drawn_without_harm() {
    let mut bar = ProgressBar::new(Screen::Terminal(None), Duration::ZERO);
    bar.start("loading", Some(10), "bytes");
    bar.advance(4);
    bar.start("reading", None, "rows");
    bar.advance(4);
    bar.finish();
    bar.event(&Event::Started { step: 3, total_steps: 5 }).unwrap();
    bar.event(&step(4, 1.0)).unwrap();
    bar.event(&step(5, 1.0)).unwrap();
    bar.event(&Event::Finished { step: 5 }).unwrap();
    assert!(matches!(bar.state().screen, Screen::Terminal(None)));
}
