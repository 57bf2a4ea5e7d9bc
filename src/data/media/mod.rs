//! Pictures and sounds of rows: columns that hold them, what they become, and where they are found again.

mod reader;
mod rules;
mod table;

pub(super) use reader::MediaReader;
pub use reader::{check_medium, look_at};
pub use rules::{MediaRules, Prepared};
pub(super) use table::MediaOrigin;
pub use table::MediaTable;

use super::layout::Layout;
use super::object::{self, Object};
use crate::error::{Error, Kind, Result};
use serde_json::Value;

/// What such columns are called.
const NAMES: [&str; 6] = ["image", "images", "audio", "audios", "video", "videos"];

/// The column of a row that holds media, if one does.
pub fn media_column(row: &Object) -> Option<&str> {
    let holds = |value: &Value| !value.is_boolean() && !value.is_number() && object::holds(value);
    row.iter().find(|(name, value)| is_of_media(name) && holds(value)).map(|(name, _)| name.as_str())
}

/// Refuses a row with media, which a model that sees them would be trained without. `of_file` are all columns of the
/// file, where the row holds only those that its layout reads.
///
/// # Errors
/// When a column that the layout does not read holds media.
pub(super) fn refuse(row: &Object, of_file: Option<&[String]>, layout: &Layout) -> Result<()> {
    let in_row = media_column(row).filter(|column| !layout.reads(column));
    let in_file = || of_file?.iter().map(String::as_str).find(|name| is_of_media(name) && !layout.reads(name));
    in_row.or_else(in_file).map_or(Ok(()), |column| Err(refused(column)))
}

/// The error for a row whose `column` holds media.
fn refused(column: &str) -> Error {
    Error::new(Kind::Data, format!("the row has `{column}`, and rows of this form read no media")).hint_of_files(format!(
        "write it as `messages`, or as `prompt` and `completion`; `data.prompt` asks the same of every row; remove `{column}` \
         where text is meant alone"
    ))
}

fn is_of_media(name: &str) -> bool {
    NAMES.iter().any(|media| name.trim().eq_ignore_ascii_case(media))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::options::RowFormat;
    use serde_json::json;

    #[test]
    fn what_holds_media_is_refused_and_what_holds_nothing_is_not() {
        let layout = Layout::new(RowFormat::Text, true);
        let told = |row: Value, of_file: Option<&[String]>| {
            refuse(row.as_object().unwrap(), of_file, &layout).err().map(|error| error.what().to_owned())
        };
        for value in [json!("a.png"), json!(["a.png"]), json!([{"bytes": "x", "path": null}]), json!({"path": "a.png"})]
        {
            let told = told(json!({"text": "a", "Images": value}), None);
            assert_eq!(told.as_deref(), Some("the row has `Images`, and rows of this form read no media"));
        }
        for value in [json!(null), json!(""), json!([]), json!([null]), json!({"path": null}), json!(false)] {
            assert_eq!(told(json!({"text": "a", "images": value}), None), None);
        }
        assert_eq!(told(json!({"text": "a", "image_count": 3}), None), None);
        let of_file = ["text".to_owned(), "image".to_owned()];
        assert!(told(json!({"text": "a"}), Some(&of_file)).unwrap().contains("`image`"));
    }
}
