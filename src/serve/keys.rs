//! Who may ask.

use crate::error::{Error, Kind, Place, Result};
use crate::input;
use sha2::{Digest, Sha256};
use std::path::Path;

/// What a key is known by.
type Hash = [u8; 32];

/// The keys of an API; of each its hash alone is held.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Hash>);

impl Keys {
    /// Those of a file: one in each line, as it is or as `sha256:` and 64 hexadecimal digits. Empty lines and those that begin with
    /// `#` mean nothing.
    ///
    /// # Errors
    /// A file that cannot be read, that has no key, or a line that is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = input::read_to_string(path).map_err(|e| input::wrong_name(e, path, Kind::Recipe))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(line, key)| {
            let wrong = |what: &str| {
                let place = Place::Text { path: path.into(), line, column: 1 };
                Err(Error::new(Kind::Recipe, what).at(place).hint("`printf %s KEY | sha256sum` gives a key's hash"))
            };
            let hex = key.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("sha256"));
            match hex {
                Some((_, hex)) => of_hex(hex).map_or_else(|| wrong("a hash has 64 hexadecimal digits"), Ok),
                None if key.contains(char::is_whitespace) => wrong("a key has no spaces"),
                None if !key.is_ascii() => wrong("a key has ASCII characters alone, as a header of HTTP has"),
                None => Ok(hash(key)),
            }
        });
        let keys: Vec<Hash> = keys.collect::<Result<_>>()?;
        if keys.is_empty() {
            let error = Error::new(Kind::Recipe, "there is no key in the file").at(Place::Path(path.into()));
            return Err(error.hint("one in each line; without `--api-key-file` nobody is asked for one"));
        }
        Ok(Keys(keys))
    }

    /// One key.
    pub fn one(key: &str) -> Self {
        Keys(vec![hash(key)])
    }

    /// Whether nobody needs one.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Which of them this is, if it is one. Takes as long for any other.
    pub fn find(&self, key: &str) -> Option<usize> {
        let asked = hash(key);
        let differs = |known: &Hash| known.iter().zip(&asked).fold(0, |all, (a, b)| all | (a ^ b));
        let numbered = self.0.iter().enumerate();
        numbered.fold(None, |found, (number, known)| if differs(known) == 0 { Some(number) } else { found })
    }
}

/// By what whoever has this key is known where he leaves something: no key, and no hash of one that would be taken for it.
pub fn owner(key: &str) -> String {
    let hash = Sha256::new().chain_update(b"owner\0").chain_update(hash(key)).finalize();
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

fn of_hex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    (text.len() == 64 && text.is_ascii()).then_some(())?;
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Keys> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Keys::read(file.path())
    }

    #[test]
    fn keys_are_known_by_what_they_are_or_by_their_hash() {
        // printf %s second | sha256sum
        let hashed = "sha256:16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";
        let keys = read(&format!("\u{feff}# ours\nfirst\n\n{hashed}\n")).unwrap();
        assert!(read(&hashed.replace("sha", "SHA")).unwrap().find("second").is_some());
        assert_eq!((keys.find("first"), keys.find("second"), keys.count()), (Some(0), Some(1), 2));
        assert!(!["", "First", "third", hashed].iter().any(|key| keys.find(key).is_some()) && !keys.is_open());
        assert!(Keys::default().is_open());
    }

    #[test]
    fn owners_are_told_apart_and_say_nothing_of_their_keys() {
        let (one, other) = (owner("one"), owner("other"));
        assert!(one != other && one == owner("one") && one.len() == 32);
        assert!(hash("one").iter().map(|byte| format!("{byte:02x}")).collect::<String>().find(&one).is_none());
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line() {
        for (text, what, line) in [
            ("schlüssel", "ASCII", 1),
            ("a\nb c\n", "a key has no spaces", 2),
            ("sha256:12\n", "64 hexadecimal digits", 1),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.what().contains(what) && error.to_string().contains(&format!(":{line}:1")), "{error}");
        }
        assert!(read("# none\n").unwrap_err().what().contains("no key"));
    }
}
