//! Where tables are kept that are not in the folder: the address of a database, of whose password nobody is told.

use crate::error::{Error, Kind, Place, Result};

/// The address of a database, understood; it shows no password.
#[cfg(feature = "postgres")]
#[derive(Clone)]
pub struct Address {
    pub(super) config: postgres::Config,
    pub(super) shown: String,
}

/// Without the feature `postgres` there is none.
#[cfg(not(feature = "postgres"))]
#[derive(Debug, Clone)]
pub enum Address {}

impl std::str::FromStr for Address {
    type Err = Error;

    /// Reads one, as `postgres://USER@HOST:PORT/NAME`. Where it has no password, that is in the variable `PGPASSWORD`, if in any.
    ///
    /// # Errors
    /// What is no address, none of PostgreSQL, or asks for what is not done here; nothing of a password is in what is said.
    fn from_str(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("this is no address of a database", FORM));
        };
        if !["postgres", "postgresql"].contains(&scheme) {
            let is_word = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let name = if is_word { format!("`{scheme}://`") } else { "this".into() };
            return Err(wrong(format!("{name} is no address of a database that this program knows"), FORM));
        }
        // Whatever stands behind the first of two would be shown as the host.
        if rest.matches('@').count() > 1 {
            let hint = "an `@` that is part of a user's name, a password or an option is written `%40`";
            return Err(wrong("the address has more than one `@`", hint));
        }
        if let Some(option) = wants_tls(rest) {
            let what = format!("`{option}` asks for TLS, which this program does not speak to databases");
            return Err(wrong(what, TLS));
        }
        understood(text)
    }
}

/// How an address is written.
const FORM: &str =
    "write `postgres://USER@HOST:PORT/NAME`; without `--database` jobs are kept in the folder of `--jobs` itself";
/// What to do where TLS is asked for.
pub(super) const TLS: &str = "reach it by its socket (`?host=/run/postgresql`), in a network that nobody else is in, or through a tunnel \
                   that encrypts (`ssh -L`, stunnel), and leave the option out";

fn wrong(what: impl Into<String>, hint: &str) -> Error {
    Error::new(Kind::Recipe, what).at(Place::Named("--database".into())).hint(hint)
}

/// The first option of an address that asks for a connection that is encrypted.
fn wants_tls(rest: &str) -> Option<&str> {
    let behind = rest.rsplit_once('@').map_or(rest, |(_, behind)| behind);
    let (_, options) = behind.split_once('?')?;
    options.split('&').find(|option| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "sslmode" => !["disable", "allow", "prefer"].contains(&value),
            "sslnegotiation" => value != "postgres",
            "channel_binding" => value == "require",
            _ => name.starts_with("ssl"),
        }
    })
}

#[cfg(not(feature = "postgres"))]
fn understood(_: &str) -> Result<Address> {
    let hint =
        "build it with the feature `postgres`; without `--database` jobs are kept in the folder of `--jobs` itself";
    Err(wrong("this program was built without PostgreSQL", hint))
}

#[cfg(not(feature = "postgres"))]
impl Address {
    /// As it is shown.
    pub fn shown(&self) -> &str {
        match *self {}
    }

    /// Whether what goes there and comes from there leaves this machine.
    pub fn is_elsewhere(&self) -> bool {
        match *self {}
    }
}

#[cfg(feature = "postgres")]
fn understood(text: &str) -> Result<Address> {
    use std::error::Error as _;
    use std::time::Duration;

    let mut config: postgres::Config = text.parse().map_err(|error: postgres::Error| {
        let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
        wrong(format!("this is no address of a database{why}"), FORM)
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(wrong("the address names no host", FORM));
    }
    if config.get_dbname().is_none() {
        return Err(wrong("the address names no database", FORM));
    }
    if config.get_password().is_none()
        && let Some(password) = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty())
    {
        config.password(password);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
    if !text.contains("keepalives") {
        config
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
    }
    if config.get_application_name().is_none() {
        config.application_name("gemma-tune");
    }
    config.notice_callback(|_| {}); // as that a table is there already
    let shown = shown(&config);
    Ok(Address { config, shown })
}

#[cfg(feature = "postgres")]
fn hosts(config: &postgres::Config) -> Vec<String> {
    use postgres::config::Host;
    let named = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(folder) => folder.display().to_string(),
    });
    let named: Vec<String> = named.collect();
    match named.is_empty() {
        true => config.get_hostaddrs().iter().map(ToString::to_string).collect(),
        false => named,
    }
}

/// Hosts, ports and the name, and nothing else.
#[cfg(feature = "postgres")]
fn shown(config: &postgres::Config) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<String> =
        hosts(config).iter().enumerate().map(|(at, host)| format!("{host}:{}", port(at))).collect();
    format!("postgres://{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

#[cfg(feature = "postgres")]
impl Address {
    /// As it is shown: hosts, ports and the name, and nobody's password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether what goes there and comes from there leaves this machine.
    pub fn is_elsewhere(&self) -> bool {
        let addresses = self.config.get_hostaddrs();
        let is_here = |host: &String| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.starts_with('/')
                || host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        match addresses.is_empty() {
            true => !hosts(&self.config).iter().all(is_here),
            false => !addresses.iter().all(std::net::IpAddr::is_loopback),
        }
    }
}

#[cfg(feature = "postgres")]
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Error {
        let error = text.parse::<Address>().err().unwrap();
        let said = format!("{error} {error:?} {:?}", error.hint_text());
        assert!(error.exit_code() == 2 && error.hint_text().is_some() && !said.contains("s3cret"), "{text}: {said}");
        error
    }

    #[test]
    fn what_is_no_address_is_refused_without_a_word_of_its_password() {
        for (text, what) in [
            ("jobs.sqlite", "no address of a database"),
            ("user:s3cret@host/db", "no address of a database"),
            ("mysql://user:s3cret@host/db", "`mysql://` is no address"),
            ("user:s3cret://host/db", "this is no address of a database that"),
            ("postgres://user:p@s3cret@host/db", "more than one `@`"),
            ("postgres://user:s3cret@host/db?sslmode=require", "`sslmode=require` asks for TLS"),
            ("postgres://user:s3cret@host/db?a=b&sslmode=verify-full", "`sslmode=verify-full` asks for TLS"),
            ("postgres://user:s3cret@host/db?sslrootcert=ca.pem", "`sslrootcert=ca.pem` asks for TLS"),
            ("postgres://host/db?channel_binding=require", "asks for TLS"),
        ] {
            let error = refused(text);
            assert!(error.what().contains(what), "{text}: {error}");
        }
        // A password is no option, whatever is in it.
        assert_eq!(wants_tls("user:?sslmode=require@host/db"), None);
        assert_eq!(wants_tls("user@host/db?sslmode=disable"), None);
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn a_program_without_postgresql_says_so() {
        assert!(refused("postgres://user:s3cret@host/db").what().contains("built without PostgreSQL"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn addresses_are_understood_and_shown_without_their_passwords() {
        for (text, what) in [
            ("postgres://user:s3cret@host/db?colour=red", "unknown option `colour`"),
            ("postgres://user:s3cret@host:five/db", "`port`"),
            ("postgres://user:s3cret@host", "names no database"),
            ("postgres:///db", "names no host"),
        ] {
            let error = refused(text);
            assert!(error.what().contains(what), "{text}: {error}");
        }
        for (text, shown, is_elsewhere) in [
            ("postgres://user:s3cret@db.example.com/jobs", "postgres://db.example.com:5432/jobs", true),
            ("postgresql://user:%40s3cret@[::1]:6000/jobs?sslmode=prefer", "postgres://[::1]:6000/jobs", false),
            ("postgres://user@127.0.0.1/jobs?password=s3cret", "postgres://127.0.0.1:5432/jobs", false),
            ("postgres://localhost,other:6000/jobs", "postgres://localhost:5432,other:6000/jobs", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.shown(), address.is_elsewhere()), (shown, is_elsewhere), "{text}");
            assert!(!format!("{address:?}").contains("s3cret"), "{address:?}");
        }
        if cfg!(unix) {
            let address: Address = "postgres:///jobs?host=/run/postgresql".parse().unwrap();
            assert_eq!((address.shown(), address.is_elsewhere()), ("postgres:///run/postgresql:5432/jobs", false));
        }
    }
}
