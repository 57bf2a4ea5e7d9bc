mod server;

use super::*;
use crate::error::{Error, Kind};
use crate::progress::Silent;
use serde_json::json;
use server::{Answer, Request, Server};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LATER: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn settings(url: &str, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: url.into(),
        cache: cache.join("hub"),
        token: None,
        offline: false,
        timeout: Duration::from_secs(5),
        retry_pause: Duration::ZERO,
    }
}

/// The files of the fake model: shards are kept by the storage, behind a redirection.
fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let index = json!({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors", "c": "model-1-of-2.safetensors"}});
    BTreeMap::from([
        ("config.json", br#"{"model_type": "gemma3_text"}"#.to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("chat_template.jinja", b"template".to_vec()),
        ("model.safetensors.index.json", index.to_string().into_bytes()),
        ("model-1-of-2.safetensors", (0..=255).cycle().take(100_000).collect()),
        ("model-2-of-2.safetensors", b"second".to_vec()),
        ("pytorch_model.bin", b"never".to_vec()),
        ("model.gguf", b"never".to_vec()),
        ("README.md", b"never".to_vec()),
    ])
}

fn description(commit: &str, files: &BTreeMap<&'static str, Vec<u8>>) -> Answer {
    let mut siblings: Vec<_> = files.iter().map(|(n, b)| json!({"rfilename": n, "size": b.len()})).collect();
    siblings.push(json!({"rfilename": "../outside.json", "size": 3}));
    Answer::new(200).body(json!({"sha": commit, "siblings": siblings}).to_string())
}

/// Answers as the Hub does for `google/tiny`, whose `main` is at `commit`.
fn hub(request: &Request, commit: &str) -> Answer {
    let files = files();
    if request.path == "/api/models/google/tiny/revision/main?blobs=true" {
        return description(commit, &files);
    }
    if let Some(name) = request.path.strip_prefix("/storage/") {
        return Answer::range(request, &files[name]);
    }
    let moved = request.path.strip_prefix("/api/resolve-cache");
    let prefix = format!("/google/tiny/resolve/{commit}/");
    let Some(name) = moved.unwrap_or(&request.path).strip_prefix(&prefix).filter(|name| files.contains_key(name))
    else {
        return Answer::new(404).header("X-Error-Code", "EntryNotFound");
    };
    let etag =
        format!("\"{:x}\"", files[name].iter().fold(7u64, |hash, b| hash.wrapping_mul(31).wrapping_add((*b).into())));
    let host = &request.headers["host"];
    match name {
        "tokenizer.json" if moved.is_none() => {
            Answer::new(307).header("Location", format!("/api/resolve-cache{}", request.path))
        }
        name if name.ends_with(".safetensors") => Answer::new(302)
            .header("Location", format!("http://{host}/storage/{name}"))
            .header("X-Linked-Etag", etag)
            .header("X-Repo-Commit", commit),
        name => Answer::range(request, &files[name]).header("ETag", etag).header("X-Repo-Commit", commit),
    }
}

fn find(name: &str, settings: &HubSettings) -> Result<ModelFiles> {
    find_model(name, settings, &Silent, &|_| Ok(()))
}

fn dir_of(found: ModelFiles) -> PathBuf {
    let ModelFiles::Folder { dir, name, revision } = found else { panic!("a folder") };
    assert_eq!(name, "google/tiny");
    assert_eq!(revision.map(|r| r.len()), Some(40));
    dir
}

/// Counts what is reported.
#[derive(Default)]
struct Counted(Mutex<(Vec<Option<u64>>, u64)>);

impl Progress for Counted {
    fn start(&self, _: &str, total: Option<u64>, _: &'static str) {
        self.0.lock().unwrap().0.push(total);
    }
    fn advance(&self, amount: u64) {
        self.0.lock().unwrap().1 += amount;
    }
    fn finish(&self) {}
}

#[test]
fn a_model_is_downloaded_once_and_then_found_without_a_network() {
    let server = Server::start(|request| hub(request, COMMIT));
    let home = tempfile::tempdir().unwrap();
    let mut settings = settings(&server.url, home.path());
    let counted = Counted::default();
    let dir = dir_of(find_model("google/tiny", &settings, &counted, &|_| Ok(())).unwrap());
    assert_eq!(dir, settings.cache.join("models--google--tiny/snapshots").join(COMMIT));
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<_> =
        files().into_keys().filter(|n| !["pytorch_model.bin", "model.gguf", "README.md"].contains(n)).collect();
    expected.sort();
    assert_eq!(names, expected);
    for name in expected {
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), files()[name], "{name}");
    }
    let (totals, done) = counted.0.into_inner().unwrap();
    assert_eq!(totals.iter().flatten().sum::<u64>(), done);
    assert_eq!(totals[1], Some(100_006));
    let refs = settings.cache.join("models--google--tiny/refs");
    assert_eq!(std::fs::read_to_string(refs.join("main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read_dir(refs).unwrap().count(), 1);

    server.take_seen();
    assert_eq!(dir_of(find("google/tiny", &settings).unwrap()), dir);
    assert_eq!(server.take_seen(), ["/api/models/google/tiny/revision/main?blobs=true"]);
    // A commit in the cache needs no question; nor does offline mode; nor is a Hub that is away a reason to stop.
    assert_eq!(dir_of(find(&format!("google/tiny@{COMMIT}"), &settings).unwrap()), dir);
    settings.offline = true;
    assert_eq!(dir_of(find("google/tiny", &settings).unwrap()), dir);
    assert_eq!(server.take_seen(), Vec::<String>::new());
    (settings.offline, settings.endpoint) = (false, "http://127.0.0.1:9".into());
    assert_eq!(dir_of(find("google/tiny", &settings).unwrap()), dir);
    // A snapshot that lacks a shard is none.
    std::fs::remove_file(dir.join("model-2-of-2.safetensors")).unwrap();
    assert_eq!(Failure::of(&find("google/tiny", &settings).unwrap_err()), Some(Failure::NoNetwork));
    settings.offline = true;
    assert_eq!(Failure::of(&find("google/tiny", &settings).unwrap_err()), Some(Failure::Offline));
}

#[test]
fn a_broken_download_continues_where_it_broke_off() {
    let broke = AtomicBool::new(false);
    let server = Server::start(move |request| {
        let mut answer = hub(request, COMMIT);
        if request.path == "/storage/model-1-of-2.safetensors"
            && request.headers["range"] != "bytes=0-0"
            && !broke.swap(true, Ordering::SeqCst)
        {
            answer.cut = Some(40_000);
        }
        answer
    });
    let home = tempfile::tempdir().unwrap();
    let counted = Counted::default();
    let dir = dir_of(find_model("google/tiny", &settings(&server.url, home.path()), &counted, &|_| Ok(())).unwrap());
    assert_eq!(std::fs::read(dir.join("model-1-of-2.safetensors")).unwrap(), files()["model-1-of-2.safetensors"]);
    let asked: Vec<String> =
        server.take_seen().into_iter().filter(|r| r.starts_with("/storage/model-1") && !r.contains("0-0")).collect();
    assert_eq!(
        asked,
        ["/storage/model-1-of-2.safetensors [bytes=0-]", "/storage/model-1-of-2.safetensors [bytes=40000-]"]
    );
    let (totals, done) = counted.0.into_inner().unwrap();
    assert_eq!(totals.iter().flatten().sum::<u64>(), done);
}

#[test]
fn blobs_are_not_downloaded_twice() {
    let server = Server::start(|request| hub(request, COMMIT));
    let home = tempfile::tempdir().unwrap();
    let dir = dir_of(find("google/tiny", &settings(&server.url, home.path())).unwrap());
    // Killed between the last byte and the renaming: the part is whole.
    let target = dir.join("model-1-of-2.safetensors");
    let blob = std::fs::canonicalize(&target).unwrap();
    std::fs::rename(&blob, blob.with_extension("part")).unwrap();
    // A later commit that changes none of the files.
    let later = Server::start(|request| hub(request, LATER));
    let dir = dir_of(find("google/tiny", &settings(&later.url, home.path())).unwrap());
    assert!(dir.ends_with(LATER));
    assert_eq!(std::fs::read(dir.join("model-1-of-2.safetensors")).unwrap(), files()["model-1-of-2.safetensors"]);
    assert!(later.take_seen().iter().all(|r| !r.starts_with("/storage/") && !r.ends_with("=0-]")));
}

#[test]
fn the_small_files_have_a_say_before_the_weights() {
    let server = Server::start(|request| hub(request, COMMIT));
    let home = tempfile::tempdir().unwrap();
    let refuse = |dir: &Path| {
        assert!(dir.join("config.json").is_file() && dir.join("tokenizer.json").is_file());
        Err(Error::new(Kind::Config, "not this one"))
    };
    let error = find_model("google/tiny", &settings(&server.url, home.path()), &Silent, &refuse).unwrap_err();
    assert_eq!(error.what(), "not this one");
    assert!(server.take_seen().iter().all(|request| !request.contains("of-2")));
}

#[test]
fn the_small_files_come_without_the_weights() {
    let server = Server::start(|request| hub(request, COMMIT));
    let home = tempfile::tempdir().unwrap();
    let mut settings = settings(&server.url, home.path());
    let dir = dir_of(find_small_files("google/tiny", &settings, &Silent).unwrap());
    assert!(dir.join("config.json").is_file() && dir.join("tokenizer.json").is_file());
    assert!(server.take_seen().iter().all(|request| !request.contains("of-2")));
    // They make no model, but are enough for those who want no more.
    let pinned = format!("google/tiny@{COMMIT}");
    settings.offline = true;
    assert_eq!(Failure::of(&find(&pinned, &settings).unwrap_err()), Some(Failure::Offline));
    assert_eq!(dir_of(find_small_files(&pinned, &settings, &Silent).unwrap()), dir);
    assert_eq!(server.take_seen(), Vec::<String>::new());
}

/// What the user sees when every request is answered by `answer`.
fn refusal(
    token: Option<&str>,
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> (Option<Failure>, String, Error) {
    let server = Server::start(move |_| answer());
    let home = tempfile::tempdir().unwrap();
    let settings = HubSettings { token: token.map(String::from), ..settings(&server.url, home.path()) };
    let error = find("google/gemma-3-1b-itt@v9", &settings).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::Hub, 1));
    assert!(!error.to_string().contains("hf_secret"));
    (Failure::of(&error), error.to_string().replace(&server.url, "HUB"), error)
}

#[test]
fn refusals_are_told_apart() {
    let coded = |status, code: &'static str, message: &'static str| {
        move || Answer::new(status).header("X-Error-Code", code).header("X-Error-Message", message)
    };
    let place = "\n  --> google/gemma-3-1b-itt@v9\n  hint: ";
    let token = Some("hf_secret");

    let (failure, text, _) = refusal(None, coded(401, "GatedRepo", "Access to model x is restricted."));
    assert_eq!(failure, Some(Failure::NoToken));
    assert_eq!(
        text,
        format!(
            "error: `google/gemma-3-1b-itt` needs a Hugging Face account that accepted its licence, and no token was found: Access to model x is restricted.{place}accept the licence at HUB/google/gemma-3-1b-itt, make a token at HUB/settings/tokens, then set `HF_TOKEN` or run `hf auth login`"
        )
    );

    let (failure, text, _) = refusal(token, coded(401, "", "Invalid credentials in Authorization header"));
    assert_eq!(failure, Some(Failure::BadToken));
    assert_eq!(
        text,
        format!(
            "error: the Hub does not accept the token: it is wrong, expired or deleted: Invalid credentials in Authorization header{place}make a new one at HUB/settings/tokens, then set `HF_TOKEN` or run `hf auth login`"
        )
    );

    let (failure, text, _) = refusal(
        token,
        coded(403, "GatedRepo", "Access to model x is restricted and you are not in the authorized list."),
    );
    assert_eq!(failure, Some(Failure::LicenceNotAccepted));
    assert!(
        text.ends_with(&format!("{place}open HUB/google/gemma-3-1b-itt with that account and accept it")),
        "{text}"
    );
    let (_, text, _) = refusal(token, coded(403, "GatedRepo", "Your request to access model x is awaiting a review."));
    assert!(text.contains("was requested and not granted yet"), "{text}");
    let (failure, ..) = refusal(
        token,
        coded(
            403,
            "GatedRepo",
            "Please enable access to public gated repositories in your fine-grained token settings",
        ),
    );
    assert_eq!(failure, Some(Failure::TokenWithoutPermission));

    // Without a token the Hub says 401 of a repository that does not exist.
    let (failure, text, _) = refusal(None, coded(401, "RepoNotFound", "Repository not found"));
    assert_eq!(failure, Some(Failure::NoSuchRepository));
    assert!(text.ends_with("hint: did you mean `google/gemma-3-1b-it`?"), "{text}");
    let (failure, ..) = refusal(token, coded(404, "RepoNotFound", "Repository not found"));
    assert_eq!(failure, Some(Failure::NoSuchRepository));

    let (failure, text, _) = refusal(None, coded(404, "RevisionNotFound", "Invalid rev id: v9"));
    assert_eq!(failure, Some(Failure::NoSuchRevision));
    assert!(
        text.starts_with("error: `google/gemma-3-1b-itt` has no branch, tag or commit `v9`: Invalid rev id: v9"),
        "{text}"
    );

    assert_eq!(refusal(None, || Answer::new(401)).0, Some(Failure::NoToken));
    assert_eq!(refusal(token, || Answer::new(401)).0, Some(Failure::BadToken));
    assert_eq!(refusal(token, || Answer::new(403)).0, Some(Failure::TokenWithoutPermission));
    assert_eq!(refusal(None, || Answer::new(404)).0, Some(Failure::NoSuchRepository));
    assert_eq!(refusal(None, || Answer::new(429)).0, Some(Failure::TooManyRequests));
    assert_eq!(refusal(None, || Answer::new(503)).0, Some(Failure::Hub(503)));
    assert_eq!(refusal(None, || Answer::new(200).body("<html>")).0, Some(Failure::Hub(0)));
}

#[test]
fn a_gated_repository_that_lists_its_files_is_refused_at_the_first_of_them() {
    // As the Hub does: everybody may see the list, only some the files.
    let server = Server::start(|request| match request.path.starts_with("/api/") {
        true => hub(request, COMMIT),
        false => Answer::new(401).header("X-Error-Code", "GatedRepo"),
    });
    let home = tempfile::tempdir().unwrap();
    let error = find("google/tiny", &settings(&server.url, home.path())).unwrap_err();
    assert_eq!(Failure::of(&error), Some(Failure::NoToken));
    assert_eq!(server.take_seen().len(), 2);
}

#[test]
fn no_network_is_said_quickly() {
    let home = tempfile::tempdir().unwrap();
    let of = |settings: &HubSettings| {
        let error = find("google/tiny", settings).unwrap_err();
        assert_eq!(Failure::of(&error), Some(Failure::NoNetwork));
        error.what().to_string()
    };
    let closed = settings("http://127.0.0.1:9", home.path());
    assert_eq!(of(&closed), "the Hub at http://127.0.0.1:9 could not be reached: the connection was refused");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let waiting = HubSettings { timeout: Duration::from_millis(50), ..settings(&url, home.path()) };
    assert!(of(&waiting).ends_with("it did not answer in time"));
    let wrong = find("google/tiny", &settings("not an address", home.path())).unwrap_err();
    assert_eq!((Failure::of(&wrong), wrong.exit_code()), (None, 2), "a mistake here, and no trouble of the network");
}

#[test]
fn repositories_that_are_no_models_say_what_they_are() {
    let home = tempfile::tempdir().unwrap();
    let what = |names: &'static [&'static str]| {
        let server = Server::start(move |_| description(COMMIT, &names.iter().map(|n| (*n, vec![1])).collect()));
        let error = find("google/tiny", &settings(&server.url, home.path())).unwrap_err();
        assert_eq!(error.kind(), Kind::Weights);
        error.what().to_string()
    };
    assert_eq!(what(&["a.gguf", "config.json"]), "`google/tiny` holds GGUF files and no safetensors");
    assert_eq!(what(&["adapter_config.json", "adapter_model.safetensors"]), "`google/tiny` is an adapter, not a model");
    assert_eq!(what(&["model.safetensors"]), "`google/tiny` has no `config.json`");
    assert_eq!(what(&["pytorch_model.bin", "config.json"]), "`google/tiny` has no `model.safetensors`");
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    let server = Server::start(|request| {
        let mut answer = hub(request, COMMIT);
        if request.path.ends_with("index.json") && !answer.body.is_empty() {
            let evil = br#"{"weight_map": {"a": "../../../../evil"}}"#;
            let mut full = evil.to_vec();
            full.resize(files()["model.safetensors.index.json"].len(), b' ');
            answer.body = full[..answer.body.len()].to_vec();
        }
        answer
    });
    let home = tempfile::tempdir().unwrap();
    let error = find("google/tiny", &settings(&server.url, home.path())).unwrap_err();
    assert_eq!(error.what(), "`a` is in \"../../../../evil\", which is not a file of the folder");
}

#[test]
fn offline_the_same_files_are_chosen_as_online() {
    // What an earlier run or another tool has brought: also a file that no rule but the card tells from training rows.
    let home = tempfile::tempdir().unwrap();
    let settings = HubSettings { offline: true, ..settings("http://127.0.0.1:9", home.path()) };
    let folder = settings.cache.join("datasets--a--b");
    let snapshot = folder.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), COMMIT).unwrap();
    for name in ["good.jsonl", "held_back.jsonl"] {
        std::fs::write(snapshot.join(name), "{}").unwrap();
    }
    let find = |uri: &str, split| find_data_with(uri, split, &settings, &Silent);
    let names = |split| {
        let paths = find("hf://datasets/a/b", split).unwrap();
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let unknown = find("hf://datasets/a/b", None).unwrap_err();
    assert!(unknown.what().contains("is not known offline: its card is not in the cache"), "{unknown}");
    assert_eq!(unknown.exit_code(), 2);
    assert_eq!(find("hf://datasets/a/b/good.jsonl", None).unwrap().len(), 1, "a named file is not chosen");

    let card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: good.jsonl\n  - split: probe\n    path: held_back.jsonl\n---\n";
    std::fs::write(snapshot.join("README.md"), card).unwrap();
    assert_eq!(names(None), ["good.jsonl"]);
    assert_eq!(names(Some("probe")), ["held_back.jsonl"]);

    // What the Hub said counts for files, too: one that was not downloaded is missing, and not left out.
    let said = json!({"files": ["README.md", "good.jsonl", "more.jsonl"], "configs": null});
    std::fs::create_dir_all(folder.join(".gemma-tune")).unwrap();
    std::fs::write(folder.join(format!(".gemma-tune/{COMMIT}.json")), said.to_string()).unwrap();
    assert_eq!(Failure::of(&find("hf://datasets/a/b", None).unwrap_err()), Some(Failure::Offline));
}

#[test]
fn what_a_server_says_back_is_shown_without_the_token() {
    let back = |request: &Request, status| {
        let said = request.headers.get("authorization").cloned().unwrap_or_default();
        Answer::new(status).header("X-Error-Message", format!("hdr {said}"))
    };
    for status in [400, 401, 403, 404, 409, 422, 429, 500] {
        let server = Server::start(move |request| back(request, status));
        let home = tempfile::tempdir().unwrap();
        let settings = HubSettings { token: Some("hf_sesame".into()), ..settings(&server.url, home.path()) };
        let model = find("google/tiny", &settings).unwrap_err();
        let data = find_data_with("hf://datasets/a/b", None, &settings, &Silent).unwrap_err();
        for error in [model, data] {
            assert!(
                !error.to_string().contains("sesame") && error.what().contains("hdr Bearer (the token)"),
                "{error}"
            );
        }
    }
    // What the storage of a file says back, in the middle of a download.
    let server = Server::start(move |request| match request.path.contains("/resolve/") {
        true => back(request, 400),
        false => hub(request, COMMIT),
    });
    let home = tempfile::tempdir().unwrap();
    let settings = HubSettings { token: Some("hf_sesame".into()), ..settings(&server.url, home.path()) };
    let error = find("google/tiny", &settings).unwrap_err();
    assert!(!error.to_string().contains("sesame") && error.what().contains("(the token)"), "{error}");
}

#[test]
fn an_address_is_named_without_its_login() {
    let server = Server::start(|_| Answer::new(404).header("X-Error-Code", "RepoNotFound"));
    let home = tempfile::tempdir().unwrap();
    for url in [server.url.as_str(), "http://127.0.0.1:9"] {
        let settings = settings(&url.replace("://", "://ann:secret@"), home.path());
        let error = find("google/tiny", &settings).unwrap_err();
        let said = format!("{error} {error:?} {settings:?}");
        assert!(!said.contains("secret") && said.contains(url), "{said}");
    }
}

#[test]
fn a_data_set_is_downloaded_by_split_and_found_again_offline() {
    let files = || {
        BTreeMap::from([
            ("README.md", b"card".to_vec()),
            ("data/test-00000-of-00001.parquet", b"test".to_vec()),
            ("data/train-00000-of-00001.parquet", b"train".to_vec()),
        ])
    };
    let server = Server::start(move |request| {
        if request.path.starts_with("/api/datasets/a/b/revision/main?") {
            return description(COMMIT, &files());
        }
        match request.path.strip_prefix(&format!("/datasets/a/b/resolve/{COMMIT}/")) {
            Some(name) => Answer::range(request, &files()[name])
                .header("ETag", format!("\"{}\"", name.len()))
                .header("X-Repo-Commit", COMMIT),
            None => Answer::new(404).header("X-Error-Code", "RepoNotFound"),
        }
    });
    let home = tempfile::tempdir().unwrap();
    let mut settings = settings(&server.url, home.path());
    let paths = find_data_with("hf://datasets/a/b", None, &settings, &Silent).unwrap();
    assert_eq!(paths.len(), 1);
    assert_eq!(std::fs::read(&paths[0]).unwrap(), b"train");
    assert!(paths[0].ends_with(format!("datasets--a--b/snapshots/{COMMIT}/data/train-00000-of-00001.parquet")));
    settings.offline = true;
    assert_eq!(find_data_with("hf://datasets/a/b", Some("train"), &settings, &Silent).unwrap(), paths);
    let error = find_data_with("hf://datasets/a/b", Some("test"), &settings, &Silent).unwrap_err();
    assert_eq!(Failure::of(&error), Some(Failure::Offline));
    settings.offline = false;
    let error = find_data_with("hf://datasets/a/c", None, &settings, &Silent).unwrap_err();
    assert_eq!(Failure::of(&error), Some(Failure::NoSuchRepository));
    assert_eq!(error.place().unwrap().to_string(), "datasets/a/c");
}
