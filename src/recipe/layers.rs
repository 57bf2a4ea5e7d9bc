//! The texts that make up a recipe, laid over each other: what it extends, the file itself, `--set` options.

use super::diagnose::Diagnosis;
use super::given::Given;
use super::known::EXTENDS;
use super::raw::{Entry, Mark, Node, Origin, Shape, brief};
use super::section::Expand;
use super::yaml;
use crate::error::{Error, Kind, Place};
use crate::input;
use crate::paths;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Recipes are written by hand; a larger file is something else.
const MAX_BYTES: usize = 1_000_000;
/// Files that one recipe may take in, counting repetitions.
const MAX_FILES: usize = 32;

/// Reads the file at `path`, what it extends, what other options give, and `--set` options, as one mapping; `None` unless
/// all could be read.
pub(super) fn stack(
    path: &Path,
    bytes: Vec<u8>,
    given: &[(Origin, &Given)],
    overrides: &[String],
    diagnosis: &mut Diagnosis,
) -> Option<Node> {
    let mut files = Files { diagnosis, open: vec![identity(path)], count: 1 };
    let root = files.layer(path, bytes);
    let given: Vec<Node> = given.iter().map(|(origin, given)| option(origin.clone(), given, diagnosis)).collect();
    // Not lazily: problems of all options are wanted.
    let sets: Vec<Option<(Vec<Step>, Node)>> = overrides.iter().map(|text| set(text, diagnosis)).collect();
    let sets: Option<Vec<(Vec<Step>, Node)>> = sets.into_iter().collect();
    let (root, sets) = (root, sets?);
    let mut root = given.into_iter().fold(root?, over);
    for (steps, value) in sets {
        root = laid_at(root, &steps, value, "", diagnosis);
    }
    Some(root)
}

/// Reads a whole recipe file.
///
/// # Errors
/// Missing, unreadable, a folder, or too large.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |what: &str| Error::new(Kind::Recipe, what).at_path(path);
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A recipe may be piped into the program; nothing else without an end is read.
        let file: Box<dyn Read> =
            if input::is_stdin(path) { input::open_stdin(path)? } else { Box::new(input::open(path)?) };
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if let Some((what, hint)) = something_else(path) {
        return Err(wrong(&what).hint(hint));
    }
    match read() {
        Ok(bytes) if bytes.len() > MAX_BYTES => {
            Err(wrong("the file is larger than 1 MB, so it is not a recipe").hint("data goes into files of its own"))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_yaml = |found: &Path| found.extension().is_some_and(|e| e == "yaml" || e == "yml");
            let error = wrong("there is no such recipe file");
            Err(match paths::absent(path, &|found| found.is_dir() || is_yaml(found)) {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
        Err(error) => Err(Error::io("reading the recipe", path, error)),
    }
}

/// What is named in the place of a recipe, where its name says that it is none, and what to do.
fn something_else(path: &Path) -> Option<(String, String)> {
    let (shown, name) = (path.display(), path.file_name().unwrap_or_default().to_string_lossy().to_lowercase());
    if path.is_dir() {
        let is_recipe = |name: &String| name.ends_with(".yaml") || name.ends_with(".yml");
        let recipes: Vec<String> = paths::entries(path).into_iter().filter(is_recipe).collect();
        let of_run = recipes.iter().find(|name| *name == "recipe.yaml");
        let hint = match (of_run, recipes.as_slice()) {
            (Some(inside), _) | (None, [inside]) => {
                format!("name the recipe in it: `{}`", path.join(inside).display())
            }
            (None, [_, _, ..]) => "name the `.yaml` file in it".into(),
            (None, []) if path.join("config.json").is_file() => {
                format!("this is a model: `gemma-tune train --model {shown} --data FILE` trains it without a recipe")
            }
            (None, []) => format!("`gemma-tune train --model M --data {shown}` trains on files in it without a recipe"),
        };
        return Some(("this is a folder, not a recipe".into(), hint));
    }
    if path.exists() && !path.is_file() {
        return None; // a pipe, a device
    }
    if [".gguf", ".safetensors"].iter().any(|ending| name.ends_with(ending)) {
        let hint = format!("name it with `--model`: `gemma-tune train --model {shown} --data FILE` needs no recipe");
        return Some(("this is a model, not a recipe".into(), hint));
    }
    let unpacked = name.trim_end_matches(".gz").trim_end_matches(".zst");
    let is_data =
        [".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".xlsx"].iter().any(|e| unpacked.ends_with(e));
    is_data.then(|| {
        let hint = format!(
            "name it with `--data`: `gemma-tune train --model M --data {shown}` needs no recipe, and `gemma-tune init --data {shown}` \
             writes one"
        );
        ("this is a file of data, not a recipe".into(), hint)
    })
}

/// Reads files and those they extend.
struct Files<'d> {
    diagnosis: &'d mut Diagnosis,
    /// The file that is read and those that led to it, to notice circles.
    open: Vec<PathBuf>,
    count: usize,
}

impl Files<'_> {
    /// A file's mapping laid over the mappings that it extends.
    fn layer(&mut self, path: &Path, bytes: Vec<u8>) -> Option<Node> {
        let text = self.text(path, bytes)?;
        let origin = self.diagnosis.add_origin(Origin::File { path: path.into(), text: text.clone() });
        let before = self.diagnosis.count();
        let mut root = match yaml::parse(&text, origin, self.diagnosis) {
            Some(root) if !root.is_null() => root,
            _ => {
                if self.diagnosis.count() == before {
                    let error = Error::new(Kind::Recipe, "the recipe is empty").at_path(path);
                    self.diagnosis.push(None, error.hint("it needs at least `model`, `data` and `output`"));
                }
                return None;
            }
        };
        let Shape::Map(entries) = &mut root.shape else {
            let what = format!("a recipe must be sections with keys and values, found {}", root.describe());
            self.diagnosis.report(&root.mark, what, Some("it starts with `model:` at the left margin".into()));
            return None;
        };
        let extends = entries.iter().position(|e| e.key == EXTENDS).map(|i| entries.remove(i).value);
        let below = extends.map_or(Some(Vec::new()), |node| self.extended(node))?;
        below.into_iter().chain([root]).reduce(over)
    }

    /// The files that `extends` names, in order; `None` unless all could be read.
    fn extended(&mut self, node: Node) -> Option<Vec<Node>> {
        let nodes = match node.shape {
            Shape::List(nodes) => nodes,
            _ => vec![node],
        };
        let layers: Vec<Option<Node>> = nodes.iter().map(|node| self.extended_file(node)).collect();
        layers.into_iter().collect()
    }

    /// One file that `extends` names.
    fn extended_file(&mut self, node: &Node) -> Option<Node> {
        let mark = &node.mark;
        let (Shape::Scalar { text, .. }, false) = (&node.shape, node.is_null()) else {
            let what = format!("`{EXTENDS}` must be a path or a list of paths, found {}", node.describe());
            self.diagnosis.report(mark, what, None);
            return None;
        };
        let path = match text.expand() {
            Ok(path) => PathBuf::from(path),
            Err(error) => {
                self.diagnosis.report(mark, error.what(), error.hint_text().map(Into::into));
                return None;
            }
        };
        let path = path.as_path();
        let identity = identity(path);
        self.count += 1;
        if self.open.contains(&identity) {
            let what = format!("`{}` extends itself", brief(&path.to_string_lossy()));
            self.diagnosis.report(mark, what, Some("take one file out of the circle".into()));
            return None;
        }
        if self.count > MAX_FILES {
            self.diagnosis.report(mark, format!("a recipe takes in more than {MAX_FILES} files"), None);
            return None;
        }
        let bytes = match read_file(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let what = format!("`{}` cannot be extended: {}", brief(&path.to_string_lossy()), error.what());
                let hint = self.beside(path).or_else(|| error.hint_text().map(Into::into));
                self.diagnosis.report(mark, what, hint);
                return None;
            }
        };
        self.open.push(identity);
        let layer = self.layer(path, bytes);
        self.open.pop();
        layer
    }

    /// What to say of a path to extend that leads nowhere, but would from the folder of the file that names it.
    fn beside(&self, path: &Path) -> Option<String> {
        let other = self.open.last()?.parent()?.join(path);
        let is_beside = path.is_relative() && !path.exists() && other.exists();
        is_beside.then(|| {
            let other = other.display();
            format!("relative paths start at the folder in which the program runs, not at that of the recipe: `{other}` is there")
        })
    }

    /// The bytes as text with `\n` between lines and no byte-order mark.
    fn text(&mut self, path: &Path, bytes: Vec<u8>) -> Option<String> {
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                Some(text.replace("\r\n", "\n").replace('\r', "\n"))
            }
            Err(error) => {
                let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
                let line = valid.matches('\n').count() + 1;
                let column = valid.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
                let place = Place::Text { path: path.into(), line, column };
                let error = Error::new(Kind::Recipe, "the file is not UTF-8 text").at(place);
                self.diagnosis.push(None, error.hint("save it as UTF-8"));
                None
            }
        }
    }
}

/// What makes two paths the same file; the path itself where that cannot be known.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

/// A step on the way to a value.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// The value of a key.
    Key(String),
    /// An item of a list, from 0.
    Item(usize),
}

/// The steps of `rewards[0].timeout`; `None` where it is no such path.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in path.split('.').map(str::trim) {
        let (key, items) = part.split_once('[').map_or((part, None), |(key, items)| (key.trim_end(), Some(items)));
        if key.is_empty() {
            return None;
        }
        steps.push(Step::Key(key.to_owned()));
        if let Some(items) = items {
            let items = items.strip_suffix(']')?.split("][");
            steps.extend(items.map(|item| item.trim().parse().ok().map(Step::Item)).collect::<Option<Vec<_>>>()?);
        }
    }
    Some(steps)
}

/// A `--set section.key=value` option: where the value goes, and the value.
fn set(text: &str, diagnosis: &mut Diagnosis) -> Option<(Vec<Step>, Node)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let origin = diagnosis.add_origin(Origin::Set(text.clone()));
    let mark = Mark { origin, line: 1, column: 1, width: text.chars().count().max(1) };
    let Some((path, value)) = text.split_once('=') else {
        diagnosis.report(&mark, "there is no `=`", Some("write `--set section.key=value`".into()));
        return None;
    };
    let steps = steps(path).filter(|steps| steps.iter().filter(|step| matches!(step, Step::Key(_))).count() <= 3);
    let Some(steps) = steps else {
        let what = "what stands before the `=` does not name a key";
        let hint = match path.contains('[') {
            true => "an item of a list has its number, from 0: `--set rewards[0].weight=2`",
            false => "write `--set section.key=value`",
        };
        diagnosis.report(&mark, what, Some(hint.into()));
        return None;
    };
    let numbered = steps.iter().position(|step| matches!(step, Step::Key(key) if key.parse::<usize>().is_ok()));
    if let Some(at) = numbered.filter(|at| *at > 0) {
        let what = "what stands before the `=` does not name a key";
        let hint =
            format!("an item of a list has a number: write it with brackets: `--set {}=..`", with_brackets(path, at));
        diagnosis.report(&mark, what, Some(hint));
        return None;
    }
    if steps == [Step::Key(EXTENDS.to_owned())] {
        diagnosis.report(&mark, format!("`{EXTENDS}` cannot be set, only written into a recipe"), None);
        return None;
    }
    let before = diagnosis.count();
    let empty = Node { mark, shape: Shape::Scalar { text: String::new(), plain: true } };
    let mut value = match yaml::parse(value, origin, diagnosis) {
        Some(value) => value,
        None if diagnosis.count() == before => empty,
        None => return None,
    };
    value.mark = mark;
    Some((steps, value))
}

/// A path whose part number `at` is the number of an item: `rewards.0.weight` as `rewards[0].weight`.
fn with_brackets(path: &str, at: usize) -> String {
    let mut text = String::new();
    for (i, part) in path.split('.').map(str::trim).enumerate() {
        match i {
            _ if i == at => text += &format!("[{part}]"),
            0 => text += part,
            _ => text += &format!(".{part}"),
        }
    }
    text
}

/// `root` with `value` laid over what stands at the end of these steps; `path` is how far they were gone, for messages.
fn laid_at(root: Node, steps: &[Step], value: Node, path: &str, diagnosis: &mut Diagnosis) -> Node {
    let (mark, mut root) = (root.mark, root);
    match (steps.split_first(), &mut root.shape) {
        (None, _) => over(root, value),
        (Some((Step::Key(key), rest)), shape) => {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if let (Shape::Map(entries), true) = (shape, rest.iter().any(|step| matches!(step, Step::Item(_)))) {
                let Some(at) = entries.iter().position(|entry| entry.key == *key) else {
                    no_list(&path, "the recipe does not have it", &value.mark, diagnosis);
                    return root;
                };
                let Entry { key, mark: own, value: lower } = entries.remove(at);
                let value = laid_at(lower, rest, value, &path, diagnosis);
                entries.insert(at, Entry { key, mark: own, value });
                return root;
            }
            let keys: Vec<&str> = steps
                .iter()
                .filter_map(|step| match step {
                    Step::Key(key) => Some(key.as_str()),
                    Step::Item(_) => None,
                })
                .collect();
            over(root, at_keys(&keys, value))
        }
        (Some((Step::Item(at), rest)), Shape::List(items)) => {
            if *at >= items.len() {
                let there = match items.len() {
                    0 => "it is empty".to_owned(),
                    1 => "it has one item, `[0]`".to_owned(),
                    count => format!("it has {count} items, `[0]` to `[{}]`", count - 1),
                };
                no_list(&format!("{path}[{at}]"), &there, &value.mark, diagnosis);
                return root;
            }
            let item = items.remove(*at);
            items.insert(*at, laid_at(item, rest, value, &format!("{path}[{at}]"), diagnosis));
            root
        }
        // A single source may be written without being in a list.
        (Some((Step::Item(0), rest)), Shape::Map(_)) if path.starts_with("data.") => {
            laid_at(root, rest, value, path, diagnosis)
        }
        (Some((Step::Item(_), _)), _) => {
            let found = Node { mark, shape: root.shape.clone() }.describe();
            no_list(path, &format!("it is no list, but {found}"), &value.mark, diagnosis);
            root
        }
    }
}

/// Reports an item that cannot be set.
fn no_list(path: &str, why: &str, mark: &Mark, diagnosis: &mut Diagnosis) {
    let list = path.split('[').next().unwrap_or(path);
    let hint = format!("write all of it: `--set '{list}=[..]'`");
    diagnosis.report(mark, format!("`{path}` cannot be set: {why}"), Some(hint));
}

/// What an option gives as a mapping: the user's words are the values, whatever they would mean in YAML.
fn option(origin: Origin, given: &Given, diagnosis: &mut Diagnosis) -> Node {
    let origin = diagnosis.add_origin(origin);
    let mark = Mark { origin, line: 1, column: 1, width: 1 };
    let text = |text: &String| Node { mark, shape: Shape::Scalar { text: text.clone(), plain: false } };
    let value = match given.values.as_slice() {
        [value] if !given.is_list => text(value),
        values => Node { mark, shape: Shape::List(values.iter().map(text).collect()) },
    };
    at_keys(&given.key.split('.').collect::<Vec<_>>(), value)
}

/// `value` as the only one of the mappings that lead to it.
fn at_keys(keys: &[&str], value: Node) -> Node {
    let mark = value.mark;
    keys.iter().rev().fold(value, |value, key| {
        let entry = Entry { key: (*key).to_owned(), mark, value };
        Node { mark, shape: Shape::Map(vec![entry]) }
    })
}

/// `upper` laid over `lower`: mappings are merged key by key, anything else is replaced.
fn over(lower: Node, upper: Node) -> Node {
    let upper_is_null = upper.is_null();
    match (lower.shape, upper.shape) {
        (Shape::Map(mut entries), Shape::Map(upper_entries)) => {
            for entry in upper_entries {
                match entries.iter().position(|e| e.key == entry.key) {
                    Some(i) => {
                        let lower = entries.remove(i);
                        let value = over(lower.value, entry.value);
                        entries.insert(i, Entry { value, ..entry });
                    }
                    None => entries.push(entry),
                }
            }
            Node { mark: upper.mark, shape: Shape::Map(entries) }
        }
        // A section whose keys are all commented out takes nothing away.
        (Shape::Map(entries), _) if upper_is_null => Node { mark: upper.mark, shape: Shape::Map(entries) },
        (_, shape) => Node { mark: upper.mark, shape },
    }
}
