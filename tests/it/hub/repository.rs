//! A repository: branches, commits, trees.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A file of a commit.
#[derive(Clone, PartialEq)]
pub enum Entry {
    /// In git.
    Regular(Vec<u8>),
    /// In the storage.
    Large { oid: String, size: usize },
}

impl Entry {
    /// Git's name for it: that of its bytes, or of the pointer that stands for them.
    pub fn blob_id(&self) -> String {
        let bytes = match self {
            Entry::Regular(bytes) => bytes.clone(),
            Entry::Large { oid, size } => {
                format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n").into_bytes()
            }
        };
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", bytes.len()));
        hasher.update(&bytes);
        format!("{:x}", hasher.finalize())
    }

    pub fn size(&self) -> usize {
        match self {
            Entry::Regular(bytes) => bytes.len(),
            Entry::Large { size, .. } => *size,
        }
    }
}

pub type Tree = BTreeMap<String, Entry>;

#[derive(Clone, Default)]
pub struct Commit {
    pub id: String,
    pub files: Tree,
}

pub struct Repository {
    pub private: bool,
    /// By name: `main`, `refs/pr/1`.
    pub branches: BTreeMap<String, String>,
    pub commits: BTreeMap<String, Commit>,
    pub pulls: usize,
}

impl Repository {
    /// One with a first commit, as the Hub makes it.
    pub fn new(private: bool) -> Self {
        let (branches, commits) = (BTreeMap::new(), BTreeMap::new());
        let mut repository = Repository { private, branches, commits, pulls: 0 };
        let attributes = Entry::Regular(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec());
        repository.commit("main", Tree::from([(".gitattributes".to_owned(), attributes)]));
        repository
    }

    /// The commit of a branch, or of this id.
    pub fn at(&self, revision: &str) -> Option<&Commit> {
        self.commits.get(self.branches.get(revision).map_or(revision, String::as_str))
    }

    /// Puts a branch at a new commit with these files; its id.
    pub fn commit(&mut self, branch: &str, files: Tree) -> String {
        let number = self.commits.len();
        let id = format!("{:x}", Sha256::digest(format!("{number} {branch} {:?}", files.keys())))[..40].to_owned();
        self.commits.insert(id.clone(), Commit { id: id.clone(), files });
        self.branches.insert(branch.to_owned(), id.clone());
        id
    }
}

/// The base models that the front matter of a card names.
pub fn base_model(files: &Tree) -> Option<String> {
    let Entry::Regular(card) = files.get("README.md")? else { return None };
    let card = std::str::from_utf8(card).ok()?;
    let front = card.strip_prefix("---\n")?.split("\n---").next()?;
    let line = front.lines().find_map(|line| line.strip_prefix("base_model:"))?;
    Some(line.trim().trim_matches('"').to_owned())
}
