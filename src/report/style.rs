//! Colours, in one place.
//!
//! Everything here writes ANSI codes; [`stdout`] takes them out again where nobody would see colours:
//! into files and pipes, on dumb terminals, and wherever `NO_COLOR` asks for it.

use crate::terminal::printable;
use anstyle::{AnsiColor, Style};
use std::fmt;
use std::ops::Range;

/// Text that is trained on.
pub const SUPERVISED: Style = AnsiColor::Green.on_default().bold();
/// Text that the model reads but is not trained on.
pub const CONTEXT: Style = Style::new().dimmed();

/// The word before a problem.
pub const PROBLEM: Style = AnsiColor::Red.on_default().bold();
/// The word before a warning.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// The arrow to a place.
pub const PLACE: Style = AnsiColor::Blue.on_default();
/// The word before a hint.
pub const HINT: Style = AnsiColor::Cyan.on_default();

/// Whether stderr shows colours.
pub fn stderr_has_colours() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// stdout that shows colours where they can be seen.
pub fn stdout() -> anstream::AutoStream<std::io::Stdout> {
    anstream::stdout()
}

/// `text` in `style`.
fn paint(style: Style, text: impl fmt::Display) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{style}{text}{style:#}"))
}

/// `text` with the bytes in `supervised` (ascending) shown as [`SUPERVISED`] and the rest as [`CONTEXT`].
///
/// Ranges that overlap, leave the text or cut a character are widened or clipped to what can be shown.
pub fn spans(text: &str, supervised: &[Range<usize>]) -> String {
    let style = |is_supervised| if is_supervised { SUPERVISED } else { CONTEXT };
    marked(text, supervised, |part, is_supervised| paint(style(is_supervised), part).to_string())
}

/// `text` with the bytes in `supervised` (ascending) between `⟦` and `⟧`: how it is shown where there are no colours.
pub fn brackets(text: &str, supervised: &[Range<usize>]) -> String {
    marked(text, supervised, |part, is_supervised| if is_supervised { format!("⟦{part}⟧") } else { part.to_owned() })
}

/// What `mark` makes of the printable parts of `text`, in order, told whether they are `supervised`.
fn marked(text: &str, supervised: &[Range<usize>], mark: impl Fn(&str, bool) -> String) -> String {
    let mut shown = String::with_capacity(text.len() + 32 * supervised.len());
    let mut push = |part: &str, is_supervised| {
        if !part.is_empty() {
            shown.push_str(&mark(&printable(part), is_supervised));
        }
    };
    let mut done = 0;
    for span in supervised {
        let start = text.floor_char_boundary(span.start).max(done);
        let end = text.ceil_char_boundary(span.end.min(text.len())).max(start);
        push(&text[done..start], false);
        push(&text[start..end], true);
        done = end;
    }
    push(&text[done..], false);
    shown
}

/// Whether colours are shown on stdout.
pub fn is_coloured() -> bool {
    !matches!(stdout().current_choice(), anstream::ColorChoice::Never)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init)] // lists of spans
mod tests {
    use super::*;

    #[test]
    fn supervised_spans_stand_out() {
        let shown = spans("user: hi\nmodel: ho", &[16..18]);
        assert_eq!(shown, "\x1b[2muser: hi\nmodel: \x1b[0m\x1b[1m\x1b[32mho\x1b[0m");
        assert_eq!(anstream::adapter::strip_str(&shown).to_string(), "user: hi\nmodel: ho");
        assert_eq!(brackets("user: hi\nmodel: ho", &[16..18]), "user: hi\nmodel: ⟦ho⟧");
        assert_eq!(brackets("añb\x1b", &[2..3, 3..3, 9..99]), "a⟦ñ⟧b␛");
    }

    #[test]
    fn wild_spans_lose_and_repeat_no_text() {
        let text = "añb€c";
        for supervised in [vec![2..3], vec![2..2, 4..5], vec![0..99], vec![99..100], vec![3..5, 1..9, 0..2], vec![]] {
            assert_eq!(anstream::adapter::strip_str(&spans(text, &supervised)).to_string(), text, "{supervised:?}");
        }
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = spans(text, &[4..1]);
        assert_eq!(anstream::adapter::strip_str(&reversed).to_string(), text);
    }
}
