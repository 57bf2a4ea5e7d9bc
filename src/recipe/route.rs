//! The rules by which `serve --route` answers here or hands on: a file of its own, read as strictly as a recipe.

use super::diagnose::Diagnosis;
use super::http::good_url;
use super::raw::{Origin, Shape};
use super::rules::{Verdict, not_empty};
use super::section::Section;
use super::yaml;
use crate::error::{Error, Kind, Result};
use crate::input;
use std::fmt;
use std::ops::Bound::{Excluded, Included};
use std::path::{Path, PathBuf};

/// What a message calls the file.
const OWNER: &str = "a file of rules";
/// Seconds that the upstream may be silent where nothing is said.
const TIMEOUT_SECS: f64 = 60.0;
/// Who is silent for longer is waited for in vain.
const LONGEST_TIMEOUT_SECS: f64 = 86_400.0;
/// How likely a prompt has to be one for here where nothing is said.
const THRESHOLD: f64 = 0.5;

/// Who is asked instead, and how it is told which requests are for him.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteRules {
    /// Who is asked instead.
    pub upstream: UpstreamRules,
    /// What tells it.
    pub chooser: Chooser,
    /// The models, by their names in requests, whose answers are chosen so; all of them where none is named.
    pub models: Vec<String>,
}

/// A server that speaks OpenAI's API.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamRules {
    /// Its address, up to what stands before `/chat/completions`.
    pub url: String,
    /// The key that it wants.
    pub api_key: Option<ApiKey>,
    /// The model that it is asked for.
    pub model: String,
    /// The seconds that it may be silent, until it begins and between two pieces of its answer.
    pub timeout: f64,
}

/// What tells who answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Chooser {
    /// An adapter of `task: reward` that learnt to tell prompts for here from others: asked before there is an answer.
    Classifier {
        /// Its folder, or that of its run.
        adapter: PathBuf,
        /// How likely a prompt has to be one for here.
        threshold: f64,
    },
    /// The answer that is given here.
    Confidence {
        /// The least mean log-probability of its tokens, in nats, with which it is given.
        min_mean_logprob: f64,
    },
}

/// A key that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key itself.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Reads the rules at `path`, with the variables of the environment that they name.
///
/// # Errors
/// Every problem of the file, each with its place.
pub fn route_rules(path: &Path) -> Result<RouteRules> {
    let text = input::read_to_string(path).map_err(|e| input::wrong_name(e, path, Kind::Recipe))?;
    parse(path, text, &|name| std::env::var(name).ok())
}

fn parse(path: &Path, text: String, lookup: &dyn Fn(&str) -> Option<String>) -> Result<RouteRules> {
    let mut diagnosis = Diagnosis::of(OWNER);
    let origin = diagnosis.add_origin(Origin::File { path: path.into(), text: text.clone() });
    let root = yaml::parse(&text, origin, &mut diagnosis).filter(|root| !root.is_null());
    match &root {
        None if !diagnosis.is_sound() => {}
        Some(root) if !matches!(root.shape, Shape::Map(_)) => {
            let what = format!("the rules must be keys and values, found {}", root.describe());
            diagnosis.report(&root.mark, what, Some("they start with `upstream:` at the left margin".into()));
        }
        _ => {
            let rules = Section::read(root.as_ref(), None, String::new(), &mut diagnosis, |root| read(root, lookup));
            diagnosis.finish()?;
            return rules.ok_or_else(|| Error::new(Kind::Bug, "rules without a problem are rules"));
        }
    }
    diagnosis.finish()?;
    Err(Error::new(Kind::Recipe, "the rules cannot be read").at_path(path))
}

/// Reads all keys; without what tells who answers that was reported.
fn read(root: &mut Section<'_>, lookup: &dyn Fn(&str) -> Option<String>) -> Option<RouteRules> {
    let [has_classifier, has_confidence] =
        ["classifier", "confidence"].map(|name| root.given().any(|given| given == name));
    let upstream = root.section("upstream", |section| UpstreamRules::read(section, lookup));
    let classifier = root.section("classifier", |section| {
        let adapter = section.key::<PathBuf>("adapter").expanded().check(not_empty);
        let adapter = match has_classifier {
            true => Some(adapter.required("adapter: out/router/adapter")),
            false => adapter.optional(),
        };
        let threshold = section.key("threshold").within(0.0..=1.0).or(THRESHOLD);
        adapter.map(|adapter| Chooser::Classifier { adapter, threshold })
    });
    let confidence = root.section("confidence", |section| {
        let least = section.key::<f64>("min_mean_logprob").within(..=0.0);
        let least = match has_confidence {
            true => Some(least.required("min_mean_logprob: -1.5")),
            false => least.optional(),
        };
        least.map(|min_mean_logprob| Chooser::Confidence { min_mean_logprob })
    });
    let models = root.key("models").or(Vec::new());
    let diagnosis = &mut *root.diagnosis;
    if classifier.is_none() && confidence.is_none() {
        let example = "classifier: {adapter: out/router/adapter}` or `confidence: {min_mean_logprob: -1.5}";
        diagnosis.missing("classifier", None, example);
    }
    let both = ["confidence.min_mean_logprob", "classifier.adapter"];
    if let Some((path, mark)) = both.iter().find_map(|path| Some((*path, diagnosis.given(path)?)))
        && has_classifier
        && has_confidence
    {
        let what = "`classifier` and `confidence` both say who answers";
        diagnosis.wrong(path, &mark, what, Some("keep one of the two".into()));
    }
    Some(RouteRules { upstream, chooser: classifier.or(confidence)?, models })
}

impl UpstreamRules {
    fn read(section: &mut Section<'_>, lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let url =
            section.key::<String>("url").check(|url| good_address(url)).required("url: https://api.openai.com/v1");
        let named = section.key::<String>("api_key_env").check(|name| good_variable(name, lookup)).optional();
        UpstreamRules {
            url: url.trim_end_matches('/').to_owned(),
            api_key: named.and_then(|name| lookup(&name)).map(|key| ApiKey(key.trim().to_owned())),
            model: section.key("model").check(super::rules::not_blank).required("model: gpt-5"),
            timeout: section.key("timeout").within((Excluded(0.0), Included(LONGEST_TIMEOUT_SECS))).or(TIMEOUT_SECS),
        }
    }
}

/// The beginning of the addresses of a server.
fn good_address(url: &str) -> Verdict {
    let example = || Some("for example `https://api.openai.com/v1`".to_owned());
    if url.contains(['?', '#', '$']) {
        return Some(("must be an address without `?`, `#` and `$`".into(), example()));
    }
    let is_login = url.split('/').nth(2).is_some_and(|server| server.contains('@'));
    let hint = if is_login { Some("`api_key_env` names the variable that holds a key".to_owned()) } else { example() };
    good_url(url).map(|(must, _)| (must, hint))
}

/// The name of a variable that holds a key.
fn good_variable(name: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Verdict {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        let hint = "for example `UPSTREAM_API_KEY`: the key itself stands in the environment, and in no file";
        return Some(("must be the name of a variable".into(), Some(hint.into())));
    }
    match lookup(name).as_deref().map(str::trim) {
        None | Some("") => {
            Some(("must name a variable that is set".into(), Some(format!("set `{name}` where `serve` is started"))))
        }
        Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some(("must name a variable that holds a key: one word of plain characters".into(), None))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn of(text: &str) -> Result<RouteRules> {
        parse(Path::new("rules.yaml"), text.into(), &|name| match name {
            "UPSTREAM_API_KEY" => Some("s3cret\n".into()),
            "BROKEN" => Some("two words".into()),
            _ => None,
        })
    }

    fn wrong(text: &str) -> String {
        let error = of(text).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn rules_say_who_is_asked_and_what_tells_it() {
        let upstream = "upstream: {url: 'http://127.0.0.1:9/v1/', api_key_env: UPSTREAM_API_KEY, model: gpt-5}\n";
        let rules = of(&format!("{upstream}classifier: {{adapter: out/router}}\nmodels: [base]\n")).unwrap();
        let chooser = Chooser::Classifier { adapter: "out/router".into(), threshold: 0.5 };
        assert_eq!((&rules.chooser, rules.models.as_slice()), (&chooser, &["base".to_owned()][..]));
        let UpstreamRules { url, api_key, timeout, .. } = &rules.upstream;
        assert_eq!((url.as_str(), *timeout), ("http://127.0.0.1:9/v1", 60.0));
        assert_eq!(api_key.as_ref().map(ApiKey::secret), Some("s3cret"));
        assert!(!format!("{rules:?}").contains("s3cret"));
        let rules = of(&format!("{upstream}confidence: {{min_mean_logprob: -1.5}}\n")).unwrap();
        assert_eq!(rules.chooser, Chooser::Confidence { min_mean_logprob: -1.5 });
        assert!(rules.models.is_empty());
    }

    #[test]
    fn what_is_wrong_with_rules_is_said_together() {
        let text = "upstream:\n  url: ftp://models.example\n  modle: m\n  model: m\n  timeout: 0\nconfidence: {min_mean_logprob: 2}\n";
        assert_snapshot!(wrong(text), @r##"
error: `upstream.url` must begin with `http://` or `https://`, found `ftp://models.example`
  --> rules.yaml:2:8
  2 |   url: ftp://models.example
    |        ^^^^^^^^^^^^^^^^^^^^
  hint: for example `https://api.openai.com/v1`

error: unknown key `modle` in `upstream`
  --> rules.yaml:3:3
  3 |   modle: m
    |   ^^^^^
  hint: did you mean `model`?

error: `upstream.timeout` must be above 0 and at most 86400, found the number `0`
  --> rules.yaml:5:12
  5 |   timeout: 0
    |            ^

error: `confidence.min_mean_logprob` must be at most 0, found the number `2`
  --> rules.yaml:6:32
  6 | confidence: {min_mean_logprob: 2}
    |                                ^

4 problems
"##);
    }

    #[test]
    fn each_rule_has_its_word() {
        let upstream = "upstream: {url: 'https://a.example/v1', model: m}\n";
        let with = |lines: &str| format!("{upstream}{lines}");
        let of_key = |key: &str| {
            format!(
                "upstream: {{url: 'https://a.example/v1', model: m, api_key_env: {key}}}\nconfidence: {{min_mean_logprob: -1}}\n"
            )
        };
        for (text, parts) in [
            (
                String::new(),
                vec!["`upstream.url` is missing", "`upstream.model` is missing", "`classifier` is missing"],
            ),
            ("- a\n".into(), vec!["the rules must be keys and values"]),
            (with(""), vec!["`classifier` is missing", "`confidence: {min_mean_logprob: -1.5}`"]),
            (with("classifier: {}\n"), vec!["`classifier.adapter` is missing"]),
            (
                with("clasifier: {adapter: a}\n"),
                vec!["unknown section or key `clasifier`", "did you mean `classifier`?"],
            ),
            (with("rank: 1\nconfidence: {min_mean_logprob: -1}\n"), vec!["a file of rules has: ", "upstream"]),
            (
                with("classifier: {adapter: a}\nconfidence: {min_mean_logprob: -1}\n"),
                vec!["`classifier` and `confidence` both say who answers", "keep one"],
            ),
            (
                with("classifier: {adapter: a, threshold: 1.5}\n"),
                vec!["`classifier.threshold` must be at least 0 and at most 1"],
            ),
            (of_key("NOWHERE"), vec!["`upstream.api_key_env` must name a variable that is set", "set `NOWHERE`"]),
            (of_key("sk-a"), vec!["must be the name of a variable", "stands in the environment"]),
            (of_key("BROKEN"), vec!["must name a variable that holds a key"]),
        ] {
            let said = wrong(&text);
            assert!(parts.iter().all(|part| said.contains(part)) && !said.contains("two words"), "{said}");
        }
        let login = wrong("upstream: {url: 'https://me:pw@a.example', model: m}\nconfidence: {min_mean_logprob: -1}\n");
        assert!(login.contains("must hold no login") && login.contains("`api_key_env` names the variable"), "{login}");
    }
}
