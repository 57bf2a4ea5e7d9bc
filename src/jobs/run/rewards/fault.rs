//! What is wrong with who judges, and the numbers that they give where nothing is.

use super::Answered;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::counted;

/// What is said of an item, by its number from 1, that is no finite number.
pub type Said<'s> = &'s dyn Fn(usize, &str) -> String;

/// What is needed to say what is wrong with who judges.
pub struct Fault<'a> {
    /// What the reward is called.
    pub name: &'a str,
    /// Who judges, as the recipe has it.
    pub who: &'a str,
    /// What is judged.
    pub answers: &'a [Answered<'a>],
    /// What they complained of; empty where they did not.
    pub complaints: String,
}

impl Fault<'_> {
    /// How many answers there are, in words.
    pub fn all(&self) -> String {
        counted(self.answers.len(), "answer")
    }

    /// What they did, the first answer that has no number for it, and what they complained of.
    pub fn error(&self, what: &str, answer: usize) -> Error {
        let error = Error::new(Kind::Reward, format!("reward `{}`: `{}` {what}", self.name, self.who));
        let error = if self.complaints.is_empty() { error } else { error.excerpt(self.complaints.clone()) };
        match self.answers.get(answer) {
            Some(answered) => error.at(Place::Named(format!("an answer to {}", answered.origin))),
            None => error,
        }
    }

    /// The number of each answer, of what was given for them in their order. `not_finite` says what is wrong with an
    /// item, and `hint` what is to be given; of another count than there are answers `miscounted` says so, with a hint of its own.
    ///
    /// # Errors
    /// Where there is no number for each answer, and no more.
    pub fn numbers(
        &self,
        items: &[impl AsRef<str>],
        (not_finite, hint): (Said, &'static str),
        (miscounted, hint_of_count): (String, &'static str),
    ) -> Result<Vec<f64>> {
        let number = |(at, item): (usize, &str)| match item.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.error(&not_finite(at + 1, item), at).hint(hint)),
        };
        let items = items.iter().map(AsRef::as_ref);
        let given = items.len();
        let numbers = items.take(self.answers.len()).enumerate().map(number).collect::<Result<Vec<f64>>>()?;
        if given != self.answers.len() {
            let first = given.min(self.answers.len().saturating_sub(1));
            return Err(self.error(&miscounted, first).hint(hint_of_count));
        }
        Ok(numbers)
    }
}
