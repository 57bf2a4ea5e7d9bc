//! PEFT's `layers_to_transform`: adapters on some layers only.

use crate::adapter::target::TargetModules;
use crate::error::{Error, Kind, Result};
use regex::Regex;

/// Which layers have adapters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetLayers {
    /// Their numbers; all if there are none.
    pub layers_to_transform: Vec<usize>,
    /// Expressions for what stands before a layer's number in a module's path (`layers`); any name if there are none.
    pub layers_pattern: Vec<String>,
}

impl TargetLayers {
    /// Whether every layer has them.
    pub fn is_all(&self) -> bool {
        self.layers_to_transform.is_empty()
    }

    /// A test of module paths by PEFT's rule: the first number in the path that follows a matching name counts. A
    /// module that `targets` name by its whole path is taken in any layer.
    ///
    /// # Errors
    /// An expression that is not valid here.
    pub fn matcher(&self, targets: &TargetModules) -> Result<impl Fn(&str) -> bool + use<>> {
        let numbers = self.layers_to_transform.clone();
        let named = match targets {
            TargetModules::Names(names) if !self.is_all() => names.clone(),
            _ => Vec::new(),
        };
        let before: Vec<String> = match self.layers_pattern.as_slice() {
            [] => vec![r".*?\.[^.]*".into()],
            patterns => patterns.iter().map(|pattern| format!(r"(?:|.*?\.)(?:{pattern})")).collect(),
        };
        let expression = |before: &String| {
            Regex::new(&format!(r"\A(?:{before})\.(?<number>\d+)\.")).map_err(|error| {
                Error::new(Kind::Adapter, "`layers_pattern` holds a regular expression that is not valid here")
                    .caused_by(error)
            })
        };
        let expressions = before.iter().map(expression).collect::<Result<Vec<_>>>()?;
        Ok(move |path: &str| {
            let number = || {
                let found = expressions.iter().find_map(|expression| expression.captures(path))?;
                found.name("number")?.as_str().parse::<usize>().ok()
            };
            numbers.is_empty()
                || named.iter().any(|name| name == path)
                || number().is_some_and(|number| numbers.contains(&number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(numbers: &[usize], patterns: &[&str], targets: &TargetModules) -> Vec<usize> {
        let layers = TargetLayers {
            layers_to_transform: numbers.to_vec(),
            layers_pattern: patterns.iter().map(|&pattern| pattern.into()).collect(),
        };
        let matches = layers.matcher(targets).unwrap();
        (0..12).filter(|layer| matches(&format!("model.layers.{layer}.self_attn.q_proj"))).collect()
    }

    #[test]
    fn layers_are_chosen_as_peft_chooses_them() {
        let short = TargetModules::Names(vec!["q_proj".into()]);
        assert_eq!(chosen(&[], &[], &short), (0..12).collect::<Vec<_>>());
        assert_eq!(chosen(&[1, 11, 40], &[], &short), [1, 11], "11 is not 1");
        assert_eq!(chosen(&[3], &["layers"], &short), [3]);
        assert_eq!(chosen(&[3], &["blocks", "lay.rs"], &short), [3]);
        assert_eq!(chosen(&[3], &["blocks"], &short), [0usize; 0]);
        assert_eq!(chosen(&[3], &["ayers"], &short), [0usize; 0], "a whole name");
        let whole = TargetModules::Names(vec!["q_proj".into(), "model.layers.5.self_attn.q_proj".into()]);
        assert_eq!(chosen(&[3], &[], &whole), [3, 5]);
        let broken = TargetLayers { layers_to_transform: vec![1], layers_pattern: vec!["(?=x)".into()] };
        assert!(broken.matcher(&short).is_err());
    }
}
