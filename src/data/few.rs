//! Files of few rows that are read at once, understood as those of a data set are: rows to score, to compare models on, to
//! measure with.

use super::formats::{self, Columns, Guess, guesses, listed, unread_media};
use super::layout::Layout;
use super::media;
use super::object::{Object, holds, one_column};
use super::options::{OnBadRow, RowFormat};
use super::prepare::laid_out;
use super::row::Row;
use super::source::{self, Chunk, MAX_ROW_BYTES, Sink, SourceFile, is_table, local_only, read_rows};
use super::spec::{DataSpec, SourceSpec};
use super::spelling::spelt;
use super::survey::unread_in;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::{Progress, Silent};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// What columns are to be called where no recipe says what they hold.
const NAMES: &str = "call the columns `prompt` and `completion`, `messages`, `text` or `input_ids`";
/// The same where some of them are called so.
const FORMATS: &str = "a row has `prompt` and `completion`, or one of `messages`, `text` and `input_ids`";
/// What is to be done where columns can be read in several ways.
const ONE: &str = "keep the columns of the one that is meant";

/// A row of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FewRow {
    /// Its number in the file.
    pub number: usize,
    /// What it says.
    pub row: Row,
    /// What to do about a column that seems to hold pictures or sounds and is not read, in a row that shows none.
    pub unread: Option<String>,
}

impl FewRow {
    fn new(number: usize, mut row: Row, unread: impl FnOnce() -> Option<String>) -> Self {
        let is_blind = row.media_mut().is_empty();
        let unread = if is_blind { unread().map(|hint| with_names(&hint)) } else { None };
        FewRow { number, row, unread }
    }
}

/// The rows of a file: a table (CSV, Parquet, Arrow), whose columns are seen from its first rows, or rows of JSON, each of
/// which is what it says.
///
/// # Errors
/// When the file cannot be read or has no rows, and the first row that is of no format, or of more than one.
pub fn read_few(path: &Path, progress: &dyn Progress) -> Result<Vec<FewRow>> {
    read_with(path, &layout, progress)
}

/// As [`read_few`], of rows that may be pairs of answers too, or prompts and who is to answer them; those of tables may not.
///
/// # Errors
/// As [`read_few`].
pub fn read_few_or_pairs(path: &Path, progress: &dyn Progress) -> Result<Vec<FewRow>> {
    let of_row = |row: &Object| match &guesses(row, &BTreeMap::new(), None)[..] {
        [Guess::OtherTask("preference", _)] => in_row(row, Layout::new(RowFormat::Preference, true)),
        // A prompt, and who is to answer it.
        [guess] if guess.is_routed(row) => in_row(row, Layout::new(RowFormat::Unpaired, true)),
        _ => layout(row),
    };
    read_with(path, &of_row, progress)
}

fn read_with(path: &Path, layout: &dyn Fn(&Object) -> Result<Layout>, progress: &dyn Progress) -> Result<Vec<FewRow>> {
    if is_table(path)? {
        return of_table(path, progress);
    }
    let at = |number| Place::Row { path: path.into(), row: number };
    let row = |(number, object): (usize, Object)| {
        let layout = layout(&object).map_err(|e| e.or_at(at(number)))?;
        let row = parse(&object, None, &layout).map_err(|e| e.or_at(at(number)))?;
        Ok(FewRow::new(number, row, || unread_media(&object, None, &|name| layout.reads(name))))
    };
    read_rows(path)?.into_iter().map(|row| (row.number, row.object)).map(row).collect()
}

/// What a row by itself says: it is of the one format that its columns fit, or else of that of the one of `input_ids`, `text`
/// and `messages` that it has.
///
/// # Errors
/// When it is of none, and when it is of two.
pub fn understand(row: &Object) -> Result<Row> {
    parse(row, None, &layout(row)?)
}

/// What to do about a column of a row with `prompt` or `messages` that seems to hold pictures or sounds and is not read.
pub fn unread_beside_prompt(row: &Object) -> Option<String> {
    let layout = Layout::new(RowFormat::Messages, true);
    unread_media(row, None, &|name| name == "prompt" || layout.reads(name)).map(|hint| with_names(&hint))
}

fn layout(row: &Object) -> Result<Layout> {
    in_row(row, meant(row)?)
}

/// A layout with its columns as the row spells them.
fn in_row(row: &Object, layout: Layout) -> Result<Layout> {
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    let found = spelt(layout, &BTreeMap::new(), &names, &|name| row.get(name).is_some_and(holds));
    found.map_err(|error| error.reword(&|hint| with_names(&format!("{}; {hint}", listed(&names)))))
}

/// What a row is, by its columns.
fn meant(row: &Object) -> Result<Layout> {
    const NAMED: [&str; 3] = ["input_ids", "text", "messages"];
    let named = one_column(row, &NAMED, "scored")?;
    let is_of_rows = |guess: &Guess| matches!(guess, Guess::Rows(_));
    // What holds nothing says nothing of the row, unless that is all there is.
    let told: Object =
        row.iter().filter(|(_, value)| holds(value)).map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut seen = guesses(&told, &BTreeMap::new(), None);
    if !seen.iter().any(is_of_rows) {
        seen = guesses(row, &BTreeMap::new(), None);
    }
    let is_meant = |guess: &Guess| seen.len() == 1 || named.is_some_and(|named| guess.columns() == [named]);
    let of_rows = |guess: &Guess| match guess {
        Guess::Rows(layout) => Some((is_meant(guess), layout.clone())),
        Guess::OtherTask(..) => None,
    };
    match (&seen.iter().filter_map(of_rows).collect::<Vec<_>>()[..], named) {
        ([(true, layout)], _) => Ok(layout.clone()),
        ([], Some("input_ids")) => Ok(Layout::new(RowFormat::Tokens, true)),
        ([], Some("text")) => Ok(Layout::new(RowFormat::Text, true)),
        ([], Some(_)) => Ok(Layout::new(RowFormat::Messages, true)),
        _ => Err(of_no_format(row, &seen)),
    }
}

fn of_no_format(row: &Object, seen: &[Guess]) -> Error {
    let readings = || seen.iter().map(Guess::reading).collect::<Vec<_>>().join(", or ");
    let what = match seen {
        [] => "the row's columns fit no format that is known".to_owned(),
        [one] if one.name() == "prompt_only" => "the row has a prompt, and no answer to it".to_owned(),
        [one] if one.is_unanswered(row) => "the row judges an answer, and has none".to_owned(),
        [one] => format!("the row is one of `{}`, which is not read here", one.name()),
        _ => format!("the row's columns fit more than one format: {}", readings()),
    };
    let found = listed(&row.keys().map(String::as_str).collect::<Vec<_>>());
    let names = if seen.len() > 1 { ONE } else { names_beside(&found) };
    Error::new(Kind::Data, what).hint(format!("{found}; {names}"))
}

/// What columns are to be called beside those `found`.
fn names_beside(found: &str) -> &'static str {
    let is_named = |name: &str| found.starts_with("columns found: ") && found.contains(name);
    match ["`prompt`", "`completion`", "`messages`", "`text`", "`input_ids`"].into_iter().any(is_named) {
        true => FORMATS,
        false => NAMES,
    }
}

fn parse(row: &Object, of_file: Option<&[String]>, layout: &Layout) -> Result<Row> {
    media::refuse(row, of_file, layout)?;
    formats::parse(&Columns::new(row, of_file, layout)).map_err(|error| error.reword(&with_names))
}

/// A hint without the keys of a recipe that say what columns hold, or what becomes of bad rows: there is none, and names are what
/// helps.
fn with_names(hint: &str) -> String {
    let names_key =
        |piece: &str| ["`data.columns", "`data.format", "`data.prompt"].iter().any(|key| piece.contains(key));
    // What one column is to be called: `` `picture` seems to hold pictures: `data.columns: {image: picture}` reads them ``.
    let called = |piece: &str| {
        let (said, key) = piece.split_once(": `data.columns: {")?;
        let (own, _) = key.split_once(": ").filter(|_| said.contains(" seems to hold "))?;
        Some(format!("{said}: call it `{own}`"))
    };
    let (mut pieces, mut names) = (Vec::new(), None);
    for piece in hint.split("; ") {
        match called(piece) {
            Some(called) => pieces.push(called),
            None if piece.starts_with("`data.on_bad_row") => {}
            None if !names_key(piece) => pieces.push(piece.to_owned()),
            None if piece.starts_with("say which") => names = Some(ONE),
            None => names = names.or(Some(names_beside(hint.split("; ").next().unwrap_or_default()))),
        }
    }
    pieces.into_iter().chain(names.map(str::to_owned)).collect::<Vec<_>>().join("; ")
}

fn of_table(path: &Path, progress: &dyn Progress) -> Result<Vec<FewRow>> {
    let spec = DataSpec {
        key: "--input",
        sources: vec![SourceSpec::new(path.display().to_string(), RowFormat::Auto)],
        max_length: usize::MAX,
        on_long: None,
        on_bad_row: OnBadRow::Error,
        max_row_bytes: MAX_ROW_BYTES,
        media: media::MediaRules::default(),
        with_eos: false,
        unpair: false,
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

fn read_into(rows: &mut Vec<FewRow>, file: &SourceFile, layout: &Layout) -> Result<()> {
    let unread = unread_in(file, layout, MAX_ROW_BYTES)?;
    let (mut undecoded, mut wrong) = (Ok(()), None);
    let mut emit = |chunk: Chunk| {
        let columns = chunk.columns.clone();
        undecoded = chunk.decode(|number, object| {
            if wrong.is_some() {
                return;
            }
            match object.and_then(|object| parse(&object, columns.as_deref(), layout)) {
                Ok(row) => rows.push(FewRow::new(number as usize, row, || unread.clone())),
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
        // Of rows of another task: what the verb was always told by.
        let row = json!({"messages": turns, "chosen": "b", "rejected": "c"});
        assert_eq!(roles(&understood(row).unwrap()), [Role::User]);
        let row = json!({"text": "a", "chosen": "b", "rejected": "c"});
        assert_eq!(understood(row).unwrap(), Row::Text("a".into()));
        for row in [
            json!({"instruction": "a", "output": "b", "completion": ""}),
            json!({"prompt": "a", "completion": "b", "messages": [], "conversations": null}),
            json!({"prompt": "a", "completion": ""}),
        ] {
            assert_eq!(roles(&understood(row.clone()).unwrap()), [Role::User, Role::Assistant], "{row}");
        }
        let row = json!({"text": "a", "prompt": "", "completion": " "});
        assert_eq!(understood(row).unwrap(), Row::Text("a".into()));
    }

    #[test]
    fn a_row_that_can_be_read_in_two_ways_is_refused_as_in_training() {
        let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        let shared = json!([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]);
        for (row, readings) in [
            (
                json!({"messages": turns, "conversations": shared}),
                "`messages` (`messages`), or `sharegpt` (`conversations`)",
            ),
            (
                json!({"messages": turns, "prompt": "c", "completion": "d"}),
                "`messages` (`messages`), or `prompt_completion` (`prompt`, `completion`)",
            ),
            (
                json!({"input_ids": [2, 5], "instruction": "c", "output": "d"}),
                "`tokens` (`input_ids`), or `alpaca` (`instruction`, `output`)",
            ),
        ] {
            let error = understood(row.clone()).unwrap_err();
            assert_eq!(error.what(), format!("the row's columns fit more than one format: {readings}"), "{row}");
            assert!(error.hint_text().unwrap().ends_with(&format!("; {ONE}")), "{error}");
        }
    }

    #[test]
    fn pairs_and_prompts_with_who_answers_are_read_in_any_case() {
        let dir = tempfile::tempdir().unwrap();
        let read = |row: Value| {
            let rows = read_few_or_pairs(&write(dir.path(), "rows.jsonl", row.to_string()), &Silent);
            rows.map(|mut rows| rows.remove(0).row)
        };
        for row in [json!({"prompt": "a", "label": "local"}), json!({"Prompt": "a", "Label": " Remote"})] {
            assert!(matches!(read(row.clone()).unwrap(), Row::Unpaired { .. }), "{row}");
        }
        let pair = json!({"Prompt": "a", "Chosen": "b", "REJECTED": "c"});
        assert!(matches!(read(pair).unwrap(), Row::Preference { .. }));
        // A judgement is no word for who is to answer.
        for label in [json!(false), json!("true")] {
            let error = read(json!({"prompt": "a", "label": label})).unwrap_err();
            assert_eq!(error.what(), "the row judges an answer, and has none", "{label}");
        }
        let error = understood(json!({"prompt": "a", "Prompt": "b", "completion": "c"})).unwrap_err();
        assert!(error.what().starts_with("`prompt` and `Prompt` are one name in two spellings"), "{error}");
        assert!(error.hint_text().unwrap().ends_with(ONE), "{error}");
    }

    #[test]
    fn a_column_that_seems_to_hold_media_is_told_what_to_be_called() {
        let dir = tempfile::tempdir().unwrap();
        let unread = |name: &str, text: &str| {
            let rows = read_few(&write(dir.path(), name, text), &Silent).unwrap();
            rows.into_iter().next_back().unwrap().unread
        };
        let told = "`picture` seems to hold pictures: call it `image`; the names that are known are `image`, `images`, `audio`, \
                    `audios` and `file_name`";
        let row = json!({"prompt": "a", "completion": "b", "picture": "a.png"}).to_string();
        assert_eq!(unread("a.jsonl", &row).as_deref(), Some(told));
        assert_eq!(unread("b.csv", "prompt,completion,picture\na,b,a.png\n").as_deref(), Some(told));
        let row = json!({"prompt": "a", "completion": "b", "image": "a.png", "picture": "b.png"}).to_string();
        assert_eq!(unread("c.jsonl", &row), None, "it shows one");
        assert_eq!(unread("d.csv", "prompt,completion,note\na,b,c\n"), None);
        let beside = |row: Value| unread_beside_prompt(row.as_object().unwrap());
        assert_eq!(beside(json!({"prompt": "a.png", "picture": "b.png"})).as_deref(), Some(told));
        assert_eq!(beside(json!({"prompt": "a.png", "id": "b"})), None);
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
            format!("the row has a prompt, and no answer to it [columns found: `prompt`; {FORMATS}]")
        );
        for (row, told) in [
            (json!({"prompt": "a", "question": "b", "answer": "c"}), ONE),
            (json!({"chosen": "a", "rejected": "b"}), NAMES),
            (json!({"completion": "a", "id": 7}), FORMATS),
        ] {
            let problem = problem(row);
            assert!(problem.ends_with(&format!("; {told}]")) && !problem.contains("`data."), "{problem}");
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
            // Cells that hold nothing are no other answer.
            ("d.csv", "instruction,output,completion\na,b,\nc,d,\n"),
        ] {
            let rows = read(name, text).unwrap();
            assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [2, 3], "{name}");
            assert_eq!(roles(&rows[1].row), [Role::User, Role::Assistant], "{name}");
        }
        let rows = read("ids.csv", "input_ids\n\"[2, 5, 6]\"\n").unwrap();
        assert!(matches!(&rows[0].row, Row::Tokens { input_ids, .. } if *input_ids == [2, 5, 6]), "{rows:?}");
        let rows = read("texts.csv", "text,label\na,1\n").unwrap();
        assert_eq!(rows, [FewRow { number: 2, row: Row::Text("a".into()), unread: None }]);
        for (text, what, told) in [
            ("frage,antwort\na,b\n", "the columns fit no format that is known", NAMES),
            ("What is it?,A cat.\nAnd this?,A dog.\n", "the table seems to have no header", NAMES),
            ("prompt\na\n", "the rows are prompt_only rows", FORMATS),
            ("question,answer,prompt\na,b,c\n", "the columns fit more than one format", ONE),
        ] {
            let error = read("wrong.csv", text).unwrap_err();
            let hint = error.hint_text().unwrap_or_default().to_owned();
            assert!(error.what().contains(what), "{error}");
            assert!(hint.ends_with(told) && !hint.contains("`data."), "{hint}");
        }
        let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("Question", texts("a")), ("id", texts("7")), ("answer", texts("b"))]);
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let path = write(dir.path(), "rows.parquet", writer.into_inner().unwrap());
        let rows = read_few(&path, &Silent).unwrap();
        assert_eq!((rows.len(), rows[0].number, roles(&rows[0].row)), (1, 1, vec![Role::User, Role::Assistant]));
        assert_eq!(read("none.csv", "prompt,completion\n").unwrap_err().what(), "the file has no rows");
    }
}
