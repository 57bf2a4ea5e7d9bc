//! A folder to try the program in: a tiny model, rows for it, a recipe, and what a command said.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A folder that is gone after the test.
pub struct Bench {
    dir: tempfile::TempDir,
}

/// What a command left.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    /// With the folder's path taken out, so that it is the same on every run.
    pub stderr: String,
}

impl Said {
    /// stdout, where the command is to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON on stdout")
    }

    /// The report of problems on stderr, without the talk before it.
    pub fn problem(&self) -> &str {
        self.stderr.find("error: ").map_or("", |at| self.stderr[at..].trim_end())
    }
}

impl Bench {
    /// A folder with the model `m` (320 words, no tokenizer), the rows `rows.jsonl` and the recipe `r.yaml`.
    pub fn new() -> Self {
        let bench = Bench { dir: tempfile::tempdir().expect("a temporary folder") };
        copy(&golden("model/lora/model"), &bench.path("m"));
        bench.write("rows.jsonl", lines(&rows(40)));
        bench.write("r.yaml", RECIPE);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().expect("a folder")).expect("a folder");
        std::fs::write(self.path(name), bytes).expect("a file");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("UTF-8")
    }

    /// Changes bytes of a file in place.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(name);
        change(&mut bytes);
        self.write(name, bytes);
    }

    /// Sets the top-level key of a JSON file; `Null` removes it.
    pub fn set(&self, name: &str, key: &str, value: Value) {
        let mut object: Value = serde_json::from_str(&self.text(name)).expect("JSON");
        let map = object.as_object_mut().expect("an object");
        if value.is_null() {
            drop(map.remove(key))
        } else {
            drop(map.insert(key.into(), value))
        }
        self.write(name, object.to_string());
    }

    /// A model `t` with the tiny tokenizer: `m` with its embedding repeated up to the tokenizer's 512 words.
    pub fn with_text(self) -> Self {
        copy(&golden("model/lora/model"), &self.path("t"));
        copy(&golden("tokenizer"), &self.path("t"));
        let mut model = tensors(&self.read("m/model.safetensors"));
        for (name, shape, values) in &mut model {
            if name == "model.embed_tokens.weight" {
                let more = values[..(512 - shape[0]) * shape[1]].iter().map(|x| -x).collect::<Vec<_>>();
                values.extend(more);
                shape[0] = 512;
            }
        }
        self.write("t/model.safetensors", safetensors_bytes(&model));
        self.set("t/config.json", "vocab_size", json!(512));
        self.write("chats.jsonl", CHATS);
        self
    }

    /// A trained adapter in `out/adapter`.
    pub fn trained(self) -> Self {
        self.run("train r.yaml").ok();
        self
    }

    /// The program with `args`, in this folder, away from the user's caches and the Hub.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gemma-tune"));
        self.settle(&mut command).args(args.split_whitespace());
        command
    }

    /// Puts any command into this folder.
    pub fn settle<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.dir.path())
            .env("GEMMA_TUNE_CACHE", self.path("cache"))
            .env("HF_HOME", self.path("hf"))
            .env("HF_HUB_OFFLINE", "1")
            .env("RAYON_NUM_THREADS", "2")
            .stdin(Stdio::null())
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &str) -> Said {
        self.said(&mut self.command(args))
    }

    /// Runs a command to its end.
    pub fn said(&self, command: &mut Command) -> Said {
        let output = command.output().expect("the program starts");
        let text =
            |bytes| String::from_utf8(bytes).expect("UTF-8").replace(&format!("{}/", self.dir.path().display()), "");
        Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs the program to its end on a terminal, where `typed` is pasted at once; what the terminal then shows.
    #[cfg(target_os = "linux")]
    pub fn on_a_terminal(&self, args: &str, typed: &str) -> Said {
        self.on_a_terminal_with("", args, typed)
    }

    /// The same with more in its environment: `NAME=value ..`.
    #[cfg(target_os = "linux")]
    pub fn on_a_terminal_with(&self, environment: &str, args: &str, typed: &str) -> Said {
        use std::io::Write;
        let line = format!("{environment} '{}' {args}", env!("CARGO_BIN_EXE_gemma-tune"));
        let mut command = Command::new("script");
        let command = self.settle(&mut command).args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("`script`");
        child.stdin.take().expect("stdin").write_all(typed.as_bytes()).expect("a terminal");
        let output = child.wait_with_output().expect("the program ends");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Every file below a folder, sorted; temporary and lock files too.
    pub fn files(&self, name: &str) -> Vec<String> {
        let (mut files, mut folders) = (Vec::new(), vec![self.path(name)]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.dir.path()).expect("below").display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

/// Twelve quick steps that use what resuming has to get right: dropout, packing, accumulation, evaluation, epochs.
const RECIPE: &str = "\
model: {base: m, dtype: f32}
adapter: {r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}
data:
  train: [{path: rows.jsonl, format: tokens}]
  eval_fraction: 0.1
  max_length: 48
  packing: true
training: {per_device_train_batch_size: 1, gradient_accumulation_steps: 2, max_steps: 12, learning_rate: 1.0e-2, seed: 7}
evaluation: {eval_steps: 3}
output: {dir: out, save_steps: 2, report_to: [jsonl]}
";

const CHATS: &str = r#"{"messages": [{"role": "user", "content": "What is two and two?"}, {"role": "assistant", "content": "Four."}]}
{"messages": [{"role": "user", "content": "And a cat?"}, {"role": "assistant", "content": "An animal."}]}
"#;

/// Rows of 5 to 20 tokens below 320; the first two are not supervised.
pub fn rows(count: u64) -> Vec<Value> {
    let row = |i: u64| {
        let ids: Vec<u64> =
            (0..5 + i * 7 % 16).map(|t| if t == 0 { 2 } else { 4 + (i * 31 + t * t * 17) % 316 }).collect();
        let labels: Vec<i64> = ids.iter().enumerate().map(|(t, id)| if t < 2 { -100 } else { *id as i64 }).collect();
        json!({"input_ids": ids, "labels": labels})
    };
    (0..count).map(row).collect()
}

/// jsonl.
pub fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A file or folder under `tests/goldens`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Copies all that is in a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &to) } else { std::fs::copy(path, to).map(drop).expect("a copy") }
    }
}

/// The tensors of a safetensors file: name, shape, f32 values.
pub fn tensors(bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let file = safetensors::SafeTensors::deserialize(bytes).expect("safetensors");
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
            let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            (name, view.shape().to_vec(), numbers.collect())
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// A safetensors file of f32 tensors.
pub fn safetensors_bytes(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|t| t.2.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("a tensor"))
    });
    safetensors::serialize(views, None).expect("safetensors")
}

/// Waits until `ready`, or the process ends.
pub fn wait_until(child: &mut Child, ready: impl Fn() -> bool) -> Option<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(status) = child.try_wait().expect("a status") {
            return Some(status);
        }
        if ready() {
            return None;
        }
        assert!(Instant::now() < deadline, "the process neither ended nor got so far");
        std::thread::sleep(Duration::from_millis(1));
    }
}
