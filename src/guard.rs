//! A fence around the code of others: a panic there is an error like any other.
//!
//! Decoders of parquet, pictures and sounds index and shift by numbers from the file; our promise is an error that names
//! it. Libraries of devices panic where a kernel cannot run or memory ends; a run is to be saved first.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

thread_local! {
    /// Whether any panic on this thread is an expected way to fail and not to be printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// How many [`watched`] there are: inside of one it is expected that devices fail, on whatever thread that shows.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// The libraries that compute on devices other than the CPU, and their drivers, by how the names of their crates begin.
const OF_DEVICES: [&str; 10] = [
    "burn-cubecl",
    "burn-cuda",
    "burn-rocm",
    "burn-wgpu",
    "cubecl",
    "cubek",
    "cudarc",
    "gpu-allocator",
    "naga",
    "wgpu",
];

/// What burn says wherever a result cannot be read, in the name of the code that asked for it.
const UNREADABLE: [&str; 3] = ["Error while reading data", "Failed to read", "the read failed"];

/// What is said where memory ended, by burn's libraries and by drivers.
const OUT_OF_MEMORY: [&str; 7] = [
    "out of device memory",
    "out-of-memory",
    "out of memory",
    "OUT_OF_MEMORY",
    "OutOfMemory",
    "can't allocate buffer",
    "every page size the memory tracks still holds live allocations",
];

/// A panic that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// What it said.
    pub said: String,
    /// Where it was, a file and a line, where that is known.
    pub place: Option<String>,
    /// Whether a device failed, and no mistake of the program's showed.
    pub is_of_device: bool,
}

impl Panic {
    /// Of an operation that a device cannot do.
    pub fn of_device(said: impl Into<String>) -> Self {
        Panic { said: said.into(), place: None, is_of_device: true }
    }

    /// Whether memory ended.
    pub fn is_out_of_memory(&self) -> bool {
        self.is_of_device && says_any(&self.said, &OUT_OF_MEMORY)
    }

    /// Goes on with it, as if it came from here.
    pub fn resume(self) -> ! {
        panic::resume_unwind(Box::new(self))
    }

    fn new(said: &str, place: Option<&Location>) -> Self {
        let is_of_device = says_any(said, &UNREADABLE) || says_any(said, &OUT_OF_MEMORY);
        let is_of_device = is_of_device || place.is_some_and(|place| is_in_library_of_devices(place.file()));
        let place = place.map(|place| format!("{}:{}", place.file(), place.line()));
        Panic { said: said.into(), place, is_of_device }
    }

    /// What was caught. Where it was is known of what passed the hook, on this thread or on one that passed it on.
    fn caught(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast::<Panic>() {
            Ok(own) => return *own,
            Err(payload) => payload,
        };
        let said = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => text,
            (None, Some(text)) => text.as_str(),
            (None, None) => return Panic::new("it gave up without a word", None),
        };
        let seen = seen().iter().rfind(|panic| panic.said == said).cloned();
        seen.unwrap_or_else(|| Panic::new(said, None))
    }
}

/// What it said, and where, if that was in code of ours.
impl Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        let own = self.place.as_ref().filter(|place| place.starts_with("src/"));
        own.map_or(Ok(()), |place| write!(f, " ({place})"))
    }
}

/// Whether the crate of this name computes on devices, or brings them together with the CPU.
pub fn is_library_of_devices(name: &str) -> bool {
    name == "burn" || name.starts_with("burn-") || OF_DEVICES.iter().any(|start| name.starts_with(start))
}

/// Whether a source is of a library that computes on devices alone, by the folder of its crate.
fn is_in_library_of_devices(file: &str) -> bool {
    file.split(['/', '\\']).any(|folder| OF_DEVICES.iter().any(|start| folder.starts_with(start)))
        && !file.starts_with("src/")
}

fn says_any(said: &str, words: &[&str]) -> bool {
    words.iter().any(|words| said.contains(words))
}

/// Runs `decode`; a panic in it becomes an error. What `decode` worked on must not be used after an error.
///
/// # Errors
/// What `decode` fails with, as text, or that it panicked.
pub fn guarded<T, E: Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match caught(decode) {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("its decoder ran into impossible values".to_owned()),
    }
}

/// Runs what may panic in any way and without a word, as drivers of devices do. What `work` worked on must not be used
/// after an error.
///
/// # Errors
/// With the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    look_at_panics();
    let outside = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outside);
    outcome.map_err(Panic::caught)
}

/// Runs what may fail on a device. That is expected; any other panic is a mistake of the program's, is printed as panics are,
/// and comes as an error too. What `work` worked on must not be used after an error.
///
/// # Errors
/// With the panic.
pub fn watched<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    look_at_panics();
    WATCHED.fetch_add(1, Ordering::SeqCst);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    WATCHED.fetch_sub(1, Ordering::SeqCst);
    outcome.map_err(Panic::caught)
}

/// Has panics printed but for those that are expected, and remembers where they were.
fn look_at_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let panic = remember(info);
            let is_expected = QUIET.get() || (panic.is_of_device && WATCHED.load(Ordering::SeqCst) > 0);
            if !is_expected {
                print(info);
            }
        }));
    });
}

fn remember(info: &PanicHookInfo) -> Panic {
    /// Those that are on their way to be caught are few.
    const MOST: usize = 16;
    let panic = Panic::new(info.payload_as_str().unwrap_or_default(), info.location());
    let mut seen = seen();
    if seen.len() == MOST {
        seen.pop_front();
    }
    seen.push_back(panic.clone());
    panic
}

fn seen() -> MutexGuard<'static, VecDeque<Panic>> {
    static SEEN: Mutex<VecDeque<Panic>> = Mutex::new(VecDeque::new());
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded(|| Ok::<_, String>(1)), Ok(1));
        assert_eq!(guarded(|| Err::<u32, _>("no")), Err("no".to_owned()));
        let nothing: Vec<u32> = Vec::new();
        let failed = guarded(|| Ok::<_, String>(nothing[nothing.len()]));
        assert_eq!(failed, Err("its decoder ran into impossible values".to_owned()));
    }

    #[test]
    fn what_a_panic_said_is_kept_also_within_another_fence() {
        assert_eq!(caught(|| 3), Ok(3));
        let said = caught::<()>(|| panic!("code {}", 7)).unwrap_err().to_string();
        assert!(said.starts_with("code 7 (src/guard.rs:"), "{said}");
        fn inner() {
            std::panic::resume_unwind(Box::new("inner"));
        }
        // Of others it does not matter where.
        assert_eq!(caught(inner), Err(Panic::new("inner", None)));
        let both = caught(|| {
            let inner = caught(inner);
            assert!(QUIET.get(), "still inside");
            inner
        });
        assert_eq!(both, Ok(Err(Panic::new("inner", None))));
        assert!(!QUIET.get());
    }

    #[test]
    fn devices_are_told_from_mistakes_by_who_panicked_and_what_was_said() {
        let registry = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        let of = |file: &str| is_in_library_of_devices(file);
        assert!(of(&format!("{registry}/cubecl-runtime-0.11.3/src/client.rs")));
        assert!(of(r"C:\cargo\registry\src\index\wgpu-core-30.0.1\src\device.rs"));
        assert!(!of(&format!("{registry}/burn-flex-0.22.1/src/ops.rs")), "the CPU");
        assert!(!of(&format!("{registry}/burn-tensor-0.22.1/src/shape.rs")), "shapes that do not fit");
        assert!(!of("src/ops/gpu/product.rs") && !of("/rustc/0/library/core/src/slice.rs"));

        let unreadable = watched::<()>(|| panic!("Error while reading data: use it otherwise")).unwrap_err();
        assert!(unreadable.is_of_device && !unreadable.is_out_of_memory(), "burn names our line, and means a device");
        assert!(watched::<()>(|| panic!("wgpu: OutOfMemory")).unwrap_err().is_out_of_memory());
        let passed_on = watched::<()>(|| Panic::of_device("no kernel for it").resume()).unwrap_err();
        assert_eq!(passed_on, Panic::of_device("no kernel for it"));
        assert!(!watched::<()>(|| panic!("index out of bounds")).unwrap_err().is_of_device);
    }

    #[test]
    fn where_another_thread_panicked_is_known_where_it_is_caught() {
        let elsewhere = std::thread::spawn::<_, ()>(|| panic!("far away"));
        let passed_on = || elsewhere.join().unwrap_or_else(|payload| panic::resume_unwind(payload));
        let panic = caught(passed_on).unwrap_err();
        assert_eq!(panic.said, "far away");
        assert!(panic.place.as_ref().is_some_and(|place| place.starts_with("src/guard.rs:")), "{panic:?}");
    }

    #[test]
    fn libraries_of_devices_are_known_by_name() {
        for name in ["burn", "burn-fusion", "cubecl-cuda", "cubek-matmul", "wgpu", "wgpu-hal", "naga"] {
            assert!(is_library_of_devices(name), "{name}");
        }
        for name in ["burning", "ureq", "symphonia-core", "tokenizers", "gemma-tune"] {
            assert!(!is_library_of_devices(name), "{name}");
        }
    }
}
