//! `gemma-tune serve`

use super::args::{self, Computing, ModelArgs, path};
use super::generate::cache_dtypes;
use super::interrupt;
use super::relief::Relief;
use crate::error::{Error, Kind, Result};
use crate::infer::{CacheDtype, EngineOptions, Memory, Sampling};
use crate::jobs::serve::adapter_dir::AdapterDir;
use crate::jobs::serve::orders::BaseOrders;
use crate::jobs::serve::routed::{Classifier, routing};
use crate::jobs::serve::tuned::Tuned;
use crate::jobs::serve::{Named, Served};
use crate::queue::{Address, Limits, Queue, Runner, RunnerOptions};
use crate::recipe::{self, Chooser, RouteRules};
use crate::report::ProgressBar;
use crate::serve::{Host, Keys, ServeOptions, Server, Tuning, chats_address};
use crate::weights::HostDtype;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How many beginnings of prompts are kept for others.
const KEPT_PREFIXES: usize = 64;
/// Bytes of keys and values, where the machine does not say what it has.
const USUAL_CACHE_BYTES: u64 = 2 << 30;
/// Files that a key may leave.
const MOST_FILES: u64 = 1000;
/// Its jobs that wait or run.
const MOST_JOBS: u64 = 100;
/// How long a job that is stopped may take to save what it has.
const JOB_GRACE: Duration = Duration::from_secs(60);

/// Arguments of `serve`.
#[derive(clap::Args)]
pub struct Args {
    /// The model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
    #[arg(long, value_parser = args::expanded)]
    model: String,
    /// An adapter and the name that requests ask for it by; also several
    #[arg(long = "adapter", value_name = "NAME=FOLDER", value_parser = named())]
    adapters: Vec<Named>,
    /// A folder of adapters, each served under its folder's name; SIGHUP looks at it again
    #[arg(long, value_parser = path())]
    adapter_dir: Option<PathBuf>,
    /// The name that requests ask for the model by; without it the last part of `--model`
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// The address to listen at: 0.0.0.0 for all that reach this machine
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port to listen at; 0 takes one that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A file of API keys, one in each line, or their hashes (`sha256:..`); without it nobody needs one
    #[arg(long, value_parser = path())]
    api_key_file: Option<PathBuf>,
    /// The largest body of a request, as 32MB
    #[arg(long, default_value_t = 32 << 20, value_parser = args::size)]
    max_body_bytes: u64,
    /// New tokens of an answer whose request does not say how many
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Answers that are given at once, and the most that a request may ask for (`n`)
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
    /// Offer fine-tuning (/v1/files, /v1/fine_tuning/jobs), and keep files, jobs and their models in this folder
    #[arg(long, value_name = "DIR", value_parser = path())]
    jobs: Option<PathBuf>,
    /// The database of files and jobs, instead of one in the folder: postgres://USER@HOST:PORT/NAME; its password may be in PGPASSWORD
    #[arg(long, value_name = "URL", requires = "jobs")]
    database: Option<String>, // understood later: what is said of an argument that is wrong repeats it, with its password
    /// Threads of a job; without it half of the cores
    #[arg(long, requires = "jobs", value_parser = clap::value_parser!(u32).range(1..=1024))]
    job_threads: Option<u32>,
    /// The device of jobs, as `--device`; without it the same
    #[arg(long, requires = "jobs")]
    job_device: Option<String>,
    /// Bytes of an uploaded file, at most; the files of a key may have ten times as many
    #[arg(long, default_value_t = 512 << 20, value_parser = args::size)]
    max_file_bytes: u64,
    /// A file of rules by which chats are answered here, or by another server of OpenAI's API: by a classifier, or where the answer
    /// given here was not likely enough
    #[arg(long, value_name = "RULES", value_parser = path())]
    route: Option<PathBuf>,
    /// Requests that may wait; others are told to come again
    #[arg(long, default_value_t = 128)]
    queue: u32,
    /// Requests of each API key in a minute, or of everybody together where there are no keys; without it any number
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute, as for requests
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_minute: Option<u64>,
    /// Seconds that the answer to a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    request_timeout: u64,
    /// Memory for keys and values, as 4GB or 700MiB; without it a quarter of what is free
    #[arg(long, value_parser = args::size)]
    cache_bytes: Option<u64>,
    /// What keys and values are held in: f16 rounds them, and takes half the memory
    #[arg(long, default_value = "f32", value_parser = cache_dtypes())]
    cache_dtype: CacheDtype,
    /// How weights are held
    #[arg(long, default_value = "auto", value_parser = args::dtypes())]
    dtype: std::option::Option<HostDtype>, // spelt out, so that it is no argument to leave out
    /// What factors of products are rounded to
    #[arg(long, default_value = "auto", value_parser = args::computing())]
    compute_dtype: std::option::Option<Computing>, // as above
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    device: String,
}

/// Reads `NAME=FOLDER`.
fn named() -> impl TypedValueParser<Value = Named> {
    OsStringValueParser::new().try_map(|given| {
        let text = given.to_str().ok_or("a name and a folder, `NAME=FOLDER`, as text")?;
        match text.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
                Ok(Named { name: name.to_owned(), folder: args::expanded(folder)?.into() })
            }
            _ => Err("write `NAME=FOLDER`: requests ask for the adapter by its name".to_owned()),
        }
    })
}

/// Which chats go elsewhere, and where.
fn handed_on(rules: &RouteRules) -> String {
    let by = match &rules.chooser {
        Chooser::Classifier { adapter, threshold } => {
            format!("that `{}` finds less likely to be for here than {threshold}", adapter.display())
        }
        Chooser::Confidence { min_mean_logprob } => {
            format!("whose answers have a mean log-probability below {min_mean_logprob}")
        }
    };
    let to = chats_address(&rules.upstream.url);
    format!("Chats {by} are handed on to {to}, and so are those that are too large for this model.")
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        Relief::on("serving", &self.device).with_fewer_at_once(self.parallel as usize)
    }

    /// Serves until it is asked to end.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        let address = self.database.as_deref().map(str::parse::<Address>).transpose()?;
        let rules = self.route.as_deref().map(recipe::route_rules).transpose()?;
        let classifier = rules.as_ref().and_then(|rules| match &rules.chooser {
            Chooser::Classifier { adapter, .. } => Some(adapter.clone()),
            Chooser::Confidence { .. } => None,
        });
        classifier.as_deref().map_or(Ok(()), Classifier::find)?;
        let keys = self.api_key_file.as_deref().map_or(Ok(Keys::default()), Keys::read)?;
        let mut engine = EngineOptions {
            most_running: self.parallel as usize,
            most_waiting: self.queue as usize,
            cache_dtype: self.cache_dtype,
            memory: Memory::Prefixes(KEPT_PREFIXES),
            ..EngineOptions::default()
        };
        // As Gemma's makers recommend, and as `export ollama` writes it.
        let sampling = Sampling { temperature: 1.0, top_k: 64, top_p: 0.95 };
        let max_body_bytes = usize::try_from(self.max_body_bytes).unwrap_or(usize::MAX);
        let open = |dir: &Path| Queue::open_at(dir, self.limits(), address.as_ref());
        let queue = self.jobs.as_deref().map(open).transpose()?.map(Arc::new);
        queue.iter().flat_map(|queue| queue.said()).for_each(|said| screen.note(said));
        if let Some(address) = address.as_ref().filter(|address| address.is_elsewhere()) {
            let shown = address.shown();
            screen.note(&format!(
                "warning: what goes to {shown} and comes from there is not encrypted: let no stranger be between"
            ));
        }
        let (is_open, max_tokens) = (keys.is_open(), self.max_tokens as usize);
        let options = ServeOptions {
            keys,
            max_body_bytes,
            max_tokens,
            sampling,
            most_answers: self.parallel as usize,
            most_waiting: self.queue as usize,
            request_time: Duration::from_secs(self.request_timeout),
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            tuning: queue.clone().map(|queue| self.tuning(queue)),
            routing: rules.as_ref().map(|rules| {
                let screen = screen.clone();
                routing(rules, move |line| screen.note(line))
            }),
        };
        let server = Server::listen(&self.host, self.port, options)?;
        let (stop, is_ready) = (server.stop(), Arc::new(AtomicBool::new(false)));
        let (screen_of_stop, was_ready) = (screen.clone(), is_ready.clone());
        let jobs = queue.clone();
        let end = move || {
            if !was_ready.load(Ordering::SeqCst) {
                std::process::exit(0); // nobody has been answered
            }
            jobs.iter().for_each(|jobs| jobs.stop());
            if stop.ask() {
                jobs.iter().for_each(|jobs| jobs.let_go());
                std::process::exit(i32::from(Kind::Run.exit_code()));
            }
            screen_of_stop.note("Ending: answers that have begun are finished; again ends at once.");
        };
        let dir = self.adapter_dir.as_deref().map(AdapterDir::new).transpose()?.map(Arc::new);
        let serving: Arc<OnceLock<Arc<Served>>> = Arc::default();
        match dir.clone() {
            None => interrupt::on_signal(end)?,
            Some(dir) => {
                let (serving, screen) = (serving.clone(), screen.clone());
                // Whoever looks before there is a model finds what is there then anyhow.
                let look = move || serving.get().into_iter().for_each(|served| dir.read(served, &screen));
                interrupt::on_signal_or_hangup(end, look)?;
            }
        }
        let url = server.url();
        let runner = self.runner()?;
        let name = self.name.clone().unwrap_or_else(|| short_name(&self.model));
        let model = ModelArgs {
            model: self.model,
            adapter: None,
            dtype: self.dtype,
            compute_dtype: self.compute_dtype,
            device: self.device,
        };
        let model = model.read(&screen)?;
        let classifier = classifier.map(|folder| Classifier::read(&folder, &model.base, &screen)).transpose()?;
        let model = model.load(&screen)?;
        if self.adapters.is_empty() && dir.is_none() {
            model.warn_of_no_chat(&screen);
        }
        let free = model.compute.capacity().available_bytes.map_or(USUAL_CACHE_BYTES, |free| free / 4);
        engine.cache_bytes = self.cache_bytes.unwrap_or(free);
        let served = Served::open(model, name, &self.adapters, &screen)?.with_classifier(classifier)?;
        let served = Arc::new(served);
        dir.iter().for_each(|dir| dir.read(&served, &screen));
        let _ = serving.set(served.clone());
        if is_open && !server.is_local() {
            screen.note("warning: everybody who reaches this machine may ask: `--api-key-file` asks who they are");
        }
        let names: Vec<String> = served.models().of_owner("").into_iter().map(|named| named.name).collect();
        let unknown = rules.iter().flat_map(|rules| &rules.models).filter(|name| !names.contains(name));
        unknown
            .for_each(|name| screen.note(&format!("warning: `models` of the rules has `{name}`, which is not served")));
        let told = format!("Serving {} at {url}/v1; Ctrl-C ends.", names.join(", "));
        let tuned = Arc::new(Tuned { served: served.clone(), screen: screen.clone() });
        queue.iter().try_for_each(|queue| tuned.serve_all(queue))?;
        server.host(served)?;
        let runner = queue.map(|queue| Runner::start(queue, runner, tuned)).transpose()?;
        is_ready.store(true, Ordering::SeqCst);
        screen.note(&told);
        rules.iter().for_each(|rules| screen.note(&handed_on(rules)));
        super::print(&url)?;
        let ran = server.run(engine);
        if let Some(runner) = runner {
            runner.stop();
        }
        ran
    }

    /// What fine-tuning needs.
    fn tuning(&self, queue: Arc<Queue>) -> Tuning {
        Tuning { queue, orders: Arc::new(BaseOrders::of(&self.model)), max_file_bytes: self.max_file_bytes }
    }

    /// What somebody may leave.
    fn limits(&self) -> Limits {
        Limits { files: MOST_FILES, bytes: self.max_file_bytes.saturating_mul(10), waiting: MOST_JOBS }
    }

    /// How jobs are trained: by this program, beside what answers.
    fn runner(&self) -> Result<RunnerOptions> {
        let program = std::env::current_exe().map_err(|e| Error::io("finding", "this program", e))?;
        let half = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Ok(RunnerOptions {
            command: vec![program.into()],
            threads: Some(self.job_threads.map_or(half, |threads| threads as usize)),
            device: self.job_device.clone().or_else(|| Some(self.device.clone())),
            grace: JOB_GRACE,
        })
    }
}

/// The last part of a model's name, without what says which file it is.
fn short_name(model: &str) -> String {
    let name = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    name.strip_suffix(".gguf").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_by_the_last_part_of_their_name() {
        for (model, name) in [
            ("google/gemma-3-1b-it", "gemma-3-1b-it"),
            ("models/tiny/", "tiny"),
            ("a/b.Q4_K_M.gguf", "b.Q4_K_M"),
            ("ollama:gemma3:1b", "ollama:gemma3:1b"),
        ] {
            assert_eq!(short_name(model), name);
        }
    }
}
