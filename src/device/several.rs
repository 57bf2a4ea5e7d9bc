//! The devices that share out the work of a run.

use super::found::{Backend, Found};
use super::host;
use super::open::{AUTO, Capacity, Compute, find, named, open, place};
use crate::error::{Error, Kind, Result};

/// The devices of a run, each with a replica of the model; most runs have one.
#[derive(Debug, Clone)]
pub struct Devices {
    /// The one that has the optimiser, and does alone what is not shared out.
    pub first: Compute,
    /// The others.
    pub others: Vec<Compute>,
}

impl Devices {
    /// Opens the devices that the user named, with commas between them: names as [`open`] takes them, or numbers alone,
    /// which are more of the backend before them (`cuda:0,1`). A GPU is named once. The CPU may be named repeatedly, and so
    /// may a software adapter: each time it is one more replica on it.
    ///
    /// # Errors
    /// As [`open`]; [`Kind::Recipe`] for devices that do not go together.
    pub fn open(list: &str) -> Result<Self> {
        if !list.contains(',') {
            return Ok(Devices { first: open(list)?, others: Vec::new() });
        }
        let mut all = opened(list).map_err(|error| error.at(place(list)))?.into_iter();
        let first = all.next().ok_or_else(|| Error::new(Kind::Recipe, "no device is named").at(place(list)))?;
        Ok(Devices { first, others: all.collect() })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Compute> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many replicas there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Their names: `cpu`, `cuda:0`, ...
    pub fn names(&self) -> Vec<String> {
        self.all().map(|compute| compute.name.clone()).collect()
    }

    /// Their names as one, as `--device` takes it.
    pub fn name(&self) -> String {
        self.names().join(",")
    }

    /// Whether each is the CPU itself.
    pub fn are_cpu(&self) -> bool {
        self.first.is_cpu()
    }

    /// What they all are: `cpu`, `cuda`, ...
    pub fn kind(&self) -> &str {
        self.first.name.split(':').next().unwrap_or_default()
    }

    /// CPU threads of each replica: an equal part of all, but one at least.
    pub fn threads_each(&self) -> usize {
        (host::threads() / self.count()).max(1)
    }

    /// CPU threads of all replicas together.
    pub fn threads(&self) -> usize {
        self.threads_each() * self.count()
    }

    /// The memory that they compute in: the machine's, or that of the GPU which has the least.
    pub fn capacity(&self) -> Capacity {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        self.others.iter().filter(|_| !self.are_cpu()).map(Compute::capacity).fold(self.first.capacity(), |all, one| {
            Capacity {
                available_bytes: least(all.available_bytes, one.available_bytes),
                total_bytes: least(all.total_bytes, one.total_bytes),
                ..all
            }
        })
    }
}

/// Opens the devices of a list, when all of it has been looked at.
fn opened(list: &str) -> Result<Vec<Compute>> {
    let mut wanted: Vec<(Backend, usize)> = Vec::new();
    for name in names(list) {
        if name == AUTO {
            let error = Error::new(Kind::Recipe, "`auto` is one device, and no part of a list");
            return Err(error.hint("name each device: cuda:0,1 or cpu,cpu"));
        }
        let (backend, index) = named(&name)?;
        if let Some((other, _)) = wanted.first().filter(|(other, _)| *other != backend) {
            let what = format!("`{}` and `{}` do not share a run", other.name(), backend.name());
            return Err(Error::new(Kind::Recipe, what).hint("name devices of one kind: cuda:0,1 or cpu,cpu"));
        }
        // Whether it is a software adapter is known when it is found.
        if wanted.contains(&(backend, index)) && !matches!(backend, Backend::Cpu | Backend::Vulkan | Backend::Wgpu) {
            return Err(twice(&name));
        }
        wanted.push((backend, index));
    }
    let found = wanted.iter().map(|&(backend, index)| find(backend, index)).collect::<Result<Vec<Found>>>()?;
    for (at, device) in found.iter().enumerate() {
        let is_named_before = found[..at].iter().any(|before| before.index == device.index);
        if is_named_before && !device.is_software() {
            return Err(twice(&device.name()));
        }
    }
    found.iter().map(Compute::new).collect()
}

/// The names of a list; a number alone is one more device of the backend before it.
fn names(list: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in list.split(',') {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let before = names.last().and_then(|name| name.split_once(':')).filter(|_| is_number);
        names.push(before.map_or(part.to_owned(), |(backend, _)| format!("{backend}:{part}")));
    }
    names
}

fn twice(name: &str) -> Error {
    let error = Error::new(Kind::Recipe, format!("`{name}` is named twice"));
    error.hint("a GPU holds one replica, and computes no faster with two; name each once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_of_the_backend_before_it() {
        assert_eq!(names("cuda:0,1"), ["cuda:0", "cuda:1"]);
        assert_eq!(names("cuda:3,1,cuda:2,0"), ["cuda:3", "cuda:1", "cuda:2", "cuda:0"]);
        assert_eq!(names("cpu,cpu"), ["cpu", "cpu"]);
        assert_eq!(names("cpu,1"), ["cpu", "1"], "the CPU has no numbers");
        assert_eq!(names("cuda,1"), ["cuda", "1"]);
        assert_eq!(names("cuda:0,,x"), ["cuda:0", "", "x"]);
    }

    #[test]
    fn the_cpu_is_as_many_replicas_as_it_is_named() {
        let one = Devices::open("cpu").unwrap();
        assert_eq!((one.count(), one.name(), one.threads_each()), (1, "cpu".into(), host::threads()));
        let four = Devices::open("cpu,cpu,cpu,cpu").unwrap();
        assert_eq!((four.count(), four.name()), (4, "cpu,cpu,cpu,cpu".into()));
        assert_eq!(four.names(), ["cpu"; 4]);
        assert_eq!(four.threads_each(), (host::threads() / 4).max(1));
        assert_eq!(four.threads(), 4 * four.threads_each());
        assert!(four.are_cpu() && four.capacity().total_bytes == one.capacity().total_bytes);
    }

    #[test]
    fn the_devices_of_a_run_are_of_one_kind_whatever_their_numbers() {
        let named = |name: &str| Compute { name: name.into(), ..open("cpu").unwrap() };
        let kind = |first: &str, others: &[&str]| {
            let devices = Devices { first: named(first), others: others.iter().map(|name| named(name)).collect() };
            devices.kind().to_owned()
        };
        assert_eq!([kind("cpu", &[]), kind("cpu", &["cpu"])], ["cpu"; 2]);
        assert_eq!([kind("cuda:0", &[]), kind("cuda:1", &[]), kind("cuda:1", &["cuda:0"])], ["cuda"; 3]);
    }

    #[test]
    fn lists_that_name_no_devices_are_explained() {
        for (list, what) in [
            ("cpu,", "`` is not a device"),
            (",", "`` is not a device"),
            ("cpu:0,1", "`cpu:0` is not a device"),
            ("cpu,tpu", "`tpu` is not a device"),
            ("cpu,1", "`1` is not a device"),
            ("cuda:0,x", "`x` is not a device"),
            ("cpu,auto", "`auto` is one device"),
            ("auto,auto", "`auto` is one device"),
            ("cpu,cuda:0", "`cpu` and `cuda` do not share a run"),
            ("cuda:0,rocm:0", "`cuda` and `rocm` do not share a run"),
            ("cuda:0,0", "`cuda:0` is named twice"),
            ("cuda,cuda:1,cuda:0", "`cuda:0` is named twice"),
        ] {
            let error = Devices::open(list).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{list}");
            let shown = error.to_string();
            assert!(shown.contains(what) && shown.contains(&format!("--device {list}")), "{list}: {shown}");
            assert!(error.hint_text().is_some(), "{list}: {shown}");
        }
        let error = open("cpu,cpu").unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("is several devices"), "{error}");
    }
}
