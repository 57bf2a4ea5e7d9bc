use super::*;
use crate::progress::Silent;
use crate::text::{MediaKind, MediaRange, Tokenized};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

proptest! {
    #[test]
    fn records_come_back_as_they_were(
        ids in prop::collection::vec((any::<u32>(), 0..3), 0..70), explicit: i32, truncated: bool, media in prop::collection::vec((0..90_usize, 0..9_usize, any::<bool>(), any::<[u8; 32]>()), 0..3),
    ) {
        let label = |&(id, kind): &(u32, i32)| match kind { 0 => -100, 1 => id as i32, _ => explicit };
        let medium = |(start, count, is_audio, content): (usize, usize, bool, [u8; 32])| {
            let (start, kind) = (start.min(ids.len()), if is_audio { MediaKind::Audio } else { MediaKind::Image });
            MediaRange { tokens: start..(start + count).min(ids.len()), kind, content }
        };
        let media = media.into_iter().map(medium).collect();
        let tokens = Tokenized { input_ids: ids.iter().map(|&(id, _)| id).collect(), labels: ids.iter().map(label).collect(), truncated, media, second: (ids.len() > 1).then_some(ids.len() / 2), desirable: [None, Some(false), Some(true)][ids.len() % 3], margin: (ids.len() % 2 == 0).then_some(0.25), columns: (ids.len() % 2 == 1).then(|| "{\"a\": \"é\"}".to_owned()) };
        let mut bytes = vec![7];
        let record = encode(&tokens, &mut bytes);
        prop_assert_eq!(record::decode(&bytes[1..], record.length, record.hash), Some(tokens));
        prop_assert_eq!(record::decode(&bytes[1..], record.length + 8, record.hash), None);
        prop_assert_eq!(record::decode(&bytes, record.length, record.hash), None);
    }
}

#[test]
fn supervised_labels_take_a_bit() {
    let tokens = Tokenized { input_ids: vec![5; 16], labels: vec![5; 16], ..Tokenized::default() };
    let mut bytes = Vec::new();
    encode(&tokens, &mut bytes);
    assert_eq!(bytes.len(), 1 + 16 * 4 + 2, "a row of text has no room for media");
    let medium = MediaRange { tokens: 3..7, kind: MediaKind::Image, content: [9; 32] };
    let mut with_media = Vec::new();
    encode(&Tokenized { media: vec![medium], ..tokens }, &mut with_media);
    assert_eq!(with_media.len(), bytes.len() + 41 + 4);
}

#[test]
fn hashes_of_settled_files_are_remembered_until_the_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    let path: Arc<std::path::Path> = dir.path().join("a").into();
    let write = |content: &str, age: u64| {
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    let hash = || hash_files(std::slice::from_ref(&path), &notes, &Silent).unwrap().remove(0);
    let notes_kept = || std::fs::read_dir(&notes).map_or(0, Iterator::count);

    write("one", 0);
    assert_eq!(hash().blake3, blake3::hash(b"one").to_hex().to_string());
    assert_eq!(notes_kept(), 0, "the file may still be changing");
    write("one", 100);
    hash();
    assert_eq!(notes_kept(), 1);
    let note = std::fs::read_dir(&notes).unwrap().next().unwrap().unwrap().path();
    let believed = std::fs::read_to_string(&note).unwrap().replace(&hash().blake3, "believed");
    std::fs::write(&note, believed).unwrap();
    let seen = hash();
    assert_eq!(seen.blake3, "believed", "the file was not read again");
    seen.check_unchanged().unwrap();
    write("two!", 100);
    assert_eq!(hash().blake3, blake3::hash(b"two!").to_hex().to_string());
    assert_eq!(seen.check_unchanged().unwrap_err().what(), "the file changed while it was read");
    std::fs::write(&note, "damaged").unwrap();
    assert_eq!(hash().blake3, blake3::hash(b"two!").to_hex().to_string());
}

#[test]
fn leftovers_of_killed_runs_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    for (name, days) in [(".tmp-old", 4), (".tmp-new", 1), ("kept.rows", 400)] {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    }
    Folder::open(dir.path()).unwrap();
    let mut kept: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, [".tmp-new", "kept.rows"]);
}

#[test]
fn a_second_maker_waits_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let first = folder.lock("k");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _second = folder.lock("k");
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
        drop(first);
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    });
}
