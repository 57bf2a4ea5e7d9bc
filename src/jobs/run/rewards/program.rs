//! Rewards that a program of the user's gives: it is started for the answers of a step, reads a line of JSON for each of them, and
//! writes a line with a number for each.

use super::fault::Fault;
use super::programs::{Ended, MOST_BYTES, Running};
use super::{Answered, lines};
use crate::error::{Error, Kind, Result};
use crate::progress::counted;
use crate::recipe;
use crate::report::problem::quoted;
use crate::report::{ProgressBar, text};
use crate::terminal::excerpt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The last lines of what it complains of that are shown.
const LINES: usize = 12;
/// Characters of a line of it that a message shows.
const LONGEST_LINE: usize = 80;
/// Characters of a line that it complains with.
const LONGEST_COMPLAINT: usize = 300;
/// What a program is to write.
const NUMBERS_ALONE: &str =
    "it writes one number a line, and nothing else; what is for people goes to its standard error";

/// A program that judges answers.
#[derive(Debug, Clone)]
pub struct Program {
    command: Vec<String>,
    timeout: Duration,
    /// Whether what it says to people was shown.
    is_told: Arc<AtomicBool>,
}

impl Program {
    /// That of a recipe.
    pub fn of(keys: &recipe::Reward) -> Self {
        let timeout = Duration::from_secs_f64(keys.timeout.unwrap_or(60.0));
        Program { command: keys.command.clone().unwrap_or_default(), timeout, is_told: Arc::default() }
    }

    /// What it says of each answer; `None` where `stop` was set first. However this ends, nothing that it started in its group runs on.
    ///
    /// # Errors
    /// Where it cannot be started, fails, takes too long, or does not write a number for each answer: the answer that has none is named.
    pub fn judge(&self, name: &str, answers: &[Answered], stop: &AtomicBool) -> Result<Option<Vec<f64>>> {
        let mut running = Running::start(&self.command, lines(answers)).map_err(|error| {
            let what = format!("reward `{name}`: `{}` cannot be started: {error}", self.shown());
            Error::new(Kind::Reward, what).hint(
                "`command` is a list: a program, which is in the PATH or named with its folder, and each of its arguments, \
                 `[python3, judge.py]`",
            )
        })?;
        let ended = running.wait(self.timeout, stop);
        let shown = self.shown();
        let fault = Fault { name, who: &shown, answers, complaints: last_lines(&running.complaints()) };
        match ended {
            Ok(Ended::Done(status, is_held)) => {
                let numbers = numbers(&fault, status, is_held, &running.said())?;
                self.tell(&fault);
                Ok(Some(numbers))
            }
            Ok(Ended::Stopped) => Ok(None),
            Ok(Ended::Late) => {
                let what = format!("has not judged {} in {}", fault.all(), text::duration(self.timeout));
                Err(fault.error(&what, 0).hint("raise the reward's `timeout`, in seconds, or mend the program"))
            }
            Ok(Ended::Long) => {
                let what = format!(
                    "wrote more than {} MiB to its standard output for {}, which is the most that is read",
                    MOST_BYTES >> 20,
                    fault.all()
                );
                Err(fault.error(&what, 0).hint(NUMBERS_ALONE))
            }
            Err(error) => Err(fault.error(&format!("cannot be waited for: {error}"), 0)),
        }
    }

    /// Shows once what it says to people beside its numbers: the same every step would hide everything else.
    fn tell(&self, fault: &Fault) {
        if !fault.complaints.is_empty() && !self.is_told.swap(true, Ordering::SeqCst) {
            let (name, words) = (fault.name, quoted(&fault.complaints));
            let said = format!("Reward `{name}` says beside its numbers, which is shown once:\n{words}");
            ProgressBar::on_stderr().note(&said);
        }
    }

    /// The command as it is written.
    fn shown(&self) -> String {
        self.command.join(" ")
    }
}

/// The last lines of what a program complains of.
fn last_lines(complaints: &str) -> String {
    let lines: Vec<&str> = complaints.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| excerpt(line, LONGEST_COMPLAINT)).collect::<Vec<_>>().join("\n")
}

/// The number of each answer, of what a program wrote for them; `is_held` where something that it started went on when it was done.
fn numbers(fault: &Fault, status: ExitStatus, is_held: bool, said: &str) -> Result<Vec<f64>> {
    let lines: Vec<&str> = said.trim_end().lines().map(str::trim).collect();
    let lines = if lines == [""] { Vec::new() } else { lines };
    if !status.success() {
        let written = counted(lines.len(), "number");
        let what = format!("failed ({status}) after {written} for {}", fault.all());
        let hint = match fault.complaints.is_empty() {
            true => {
                "it wrote nothing to its standard error; give it a line of JSON with `prompt` and `completion` by hand"
            }
            false => "what it wrote to its standard error is above",
        };
        return Err(fault.error(&what, lines.len()).hint(hint));
    }
    let not_finite = |number: usize, line: &str| {
        let shown = excerpt(line, LONGEST_LINE);
        format!("wrote `{shown}` as line {number} of its output, which is no finite number")
    };
    let hint = match is_held {
        true => "it ended before something that it had started, whose output is not waited for: let it wait for that",
        false => "it writes one number for each line that it reads, in their order",
    };
    let miscounted = format!("wrote {} for {}", counted(lines.len(), "line"), fault.all());
    fault.numbers(&lines, (&not_finite, NUMBERS_ALONE), (miscounted, hint))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use std::time::Instant;

    /// What a shell's script says of three answers.
    fn judged(script: &str, timeout: f64) -> Result<Option<Vec<f64>>> {
        let program = Program {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs_f64(timeout),
            is_told: Arc::default(),
        };
        let row = r#"{"prompt": "a\nb", "answer": 123456789012345678901234567890}"#;
        let row = data::exact::from_str(row).unwrap();
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
        let script = r#"while read -r line; do test "$line" = '{"prompt":"a\nb","answer":123456789012345678901234567890,"completion":"c\"\n"}' && echo 1.5 || echo -1e-3; done"#;
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
        assert!(problem("echo stuck >&2; exec sleep 60", 1.5).contains("stuck"));
        let none = Program {
            command: vec!["/nowhere/judge".into()],
            timeout: Duration::from_secs(1),
            is_told: Arc::default(),
        };
        let error = none.judge("mine", &[], &AtomicBool::new(false)).unwrap_err();
        assert!(error.what().starts_with("reward `mine`: `/nowhere/judge` cannot be started"), "{error}");
    }

    /// Whether a process that a script noted the number of is there, after a moment in which it may end.
    fn runs_on(noted: &std::path::Path) -> bool {
        let id: i32 = std::fs::read_to_string(noted).unwrap().trim().parse().unwrap();
        let is_there = || {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).ok();
            // What nobody has waited for yet is a zombie.
            state.is_some_and(|state| !state.contains(") Z "))
                || (!std::path::Path::new("/proc/self").exists()
                    && nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), None).is_ok())
        };
        let asked = Instant::now();
        while is_there() && asked.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        is_there()
    }

    #[test]
    fn what_it_has_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let noted = dir.path().join("child");
        let starts = format!("sleep 60 & echo $! > '{}'", noted.display());
        // One that hangs together with its child, and one that is done before its child, which holds its output open.
        problem(&format!("{starts}; wait"), 1.5);
        assert!(!runs_on(&noted));
        let started = Instant::now();
        assert_eq!(judged(&format!("{starts}; printf '1\\n2\\n3\\n'"), 60.0).unwrap(), Some(vec![1.0, 2.0, 3.0]));
        assert!(started.elapsed() < Duration::from_secs(30) && !runs_on(&noted));
        let said = problem(&format!("{starts}; echo 1"), 60.0);
        assert!(
            said.contains("wrote 1 line for 3 answers") && said.contains("something that it had started"),
            "{said}"
        );
    }

    #[test]
    fn who_writes_much_is_heard_to_the_end_or_told_the_limit() {
        let complains = "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo the last line >&2";
        assert!(judged(&format!("{complains}; printf '1\\n2\\n3\\n'"), 60.0).unwrap().is_some());
        assert!(problem(&format!("{complains}; exit 1"), 60.0).contains("the last line"));
        for forever in ["yes 1", "head -c 17000000 /dev/zero"] {
            let said = problem(forever, 60.0);
            assert!(said.contains("wrote more than 16 MiB to its standard output for 3 answers"), "{said}");
        }
    }

    #[test]
    fn nobody_waits_for_it_once_the_run_is_to_stop() {
        let command = ["sleep", "60"].map(str::to_owned).to_vec();
        let program = Program { command, timeout: Duration::from_secs(60), is_told: Arc::default() };
        let started = Instant::now();
        assert!(program.judge("mine", &[], &AtomicBool::new(true)).unwrap().is_none());
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
