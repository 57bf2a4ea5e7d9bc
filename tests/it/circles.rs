//! No file of a room uses, by whatever way, a file that uses it back: what belongs together is one file, or a parent and
//! its children.
//!
//! Paths are resolved as the compiler does, re-exports included, so that a `pub use` hides no circle.

use crate::architecture::{Source, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Where modules are: `crate::ops::cpu` by its path without `crate`.
type Path = Vec<String>;

/// A file as a module: its children, and what its names stand for.
#[derive(Default)]
struct Module {
    /// Names that a `use` brings in, as absolute paths.
    names: BTreeMap<String, Path>,
    /// Every path in its code, as it is written.
    paths: BTreeSet<Path>,
}

/// All modules of `src`.
struct Modules(BTreeMap<Path, Module>);

impl Modules {
    fn read(sources: &[Source]) -> Self {
        let modules = sources.iter().map(|source| (module_path(&source.path), &source.code));
        let mut all = Modules(modules.clone().map(|(path, _)| (path, Module::default())).collect());
        for (path, code) in modules {
            let (uses, rest) = statements(code);
            let mut module = Module::default();
            for used in uses.iter().flat_map(|tree| expand(tree)) {
                let (name, to) = used;
                module.paths.insert(to.clone());
                module.names.insert(name, all.absolute(&path, &to));
            }
            module.paths.extend(paths(&rest));
            all.0.insert(path, module);
        }
        all
    }

    /// A path of a `use` in `module`, from the crate's root.
    fn absolute(&self, module: &Path, path: &Path) -> Path {
        let mut at = module.clone();
        let mut rest = path.as_slice();
        match rest.first().map(String::as_str) {
            Some("crate") => at.clear(),
            Some("super") => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
                at.extend_from_slice(rest);
                return at;
            }
            Some("self") => {}
            Some(name) if self.is_module(&[at.as_slice(), &[name.to_owned()]].concat()) => {
                at.extend_from_slice(rest);
                return at;
            }
            _ => return path.clone(), // another crate's
        }
        at.extend_from_slice(&rest[1..]);
        at
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.0.contains_key(path)
    }

    /// The module that defines what an absolute path names; `None` outside of this crate.
    fn defining(&self, path: &[String], depth: usize) -> Option<Path> {
        let mut at = Path::new();
        for (i, name) in path.iter().enumerate() {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.is_module(&child) {
                at = child;
                continue;
            }
            let found = self.0.get(&at)?.names.get(name).filter(|_| depth < 16);
            return match found {
                Some(to) if to != path => self.defining(&[to.as_slice(), &path[i + 1..]].concat(), depth + 1),
                _ => Some(at).filter(|at| !at.is_empty()),
            };
        }
        Some(at).filter(|at| !at.is_empty())
    }

    /// The modules that each module's code names, without its ancestors and descendants.
    fn arrows(&self) -> BTreeMap<&Path, BTreeSet<Path>> {
        let of = |(path, module): (&Path, &Module)| {
            let known = |written: &Path| {
                let first = module.names.get(&written[0]);
                let absolute = first.map(|first| [first.as_slice(), &written[1..]].concat());
                self.defining(&absolute.unwrap_or_else(|| self.absolute(path, written)), 0)
            };
            let others = module.paths.iter().filter_map(known);
            others.filter(|to| !to.starts_with(path) && !path.starts_with(to)).collect()
        };
        self.0.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// Shortest ways from a module back to itself, each circle once.
    fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let mut found = BTreeMap::new();
        for &start in arrows.keys() {
            let (mut came_from, mut next) = (BTreeMap::<Path, Path>::new(), vec![start.clone()]);
            while let Some(at) = (!next.is_empty()).then(|| next.remove(0)) {
                for to in &arrows[&at] {
                    if !came_from.contains_key(to) {
                        came_from.insert(to.clone(), at.clone());
                        next.push(to.clone());
                    }
                }
            }
            let Some(last) = came_from.get(start) else { continue };
            let mut way = vec![start.join("::")];
            let mut at = last;
            while at != start {
                way.push(at.join("::"));
                at = &came_from[at];
            }
            way.reverse();
            let members: BTreeSet<String> = way.iter().cloned().collect();
            found.entry(members).or_insert_with(|| format!("{} -> {}", way[way.len() - 1], way.join(" -> ")));
        }
        found.into_values().collect()
    }
}

/// `src/ops/cpu/mod.rs` is `ops::cpu`.
fn module_path(file: &str) -> Path {
    let names = file.trim_start_matches("src/").trim_end_matches(".rs").split('/').map(str::to_owned);
    names.filter(|name| name != "mod" && name != "lib").collect()
}

/// The trees of the `use` statements, and the rest of the code.
fn statements(code: &str) -> (Vec<String>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let tree = line.trim_start().trim_start_matches("pub").trim_start();
        let tree = tree.strip_prefix('(').map_or(tree, |t| t.split_once(')').map_or(t, |(_, t)| t.trim_start()));
        let Some(tree) = tree.strip_prefix("use ") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(line) = lines.next() else { break };
            tree.push_str(line.trim());
        }
        uses.push(tree.split(';').next().unwrap_or_default().chars().filter(|c| *c != '\n').collect());
    }
    (uses, rest)
}

/// Each name that a tree of `use` brings in, with its path as it is written.
fn expand(tree: &str) -> Vec<(String, Path)> {
    let tree = tree.trim();
    if let Some((prefix, group)) = tree.split_once('{') {
        let prefix: Path = prefix.split("::").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let mut depth = 0;
        let inner = &group[..group.rfind('}').unwrap_or(group.len())];
        let parts = inner.split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == ','
        });
        return parts
            .filter(|part| !part.trim().is_empty())
            .flat_map(expand)
            .map(|(name, path)| match path.as_slice() {
                [own] if own == "self" => (prefix.last().cloned().unwrap_or_default(), prefix.clone()),
                _ => (name, [prefix.as_slice(), &path].concat()),
            })
            .collect();
    }
    let (path, name) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name.trim())));
    let path: Path = path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    let name = name.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
    vec![(name, path)]
}

/// Every path of at least two names in code.
fn paths(code: &str) -> BTreeSet<Path> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_path(c)).map(|word| word.trim_matches(':'));
    words.filter(|word| word.contains("::")).map(|word| word.split("::").map(str::to_owned).collect()).collect()
}

#[test]
fn files_use_each_other_in_one_direction() {
    assert_eq!(Modules::read(&sources()).circles(), Vec::<String>::new());
}

#[test]
fn circles_are_found() {
    let file = |path: &str, code: &str| Source { path: path.into(), room: String::new(), lines: 0, code: code.into() };
    let circles = |files: &[Source]| Modules::read(files).circles();
    // Through a re-export, a renamed module and a path in the code.
    let hidden = [
        file("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub use c::{C, d::D};\n"),
        file("src/a/b.rs", "use super::{self as up, c};\nfn f() { c::d::g(); }\n"),
        file("src/a/c.rs", "pub mod d;\n"),
        file("src/a/c/d.rs", "use crate::a::{\n    B,\n    C,\n};\n"),
    ];
    assert_eq!(circles(&hidden), ["a::b -> a::c::d -> a::b"]);
    let parent_and_child =
        [file("src/a/mod.rs", "mod b;\nfn f() { b::g(); }\n"), file("src/a/b.rs", "use super::f;\nuse std::fmt;\n")];
    assert_eq!(circles(&parent_and_child), Vec::<String>::new());
}
