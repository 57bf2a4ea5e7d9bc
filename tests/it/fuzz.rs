//! The fuzz targets of `tests/fuzz`, on any toolchain: every seed, and the same changes of each on every run.
//!
//! `GEMMA_TUNE_FUZZ=csv_rows:600 cargo test --test it fuzz` gives one target ten minutes more, in which changes of what it
//! accepted are changed again.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// Changed copies of each seed.
const CASES: u64 = 1500;

/// Numbers that lengths, counts and offsets go wrong at.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 1 << 31, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX];

/// Pieces of text that mean something to one of the readers.
const TOKENS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "-",
    "\n  ",
    "null",
    "1e999",
    "\\u0000",
    "\u{feff}",
    "&a *a",
    "(?:",
    "99999999999999999999",
];

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One to four changes of `seed`.
fn change(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = [1, 4, 8][random.below(3)];
                for (byte, edge) in bytes.iter_mut().skip(at).zip(&edge[..width]) {
                    *byte = *edge;
                }
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => drop(bytes.splice(at..at, TOKENS[random.below(TOKENS.len())].bytes())),
            _ => {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs every seed of a target and its changes; says which bytes made it panic. Gives how many seeds and how many
/// changes were accepted.
fn run(name: &str, target: Target) -> (usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let paths = files(&folder);
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut accepted = (0, 0);
    for (i, (path, seed)) in paths.iter().zip(&seeds).enumerate() {
        let ok = catch_unwind(|| target(seed)).unwrap_or_else(|_| panic!("{name}: {} panics", path.display()));
        accepted.0 += usize::from(ok);
        // A seed that is there to be wrong has that name; all others must reach past the first check.
        assert_eq!(ok, !path.to_string_lossy().contains("wrong"), "{name}: {}", path.display());
        let mut random = Random(i as u64);
        for case in 0..CASES {
            let bytes = change(seed, &seeds[random.below(seeds.len())], &mut random);
            let ok = catch_unwind(|| target(&bytes)).unwrap_or_else(|_| {
                panic!("{name}: case {case} of {} panics:\n{:?}", path.display(), String::from_utf8_lossy(&bytes))
            });
            accepted.1 += usize::from(ok);
        }
    }
    accepted
}

/// Names a target and how many seconds more it gets.
const LONGER: &str = "GEMMA_TUNE_FUZZ";

/// Changes seeds, and what was accepted of their changes, for so long. Gives how many cases there were.
fn run_for(time: Duration, name: &str, target: Target) -> u64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let mut pool: Vec<Vec<u8>> = files(&folder).iter().map(|path| std::fs::read(path).unwrap()).collect();
    let (seeds, mut random, mut cases, begun) = (pool.len(), Random(0x5eed), 0, Instant::now());
    while begun.elapsed() < time {
        let bytes = change(&pool[random.below(pool.len())], &pool[random.below(pool.len())], &mut random);
        let ok = catch_unwind(|| target(&bytes))
            .unwrap_or_else(|_| panic!("{name}: case {cases} panics:\n{:?}", String::from_utf8_lossy(&bytes)));
        cases += 1;
        if ok && bytes.len() < 1 << 14 {
            match pool.len() < 4096 {
                true => pool.push(bytes),
                false => {
                    let place = seeds + random.below(pool.len() - seeds);
                    pool[place] = bytes;
                }
            }
        }
    }
    cases
}

#[test]
fn no_reader_panics_whatever_the_bytes() {
    for &(name, target) in TARGETS {
        let (seeds, changes) = run(name, target);
        assert!(seeds > 0 && changes > 0, "{name}: accepted {seeds} seeds and {changes} changes of them");
    }
    let Ok(longer) = std::env::var(LONGER) else { return };
    let (name, seconds) = longer.split_once(':').expect("a target and seconds: csv_rows:600");
    let (_, target) = TARGETS.iter().find(|target| target.0 == name).expect("one of TARGETS");
    let cases = run_for(Duration::from_secs(seconds.parse().unwrap()), name, *target);
    println!("{name}: {cases} more cases in {seconds} s");
}
