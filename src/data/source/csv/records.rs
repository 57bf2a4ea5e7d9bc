//! Watches the quotes of a table on its way to the `csv` crate, which forgives what would lose rows: a quote that is never
//! closed, text after a closing quote. Cuts records that are too large.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// Where a record begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Its first byte, of those handed on.
    offset: u64,
    /// Its line, from 1.
    pub line: usize,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The file ends inside of the quoted cell that was opened in this line.
    Unclosed { line: usize },
    /// The quoted cell that was opened in `line` is followed by text in line `until`.
    TextAfterQuote { line: usize, until: usize },
    /// It has more bytes than a row may have; where they ended in a quoted cell, the line that opened it.
    TooLarge { bytes: usize, max: usize, quoted_since: Option<usize> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    StartOfRecord,
    StartOfCell,
    Plain,
    Quoted,
    /// After a quote inside of a quoted cell: the first of two, or the closing one.
    Closing,
    /// After a closing quote and a space.
    Closed,
}

/// A table that passes through.
pub(super) struct Records<R> {
    inner: R,
    watch: Watch,
    ended: bool,
}

impl<R: BufRead> Records<R> {
    /// A table whose first line is number `line`.
    pub fn new(inner: R, delimiter: u8, line: usize, max_row_bytes: usize) -> Self {
        let watch = Watch {
            delimiter,
            max_row_bytes,
            state: State::StartOfRecord,
            line,
            after_return: false,
            opened: line,
            bytes: 0,
            cut: None,
            offset: 0,
            starts: VecDeque::new(),
            faults: VecDeque::new(),
        };
        Records { inner, watch, ended: false }
    }

    /// The start of the last record before byte `end`, and the first thing that is wrong before it; forgets both.
    pub fn take_before(&mut self, end: u64) -> (Start, Option<Fault>) {
        let watch = &mut self.watch;
        let mut start = Start { offset: 0, line: watch.line };
        while let Some(next) = watch.starts.pop_front_if(|start| start.offset < end) {
            start = next;
        }
        let mut fault = None;
        while let Some((_, next)) = watch.faults.pop_front_if(|(offset, _)| *offset < end) {
            fault.get_or_insert(next);
        }
        (start, fault)
    }
}

impl<R: BufRead> Read for Records<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut given = 0;
        // Bytes may be taken and none handed on, which is not yet the end.
        while given == 0 && !buffer.is_empty() {
            let available = self.inner.fill_buf()?;
            if available.is_empty() {
                if !std::mem::replace(&mut self.ended, true) {
                    self.watch.end();
                }
                break;
            }
            let count = available.len().min(buffer.len());
            for &byte in &available[..count] {
                if let Some(byte) = self.watch.take(byte) {
                    buffer[given] = byte;
                    given += 1;
                }
            }
            self.inner.consume(count);
        }
        Ok(given)
    }
}

/// What is known of a table up to a byte.
struct Watch {
    delimiter: u8,
    max_row_bytes: usize,
    state: State,
    line: usize,
    after_return: bool,
    /// Where the last quoted cell was opened.
    opened: usize,
    /// Bytes of the record so far.
    bytes: usize,
    /// Whether the rest of the record is cut off; inside of a quoted cell, with the line that opened it.
    cut: Option<Option<usize>>,
    /// Bytes handed on.
    offset: u64,
    starts: VecDeque<Start>,
    /// With the offset of a byte of its record.
    faults: VecDeque<(u64, Fault)>,
}

impl Watch {
    /// Takes one byte; gives the one to hand on.
    fn take(&mut self, byte: u8) -> Option<u8> {
        let ends_line = byte == b'\n' || byte == b'\r';
        if self.state == State::StartOfRecord && !ends_line {
            self.starts.push_back(Start { offset: self.offset, line: self.line });
            (self.bytes, self.cut) = (0, None);
            self.state = State::StartOfCell;
        }
        let was = self.state;
        self.state = match was {
            State::Quoted if byte == b'"' => State::Closing,
            State::Quoted => State::Quoted,
            _ if ends_line => State::StartOfRecord,
            _ if byte == self.delimiter => State::StartOfCell,
            State::StartOfCell if byte == b'"' => {
                self.opened = self.line;
                State::Quoted
            }
            State::StartOfCell | State::Plain | State::StartOfRecord => State::Plain,
            State::Closing if byte == b'"' => State::Quoted,
            State::Closing | State::Closed if byte == b' ' => State::Closed,
            State::Closing | State::Closed => {
                self.faults.push_back((self.offset, Fault::TextAfterQuote { line: self.opened, until: self.line }));
                State::Plain
            }
        };
        if byte == b'\n' && !self.after_return || byte == b'\r' {
            self.line += 1;
        }
        self.after_return = byte == b'\r';
        let handed_on = self.within_limit(byte, was);
        self.offset += u64::from(handed_on.is_some());
        handed_on
    }

    /// Cuts off what is too much of a record.
    fn within_limit(&mut self, byte: u8, was: State) -> Option<u8> {
        if self.state == State::StartOfRecord {
            self.note_cut();
            return Some(byte);
        }
        self.bytes += 1;
        if self.cut.is_some() {
            return None;
        }
        if self.bytes <= self.max_row_bytes {
            return Some(byte);
        }
        let quoted = was == State::Quoted;
        self.cut = Some(quoted.then_some(self.opened));
        // The reader behind must not take what comes after the record for its cell.
        quoted.then_some(b'"')
    }

    fn note_cut(&mut self) {
        if let Some(quoted_since) = self.cut.take() {
            let fault = Fault::TooLarge { bytes: self.bytes, max: self.max_row_bytes, quoted_since };
            self.faults.push_back((self.offset.saturating_sub(1), fault));
        }
    }

    fn end(&mut self) {
        if self.state == State::Quoted {
            self.faults.push_back((self.offset.saturating_sub(1), Fault::Unclosed { line: self.opened }));
        }
        self.note_cut();
    }
}
