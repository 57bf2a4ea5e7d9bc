//! What can be asked of a verb instead, where its device fails.

use crate::error::{Error, Kind};
use crate::jobs::run::folder::device_option;

/// What a verb does, where it computes, and which of its options make it need less memory.
#[derive(Debug)]
pub struct Relief {
    /// As in "scoring".
    pub doing: &'static str,
    device: Option<String>,
    less: Vec<String>,
}

impl Relief {
    /// Of a verb with `--device`, as it was given.
    pub fn on(doing: &'static str, device: &str) -> Self {
        Relief { doing, device: Some(device.to_owned()), less: Vec::new() }
    }

    /// Of a verb that has none.
    pub fn nowhere(doing: &'static str) -> Self {
        Relief { doing, device: None, less: Vec::new() }
    }

    /// An option that makes it need less memory.
    pub fn with(mut self, option: impl Into<String>) -> Self {
        self.less.push(option.into());
        self
    }

    /// Fewer rows at once than `batch_size`, where they are several.
    pub fn with_fewer_at_once(self, batch_size: usize) -> Self {
        if batch_size > 1 { self.with(format!("`--batch-size {}`", batch_size / 2)) } else { self }
    }

    /// Adds to what a device failed with what to do about it, unless that is said.
    pub fn add(&self, error: Error) -> Error {
        let hint = match error.kind() {
            _ if error.hint_text().is_some() => return error,
            Kind::OutOfMemory => self.of_memory(),
            Kind::Computing => self.of_failing(),
            _ => None,
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// The device, where it is not the CPU.
    fn other(&self) -> Option<&str> {
        self.device.as_deref().filter(|device| *device != "cpu")
    }

    fn of_memory(&self) -> Option<String> {
        let less = (!self.less.is_empty()).then(|| format!("it takes less with {}", self.less.join(" or ")));
        let elsewhere = self.other().map(|_| "`--device cpu` computes in the machine's memory".to_owned());
        let ways: Vec<String> = less.into_iter().chain(elsewhere).collect();
        (!ways.is_empty()).then(|| ways.join("; "))
    }

    fn of_failing(&self) -> Option<String> {
        let device = self.other()?;
        let reason = format!("`gemma-tune doctor{}` looks for the reason", device_option(device));
        Some(format!("`--device cpu` does without that device; {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(relief: &Relief, kind: Kind) -> Option<String> {
        relief.add(Error::new(kind, "x")).hint_text().map(str::to_owned)
    }

    #[test]
    fn what_needs_less_is_named_and_the_cpu_where_it_is_another() {
        let on = |device| Relief::on("x", device).with_fewer_at_once(9).with("a smaller `--max-tokens`");
        let less = "it takes less with `--batch-size 4` or a smaller `--max-tokens`";
        let other = format!("{less}; `--device cpu` computes in the machine's memory");
        assert_eq!(hint(&on("auto"), Kind::OutOfMemory), Some(other));
        assert_eq!(hint(&on("cpu"), Kind::OutOfMemory).as_deref(), Some(less));
        assert_eq!(hint(&Relief::on("x", "cpu").with_fewer_at_once(1), Kind::OutOfMemory), None);
        assert_eq!(hint(&Relief::nowhere("x"), Kind::OutOfMemory), None);
    }

    #[test]
    fn who_looks_for_the_reason_is_told_the_device() {
        let failing = |device: &str| hint(&Relief::on("x", device), Kind::Computing);
        assert!(failing("auto").unwrap().contains("`gemma-tune doctor` looks"), "whichever it was");
        let of_one =
            "`--device cpu` does without that device; `gemma-tune doctor --device wgpu:1` looks for the reason";
        assert_eq!(failing("wgpu:1").as_deref(), Some(of_one));
        assert_eq!(failing("cpu"), None);
    }

    #[test]
    fn what_is_said_already_and_other_problems_stay_as_they_are() {
        let relief = Relief::on("x", "auto");
        let said = Error::new(Kind::OutOfMemory, "x").hint("resume it");
        assert_eq!(relief.add(said).hint_text(), Some("resume it"));
        assert_eq!([hint(&relief, Kind::Run), hint(&relief, Kind::Bug)], [None, None]);
    }
}
