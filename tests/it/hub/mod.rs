//! A Hub on 127.0.0.1 for pushes, which behaves as the real one does as far as its clients can tell, and can be told to
//! fail. `scripts/check_hub.py` holds it against the `huggingface_hub` package.

mod api;
mod http;
mod repository;
mod storage;

pub use self::http::{Answer, Request};
pub use self::repository::{Entry, Repository};

use self::storage::Storage;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A token of the account `ann` that may do everything.
pub const TOKEN: &str = "hf_annMayWriteHereAndNowhereElse01";
/// One that may only read.
pub const READ_TOKEN: &str = "hf_annMayReadHereAndNowhereElse002";

/// What happens to requests instead of, or before, what is right.
#[derive(Clone)]
pub enum Fault {
    /// They are answered with this.
    Answer(Answer),
    /// The connection ends after so many bytes of their body.
    CutAfter(usize),
    /// They are obeyed, and the connection ends without an answer.
    Unanswered,
    /// They are obeyed, and answered with this all the same.
    Obeyed(Answer),
    /// Nothing happens any more after so many bytes of their body.
    HangAfter(usize),
}

struct Planned {
    on: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// What the Hub knows.
#[derive(Default)]
pub struct World {
    pub repositories: BTreeMap<String, Repository>,
    storage: Storage,
    faults: Vec<Planned>,
    log: Vec<String>,
    /// Connections that may still bring requests: all but those that hang.
    open: usize,
    /// Files up to this size are sent whole, larger ones in parts of it.
    part_bytes: usize,
}

/// A running Hub.
pub struct Hub {
    pub url: String,
    world: Arc<(Mutex<World>, Condvar)>,
}

impl Hub {
    /// Starts one, whose storage takes parts of so many bytes.
    pub fn start(part_bytes: usize) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let world = Arc::new((Mutex::new(World { part_bytes, ..World::default() }), Condvar::new()));
        let (shared, own) = (world.clone(), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (world, url) = (shared.clone(), own.clone());
                world.0.lock().expect("a world").open += 1;
                std::thread::spawn(move || {
                    http::serve(stream, &world, &url);
                    world.0.lock().expect("a world").open -= 1;
                    world.1.notify_all();
                });
            }
        });
        Hub { url, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.0.lock().expect("no test has failed with it")
    }

    /// Lets the requests whose method and path contain `on` fail: after `skip` that do not, so many `times`.
    pub fn fail(&self, on: &str, skip: usize, times: usize, fault: Fault) {
        self.world().faults.push(Planned { on: on.into(), skip, times, fault });
    }

    /// The requests since the last call, as `METHOD /path`; of those to the storage only what they are. Every program that asked must
    /// have ended: what one that was killed had sent may still be on its way, and is waited for.
    pub fn take_log(&self) -> Vec<String> {
        // Connections are taken up in their order, so that all earlier ones are known when this one has an answer.
        let mut last = TcpStream::connect(&self.url["http://".len()..]).expect("the Hub");
        last.write_all(b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n").expect("a request");
        last.read_exact(&mut [0]).expect("an answer");
        drop(last);
        let (lock, news) = &*self.world;
        let world = lock.lock().expect("a world");
        let is_waiting = |world: &mut World| world.open > 0;
        let (mut world, waited) = news.wait_timeout_while(world, Duration::from_secs(60), is_waiting).expect("a world");
        assert!(!waited.timed_out(), "{:?}", world.log);
        let mut log = std::mem::take(&mut world.log);
        log.retain(|line| line != "GET /last");
        log
    }

    /// How many requests so far begin like this.
    pub fn count(&self, beginning: &str) -> usize {
        self.world().log.iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// Waits until a request that begins like this has come so far that it hangs.
    pub fn wait_for_hanging(&self, beginning: &str) {
        let hanging = format!("hanging: {beginning}");
        let (lock, news) = &*self.world;
        let world = lock.lock().expect("a world");
        let is_waiting = |world: &mut World| !world.log.iter().any(|line| line.starts_with(&hanging));
        let waited = news.wait_timeout_while(world, Duration::from_secs(60), is_waiting).expect("a world");
        assert!(!waited.1.timed_out(), "{:?}", waited.0.log);
    }

    /// The files of a branch, as somebody who downloads them gets them.
    pub fn files(&self, id: &str, branch: &str) -> BTreeMap<String, Vec<u8>> {
        let world = self.world();
        let files = world.repositories[id].at(branch).expect("a branch").files.iter();
        let bytes = |entry: &Entry| match entry {
            Entry::Regular(bytes) => bytes.clone(),
            Entry::Large { oid, .. } => world.storage.objects[oid].clone(),
        };
        files.map(|(name, entry)| (name.clone(), bytes(entry))).collect()
    }

    /// A repository of somebody with these files in git.
    pub fn with_repository(&self, id: &str, files: &[(&str, &str)]) {
        let mut repository = Repository::new(false);
        let mut tree = repository.at("main").expect("a branch").files.clone();
        tree.extend(files.iter().map(|(name, text)| ((*name).to_owned(), Entry::Regular(text.as_bytes().to_vec()))));
        repository.commit("main", tree);
        self.world().repositories.insert(id.into(), repository);
    }
}

impl World {
    /// What is to happen to a request, if not what is right.
    fn fault(&mut self, line: &str) -> Option<Fault> {
        let planned = self.faults.iter_mut().find(|planned| line.contains(&planned.on) && planned.times > 0)?;
        if planned.skip > 0 {
            planned.skip -= 1;
            return None;
        }
        planned.times -= 1;
        Some(planned.fault.clone())
    }
}
