//! A recipe on its way: read as far as it can be, so that what else is wrong with it can be told together.

use super::diagnose::Diagnosis;
use super::given::Given;
use super::raw::{Node, Origin};
use super::{Recipe, layers, places};
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};

/// A recipe as far as it could be read, and every problem found so far.
pub struct Reading {
    path: PathBuf,
    recipe: Option<Recipe>,
    diagnosis: Diagnosis,
}

impl Reading {
    /// Reads the recipe at `path`, with `--set` options laid over it.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Self> {
        Ok(Reading::of(path, layers::read_file(path)?, overrides))
    }

    /// Reads a recipe from the `bytes` of a file that messages call `path`.
    pub fn of(path: &Path, bytes: Vec<u8>, overrides: &[String]) -> Self {
        let mut diagnosis = Diagnosis::default();
        let root = layers::stack(path, bytes, &[], overrides, &mut diagnosis);
        Reading::resolved(path, root, diagnosis)
    }

    /// Reads a `text` of the program's own, with what options give laid over it, and `--set` options over that.
    pub(super) fn of_options(text: &str, given: &[(Origin, &Given)], overrides: &[String]) -> Self {
        let (path, mut diagnosis) = (Path::new("defaults"), Diagnosis::default());
        let root = layers::stack(path, text.into(), given, overrides, &mut diagnosis);
        Reading::resolved(path, root, diagnosis)
    }

    /// Without all the texts, keys would be called missing that are not.
    fn resolved(path: &Path, root: Option<Node>, mut diagnosis: Diagnosis) -> Self {
        let recipe = root.map(|root| Recipe::resolve(Some(&root), &mut diagnosis));
        Reading { path: path.into(), recipe, diagnosis }
    }

    /// What could be read of it: a key that is missing or wrong has its default, or is empty where it has none.
    pub fn recipe(&self) -> Option<&Recipe> {
        self.recipe.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn recipe_mut(&mut self) -> Option<&mut Recipe> {
        self.recipe.as_mut()
    }

    /// Whether no problem was found so far.
    pub fn is_sound(&self) -> bool {
        self.diagnosis.is_sound()
    }

    /// Whether the key `path` has been reported.
    pub fn is_wrong(&self, path: &str) -> bool {
        self.diagnosis.is_wrong(path)
    }

    /// Adds a problem that was found elsewhere; one at a [`crate::error::Place::Key`] is shown at the key's line.
    pub fn report(&mut self, problem: Error) {
        let beside = self.recipe.as_ref().map(|recipe| places::beside(&self.path, recipe)).unwrap_or_default();
        self.diagnosis.report_at_key(places::hint_beside(problem, &beside));
    }

    /// The recipe.
    ///
    /// # Errors
    /// Every problem, in the order of the text.
    pub fn finish(self) -> Result<Recipe> {
        let mut places = self.diagnosis.finish()?;
        match self.recipe {
            Some(recipe) => {
                places.look_beside(&self.path, &recipe);
                Ok(Recipe { places, ..recipe })
            }
            None => Err(Error::new(Kind::Recipe, "the recipe cannot be read").at_path(self.path)),
        }
    }
}
