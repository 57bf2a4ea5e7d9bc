//! Files of few rows that are read at once, understood as those of a data set are: rows to score, to compare models on, to
//! measure with.

use super::formats::{self, Columns, Guess, guesses, listed};
use super::layout::Layout;
use super::media;
use super::object::{Object, one_column};
use super::options::{OnBadRow, RowFormat};
use super::prepare::laid_out;
use super::row::Row;
use super::source::{self, Chunk, MAX_ROW_BYTES, Sink, SourceFile, is_table, local_only, read_rows};
use super::spec::{DataSpec, SourceSpec};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::{Progress, Silent};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// What columns are to be called where no recipe says what they hold.
const NAMES: &str = "call the columns `prompt` and `completion`, `messages`, `text` or `input_ids`";

/// The rows of a file, each with its number: a table (CSV, Parquet, Arrow), whose columns are seen from its first rows, or
/// rows of JSON, each of which is what it says.
///
/// # Errors
/// When the file cannot be read or has no rows, and the first row that is of no format.
pub fn read_few(path: &Path, progress: &dyn Progress) -> Result<Vec<(usize, Row)>> {
    if is_table(path)? {
        return of_table(path, progress);
    }
    let at = |number| Place::Row { path: path.into(), row: number };
    let row = |(number, object): (usize, Object)| Ok((number, understand(&object).map_err(|e| e.or_at(at(number)))?));
    read_rows(path)?.into_iter().map(|row| (row.number, row.object)).map(row).collect()
}

/// What a row by itself says: it is of the one format that its columns fit, or else of that of the one of `input_ids`, `text`
/// and `messages` that it has.
///
/// # Errors
/// When it is of none, and when it has two of these.
pub fn understand(row: &Object) -> Result<Row> {
    parse(row, None, &layout(row)?)
}

fn layout(row: &Object) -> Result<Layout> {
    const NAMED: [&str; 3] = ["input_ids", "text", "messages"];
    let named = one_column(row, &NAMED, "scored")?;
    // Beside the one that holds something, the others say nothing of the row.
    let is_blank = |name: &String| NAMED.contains(&name.as_str()) && named != Some(name.as_str());
    let told: Object =
        row.iter().filter(|(name, _)| !is_blank(name)).map(|(n, value)| (n.clone(), value.clone())).collect();
    let mut seen = guesses(&told, &BTreeMap::new(), None);
    if let [Guess::Rows(_)] = seen[..]
        && let Some(Guess::Rows(layout)) = seen.pop()
    {
        return Ok(layout);
    }
    match named {
        Some("input_ids") => Ok(Layout::new(RowFormat::Tokens, true)),
        Some("text") => Ok(Layout::new(RowFormat::Text, true)),
        Some(_) => Ok(Layout::new(RowFormat::Messages, true)),
        None => Err(of_no_format(row, &seen)),
    }
}

fn of_no_format(row: &Object, seen: &[Guess]) -> Error {
    let what = match seen {
        [] => "the row's columns fit no format that is known".to_owned(),
        [one] if one.name() == "prompt_only" => "the row has a prompt, and no answer to it".to_owned(),
        [one] => format!("the row is one of `{}`, which is not read here", one.name()),
        _ => "the row's columns fit more than one format".to_owned(),
    };
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    Error::new(Kind::Data, what).hint(format!("{}; {NAMES}", listed(&names)))
}

fn parse(row: &Object, of_file: Option<&[String]>, layout: &Layout) -> Result<Row> {
    media::refuse(row, of_file, layout)?;
    formats::parse(&Columns::new(row, of_file, layout)).map_err(|error| error.reword(&with_names))
}

/// A hint without the keys of a recipe that say what columns hold: there is none, and names are what helps.
fn with_names(hint: &str) -> String {
    let says_what =
        |piece: &&str| ["`data.columns", "`data.format", "`data.prompt"].iter().any(|key| piece.contains(key));
    let pieces: Vec<&str> = hint.split("; ").collect();
    match pieces.iter().any(says_what) {
        true => pieces.into_iter().filter(|piece| !says_what(piece)).chain([NAMES]).collect::<Vec<_>>().join("; "),
        false => hint.to_owned(),
    }
}

fn of_table(path: &Path, progress: &dyn Progress) -> Result<Vec<(usize, Row)>> {
    let spec = DataSpec {
        key: "--input",
        sources: vec![SourceSpec::new(path.display().to_string(), RowFormat::Auto)],
        max_length: usize::MAX,
        on_long: None,
        on_bad_row: OnBadRow::Error,
        max_row_bytes: MAX_ROW_BYTES,
        media: media::MediaRules::default(),
    };
    let (files, layouts) = laid_out(&spec, &local_only, progress).map_err(|error| error.reword(&with_names))?;
    let mut rows = Vec::new();
    for (file, layout) in files.iter().zip(&layouts) {
        read_into(&mut rows, file, layout)?;
    }
    match rows.is_empty() {
        true => Err(Error::new(Kind::Data, "the file has no rows").at_path(path)),
        false => Ok(rows),
    }
}

fn read_into(rows: &mut Vec<(usize, Row)>, file: &SourceFile, layout: &Layout) -> Result<()> {
    let (mut undecoded, mut wrong) = (Ok(()), None);
    let mut emit = |chunk: Chunk| {
        let columns = chunk.columns.clone();
        undecoded = chunk.decode(|number, object| {
            if wrong.is_some() {
                return;
            }
            match object.and_then(|object| parse(&object, columns.as_deref(), layout)) {
                Ok(row) => rows.push((number as usize, row)),
                Err(error) => {
                    wrong = Some(error.or_at(Place::Row { path: file.path.to_path_buf(), row: number as usize }));
                }
            }
        });
        if undecoded.is_ok() && wrong.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    source::read(file, &Silent, &mut Sink::new(0, MAX_ROW_BYTES, &mut emit))?;
    undecoded?;
    wrong.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::super::testing::write;
    use super::*;
    use crate::text::Role;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn understood(row: Value) -> Result<Row> {
        understand(row.as_object().unwrap())
    }

    fn roles(row: &Row) -> Vec<Role> {
        match row {
            Row::Conversation(talk) => talk.messages.iter().map(|message| message.role).collect(),
            other => panic!("no conversation: {other:?}"),
        }
    }

    #[test]
    fn a_row_is_what_it_would_be_as_data_and_without_an_answer_too() {
        let turns = json!([{"role": "user", "content": "a"}]);
        assert_eq!(roles(&understood(json!({"messages": turns})).unwrap()), [Role::User]);
        for row in [
            json!({"prompt": "a", "completion": "b"}),
            json!({"question": "a", "answer": "b", "id": 7}),
            json!({"instruction": "a", "input": "", "output": "b", "text": "c"}),
            json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        ] {
            assert_eq!(roles(&understood(row.clone()).unwrap()), [Role::User, Role::Assistant], "{row}");
        }
        assert_eq!(understood(json!({"text": "a", "id": 1})).unwrap(), Row::Text("a".into()));
        assert!(matches!(understood(json!({"input_ids": [2, 5], "text": ""})).unwrap(), Row::Tokens { .. }));
        assert_eq!(
            understood(json!({"text": "a", "messages": [], "input_ids": null})).unwrap(),
            Row::Text("a".into()),
            "what holds nothing is no reading"
        );
        // More than one reading: what the verb was always told by.
        let row = json!({"messages": turns, "chosen": "b", "rejected": "c"});
        assert_eq!(roles(&understood(row).unwrap()), [Role::User]);
    }

    #[test]
    fn a_row_of_no_format_is_told_what_to_be_called() {
        let problem = |row: Value| {
            let error = understood(row).unwrap_err();
            format!("{} [{}]", error.what(), error.hint_text().unwrap_or_default())
        };
        assert_eq!(
            problem(json!({"frage": "a"})),
            format!("the row's columns fit no format that is known [columns found: `frage`; {NAMES}]")
        );
        assert_eq!(
            problem(json!({"prompt": "a"})),
            format!("the row has a prompt, and no answer to it [columns found: `prompt`; {NAMES}]")
        );
        for row in [json!({"prompt": "a", "question": "b", "answer": "c"}), json!({"chosen": "a", "rejected": "b"})] {
            let problem = problem(row);
            assert!(problem.ends_with(&format!("; {NAMES}]")) && !problem.contains("`data."), "{problem}");
        }
        assert_eq!(problem(json!({"text": null})), "`text` is null [columns found: `text`]");
        let seen = understood(json!({"text": "a", "image": "a.png"})).unwrap_err();
        assert!(seen.what().contains("`image`"), "{seen}");
    }

    #[test]
    fn tables_are_read_by_their_columns() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| read_few(&write(dir.path(), name, text), &Silent);
        for (name, text) in [
            ("a.csv", "question,answer\na,b\nc,d\n"),
            ("b.tsv", "prompt\tcompletion\na\tb\nc\td\n"),
            // A table under the name of another.
            ("c.csv", "prompt;completion\na;b\nc;d\n"),
        ] {
            let rows = read(name, text).unwrap();
            assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [2, 3], "{name}");
            assert_eq!(roles(&rows[1].1), [Role::User, Role::Assistant], "{name}");
        }
        let rows = read("ids.csv", "input_ids\n\"[2, 5, 6]\"\n").unwrap();
        assert!(matches!(&rows[0].1, Row::Tokens { input_ids, .. } if *input_ids == [2, 5, 6]), "{rows:?}");
        let rows = read("texts.csv", "text,label\na,1\n").unwrap();
        assert_eq!(rows, [(2, Row::Text("a".into()))]);
        for (text, what) in [
            ("frage,antwort\na,b\n", "the columns fit no format that is known"),
            ("What is it?,A cat.\nAnd this?,A dog.\n", "the table seems to have no header"),
            ("prompt\na\n", "the rows are prompt_only rows"),
        ] {
            let error = read("wrong.csv", text).unwrap_err();
            let hint = error.hint_text().unwrap_or_default().to_owned();
            assert!(error.what().contains(what), "{error}");
            assert!(hint.ends_with(NAMES) && !hint.contains("`data."), "{hint}");
        }
        let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("Question", texts("a")), ("id", texts("7")), ("answer", texts("b"))]);
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let path = write(dir.path(), "rows.parquet", writer.into_inner().unwrap());
        let rows = read_few(&path, &Silent).unwrap();
        assert_eq!((rows.len(), rows[0].0, roles(&rows[0].1)), (1, 1, vec![Role::User, Role::Assistant]));
        assert_eq!(read("none.csv", "prompt,completion\n").unwrap_err().what(), "the file has no rows");
    }
}
