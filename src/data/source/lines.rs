//! JSON lines.

use super::chunk::{next_number, too_large};
use super::{Sink, SourceFile, file};
use crate::error::{Place, Result};
use crate::progress::Progress;
use std::io::{BufRead, Read};

/// Reads every line that is not blank. A row's number is its line's.
///
/// # Errors
/// When the file cannot be opened or read to its end.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let mut reader = file::open(file, progress)?;
    let mut number = 0;
    loop {
        number = next_number(number).map_err(|e| e.at(Place::Path(file.path.to_path_buf())))?;
        let max = sink.max_row_bytes();
        // One byte more than a row may have, and one for the end of its line.
        let mut limited = (&mut reader).take(max as u64 + 2);
        let read = limited.read_until(b'\n', sink.json()).map_err(|e| file::failed(file, number, e))?;
        if read == 0 {
            break;
        }
        let line = sink.json_pending();
        let flow = if line.trim_ascii_end().len() > max {
            let whole = line.ends_with(b"\n");
            sink.json_drop();
            let rest = if whole { 0 } else { reader.skip_until(b'\n').map_err(|e| file::failed(file, number, e))? };
            // Without the end of the line.
            sink.broken(number, too_large(Some((read + rest).saturating_sub(1)), max))
        } else if line.trim_ascii().is_empty() {
            sink.json_drop();
            continue;
        } else {
            sink.json_row(number)
        };
        if flow.is_break() {
            return Ok(());
        }
    }
    let _ = sink.flush();
    Ok(())
}
