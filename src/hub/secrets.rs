//! What nobody is shown, whoever says it: the token, and the user and password of an address.
//!
//! Every error leaves the room through [`HubSettings::discreet`], and what a server says enters it through
//! [`HubSettings::heard`]: a server may say back what it was asked with.

use super::address::{decoded, login};
use super::settings::HubSettings;
use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What is quoted of a server at most.
#[cfg(feature = "hub")]
const QUOTED_CHARS: usize = 300;
/// What is shorter is no secret, but part of many words.
const SECRET_BYTES: usize = 4;

impl HubSettings {
    /// The Hub's address as it is shown: without a user and a password.
    pub fn shown_endpoint(&self) -> String {
        self.without_secrets(&self.endpoint)
    }

    /// A text without the token, and without the user and the password of the Hub's address.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(login) = login(&self.endpoint) {
            text = text.replace(&format!("{login}@"), "");
            for login in [login.to_owned(), decoded(login)].iter().filter(|login| login.len() >= SECRET_BYTES) {
                text = text.replace(login.as_str(), "(the login)");
                text = text.replace(&BASE64_STANDARD.encode(login), "(the login)");
            }
        }
        match self.token.as_ref().filter(|token| token.len() >= SECRET_BYTES) {
            Some(token) => text.replace(token.as_str(), "(the token)"),
            None => text,
        }
    }

    /// What a server says: a line without secrets, of which no more is quoted than is read.
    #[cfg(feature = "hub")]
    pub(super) fn heard(&self, words: &str) -> String {
        let line: String = words.chars().filter(|c| !c.is_control()).collect();
        let mut line = self.without_secrets(&line);
        // In a server's own words the password may stand alone.
        if let Some((_, password)) = login(&self.endpoint).and_then(|login| login.split_once(':')) {
            for password in [password.to_owned(), decoded(password)].iter().filter(|word| word.len() >= SECRET_BYTES) {
                line = line.replace(password.as_str(), "(the password)");
            }
        }
        // Only now: what is cut in two is a secret that no longer looks like one.
        line.chars().take(QUOTED_CHARS).collect()
    }

    /// A result whose error says no secrets.
    pub(super) fn discreet<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error: Error| error.rewrite(&|text| self.without_secrets(text)))
    }
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(endpoint: &str, token: Option<&str>) -> HubSettings {
        HubSettings {
            endpoint: endpoint.into(),
            cache: "cache".into(),
            token: token.map(str::to_owned),
            offline: false,
            timeout: Duration::from_secs(1),
            retry_pause: Duration::ZERO,
        }
    }

    #[test]
    fn an_address_is_shown_without_its_login() {
        for (endpoint, shown) in [
            ("https://huggingface.co", "https://huggingface.co"),
            ("http://ann:secret@mirror", "http://mirror"),
            ("http://ann:s@cret@mirror:8080/hub", "http://mirror:8080/hub"),
            ("http://token@mirror", "http://mirror"),
            ("http://mirror/ann@b", "http://mirror/ann@b"),
        ] {
            assert_eq!(settings(endpoint, None).shown_endpoint(), shown);
        }
        assert!(!format!("{:?}", settings("http://ann:secret@mirror", None)).contains("secret"));
    }

    #[test]
    fn what_a_server_says_back_is_no_secret_anymore() {
        let settings = settings("http://ann:s%40cret@mirror", Some("hf_sesame"));
        assert_eq!(settings.heard("Bearer hf_ses\name?"), "Bearer (the token)?");
        assert_eq!(settings.heard("Basic YW5uOnNAY3JldA=="), "Basic (the login)");
        assert_eq!(settings.heard("ann:s@cret, s@cret or s%40cret"), "(the login), (the password) or (the password)");
        // The cut falls into the token.
        let long = format!("{}hf_sesame", "x".repeat(QUOTED_CHARS - 4));
        assert_eq!(settings.heard(&long), format!("{}(the", "x".repeat(QUOTED_CHARS - 4)));
    }

    #[test]
    fn an_error_says_no_secret_in_any_of_its_parts() {
        use crate::error::{Kind, Place};
        let settings = settings("http://ann:secret@mirror", Some("hf_sesame"));
        let said = "hf_sesame at http://ann:secret@mirror/a";
        let error = Error::new(Kind::Hub, said).hint(said).excerpt(said).at(Place::Named(said.into()));
        let both = Error::many(vec![error, Error::new(Kind::Hub, said).at_path(said)]).unwrap();
        let shown = settings.discreet::<()>(Err(both)).unwrap_err();
        let text = format!("{shown} {}", shown.to_json());
        assert!(!text.contains("sesame") && !text.contains("secret") && !text.contains("ann"), "{text}");
        assert_eq!(shown.what(), "(the token) at http://mirror/a");
    }
}
