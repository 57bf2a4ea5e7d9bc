//! What has been asked and answered, as Prometheus reads it.

use super::routing::Choice;
use crate::infer::Figures;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

/// Bounds of a histogram, in seconds.
const BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct Counts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By path and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// Chats that were answered here and elsewhere, where that was chosen.
    routed: [u64; 2],
    /// Those that were to be answered elsewhere, and were not.
    not_routed: u64,
    /// Whether who is asked instead answered when it was last asked.
    upstream: Option<bool>,
    /// Calls of tools that do not fit their schemas.
    odd_calls: u64,
    first_tokens: Histogram,
    answers: Histogram,
    engine: Figures,
}

#[derive(Debug, Default)]
struct Histogram {
    /// Those at most as long as each bound.
    within: [u64; BOUNDS.len()],
    count: u64,
    sum_secs: f64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let secs = took.as_secs_f64();
        BOUNDS.iter().zip(&mut self.within).filter(|(bound, _)| secs <= **bound).for_each(|(_, within)| *within += 1);
        self.count += 1;
        self.sum_secs += secs;
    }

    fn write(&self, name: &str, help: &str, into: &mut String) -> std::fmt::Result {
        writeln!(into, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        for (bound, within) in BOUNDS.iter().zip(self.within) {
            writeln!(into, "{name}_bucket{{le=\"{bound}\"}} {within}")?;
        }
        writeln!(into, "{name}_bucket{{le=\"+Inf\"}} {}", self.count)?;
        writeln!(into, "{name}_sum {}\n{name}_count {}", self.sum_secs, self.count)
    }
}

impl Counts {
    /// A request had an answer with this status.
    pub fn answered(&self, path: &'static str, status: u16) {
        self.with(|state| *state.requests.entry((path, status)).or_default() += 1);
    }

    /// A chat was answered by whom the rules chose.
    pub fn routed(&self, to: Choice) {
        self.with(|state| state.routed[usize::from(to == Choice::Remote)] += 1);
    }

    /// One that was to be answered elsewhere was not.
    pub fn not_routed(&self) {
        self.with(|state| state.not_routed += 1);
    }

    /// So many calls of tools do not fit their schemas.
    pub fn odd_calls(&self, count: usize) {
        self.with(|state| state.odd_calls += count as u64);
    }

    /// Who is asked instead answered, or did not.
    pub fn upstream(&self, is_up: bool) {
        self.with(|state| state.upstream = Some(is_up));
    }

    /// Whether it answered when it was last asked; `None` before.
    pub fn upstream_is_up(&self) -> Option<bool> {
        self.with(|state| state.upstream)
    }

    /// The first token of an answer came after so long.
    pub fn first_token(&self, after: Duration) {
        self.with(|state| state.first_tokens.add(after));
    }

    /// All answers of a request were given after so long.
    pub fn all_answers(&self, after: Duration) {
        self.with(|state| state.answers.add(after));
    }

    /// How the engine stands.
    pub fn set_engine(&self, figures: Figures) {
        self.with(|state| state.engine = figures);
    }

    /// All of it, in Prometheus' text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Nothing fails that writes into memory.
        let _ = self.with(|state| state.write(&mut text));
        text
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Numbers are whole even where a thread that held them has ended.
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl State {
    fn write(&self, into: &mut String) -> std::fmt::Result {
        let name = "gemma_tune_requests_total";
        writeln!(into, "# HELP {name} Requests by path and status\n# TYPE {name} counter")?;
        for ((path, status), count) in &self.requests {
            writeln!(into, "{name}{{path=\"{path}\",status=\"{status}\"}} {count}")?;
        }
        let name = "gemma_tune_routed_total";
        writeln!(into, "# HELP {name} Chats by who answered them, where rules choose\n# TYPE {name} counter")?;
        for (to, count) in [Choice::Local, Choice::Remote].into_iter().zip(self.routed) {
            writeln!(into, "{name}{{to=\"{}\"}} {count}", to.name())?;
        }
        let upstream = self.upstream.map(u64::from);
        let upstream =
            upstream.map(|is_up| ("upstream_up", "Whether the upstream answered when it was last asked", is_up));
        let Figures { waiting, running, reserved_bytes, kept, kept_bytes, .. } = self.engine;
        let Figures { tokens_read, tokens_known, tokens_said, .. } = self.engine;
        let gauges = [
            ("waiting_requests", "Requests that wait", waiting as u64),
            ("running_answers", "Answers that are given", running as u64),
            ("cache_reserved_bytes", "Keys and values of these", reserved_bytes),
            ("cache_kept_prefixes", "Beginnings of prompts that are kept", kept as u64),
            ("cache_kept_bytes", "Keys and values of these", kept_bytes),
        ];
        for (name, help, value) in upstream.into_iter().chain(gauges) {
            writeln!(
                into,
                "# HELP gemma_tune_{name} {help}\n# TYPE gemma_tune_{name} gauge\ngemma_tune_{name} {value}"
            )?;
        }
        let counters = [
            ("route_failures_total", "Chats that the upstream was to answer and did not", self.not_routed),
            ("odd_calls_total", "Calls of tools whose arguments do not fit their schema", self.odd_calls),
            ("prompt_tokens_total", "Tokens of prompts that were read", tokens_read),
            ("prompt_tokens_known_total", "Tokens of prompts that were known", tokens_known),
            ("answer_tokens_total", "Tokens of answers", tokens_said),
        ];
        for (name, help, value) in counters {
            writeln!(
                into,
                "# HELP gemma_tune_{name} {help}\n# TYPE gemma_tune_{name} counter\ngemma_tune_{name} {value}"
            )?;
        }
        self.first_tokens.write("gemma_tune_first_token_seconds", "Time to the first token", into)?;
        self.answers.write("gemma_tune_answer_seconds", "Time to the end of all answers of a request", into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_names_are_prometheus_own() {
        let counts = Counts::default();
        counts.answered("/v1/models", 200);
        counts.answered("/v1/models", 200);
        counts.routed(Choice::Remote);
        [0.02, 0.3, 99.0].iter().for_each(|secs| counts.first_token(Duration::from_secs_f64(*secs)));
        counts.set_engine(Figures { running: 3, tokens_said: 7, ..Figures::default() });
        assert!(!counts.text().contains("gemma_tune_upstream_up"), "nobody was asked");
        counts.upstream(true);
        counts.upstream(false);
        counts.odd_calls(2);
        let text = counts.text();
        for line in [
            "gemma_tune_upstream_up 0",
            "gemma_tune_odd_calls_total 2",
            "gemma_tune_requests_total{path=\"/v1/models\",status=\"200\"} 2",
            "gemma_tune_running_answers 3",
            "gemma_tune_routed_total{to=\"local\"} 0",
            "gemma_tune_routed_total{to=\"remote\"} 1",
            "gemma_tune_route_failures_total 0",
            "gemma_tune_answer_tokens_total 7",
            "gemma_tune_first_token_seconds_bucket{le=\"0.01\"} 0",
            "gemma_tune_first_token_seconds_bucket{le=\"0.025\"} 1",
            "gemma_tune_first_token_seconds_bucket{le=\"0.5\"} 2",
            "gemma_tune_first_token_seconds_bucket{le=\"+Inf\"} 3",
            "gemma_tune_first_token_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let is_right =
            |line: &str| line.starts_with("# ") || line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok());
        assert!(text.lines().all(is_right), "{text}");
    }
}
