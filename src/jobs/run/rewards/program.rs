//! Rewards that a program of the user's gives: it is started for the answers of a step, reads a line of JSON for each of them, and
//! writes a line with a number for each.

use super::Answered;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::counted;
use crate::recipe;
use crate::report::text;
use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a program may write.
const MOST_BYTES: u64 = 16 << 20;
/// How often is looked whether it is done.
const LOOK: Duration = Duration::from_millis(5);
/// The last lines of what it complains of that are shown.
const LINES: usize = 12;
/// Characters of a line of it that a message shows.
const LONGEST_LINE: usize = 80;

/// A program that judges answers.
#[derive(Debug, Clone)]
pub struct Program {
    command: Vec<String>,
    timeout: Duration,
}

/// What a program left when it was done.
struct Done {
    status: ExitStatus,
    said: Vec<u8>,
    complaints: Vec<u8>,
}

/// How it ended.
enum Ended {
    Done(Done),
    /// It took too long.
    Late,
    /// Nobody waits for it any more.
    Stopped,
}

impl Program {
    /// That of a recipe.
    pub fn of(keys: &recipe::Reward) -> Self {
        let timeout = Duration::from_secs_f64(keys.timeout.unwrap_or(60.0));
        Program { command: keys.command.clone().unwrap_or_default(), timeout }
    }

    /// What it says of each answer; `None` where `stop` was set first.
    ///
    /// # Errors
    /// Where it cannot be started, fails, takes too long, or does not write a number for each answer: the answer that has none is named.
    pub fn judge(&self, name: &str, answers: &[Answered], stop: &AtomicBool) -> Result<Option<Vec<f64>>> {
        let fault = Fault { program: self, name, answers };
        let mut child = self.start(name)?;
        match self.wait(&mut child, lines(answers), stop) {
            Ok(Ended::Done(done)) => fault.numbers(&done).map(Some),
            Ok(Ended::Stopped) => Ok(None),
            Ok(Ended::Late) => {
                let what = format!("has not judged {} in {}", fault.all(), text::duration(self.timeout));
                Err(fault.error(&what, 0).hint("raise the reward's `timeout`, in seconds, or mend the program"))
            }
            Err(error) => Err(fault.error(&format!("cannot be read from: {error}"), 0)),
        }
    }

    fn start(&self, name: &str) -> Result<Child> {
        let (program, arguments) = self.command.split_first().map_or(("", &[][..]), |(program, rest)| (program, rest));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C is the run's, which then ends it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map_err(|error| {
            let what = format!("reward `{name}`: `{}` cannot be started: {error}", self.shown());
            Error::new(Kind::Reward, what)
                .hint("is it the name of a program, and are its arguments items of their own?")
        })
    }

    /// Gives a program its lines and waits until it is done.
    fn wait(&self, child: &mut Child, lines: Vec<u8>, stop: &AtomicBool) -> std::io::Result<Ended> {
        let started = Instant::now();
        let mut given = child.stdin.take();
        // One that does not want to read it all is judged by what it writes.
        thread::spawn(move || given.as_mut().map(|given| given.write_all(&lines)));
        let (said, complaints) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if stop.load(Ordering::SeqCst) => return end(child, Ended::Stopped),
                None if started.elapsed() > self.timeout => return end(child, Ended::Late),
                None => thread::sleep(LOOK),
            }
        };
        // What it has started itself may still hold its ends open.
        let left = self.timeout.saturating_sub(started.elapsed()).max(LOOK);
        let Ok(said) = said.recv_timeout(left) else { return Ok(Ended::Late) };
        let complaints = complaints.recv_timeout(LOOK.max(Duration::from_millis(200))).unwrap_or_default();
        Ok(Ended::Done(Done { status, said, complaints }))
    }

    /// The command as it is written.
    fn shown(&self) -> String {
        self.command.join(" ")
    }
}

fn end(child: &mut Child, how: Ended) -> std::io::Result<Ended> {
    child.kill()?;
    child.wait()?;
    Ok(how)
}

/// All that comes of a pipe, when it is closed.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // Of one that fails in the middle, what came is judged.
            let _ = pipe.take(MOST_BYTES).read_to_end(&mut bytes);
        }
        sender.send(bytes)
    });
    receiver
}

/// A line of JSON for each answer: the columns of its row, `prompt` among them, and `completion`.
fn lines(answers: &[Answered]) -> Vec<u8> {
    let mut lines = Vec::new();
    for answer in answers {
        let mut line = answer.columns.clone();
        line.insert("completion".into(), Value::from(answer.completion));
        lines.extend(Value::Object(line).to_string().into_bytes());
        lines.push(b'\n');
    }
    lines
}

/// What is needed to say what is wrong with a program.
struct Fault<'a> {
    program: &'a Program,
    name: &'a str,
    answers: &'a [Answered<'a>],
}

impl Fault<'_> {
    fn all(&self) -> String {
        counted(self.answers.len(), "answer")
    }

    /// What it did, and the first answer that has no number for it.
    fn error(&self, what: &str, answer: usize) -> Error {
        let what = format!("reward `{}`: `{}` {what}", self.name, self.program.shown());
        let error = Error::new(Kind::Reward, what);
        match self.answers.get(answer) {
            Some(answered) => error.at(Place::Named(format!("an answer to {}", answered.origin))),
            None => error,
        }
    }

    /// The number of each answer.
    fn numbers(&self, Done { status, said, complaints }: &Done) -> Result<Vec<f64>> {
        let said = String::from_utf8_lossy(said);
        let lines: Vec<&str> = said.trim_end().lines().map(str::trim).collect();
        let lines = if lines == [""] { Vec::new() } else { lines };
        let complaints = String::from_utf8_lossy(complaints);
        let last: Vec<&str> = complaints.trim_end().lines().rev().take(LINES).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        let with_complaints = |error: Error| if last.is_empty() { error } else { error.excerpt(last.clone()) };
        if !status.success() {
            let written = counted(lines.len(), "number");
            let what = format!("failed ({status}) after {written} for {}", self.all());
            let hint = match last.is_empty() {
                true => {
                    "it wrote nothing to its standard error; give it a line of JSON with `prompt` and `completion` by hand"
                }
                false => "what it wrote to its standard error is above",
            };
            return Err(with_complaints(self.error(&what, lines.len())).hint(hint));
        }
        let mut numbers = Vec::with_capacity(lines.len());
        for (at, line) in lines.iter().enumerate().take(self.answers.len()) {
            match line.parse::<f64>() {
                Ok(number) if number.is_finite() => numbers.push(number),
                _ => {
                    let shown = text::excerpt(line, LONGEST_LINE);
                    let what = format!("wrote `{shown}` as line {} of its output, which is no finite number", at + 1);
                    let hint =
                        "it writes one number a line, and nothing else; what is for people goes to its standard error";
                    return Err(with_complaints(self.error(&what, at)).hint(hint));
                }
            }
        }
        if lines.len() != self.answers.len() {
            let what = format!("wrote {} for {}", counted(lines.len(), "line"), self.all());
            let hint = "it writes one number for each line that it reads, in their order";
            return Err(with_complaints(self.error(&what, lines.len().min(self.answers.len() - 1))).hint(hint));
        }
        Ok(numbers)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a shell's script says of three answers.
    fn judged(script: &str, timeout: f64) -> Result<Option<Vec<f64>>> {
        let program = Program {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs_f64(timeout),
        };
        let row = json!({"prompt": "a\nb", "answer": 4});
        let origins = ["a.jsonl, row 1", "a.jsonl, row 2", "a.jsonl, row 3"];
        let answers: Vec<Answered> = origins
            .iter()
            .map(|origin| Answered { completion: "c\"\n", tokens: 2, columns: row.as_object().unwrap(), origin })
            .collect();
        program.judge("mine", &answers, &AtomicBool::new(false))
    }

    fn problem(script: &str, timeout: f64) -> String {
        let error = judged(script, timeout).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Reward, 1), "{script}");
        error.to_string()
    }

    #[test]
    fn each_line_of_answers_gets_the_number_of_its_line() {
        let script = r#"while read -r line; do test "$line" = '{"prompt":"a\nb","answer":4,"completion":"c\"\n"}' && echo 1.5 || echo -1e-3; done"#;
        assert_eq!(judged(script, 30.0).unwrap(), Some(vec![1.5; 3]));
        assert_eq!(judged("printf '1\n 2 \n.5'", 30.0).unwrap(), Some(vec![1.0, 2.0, 0.5]));
    }

    #[test]
    fn what_gives_no_number_for_each_answer_is_named_with_its_row() {
        for (script, timeout, what, row) in [
            ("echo 1; echo oh no >&2; exit 3", 30.0, "failed (exit status: 3) after 1 number for 3 answers", "row 2"),
            ("echo 1; kill -9 $$", 30.0, "failed (signal: 9", "row 2"),
            (
                "echo 1; echo nan; echo 2",
                30.0,
                "wrote `nan` as line 2 of its output, which is no finite number",
                "row 2",
            ),
            ("echo 1; echo good; echo 2", 30.0, "wrote `good` as line 2", "row 2"),
            ("echo 1; echo 2", 30.0, "wrote 2 lines for 3 answers", "row 3"),
            ("true", 30.0, "wrote 0 lines for 3 answers", "row 1"),
            ("printf '1\\n2\\n3\\n4\\n'", 30.0, "wrote 4 lines for 3 answers", "row 3"),
            ("exec sleep 60", 0.2, "has not judged 3 answers in", "row 1"),
        ] {
            let said = problem(script, timeout);
            assert!(said.contains(&format!("reward `mine`: `sh -c {script}` {what}")), "{said}");
            assert!(said.contains(&format!("an answer to a.jsonl, {row}")), "{said}");
        }
        assert!(problem("echo oh no >&2; exit 3", 30.0).contains("oh no"));
        let none = Program { command: vec!["/nowhere/judge".into()], timeout: Duration::from_secs(1) };
        let error = none.judge("mine", &[], &AtomicBool::new(false)).unwrap_err();
        assert!(error.what().starts_with("reward `mine`: `/nowhere/judge` cannot be started"), "{error}");
    }

    #[test]
    fn nobody_waits_for_it_once_the_run_is_to_stop() {
        let program =
            Program { command: ["sleep", "60"].map(str::to_owned).to_vec(), timeout: Duration::from_secs(60) };
        let started = Instant::now();
        assert!(program.judge("mine", &[], &AtomicBool::new(true)).unwrap().is_none());
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
