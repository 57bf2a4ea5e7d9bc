//! Where the tables of tests are.

use super::*;

/// Where those of a test are.
pub struct Tables {
    pub address: Option<Address>,
}

impl Tables {
    pub fn in_a_file() -> Self {
        Tables { address: None }
    }

    /// The queue of a folder, with its tables there.
    pub fn open(&self, dir: &Path) -> Result<Queue> {
        Queue::open_at(dir, LIMITS, self.address.as_ref())
    }
}

/// The variable with the address of a database whose user may make schemas in it.
#[cfg(feature = "postgres")]
const VARIABLE: &str = "GEMMA_TUNE_TEST_POSTGRES";

/// A schema of a test, which is gone with it.
#[cfg(feature = "postgres")]
pub struct Schema {
    pub tables: Tables,
    /// Somebody else's session, which looks into the schema.
    pub other: ::postgres::Client,
    name: String,
}

/// Does something with tables in PostgreSQL, or says that there is none.
#[cfg(feature = "postgres")]
pub fn in_postgresql(test: &str, act: impl FnOnce(&mut Schema)) {
    let Ok(url) = std::env::var(VARIABLE) else {
        eprintln!("{test}: skipped, since {VARIABLE} names no database of PostgreSQL to test with");
        return;
    };
    let name = format!("test_{}", new_id());
    let separator = if url.contains('?') { '&' } else { '?' };
    // Its sessions have the name, too.
    let address = format!("{url}{separator}options=-csearch_path%3D{name}&application_name={name}");
    let config: ::postgres::Config = url.parse().unwrap();
    let mut other = config.connect(::postgres::NoTls).unwrap();
    other.batch_execute(&format!("CREATE SCHEMA {name}; SET search_path = {name}")).unwrap();
    act(&mut Schema { tables: Tables { address: Some(address.parse().unwrap()) }, other, name });
}

#[cfg(feature = "postgres")]
impl Schema {
    /// Ends all sessions of the test but its own.
    pub fn break_off(&mut self) {
        let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1";
        self.other.query(sql, &[&self.name]).unwrap();
    }
}

#[cfg(feature = "postgres")]
impl Drop for Schema {
    fn drop(&mut self) {
        let _ = self.other.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.name));
    }
}
