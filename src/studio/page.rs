//! The page: one answer with its styles and scripts in it, made of the files beside this one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
/// In this order: each uses what is before it.
const SCRIPTS: [&str; 8] = [
    include_str!("page/basics.js"),
    include_str!("page/recipe.js"),
    include_str!("page/settings.js"),
    include_str!("page/plot.js"),
    include_str!("page/new.js"),
    include_str!("page/runs.js"),
    include_str!("page/talk.js"),
    include_str!("page/ship.js"),
];

/// The page and what a browser may do with it.
pub struct Page {
    /// Its text.
    pub html: Bytes,
    /// Its `Content-Security-Policy`: its own style and script by their hashes, its own server, and nothing else.
    pub policy: String,
}

impl Page {
    /// It.
    pub fn made() -> Self {
        let script = format!("\"use strict\";\n{}", SCRIPTS.concat());
        let html = HTML.replacen("/*STYLE*/", STYLE, 1).replacen("/*SCRIPT*/", &script, 1);
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data: blob:; media-src data: blob:; \
             connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
            hash(&script),
            hash(STYLE)
        );
        Page { html: html.into(), policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_fetches_nothing() {
        let page = Page::made();
        let text = std::str::from_utf8(&page.html).unwrap();
        assert!(text.len() <= 300_000, "{} bytes", text.len());
        assert!(!text.contains("/*STYLE*/") && !text.contains("/*SCRIPT*/"));
        for banned in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "https://",
            " style=",
        ] {
            assert!(!text.contains(banned), "{banned}");
        }
        assert_eq!((text.matches("<script>").count(), text.matches("<style>").count()), (1, 1));
    }
}
