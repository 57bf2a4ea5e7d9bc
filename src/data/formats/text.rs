//! `{"text"}`: plain text, all of it learnt.

use super::columns::Columns;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let text = row.require_text("text", RowFormat::Text)?;
    if text.is_empty() {
        return Err(Error::new(Kind::Data, "`text` is empty"));
    }
    Ok(Row::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_taken_as_it_is() {
        assert_eq!(parse_json(RowFormat::Text, json!({"text": " a\n"})).unwrap(), Row::Text(" a\n".into()));
        assert_eq!(problem(RowFormat::Text, json!({"text": ""})), "`text` is empty");
        assert_eq!(problem(RowFormat::Text, json!({"text": ["a"]})), "`text` must be a text, found a list");
    }
}
