//! Who may ask: who has the token, from this machine, by no page of somebody else.

use crate::error::{Error, Kind, Result};
use crate::serve::{Keys, Refusal, no_other_page};
use hyper::header::{AUTHORIZATION, COOKIE};
use hyper::{HeaderMap, StatusCode};
use std::net::IpAddr;

/// The door of a studio.
pub struct Door {
    token: String,
    /// The token again, to compare with.
    keys: Keys,
    /// The cookie's name. Cookies do not tell ports apart, so it does.
    cookie: String,
}

impl Door {
    /// One with a token that nobody knows yet.
    ///
    /// # Errors
    /// Those of [`secret`].
    pub fn new(port: u16) -> Result<Self> {
        let token = secret()?;
        Ok(Door { keys: Keys::one(&token), token, cookie: format!("gemma-tune-studio-{port}") })
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What makes a browser keep the token, where no script reads it and no other site sends it.
    pub fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.token)
    }

    /// Whether a request is the page's own, or a person's who opens it; `query` is what stands behind its path.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit(&self, headers: &HeaderMap, query: Option<&str>, local: IpAddr) -> std::result::Result<(), Refusal> {
        no_other_page(headers, Some(local))?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site)) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "other sites are not answered"));
        }
        let of_cookie = || {
            let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
            all.flat_map(|cookies| cookies.split(';'))
                .find_map(|one| one.trim().strip_prefix(&self.cookie)?.strip_prefix('='))
        };
        let of_query = || query?.split('&').find_map(|part| part.strip_prefix("token="));
        let of_header = || text(AUTHORIZATION.as_str())?.strip_prefix("Bearer ");
        let given = [of_header(), of_query(), of_cookie()];
        if given.into_iter().flatten().any(|token| self.keys.find(token).is_some()) {
            return Ok(());
        }
        let what = "open the address that `gemma-tune studio` printed when it was started: it ends with `?token=..`";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, what).code("no_token"))
    }
}

/// 256 bits of the system's random numbers, as hexadecimal digits.
///
/// # Errors
/// Where the system has none.
pub fn secret() -> Result<String> {
    let mut bytes = [0; 32];
    let failed = |e: getrandom::Error| {
        Error::new(Kind::Run, format!("the system gives no random numbers, which a key is made of: {e}"))
    };
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    #[test]
    fn nobody_comes_in_without_the_token_nor_from_elsewhere() {
        let door = Door::new(7860).unwrap();
        let (token, local) = (door.token().to_owned(), IpAddr::from([127, 0, 0, 1]));
        let ask = |headers: &[(&str, &str)], query: Option<&str>| {
            let header = |(name, value): &(&str, &str)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            };
            door.admit(&headers.iter().map(header).collect(), query, local).is_ok()
        };
        let host = ("host", "127.0.0.1:7860");
        let cookie = door.set_cookie();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        let cookie = format!("other=1; {}", cookie.split(';').next().unwrap());
        let (bearer, query) = (format!("Bearer {token}"), format!("token={token}"));
        assert!(ask(&[host, ("cookie", &cookie)], None) && ask(&[host, ("authorization", &bearer)], None));
        assert!(ask(&[host], Some(&query)) && ask(&[("host", "localhost:7860")], Some(&query)));
        assert!(!ask(&[host], None) && !ask(&[host], Some("token=")) && !ask(&[host], Some(&query[..50])));
        assert!(!ask(&[host, ("cookie", &cookie.replace("7860", "7861"))], None), "of another studio");
        for elsewhere in [
            ("origin", "http://evil.example"),
            ("origin", "http://127.0.0.1:81"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(!ask(&[host, ("cookie", &cookie), elsewhere], None), "{elsewhere:?}");
        }
        assert!(!ask(&[("host", "evil.example"), ("cookie", &cookie)], None));
        assert!(secret().unwrap() != secret().unwrap() && token.len() == 64);
    }
}
