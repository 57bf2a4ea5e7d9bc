//! Changes to JSON that leave its texts alone.

/// `json` with other bytes in the place of what `find` finds outside of its texts: asked at each byte there, it says how many
/// bytes are one thing, and what stands in their place, if they do not stay. `None` where nothing is replaced.
pub(super) fn replaced(json: &[u8], find: impl Fn(&[u8]) -> Option<(usize, Option<String>)>) -> Option<Vec<u8>> {
    let mut replaced: Option<Vec<u8>> = None;
    let (mut in_text, mut escaped, mut at, mut copied) = (false, false, 0, 0);
    while at < json.len() {
        match json[at] {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            _ => {
                if let Some((length, instead)) = find(&json[at..]) {
                    if let Some(instead) = instead {
                        let bytes = replaced.get_or_insert_default();
                        bytes.extend_from_slice(&json[copied..at]);
                        bytes.extend_from_slice(instead.as_bytes());
                        copied = at + length;
                    }
                    at += length;
                    continue;
                }
            }
        }
        at += 1;
    }
    let mut replaced = replaced?;
    replaced.extend_from_slice(&json[copied..]);
    Some(replaced)
}
