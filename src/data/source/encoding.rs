//! Text that is no UTF-8, read as UTF-8.

use std::io::{self, Read};

const BUFFER_BYTES: usize = 64 << 10;

/// How the characters of a text file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Also where rows turn out to be damaged.
    Utf8,
    /// Two bytes each, the lower first; the file begins with a mark that says so.
    Utf16Le,
    /// Two bytes each, the higher first.
    Utf16Be,
    /// One byte each, as Excel writes in western Europe and America.
    Windows1252,
}

/// The characters of Windows-1252 from 0x80 to 0x9f; the zeros are not assigned. Above, it is Latin-1.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0, 0,
    0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

/// The character of a byte of Windows-1252.
fn windows_1252(byte: u8) -> Option<char> {
    match byte {
        0x80..=0x9f => Some(WINDOWS_1252[usize::from(byte - 0x80)]).filter(|&code| code != 0),
        _ => Some(u16::from(byte)),
    }
    .and_then(|code| char::from_u32(u32::from(code)))
}

/// A text in another encoding as UTF-8.
pub(super) struct Decoder<R> {
    inner: R,
    encoding: Encoding,
    raw: Vec<u8>,
    text: Vec<u8>,
    given: usize,
}

impl<R: Read> Decoder<R> {
    pub fn new(inner: R, encoding: Encoding) -> Self {
        Decoder { inner, encoding, raw: Vec::new(), text: Vec::new(), given: 0 }
    }

    /// Decodes the next bytes; none are left at the end.
    fn fill(&mut self) -> io::Result<()> {
        self.text.clear();
        self.given = 0;
        while self.text.is_empty() {
            let held = self.raw.len();
            self.raw.resize(held + BUFFER_BYTES, 0);
            let read = self.inner.read(&mut self.raw[held..]);
            self.raw.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) if self.raw.is_empty() => return Ok(()),
                Ok(0) => return Err(damaged("it ends in the middle of a character")),
                Ok(_) => self.decode()?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Turns whole characters of `raw` into text.
    fn decode(&mut self) -> io::Result<()> {
        let mut utf8 = [0; 4];
        let read_unit = match self.encoding {
            Encoding::Utf16Le => u16::from_le_bytes,
            Encoding::Utf16Be => u16::from_be_bytes,
            Encoding::Utf8 => {
                std::mem::swap(&mut self.raw, &mut self.text);
                return Ok(());
            }
            Encoding::Windows1252 => {
                for &byte in &self.raw {
                    let c = windows_1252(byte).ok_or_else(|| damaged("a byte has no meaning in Windows-1252"))?;
                    self.text.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
                }
                self.raw.clear();
                return Ok(());
            }
        };
        let units = self.raw.chunks_exact(2).map(|pair| read_unit([pair[0], pair[1]]));
        let mut taken = units.len();
        // The first half of a character waits for the second.
        if units.clone().next_back().is_some_and(|unit| (0xd800..0xdc00).contains(&unit)) {
            taken -= 1;
        }
        for c in char::decode_utf16(units.take(taken)) {
            let c = c.map_err(|_| damaged("it holds half a character of UTF-16"))?;
            self.text.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
        }
        self.raw.drain(..2 * taken);
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() {
            self.fill()?;
        }
        let count = buffer.len().min(self.text.len() - self.given);
        buffer[..count].copy_from_slice(&self.text[self.given..][..count]);
        self.given += count;
        Ok(count)
    }
}

/// The file's text is not what its beginning promised.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damaged(&'static str);

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damaged(what))
}

/// What the bytes of a file tell about its encoding.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Characters of several bytes in sound UTF-8.
    wide: u64,
    /// Bytes that belong to no UTF-8.
    broken: u64,
    /// Bytes that Windows-1252 does not have.
    unassigned: u64,
    /// Broken bytes whose neighbour is one, as in scripts other than Latin.
    in_runs: u64,
    /// The line of the first broken byte, and that line's bytes around it.
    first: Option<(usize, Vec<u8>)>,
}

impl Survey {
    /// Reads all of `reader`.
    pub fn of(mut reader: impl Read) -> io::Result<Self> {
        let (mut survey, mut line) = (Survey::default(), 1);
        let mut buffer = Vec::new();
        loop {
            let held = buffer.len();
            buffer.resize(held + BUFFER_BYTES, 0);
            let read = match reader.read(&mut buffer[held..]) {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                Err(e) => return Err(e),
            };
            buffer.truncate(held + read);
            let ended = read == 0;
            let mut at = 0;
            loop {
                let (valid, broken) = match std::str::from_utf8(&buffer[at..]) {
                    Ok(_) => (buffer.len() - at, None),
                    Err(e) => (e.valid_up_to(), e.error_len().or(ended.then_some(1))),
                };
                let text = &buffer[at..at + valid];
                line += text.iter().filter(|&&b| b == b'\n').count();
                survey.wide += text.iter().filter(|&&b| b >= 0xc0).count() as u64;
                at += valid;
                let Some(broken) = broken else { break };
                survey.note(&buffer, at, broken, line);
                at += broken;
            }
            buffer.drain(..at);
            if ended {
                return Ok(survey);
            }
        }
    }

    fn note(&mut self, buffer: &[u8], at: usize, length: usize, line: usize) {
        self.broken += length as u64;
        let high = |i: Option<usize>| i.and_then(|i| buffer.get(i)).is_some_and(|b| *b >= 0x80);
        for (i, &byte) in buffer.iter().enumerate().skip(at).take(length) {
            self.unassigned += u64::from(windows_1252(byte).is_none());
            self.in_runs += u64::from(high(i.checked_sub(1)) || high(Some(i + 1)));
        }
        if self.first.is_none() {
            let start = at.saturating_sub(20);
            let around = &buffer[start..buffer.len().min(at + 20)];
            let before = around[..at - start].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
            let word = around[before..].split(|&b| b == b'\n' || b == b'\r').next().unwrap_or_default();
            self.first = Some((line, word.to_vec()));
        }
    }

    /// What the whole text is written in, as far as that can be told; `None` for bytes of some other encoding.
    pub fn encoding(&self) -> Option<Encoding> {
        match self.broken {
            // Damage here and there in UTF-8 is told row by row.
            broken if broken == 0 || self.wide > 0 => Some(Encoding::Utf8),
            broken => (self.unassigned == 0 && self.in_runs * 4 <= broken).then_some(Encoding::Windows1252),
        }
    }

    /// The line of the first byte that is no UTF-8, and the text around it as Windows-1252 has it.
    pub fn sample(&self) -> Option<(usize, String)> {
        let (line, bytes) = self.first.as_ref()?;
        let text = bytes.iter().map(|&b| windows_1252(b).unwrap_or('\u{fffd}'));
        Some((*line, text.filter(|c| !c.is_control()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8], encoding: Encoding) -> io::Result<String> {
        let mut text = Vec::new();
        Decoder::new(bytes, encoding).read_to_end(&mut text)?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn western_text_is_told_from_damaged_utf_8_and_from_other_scripts() {
        let encoding = |bytes: &[u8]| Survey::of(bytes).unwrap().encoding();
        assert_eq!(encoding("Zürich kostet 5 €\n".as_bytes()), Some(Encoding::Utf8));
        assert_eq!(encoding(b"plain"), Some(Encoding::Utf8));
        assert_eq!(encoding(b"Z\xfcrich\nCaf\xe9 \x93quoted\x94 5 \x80\n"), Some(Encoding::Windows1252));
        assert_eq!(
            encoding("Zürich \u{e9}".as_bytes().iter().chain(b"\xfc!").copied().collect::<Vec<_>>().as_slice()),
            Some(Encoding::Utf8)
        );
        assert_eq!(encoding(b"\xcf\xf0\xe8\xe2\xe5\xf2, \xec\xe8\xf0"), None, "Cyrillic in Windows-1251");
        assert_eq!(encoding(b"a\x81b"), None);
        let survey = Survey::of(&b"a\nb;Z\xfcrich;c\n"[..]).unwrap();
        assert_eq!(survey.sample(), Some((2, "b;Zürich;c".to_owned())));
        assert_eq!(decode(b"5 \x80", Encoding::Windows1252).unwrap(), "5 €");
    }

    #[test]
    fn half_characters_are_errors() {
        assert!(decode(&[0x41], Encoding::Utf16Le).is_err());
        assert!(decode(&[0x00, 0xd8, 0x41, 0x00], Encoding::Utf16Le).is_err());
        assert!(decode(&[0x00, 0xd8], Encoding::Utf16Le).is_err());
    }

    proptest! {
        #[test]
        fn utf_16_of_either_order_comes_back(text in "\\PC{0,200}", repeated in 0..400_usize) {
            let text = text.repeat(repeated);
            let units: Vec<u16> = text.encode_utf16().collect();
            let le: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let be: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            prop_assert_eq!(&decode(&le, Encoding::Utf16Le).unwrap(), &text);
            prop_assert_eq!(&decode(&be, Encoding::Utf16Be).unwrap(), &text);
        }
    }
}
