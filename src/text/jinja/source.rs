//! What is asked of a template's source before it is compiled: that compiling it needs little stack and memory.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// The longest source. The longest template in use has 30 kB.
const MAX_BYTES: usize = 256 << 10;
/// The most tokens within one `{{ .. }}` or `{% .. %}`: the depth of its expression is no greater.
const MAX_TAG_TOKENS: usize = 1000;
/// The most `elif` of a template: each nests into the one before.
const MAX_ELIFS: usize = 1000;
/// The longest text that constants may be multiplied to: products of constants are computed when compiling.
const MAX_PRODUCT: u64 = 1 << 20;

/// Says what makes `source` too large to be compiled, if anything does.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<(), String> {
    if source.len() > MAX_BYTES {
        return Err(format!("it has {} bytes; {MAX_BYTES} are the most", source.len()));
    }
    let mut elifs = 0;
    let mut tag = Tag::default();
    for token in tokenize(source, false, syntax.clone()) {
        // What is no token is for the parser to tell.
        let Ok((token, span)) = token else { return Ok(()) };
        match token {
            Token::VariableStart | Token::BlockStart => tag = Tag { line: span.start_line, ..Tag::default() },
            Token::VariableEnd | Token::BlockEnd => tag.check_product()?,
            Token::TemplateData(_) => {}
            token => tag.take(&token)?,
        }
        elifs += usize::from(tag.is_elif && tag.tokens == 1);
        if elifs > MAX_ELIFS {
            return Err(format!("it has more than {MAX_ELIFS} `elif`"));
        }
    }
    tag.check_product()
}

/// The tokens of a tag so far.
#[derive(Default)]
struct Tag {
    line: u16,
    tokens: usize,
    is_elif: bool,
    /// Bytes of texts, and one for each token.
    size: u64,
    has_sequence: bool,
    multiplies: bool,
    /// The product of all whole numbers; `None` where what could be computed has no simple bound.
    product: Option<u64>,
    unbounded: bool,
}

impl Tag {
    fn take(&mut self, token: &Token) -> Result<(), String> {
        self.tokens += 1;
        if self.tokens > MAX_TAG_TOKENS {
            return Err(format!("the tag in line {} has more than {MAX_TAG_TOKENS} tokens", self.line));
        }
        self.is_elif |= self.tokens == 1 && matches!(token, Token::Ident("elif"));
        self.size += 1;
        let mut times = |n: u64| self.product = Some(self.product.unwrap_or(1).saturating_mul(n.max(1)));
        match token {
            Token::Str(text) => (self.size, self.has_sequence) = (self.size + text.len() as u64, true),
            Token::String(text) => (self.size, self.has_sequence) = (self.size + text.len() as u64, true),
            Token::BracketOpen | Token::ParenOpen => self.has_sequence = true,
            Token::Mul => self.multiplies = true,
            Token::Int(n) => times(*n),
            Token::Int128(_) => times(u64::MAX),
            Token::Float(_) | Token::Pow | Token::Div | Token::FloorDiv => self.unbounded = true,
            _ => {}
        }
        Ok(())
    }

    /// Whether constants of this tag could be multiplied to something large.
    fn check_product(&self) -> Result<(), String> {
        if !self.multiplies || !self.has_sequence {
            return Ok(());
        }
        // Sums of numbers are no larger than their product times their count.
        let bound = self.product.unwrap_or(1).saturating_mul(self.size).saturating_mul(self.tokens as u64);
        if self.unbounded || bound > MAX_PRODUCT {
            return Err(format!(
                "the tag in line {} repeats a text too often, or in a way that has no bound",
                self.line
            ));
        }
        Ok(())
    }
}
