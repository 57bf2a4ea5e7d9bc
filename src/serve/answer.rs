//! The text of an answer while its tokens come.

use crate::text::TokenStream;

/// Makes a text of tokens, and ends it before the first of the texts that a request names.
pub struct AnswerText {
    stream: TokenStream,
    stops: Vec<String>,
    /// What may be the beginning of one of these.
    held: String,
}

/// What a token brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Brought {
    /// Text that can be shown.
    pub text: String,
    /// Whether the answer ends here, before a text that ends it.
    pub is_end: bool,
}

impl AnswerText {
    /// A text that nothing has come of.
    pub fn new(stream: TokenStream, stops: Vec<String>) -> Self {
        AnswerText { stream, stops, held: String::new() }
    }

    /// Takes a token.
    pub fn push(&mut self, id: u32) -> Brought {
        let text = self.stream.push(id).unwrap_or_default();
        self.take(&text)
    }

    /// What is left after the last token.
    pub fn finish(&mut self) -> Brought {
        let text = self.stream.finish().unwrap_or_default();
        let Brought { text, is_end } = self.take(&text);
        let held = std::mem::take(&mut self.held);
        Brought { text: if is_end { text } else { text + &held }, is_end }
    }

    fn take(&mut self, text: &str) -> Brought {
        self.held += text;
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return Brought { text, is_end: true };
        }
        let kept = self.stops.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        Brought { text: std::mem::replace(&mut self.held, rest), is_end: false }
    }
}

/// How many of the last bytes of `text` may be the first of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at).skip(1).filter(|length| *length <= text.len());
    lengths.filter(|length| text.ends_with(&stop[..*length])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tokenizer::tiny_tokenizer;

    /// What is shown after each token of a text, and after the last; then whether one of `stops` ended it.
    fn shown(text: &str, stops: &[&str]) -> (Vec<String>, bool) {
        let tokenizer = tiny_tokenizer().unwrap();
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut answer = AnswerText::new(TokenStream::new(tokenizer.clone()), stops);
        let mut shown = Vec::new();
        for id in tokenizer.encode(text).unwrap() {
            let Brought { text, is_end } = answer.push(id);
            shown.push(text);
            if is_end {
                return (shown, true);
            }
        }
        let Brought { text, is_end } = answer.finish();
        shown.push(text);
        (shown, is_end)
    }

    #[test]
    fn nothing_of_what_ends_an_answer_is_shown() {
        assert_eq!(shown("a 👋b", &[]).0.concat(), "a 👋b");
        let (pieces, is_end) = shown("one two three", &["two", "three"]);
        assert_eq!((pieces.concat().as_str(), is_end), ("one ", true));
        let (pieces, is_end) = shown("abcab", &["abd", "cabc"]);
        assert_eq!((pieces.concat().as_str(), is_end), ("abcab", false), "what was held is shown in the end");
        assert_eq!(shown("x\n\ny", &["\n\n"]), (shown("x\n\ny", &["\n\n"]).0, true));
        assert_eq!(shown("a👋b", &["👋"]).0.concat(), "a");
    }

    #[test]
    fn what_may_begin_an_end_is_held() {
        assert_eq!((begun("xab", "abc"), begun("xa", "abc"), begun("abc", "abcd"), begun("abd", "abc")), (2, 1, 3, 0));
        assert_eq!((begun("", "a"), begun("x", "a"), begun("é", "éa")), (0, 0, 2));
    }
}
