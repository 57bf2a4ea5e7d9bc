//! The command line: one file per verb; arguments in, exit code out.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the user's side")]

mod args;
mod chat;
mod data;
mod doctor;
mod estimate;
mod evaluate;
mod export;
mod generate;
mod init;
mod inspect;
mod interrupt;
mod merge;
mod push;
mod recipe;
mod relief;
mod score;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "studio")]
mod studio;
mod tips;
mod train;
mod verify;

use self::relief::Relief;
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::recipe::without_keys;
use crate::report::{logged, problem};
use crate::terminal::printable;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// LoRA fine-tuning of Gemma 3 and 3n in one binary.
///
/// stdout is data, stderr is talk. Exit codes: 0 done, 1 the run failed, 2 the input or the recipe is wrong, 3
/// interrupted but resumable.
#[derive(Parser)]
#[command(name = "gemma-tune", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a recipe
    Train(train::Args),
    /// Look at data and write a recipe for it
    Init(init::Args),
    /// Check, show or describe recipes
    Recipe(recipe::Args),
    /// The memory that a recipe's run takes and the time of a step, and what would make it fit
    Estimate(estimate::Args),
    /// Look at a recipe's data as the model will see it
    Data(data::Args),
    /// Answer prompts in batches
    Generate(generate::Args),
    /// Talk to a model in the terminal
    Chat(chat::Args),
    /// Answer over HTTP as OpenAI's API does
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    /// A page in the browser: data in, training, chat, export
    #[cfg(feature = "studio")]
    Studio(studio::Args),
    /// Log-probabilities of given text
    Score(score::Args),
    /// Models and adapters side by side: losses, answers and choices on the same rows
    Evaluate(evaluate::Args),
    /// Write base and adapter as one Hugging Face folder
    Merge(merge::Args),
    /// Write files for llama.cpp and Ollama, or the smaller model inside a Gemma 3n
    Export(export::Args),
    /// Publish an adapter, a model or GGUF files on the Hub
    Push(push::Args),
    /// Show that an adapter does something, and that what was made of it says the same
    Verify(verify::Args),
    /// What a model is: architecture, tensors, tokenizer, template
    Inspect(inspect::Args),
    /// Devices, threads, memory, and a self-check
    Doctor(doctor::Args),
    /// Completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The tree of verbs and their options.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line and returns the process's exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let words: Vec<String> = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
            let error = tips::with_tip(error, &words);
            // clap prints help and versions to stdout, mistakes to stderr. A closed pipe is nobody's mistake.
            let written = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(2),
                false => exit(printed(written).map(|()| 0)),
            };
        }
    };
    interrupt::outlive_full_files();
    logged::tell_warnings();
    match on_a_worker(|| cli.verb.run()) {
        Ok(result) => exit(result),
        Err(error) => exit(Err(error)),
    }
}

/// Runs the whole program on one of the threads that share the computing.
///
/// A thread outside of them goes to sleep each time that they begin and has to be woken when they are done, which
/// decoding, with its thousands of small products a second, spends a quarter of its time on.
fn on_a_worker<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    /// What rendering a conversation by a model's chat template may need, so that no row has to make a stack of its own.
    /// Memory is taken only where a stack reaches.
    const STACK_BYTES: usize = 64 << 20;
    let threads = threads();
    rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES).build_global().map_err(|e| {
        Error::new(Kind::Run, format!("{threads} threads cannot be started: {e}"))
            .hint("`RAYON_NUM_THREADS=1` asks for fewer; `ulimit -u` and `ulimit -v` show what the system allows")
    })?;
    Ok(rayon::scope(|_| work()))
}

/// The threads that share the computing: as many as `RAYON_NUM_THREADS` says, else as run at once.
fn threads() -> usize {
    /// More never help, and tens of thousands take all memory for their stacks.
    const MOST: usize = 1024;
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    match asked.as_deref().map(str::parse::<usize>) {
        None | Some(Ok(0)) => available,
        Some(Ok(threads)) if threads <= MOST => threads,
        Some(Ok(threads)) => {
            eprintln!("{VARIABLE}={threads} is more than {MOST}: {MOST} threads are used");
            MOST
        }
        Some(Err(_)) => {
            eprintln!("{VARIABLE} is no number: {available} threads are used");
            available
        }
    }
}

/// What keys of a recipe are called where a model and an adapter are options.
const OF_A_MODEL: &[(&str, &str)] =
    &[("model.base", "--model"), ("adapter.init_from", "--adapter"), ("output.dir", "--output")];

impl Verb {
    /// Runs to the end and returns the exit code.
    fn run(self) -> Result<u8> {
        let (options, relief) = (self.options(), self.relief());
        let ended = fenced(relief.doing, || self.end()).flatten();
        let reworded = ended.map_err(|error| match options {
            Some(options) => error.reword(&|hint| without_keys(hint, options)),
            None => error,
        });
        reworded.map_err(|error| relief.add(error))
    }

    /// What it does, and what to do about it where a device fails at that.
    fn relief(&self) -> Relief {
        match self {
            Verb::Train(args) => args.relief(),
            Verb::Estimate(args) => args.relief(),
            Verb::Generate(args) => args.relief(),
            Verb::Chat(args) => args.relief(),
            #[cfg(feature = "serve")]
            Verb::Serve(args) => args.relief(),
            #[cfg(feature = "studio")]
            Verb::Studio(_) => Relief::nowhere("the studio"),
            Verb::Score(args) => args.relief(),
            Verb::Evaluate(args) => args.relief(),
            Verb::Merge(_) => Relief::nowhere("merging"),
            Verb::Export(args) => args.relief(),
            Verb::Verify(args) => args.relief(),
            Verb::Doctor(args) => args.relief(),
            Verb::Init(_) => Relief::nowhere("writing a recipe"),
            Verb::Recipe(_) => Relief::nowhere("reading the recipe"),
            Verb::Data(_) => Relief::nowhere("looking at the data"),
            Verb::Push(_) => Relief::nowhere("pushing"),
            Verb::Inspect(_) => Relief::nowhere("inspecting"),
            Verb::Completions { .. } => Relief::nowhere("writing completions"),
        }
    }

    /// The options that stand for keys of a recipe, of a verb that has none.
    fn options(&self) -> Option<&'static [(&'static str, &'static str)]> {
        match self {
            Verb::Train(_) | Verb::Init(_) | Verb::Recipe(_) | Verb::Estimate(_) | Verb::Data(_) => None,
            Verb::Evaluate(args) if args.has_keys() => None,
            Verb::Push(_) => Some(&[("output.hub_base_model", "--base-model")]),
            Verb::Inspect(_) | Verb::Doctor(_) | Verb::Completions { .. } => Some(&[]),
            #[cfg(feature = "serve")]
            Verb::Serve(_) => Some(OF_A_MODEL),
            #[cfg(feature = "studio")]
            Verb::Studio(_) => Some(&[]),
            Verb::Generate(_)
            | Verb::Chat(_)
            | Verb::Score(_)
            | Verb::Evaluate(_)
            | Verb::Merge(_)
            | Verb::Export(_)
            | Verb::Verify(_) => Some(OF_A_MODEL),
        }
    }

    /// Does what is asked, and returns the exit code.
    fn end(self) -> Result<u8> {
        let done = match self {
            Verb::Train(args) => return args.run(),
            Verb::Init(args) => args.run(),
            Verb::Recipe(args) => args.run(),
            Verb::Estimate(args) => args.run(),
            Verb::Data(args) => args.run(),
            Verb::Generate(args) => return args.run(),
            Verb::Chat(args) => args.run(),
            #[cfg(feature = "serve")]
            Verb::Serve(args) => args.run(),
            #[cfg(feature = "studio")]
            Verb::Studio(args) => args.run(),
            Verb::Score(args) => args.run(),
            Verb::Evaluate(args) => args.run(),
            Verb::Merge(args) => args.run(),
            Verb::Export(args) => args.run(),
            Verb::Push(args) => args.run(),
            Verb::Verify(args) => args.run(),
            Verb::Inspect(args) => args.run(),
            Verb::Doctor(args) => args.run(),
            Verb::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), "gemma-tune", &mut script);
                let mut out = std::io::stdout().lock();
                printed(out.write_all(&script).and_then(|()| out.flush()))
            }
        };
        done.map(|()| 0)
    }
}

fn exit(result: Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(anstream::stderr(), "{}", problem::problem(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Writes a line of data to stdout.
fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    printed(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// What became of a write to stdout. A reader that went away (`| head`) ends the program quietly.
fn printed(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|e| Error::io("writing", "stdout", e)),
    }
}

/// Writes a line for people to stdout: what files say in it has no power over the terminal.
fn print_text(line: &str) -> Result<()> {
    print(&printable(line))
}

/// Writes a value as pretty JSON to stdout.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(Kind::Run, format!("the result cannot be written as JSON: {e}")).caused_by(e))?;
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::injected;

    /// How a command ends whose device says this while it works.
    fn failed(command: &str, doing: &str, said: &str) -> Error {
        let words = command.split(' ').chain(["--model", "m"].into_iter().filter(|_| !command.contains("r.yaml")));
        let Cli { verb } = Cli::try_parse_from(std::iter::once("gemma-tune").chain(words)).unwrap();
        injected::next(doing, said);
        verb.run().unwrap_err()
    }

    #[test]
    fn every_verb_that_computes_ends_a_failure_of_its_device_with_what_to_change() {
        for (command, doing, change) in [
            ("train r.yaml", "training", "`--device cpu`"),
            ("estimate r.yaml", "estimating", "less with `--no-probe`"),
            ("generate --prompt Hi", "generating", "less with `--batch-size 4` or a smaller `--max-tokens`"),
            ("chat", "chatting", "less with a smaller `--max-tokens`"),
            ("score --input f.jsonl --dtype f32", "scoring", "less with `--dtype bf16`"),
            ("evaluate r.yaml --generate --batch-size 6", "evaluating", "`--batch-size 3` or a smaller `--max-tokens`"),
            ("evaluate r.yaml", "evaluating", "less with a smaller `--set data.max_length=..`"),
            ("verify --adapter a", "verifying", "less with a smaller `--tokens`"),
            (
                "export gguf --imatrix t.txt --quant Q4_K_M --output o",
                "exporting",
                "less with shorter texts for `--imatrix`",
            ),
        ] {
            let error = failed(command, doing, "out of device memory allocating 5 bytes");
            assert_eq!((error.kind(), error.exit_code()), (Kind::OutOfMemory, 1), "{command}");
            let what = format!("{doing}: the device has no memory left: out of device memory allocating 5 bytes");
            assert_eq!(error.what(), what, "{command}");
            let hint = error.hint_text().unwrap_or_default();
            assert!(hint.contains(change) && hint.contains("`--device cpu`"), "{command}: {hint}");

            let error = failed(&format!("{command} --device wgpu:1"), doing, "an illegal address was read");
            assert_eq!((error.kind(), error.exit_code()), (Kind::Computing, 1), "{command}");
            assert!(
                error.hint_text().is_some_and(|hint| hint.contains("doctor --device wgpu:1")),
                "{command}: {error}"
            );
        }
        let error = failed("merge --adapter a --output o", "merging", "an illegal address was read");
        assert_eq!(
            (error.kind(), error.what()),
            (Kind::Computing, "merging: the device failed: an illegal address was read")
        );
    }
}
