//! Where the Hub is, where its files are kept, and who is asking: the environment variables of the ecosystem.

use super::address::has_host;
use crate::error::{Error, Kind, Place, Result};
use crate::{input, paths};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach the Hub. [`HubSettings::from_env`] gives what `huggingface_hub` would use on the same machine.
#[derive(Clone)]
pub struct HubSettings {
    /// The Hub's address, without a trailing slash (`HF_ENDPOINT`).
    pub endpoint: String,
    /// The folder of `models--owner--name` folders (`HF_HUB_CACHE`, else `HF_HOME/hub`).
    pub cache: PathBuf,
    /// The access token (`HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`).
    pub token: Option<String>,
    /// Whether only the cache may be used (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// How long to wait for a connection, and for an answer's first byte (`HF_HUB_ETAG_TIMEOUT`).
    pub timeout: Duration,
    /// The pause before a broken download is taken up again; doubles each time.
    pub retry_pause: Duration,
}

impl HubSettings {
    /// Reads the environment and the token file. `~` and variables in paths are expanded.
    ///
    /// # Errors
    /// When a variable's path names a variable that is not set.
    pub fn from_env() -> Result<HubSettings> {
        HubSettings::from_lookup(|name| std::env::var(name).ok())
    }

    /// Checks, before the Hub is asked, that it can be: an address that none can be at, or a token that no request can
    /// carry, is a mistake here and no trouble of the network.
    ///
    /// # Errors
    /// [`Kind::Recipe`] at the variable.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String, variable: &str, hint: &str| {
            Err(Error::new(Kind::Recipe, what).at(Place::Named(variable.to_owned())).hint(hint))
        };
        let is_of =
            |scheme: &&str| self.endpoint.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if !["http://", "https://"].iter().any(is_of) || !has_host(&self.endpoint) {
            let what = format!("`{}` is no address of a Hub", self.shown_endpoint());
            return wrong(what, "HF_ENDPOINT", "write it like `https://huggingface.co`, or unset the variable");
        }
        if self.token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            let what = "the token has a character that no token has: a space, the end of a line, or a letter that is not ASCII";
            return wrong(
                what.into(),
                "HF_TOKEN",
                "set it, or what `hf auth login` wrote, to the token alone: `hf_..`",
            );
        }
        Ok(())
    }

    /// As [`HubSettings::from_env`], with the environment as a function.
    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<HubSettings> {
        let get = |name: &str| lookup(name).map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let path = |name: &str| -> Result<Option<PathBuf>> {
            let expand = |value: String| {
                paths::expand_with(&value, &get).map(PathBuf::from).map_err(|e| e.at(Place::Named(name.to_owned())))
            };
            get(name).map(expand).transpose()
        };
        let home_folder = |name: &str| get(name).map(PathBuf::from);
        let user = home_folder("HOME").or_else(|| home_folder("USERPROFILE")).unwrap_or_default();
        let home = match path("HF_HOME")? {
            Some(home) => home,
            None => path("XDG_CACHE_HOME")?.unwrap_or_else(|| user.join(".cache")).join("huggingface"),
        };
        let cache = match path("HF_HUB_CACHE")? {
            Some(cache) => cache,
            None => path("HUGGINGFACE_HUB_CACHE")?.unwrap_or_else(|| home.join("hub")),
        };
        let token_file = path("HF_TOKEN_PATH")?.unwrap_or_else(|| home.join("token"));
        let token = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
            input::read_to_string(&token_file).ok().map(|t| t.trim().to_string()).filter(|t| !t.is_empty())
        });
        let is_true =
            |name: &str| get(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_uppercase().as_str()));
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let seconds = get("HF_HUB_ETAG_TIMEOUT").and_then(|s| s.parse().ok()).filter(|s| (1..=3600).contains(s));
        Ok(HubSettings {
            endpoint: match endpoint.trim_end_matches('/') {
                scheme if scheme.ends_with(':') => endpoint.clone(), // as it was written, for whom it is shown to
                endpoint => endpoint.to_string(),
            },
            cache,
            token,
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs(seconds.unwrap_or(10)),
            retry_pause: Duration::from_millis(500),
        })
    }
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret: only whether there is one.
        f.debug_struct("HubSettings")
            .field("endpoint", &self.shown_endpoint())
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_hub_can_be_at_and_no_request_can_carry_is_wrong_input() {
        for endpoint in
            ["ftp://x", "not a url", "http://", "https:///x", "http://h:99999", "http://h:", "http://:80", "h"]
        {
            let error = settings(&[("HF_ENDPOINT", endpoint)]).check().unwrap_err();
            assert_eq!(error.what(), format!("`{endpoint}` is no address of a Hub"));
            assert_eq!((error.exit_code(), error.place().unwrap().to_string().as_str()), (2, "HF_ENDPOINT"));
        }
        for endpoint in
            ["https://h", "HTTP://h:80/", "http://127.0.0.1:9/hub", "http://[::1]:8080", "http://[::1]", "http://u:p@h"]
        {
            settings(&[("HF_ENDPOINT", endpoint)]).check().unwrap();
        }
        for token in ["hf_a\nhf_b", "hf a", "hf_\u{e9}"] {
            let error = settings(&[("HF_TOKEN", token)]).check().unwrap_err();
            assert_eq!((error.exit_code(), error.place().unwrap().to_string().as_str()), (2, "HF_TOKEN"));
            assert!(!error.to_string().contains("hf_a"), "a token is a secret");
        }
        settings(&[("HF_TOKEN", "hf_a\n")]).check().unwrap();
    }

    fn settings(pairs: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_lookup(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())).unwrap()
    }

    #[test]
    fn the_cache_is_the_one_of_the_ecosystem() {
        assert_eq!(settings(&[("HOME", "/h")]).cache, PathBuf::from("/h/.cache/huggingface/hub"));
        assert_eq!(settings(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).cache, PathBuf::from("/x/huggingface/hub"));
        assert_eq!(settings(&[("HF_HOME", "/hf")]).cache, PathBuf::from("/hf/hub"));
        assert_eq!(settings(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]).cache, PathBuf::from("/c"));
    }

    #[test]
    fn homes_and_variables_in_paths_are_expanded() {
        assert_eq!(settings(&[("HOME", "/h"), ("HF_HOME", "~/hf")]).cache, PathBuf::from("/h/hf/hub"));
        let cache = settings(&[("SCRATCH", "/s"), ("HF_HUB_CACHE", "${SCRATCH}/hub")]).cache;
        assert_eq!(cache, PathBuf::from("/s/hub"));
        let unset = HubSettings::from_lookup(|name| (name == "HF_HOME").then(|| "$SCRATCH/hf".to_owned())).unwrap_err();
        assert_eq!(
            (unset.what(), unset.exit_code()),
            ("the variable `SCRATCH` of the path `$SCRATCH/hf` is not set", 2)
        );
        assert_eq!(unset.place(), Some(&Place::Named("HF_HOME".into())));
    }

    #[test]
    fn the_token_comes_from_the_variable_then_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).token, None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(settings(&[("HF_HOME", home), ("HF_TOKEN", " hf_env ")]).token.as_deref(), Some("hf_env"));
        std::fs::write(dir.path().join("other"), "hf_other").unwrap();
        let other = format!("{home}/other");
        let with_path = settings(&[("HF_HOME", home), ("HF_TOKEN_PATH", &other)]);
        assert_eq!(with_path.token.as_deref(), Some("hf_other"));
        assert!(!format!("{with_path:?}").contains("hf_other"));
    }

    #[test]
    fn offline_and_endpoint() {
        assert!(settings(&[("HF_HUB_OFFLINE", "1")]).offline);
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(settings(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        assert_eq!(settings(&[]).endpoint, "https://huggingface.co");
    }
}
