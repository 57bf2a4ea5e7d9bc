//! Which linear layers get an adapter, by PEFT's rules: names, a regular expression, or `all-linear`.
//!
//! Paths are the module paths that PEFT sees: `model.layers.0.self_attn.q_proj` in a text-only model,
//! `model.language_model.layers.0.self_attn.q_proj` in a multimodal one. Callers pass the projections of the language
//! model only, so `all-linear` never reaches the head, the embedding or a vision tower.

use crate::error::{Error, Kind, Place, Result, did_you_mean};
use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashSet};

/// The longest expression, in bytes.
const MAX_PATTERN_BYTES: usize = 16 << 10;

/// The most that a compiled expression may take: a few thousand alternatives, or some classes of all letters there are.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Kinds of module that only the vision tower has, which have a key of their own.
const OF_THE_TOWER: [&str; 3] = ["out_proj", "fc1", "fc2"];

/// What PEFT writes for "every linear layer but the output head".
pub const ALL_LINEAR: &str = "all-linear";

/// Which modules get an adapter (PEFT's `target_modules`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Modules whose path is one of these names or ends with `.name`.
    Names(Vec<String>),
    /// Every linear layer of the language model, without its head.
    AllLinear,
    /// Modules whose whole path this regular expression matches.
    Regex(String),
}

impl TargetModules {
    /// Reads PEFT's string form: `all-linear` in any case, else a regular expression.
    pub fn from_text(text: &str) -> Self {
        if text.eq_ignore_ascii_case(ALL_LINEAR) { TargetModules::AllLinear } else { TargetModules::Regex(text.into()) }
    }
}

/// As PEFT writes it: a list of names, or a text.
impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            TargetModules::Names(names) => names.serialize(serializer),
            TargetModules::AllLinear => serializer.serialize_str(ALL_LINEAR),
            TargetModules::Regex(pattern) => serializer.serialize_str(pattern),
        }
    }
}

/// Which of the targeted modules are left out after all (PEFT's `exclude_modules`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExcludeModules {
    /// Modules whose path is one of these names or ends with `.name`; none when empty.
    Names(Vec<String>),
    /// Modules whose whole path this regular expression matches.
    Regex(String),
}

impl Default for ExcludeModules {
    fn default() -> Self {
        ExcludeModules::Names(Vec::new())
    }
}

/// The modules that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Positions in the given list of paths, ascending.
    pub indices: Vec<usize>,
    /// One entry per kind of module (`q_proj`), in order of first appearance.
    pub kinds: Vec<KindCount>,
    /// Exclusions that left out nothing, such as the name of a vision tower.
    pub unused_exclusions: Vec<String>,
}

impl Selection {
    /// The modules at these positions, ascending, of all `paths`.
    pub fn of(paths: &[String], indices: Vec<usize>) -> Self {
        Selection { kinds: count_kinds(paths, &indices), indices, unused_exclusions: Vec::new() }
    }
}

/// How many modules of one kind get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// The last part of the path: `q_proj`.
    pub kind: String,
    /// Modules of this kind with an adapter.
    pub matched: usize,
    /// Modules of this kind in the model.
    pub total: usize,
}

/// Selects among `paths` as PEFT does: excluded modules first, then the targets.
///
/// # Errors
/// Every name (or the expression) that matches no module, with a suggestion; an exclusion that looks like a misspelt
/// module; an expression that is not valid here; a selection that the exclusions leave empty.
pub fn select(paths: &[String], target: &TargetModules, exclude: &ExcludeModules) -> Result<Selection> {
    let at = |key: &'static str| move |error: Error| error.at(Place::Key(format!("adapter.{key}")));
    let (at_target, at_exclude) = (at("target_modules"), at("exclude_modules"));
    let target_rule = Rule::of_target(target).map_err(at_target)?;
    let exclude_rule = Rule::of_exclusion(exclude).map_err(at_exclude)?;
    let targeted: Vec<bool> = paths.iter().map(|path| target_rule.hits(path)).collect();
    let excluded: Vec<bool> = paths.iter().map(|path| exclude_rule.hits(path)).collect();
    let mut problems = match target {
        TargetModules::Regex(pattern) if !targeted.contains(&true) => vec![nothing_matches(paths, pattern)],
        TargetModules::Regex(_) | TargetModules::AllLinear => Vec::new(),
        TargetModules::Names(names) if names.is_empty() => {
            vec![Error::new(Kind::Adapter, "`target_modules` is empty").hint(kinds_hint(paths))]
        }
        TargetModules::Names(names) => unknown_targets(paths, names).into_iter().map(|(_, problem)| problem).collect(),
    };
    problems = problems.into_iter().map(at_target).collect();
    let mut unused_exclusions = Vec::new();
    match exclude {
        ExcludeModules::Regex(pattern) if pattern.is_empty() || excluded.contains(&true) => {}
        ExcludeModules::Regex(pattern) => unused_exclusions.push(pattern.clone()),
        ExcludeModules::Names(names) => {
            for (_, name) in unmatched(paths, names) {
                match meant(paths, name) {
                    Some(meant) => problems.push(at_exclude(misspelt_exclusion(name, meant))),
                    None => unused_exclusions.push(name.clone()),
                }
            }
        }
    }
    if let Some(error) = Error::many(problems) {
        return Err(error);
    }
    let indices: Vec<usize> = (0..paths.len()).filter(|&i| targeted[i] && !excluded[i]).collect();
    if indices.is_empty() {
        return Err(nothing_left());
    }
    Ok(Selection { unused_exclusions, ..Selection::of(paths, indices) })
}

/// The problem of exclusions that leave no target.
pub fn nothing_left() -> Error {
    Error::new(Kind::Adapter, "`exclude_modules` leaves out every module that `target_modules` names")
        .at(Place::Key("adapter.exclude_modules".into()))
        .hint("exclude fewer modules")
}

/// Whether a name of a list means any of `paths`.
pub fn is_known(paths: &[String], name: &str) -> bool {
    paths.iter().any(|path| tails(path).any(|tail| tail == name))
}

/// The targets that match none of `paths`, by their positions in the list.
pub fn unknown_targets(paths: &[String], names: &[String]) -> Vec<(usize, Error)> {
    unmatched(paths, names).map(|(position, name)| (position, unknown_name(paths, name))).collect()
}

/// The exclusions that match none of `paths` and nearly are one, by their positions in the list. One that speaks of parts
/// that `paths` do not have may mean what they leave out, such as a vision tower.
pub fn misspelt_exclusions(paths: &[String], names: &[String]) -> Vec<(usize, Error)> {
    let parts: HashSet<&str> = paths.iter().flat_map(|path| path.split('.')).collect();
    let inside = |name: &str| name.rsplit_once('.').is_none_or(|(head, _)| head.split('.').all(|p| parts.contains(p)));
    let unknown = unmatched(paths, names).filter(|(_, name)| inside(name));
    unknown.filter_map(|(position, name)| Some((position, misspelt_exclusion(name, meant(paths, name)?)))).collect()
}

/// The shortest `target_modules` that makes PEFT choose exactly the selected modules when it loads the adapter.
///
/// A text-only model needs just the kinds (`q_proj`). In a multimodal model these names also occur in the vision
/// tower, so there it is an expression over the language model's layers. An uneven selection lists full paths.
pub fn exact_targets(paths: &[String], selection: &Selection) -> TargetModules {
    let full_paths = || selection.indices.iter().filter_map(|&i| paths.get(i).cloned()).collect();
    if selection.kinds.iter().any(|kind| kind.matched != 0 && kind.matched != kind.total) {
        return TargetModules::Names(full_paths());
    }
    // The parts of a path before the layer number, and after it: `model.layers` and `self_attn.q_proj`.
    let split = |path: &str| -> Option<(String, String)> {
        let parts: Vec<&str> = path.split('.').collect();
        let number = parts.iter().position(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))?;
        // What ends with the number is itself one of a list, such as `altup_projections.0`.
        let tail = parts[number + 1..].join(".");
        (!tail.is_empty()).then(|| (parts[..number].join("."), tail))
    };
    let mut stems: Vec<String> = Vec::new();
    let mut tails: Vec<String> = Vec::new();
    for path in selection.indices.iter().filter_map(|&i| paths.get(i)) {
        let Some((stem, tail)) = split(path) else { return TargetModules::Names(full_paths()) };
        if !stems.contains(&stem) {
            stems.push(stem);
        }
        if !tails.contains(&tail) {
            tails.push(tail);
        }
    }
    match stems.as_slice() {
        [stem] if stem == "model.layers" => {
            let kinds = selection.kinds.iter().filter(|kind| kind.matched > 0);
            TargetModules::Names(kinds.map(|kind| kind.kind.clone()).collect())
        }
        [stem] => {
            let tails: Vec<String> = tails.iter().map(|tail| regex::escape(tail)).collect();
            TargetModules::Regex(format!(r"{}\.\d+\.({})", regex::escape(stem), tails.join("|")))
        }
        _ => TargetModules::Names(full_paths()),
    }
}

/// A test for single paths by the same rules, without complaints about what matches nothing.
///
/// # Errors
/// An expression that is not valid here.
pub fn matcher(target: &TargetModules, exclude: &ExcludeModules) -> Result<impl Fn(&str) -> bool + use<>> {
    let (target, exclude) = (Rule::of_target(target)?, Rule::of_exclusion(exclude)?);
    Ok(move |path: &str| target.hits(path) && !exclude.hits(path))
}

/// A target or an exclusion, ready to test paths.
enum Rule {
    Every,
    Names(HashSet<String>),
    Regex(Regex),
}

impl Rule {
    fn of_target(target: &TargetModules) -> Result<Self> {
        Ok(match target {
            TargetModules::AllLinear => Rule::Every,
            TargetModules::Names(names) => Rule::Names(names.iter().cloned().collect()),
            TargetModules::Regex(pattern) => Rule::Regex(full_match("target_modules", pattern)?),
        })
    }

    fn of_exclusion(exclude: &ExcludeModules) -> Result<Self> {
        Ok(match exclude {
            ExcludeModules::Names(names) => Rule::Names(names.iter().cloned().collect()),
            // PEFT takes an empty text for "nothing".
            ExcludeModules::Regex(pattern) if pattern.is_empty() => Rule::Names(HashSet::new()),
            ExcludeModules::Regex(pattern) => Rule::Regex(full_match("exclude_modules", pattern)?),
        })
    }

    fn hits(&self, path: &str) -> bool {
        match self {
            Rule::Every => true,
            Rule::Names(names) => tails(path).any(|tail| names.contains(tail)),
            Rule::Regex(regex) => regex.is_match(path),
        }
    }
}

/// The names of a list that mean the module at `path`: all of it, and what follows each of its dots.
fn tails(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once(path).chain(path.match_indices('.').map(|(dot, _)| &path[dot + 1..]))
}

/// Compiles `pattern` to match a whole path, as Python's `re.fullmatch`; `key` names the setting in errors.
///
/// # Errors
/// An expression that Rust's `regex` does not accept; look-around and back-references get their own words.
pub(crate) fn full_match(key: &str, pattern: &str) -> Result<Regex> {
    compile(key, pattern, &format!(r"\A(?:{pattern})\z"))
}

/// Compiles a key of PEFT's `rank_pattern`: it matches a path's end that begins at a dot, or the whole path.
///
/// # Errors
/// As [`full_match`].
pub(crate) fn tail_match(key: &str, pattern: &str) -> Result<Regex> {
    compile(key, pattern, &format!(r"\A(?:.*\.)?(?:{pattern})\z"))
}

/// Compiles an expression that someone else may have written, unless it would be large: it is tried on every module, in a
/// time that grows with its size.
///
/// # Errors
/// An expression that `regex` does not accept, or a large one.
pub(crate) fn bounded_regex(pattern: &str) -> std::result::Result<Regex, regex::Error> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(regex::Error::CompiledTooBig(MAX_PATTERN_BYTES));
    }
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).nest_limit(50).build()
}

fn compile(key: &str, pattern: &str, anchored: &str) -> Result<Regex> {
    // The bare pattern first, so that the message shows what the user wrote and `a)(b` cannot pair with our brackets.
    bounded_regex(pattern).and_then(|_| bounded_regex(anchored)).map_err(|error| {
        let look_around = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|token| pattern.contains(token));
        let hint = if look_around {
            "look-ahead and look-behind work in Python only; leave modules out with `exclude_modules` instead"
        } else if pattern.contains(r"\Z") {
            r"write `\z` for the end of the text, or leave it out: the whole path is matched anyway"
        } else {
            "back-references, look-around and some Python escapes are not supported; a list of names may do"
        };
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::new(Kind::Adapter, format!("`{key}` holds a regular expression that is not valid here: `{pattern}`"))
            .excerpt(reason)
            .hint(hint)
            .caused_by(error)
    })
}

/// The names that match no path, with their positions.
fn unmatched<'a>(paths: &'a [String], names: &'a [String]) -> impl Iterator<Item = (usize, &'a String)> {
    let known: HashSet<&str> = paths.iter().flat_map(|path| tails(path)).collect();
    names.iter().enumerate().filter(move |(_, name)| !known.contains(name.as_str()))
}

fn count_kinds(paths: &[String], indices: &[usize]) -> Vec<KindCount> {
    let mut kinds: Vec<KindCount> = Vec::new();
    let mut position: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, path) in paths.iter().enumerate() {
        let kind = kind_of(path);
        let at = *position.entry(kind).or_insert_with(|| {
            kinds.push(KindCount { kind: kind.into(), matched: 0, total: 0 });
            kinds.len() - 1
        });
        kinds[at].total += 1;
        kinds[at].matched += usize::from(indices.binary_search(&i).is_ok());
    }
    kinds
}

/// The last part of a path, with the one before where it is a number.
fn kind_of(path: &str) -> &str {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = if path.rsplit('.').next().is_some_and(is_number) { 2 } else { 1 };
    path.rmatch_indices('.').nth(parts - 1).map_or(path, |(dot, _)| &path[dot + 1..])
}

/// The kinds of module there are, in order of first appearance.
fn kinds(paths: &[String]) -> Vec<&str> {
    let mut kinds = Vec::new();
    for kind in paths.iter().map(|path| kind_of(path)) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn kinds_hint(paths: &[String]) -> String {
    format!("modules here are {}, as in `{}`", kinds(paths).join(", "), paths.first().map_or("", String::as_str))
}

/// What a name was meant to be: it is compared with as many of a path's last parts as it has itself.
fn suggestion<'a>(paths: &'a [String], name: &str) -> Option<&'a str> {
    let parts = name.split('.').count();
    let tail =
        |path: &'a String| path.rmatch_indices('.').nth(parts - 1).map_or(path.as_str(), |(dot, _)| &path[dot + 1..]);
    // As an expression, a name matches no path; as a name, it is one.
    paths.iter().map(tail).find(|tail| *tail == name).or_else(|| did_you_mean(name, paths.iter().map(tail)))
}

/// What an exclusion that matches nothing was meant to be; `None` if it may well be meant as it stands.
fn meant<'a>(paths: &'a [String], name: &str) -> Option<&'a str> {
    if OF_THE_TOWER.contains(&kind_of(name)) { None } else { suggestion(paths, name) }
}

/// A misspelt exclusion would silently train what the user wanted left alone.
fn misspelt_exclusion(name: &str, meant: &str) -> Error {
    Error::new(Kind::Adapter, format!("`exclude_modules` entry `{name}` matches no module"))
        .hint(format!("did you mean `{meant}`?"))
}

fn unknown_name(paths: &[String], name: &str) -> Error {
    let hint = if ["lm_head", "embed_tokens"].contains(&kind_of(name)) {
        "adapters go on the linear layers inside the language model, not on its embedding or head".to_owned()
    } else if OF_THE_TOWER.contains(&kind_of(name)) || name.contains("vision_tower") {
        "these are names of the language model; those of its vision tower stand in `adapter.vision_target_modules`"
            .to_owned()
    } else if name.contains(['*', '\\', '|', '(', '[']) {
        "a list holds names; write a regular expression as one string".to_owned()
    } else if name.eq_ignore_ascii_case(ALL_LINEAR) {
        format!("write it as a string, not as a list: `target_modules: {ALL_LINEAR}`")
    } else if let Some(meant) = suggestion(paths, name) {
        format!("did you mean `{meant}`?")
    } else {
        kinds_hint(paths)
    };
    Error::new(Kind::Adapter, format!("`target_modules` entry `{name}` matches no module")).hint(hint)
}

fn nothing_matches(paths: &[String], pattern: &str) -> Error {
    let hint = match suggestion(paths, pattern) {
        Some(meant) if !pattern.contains('.') => format!(
            "a string must match the whole path, such as `{}`; did you mean the list `[{meant}]`?",
            paths.first().map_or("", String::as_str)
        ),
        _ => format!("the expression must match the whole path; {}", kinds_hint(paths)),
    };
    Error::new(Kind::Adapter, format!("`target_modules` expression `{pattern}` matches no module")).hint(hint)
}

#[cfg(test)]
mod tests;
