//! What the user watches: a bar on a terminal, a line now and then in a log. On stderr.

use crate::error::Result;
use crate::progress::{Progress, count, singular};
use crate::report::style;
use crate::report::{problem, text};
use crate::terminal::printable;
use crate::train::event::{
    Doing, Event, MicroBatchEvent, PartEvent, SampleEvent, Sink, StepEvent, Underway, UnderwayEvent,
};
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
            Event::Underway(event) => state.underway(event),
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

    /// What can be said before a step's first micro-batch, and within an evaluation.
    fn underway(&mut self, event: &UnderwayEvent) {
        let Some(run) = &self.run else { return };
        match &self.screen {
            Screen::Terminal(Some(bar)) => bar.set_message(far(event)),
            Screen::Lines(_) if self.last_line.elapsed() >= self.interval => {
                let whose = match event.is_evaluation {
                    true => format!("evaluation after step {}", event.step),
                    false => format!("step {}/{}", event.step, run.total_steps),
                };
                self.say(&format!("{whose}: {}", far(event)));
            }
            _ => {}
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
        let reward =
            event.metrics.get("reward").map_or(String::new(), |reward| format!("reward {} · ", text::metric(*reward)));
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

/// `"3 of 8 answers given, 1,240 tokens"`.
fn far(event: &UnderwayEvent) -> String {
    let Underway { doing, done, of, tokens } = event.underway;
    let (what, is_done) = match doing {
        Doing::Answering => ("answer", "given"),
        Doing::Judging => ("answer", "judged"),
        Doing::Measuring => ("answer", "measured"),
        Doing::Reading => ("row", "read"),
    };
    let far = format!("{} of {} {is_done}", count(done as u64), text::counted(of as u64, what));
    if doing == Doing::Answering { format!("{far}, {}", text::counted(tokens, "token")) } else { far }
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
        let smoothed =
            self.smoothed.mean().map(|mean| format!(" (smoothed {})", text::metric(mean))).unwrap_or_default();
        let left = left.map(|left| format!(" · {} left", text::duration(left))).unwrap_or_default();
        format!("loss {}{smoothed} · {} tokens/s{left}", text::metric(loss), text::rate(tokens_per_second))
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
mod tests;
