//! `{"input_ids", "labels"?, "attention_mask"?}`: tokenised elsewhere; labels as in Hugging Face (aligned, -100 skips).
//! What the mask has 0 for, at the beginning or the end, is padding and no part of the row.

use super::columns::{Columns, as_list};
use crate::data::object::{as_long_list, shown};
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ops::Range;

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let mut input_ids: Vec<u32> = numbers(row.require("input_ids", RowFormat::Tokens)?, "input_ids", "a token id")?;
    if input_ids.is_empty() {
        return Err(Error::new(Kind::Data, "`input_ids` is empty"));
    }
    let mut labels: Option<Vec<i32>> = match row.filled("labels") {
        Some(labels) => Some(numbers(labels, "labels", "a token id or -100")?),
        None => None,
    };
    if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != input_ids.len()) {
        let what = format!("`labels` has {} items, `input_ids` has {}", labels.len(), input_ids.len());
        return Err(Error::new(Kind::Data, what).hint("labels are aligned with input_ids; the shift happens inside"));
    }
    if let Some(mask) = row.filled("attention_mask") {
        let row = unpadded(mask, input_ids.len())?;
        keep(&mut input_ids, &row);
        labels.iter_mut().for_each(|labels| keep(labels, &row));
    }
    Ok(Row::Tokens { input_ids, labels, media: Vec::new() })
}

/// Where a mask has its ones.
fn unpadded(mask: &Value, length: usize) -> Result<Range<usize>> {
    let wrong = |what: String| Err(Error::new(Kind::Data, what));
    let mask: Vec<u8> = numbers(mask, "attention_mask", "0 or 1")?;
    if mask.len() != length {
        return wrong(format!("`attention_mask` has {} items, `input_ids` has {length}", mask.len()));
    }
    if let Some(other) = mask.iter().find(|&&bit| bit > 1) {
        return wrong(format!("`attention_mask` must hold 0 and 1 only, found {other}"));
    }
    let Some(start) = mask.iter().position(|&bit| bit == 1) else {
        return wrong("`attention_mask` has no 1: all of the row is padding".into());
    };
    let end = mask.iter().rposition(|&bit| bit == 1).map_or(length, |last| last + 1);
    match mask[start..end].contains(&0) {
        true => wrong("`attention_mask` has a 0 between tokens; it may only mask padding, at either end".into()),
        false => Ok(start..end),
    }
}

/// Drops what is not in `range`.
fn keep<T>(values: &mut Vec<T>, range: &Range<usize>) {
    values.truncate(range.end);
    values.drain(..range.start);
}

fn numbers<T: TryFrom<i64> + DeserializeOwned>(value: &Value, name: &str, expected: &str) -> Result<Vec<T>> {
    // The text of a list is not made into values: they are many times as large as numbers.
    let text = as_long_list(value).or_else(|| value.as_str());
    if let Some(numbers) = text.and_then(|text| serde_json::from_str(text).ok()) {
        return Ok(numbers);
    }
    as_list(value, name)?
        .iter()
        .enumerate()
        .map(|(i, value)| {
            value.as_i64().and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
                Error::new(Kind::Data, format!("`{name}[{i}]` must be {expected}, found {}", shown(value)))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use crate::data::object::{long_list, not_a_number};
    use serde_json::json;

    const FORMAT: RowFormat = RowFormat::Tokens;

    #[test]
    fn ids_and_labels() {
        let row =
            parse_json(FORMAT, json!({"input_ids": [2, 5, 6], "labels": [-100, 5, 6], "attention_mask": [1, 1, 1]}));
        assert_eq!(
            row.unwrap(),
            Row::Tokens { input_ids: vec![2, 5, 6], labels: Some(vec![-100, 5, 6]), media: Vec::new() }
        );
        for labels in [json!(null), json!(""), json!(" ")] {
            let row = parse_json(FORMAT, json!({"input_ids": "[2, 5]", "labels": labels, "attention_mask": labels}));
            assert_eq!(row.unwrap(), Row::Tokens { input_ids: vec![2, 5], labels: None, media: Vec::new() });
        }
        let long = long_list("[2, 5, 6]");
        let row = parse_json(FORMAT, json!({"input_ids": long, "labels": long, "attention_mask": [0, 1, 1]})).unwrap();
        assert_eq!(row, Row::Tokens { input_ids: vec![5, 6], labels: Some(vec![5, 6]), media: Vec::new() });
    }

    #[test]
    fn padding_is_no_part_of_the_row() {
        let row = |mask: Value| {
            parse_json(FORMAT, json!({"input_ids": [0, 2, 5, 0], "labels": [0, -100, 5, 0], "attention_mask": mask}))
        };
        assert_eq!(
            row(json!([0, 1, 1, 0])).unwrap(),
            Row::Tokens { input_ids: vec![2, 5], labels: Some(vec![-100, 5]), media: Vec::new() }
        );
        assert_eq!(row(json!(null)).unwrap(), row(json!([1, 1, 1, 1])).unwrap());
        let refused = |mask: Value| row(mask).unwrap_err().what().to_owned();
        assert_eq!(refused(json!([1, 1, 1])), "`attention_mask` has 3 items, `input_ids` has 4");
        assert_eq!(refused(json!([0, 1, 2, 0])), "`attention_mask` must hold 0 and 1 only, found 2");
        assert_eq!(refused(json!([0, 0, 0, 0])), "`attention_mask` has no 1: all of the row is padding");
        assert_eq!(
            refused(json!([1, 0, 1, 1])),
            "`attention_mask` has a 0 between tokens; it may only mask padding, at either end"
        );
        assert_eq!(refused(json!([1, 1, 1, -1])), "`attention_mask[3]` must be 0 or 1, found `-1`");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!(problem(FORMAT, json!({"input_ids": [1, -1]})), "`input_ids[1]` must be a token id, found `-1`");
        let nested = problem(FORMAT, json!({"input_ids": [vec![7; 1000]]}));
        assert!(nested.len() < 120 && nested.starts_with("`input_ids[0]` must be a token id, found `[7,7"), "{nested}");
        let no_number = problem(FORMAT, json!({"input_ids": [not_a_number()]}));
        assert_eq!(no_number, "`input_ids[0]` must be a token id, found NaN or Infinity, which JSON does not have");
        assert_eq!(
            problem(FORMAT, json!({"input_ids": long_list("[1, -1]")})),
            "`input_ids[1]` must be a token id, found `-1`"
        );
        assert_eq!(problem(RowFormat::Text, json!({"text": long_list("[1]")})), "`text` must be a text, found a list");
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
