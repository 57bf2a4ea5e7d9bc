//! What `push` brings to a Hub, and what it says when that does not go well.

use crate::bench::{Bench, Said};
use crate::hub::{Hub, TOKEN};
use std::process::Command;

/// Parts so small that the adapter of a bench has several.
const PART_BYTES: usize = 16 << 10;
const PUSH: &str = "push out/adapter --repo ann/tiny --base-model google/gemma-3-1b-it";

trait Pushing {
    fn pushing(&self, hub: &Hub, args: &str) -> Command;
    fn push(&self, hub: &Hub, args: &str) -> Said;
}

impl Pushing for Bench {
    fn pushing(&self, hub: &Hub, args: &str) -> Command {
        let mut command = self.command(args);
        command.env("HF_ENDPOINT", &hub.url).env("HF_TOKEN", TOKEN).env_remove("HF_HUB_OFFLINE");
        command
    }

    fn push(&self, hub: &Hub, args: &str) -> Said {
        self.said(&mut self.pushing(hub, args))
    }
}

/// The files of a folder that a repository should hold, hidden ones left out.
fn published(bench: &Bench, folder: &str) -> Vec<String> {
    let files = bench.files(folder).into_iter().map(|name| name[folder.len() + 1..].to_owned());
    files.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn an_adapter_is_pushed_in_one_commit() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let said = bench.push(&hub, &format!("{PUSH} --json")).json();
    let files = hub.files("ann/tiny", "main");
    let mut names = published(&bench, "out/adapter");
    names.push(".gitattributes".into());
    names.sort();
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), names);
    let weights = "adapter_model.safetensors";
    assert!(files[weights] == bench.read(&format!("out/adapter/{weights}")));
    assert_eq!(said["repository"], "ann/tiny");
    assert_eq!(hub.world().repositories["ann/tiny"].commits.len(), 2, "the first one, and ours");
    let log = hub.take_log();
    assert!(log.iter().filter(|line| *line == "PUT /storage/part").count() > 3, "{log:?}");

    // Again: nothing changed, nothing is sent.
    let again = bench.push(&hub, PUSH);
    assert!(again.stderr.contains("nothing to push"), "{}", again.stderr);
    again.ok();
    assert!(hub.take_log().iter().all(|line| line.starts_with("GET ")));
}
