//! Pictures and sounds of a row: parts of messages, and columns.
//!
//! A part is `{"type": "image", "image": ..}`, or one of the forms that OpenAI's API has; what it holds is a path, a
//! `data:` URI, or Hugging Face's `{"bytes", "path"}`. A part that holds nothing, and a word `<image>` or `<audio>` in a
//! message, stands for the next of the row's columns; where there is neither, columns come first in the first message of
//! the user, as in TRL. `file_name` is such a column where it names a picture or sound and the row has no other, as beside
//! the files of Hugging Face's `imagefolder`.

use super::columns::{Columns, as_list, wrong_kind};
use crate::data::object::{Object, as_bytes, holds};
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use crate::text::{MediaKind, MediaSource, Medium, Message, Part, Role};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// The part of a message found at `path`, where its type is one of pictures or sounds.
pub(super) fn part(object: &Object, path: &str) -> Option<Result<Part>> {
    let name = object.get("type")?.as_str()?;
    let (kind, keys): (MediaKind, &[&str]) = match name {
        "image" | "image_url" | "input_image" => {
            (MediaKind::Image, &["image", "image_url", "url", "path", "bytes", "base64", "data"])
        }
        "audio" | "audio_url" | "input_audio" => {
            (MediaKind::Audio, &["audio", "audio_url", "input_audio", "url", "path", "bytes", "base64", "data"])
        }
        _ => return None,
    };
    let held = || keys.iter().filter_map(move |key| Some((*key, object.get(*key).filter(|value| holds(value))?)));
    let Some((key, value)) = held().next() else {
        return Some(Ok(Part::Media(Medium::new(kind, MediaSource::Listed))));
    };
    // Beside bytes a path is only their name, as in Hugging Face's columns.
    let is_named = |other: &str| key == "path" && other == "bytes";
    if let Some((other, _)) = held().find(|(other, held)| *held != value && !is_named(other)) {
        let what = format!("`{path}` has both `{key}` and `{other}`, of which one is shown");
        return Some(Err(Error::new(Kind::Data, what).hint("keep the one that is meant")));
    }
    let source = match key {
        // Base64 without the words of a URI.
        "base64" | "data" => encoded_text(value, &format!("{path}.{key}")),
        "path" | "bytes" if object.get("bytes").is_some_and(holds) => source(&Value::Object(object.clone()), path),
        _ => source(value, &format!("{path}.{key}")),
    };
    let source = source.map(|source| source.unwrap_or(MediaSource::Listed));
    Some(source.map(|source| Part::Media(Medium::new(kind, source))))
}

/// Gives the row what its columns hold.
///
/// # Errors
/// Media that stand for nothing, columns that the messages leave out, values that are no media.
pub(super) fn attach(mut parsed: Row, row: &Columns) -> Result<Row> {
    let mut given = Vec::new();
    for kind in MediaKind::ALL {
        given.extend(of_columns(kind, row)?);
    }
    if given.is_empty() && !parsed.media_mut().iter().any(|medium| medium.source != MediaSource::Listed) {
        given.extend(of_file_name(row)?);
    }
    place(&mut parsed, given).map_err(|error| match row.unread_media() {
        Some(hint) => error.hint(hint),
        None => error,
    })?;
    Ok(parsed)
}

/// Puts what the columns hold into the row.
fn place(row: &mut Row, given: Vec<Medium>) -> Result<()> {
    match row {
        Row::Conversation(conversation) => fill(&mut conversation.messages.iter_mut().collect::<Vec<_>>(), given),
        Row::Completion { prompt, completion } => {
            fill(&mut prompt.messages.iter_mut().chain(completion).collect::<Vec<_>>(), given)
        }
        Row::Tokens { media, .. } => {
            *media = given;
            Ok(())
        }
        Row::Preference { chosen, rejected, .. } => {
            place(chosen, given.clone())?;
            place(rejected, given)
        }
        Row::Unpaired { row, .. } | Row::Prompt { row, .. } => place(row, given),
        Row::PromptCompletion { .. } | Row::Text(_) if given.is_empty() => Ok(()),
        Row::PromptCompletion { .. } | Row::Text(_) => {
            Err(Error::new(Kind::Data, "the row holds pictures or sounds beside plain text")
                .hint("they stand in turns: give the row `messages`, or leave `template` on"))
        }
    }
}

/// What the columns of this kind hold, of which a row has one.
fn of_columns(kind: MediaKind, row: &Columns) -> Result<Vec<Medium>> {
    let (mut found, mut held_by) = (Vec::new(), None);
    for name in kind.columns() {
        let Some(value) = row.filled(name) else { continue };
        let (column, before) = (row.column(name), found.len());
        let one = |value: &Value, path: &str| -> Result<Option<Medium>> {
            Ok(source(value, path)?.map(|source| Medium::new(kind, source)))
        };
        let is_list = value.is_array() || value.as_str().is_some_and(|text| text.trim_start().starts_with('['));
        match is_list {
            false => found.extend(one(value, column)?),
            true => {
                let list = as_list(value, column)?;
                let all: Result<Vec<_>> =
                    list.iter().enumerate().map(|(i, value)| one(value, &format!("{column}[{i}]"))).collect();
                let all = all?;
                // A list of nothing is as good as none; nothing among others is a file that got lost.
                if let Some(i) = all.iter().position(Option::is_none).filter(|_| all.iter().any(Option::is_some)) {
                    return Err(Error::new(Kind::Data, format!("`{column}[{i}]` holds no {}", kind.name()))
                        .hint("name its file, or take it out of the list"));
                }
                found.extend(all.into_iter().flatten());
            }
        }
        if found.len() > before
            && let Some(other) = held_by.replace(column)
        {
            return Err(Error::new(Kind::Data, format!("both `{other}` and `{column}` hold {}", kind.plural()))
                .hint(format!("keep one of the two: all {} of a row are a list in one column", kind.plural())));
        }
    }
    Ok(found)
}

/// What the column `file_name` names, where that is a picture or a sound.
fn of_file_name(row: &Columns) -> Result<Option<Medium>> {
    let Some(name) = row.get("file_name").and_then(Value::as_str) else { return Ok(None) };
    let Some(kind) = MediaKind::of_file_name(name.trim()) else { return Ok(None) };
    Ok(of_text(name, row.column("file_name"))?.map(|source| Medium::new(kind, source)))
}

/// What a value holds; nothing where it is null, an empty text or an object of nulls.
fn source(value: &Value, path: &str) -> Result<Option<MediaSource>> {
    if let Some(bytes) = as_bytes(value) {
        return Ok(Some(MediaSource::Bytes(bytes.into())));
    }
    match value {
        Value::Null => Ok(None),
        Value::String(text) => of_text(text, path),
        Value::Object(object) => {
            let held = |key: &str| object.get(key).filter(|value| !value.is_null());
            if let Some(bytes) = held("bytes") {
                return match (as_bytes(bytes), bytes) {
                    (Some(bytes), _) => Ok(Some(MediaSource::Bytes(bytes.into()))),
                    // A file of bytes that are a text is no picture; reading it says what it is.
                    (None, Value::String(text)) => Ok(Some(MediaSource::Bytes(text.as_bytes().into()))),
                    (None, Value::Array(numbers)) => numbers
                        .iter()
                        .map(|n| n.as_u64().and_then(|n| u8::try_from(n).ok()))
                        .collect::<Option<Vec<u8>>>()
                        .map(|bytes| Some(MediaSource::Bytes(bytes.into())))
                        .ok_or_else(|| wrong_kind(&format!("{path}.bytes"), "a list of bytes", bytes)),
                    _ => Err(wrong_kind(&format!("{path}.bytes"), "bytes", bytes)),
                };
            }
            if let Some(key) = ["path", "url", "file_name"].into_iter().find(|key| held(key).is_some()) {
                return source(&object[key], &format!("{path}.{key}"));
            }
            if let Some(data) = held("data").or_else(|| held("base64")) {
                return encoded_text(data, &format!("{path}.data"));
            }
            match object.values().all(Value::is_null) {
                true => Ok(None),
                false => Err(Error::new(Kind::Data, format!("`{path}` has neither `bytes` nor `path`"))),
            }
        }
        other => Err(wrong_kind(path, "a path, a `data:` URI, or an object with `bytes` or `path`", other)),
    }
}

fn of_text(text: &str, path: &str) -> Result<Option<MediaSource>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(uri) = text.strip_prefix("data:") {
        let data = uri.split_once(',').filter(|(about, _)| about.ends_with(";base64"));
        let Some((_, data)) = data else {
            return Err(Error::new(Kind::Data, format!("`{path}` is a `data:` URI without `;base64,`")));
        };
        return encoded(data, path).map(Some);
    }
    if MediaSource::is_on_web(text) {
        return Err(Error::new(
            Kind::Data,
            format!("`{path}` is an address on the web, and nothing is fetched from there"),
        )
        .hint("download the files, and name them by their paths"));
    }
    Ok(Some(MediaSource::Path(text.strip_prefix("file://").unwrap_or(text).to_owned())))
}

fn encoded_text(value: &Value, path: &str) -> Result<Option<MediaSource>> {
    let text = value.as_str().ok_or_else(|| wrong_kind(path, "a text in base64", value))?;
    match text.starts_with("data:") {
        true => of_text(text, path),
        false => encoded(text, path).map(Some),
    }
}

fn encoded(text: &str, path: &str) -> Result<MediaSource> {
    let lax = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = GeneralPurpose::new(&STANDARD, lax).decode(text);
    bytes
        .map(|bytes| MediaSource::Bytes(Arc::from(bytes)))
        .map_err(|e| Error::new(Kind::Data, format!("`{path}` is no base64: {e}")))
}

/// Puts what the columns hold where it belongs in the messages.
fn fill(messages: &mut [&mut Message], given: Vec<Medium>) -> Result<()> {
    for kind in MediaKind::ALL {
        let mut given: VecDeque<Medium> = given.iter().filter(|medium| medium.kind == kind).cloned().collect();
        let is_open = |medium: &&Medium| medium.kind == kind && medium.source == MediaSource::Listed;
        let mut open: usize = messages.iter().map(|message| message.media().filter(is_open).count()).sum();
        let word = kind.word();
        let said = |message: &Message| -> usize {
            let texts = message.content.iter().filter_map(Part::text);
            if message.role == Role::User { texts.map(|text| text.matches(word).count()).sum() } else { 0 }
        };
        let words: usize = messages.iter().map(|message| said(message)).sum();
        if open == 0 && words > 0 && !given.is_empty() {
            open = words;
            messages.iter_mut().filter(|m| m.role == Role::User).for_each(|message| cut_at(message, word, kind));
        }
        if open == 0 && !given.is_empty() {
            let Some(user) = messages.iter_mut().find(|message| message.role == Role::User) else {
                return Err(Error::new(
                    Kind::Data,
                    format!("the row holds {}, and no message of the user that shows them", kind.counted(given.len())),
                ));
            };
            user.content.splice(0..0, given.drain(..).map(Part::Media));
            continue;
        }
        if open != given.len() {
            let what = format!(
                "the messages have {} without {}, the row's columns hold {}",
                crate::progress::counted(open, "placeholder"),
                match kind {
                    MediaKind::Image => "a picture",
                    MediaKind::Audio => "a sound",
                },
                given.len()
            );
            return Err(Error::new(Kind::Data, what).hint(format!(
                "each `{{\"type\": \"{0}\"}}` and each `<{0}>` stands for one of `{0}s`, in order",
                kind.name()
            )));
        }
        for medium in messages.iter_mut().flat_map(|message| message.media_mut()) {
            if is_open(&&*medium)
                && let Some(next) = given.pop_front()
            {
                *medium = next;
            }
        }
    }
    Ok(())
}

/// Cuts the texts of a message at each `word`, which stands for a medium.
fn cut_at(message: &mut Message, word: &str, kind: MediaKind) {
    let parts = std::mem::take(&mut message.content);
    for part in parts {
        let Part::Text(text) = part else {
            message.content.push(part);
            continue;
        };
        for (i, piece) in text.split(word).enumerate() {
            if i > 0 {
                message.content.push(Part::Media(Medium::new(kind, MediaSource::Listed)));
            }
            if !piece.is_empty() {
                message.content.push(Part::Text(piece.to_owned()));
            }
        }
    }
}
