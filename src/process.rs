//! Processes of ours: in a group of their own, known again after a restart, asked to end, ended, and measured.

use crate::input;
use serde::{Deserialize, Serialize};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A process of this system, told from a later one of the same number by when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in the system's own count; `None` where the system does not say.
    pub born: Option<u64>,
}

impl Process {
    /// The one of this number.
    pub fn of(pid: u32) -> Self {
        Process { pid, born: born(pid) }
    }

    /// Whether it runs still. Where the system does not say when processes began, nobody knows, and the answer is no.
    pub fn is_alive(self) -> bool {
        self.born.is_some() && born(self.pid) == self.born
    }

    /// Asks it to save what it has and to end, as Ctrl-C does. Nobody can be asked where the system has no signals.
    pub fn ask_to_end(self) {
        // Not SIGINT, which shells let programs in their background ignore, and all that these start.
        #[cfg(unix)]
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    /// Ends it at once.
    pub fn kill(self) {
        #[cfg(unix)]
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    #[cfg(unix)]
    fn signal(self, signal: nix::sys::signal::Signal) {
        // Where the system does not say, it is a child of ours, or the holder of a lock.
        let is_it = self.is_alive() || !std::path::Path::new("/proc/self/stat").exists();
        if let Some(pid) = i32::try_from(self.pid).ok().filter(|_| is_it) {
            // One that has ended needs no word.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    /// Bytes of memory that it takes now, where the system says.
    pub fn memory_bytes(self) -> Option<u64> {
        kibibytes(&system_text(&format!("/proc/{}/status", self.pid))?, "VmRSS:")
    }
}

/// The most memory that this process ever had in bytes, where the system says.
pub fn peak_bytes() -> Option<u64> {
    kibibytes(&system_text("/proc/self/status")?, "VmHWM:")
}

/// An entry of a table of the system, as `VmRSS:  123456 kB`, in bytes.
pub fn kibibytes(table: &str, entry: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(entry))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// When a process began, where it runs.
fn born(pid: u32) -> Option<u64> {
    let stat = system_text(&format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    (!["Z", "X"].contains(&state)).then_some(())?;
    fields.nth(18)?.parse().ok()
}

fn system_text(path: &str) -> Option<String> {
    input::read_to_string(path.as_ref()).ok()
}

/// Gives a command that is yet to be started a group of its own, so that a Ctrl-C in our terminal is ours alone: we ask it to end
/// ourselves, and asked twice it would not save.
pub fn set_apart(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// Ends a child: asks it, and where it takes longer than the `grace`, does not ask.
pub fn end(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    Process::of(child.id()).ask_to_end();
    await_end(child, grace)
}

/// Waits for the end of a child that was asked to, and ends it where it takes longer than the `grace`.
pub fn await_end(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    let since = Instant::now();
    while since.elapsed() < grace && cfg!(unix) {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        sleep(LOOK);
    }
    let _ = child.kill();
    child.wait().ok()
}

/// Ends all processes of a group, by the number of its first; there may be none any more.
#[cfg(unix)]
pub fn end_group(first: u32) {
    use nix::sys::signal::{Signal, killpg};
    if let Ok(group) = i32::try_from(first) {
        let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// As above, where there are no groups.
#[cfg(not(unix))]
pub fn end_group(_: u32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_system_are_read() {
        assert_eq!(kibibytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n", "VmHWM:"), Some(2048 * 1024));
        for wrong in ["VmHWM:\t99999999999999999 kB\n", "VmHWM:\n", "VmHWM: 12\n", ""] {
            assert_eq!(kibibytes(wrong, "VmHWM:"), None, "{wrong}");
        }
        if cfg!(target_os = "linux") {
            assert!(peak_bytes().unwrap() > 1 << 20);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn processes_are_known_until_they_end() {
        let own = Process::of(std::process::id());
        assert!(own.is_alive() && own.memory_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(!Process { born: own.born.map(|born| born + 1), ..own }.is_alive(), "another of the same number");
        let start = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            set_apart(&mut command);
            command.spawn().unwrap()
        };
        let mut child = start("exec sleep 60");
        let process = Process::of(child.id());
        assert!(process.is_alive());
        Process { born: process.born.map(|born| born + 1), ..process }.kill();
        assert!(child.try_wait().unwrap().is_none(), "what is another's is left alone");
        process.ask_to_end();
        child.wait().unwrap();
        assert!(!process.is_alive());
        // One that does not want to.
        let mut child = start("trap '' TERM; while :; do sleep 0.01; done");
        assert_eq!(end(&mut child, Duration::from_millis(100)).and_then(|status| status.code()), None);
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let mut child = start(&format!("trap 'exit 3' TERM; : > '{}'; while :; do sleep 0.01; done", ready.display()));
        while !ready.exists() {
            sleep(LOOK);
        }
        assert_eq!(end(&mut child, Duration::from_secs(60)).and_then(|status| status.code()), Some(3));
        assert_eq!(end(&mut child, Duration::ZERO).and_then(|status| status.code()), Some(3), "it has ended before");
    }
}
