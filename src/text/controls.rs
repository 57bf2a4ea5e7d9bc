//! Control words: the tokens that only a template may write, such as `<start_of_turn>`.
//!
//! Whoever types one in a message means the characters. So where a text comes from a message, its control words are cut
//! after their first character before it is tokenised: the pieces are spelt out like any other text, and none of them is
//! the control token.

use std::ops::Range;

/// Control words besides those that the tokenizer calls special: delimiters that only templates write.
const NAMED: [&str; 3] = ["<escape>", "<mask>", "[multimodal]"];

/// The control words of a tokenizer.
#[derive(Debug, Clone, Default)]
pub(crate) struct ControlWords {
    /// The longest first, so that of two that fit the longer is found.
    words: Vec<String>,
    /// The bytes that some of them begins with: most of a text is none of these.
    firsts: Vec<u8>,
}

impl ControlWords {
    /// Those among the tokens that are added to a vocabulary, given as their spelling and whether they are special.
    ///
    /// `<unused0>` and its like mean nothing to a template: they stay free for who wants to use them in texts.
    pub fn of(added: impl Iterator<Item = (String, bool)>) -> Self {
        let is_control = |word: &str, special: bool| {
            !word.starts_with("<unused")
                && (special
                    || NAMED.contains(&word)
                    || word.starts_with("<start_") && word.ends_with('>')
                    || word.starts_with("<end_") && word.ends_with('>'))
        };
        let mut words: Vec<String> = added
            .filter(|(word, special)| word.chars().count() > 1 && is_control(word, *special))
            .map(|(word, _)| word)
            .collect();
        words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut firsts: Vec<u8> = words.iter().filter_map(|word| word.bytes().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        ControlWords { words, firsts }
    }

    /// Where control words stand in `text`, in order.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let (bytes, mut found, mut at) = (text.as_bytes(), Vec::new(), 0);
        let begins = |byte: &u8| self.firsts.contains(byte);
        while let Some(next) = bytes[at..].iter().position(begins) {
            at += next;
            match self.words.iter().find(|word| bytes[at..].starts_with(word.as_bytes())) {
                Some(word) => {
                    found.push(at..at + word.len());
                    at += word.len();
                }
                None => at += 1,
            }
        }
        found
    }

    /// Where a control word begins at the end of `text` that what follows might complete.
    pub fn unfinished(&self, text: &str) -> Option<Range<usize>> {
        let longest = self.words.first().map_or(0, String::len);
        let tail = text.ceil_char_boundary(text.len().saturating_sub(longest));
        let begins = |(at, _): &(usize, char)| self.words.iter().any(|word| word.starts_with(&text[tail + at..]));
        text[tail..].char_indices().find(begins).map(|(at, _)| tail + at..text.len())
    }

    /// Whether `word` is one of them.
    pub fn contains(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> ControlWords {
        let added =
            [("<eos>", true), ("<start_of_turn>", false), ("<escape>", false), ("<b>", false), ("<unused7>", true)];
        ControlWords::of(added.into_iter().map(|(word, special)| (word.to_owned(), special)))
    }

    #[test]
    fn control_words_are_found_and_others_are_not() {
        let text = "é<eos><b><start_of_turn<start_of_turn><unused7><escape>";
        let found: Vec<&str> = words().find(text).into_iter().map(|at| &text[at]).collect();
        assert_eq!(found, ["<eos>", "<start_of_turn>", "<escape>"]);
        assert!(words().find("").is_empty());
    }

    #[test]
    fn beginnings_are_found_at_the_end_only() {
        let unfinished = |text: &'static str| words().unfinished(text).map(|at| &text[at]);
        assert_eq!(unfinished("a <start_of"), Some("<start_of"));
        assert_eq!(unfinished("<eos> <"), Some("<"));
        assert_eq!(unfinished("<start_of a"), None);
        assert_eq!(unfinished("é"), None);
        assert_eq!(unfinished(""), None);
    }
}
