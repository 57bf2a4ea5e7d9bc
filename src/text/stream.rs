//! Ids to text while they arrive, without ever showing half a character.

use super::tokenizer::Tokenizer;

/// Turns ids into text one at a time. A character that is spelt byte by byte comes out when its last byte is there.
#[derive(Debug, Clone)]
pub struct TokenStream {
    tokenizer: Tokenizer,
    /// The beginning of a character whose last bytes are not there yet; at most three bytes.
    pending: Vec<u8>,
}

impl TokenStream {
    /// A stream that nothing has come from yet.
    pub fn new(tokenizer: Tokenizer) -> Self {
        TokenStream { tokenizer, pending: Vec::new() }
    }

    /// The text that `id` completes; `None` for a special token, an unknown id, or a part of a character.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.tokenizer.is_special(id) {
            return self.finish();
        }
        let token = self.tokenizer.token(id)?;
        let mut text = String::new();
        match byte(&token) {
            Some(byte) => {
                self.pending.push(byte);
                self.take_characters(&mut text);
            }
            None => {
                text.extend(self.finish());
                text.push_str(&token.replace('▁', " "));
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// What is left when no more ids come: `�` for a character that never became whole.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// Moves whole characters from `pending` to `text`, and `�` for bytes that can begin none.
    fn take_characters(&mut self, text: &mut String) {
        while !self.pending.is_empty() {
            let (valid, broken) = match std::str::from_utf8(&self.pending) {
                Ok(all) => (all.len(), 0),
                Err(e) => (e.valid_up_to(), e.error_len().unwrap_or(0)),
            };
            text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
            if broken > 0 {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            self.pending.drain(..valid + broken);
            if broken == 0 {
                break; // what is left may still become a character
            }
        }
    }
}

/// The byte that a token like `<0xE2>` stands for.
fn byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tokenizer::tiny_tokenizer;

    /// The pieces that come out, one per id, and the rest.
    fn pieces(ids: &[u32]) -> (Vec<Option<String>>, Option<String>) {
        let mut stream = TokenStream::new(tiny_tokenizer().unwrap());
        (ids.iter().map(|&id| stream.push(id)).collect(), stream.finish())
    }

    #[test]
    fn characters_come_out_whole() {
        let ids = tiny_tokenizer().unwrap().encode("a 👋b").unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(pieces(&ids), (vec![some("a"), some(" "), None, None, None, some("👋"), some("b")], None));
    }

    #[test]
    fn the_pieces_together_are_the_decoded_text() {
        let tokenizer = tiny_tokenizer().unwrap();
        for text in ["Grüße 👋🏽 – 你好\tx  y", "🇨🇭", "\u{0}é", "", "a<eos>b<strong>", "日本"] {
            let ids = tokenizer.encode(text).unwrap();
            let (pieces, rest) = pieces(&ids);
            let streamed: String = pieces.into_iter().chain([rest]).flatten().collect();
            assert_eq!(streamed, tokenizer.decode(&ids, true), "{text:?}");
        }
    }

    #[test]
    fn broken_bytes_become_replacement_characters() {
        let tokenizer = tiny_tokenizer().unwrap();
        let byte = |b: &str| tokenizer.id(b).unwrap();
        let a = tokenizer.id("a").unwrap();
        // The first three bytes of 👋, then a letter: the letter must not wait.
        let (out, rest) = pieces(&[byte("<0xF0>"), byte("<0x9F>"), byte("<0x91>"), a]);
        assert_eq!((out, rest), (vec![None, None, None, Some("\u{fffd}a".into())], None));
        assert_eq!(pieces(&[byte("<0xFF>")]), (vec![Some("\u{fffd}".into())], None));
        assert_eq!(pieces(&[byte("<0xC3>")]), (vec![None], Some("\u{fffd}".into())));
        assert_eq!(
            pieces(&[byte("<0xC3>"), byte("<0xC3>"), byte("<0xA9>")]).0,
            vec![None, Some("\u{fffd}".into()), Some("é".into())]
        );
        assert_eq!(pieces(&[9, 100_000, a]), (vec![None, None, Some("a".into())], None)); // <end_of_turn>, an unknown id
    }
}
