//! Forms with files, as `multipart/form-data` carries them: where in a body each part begins and ends.
//!
//! A body may be larger than memory, so that it lies in a file, and of each line no more is held than could be a boundary.

use std::io::{self, BufRead};

/// The longest line that is a boundary or a header; what is longer is neither.
const MOST_KEPT: usize = 4096;
/// The most parts of a form.
const MOST_PARTS: usize = 32;
/// The longest boundary, as its standard has it.
const MOST_BOUNDARY: usize = 70;

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of the field.
    pub name: String,
    /// What the file is called, where it is one.
    pub file_name: Option<String>,
    /// Where its bytes begin,
    pub start: u64,
    /// and end.
    pub end: u64,
}

/// The boundary that a `Content-Type` names.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    kind.trim().eq_ignore_ascii_case("multipart/form-data").then_some(())?;
    let boundary = parameter(parameters, "boundary")?;
    let is_sound = !boundary.is_empty() && boundary.len() <= MOST_BOUNDARY && !boundary.contains(char::is_control);
    is_sound.then_some(boundary)
}

/// The parts of a form; `None` where it is none, or was cut off.
///
/// # Errors
/// When it cannot be read.
pub fn parts(body: &mut impl BufRead, boundary: &str) -> io::Result<Option<Vec<Part>>> {
    let (begins, ends) = (format!("--{boundary}"), format!("--{boundary}--"));
    let (mut parts, mut lines) = (Vec::<Part>::new(), Lines { body, at: 0 });
    let mut open = false; // whether the last part's end is looked for
    loop {
        let start = lines.at;
        let Some(line) = lines.next()? else { return Ok(None) };
        let text = line.trim_ascii_end();
        let (is_next, is_last) = (text == begins.as_bytes(), text == ends.as_bytes());
        if !is_next && !is_last {
            continue; // of a part, or before the first
        }
        if let Some(part) = parts.last_mut().filter(|_| open) {
            part.end = start.saturating_sub(2).max(part.start); // the line feed before a boundary is the boundary's
        }
        if is_last {
            return Ok(Some(parts));
        }
        if parts.len() == MOST_PARTS {
            return Ok(None);
        }
        let Some((name, file_name)) = lines.head()? else { return Ok(None) };
        parts.push(Part { name, file_name, start: lines.at, end: lines.at });
        open = true;
    }
}

/// Lines of a body, and how far it is read.
struct Lines<'a, R> {
    body: &'a mut R,
    at: u64,
}

impl<R: BufRead> Lines<'_, R> {
    /// The beginning of the next line, with its end where it is short.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut kept, mut any) = (Vec::new(), false);
        loop {
            let bytes = self.body.fill_buf()?;
            if bytes.is_empty() {
                return Ok(any.then_some(kept));
            }
            any = true;
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(bytes.len());
            kept.extend(&bytes[..taken.min((MOST_KEPT + 1).saturating_sub(kept.len()))]);
            self.body.consume(taken);
            self.at += taken as u64;
            if end.is_some() {
                return Ok(Some(kept));
            }
        }
    }

    /// The name of a part, and of its file, from its headers.
    fn head(&mut self) -> io::Result<Option<(String, Option<String>)>> {
        let mut found = None;
        for _ in 0..16 {
            let Some(line) = self.next()?.filter(|line| line.len() <= MOST_KEPT) else { return Ok(None) };
            let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if text.is_empty() {
                return Ok(found);
            }
            let Some((header, value)) = text.split_once(':') else { return Ok(None) };
            if header.trim().eq_ignore_ascii_case("content-disposition") {
                let Some((_, parameters)) = value.split_once(';') else { return Ok(None) };
                let Some(name) = parameter(parameters, "name") else { return Ok(None) };
                found = Some((name, parameter(parameters, "filename")));
            }
        }
        Ok(None)
    }
}

/// The value of a parameter among `a=b; c="d"`.
fn parameter(mut rest: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_start_matches(';').trim();
        let after = after.trim_start();
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, behind) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), behind)
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = behind.trim_start().trim_start_matches(';');
    }
}

/// What stands before the closing quote, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return Some((value, &text[at + 1..])),
            '\\' if !escaped => escaped = true,
            c => {
                // Browsers and curl escape quotes alone; a path of Windows has its own strokes.
                if escaped && c != '"' && c != '\\' {
                    value.push('\\');
                }
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// The parts of a body that comes in small pieces: names, and what they hold.
    fn held(body: &[u8]) -> Option<Vec<(String, Option<String>, String)>> {
        let parts = parts(&mut BufReader::with_capacity(7, body), "xYz").unwrap()?;
        let text = |part: &Part| String::from_utf8_lossy(&body[part.start as usize..part.end as usize]).into_owned();
        Some(parts.into_iter().map(|part| (part.name.clone(), part.file_name.clone(), text(&part))).collect())
    }

    #[test]
    fn parts_are_found_whatever_they_hold() {
        let rows = "{\"a\": 1}\r\n--xY\n\n--xYz-\r\n";
        let body = format!(
            "preamble\r\n--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n--xYz\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\";.jsonl\"\r\nContent-Type: text/plain\r\n\r\n\
             {rows}\r\n--xYz--\r\n"
        );
        let parts = held(body.as_bytes()).unwrap();
        assert_eq!(parts[0], ("purpose".into(), None, "fine-tune".into()));
        assert_eq!(parts[1], ("file".into(), Some("a \"b\";.jsonl".into()), rows.into()));
        let empty = "--xYz\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n\r\n--xYz--";
        assert_eq!(held(empty.as_bytes()).unwrap(), [("file".into(), Some("x".into()), String::new())]);
        assert_eq!(held(b"--xYz--").unwrap(), []);
        let long =
            format!("--xYz\r\nContent-Disposition: form-data; name=file\r\n\r\n{}\r\n--xYz--", "x".repeat(20_000));
        assert_eq!(held(long.as_bytes()).unwrap()[0].2.len(), 20_000);
    }

    #[test]
    fn what_is_no_form_is_none() {
        for body in [
            "",
            "--xYz",
            "--xYz\r\n\r\nno name\r\n--xYz--",
            "--xYz\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--xYz--",
            "--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\ncut off",
            "--xYz\r\nno header\r\n\r\nx\r\n--xYz--",
        ] {
            assert_eq!(held(body.as_bytes()), None, "{body:?}");
        }
        let many = "--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n".repeat(40) + "--xYz--";
        assert_eq!(held(many.as_bytes()), None);
    }

    #[test]
    fn boundaries_are_named_by_the_header() {
        assert_eq!(boundary("multipart/form-data; boundary=ab-c").as_deref(), Some("ab-c"));
        assert_eq!(boundary("Multipart/Form-Data; charset=x; boundary=\"a b\"").as_deref(), Some("a b"));
        for wrong in
            ["multipart/form-data", "text/plain; boundary=a", "multipart/form-data; boundary=", "application/json"]
        {
            assert_eq!(boundary(wrong), None, "{wrong}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))), None);
    }
}
