//! How the rows of one file are read: their format, what their columns are called, whether prompts become turns.

use super::options::RowFormat;
use serde::Serialize;
use std::collections::BTreeMap;

/// How the rows of one file are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// How they are laid out; not [`RowFormat::Auto`], except where there is no row to see it from.
    pub format: RowFormat,
    /// What their columns are called, by what the format calls them, where that is something else.
    pub columns: BTreeMap<String, String>,
    /// Whether prompts and completions that are texts become turns of a conversation.
    pub template: bool,
    /// What the user asks in rows without a prompt.
    pub prompt: Option<Asked>,
    /// Whether they are lines of a table of texts, where an empty cell is what null is elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_cells: bool,
}

/// What is asked in rows that do not say it themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The words.
    pub text: String,
    /// Whether it is about pictures or sounds, and makes no sense in a row without.
    pub of_media: bool,
}

impl Layout {
    /// Rows whose columns have the names of the format.
    pub fn new(format: RowFormat, template: bool) -> Self {
        Layout { format, columns: BTreeMap::new(), template, prompt: None, of_cells: false }
    }

    /// What the file calls the column that the format calls `name`.
    pub fn column<'a>(&'a self, name: &'a str) -> &'a str {
        self.columns.get(name).map_or(name, String::as_str)
    }

    /// The format, and what becomes of prompts and completions that are texts.
    pub fn describe(&self) -> String {
        let asked = if self.prompt.is_some() { ", asked `data.prompt`" } else { "" };
        match (self.format, self.template) {
            (RowFormat::PromptCompletion, true) => format!("prompt_completion{asked}, through the chat template"),
            (RowFormat::PromptCompletion, false) => format!("prompt_completion{asked}, as plain text"),
            (RowFormat::Preference | RowFormat::Unpaired | RowFormat::PromptOnly, false) => {
                format!("{}, strings as plain text", self.format)
            }
            (format, _) => format.to_string(),
        }
    }

    /// Whether its rows are conversations, for which a chat template is needed.
    pub fn has_turns(&self) -> bool {
        match self.format {
            RowFormat::Text | RowFormat::Tokens => false,
            RowFormat::PromptCompletion | RowFormat::Preference | RowFormat::Unpaired | RowFormat::PromptOnly => {
                self.template
            }
            RowFormat::Auto | RowFormat::Messages | RowFormat::Alpaca | RowFormat::Sharegpt => true,
        }
    }

    /// Whether `column`, by its name in the file, is read.
    pub fn reads(&self, column: &str) -> bool {
        if self.format == RowFormat::PromptOnly {
            return true; // rewards may read any of them
        }
        let names = self.format.columns().iter();
        names
            .filter(|name| self.template || self.format != RowFormat::PromptCompletion || **name != "system")
            .any(|name| self.column(name) == column)
    }

    /// The columns that are read, by their names in the file; `None` where any may be.
    pub fn read_columns(&self) -> Option<Vec<String>> {
        let may_be_any = matches!(self.format, RowFormat::Auto | RowFormat::PromptOnly);
        (!may_be_any).then(|| self.format.columns().iter().map(|name| self.column(name).to_owned()).collect())
    }
}
