//! `gemma-tune evaluate`

use super::args::{expanded, path, whole};
use super::relief::Relief;
use crate::atomic::check_target;
use crate::error::{Error, Kind, Place, Result};
use crate::eval::choice::Task;
use crate::eval::metric::{METRICS, Metric};
use crate::jobs::evaluate::{
    self, Asked, Asking, Contestant, MetricReport, Questions, Report, Rows, Thresholds, row_lines,
};
use crate::recipe::{self, as_options};
use crate::report::{ProgressBar, text};
use crate::terminal::{excerpt, printable};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

/// Arguments of `evaluate`.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe whose evaluation rows are measured on, a YAML file; or see --input and --choices
    #[arg(value_parser = path(), conflicts_with = "input")]
    recipe: Option<PathBuf>,
    /// Change a key of the recipe, as in `--set data.eval=rows.jsonl`; repeatable
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// A model: a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]; without it the recipe's base. A second
    /// one is compared with the first, and so on
    #[arg(long, value_parser = expanded)]
    model: Vec<String>,
    /// An adapter folder, or the output.dir of a run, beside the first model; repeatable
    #[arg(long, value_parser = path())]
    adapter: Vec<PathBuf>,
    /// Rows to measure on instead of a recipe's: any file that can be trained on
    #[arg(long, requires = "model", value_parser = expanded)]
    input: Option<String>,
    /// Questions with choices, as ARC, HellaSwag, MMLU and PIQA are on the Hub: a Parquet or JSON lines file
    #[arg(long, value_name = "FILE", value_parser = path())]
    choices: Option<PathBuf>,
    /// Whose questions they are; without it seen from the columns
    #[arg(long, requires = "choices", value_parser = tasks())]
    task: Option<Task>,
    /// Answer the prompts of the rows and compare the answers with those of the rows, by every metric
    #[arg(long)]
    generate: bool,
    /// The same, by these metrics: exact_match, rouge_l, bleu, chrf, wer, cer, json_valid, tool_name, tool_arguments
    #[arg(long, value_delimiter = ',', value_parser = metrics(), hide_possible_values = true)]
    metrics: Vec<&'static Metric>,
    /// The most new tokens of an answer
    #[arg(long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = whole::<0, usize>)]
    max_tokens: usize,
    /// Prompts that are answered at once; latencies are those of one at a time only with 1
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = whole::<0, usize>)]
    batch_size: usize,
    /// Ask only the first N questions and answer only the first N prompts
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<1, u32>)]
    limit: Option<u32>,
    /// Rows to show of which the last model or adapter makes least
    #[arg(long, default_value_t = 3, value_name = "N", allow_negative_numbers = true, value_parser = whole::<0, usize>)]
    worst: usize,
    /// Write each row with what was measured of it to this file of JSON lines
    #[arg(long, value_name = "F.jsonl", value_parser = path())]
    output: Option<PathBuf>,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    device: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn tasks() -> impl TypedValueParser<Value = Task> {
    let names = PossibleValuesParser::new(Task::ALL.map(|task| PossibleValue::new(task.name())));
    names.try_map(|name| Task::ALL.into_iter().find(|task| task.name() == name).ok_or("no such task"))
}

fn metrics() -> impl TypedValueParser<Value = &'static Metric> {
    let names = PossibleValuesParser::new(METRICS.iter().map(|metric| PossibleValue::new(metric.name)));
    names.try_map(|name| Metric::named(&name).ok_or("no such metric"))
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        let relief = Relief::on("evaluating", &self.device);
        match self.generate || !self.metrics.is_empty() {
            true => relief.with_fewer_at_once(self.batch_size).with("a smaller `--max-tokens`"),
            false if self.has_keys() => relief.with("a smaller `--set data.max_length=..`"),
            false => relief,
        }
    }

    /// Whether keys of a recipe say how rows are read.
    pub fn has_keys(&self) -> bool {
        self.recipe.is_some() || self.input.is_some()
    }

    /// Prints what was measured of models and adapters on the same rows.
    pub fn run(self) -> Result<()> {
        // Who has no recipe has no keys to change in it, and options for them.
        let is_made = self.recipe.is_none() && self.input.is_some();
        self.measure().map_err(|error| match is_made {
            true => error.reword(&|hint| as_options(hint, super::OF_A_MODEL)),
            false => error,
        })
    }

    fn measure(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        let worst = self.worst;
        // The recipe's own files, and those that rows name, are met when they are opened.
        let inputs = [self.recipe.as_deref(), self.input.as_deref().map(Path::new), self.choices.as_deref()];
        let models = self.model.iter().map(Path::new).chain(self.adapter.iter().map(PathBuf::as_path));
        let inputs: Vec<&Path> = inputs.into_iter().flatten().chain(models).collect();
        let _claim = self.output.as_deref().map(|output| check_target("--output", output, &inputs)).transpose()?;
        let (json, output) = (self.json, self.output.clone());
        let mut report = evaluate::evaluate(&self.asked()?, &screen)?;
        if let Some(path) = output {
            let lines: String = row_lines(&report).map(|line| line + "\n").collect();
            crate::atomic::write(&path, lines.as_bytes())?;
        }
        report.worst.truncate(worst);
        if json { super::print_json(&report) } else { show(&report) }
    }

    /// What is asked, checked.
    fn asked(self) -> Result<Asked> {
        let rows = match (&self.recipe, &self.input, self.model.first()) {
            (Some(recipe), ..) => Some(Rows::of_recipe(recipe::load(recipe, &self.set)?)),
            (None, Some(input), Some(model)) => Some(Rows::of_file(input, model, &self.set)?),
            _ => None,
        };
        let models = match &rows {
            Some(rows) if self.model.is_empty() => vec![rows.base().to_owned()],
            _ => self.model,
        };
        let wrong = |what: &str, place: &str, hint: &str| {
            Err(Error::new(Kind::Recipe, what).at(Place::Named(place.to_owned())).hint(hint.to_owned()))
        };
        if models.is_empty() || rows.is_none() && self.choices.is_none() {
            let hint = "`evaluate RECIPE --adapter A`, `evaluate --model M --adapter A --input rows.jsonl`, or `evaluate --model M \
                        --choices arc.parquet`";
            return wrong(
                "there is nothing to measure: name a recipe, or a model with rows or questions",
                "evaluate",
                hint,
            );
        }
        let metrics = if self.generate && self.metrics.is_empty() { METRICS.iter().collect() } else { self.metrics };
        if rows.is_none() && !metrics.is_empty() {
            return wrong("there are no prompts to answer", "--generate", "name a recipe, or rows with `--input`");
        }
        let limit = self.limit.map(|n| n as usize);
        let questions = self.choices.map(|path| Questions::read(&path, self.task, limit)).transpose()?;
        let asking = Asking { max_tokens: self.max_tokens, batch_size: self.batch_size, limit };
        Ok(Asked { models, adapters: self.adapter, rows, questions, metrics, asking, device: self.device })
    }
}

/// The report for people.
fn show(report: &Report) -> Result<()> {
    let names = names(&report.contestants);
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    for metric in report.metrics.iter().filter(|metric| metric.rows > 0) {
        let tokens = match (&report.losses, metric.metric.as_str()) {
            (Some(_), "loss" | "perplexity") => format!(", {} supervised tokens", tokens(&report.supervised_tokens)),
            _ => String::new(),
        };
        let rows = text::counted(metric.rows, "row");
        super::print_text(&format!("{} ({}; {rows}{tokens})", metric.metric, metric.about))?;
        names.iter().enumerate().try_for_each(|(at, name)| super::print_text(&line(metric, at, name, width)))?;
        super::print_text("")?;
    }
    for (thresholds, name) in report.thresholds.iter().zip(&names) {
        table(thresholds, name).iter().try_for_each(|line| super::print_text(line))?;
    }
    if report.latency.iter().any(Option::is_some) {
        super::print_text("latency")?;
        for (name, latency) in names.iter().zip(&report.latency) {
            let Some(latency) = latency else { continue };
            let first = 1000.0 * latency.first_token_secs;
            let (rate, at_once) = (text::rate(latency.tokens_per_second), latency.batch_size);
            super::print_text(&format!(
                "  {name:<width$}  first token after {first:.0} ms, {rate} tokens/s, {at_once} at once"
            ))?;
        }
        super::print_text("")?;
    }
    for (number, worst) in report.worst.iter().enumerate() {
        if number == 0 {
            super::print_text("rows with the highest loss")?;
        }
        let losses: Vec<String> = worst.losses.iter().map(|loss| format!("{loss:.3}")).collect();
        let text = excerpt(&printable(&worst.text).replace('\n', " "), 100);
        super::print_text(&format!("  {}: {}  ..{text}", worst.place, losses.join(" -> ")))?;
    }
    Ok(())
}

/// What thresholds would do with rows that are judged one by one.
fn table(thresholds: &Thresholds, name: &str) -> Vec<String> {
    let Thresholds { rows, good, are_prompts, suggested, cuts } = thresholds;
    let [of_good, of_bad] = thresholds.kinds();
    let rows_of = text::counted(*rows as u64, "row");
    let heads = match are_prompts {
        true => ["answered here", "wrongly here", "wrongly handed on"],
        false => ["accepted", "wrongly accepted", "wrongly refused"],
    };
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let line = |first: &str, cells: [String; 3]| {
        let cells: Vec<String> =
            cells.iter().zip(heads).map(|(cell, head)| format!("{cell:>width$}", width = head.len())).collect();
        format!("  {first:<12}  {}", cells.join("  "))
    };
    let mut lines = vec![
        format!("thresholds of {name} ({rows_of}: {good} {of_good}, {} {of_bad})", rows - good),
        line("threshold", heads.map(str::to_owned)),
    ];
    lines.extend(cuts.iter().map(|cut| {
        let cells = [Some(cut.accepted), cut.wrongly_accepted, cut.wrongly_refused].map(share);
        line(&cut.threshold.to_string(), cells)
    }));
    lines.push(match (suggested, are_prompts) {
        (Some(threshold), true) => format!(
            "  suggested: `threshold: {threshold}` in the rules of `serve --route`: the fewest mistakes where both kinds count the same"
        ),
        (Some(threshold), false) => {
            format!("  suggested: {threshold}: the fewest mistakes where both kinds count the same")
        }
        (None, _) => "  none is suggested: no threshold tells the two kinds apart".to_owned(),
    });
    lines.push(String::new());
    lines
}

/// How many tokens losses are of: one number where all contestants have the same.
fn tokens(of_each: &[u64]) -> String {
    let mut counts: Vec<String> = of_each.iter().map(|count| text::count(*count)).collect();
    counts.dedup();
    counts.join(" / ")
}

/// What contestants are called in the table: the first is the base where the others are adapters on it.
fn names(contestants: &[Contestant]) -> Vec<String> {
    let is_base = |contestant: &Contestant| {
        contestant.adapter.is_none() && contestants.iter().all(|other| other.model == contestant.model)
    };
    let name = |contestant: &Contestant| if is_base(contestant) { "base".to_owned() } else { contestant.name() };
    contestants.iter().map(name).collect()
}

/// A contestant's line: its value with the interval, what it has more than the first, and how often chance makes as much.
fn line(metric: &MetricReport, at: usize, name: &str, width: usize) -> String {
    let (value, told) = (&metric.values[at], text::metric);
    let own = format!("  {name:<width$}  {:>9}  [{}, {}]", told(value.value), told(value.low), told(value.high));
    match &metric.differences[at] {
        None if at > 0 => format!("{own}  not compared: of other tokens"),
        None => own,
        Some(difference) => {
            let by = &difference.interval;
            let better = metric.more_is_better.map(|more| (by.value > 0.0) == more);
            let verdict = match (difference.p < 0.05, better) {
                (false, _) if by.value == 0.0 => "the same",
                (false, _) => "no difference that is sure",
                (true, Some(true)) => "better",
                (true, Some(false)) => "WORSE",
                (true, None) => "different",
            };
            let [value, low, high] = [by.value, by.low, by.high].map(text::signed_metric);
            format!("{own}  {value:>9}  [{low}, {high}]  p {:.4}  {verdict}", difference.p)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::roc::Cut;
    use insta::assert_snapshot;

    #[test]
    fn thresholds_are_a_table_in_the_words_of_what_they_are_for() {
        let cut = |threshold, accepted, wrongly_accepted| Cut {
            threshold,
            accepted,
            wrongly_accepted,
            wrongly_refused: Some(0.125),
        };
        let cuts = vec![cut(0.0312, 0.9375, Some(1.0)), cut(0.5, 0.5, None)];
        let of = |are_prompts, suggested| Thresholds { rows: 16, good: 8, are_prompts, suggested, cuts: cuts.clone() };
        assert_snapshot!(table(&of(true, Some(0.5)), "out/router").join("\n"), @r"
        thresholds of out/router (16 rows: 8 for here, 8 for elsewhere)
          threshold     answered here  wrongly here  wrongly handed on
          0.0312               93.8 %       100.0 %             12.5 %
          0.5                  50.0 %             -             12.5 %
          suggested: `threshold: 0.5` in the rules of `serve --route`: the fewest mistakes where both kinds count the same
        ");
        let judge = table(&of(false, None), "judge");
        assert!(judge[0].ends_with("8 good, 8 bad)") && judge[1].contains("wrongly accepted"), "{judge:?}");
        assert_eq!(judge[4], "  none is suggested: no threshold tells the two kinds apart");
    }
}
