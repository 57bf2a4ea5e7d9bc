//! What is fuzzed: readers of files that others made. Each takes any bytes, must not panic, and what it accepts must
//! survive being written and read again.

use gemma_tune::adapter::peft::AdapterConfig;
use gemma_tune::adapter::target::{matcher, select};
use gemma_tune::data::{Row, RowFormat, read_any};
use gemma_tune::jobs::chat::input::{Command, Entry, Input};
use gemma_tune::testkit::tokenizer::tiny_encoder;
use gemma_tune::text::{ChatTemplate, Conversation, Encoder, Message, Role, TrainOn};
use gemma_tune::weights::gguf::{self, Vocabulary};
use gemma_tune::weights::{safetensors_file, safetensors_index};
use gemma_tune::{recipe, weights};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// One reader; says whether it accepted the bytes.
pub type Target = fn(&[u8]) -> bool;

/// Every reader, by the name of its fuzz target and of its folder of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("safetensors_header", safetensors_header),
    ("safetensors_index", safetensors_index),
    ("gguf", gguf),
    ("recipe", recipe),
    ("adapter_config", adapter_config),
    ("csv_rows", csv_rows),
    ("json_rows", json_rows),
    ("parquet_rows", parquet_rows),
    ("chat_input", chat_input),
    ("chat_template", chat_template),
    ("messages", messages),
    #[cfg(feature = "serve")]
    ("request", request),
    #[cfg(feature = "serve")]
    ("upload", upload),
];

/// The rows of a data file with these bytes; `None` when the file or one of its rows is refused.
fn rows(bytes: &[u8], name: &str) -> Option<Vec<serde_json::Map<String, serde_json::Value>>> {
    // One folder for all cases: making and removing it takes longer than most of them.
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    let path = FOLDER.with(|folder| folder.path().join(name));
    std::fs::write(&path, bytes).expect("a temporary file");
    read_any(&path, &[], 1 << 20).ok()?.into_iter().map(|(_, row)| row.ok()).collect()
}

/// A table; what is accepted is read again from a table that the `csv` crate writes.
pub fn csv_rows(bytes: &[u8]) -> bool {
    let Some(rows) = rows(bytes, "rows.csv") else { return false };
    let Some(first) = rows.first() else { return true };
    // Rows of empty cells are blank lines, unless something stood in a column without a name.
    if rows.iter().any(|row| row.values().all(|value| value == "")) {
        return true;
    }
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    // JSON lines under the name of a table are no table.
    let cells: Option<Vec<Vec<String>>> = rows.iter().map(|row| row.values().map(text).collect()).collect();
    let Some(cells) = cells.filter(|cells| cells.iter().all(|row| row.len() == first.len() && row.len() > 1)) else {
        return true;
    };
    let mut table = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
    table.write_record(first.keys()).expect("a header in memory");
    cells.iter().for_each(|row| table.write_record(row).expect("a record in memory"));
    // A first name that is another file's mark, such as a Git LFS pointer's first line, makes it one of those.
    let Some(again) = self::rows(&table.into_inner().expect("a table in memory"), "rows.csv") else { return true };
    assert_eq!(again, rows);
    true
}

/// JSON lines or a document; what is accepted is read again from JSON lines.
pub fn json_rows(bytes: &[u8]) -> bool {
    let Some(rows) = rows(bytes, "rows.jsonl") else { return false };
    let lines: String = rows.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
    assert_eq!(self::rows(lines.as_bytes(), "rows.jsonl").expect("written rows are rows"), rows);
    true
}

/// A Parquet file.
pub fn parquet_rows(bytes: &[u8]) -> bool {
    rows(bytes, "rows.parquet").is_some()
}

/// A safetensors file: accepted tensors lie inside it and are as long as their shapes say.
pub fn safetensors_header(bytes: &[u8]) -> bool {
    let Ok(header) = safetensors_file::parse(bytes) else { return false };
    for entry in header.tensors {
        let elements: usize = entry.shape.iter().product();
        assert_eq!(bytes[entry.bytes].len() * 8, elements * entry.dtype.bitsize());
        let _ = weights::names::Spelling::parse(&entry.name);
        let _ = weights::names::parse_peft_key(&entry.name);
    }
    true
}

/// The index of a sharded model.
pub fn safetensors_index(bytes: &[u8]) -> bool {
    let Ok(index) = safetensors_index::parse(bytes) else { return false };
    assert!(index.shards().iter().all(|shard| Path::new(shard).components().count() == 1));
    true
}

/// A GGUF file, its vocabulary, and where its tensors are.
pub fn gguf(bytes: &[u8]) -> bool {
    let Ok(header) = gguf::parse(bytes) else { return false };
    let _ = Vocabulary::read(&header.metadata);
    for entry in &header.tensors {
        assert!(bytes.get(entry.bytes.clone()).is_some());
        let _ = weights::names::TensorId::parse_gguf(&entry.name);
    }
    true
}

/// A recipe; what is accepted means the same after it was written out in full.
pub fn recipe(bytes: &[u8]) -> bool {
    // A recipe that names other files would read them from disk.
    if bytes.windows(7).any(|window| window == b"extends") {
        return false;
    }
    let path = Path::new("recipe.yaml");
    let Ok(recipe) = recipe::parse(path, bytes.to_vec(), &[]) else { return false };
    let again = recipe::parse(path, recipe.to_yaml().into_bytes(), &[]);
    assert_eq!(again.expect("a resolved recipe is a recipe"), recipe);
    true
}

/// `adapter_config.json`; what is accepted means the same after it was written again.
pub fn adapter_config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let path = Path::new("adapter_config.json");
    let Ok((config, _)) = AdapterConfig::parse(text, path) else { return false };
    let again = AdapterConfig::parse(&config.to_json(), path);
    assert_eq!(again.expect("a written configuration is one").0, config);
    let paths: Vec<String> = (0..2).map(|layer| format!("model.layers.{layer}.self_attn.q_proj")).collect();
    let chosen = select(&paths, &config.target_modules, &config.exclude_modules);
    if let (Ok(chosen), Ok(matches)) = (chosen, matcher(&config.target_modules, &config.exclude_modules)) {
        assert!(chosen.indices.iter().all(|&i| matches(&paths[i])));
    }
    let patterns = config.patterns().expect("checked when it was read");
    let _ = patterns.scaling(&paths[0]);
    true
}

/// Lines of a chat; accepted where something is said or done. No entry is said empty, and what was typed is never open
/// after its end.
pub fn chat_input(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut input = Input::default();
    let mut entries: Vec<Entry> = text.split('\n').filter_map(|line| input.push(line)).collect();
    entries.push(input.finish());
    assert!(!input.is_open());
    for entry in &entries {
        match entry {
            Entry::Message(text) => assert!(!text.trim().is_empty()),
            Entry::Command(Command::Temperature(Some(t))) => assert!(t.is_finite() && *t >= 0.0),
            Entry::Wrong(what) => assert!(!what.is_empty()),
            _ => {}
        }
    }
    entries.iter().any(|entry| matches!(entry, Entry::Message(_) | Entry::Command(_)))
}

/// A chat template: it renders, or refuses to, in bounded time and memory.
pub fn chat_template(bytes: &[u8]) -> bool {
    let Ok(source) = std::str::from_utf8(bytes) else { return false };
    let start = Instant::now();
    let rendered = ChatTemplate::from_source(source, "<bos>", "<eos>").and_then(|template| {
        let turns = [(Role::User, "Hi"), (Role::Assistant, "Ho"), (Role::User, "He")];
        let messages = turns.map(|(role, text)| Message::new(role, text)).to_vec();
        template.verify(&Conversation { messages, tools: vec![] })
    });
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    rendered.is_ok()
}

/// A row of chat: what is accepted has one begin, and a begin and an end for each turn, whatever is said in it.
pub fn messages(bytes: &[u8]) -> bool {
    static ENCODER: LazyLock<Encoder> = LazyLock::new(|| {
        let encoder = tiny_encoder().expect("the tiny tokenizer");
        encoder.with_vocab_size(513).with_train_on(TrainOn::All)
    });
    let Ok(serde_json::Value::Object(row)) = serde_json::from_slice(bytes) else { return false };
    let Ok(Row::Conversation(conversation)) = RowFormat::Messages.parse(&row) else { return false };
    let Ok(tokenized) = ENCODER.encode_conversation(&conversation) else { return false };
    let tokenizer = ENCODER.tokenizer().expect("one");
    let count = |word: &str| tokenized.input_ids.iter().filter(|&&id| Some(id) == tokenizer.id(word)).count();
    assert_eq!((count("<bos>"), count("<eos>"), count("<image_soft_token>")), (1, 0, 0));
    assert_eq!(count("<start_of_turn>"), count("<end_of_turn>"));
    assert!(count("<start_of_turn>") <= conversation.messages.len());
    assert_eq!(tokenized.labels.len(), tokenized.input_ids.len());
    true
}

/// The body of a request to a server.
#[cfg(feature = "serve")]
pub fn request(bytes: &[u8]) -> bool {
    gemma_tune::serve::bodies::is_request(bytes)
}

/// A form with a file, after the header that names its boundary; its parts lie in it, one behind the other.
#[cfg(feature = "serve")]
pub fn upload(bytes: &[u8]) -> bool {
    let Some(parts) = gemma_tune::serve::bodies::parts_of_upload(bytes) else { return false };
    let ends = parts.iter().flat_map(|part| [part.start, part.end]);
    assert!(ends.clone().is_sorted() && ends.max().is_none_or(|end| end <= bytes.len() as u64), "{parts:?}");
    true
}
