use super::resolve::{local_only, resolve};
use super::*;
use crate::data::options::RowFormat;
use crate::data::spec::SourceSpec;
use crate::data::testing::write;
use crate::error::Error;
use crate::progress::Silent;
use ::parquet::arrow::ArrowWriter;
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// All rows of a file as `(number, JSON or what is wrong)`, and how reading ended.
fn read_all(path: &Path) -> (Vec<(u32, String)>, Option<Error>) {
    let spec = SourceSpec::new(path.to_str().unwrap(), RowFormat::Messages);
    let file = resolve("data.train", &[spec], &local_only).unwrap().remove(0);
    let mut rows = Vec::new();
    let mut failed = None;
    let mut emit = |chunk: Chunk| {
        let decoded = chunk.decode(|number, row| {
            rows.push((number, row.map_or_else(|e| e.what().to_owned(), |row| serde_json::to_string(&row).unwrap())));
        });
        failed = decoded.err();
        ControlFlow::Continue(())
    };
    let ended = read(&file, &Silent, &mut Sink::new(0, MAX_ROW_BYTES, &mut emit));
    (rows, ended.err().or(failed))
}

fn rows_of(name: &str, content: impl AsRef<[u8]>) -> Vec<(u32, String)> {
    let dir = tempfile::tempdir().unwrap();
    let (rows, error) = read_all(&write(dir.path(), name, content));
    assert!(error.is_none(), "{error:?}");
    rows
}

/// What is wrong with a file, and at which row.
fn problem_of(name: &str, content: impl AsRef<[u8]>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (_, error) = read_all(&write(dir.path(), name, content));
    let error = error.expect("a problem");
    let place = error.place().unwrap().to_string().replace(dir.path().to_str().unwrap(), "");
    format!("{} --> {place}", error.what())
}

fn row(number: u32, text: &str) -> (u32, String) {
    (number, text.to_owned())
}

#[test]
fn lines_with_marks_blanks_and_either_line_end() {
    let rows = rows_of("a.jsonl", "\u{feff}{\"a\":1}\r\n\r\n  \n{\"a\":2}\n[3]\n{\"a\":\n{\"a\":4}");
    assert_eq!(
        rows,
        [
            row(1, r#"{"a":1}"#),
            row(4, r#"{"a":2}"#),
            row(5, "the row must be an object, found a list"),
            row(6, "the row is not valid JSON: EOF while parsing a value (column 5)"),
            row(7, r#"{"a":4}"#),
        ]
    );
    assert_eq!(rows_of("a.jsonl", ""), []);
}

#[test]
fn commas_and_comments_are_named_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let hints = |name: &str, text: &str| -> Vec<(u32, String)> {
        let rows = read_any(&write(dir.path(), name, text), &[], MAX_ROW_BYTES).unwrap();
        rows.into_iter().filter_map(|(row, read)| Some((row as u32, read.err()?.hint_text()?.to_owned()))).collect()
    };
    let (comma, comment) =
        ("a comma follows the object: end each line without one", "JSON has no comments: leave the line out");
    assert_eq!(hints("a.jsonl", "{\"a\":1}\n{\"a\":2},\n{\"a\":3}\n"), [row(2, comma)]);
    assert_eq!(
        hints("a.jsonl", "{\"a\":1}\n// later\n# {\"a\":2}\n{\"a\":3} // so\n"),
        [row(2, comment), row(3, comment)]
    );
    // A list that has lost its brackets.
    let lost = "{\"a\":1},\n{\"a\":2},\n";
    let what = "the document is not valid JSON: a comma follows the row, and there is no list around it";
    for name in ["a.jsonl", "a.json"] {
        assert_eq!(problem_of(name, lost), format!("{what} --> /{name}, row 1"));
    }
}

#[test]
fn bytes_that_are_no_utf8_are_named_by_row() {
    let rows = rows_of("a.jsonl", b"{\"a\":1}\n{\"a\":\"\xff\"}\n");
    assert_eq!(rows, [row(1, r#"{"a":1}"#), row(2, "the row is not valid UTF-8 at its byte 7")]);
    assert_eq!(problem_of("a.jsonl", b"\xff\xfe{\0}\0"), "the file is UTF-16, not UTF-8 --> /a.jsonl");
}

#[test]
fn a_huge_line_is_one_broken_row() {
    let mut content = b"{\"a\":1}\n{\"a\":\"".to_vec();
    content.resize(content.len() + MAX_ROW_BYTES, b'x');
    content.extend(b"\"}\n{\"a\":3}\n");
    assert_eq!(
        rows_of("a.jsonl", &content),
        [
            row(1, r#"{"a":1}"#),
            row(2, "the row has 16777224 bytes, and at most 16777216 are read"),
            row(3, r#"{"a":3}"#)
        ]
    );
    content.insert(0, b'[');
    content[8] = b',';
    let third = content.len() - 9;
    content[third] = b',';
    *content.last_mut().unwrap() = b']';
    assert_eq!(
        rows_of("a.json", &content),
        [
            row(1, r#"{"a":1}"#),
            row(2, "the row has 16777224 bytes, and at most 16777216 are read"),
            row(3, r#"{"a":3}"#)
        ]
    );
}

#[test]
fn many_lines_make_several_chunks_in_order() {
    let lines: String = (1..=20_000).map(|i| format!("{{\"a\":{i}}}\n")).collect();
    let rows = rows_of("a.jsonl", lines);
    assert_eq!(rows.len(), 20_000);
    assert!(rows.iter().zip(1..).all(|((number, text), i)| *number == i && *text == format!("{{\"a\":{i}}}")));
}

#[test]
fn compressed_files_and_what_is_left_of_them() {
    let lines: String = (0..5000).map(|i| format!("{{\"a\":{}}}\n", i * 7919 % 5000)).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    assert_eq!(rows_of("a.jsonl.gz", &gzip), rows_of("a.jsonl", &lines));
    assert_eq!(rows_of("a.jsonl.zst", &zstd), rows_of("a.jsonl", &lines));
    let twice = [&gzip[..], &gzip].concat();
    assert_eq!(rows_of("a.jsonl.gz", twice).len(), 10_000, "members are concatenated");

    let cut = problem_of("a.jsonl.gz", &gzip[..gzip.len() / 2]);
    assert!(cut.starts_with("the file ends in the middle of its gzip data --> /a.jsonl.gz, row "), "{cut}");
    let cut = problem_of("a.jsonl.zst", &zstd[..zstd.len() / 2]);
    assert!(cut.starts_with("the file ends in the middle of its zstd data --> /a.jsonl.zst, row "), "{cut}");
    let mut damaged = gzip.clone();
    damaged[gzip.len() / 2] ^= 0xff;
    let damaged = problem_of("a.jsonl.gz", damaged);
    assert!(damaged.starts_with("the file's gzip data is damaged"), "{damaged}");
    assert!(problem_of("a.jsonl.zst", "{\"a\":1}\n").starts_with("the file's zstd data is damaged"));
}

#[test]
fn json_documents_of_three_kinds() {
    let expected = [row(1, r#"{"a":"[}\"{"}"#), row(2, r#"{"a":[{"b":1}]}"#)];
    let (one, two) = (r#"{ "a": "[}\"{" }"#, "{\"a\":\n [{\"b\": 1}]}");
    assert_eq!(rows_of("a.json", format!("\u{feff} [{one},\n{two} ]\n")), expected);
    assert_eq!(
        rows_of("a.json", format!("{{\"version\": [1, {{\"data\": []}}], \"data\": [{one}, {two}], \"x\": 1}}")),
        expected
    );
    assert_eq!(rows_of("a.json", format!("{one}\n{two}")), expected);
    assert_eq!(rows_of("a.json", "[]"), []);
    assert_eq!(rows_of("a.json", " "), []);
    assert_eq!(
        rows_of("a.json", "[1, nul]")[1],
        row(2, "the row is not valid JSON: EOF while parsing a value (column 3)")
    );
}

#[test]
fn broken_documents_say_where() {
    for (content, expected) in [
        ("[{\"a\": 1}, {\"a\"", "the document is not valid JSON: it ends in the middle of the row --> /a.json, row 2"),
        ("[{\"a\": 1}, ", "the document is not valid JSON: it ends in the middle of the row --> /a.json, row 2"),
        ("[{\"a\": 1}", "the document is not valid JSON: it ends in the middle of the list --> /a.json, row 1"),
        (
            "[{\"a\": 1} {\"a\": 2}]",
            "the document is not valid JSON: `,` or `]` must follow the row --> /a.json, row 1",
        ),
        ("[{\"a\": 1},, {\"a\": 2}]", "the document is not valid JSON: a value is missing --> /a.json, row 2"),
        ("[] x", "the document is not valid JSON: text follows the end of the list --> /a.json, row 1"),
        ("[1]]", "the document is not valid JSON: text follows the end of the list --> /a.json, row 1"),
        ("{\"data\": [1", "the document is not valid JSON: it ends in the middle of the list --> /a.json, row 1"),
        ("{\"data\"", "the document is not valid JSON: `:` is missing --> /a.json, row 1"),
        ("hello", "the document must start with `[` or `{`, found `h` --> /a.json"),
    ] {
        assert_eq!(problem_of("a.json", content), expected, "{content}");
    }
}

#[test]
fn csv_records_with_quotes_and_wrong_ones() {
    let rows = rows_of("a.csv", "\u{feff}text,n\r\n\"a, \"\"b\"\"\nc\",1\nx\ny,é\n");
    assert_eq!(
        rows,
        [
            row(2, r#"{"text":"a, \"b\"\nc","n":"1"}"#),
            row(3, "the record has 1 field, the header has 2 (line 4)"),
            row(4, r#"{"text":"y","n":"é"}"#),
        ]
    );
    assert_eq!(rows_of("a.tsv", "a\tb\n1,2\t3\n"), [row(2, r#"{"a":"1,2","b":"3"}"#)]);
    // Damaged UTF-8, told from Windows-1252 by the sound `é`.
    let rows = rows_of("a.csv", b"a\n\xff\n\xc3\xa9\n");
    assert_eq!(rows, [row(2, "the row is not valid UTF-8 at its byte 1"), row(3, r#"{"a":"é"}"#)]);
    assert_eq!(problem_of("a.csv", "a,b,a\n"), "column `a` stands twice in the header --> /a.csv, row 1");
    let mut unclosed = b"a\n\"".to_vec();
    unclosed.resize(MAX_ROW_BYTES + (2 << 20), b'x');
    let never = "the quote that opens a cell in line 2 is never closed: all that follows would be one cell";
    assert_eq!(problem_of("a.csv", unclosed), format!("{never} --> /a.csv, row 2"));
    let large = format!("a\n\"{}\"\nb\n", "x\n".repeat(MAX_ROW_BYTES / 2));
    let too_large = "the row has 16777218 bytes, and at most 16777216 are read";
    assert_eq!(rows_of("a.csv", large), [row(2, too_large), row(3, r#"{"a":"b"}"#)]);
}

/// As Hugging Face stores conversations: a list of structs, with all keys of the whole file in each.
fn parquet_of_messages(rows: usize) -> Vec<u8> {
    let texts =
        |text: &str| Arc::new(StringArray::from_iter_values((0..2 * rows).map(|i| format!("{text}{i}")))) as ArrayRef;
    let nullable = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
    let roles = StringArray::from_iter_values((0..2 * rows).map(|i| ["user", "assistant"][i % 2]));
    let tool_calls: Vec<Option<&str>> = vec![None; 2 * rows];
    let messages = StructArray::from(vec![
        (nullable("content"), texts("text ")),
        (nullable("role"), Arc::new(roles) as ArrayRef),
        (nullable("tool_calls"), Arc::new(StringArray::from(tool_calls)) as ArrayRef),
    ]);
    let item = Arc::new(Field::new("item", messages.data_type().clone(), true));
    let lists = ListArray::new(item, OffsetBuffer::from_repeated_length(2, rows), Arc::new(messages), None);
    let batch = RecordBatch::try_from_iter([
        ("messages", Arc::new(lists) as ArrayRef),
        ("source", Arc::new(LargeStringArray::from_iter_values((0..rows).map(|i| format!("s{i}")))) as ArrayRef),
        (
            "labels",
            Arc::new(Int64Array::from_iter((0..rows as i64).map(|i| (i % 2 == 0).then_some(-100 * i)))) as ArrayRef,
        ),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn nested_parquet_columns_come_out_as_json_without_nulls() {
    let rows = rows_of("a.parquet", parquet_of_messages(3000));
    assert_eq!(rows.len(), 3000);
    assert_eq!(
        rows[0].1,
        r#"{"messages":[{"content":"text 0","role":"user"},{"content":"text 1","role":"assistant"}],"labels":0}"#
    );
    assert_eq!(
        rows[2999],
        row(3000, r#"{"messages":[{"content":"text 5998","role":"user"},{"content":"text 5999","role":"assistant"}]}"#)
    );
}

#[test]
fn columns_of_no_format_are_listed_but_not_read() {
    let column = Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("embedding", column)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    assert_eq!(rows_of("a.parquet", writer.into_inner().unwrap()), [row(1, "{}"), row(2, "{}")]);
}

#[test]
fn damaged_parquet_is_an_error_and_never_a_panic() {
    let sound = parquet_of_messages(200);
    assert!(problem_of("a.parquet", &sound[..sound.len() / 2]).starts_with("the file is damaged or no Parquet file"));
    assert!(problem_of("a.parquet", "").starts_with("the file is damaged or no Parquet file"));
    let dir = tempfile::tempdir().unwrap();
    let mut damaged = 0;
    for at in (0..sound.len()).step_by(sound.len() / 400) {
        for flip in [0xff, 0x01, 0x80] {
            let mut content = sound.clone();
            content[at] ^= flip;
            damaged += u32::from(read_all(&write(dir.path(), "a.parquet", content)).1.is_some());
        }
    }
    assert!(damaged > 100, "{damaged} of 1200 flips were noticed");
}

#[test]
fn reading_stops_when_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"a\":1}\n".repeat(100_000);
    let contents = [
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.json", lines.into_bytes()),
        ("a.csv", "a\nb\n".repeat(100_000).into_bytes()),
        ("a.parquet", parquet_of_messages(5000)),
    ];
    for (name, content) in contents {
        let path = write(dir.path(), name, content);
        let spec = SourceSpec::new(path.to_str().unwrap(), RowFormat::Messages);
        let file = resolve("data.train", &[spec], &local_only).unwrap().remove(0);
        let mut chunks = 0;
        let mut emit = |_| {
            chunks += 1;
            ControlFlow::Break(())
        };
        read(&file, &Silent, &mut Sink::new(0, MAX_ROW_BYTES, &mut emit)).unwrap();
        assert_eq!(chunks, 1, "{name}");
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet_of(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn texts_typed_as_bytes_are_texts_and_other_bytes_are_no_digits() {
    let texts: Vec<Option<&[u8]>> = vec![Some("0x1é".as_bytes()), Some(b"\xff\xfe"), None];
    let column = Arc::new(BinaryArray::from(texts)) as ArrayRef;
    let numbers = Arc::new(StringArray::from(vec!["007", "1.0", "1e3"])) as ArrayRef;
    let rows = rows_of("a.parquet", parquet_of(&batch(vec![("text", column), ("prompt", numbers)])));
    assert_eq!(rows[0].1, r#"{"text":"0x1é","prompt":"007"}"#);
    assert_eq!(rows[2].1, r#"{"prompt":"1e3"}"#);
    let second: serde_json::Value = serde_json::from_str(&rows[1].1).unwrap();
    assert_eq!(crate::data::object::kind_name(&second["text"]), "bytes that are no UTF-8 text");
}

fn arrow_stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

/// As `save_to_disk` leaves two files of one data set.
#[test]
fn saved_folders_are_read_file_by_file() {
    let texts = |texts: &[&str]| {
        let more = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64)) as ArrayRef;
        batch(vec![("text", Arc::new(StringArray::from(texts.to_vec())) as ArrayRef), ("unused", more)])
    };
    let dir = tempfile::tempdir().unwrap();
    let train = dir.path().join("saved/train");
    std::fs::create_dir_all(&train).unwrap();
    write(&train, "data-00000-of-00002.arrow", arrow_stream(&[texts(&["a", "b"]), texts(&["c"])]));
    write(&train, "data-00001-of-00002.arrow", arrow_stream(&[texts(&["d"])]));
    let files =
        r#"{"_data_files": [{"filename": "data-00001-of-00002.arrow"}, {"filename": "data-00000-of-00002.arrow"}]}"#;
    write(&train, "state.json", files);
    write(&dir.path().join("saved"), "dataset_dict.json", r#"{"splits": ["train"]}"#);
    let found = |path: &Path, split: Option<&str>| {
        let mut spec = SourceSpec::new(path.to_str().unwrap(), RowFormat::Text);
        spec.split = split.map(Into::into);
        resolve("data.train", &[spec], &local_only)
    };
    for path in [dir.path().join("saved"), train.clone()] {
        let files = found(&path, None).unwrap();
        let rows: Vec<_> = files.iter().flat_map(|file| read_all(&file.path).0).collect();
        let expected = [
            row(1, r#"{"text":"d"}"#),
            row(1, r#"{"text":"a"}"#),
            row(2, r#"{"text":"b"}"#),
            row(3, r#"{"text":"c"}"#),
        ];
        assert_eq!(rows, expected);
    }
    let split = found(&dir.path().join("saved"), Some("test")).unwrap_err();
    assert!(split.what().ends_with("has no split `test`; it has `train`"), "{split}");

    let sound = arrow_stream(&[texts(&["a", "b"])]);
    assert!(problem_of("a.arrow", &sound[..sound.len() / 2]).contains("damaged or no Arrow file"));
    for at in 0..sound.len() {
        let mut content = sound.clone();
        content[at] ^= 0x81;
        let _ = read_all(&write(dir.path(), "flipped.arrow", content));
    }
    let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &texts(&["a"]).schema()).unwrap();
    file.write(&texts(&["a"])).unwrap();
    assert_eq!(rows_of("named.jsonl", file.into_inner().unwrap()), [row(1, r#"{"text":"a"}"#)]);
}

#[test]
fn a_table_of_many_columns_is_read_in_linear_time() {
    let header: Vec<String> = (0..60_000).map(|i| format!("column_{i}")).collect();
    let table = format!("text,{}\na{}\n", header.join(","), ",b".repeat(60_000));
    let started = std::time::Instant::now();
    assert_eq!(rows_of("a.csv", table).len(), 1);
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// Cells of all kinds, quoted where they must be and sometimes where they need not.
fn quoted(cell: &str, always: bool) -> String {
    let must = cell.contains([',', '"', '\n', '\r', ';', '\t', '|']);
    if must || always { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

proptest::proptest! {
    #[test]
    fn every_table_that_is_written_well_comes_back(
        rows in proptest::collection::vec(("[a-z,\"\n; é]{0,8}", "[a-z,\"\r\n|]{1,8}", proptest::bool::ANY), 1..20)
    ) {
        let mut table = "prompt,completion\n".to_owned();
        for (a, b, always) in &rows {
            table.push_str(&format!("{},{}\n", quoted(a, *always), quoted(b, *always)));
        }
        let read: Vec<String> = rows_of("a.csv", table).into_iter().map(|(_, row)| row).collect();
        let expected: Vec<String> = rows
            .iter()
            .map(|(a, b, _)| serde_json::json!({"prompt": a, "completion": b}).to_string())
            .collect();
        proptest::prop_assert_eq!(read, expected);
    }
}
