//! Looking at rows without a model: all that is wrong with them but what only tokens tell.

use super::encode::{Refused, SkipReason};
use super::formats::{self, Columns};
use super::losses::Losses;
use super::prepare::laid_out;
use super::row::{Row, RowId};
use super::source::{self, Chunk, FindHub, Sink};
use super::spec::DataSpec;
use super::tally::Tally;
use crate::error::{Place, Result};
use crate::progress::{Progress, Silent};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What of rows was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows that were understood.
    pub rows: u64,
    /// Files of which not all was read.
    pub cut: Vec<PathBuf>,
}

/// Reads the first `most_bytes` of the rows of `spec`, and understands them by their formats; each goes to `each`.
///
/// # Errors
/// What [`prepare`](super::prepare) would say of the files and of these rows, but for their lengths in tokens, the
/// model's vocabulary and its template.
pub fn check_rows(
    spec: &DataSpec,
    find_hub: &FindHub,
    most_bytes: usize,
    each: &mut dyn FnMut(&Row, RowId),
    progress: &dyn Progress,
) -> Result<Checked> {
    let (files, layouts) = laid_out(spec, find_hub, progress)?;
    let mut tally = Tally::new(spec, &files, &layouts);
    let mut checked = Checked::default();
    let mut left = most_bytes;
    for (index, (file, layout)) in files.iter().zip(&layouts).enumerate() {
        let (mut undecoded, mut is_cut) = (Ok(()), false);
        let mut emit = |chunk: Chunk| {
            let columns = chunk.columns.clone();
            if left == 0 {
                is_cut = true;
                return ControlFlow::Break(());
            }
            left = left.saturating_sub(chunk.bytes());
            undecoded = chunk.decode(|row, object| {
                let refuse = |reason| move |error| Refused { reason, error, tokens: 0 };
                let understood = object.map_err(refuse(SkipReason::Unreadable)).and_then(|object| {
                    let row = formats::parse(&Columns::new(&object, columns.as_deref(), layout));
                    row.map_err(refuse(SkipReason::WrongLayout))
                });
                match understood {
                    Ok(understood) => {
                        each(&understood, RowId { file: file.path.clone(), row });
                        checked.rows += 1;
                        // Whether an answer is cut off before its end, only tokens tell.
                        tally.accept(index, 1, 1, &Losses::default());
                    }
                    Err(refused) => tally.refuse(index, row, refused),
                }
            });
            match undecoded.is_err() || tally.hopeless() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let read = source::read(file, &Silent, &mut Sink::new(index, spec.max_row_bytes, &mut emit));
        read.and(undecoded).map_err(|e| e.or_at(Place::Path(file.path.to_path_buf())))?;
        if is_cut {
            checked.cut.push(file.path.to_path_buf());
        }
    }
    // Where nothing was read there may still be rows.
    if checked.rows > 0 || checked.cut.is_empty() {
        tally.finish()?;
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{spec, write};
    use super::super::{RowFormat, local_only};
    use super::*;

    #[test]
    fn rows_are_understood_as_far_as_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
        let check = |text: &str, most_bytes| {
            let path = write(dir.path(), "rows.jsonl", text);
            check_rows(&spec(&path, RowFormat::PromptCompletion), &local_only, most_bytes, &mut |_, _| (), &Silent)
        };
        assert_eq!(check(&good.repeat(5), 1 << 20).unwrap(), Checked { rows: 5, cut: Vec::new() });
        let late = good.repeat(20_000) + "{\"prompt\": \"a\"}\n";
        let error = check(&late, 1 << 30).unwrap_err();
        assert_eq!(error.to_string().matches("rows.jsonl, row 20001").count(), 1, "{error}");
        let checked = check(&late, 1 << 16).unwrap();
        assert!(checked.rows < 20_000 && checked.cut == [dir.path().join("rows.jsonl")], "{checked:?}");
        assert!(check("{\"prompt\": \"a\"}\n", 1 << 20).is_err());
        assert!(check(&format!("{good}{{"), 1 << 20).is_err());
    }
}
