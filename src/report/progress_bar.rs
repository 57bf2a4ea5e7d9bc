//! What the user watches: a bar on a terminal, a line now and then in a log. On stderr.

use crate::error::Result;
use crate::progress::{Progress, singular};
use crate::report::style;
use crate::report::{problem, text};
use crate::terminal::printable;
use crate::train::event::{Event, MicroBatchEvent, PartEvent, SampleEvent, Sink, StepEvent};
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How much of the smoothed loss a step leaves as it was.
const SMOOTHING: f64 = 0.9;

/// How often something moves on a terminal.
const TICK: Duration = Duration::from_millis(120);

/// The longest silence in a log while something goes on.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows loading and preparing (as [`Progress`]) and training (as [`Sink`]). Clones show the same.
#[derive(Clone)]
pub struct ProgressBar(Arc<Mutex<State>>);

/// What the last one for stderr shows, for who has none at hand.
static ON_STDERR: Mutex<Weak<Mutex<State>>> = Mutex::new(Weak::new());

struct State {
    screen: Screen,
    work: Option<Work>,
    run: Option<Run>,
    last_line: Instant,
    interval: Duration,
    /// What [`Progress::note`] has said.
    remarks: HashSet<String>,
    /// What was said to be wrong, each once.
    warnings: Vec<String>,
}

enum Screen {
    /// A terminal, with the bar that is on it now.
    Terminal(Option<indicatif::ProgressBar>),
    /// A log.
    Lines(Box<dyn Write + Send>),
}

/// Loading or preparing.
struct Work {
    what: String,
    total: Option<u64>,
    unit: &'static str,
    done: u64,
    since: Instant,
}

/// This session of a training run.
struct Run {
    first_step: u64,
    total_steps: u64,
    since: Instant,
    /// Whether the time for all steps has been said.
    announced: bool,
    /// Loss, speed and time, as they were said last.
    status: String,
    smoothed: Smoothed,
}

/// A mean of losses in which older ones count less and less, each in [`SMOOTHING`] of the next one's weight.
#[derive(Default)]
struct Smoothed {
    sum: f64,
    weight: f64,
}

impl ProgressBar {
    /// A bar if stderr is a terminal, else lines.
    pub fn stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let bar = match std::io::stderr().is_terminal() && !dumb {
            true => Self::new(Screen::Terminal(None), Duration::ZERO),
            false => Self::lines(std::io::stderr(), LINE_INTERVAL),
        };
        *ON_STDERR.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&bar.0);
        bar
    }

    /// The one that shows something on stderr now, or else a new one.
    pub fn on_stderr() -> Self {
        let shown = ON_STDERR.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        shown.map_or_else(Self::stderr, ProgressBar)
    }

    /// Lines to `out`, one in `interval` at most, besides news.
    pub fn lines(out: impl Write + Send + 'static, interval: Duration) -> Self {
        Self::new(Screen::Lines(Box::new(out)), interval)
    }

    /// Says something to the user, above the bar or as lines of the log.
    pub fn note(&self, text: &str) {
        let mut state = self.state();
        state.keep_warning(text);
        text.lines().for_each(|line| state.say(line));
    }

    /// Everything that was said to be wrong so far, for the record.
    pub fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    fn new(screen: Screen, interval: Duration) -> Self {
        let (last_line, remarks, warnings) = (Instant::now(), HashSet::new(), Vec::new());
        let state = State { screen, work: None, run: None, last_line, interval, remarks, warnings };
        ProgressBar(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for ProgressBar {
    fn start(&self, what: &str, total: Option<u64>, unit: &'static str) {
        let mut state = self.state();
        state.finish_work();
        state.last_line = Instant::now();
        state.work = Some(Work { what: printable(what).into_owned(), total, unit, done: 0, since: Instant::now() });
        if let Screen::Terminal(bar) = &mut state.screen {
            let amount = if unit == "bytes" { "{decimal_bytes}" } else { "{human_pos}" };
            let template = match total {
                Some(_) => format!("{{msg}} {{bar:24}} {{percent}} % · {amount} {unit}"),
                None => format!("{{msg}} {{spinner}} {amount} {unit}"),
            };
            *bar = Some(new_bar(total, template.trim_end_matches(" bytes")).with_message(printable(what).into_owned()));
        }
    }

    /// What was remarked before is not said again: data may be prepared twice, with the same to say of its files.
    fn note(&self, text: &str) {
        let is_new = self.state().remarks.insert(text.to_owned());
        if is_new {
            ProgressBar::note(self, text);
        }
    }

    fn advance(&self, amount: u64) {
        let mut state = self.state();
        let due = state.last_line.elapsed() >= state.interval;
        let Some(work) = &mut state.work else { return };
        work.done = work.done.saturating_add(amount);
        let line = work.line();
        match &state.screen {
            Screen::Terminal(Some(bar)) => bar.inc(amount),
            Screen::Lines(_) if due => state.say(&line),
            _ => {}
        }
    }

    fn finish(&self) {
        self.state().finish_work();
    }
}

impl Sink for ProgressBar {
    fn event(&mut self, event: &Event) -> Result<()> {
        let mut state = self.state();
        match event {
            Event::Started { step, total_steps } => state.start_run(*step, *total_steps),
            Event::Part(part) => state.part(part),
            Event::MicroBatch(part) => state.micro_batch(part),
            Event::Step(step) => state.step(step),
            Event::SkippedStep { step, why, rows } => {
                let rows = if rows.is_empty() { String::new() } else { format!(" (rows: {})", rows.join("; ")) };
                state.say(&printable(&format!("step {step}: update skipped: {why}{rows}")));
            }
            Event::Eval(e) => {
                // Steps are not as slow as an evaluation before the first of them.
                if let Some(run) = state.run.as_mut().filter(|run| run.first_step == e.step) {
                    run.since = Instant::now();
                }
                state.say(&printable(&text::evaluation(e)));
            }
            Event::Sample(SampleEvent { step, sample, .. }) => {
                let (prompt, completion) = (sample.prompt.trim(), sample.completion.trim());
                state.say(&printable(&format!("step {step}: {prompt} -> {completion}")));
            }
            Event::Row(_) => {} // `data preview` shows them on request
            Event::NotSaved { step, why } => {
                let warning = format!("warning: step {step}: the last checkpoint could not be saved: {why}");
                state.keep_warning(&warning);
                state.say(&printable(&warning));
            }
            Event::Saved { step, path } => state.say(&format!("step {step}: saved {}", path.display())),
            Event::Finished { .. } => state.finish_run(),
        }
        Ok(())
    }
}

impl State {
    /// Puts a line above the bar or into the log. Nobody to read it is no reason to stop a run.
    fn say(&mut self, line: &str) {
        self.last_line = Instant::now();
        let in_colour = matches!(self.screen, Screen::Terminal(_)) && style::stderr_has_colours();
        let line = &if in_colour { problem::remark(&printable(line)) } else { printable(line).into_owned() };
        let _ = match &mut self.screen {
            Screen::Terminal(Some(bar)) => {
                bar.println(line);
                Ok(())
            }
            Screen::Terminal(None) => writeln!(std::io::stderr(), "{line}"),
            Screen::Lines(out) => writeln!(out, "{line}").and_then(|()| out.flush()),
        };
    }

    fn keep_warning(&mut self, text: &str) {
        let is_warning = text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("warning:"));
        if is_warning && !self.warnings.iter().any(|said| said == text) {
            self.warnings.push(text.to_owned());
        }
    }

    fn clear_bar(&mut self) {
        if let Screen::Terminal(bar) = &mut self.screen
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }

    fn finish_work(&mut self) {
        if let Some(work) = self.work.take() {
            self.clear_bar();
            self.say(&format!("{}: {} in {}", work.what, work.amount(), text::duration(work.since.elapsed())));
        }
    }

    fn start_run(&mut self, first_step: u64, total_steps: u64) {
        self.finish_work();
        let since = Instant::now();
        let (announced, status, smoothed) = (false, String::new(), Smoothed::default());
        self.run = Some(Run { first_step, total_steps, since, announced, status, smoothed });
        if let Screen::Terminal(bar) = &mut self.screen {
            let new = new_bar(Some(total_steps), "{spinner} {bar:24} {pos}/{len} {wide_msg}").with_position(first_step);
            new.enable_steady_tick(TICK); // shows the bar before the first step is done
            *bar = Some(new);
        }
    }

    /// What can be said within a micro-batch: that it goes on, and how far it has come.
    fn part(&mut self, event: &PartEvent) {
        let Some(run) = &self.run else { return };
        let PartEvent { step, micro_batch, of, part } = event;
        let (percent, status) = ((100.0 * part) as u64, &run.status);
        let line = format!("step {step}/{}, micro-batch {micro_batch}/{of}: {percent} %", run.total_steps);
        match &self.screen {
            Screen::Terminal(Some(bar)) => {
                bar.set_message(
                    format!("{micro_batch}/{of} {percent:>2} %{}", if status.is_empty() { "" } else { " · " }) + status,
                );
            }
            Screen::Lines(_) if self.last_line.elapsed() >= self.interval => self.say(&line),
            _ => {}
        }
    }

    /// What can be said before a step is done, from its first micro-batch on.
    fn micro_batch(&mut self, event: &MicroBatchEvent) {
        let Some(run) = &mut self.run else { return };
        let in_a_step = event.step_tokens as f64 / event.tokens_per_second;
        let left = match run.time_left(event.step - 1, run.since.elapsed()) {
            Some(left) => Some(left), // measured, of whole steps
            None => {
                Duration::try_from_secs_f64(in_a_step * (run.total_steps + 1 - event.step.min(run.total_steps)) as f64)
                    .ok()
            }
        };
        let MicroBatchEvent { step, done, of, loss, .. } = event;
        let status = run.status(*loss, event.tokens_per_second, left);
        let line = format!("step {step}/{}, micro-batch {done}/{of} · {status}", run.total_steps);
        run.status.clone_from(&status);
        self.announce(left);
        match &self.screen {
            Screen::Terminal(Some(bar)) => bar.set_message(format!("{done}/{of} · {status}")),
            Screen::Lines(_) if self.last_line.elapsed() >= self.interval => self.say(&line),
            _ => {}
        }
    }

    fn step(&mut self, event: &StepEvent) {
        let Some(run) = &mut self.run else { return };
        run.smoothed.add(event.loss);
        let left = run.time_left(event.step, run.since.elapsed());
        let reward = event.metrics.get("reward").map_or(String::new(), |reward| format!("reward {reward:.4} · "));
        let status = reward + &run.status(event.loss, event.tokens_per_second, left);
        let edge = event.step == run.first_step + 1 || event.step == run.total_steps;
        let line = format!("step {}/{} · {status}", event.step, run.total_steps);
        run.status.clone_from(&status);
        self.announce(left);
        match &self.screen {
            Screen::Terminal(Some(bar)) => {
                bar.set_position(event.step);
                bar.set_message(status); // draws both
            }
            Screen::Lines(_) if edge || self.last_line.elapsed() >= self.interval => self.say(&line),
            _ => {}
        }
    }

    /// Says once how long the run will take, as soon as that can be told.
    fn announce(&mut self, left: Option<Duration>) {
        let Some(run) = self.run.as_mut().filter(|run| !run.announced) else { return };
        run.announced = true;
        let steps = run.total_steps.saturating_sub(run.first_step);
        if let Some(left) = left.filter(|_| steps > 1) {
            let all = text::duration(left.saturating_add(run.since.elapsed()));
            self.say(&format!("{} will take about {all}, evaluations not counted", text::counted(steps, "step")));
        }
    }

    /// Leaves the bar as it is, so that the last numbers stay in sight.
    fn finish_run(&mut self) {
        self.run = None;
        if let Screen::Terminal(bar) = &mut self.screen
            && let Some(bar) = bar.take()
        {
            bar.abandon();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.finish_run(); // an error message must not be drawn over
    }
}

impl Work {
    /// `"loading weights: 120 MB of 253 MB"`.
    fn line(&self) -> String {
        let total = self.total.map(|total| format!(" of {}", self.show(total))).unwrap_or_default();
        format!("{}: {}{total}", self.what, self.show(self.done))
    }

    /// `"1,234 rows"`.
    fn amount(&self) -> String {
        self.show(self.done)
    }

    fn show(&self, amount: u64) -> String {
        match self.unit {
            "bytes" => text::bytes(amount),
            units => text::counted(amount, &singular(units)),
        }
    }
}

impl Run {
    /// The time that the steps after `step` will take if they are as fast as this session's were on average.
    fn time_left(&self, step: u64, elapsed: Duration) -> Option<Duration> {
        let done = step.checked_sub(self.first_step).filter(|&done| done > 0)?;
        let left = self.total_steps.saturating_sub(step);
        Duration::try_from_secs_f64(elapsed.as_secs_f64() / done as f64 * left as f64).ok()
    }

    /// `"loss 1.2345 (smoothed 1.3141) · 812 tokens/s · 3 min 07 s left"`.
    fn status(&self, loss: f64, tokens_per_second: f64, left: Option<Duration>) -> String {
        let smoothed = self.smoothed.mean().map(|mean| format!(" (smoothed {mean:.4})")).unwrap_or_default();
        let left = left.map(|left| format!(" · {} left", text::duration(left))).unwrap_or_default();
        format!("loss {loss:.4}{smoothed} · {} tokens/s{left}", text::rate(tokens_per_second))
    }
}

impl Smoothed {
    fn add(&mut self, loss: f64) {
        if loss.is_finite() {
            self.sum = SMOOTHING * self.sum + loss;
            self.weight = SMOOTHING * self.weight + 1.0;
        }
    }

    /// `None` before there are two losses to mean.
    fn mean(&self) -> Option<f64> {
        (self.weight > 1.0).then(|| self.sum / self.weight)
    }
}

fn new_bar(total: Option<u64>, template: &str) -> indicatif::ProgressBar {
    let bar = total.map_or_else(indicatif::ProgressBar::new_spinner, indicatif::ProgressBar::new);
    match indicatif::ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
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
        bar.event(&Event::SkippedStep { step: 5, why: "loss is NaN".into(), rows: vec!["a.jsonl, row 3".into()] })
            .unwrap();
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
}
