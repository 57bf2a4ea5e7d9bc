//! The machine that the program runs on: its threads, and on Linux the memory that it can give, or what a container is
//! allowed of it.

use crate::process;
use std::path::{Path, PathBuf};

/// Threads that share the computing.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Memory that can still be had, in bytes, where it can be asked.
pub fn available_bytes() -> Option<u64> {
    let limits = limits(Path::new("/"));
    meminfo("MemAvailable:").into_iter().chain(limits.iter().map(Limit::free)).min()
}

/// All memory of the machine or of the container, in bytes, where it can be asked.
pub fn machine_bytes() -> Option<u64> {
    let limits = limits(Path::new("/"));
    meminfo("MemTotal:").into_iter().chain(limits.iter().map(|limit| limit.bytes)).min()
}

/// What compiles kernels on this machine, as far as it can be seen without opening it: NVIDIA's and AMD's drivers, and the
/// libraries of CUDA's compiler.
pub fn compilers() -> Vec<String> {
    let drivers = ["/proc/driver/nvidia/version", "/sys/module/amdgpu/version"].into_iter();
    let drivers = drivers.filter_map(|file| std::fs::read_to_string(file).ok());
    let toolkits = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(|name| std::env::var_os(name).map(PathBuf::from));
    let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = toolkits
        .chain([PathBuf::from("/usr/local/cuda")])
        .flat_map(|toolkit| ["lib64", "lib"].map(|name| toolkit.join(name)))
        .chain(std::env::split_paths(&libraries));
    drivers.chain(folders.flat_map(|folder| nvrtc_in(&folder))).collect()
}

/// The libraries of CUDA's compiler in a folder, each with where it is and what tells it from another.
fn nvrtc_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_nvrtc = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc"));
    let mut found: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(is_nvrtc)
        .filter_map(|path| {
            let (real, data) = (path.canonicalize().ok()?, std::fs::metadata(&path).ok()?);
            Some(format!("{} {} {:?}", real.display(), data.len(), data.modified().ok()))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// An entry of `/proc/meminfo`, in bytes.
fn meminfo(entry: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    process::kibibytes(&text, entry)
}

/// What follows `name` in the line that begins with it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// How much memory a control group may use, and how much of that is in use and cannot be taken back.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    used: u64,
}

impl Limit {
    fn free(&self) -> u64 {
        self.bytes.saturating_sub(self.used)
    }

    /// The limit of the group in this folder, in the words of the second or the first version of control groups.
    fn read(group: &Path) -> Option<Self> {
        let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let bytes = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
        let current = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
        // Pages of files that nothing has used lately count as used, and are given up first.
        let statistics = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let idle = ["total_inactive_file ", "inactive_file "].into_iter().find_map(|name| field(&statistics, name));
        let idle = idle.and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Limit { bytes, used: current.saturating_sub(idle) })
    }
}

/// The limits of this process's control group and of all groups that it is in, under a root folder of the system.
fn limits(root: &Path) -> Vec<Limit> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // number:controllers:path, with no controllers in the second version
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let mount = match controllers {
            "" => root.join("sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => root.join("sys/fs/cgroup/memory"),
            _ => continue,
        };
        // Inside a container the path may be that of the machine outside, and not exist; the mount itself then is the
        // group.
        let group: PathBuf = mount.join(path.trim_start_matches('/'));
        limits.extend(group.ancestors().take_while(|folder| folder.starts_with(&mount)).filter_map(Limit::read));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system whose files are these.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn every_group_above_counts_and_idle_file_pages_are_free() {
        let root = system(&[
            ("proc/self/cgroup", "0::/pod/container\n"),
            ("sys/fs/cgroup/pod/memory.max", "4000\n"),
            ("sys/fs/cgroup/pod/memory.current", "3900\n"),
            ("sys/fs/cgroup/pod/container/memory.max", "1000\n"),
            ("sys/fs/cgroup/pod/container/memory.current", "700\n"),
            ("sys/fs/cgroup/pod/container/memory.stat", "anon 100\ninactive_file 500\nactive_file 100\n"),
        ]);
        let limits = limits(root.path());
        assert_eq!(limits, [Limit { bytes: 1000, used: 200 }, Limit { bytes: 4000, used: 3900 }]);
        assert_eq!(limits.iter().map(Limit::free).min(), Some(100));
    }

    #[test]
    fn no_limit_is_none() {
        let root = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.current", "700\n"),
        ]);
        assert_eq!(limits(root.path()), []);
        assert_eq!(limits(Path::new("/nowhere")), []);
    }

    #[test]
    fn the_first_version_and_a_path_from_outside_are_understood() {
        let root = system(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 400\n"),
        ]);
        assert_eq!(limits(root.path()), [Limit { bytes: 9000, used: 600 }]);
    }

    #[test]
    fn another_compiler_is_told_from_the_one_before() {
        let toolkit = system(&[("lib64/libnvrtc.so.12.4", "one"), ("lib64/libcudart.so.12", "no compiler")]);
        let folder = toolkit.path().join("lib64");
        let before = nvrtc_in(&folder);
        assert!(before.len() == 1 && before[0].contains("libnvrtc.so.12.4 3 "), "{before:?}");
        assert_eq!(before, nvrtc_in(&folder));
        std::fs::write(folder.join("libnvrtc.so.12.4"), "another").unwrap();
        assert_ne!(before, nvrtc_in(&folder));
        assert!(nvrtc_in(Path::new("/nowhere")).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        let (available, all) = (available_bytes().unwrap(), machine_bytes().unwrap());
        assert!(0 < available && available <= all, "{available} of {all}");
    }
}
