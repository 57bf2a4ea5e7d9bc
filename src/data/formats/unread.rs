//! Columns that seem to hold pictures or sounds, under names that no format knows.

use crate::data::object::Object;
use crate::text::{MediaKind, MediaSource};
use serde_json::Value;

/// What columns of pictures are called elsewhere: of a table only columns that mean something are read, and the others have no
/// values that could tell.
const PICTURES: [&str; 11] =
    ["picture", "pictures", "photo", "photos", "img", "imgs", "pic", "pics", "image_path", "image_file", "screenshot"];
/// The same of sounds.
const SOUNDS: [&str; 9] =
    ["wav", "wavs", "sound", "sounds", "recording", "recordings", "audio_path", "audio_file", "audio_filepath"];

/// What to do about the first column that seems to hold media and is not read, where there is one. `of_file` are all columns
/// of the file, where the row holds only some of them.
pub(in crate::data) fn unread_media(
    row: &Object,
    of_file: Option<&[String]>,
    reads: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let in_row = row.iter().map(|(name, value)| (name.as_str(), of_value(value)));
    let without_value = of_file.into_iter().flatten().filter(|name| !row.contains_key(*name));
    let in_file = without_value.map(|name| (name.as_str(), of_name(name).map(|kind| Held { kind, is_on_web: false })));
    let found = in_row.chain(in_file).find_map(|(name, held)| Some((name, held?)).filter(|(name, _)| !reads(name)));
    let (column, held) = found?;
    let (several, own) = match held.kind {
        MediaKind::Image => ("pictures", "image"),
        MediaKind::Audio => ("sounds", "audio"),
    };
    Some(match held.is_on_web {
        true => format!(
            "`{column}` seems to hold addresses of {several} on the web, and nothing is fetched from there: download the files, and \
             name them by their paths in a column `{own}`"
        ),
        false => format!(
            "`{column}` seems to hold {several}: `data.columns: {{{own}: {column}}}` reads them; the names that are known are \
             `image`, `images`, `audio`, `audios` and `file_name`"
        ),
    })
}

/// What a value seems to be.
struct Held {
    kind: MediaKind,
    /// Whether only an address on the web is there.
    is_on_web: bool,
}

fn of_value(value: &Value) -> Option<Held> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            let is_on_web = MediaSource::is_on_web(text);
            let of_uri = |start: &str, kind| text.starts_with(start).then_some(kind);
            let kind = of_uri("data:image/", MediaKind::Image)
                .or_else(|| of_uri("data:audio/", MediaKind::Audio))
                .or_else(|| MediaKind::of_file_name(text).filter(|_| !text.contains('\n')))
                // What asks for a size or a version of a file on the web.
                .or_else(|| MediaKind::of_file_name(text.split(['?', '#']).next()?).filter(|_| is_on_web))?;
            Some(Held { kind, is_on_web })
        }
        Value::Array(items) => of_value(items.first()?),
        Value::Object(object) => ["path", "url", "file_name"].into_iter().find_map(|key| of_value(object.get(key)?)),
        _ => None,
    }
}

fn of_name(name: &str) -> Option<MediaKind> {
    let name = name.trim().to_lowercase();
    let among = |names: &[&str], kind| names.contains(&name.as_str()).then_some(kind);
    among(&PICTURES, MediaKind::Image).or_else(|| among(&SOUNDS, MediaKind::Audio))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_seems_to_be_a_picture_or_a_sound_is_told_what_to_be_called() {
        let told = |row: Value, of_file: Option<&[String]>| {
            unread_media(row.as_object().unwrap(), of_file, &|name| name == "image")
        };
        for (value, own) in [
            (json!("scans/1.png"), "image"),
            (json!("a.WAV "), "audio"),
            (json!("data:image/png;base64,AAAA"), "image"),
            (json!(["a.jpg", "b.jpg"]), "image"),
            (json!({"bytes": null, "path": "a.flac"}), "audio"),
        ] {
            let hint = told(json!({"prompt": "a", "shown": value}), None).unwrap();
            assert!(hint.contains(&format!("`data.columns: {{{own}: shown}}`")), "{hint}");
            assert!(hint.contains("`image`, `images`, `audio`, `audios` and `file_name`"), "{hint}");
            assert_eq!(told(json!({"image": value}), None), None, "it is read");
        }
        for value in [
            json!("https://example.org/1.png"),
            json!(["http://example.org/1.jpeg?size=2"]),
            json!({"url": "https://example.org/1.webp"}),
        ] {
            let hint = told(json!({"prompt": "a", "shown": value}), None).unwrap();
            assert!(hint.contains("nothing is fetched from there") && !hint.contains("data.columns"), "{hint}");
        }
        for value in
            [json!("a text."), json!(7), json!(null), json!([]), json!({"a": 1}), json!("of\na.png"), json!("a.png?")]
        {
            assert_eq!(told(json!({"picture": value}), None), None, "{value}");
        }
        // Of a column without values its name tells.
        let of_file = ["prompt", "Photo", "image_count"].map(str::to_owned);
        assert!(told(json!({"prompt": "a"}), Some(&of_file)).unwrap().contains("{image: Photo}"));
        let of_file = ["prompt", "image", "image_count", "clip"].map(str::to_owned);
        assert_eq!(told(json!({"prompt": "a"}), Some(&of_file)), None);
    }
}
