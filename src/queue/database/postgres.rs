//! Tables in a database of PostgreSQL.
//!
//! One server uses them at a time, as one uses a folder: it holds a lock of its session, which PostgreSQL gives back when the session
//! ends, however it ends. All is asked through that one session, so that who has lost the lock changes nothing. A session that broke
//! off is begun anew when something is asked next, and takes the lock again before it is asked.

use super::{Backend, CHANGES, Cell, Row};
use crate::error::{Error, Kind, Place, Result};
use crate::queue::address::{Address, TLS};
use crate::queue::bond::Bond;
use crate::queue::is_one;
use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, Config, NoTls, Statement};
use std::collections::HashMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The table that says which program's and which folder's the others are, and how many changes they have.
const OURS: &str = "gemma_tune_queue";
/// The first half of the number of its lock (`gemm`); the second is the table's own, since there may be one in each schema.
const LOCK: &str = "1734700397";
/// How long a session is waited for that ends, of a server that has.
const LOCK_TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// The same of a session of our own.
const OWN_TIME: Duration = Duration::from_secs(2);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);
/// Whoever was heard of so shortly ago is there still.
const TRUST: Duration = Duration::from_secs(1);
/// How long one who was not may take to say that he is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody is asked who was not there.
const PAUSE: Duration = Duration::from_secs(1);
/// No statement of ours takes long: what does, waits for what does not come.
const SESSION: &str = "SET statement_timeout = '30s'; SET lock_timeout = '10s';
                       SET idle_in_transaction_session_timeout = '60s'";
/// A server that was cut off is missed within a minute, and its lock free. Some systems know none of it.
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";

/// Statements of a session, by their words.
type Known = HashMap<String, Statement>;

/// Whose tables these are to be.
#[derive(Debug, Clone)]
pub struct Home {
    /// The name that the folder and its tables have.
    pub id: String,
    /// The folder.
    pub dir: PathBuf,
    /// Whether nothing is in it yet: else there are tables somewhere.
    pub is_new: bool,
}

/// A database of tables.
pub struct Postgres {
    config: Config,
    shown: String,
    password: Option<String>,
    home: Home,
    client: Option<Client>,
    /// The number of the session on the server, and when it began; of the last one, where there is none.
    session: Option<(i64, String)>,
    /// Statements that the session knows.
    known: Known,
    /// When it was last heard of.
    heard: Instant,
    /// When it was not there, and why.
    missed: Option<(Instant, String)>,
    /// Whether something has been begun, and is to end in the same session.
    is_within: bool,
    /// Whether it has been found to be in order: what fails from then on is nothing that somebody named wrongly.
    is_taken: bool,
}

/// Connects to a database.
///
/// # Errors
/// One that is not there, or lets nobody in.
pub(super) fn open(address: &Address, home: Home) -> Result<Postgres> {
    let password = address.config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let mut database = Postgres {
        config: address.config.clone(),
        shown: address.shown.clone(),
        password,
        home,
        client: None,
        session: None,
        known: HashMap::new(),
        heard: Instant::now(),
        missed: None,
        is_within: false,
        is_taken: false,
    };
    database.connect()?;
    Ok(database)
}

impl Postgres {
    /// Has a session, the same while something has been begun in it.
    fn connected(&mut self) -> Result<()> {
        let is_trusted = self.heard.elapsed() < TRUST || self.is_within;
        let is_gone = |client: &mut Client| !is_trusted && client.is_valid(PATIENCE).is_err();
        if self.client.as_mut().is_some_and(is_gone) {
            self.leave();
        }
        match (&self.client, self.is_within) {
            (Some(_), _) => Ok(()),
            (None, true) => Err(self.missing("the connection to the database of what waits to be trained broke off")),
            (None, false) => self.connect(),
        }
    }

    fn leave(&mut self) {
        self.known.clear();
        if let Some(client) = self.client.take() {
            // It takes leave of the server, and one that says nothing would be waited for.
            let _ = std::thread::Builder::new().name("leave".into()).spawn(move || drop(client));
        }
    }

    /// Ends the session before this one, where the server has not heard that it is over: it would hold the lock.
    fn end_own(&mut self) -> Result<()> {
        if let Some((pid, since)) = self.session.clone() {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = CAST(?1 AS BIGINT) AND backend_start::text = ?2";
            self.ask(sql, &[pid.into(), since.into()])?;
        }
        let sql = "SELECT pid::bigint, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let session = |row: &Row| Ok((row.get(0)?, row.get(1)?));
        self.session = self.ask(sql, &[])?.first().map(session).transpose()?;
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        if let Some((_, why)) = self.missed.as_ref().filter(|(since, _)| since.elapsed() < PAUSE) {
            return Err(self.missing(why));
        }
        let begun = self.config.connect(NoTls).and_then(|mut client| {
            client.batch_execute(SESSION)?;
            let _ = client.batch_execute(KEEPALIVE);
            Ok(client)
        });
        let begun = self.heard(begun);
        let held = begun.and_then(|client| {
            self.client = Some(client);
            self.end_own()?;
            if self.is_taken { self.hold(OWN_TIME) } else { Ok(()) }
        });
        self.missed = None;
        if let Err(error) = &held {
            self.leave();
            if error.kind() == Kind::Unreachable {
                self.missed = Some((Instant::now(), error.what().to_owned()));
            }
        }
        held
    }

    /// What was heard, or why nothing was.
    fn heard<T>(&mut self, said: Result<T, postgres::Error>) -> Result<T> {
        match said {
            Ok(said) => {
                self.heard = Instant::now();
                Ok(said)
            }
            Err(error) => {
                let error = self.failed(error);
                if error.kind() == Kind::Unreachable {
                    self.leave();
                }
                Err(error)
            }
        }
    }

    /// Says something in a session.
    fn say<T>(&mut self, say: impl FnOnce(&mut Client, &mut Known) -> Result<T, postgres::Error>) -> Result<T> {
        self.connected()?;
        let Some(client) = &mut self.client else { return Err(Error::new(Kind::Bug, "there is no session")) };
        let said = say(client, &mut self.known);
        self.heard(said)
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        self.say(|client, _| client.batch_execute(sql))
    }

    /// Takes the lock, and waits so long for it; the folder's tables alone are taken.
    fn hold(&mut self, most: Duration) -> Result<()> {
        let sql = format!("SELECT id, folder, version FROM {OURS}");
        let found = self.ask(&sql, &[])?;
        let bound = |row: &Row| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?));
        let (id, folder, version) = match found.first().map(bound).transpose()? {
            Some((id, folder, version)) if id == self.home.id => (id, folder, version),
            Some((_, folder, _)) => {
                let what = format!(
                    "the tables in this database are of another folder of jobs, `{folder}` when it was last used"
                );
                let hint = "name that folder with `--jobs`, wherever it is now, or another database";
                return Err(self.refused(what, hint));
            }
            None => return Err(self.refused("the tables of this database say not whose they are", OTHER[0])),
        };
        if self.is_taken && version != CHANGES.len() as i64 {
            return Err(self.refused("this queue has become one of a newer version of this program", OTHER[1]));
        }
        let sql = format!("SELECT pg_try_advisory_lock(({LOCK}::bigint << 32) | '{OURS}'::regclass::oid::bigint)");
        let since = Instant::now();
        while !self.ask(&sql, &[])?.first().map_or(Ok(false), |row| row.get(0))? {
            if since.elapsed() >= most {
                let hint =
                    "one server uses a database of jobs at a time; one that was cut off is missed after a minute";
                return Err(self.refused("another server trains what waits in this database", hint));
            }
            sleep(LOOK);
        }
        let dir = self.home.dir.display().to_string();
        if folder != dir {
            self.check_moved(Path::new(&folder))?;
            let sql = format!("UPDATE {OURS} SET folder = ?1 WHERE id = ?2");
            self.change(&sql, &[dir.as_str().into(), id.as_str().into()])?;
        }
        Ok(())
    }

    /// Refuses a copy of the folder that has these tables and is there still: what is trained in one of them would be missing in the
    /// other.
    fn check_moved(&self, before: &Path) -> Result<()> {
        let is_bound = |bond: &Bond| bond.id == self.home.id && bond.address == self.shown;
        let is_there = Bond::read(before).is_ok_and(|bond| bond.as_ref().is_some_and(is_bound));
        if !is_there || is_one(before, &self.home.dir) {
            return Ok(());
        }
        let what = format!("this folder is a copy of `{}`, whose tables are in this database", before.display());
        let hint = "name that folder with `--jobs`, or remove it where this one takes its place; a copy that is to be used beside it \
                    has a copy of the database, too";
        Err(self.refused(what, hint))
    }

    /// Something that somebody named wrongly, as long as nobody has begun with it.
    fn refused(&self, what: impl Into<String>, hint: &str) -> Error {
        Error::new(self.wrongly(), what).at(self.place()).hint(hint)
    }

    fn wrongly(&self) -> Kind {
        if self.is_taken { Kind::Run } else { Kind::Recipe }
    }

    fn missing(&self, why: &str) -> Error {
        let hint = match self.is_taken {
            true => "chats are answered meanwhile; it is tried again whenever something is asked",
            false => "is it running, and are the host and the port those of `--database`?",
        };
        Error::new(Kind::Unreachable, why).at(self.place()).hint(hint)
    }

    /// What PostgreSQL says, or the system.
    fn failed(&self, error: postgres::Error) -> Error {
        const SAID: &str = "the database of what waits to be trained";
        let Some(said) = error.as_db_error() else {
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            if is_of_the_wire(&error) || error.is_closed() {
                let what = format!("{SAID} cannot be reached: {error}{why}");
                return self.missing(&self.discreet(&what)).caused_by(error);
            }
            let failed = self.refused(self.discreet(&format!("{SAID}: {error}{why}")), LOGIN);
            return failed.caused_by(error);
        };
        let what = self.discreet(&format!("{SAID}: {}", said.message()));
        let code = said.code();
        let (kind, hint) = if is_away(code) {
            return self.missing(&what).caused_by(error);
        } else if *code == SqlState::DISK_FULL {
            (Kind::NoSpace, "free some space where PostgreSQL keeps its data: nothing half-written was kept")
        } else if code.code().starts_with("28") {
            // In PostgreSQL's words for one who comes without TLS.
            (self.wrongly(), if said.message().contains("no encryption") { TLS } else { LOGIN })
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            (self.wrongly(), "`createdb NAME` makes one")
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            (self.wrongly(), "the user has to own the database, or a schema that its `search_path` begins with")
        } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            (self.wrongly(), "name the primary; of several hosts `target_session_attrs=read-write` finds it")
        } else {
            return Error::new(Kind::Run, what).at(self.place()).caused_by(error);
        };
        Error::new(kind, what).at(self.place()).hint(hint).caused_by(error)
    }

    /// Without the password, whoever says it.
    fn discreet(&self, text: &str) -> String {
        match self.password.as_ref().filter(|password| password.len() >= 4) {
            Some(password) => text.replace(password.as_str(), "(the password)"),
            None => text.to_owned(),
        }
    }
}

/// What to do where nobody is let in.
const LOGIN: &str = "the user is in the address, and the password there or in the variable PGPASSWORD";
/// What to do where the database holds something else, and where it is of a newer program.
const OTHER: [&str; 2] = [
    "`createdb NAME` makes one of its own; or name a schema, with `?options=-csearch_path%3DNAME`",
    "use that, or another database",
];

/// Whether the system, and not the database, has said that it cannot be reached.
fn is_of_the_wire(error: &postgres::Error) -> bool {
    error.as_db_error().is_none() && error.source().is_some_and(|why| why.is::<std::io::Error>())
}

/// Whether a database is there again later that says so: it begins or ends, has too many sessions, or waits for another's.
fn is_away(code: &SqlState) -> bool {
    let words = [&SqlState::TOO_MANY_CONNECTIONS, &SqlState::QUERY_CANCELED, &SqlState::LOCK_NOT_AVAILABLE];
    words.contains(&code) || ["08", "57P"].iter().any(|class| code.code().starts_with(class))
}

/// A statement, as the session knows it.
fn prepared(client: &mut Client, known: &mut Known, sql: &str) -> Result<Statement, postgres::Error> {
    if let Some(statement) = known.get(sql) {
        return Ok(statement.clone());
    }
    let statement = client.prepare(&sql.replace('?', "$"))?;
    known.insert(sql.to_owned(), statement.clone());
    Ok(statement)
}

/// Values, as a statement takes them.
fn parameters(values: &[Cell], statement: &Statement) -> Vec<Box<dyn ToSql + Sync>> {
    values.iter().zip(statement.params()).map(parameter).collect()
}

fn borrowed(values: &[Box<dyn ToSql + Sync>]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| &**value).collect()
}

fn parameter((value, kind): (&Cell, &Type)) -> Box<dyn ToSql + Sync> {
    match value {
        Cell::Nothing if *kind == Type::INT8 => Box::new(None::<i64>),
        Cell::Nothing => Box::new(None::<String>),
        Cell::Number(number) => Box::new(*number),
        // What PostgreSQL has in no text becomes what is shown of bytes that are none.
        Cell::Text(text) => Box::new(text.replace('\0', "\u{FFFD}")),
    }
}

fn row(row: &postgres::Row) -> Result<Row, postgres::Error> {
    let cell = |(at, column): (usize, &postgres::Column)| {
        Ok(match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.into(),
            Type::BOOL => row.try_get::<_, Option<bool>>(at)?.map(i64::from).into(),
            _ => row.try_get::<_, Option<String>>(at)?.into(),
        })
    };
    row.columns().iter().enumerate().map(cell).collect::<Result<_, _>>().map(Row)
}

impl Backend for Postgres {
    fn ask(&mut self, sql: &str, values: &[Cell]) -> Result<Vec<Row>> {
        self.say(|client, known| {
            let statement = prepared(client, known, sql)?;
            let values = parameters(values, &statement);
            let rows = client.query(&statement, &borrowed(&values))?;
            rows.iter().map(row).collect()
        })
    }

    fn change(&mut self, sql: &str, values: &[Cell]) -> Result<u64> {
        self.say(|client, known| {
            let statement = prepared(client, known, sql)?;
            let values = parameters(values, &statement);
            client.execute(&statement, &borrowed(&values))
        })
    }

    fn begin(&mut self) -> Result<()> {
        self.run("BEGIN")?;
        self.is_within = true;
        Ok(())
    }

    fn end(&mut self, is_kept: bool) -> Result<()> {
        let ended = match (is_kept, self.client.is_some()) {
            (true, _) => self.run("COMMIT"),
            (false, true) => self.run("ROLLBACK"),
            (false, false) => Ok(()), // undone with the session
        };
        self.is_within = false;
        if ended.is_err() {
            self.leave(); // and whatever was not ended with it
        }
        ended
    }

    fn version(&mut self) -> Result<i64> {
        let sql = "SELECT current_schema()::text, EXISTS (SELECT FROM pg_class WHERE relname = ?1 AND relnamespace = to_regnamespace(quote_ident(current_schema())))";
        let found = self.ask(sql, &[OURS.into()])?;
        let Some(found) = found.first() else { return Ok(0) };
        if found.get::<Option<String>>(0)?.is_none() {
            let hint =
                "`CREATE SCHEMA NAME` makes one; without `search_path` in the address it is the user's, or `public`";
            return Err(self.refused("there is no schema of those that the database is to look into", hint));
        }
        if !found.get::<bool>(1)? {
            return Ok(0);
        }
        self.ask(&format!("SELECT version FROM {OURS}"), &[])?.first().map_or(Ok(0), |row| row.get(0))
    }

    fn tables(&mut self) -> Result<Vec<String>> {
        // What an extension has brought is nobody's.
        let sql = "SELECT relname::text FROM pg_class
                   WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relname <> ?1
                   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
                   ORDER BY relname";
        self.ask(sql, &[OURS.into()])?.iter().map(|row| row.get(0)).collect()
    }

    fn take(&mut self) -> Result<()> {
        // Two that begin at once do so one after the other.
        self.begin()?;
        let made = self.make();
        let ended = self.end(made.is_ok());
        made.and(ended)?;
        self.hold(LOCK_TIME)?;
        self.is_taken = true;
        Ok(())
    }

    fn change_tables(&mut self, change: &str, version: usize) -> Result<()> {
        let change =
            change.replace("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
        let change = change.replace("INTEGER", "BIGINT").replace(") STRICT", ")");
        self.begin()?;
        let changed = self.run(&format!("{change}; UPDATE {OURS} SET version = {version}"));
        let ended = self.end(changed.is_ok());
        changed.and(ended)
    }

    fn place(&self) -> Place {
        Place::Named(self.shown.clone())
    }

    fn other(&self) -> [&'static str; 2] {
        OTHER
    }
}

impl Postgres {
    /// Says in a database that is nobody's whose it is from now on.
    fn make(&mut self) -> Result<()> {
        self.ask(&format!("SELECT pg_advisory_xact_lock({LOCK})::text"), &[])?;
        if self.version()? == 0 && self.tables()?.is_empty() {
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {OURS} (version BIGINT NOT NULL, id TEXT NOT NULL, folder TEXT NOT NULL)"
            );
            self.run(&sql)?;
            let is_nobodys = self.ask(&format!("SELECT id FROM {OURS}"), &[])?.is_empty();
            if is_nobodys && !self.home.is_new {
                let hint = "name the database that the folder was begun with, or an empty folder";
                return Err(
                    self.refused("this database has no queue, and the folder's files and jobs are in one", hint)
                );
            }
            if is_nobodys {
                let (id, dir) = (self.home.id.clone(), self.home.dir.display().to_string());
                let sql = format!("INSERT INTO {OURS} (version, id, folder) VALUES (0, ?1, ?2)");
                self.change(&sql, &[id.into(), dir.into()])?;
            }
        }
        Ok(())
    }
}
