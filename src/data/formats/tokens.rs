//! `{"input_ids", "labels"?}`: tokenised elsewhere; labels as in Hugging Face (aligned, -100 skips).

use super::columns::{Columns, as_list};
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use serde_json::Value;

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let input_ids = numbers(row.require("input_ids", RowFormat::Tokens)?, "input_ids", "a token id")?;
    if input_ids.is_empty() {
        return Err(Error::new(Kind::Data, "`input_ids` is empty"));
    }
    let labels: Option<Vec<i32>> = match row.get("labels") {
        Some(labels) => Some(numbers(labels, "labels", "a token id or -100")?),
        None => None,
    };
    if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != input_ids.len()) {
        let what = format!("`labels` has {} items, `input_ids` has {}", labels.len(), input_ids.len());
        return Err(Error::new(Kind::Data, what).hint("labels are aligned with input_ids; the shift happens inside"));
    }
    Ok(Row::Tokens { input_ids, labels })
}

fn numbers<T: TryFrom<i64>>(value: &Value, name: &str, expected: &str) -> Result<Vec<T>> {
    as_list(value, name)?
        .iter()
        .enumerate()
        .map(|(i, value)| {
            value
                .as_i64()
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(|| Error::new(Kind::Data, format!("`{name}[{i}]` must be {expected}, found `{value}`")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use serde_json::json;

    const FORMAT: RowFormat = RowFormat::Tokens;

    #[test]
    fn ids_and_labels() {
        let row =
            parse_json(FORMAT, json!({"input_ids": [2, 5, 6], "labels": [-100, 5, 6], "attention_mask": [1, 1, 1]}));
        assert_eq!(row.unwrap(), Row::Tokens { input_ids: vec![2, 5, 6], labels: Some(vec![-100, 5, 6]) });
        let row = parse_json(FORMAT, json!({"input_ids": "[2, 5]", "labels": null})).unwrap();
        assert_eq!(row, Row::Tokens { input_ids: vec![2, 5], labels: None });
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!(problem(FORMAT, json!({"input_ids": [1, -1]})), "`input_ids[1]` must be a token id, found `-1`");
        assert_eq!(problem(FORMAT, json!({"input_ids": [1.5]})), "`input_ids[0]` must be a token id, found `1.5`");
        assert_eq!(
            problem(FORMAT, json!({"input_ids": [4294967296_u64]})),
            "`input_ids[0]` must be a token id, found `4294967296`"
        );
        assert_eq!(problem(FORMAT, json!({"input_ids": []})), "`input_ids` is empty");
        assert_eq!(
            problem(FORMAT, json!({"input_ids": [1, 2], "labels": [1]})),
            "`labels` has 1 items, `input_ids` has 2 [labels are aligned with input_ids; the shift happens inside]"
        );
    }
}
