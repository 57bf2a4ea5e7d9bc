//! How each file is read, found out before its rows are: from what the spec says, and from the file's first rows.

use super::formats::{Guess, guesses, listed, may_mean, shown, unread_media};
use super::layout::{Asked, Layout};
use super::misread;
use super::object::{Object, holds};
use super::options::RowFormat;
use super::source::{self, Chunk, FileKind, Sink, SourceFile};
use super::spec::{DataSpec, SourceSpec};
use super::spelling::spelt;
use super::unnamed::UnnamedColumns;
use crate::error::{Error, Kind, Place, Result, did_you_mean};
use crate::progress::{Progress, Silent};
use crate::text::MediaKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Rows that are looked at: enough to meet a row of another kind that was mixed in, few enough to be read at once.
const FIRST_ROWS: usize = 20;

/// Columns that a remark lists.
const LISTED: usize = 8;

/// The layout of each of `files`; says which formats it saw.
///
/// # Errors
/// All files whose first rows fit no format, or more than one, or have no column that the spec names.
pub(super) fn survey(spec: &DataSpec, files: &[SourceFile], progress: &dyn Progress) -> Result<Vec<Layout>> {
    let (mut layouts, mut problems, mut seen) = (Vec::new(), Vec::new(), Vec::<(usize, String, &Path, usize)>::new());
    for file in files {
        let source = &spec.sources[file.source];
        let found = look(spec, source, file).map_err(|e| e.or_at(Place::Path(file.path.to_path_buf())));
        match found {
            Ok((layout, said)) => {
                let of_cells = matches!(file.contents.kind, FileKind::Csv { .. });
                layouts.push(Layout { of_cells, ..layout });
                let Some(said) = said else { continue };
                match seen.last_mut() {
                    Some((source, before, _, files)) if *source == file.source && *before == said => *files += 1,
                    _ => seen.push((file.source, said, &file.path, 1)),
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    for (source, said, path, files) in seen {
        let path = path.display();
        match files {
            1 => progress.note(&format!("{path}: {said}")),
            _ => progress.note(&format!("{} ({files} files, from {path}): {said}", spec.sources[source].path)),
        }
    }
    let asks = spec.key == "data.train" && spec.sources.iter().any(|source| source.prompt.is_some());
    if asks && problems.is_empty() && !layouts.iter().any(|layout| layout.prompt.is_some()) {
        problems.push(asked_of_none(files, &layouts));
    }
    Error::many(problems).map_or(Ok(layouts), Err)
}

/// The error for a prompt that no row needs.
fn asked_of_none(files: &[SourceFile], layouts: &[Layout]) -> Error {
    let of_first = files.iter().zip(layouts).next().map(|(file, layout)| match layout.format {
        RowFormat::PromptCompletion => format!("`{}` has a prompt in each row", file.path.display()),
        format => format!("`{}` is read as `{format}`", file.path.display()),
    });
    let what = format!("`data.prompt` is asked of no row: {}", of_first.unwrap_or_else(|| "there are none".into()));
    Error::new(Kind::Data, what).at(Place::Key("data.prompt".into())).hint(
        "it is for rows of an answer without a prompt, as sounds and their transcripts; leave it out, or say which column is \
         the answer: `data.columns: {completion: ..}`, `data.format: prompt_completion`",
    )
}

/// How `file` is read, and what is to be said about it.
fn look(spec: &DataSpec, source: &SourceSpec, file: &SourceFile) -> Result<(Layout, Option<String>)> {
    if file.contents.kind == FileKind::Text {
        return match source.format {
            RowFormat::Auto => Ok((Layout::new(RowFormat::Text, true), Some("plain text -> text".into()))),
            RowFormat::Text => Ok((Layout::new(RowFormat::Text, true), None)),
            other => Err(Error::new(Kind::Data, format!("the file is plain text, and its rows are to be `{other}`"))
                .hint("set `format: text` for it, or name a file with columns: .jsonl, .json, .csv, .parquet")),
        };
    }
    let columns = source.columns.clone();
    let plain = Layout { columns, ..Layout::new(source.format, source.template) };
    let is_told = source.format != RowFormat::Auto && source.columns.is_empty() && source.prompt.is_none();
    let head = match Head::read(file, spec.max_row_bytes) {
        Err(_) if is_told => return Ok((plain, None)), // told when all rows are read
        head => head?,
    };
    if head.rows.is_empty() {
        return Ok((plain, None));
    }
    if let Some(problem) = head.misread(source, file) {
        return Err(problem);
    }
    // A model that sees would be trained without what it is to see.
    let is_blind = |layout: &Layout| spec.media.is_of_media() && !head.shows_media(&layout.columns);
    let unread = |layout: &Layout| head.unread_media(&|name| layout.reads(name)).filter(|_| is_blind(layout));
    for (own, column) in &source.columns {
        // Names for all sources need not have a meaning in each.
        if source.format.columns().contains(&own.as_str()) && !head.has(column) {
            let key = format!("{}[{}].columns.{own}", spec.key, file.source);
            return Err(no_column(own, column, &head, file).at(Place::Key(key)));
        }
    }
    if source.format != RowFormat::Auto {
        let layout = head.spelt(plain, source)?;
        let asked = |text: &String| Asked { text: text.clone(), of_media: head.shows_media(&layout.columns) };
        let prompt = source.prompt.as_ref().filter(|_| head.lacks_prompt(&layout)).map(asked);
        let layout = Layout { prompt, ..layout };
        let is_respelt = layout.columns != source.columns;
        let said = [is_respelt.then(|| head.describe(&layout)), unread(&layout)].into_iter().flatten();
        let said = said.reduce(|one, other| format!("{one}; {other}"));
        return Ok((layout, said));
    }
    let seen = Layout { template: source.template, ..head.layout(&source.columns, source.prompt.as_deref())? };
    let mut layout = head.spelt(seen, source)?;
    let of_media = head.shows_media(&source.columns);
    let asked = layout.prompt.take().filter(|_| head.lacks_prompt(&layout));
    layout.prompt = asked.map(|asked| Asked { of_media, ..asked });
    let said = [Some(head.describe(&layout)), unread(&layout)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Ok((layout, Some(said)))
}

fn no_column(own: &str, column: &str, head: &Head, file: &SourceFile) -> Error {
    let names = head.columns();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let close = did_you_mean(column, names.iter().copied()).map(|close| format!("; did you mean `{close}`?"));
    let what = format!("`{}` has no column `{column}`, which `data.columns` names for `{own}`", file.path.display());
    Error::new(Kind::Data, what).hint(format!("{}{}", listed(&names), close.unwrap_or_default()))
}

/// What to do about media in a column of `file` that its layout does not read, where its first rows show none that are.
pub(super) fn unread_in(file: &SourceFile, layout: &Layout, max_row_bytes: usize) -> Result<Option<String>> {
    let head = Head::read(&SourceFile { columns: None, ..file.clone() }, max_row_bytes)?;
    let is_blind = !head.shows_media(&layout.columns);
    Ok(head.unread_media(&|name| layout.reads(name)).filter(|_| is_blind))
}

/// The first rows of a file that can be read.
struct Head {
    rows: Vec<(u32, Object)>,
    /// All columns, where the file says so.
    of_file: Option<Vec<String>>,
}

impl Head {
    fn read(file: &SourceFile, max_row_bytes: usize) -> Result<Self> {
        let mut head = Head { rows: Vec::new(), of_file: None };
        let mut undecoded = Ok(());
        let mut emit = |chunk: Chunk| {
            head.of_file = head.of_file.take().or_else(|| chunk.columns.as_ref().map(|names| names.to_vec()));
            undecoded = chunk.decode(|number, row| {
                // What cannot be read is reported when all rows are.
                if let Some(row) = row.ok().filter(|_| head.rows.len() < FIRST_ROWS) {
                    head.rows.push((number, row));
                }
            });
            if undecoded.is_ok() && head.rows.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        source::read(file, &Silent, &mut Sink::new(0, max_row_bytes, &mut emit))?;
        undecoded.map(|()| head)
    }

    /// What is wrong where the rows are not what was read as such.
    fn misread(&self, source: &SourceSpec, file: &SourceFile) -> Option<Error> {
        match (file.contents.kind, &self.rows[..]) {
            (FileKind::Csv { delimiter }, _) if !source.columns.values().any(|column| self.has(column)) => {
                let place = Place::Row { path: file.path.to_path_buf(), row: 1 };
                misread::headless(&self.columns(), delimiter).map(|problem| problem.at(place))
            }
            (FileKind::Json | FileKind::Lines, [(_, only)])
                if !source.columns.values().any(|column| only.contains_key(column)) =>
            {
                misread::columns_for_rows(only)
            }
            _ => None,
        }
    }

    fn has(&self, column: &str) -> bool {
        self.of_file.iter().flatten().any(|name| name == column)
            || self.rows.iter().any(|(_, row)| row.contains_key(column))
    }

    /// A layout with its columns as the file spells them.
    fn spelt(&self, layout: Layout, source: &SourceSpec) -> Result<Layout> {
        let names = self.columns();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let holds = |name: &str| self.rows.iter().any(|(_, row)| row.get(name).is_some_and(holds));
        let found = spelt(layout, &source.columns, &names, &holds);
        found.map_err(|error| error.reword(&|hint| format!("{}; {hint}", listed(&names))).caused_by(self.unnamed()))
    }

    /// The columns of the file, or those of its first rows.
    fn columns(&self) -> Vec<String> {
        if let Some(names) = &self.of_file {
            return names.clone();
        }
        let mut names: Vec<String> = Vec::new();
        for name in self.rows.iter().flat_map(|(_, row)| row.keys()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Whether some row does not say what is asked.
    fn lacks_prompt(&self, layout: &Layout) -> bool {
        let says = |row: &Object| row.get(layout.column("prompt")).is_some_and(|value| !value.is_null());
        layout.format == RowFormat::PromptCompletion && self.rows.iter().any(|(_, row)| !says(row))
    }

    /// Whether some row shows a picture or a sound.
    fn shows_media(&self, renamed: &BTreeMap<String, String>) -> bool {
        self.rows.iter().any(|(_, row)| shown(row, renamed).is_some())
    }

    /// What to do about media in a column that is not read.
    fn unread_media(&self, reads: &dyn Fn(&str) -> bool) -> Option<String> {
        self.rows.iter().find_map(|(_, row)| unread_media(row, self.of_file.as_deref(), reads))
    }

    /// What all rows are that are anything.
    fn layout(&self, renamed: &BTreeMap<String, String>, prompt: Option<&str>) -> Result<Layout> {
        let mut found: Option<(u32, Guess)> = None;
        let mut without_answer = None;
        let mut columns = BTreeMap::new();
        for (number, row) in &self.rows {
            let mut guesses = guesses(row, renamed, prompt);
            let guess = match guesses.len() {
                0 => continue,
                1 => guesses.remove(0),
                _ => return Err(self.ambiguous(&guesses)),
            };
            // One such row among others has lost its answer.
            if guess.name() == "prompt_only" {
                without_answer = Some(guess);
                continue;
            }
            match &found {
                Some((first, other)) if other.name() != guess.name() || other.columns() != guess.columns() => {
                    return Err(disagreement((*first, other), (*number, &guess)));
                }
                Some(_) => {}
                None => found = Some((*number, guess.clone())),
            }
            if let Guess::Rows(layout) = guess {
                columns.extend(layout.columns);
            }
        }
        match found.or(without_answer.map(|guess| (0, guess))) {
            Some((_, Guess::Rows(layout))) => Ok(Layout { columns, ..layout }),
            Some((_, Guess::OtherTask(name, shown))) => Err(self.other_task(name, &shown)),
            None => Err(self.unasked(renamed).unwrap_or_else(|| self.unknown())),
        }
    }

    fn listed(&self) -> String {
        let names = self.columns();
        listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn ambiguous(&self, guesses: &[Guess]) -> Error {
        let readings: Vec<_> = guesses.iter().map(Guess::reading).collect();
        let what = format!("the columns fit more than one format: {}", readings.join(", or "));
        let hint = match guesses {
            [Guess::Rows(one), Guess::Rows(other), ..] if one.format == other.format => {
                let named: Vec<_> = ["prompt", "instruction", "completion", "output"]
                    .into_iter()
                    .filter(|own| one.column(own) != other.column(own))
                    .map(|own| format!("{own}: {}", if one.column(own) == own { other } else { one }.column(own)))
                    .collect();
                format!("say which, for example `data.columns: {{{}}}`", named.join(", "))
            }
            _ => {
                let (mut formats, mut others) = (Vec::new(), String::new());
                for guess in guesses {
                    let format = format!("`data.format: {}`", guess.name());
                    match guess {
                        Guess::Rows(_) if formats.contains(&format) => {}
                        Guess::Rows(_) => formats.push(format),
                        Guess::OtherTask("unpaired", _) => {
                            others = "; `sft` does not train unpaired rows, `task: kto` does".into();
                        }
                        Guess::OtherTask(name, _) => others = format!("; `sft` does not train {name} rows"),
                    }
                }
                format!("say which: {}{others}", formats.join(" or "))
            }
        };
        Error::new(Kind::Data, what).hint(format!("{}; {hint}", self.listed())).caused_by(self.unnamed())
    }

    fn unnamed(&self) -> UnnamedColumns {
        UnnamedColumns(self.columns())
    }

    fn other_task(&self, name: &'static str, shown: &[String]) -> Error {
        let columns: Vec<_> = shown.iter().map(|column| format!("`{column}`")).collect();
        let error = Error::new(
            Kind::Data,
            format!("the rows are {name} rows ({}), which `sft` does not train", columns.join(", ")),
        );
        let has = |name: &str| self.has(name);
        let guess = Guess::OtherTask(name, shown.to_vec());
        let is_routed = self.rows.iter().any(|(_, row)| guess.is_routed(row));
        let is_list = |name: &str| self.rows.iter().any(|(_, row)| row.get(name).is_some_and(Value::is_array));
        let hint = match name {
            "preference" if has("messages") => "to train on its conversations, set `data.format: messages`".to_owned(),
            "preference" if has("prompt") && is_list("prompt") == is_list("chosen") => {
                "to train on the chosen answers, set `data.columns: {completion: chosen}` and `data.format: prompt_completion`".into()
            }
            "preference" if is_list("chosen") => {
                "to train on the chosen conversations, set `data.columns: {messages: chosen}` and `data.format: messages`".into()
            }
            "preference" => {
                "to train on the chosen texts as they are, set `data.columns: {text: chosen}` and `data.format: text`".into()
            }
            "prompt_only" => "`sft` needs an answer to each prompt: name its column with `data.columns: {completion: ..}`".into(),
            "unpaired" if is_routed => "`sft` needs an answer to each prompt".into(),
            _ => "`sft` learns every answer it is given: keep the rows whose answer is good, and leave `label` out".into(),
        };
        let other = match name {
            "preference" => "`task: dpo` learns which answer is preferred; ",
            "unpaired" if is_routed => "`task: reward` with `data.format: unpaired` learns who is to answer a prompt; ",
            "unpaired" => "`task: kto` learns from good and bad answers; ",
            "prompt_only" => "`task: grpo` learns from its own answers to prompts; ",
            _ => "",
        };
        let error = error.hint(format!("{}; {other}{hint}", self.listed()));
        if name == "prompt_only" { error.caused_by(self.unnamed()) } else { error }
    }

    /// The error for media and what is said of them, where nothing is asked.
    fn unasked(&self, renamed: &BTreeMap<String, String>) -> Option<Error> {
        let (row, kind) = self.rows.iter().find_map(|(_, row)| Some((row, shown(row, renamed)?)))?;
        let answers: Vec<String> = guesses(row, renamed, Some("")).iter().flat_map(Guess::columns).collect();
        let answer = answers.first()?;
        let example = match kind {
            MediaKind::Image => "Describe this picture.",
            MediaKind::Audio => "Transcribe this recording.",
        };
        let hint = format!(
            "{}; `data.prompt` is asked of each row, for example `data.prompt: {example}`, or name the column of the prompt \
             with `data.columns: {{prompt: ..}}`",
            self.listed()
        );
        Some(Error::new(Kind::Data, format!("nothing is asked of the media that `{answer}` describes")).hint(hint))
    }

    fn unknown(&self) -> Error {
        let names = self.columns();
        let known: Vec<&String> = names.iter().filter(|name| may_mean(name)).collect();
        let unread = self.unread_media(&|name| known.iter().any(|known| *known == name));
        let hint = match (unread, &names[..]) {
            (Some(hint), _) => hint,
            (None, [one]) => format!("`data.columns: {{text: {one}}}` reads it as text"),
            (None, [one, other]) if known.is_empty() => {
                format!("`data.columns: {{prompt: {one}, completion: {other}}}` reads them as question and answer")
            }
            _ => "name them, for example `data.columns: {prompt: .., completion: ..}`, or set `data.format`".into(),
        };
        Error::new(Kind::Data, "the columns fit no format that is known")
            .hint(format!("{}; {hint}", self.listed()))
            .caused_by(self.unnamed())
    }

    /// `question, answer -> prompt_completion, through the chat template; unused: id`.
    fn describe(&self, layout: &Layout) -> String {
        let (read, unused): (Vec<String>, Vec<String>) =
            self.columns().into_iter().partition(|column| layout.reads(column));
        let few = |names: Vec<String>| {
            let shown: Vec<String> = names.iter().take(LISTED).map(|name| name.trim().to_owned()).collect();
            let more = names.len().saturating_sub(LISTED);
            shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        };
        let unused = if unused.is_empty() { String::new() } else { format!("; unused: {}", few(unused)) };
        format!("{} -> {}{unused}", few(read), layout.describe())
    }
}

fn disagreement((first, one): (u32, &Guess), (second, other): (u32, &Guess)) -> Error {
    let what = format!("row {first} is {}, row {second} is {}", one.reading(), other.reading());
    Error::new(Kind::Data, what).hint("give each kind of rows a file of its own, or say what they are in `data.format`")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bytes, spec, write};
    use super::super::{RowFormat, local_only, prepare};
    use super::*;
    use crate::progress::testing::Notes;
    use ::parquet::arrow::ArrowWriter;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use std::sync::Arc;

    fn parquet(columns: &[(&str, &str)]) -> Vec<u8> {
        let texts = |text: &str| Arc::new(StringArray::from(vec![text; 3])) as ArrayRef;
        let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, text)| (*name, texts(text)))).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn columns_of_parquet_are_seen_and_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let of = |file: &str, columns: &[(&str, &str)]| {
            let path = dir.path().join(file);
            let renamed = columns.iter().map(|(own, column)| (own.to_string(), column.to_string()));
            let mut spec = spec(&path, RowFormat::Auto);
            spec.sources[0].columns = renamed.collect();
            let notes = Notes::default();
            let dataset = prepare(&spec, &Bytes, &dir.path().join("cache"), &local_only, &notes).unwrap();
            let unused = dataset.stats().unused_columns.into_keys().collect::<Vec<_>>();
            let said = notes.0.into_inner().unwrap().concat().replace(&format!("{}/", dir.path().display()), "");
            (dataset.get(0).unwrap().input_ids, said, unused)
        };
        write(dir.path(), "a.parquet", parquet(&[("id", "7"), ("Question ", "ab"), ("ANSWER", "c")]));
        write(dir.path(), "b.parquet", parquet(&[("frage", "ab"), ("id", "7"), ("antwort", "c"), ("prompt", "x")]));
        let (ids, said, unused) = of("a.parquet", &[]);
        assert_eq!(ids, [Bytes::BOS, 97, 98, 99, Bytes::STOP]);
        assert_eq!(said, "a.parquet: Question, ANSWER -> prompt_completion, as plain text; unused: id");
        assert_eq!(unused, ["id"]);
        let named = [("prompt", "frage"), ("completion", "antwort")];
        let (ids, said, unused) = of("b.parquet", &named);
        assert_eq!(ids, [Bytes::BOS, 97, 98, 99, Bytes::STOP]);
        assert_eq!(said, "b.parquet: frage, antwort -> prompt_completion, as plain text; unused: id, prompt");
        assert_eq!(unused, ["id", "prompt"]);
    }

    #[test]
    fn a_format_that_is_told_finds_its_columns_in_any_case_too() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, content: &[u8], format: RowFormat, columns: &[(&str, &str)]| {
            let mut spec = spec(&write(dir.path(), name, content), format);
            spec.sources[0].columns =
                columns.iter().map(|(own, column)| (own.to_string(), column.to_string())).collect();
            let notes = Notes::default();
            let dataset = prepare(&spec, &Bytes, &dir.path().join("cache"), &local_only, &notes);
            let said = notes.0.into_inner().unwrap().concat().replace(&format!("{}/", dir.path().display()), "");
            dataset.map(|dataset| (dataset.get(0).unwrap().input_ids, said))
        };
        let answered = [Bytes::BOS, 97, 98, 99, Bytes::STOP];
        let table = parquet(&[("Prompt", "ab"), ("id", "7"), ("COMPLETION", "c")]);
        for (name, content) in [
            ("a.csv", &b"Prompt,id,COMPLETION\nab,7,c\n"[..]),
            ("a.jsonl", b"{\"Prompt\": \"ab\", \"id\": 7, \"COMPLETION\": \"c\"}\n"),
            ("a.parquet", &table),
        ] {
            let (ids, said) = of(name, content, RowFormat::PromptCompletion, &[]).unwrap();
            assert_eq!(ids, answered, "{name}");
            assert_eq!(said, format!("{name}: Prompt, COMPLETION -> prompt_completion, as plain text; unused: id"));
        }
        let (ids, _) = of("b.csv", b"TEXT\nab\n", RowFormat::Text, &[]).unwrap();
        assert_eq!(ids, [Bytes::BOS, 97, 98]);
        // Names that are right need no word.
        let (_, said) = of("c.csv", b"prompt,completion\nab,c\n", RowFormat::PromptCompletion, &[]).unwrap();
        assert_eq!(said, "");

        let both = b"prompt,Prompt,completion\nab,x,c\n";
        for format in [RowFormat::Auto, RowFormat::PromptCompletion] {
            let error = of("d.csv", both, format, &[]).unwrap_err();
            assert_eq!(
                error.what(),
                "`prompt` and `Prompt` are one name in two spellings, and both columns hold something"
            );
            let hint = error.hint_text().unwrap();
            assert_eq!(
                hint,
                "columns found: `prompt`, `Prompt`, `completion`; say which is meant, for example `data.columns: {prompt: prompt}`"
            );
            let (ids, _) = of("d.csv", both, format, &[("prompt", "prompt")]).unwrap();
            assert_eq!(ids, answered, "{format}");
            let half = b"prompt,Prompt,completion\n,ab,c\n";
            assert_eq!(of("e.csv", half, format, &[]).unwrap().0, answered, "{format}");
        }
    }

    #[test]
    fn rows_without_an_answer_are_bad_rows_and_not_of_another_kind() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"question\": \"a\"}\n{\"question\": \"a\", \"answer\": \"b\"}\n";
        let path = write(dir.path(), "a.jsonl", lines);
        let prepared = prepare(&spec(&path, RowFormat::Auto), &Bytes, dir.path(), &local_only, &Silent);
        assert_eq!(prepared.unwrap_err().what(), "the row has no `answer`, which format `prompt_completion` needs");
    }
}
