//! Ids to text while they arrive, without ever showing half a character.

use super::called::is_word;
use super::tokenizer::Tokenizer;

/// Turns ids into text one at a time; the pieces together are the decoded text. Characters that are spelt byte by byte
/// come out when their last byte is followed by something else: a byte that does not belong spoils all bytes beside it.
#[derive(Debug, Clone)]
pub struct TokenStream {
    tokenizer: Tokenizer,
    /// Whether words of calls are shown, which a vocabulary may have as special.
    shows_calls: bool,
    /// Bytes in a row.
    pending: Vec<u8>,
}

impl TokenStream {
    /// A stream that nothing has come from yet.
    pub fn new(tokenizer: Tokenizer) -> Self {
        TokenStream { tokenizer, shows_calls: false, pending: Vec::new() }
    }

    /// The same, with FunctionGemma's words of calls as they are written.
    pub fn with_calls(self) -> Self {
        TokenStream { shows_calls: true, ..self }
    }

    /// The text that `id` completes; `None` for a special token, an unknown id, or a byte.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let is_call = |token: &String| self.shows_calls && is_word(token);
        let token = self.tokenizer.token(id).filter(|token| !self.tokenizer.is_special(id) || is_call(token))?;
        if let Some(byte) = byte(&token) {
            self.pending.push(byte);
            return None;
        }
        let text = self.finish().unwrap_or_default() + &token.replace('▁', " ");
        (!text.is_empty()).then_some(text)
    }

    /// What is left when no more ids come. Bytes in a row that are no UTF-8 are a `�` each, as Hugging Face decodes them.
    pub fn finish(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.pending);
        let spoilt = "\u{fffd}".repeat(bytes.len());
        (!bytes.is_empty()).then(|| String::from_utf8(bytes).unwrap_or(spoilt))
    }
}

/// The bytes that a token stands for by its spelling in the vocabulary: a byte is `<0x0A>`, and a space `▁`.
pub fn bytes(spelling: &str) -> Vec<u8> {
    byte(spelling).map_or_else(|| spelling.replace('▁', " ").into_bytes(), |byte| vec![byte])
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
        assert_eq!(pieces(&ids), (vec![some("a"), some(" "), None, None, None, None, some("👋b")], None));
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
    fn broken_bytes_are_what_decoding_makes_of_them() {
        let tokenizer = tiny_tokenizer().unwrap();
        let byte = |b: &str| tokenizer.id(b).unwrap();
        let a = tokenizer.id("a").unwrap();
        let (c3, a9, ff) = (byte("<0xC3>"), byte("<0xA9>"), byte("<0xFF>"));
        // The first three bytes of 👋, then a letter.
        let wave = [byte("<0xF0>"), byte("<0x9F>"), byte("<0x91>"), a];
        assert_eq!(pieces(&wave), (vec![None, None, None, Some("\u{fffd}\u{fffd}\u{fffd}a".into())], None));
        let special = tokenizer.id("<end_of_turn>").unwrap();
        for ids in [
            &wave[..],
            &[ff],
            &[c3],
            &[c3, c3, a9],
            &[c3, a9, ff],
            &[c3, a9, ff, a, c3, a9],
            &[c3, special, a9, a],
            &[c3, 100_000, a9],
            &[special, 100_000, a],
        ] {
            let (out, rest) = pieces(ids);
            let streamed: String = out.into_iter().chain([rest]).flatten().collect();
            assert_eq!(streamed, tokenizer.decode(ids, true), "{ids:?}");
        }
    }

    proptest::proptest! {
        /// Whatever the ids, the pieces together are the decoded text.
        #[test]
        fn any_ids_stream_as_they_decode(ids in proptest::collection::vec(0_u32..514, 0..30)) {
            let (out, rest) = pieces(&ids);
            let streamed: String = out.into_iter().chain([rest]).flatten().collect();
            proptest::prop_assert_eq!(streamed, tiny_tokenizer().unwrap().decode(&ids, true));
        }
    }
}
