//! Processes: known again after a restart, asked to end, measured.

use serde::{Deserialize, Serialize};
use std::process::Command;

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

    /// Asks it to save and end, as Ctrl-C does.
    pub fn interrupt(self) {
        #[cfg(unix)]
        self.signal(nix::sys::signal::Signal::SIGINT);
    }

    /// Asks it to end.
    pub fn terminate(self) {
        #[cfg(unix)]
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    #[cfg(unix)]
    fn signal(self, signal: nix::sys::signal::Signal) {
        if let Ok(pid) = i32::try_from(self.pid)
            && (self.born.is_none() || self.is_alive())
        {
            // One that has ended needs no word.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    /// Bytes of memory that it takes now, where the system says.
    pub fn memory_bytes(self) -> Option<u64> {
        let status = system_text(&format!("/proc/{}/status", self.pid))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?.trim();
        kib.parse::<u64>().ok().map(|kib| kib << 10)
    }
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
    crate::input::read_to_string(path.as_ref()).ok()
}

/// Lets Ctrl-C in the studio's terminal reach the studio alone, which then asks its processes itself: asked twice, they would
/// not save.
pub fn set_apart(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_until_they_end() {
        let own = Process::of(std::process::id());
        assert!(own.is_alive() && own.memory_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(!Process { born: own.born.map(|born| born + 1), ..own }.is_alive(), "another of the same number");
        let mut command = Command::new("sleep");
        command.arg("60");
        set_apart(&mut command);
        let mut child = command.spawn().unwrap();
        let process = Process::of(child.id());
        assert!(process.is_alive());
        process.interrupt();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
