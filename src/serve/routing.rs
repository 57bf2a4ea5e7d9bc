//! Who answers: this model, or another server that is asked instead.

use super::upstream::Upstream;
use crate::progress::metric;
use std::fmt;

/// The header of an answer that says who gave it.
pub const HEADER: &str = "x-gemma-tune-route";

/// How it is told which chats are answered here.
pub struct Routing {
    /// What tells it.
    pub by: By,
    /// The models, by their names, whose answers are chosen so; all of them where none is named.
    pub models: Vec<String>,
    /// Who is asked instead.
    pub upstream: Upstream,
    /// Is told each choice, in a line without words of the chat.
    pub told: Box<dyn Fn(&str) + Send + Sync>,
}

/// What tells who answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum By {
    /// How likely the [classifier](super::Host::classifier) finds it that a prompt is one for here.
    Score {
        /// With as much it is.
        threshold: f64,
    },
    /// How likely the answer was that is given here: the mean log-probability of its tokens, in nats.
    Confidence {
        /// With as much it is good enough.
        min_mean_logprob: f64,
    },
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This model.
    Local,
    /// The server that is asked instead.
    Remote,
}

impl Choice {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Local => "local",
            Choice::Remote => "remote",
        }
    }
}

impl Routing {
    /// Whether answers of the model of this name are chosen so.
    pub fn is_for(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| name == model)
    }

    /// Who answers what was weighed so, and tells it.
    pub fn choose(&self, model: &str, value: Option<f64>) -> Choice {
        let choice = self.by.choose(value);
        (self.told)(&format!("routed: `{model}` to {}: {}", choice.name(), self.by.why(value)));
        choice
    }

    /// Tells that a chat goes elsewhere because it is too large for this model.
    pub fn too_large(&self, model: &str, why: &str) {
        (self.told)(&format!("routed: `{model}` to {}: {why}", Choice::Remote.name()));
    }

    /// Tells that a chat was not answered elsewhere, and is here, or by `nobody`.
    pub fn not_answered(&self, model: &str, nobody: bool, why: &str) {
        let by = if nobody { "nobody" } else { Choice::Local.name() };
        (self.told)(&format!("routed: `{model}` to {by}: the upstream gave no answer: {why}"));
    }

    /// Tells that an answer from elsewhere ended before its end.
    pub fn broke_off(&self, model: &str, why: &str) {
        (self.told)(&format!("routed: `{model}` to {}: a part of an answer was given: {why}", Choice::Remote.name()));
    }

    /// Looks whether who is asked instead can be asked, and tells what is wrong. Says whether it answered.
    pub fn check(&self) -> bool {
        let url = self.upstream.url();
        match self.upstream.check() {
            Ok(remark) => {
                remark.into_iter().for_each(|remark| (self.told)(&format!("warning: the upstream {url}: {remark}")));
                true
            }
            Err(why) => {
                let then = "chats that it does not answer are answered here";
                (self.told)(&format!("warning: the upstream {url} may not answer: {why}; {then}"));
                false
            }
        }
    }
}

impl By {
    /// Who answers, by a number that there may be none of: a prompt that nobody can judge is tried here, and an answer without words
    /// is none.
    fn choose(self, value: Option<f64>) -> Choice {
        let (least, otherwise) = match self {
            By::Score { threshold } => (threshold, Choice::Local),
            By::Confidence { min_mean_logprob } => (min_mean_logprob, Choice::Remote),
        };
        match value {
            Some(value) if value >= least => Choice::Local,
            Some(_) => Choice::Remote,
            None => otherwise,
        }
    }

    /// The number and what it is measured by, in words.
    fn why(self, value: Option<f64>) -> String {
        let (name, word, least) = match self {
            By::Score { threshold } => ("score", "threshold", threshold),
            By::Confidence { min_mean_logprob } => ("mean log-probability", "least", min_mean_logprob),
        };
        let value = value.map_or("none".to_owned(), metric);
        format!("{name} {value}, {word} {least}")
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Routing { by, models, upstream, .. } = self;
        f.debug_struct("Routing")
            .field("by", by)
            .field("models", models)
            .field("upstream", upstream)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[test]
    fn choices_are_made_by_a_number_and_told_in_a_line() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let of = |by: By| {
            let told = lines.clone();
            Routing {
                by,
                models: vec!["t".into()],
                upstream: Upstream::new("http://a".into(), Some("s3cret".into()), "m".into(), Duration::from_secs(1)),
                told: Box::new(move |line| told.lock().unwrap().push(line.to_owned())),
            }
        };
        let score = of(By::Score { threshold: 0.5 });
        let choices = [Some(0.5), Some(0.49), Some(1.0), None].map(|value| score.choose("t", value));
        assert_eq!(choices, [Choice::Local, Choice::Remote, Choice::Local, Choice::Local]);
        let confidence = of(By::Confidence { min_mean_logprob: -1.5 });
        let choices = [Some(-1.5), Some(-1.6), Some(0.0), None].map(|value| confidence.choose("t", value));
        assert_eq!(choices, [Choice::Local, Choice::Remote, Choice::Local, Choice::Remote]);
        let said = lines.lock().unwrap();
        assert_eq!(said[1], "routed: `t` to remote: score 0.4900, threshold 0.5");
        assert_eq!(said[7], "routed: `t` to remote: mean log-probability none, least -1.5");
        assert!(score.is_for("t") && !score.is_for("other"));
        assert!(!format!("{score:?}").contains("s3cret"));
    }
}
