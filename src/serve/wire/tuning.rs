//! Files and fine-tuning in OpenAI's forms.

use super::fields::Fields;
use crate::progress::metric;
use crate::queue::{Checkpoint, Event, Paged, Run, Status, Stored};
use crate::serve::refusal::Refusal;
use crate::serve::tuning::{Chosen, Method, Wanted};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Refusal>;

/// What a file of rows is for.
pub const PURPOSE: &str = "fine-tune";
/// What a file is for that a job has left.
pub const RESULTS: &str = "fine-tune-results";

const KNOWN: [&str; 9] = [
    "training_file",
    "validation_file",
    "model",
    "suffix",
    "seed",
    "method",
    "hyperparameters",
    "metadata",
    "integrations",
];
const MOST_EPOCHS: u64 = 1000;
const MOST_BATCH: u64 = 4096;
const MOST_SUFFIX: usize = 64;
const MOST_METADATA: usize = 16;

/// A job that somebody wants.
#[derive(Debug)]
pub struct Create {
    /// The model that is tuned.
    pub model: String,
    /// The file of its rows.
    pub training_file: String,
    /// The file of those that it is measured on.
    pub validation_file: Option<String>,
    /// A part of the tuned model's name.
    pub suffix: String,
    /// How.
    pub wanted: Wanted,
    /// What the job says of itself, where it is said as it was asked for.
    pub details: Value,
}

impl Create {
    /// The fields that such a request may have.
    #[cfg(test)]
    pub fn fields() -> Vec<&'static str> {
        KNOWN.to_vec()
    }

    /// What a request asks for; `usual_seed` is that of one without.
    ///
    /// # Errors
    /// Fields that are wrong, unknown, or ask for what is not done here.
    pub fn of(object: &Map<String, Value>, usual_seed: u64) -> Result<Self> {
        let fields = Fields(object);
        fields.check(&KNOWN, &[])?;
        let required =
            |name: &str| fields.text(name)?.ok_or_else(|| Refusal::param(name, format!("`{name}` is missing")));
        let (model, training_file) = (required("model")?, required("training_file")?);
        let validation_file = fields.text("validation_file")?;
        let suffix = fields.text("suffix")?.unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if suffix.chars().count() > MOST_SUFFIX || !suffix.chars().all(is_plain) {
            let what =
                format!("`suffix` is part of a model's name: at most {MOST_SUFFIX} letters, digits, `-`, `_` and `.`");
            return Err(Refusal::param("suffix", what));
        }
        if fields.get("integrations").is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty())) {
            return Err(Refusal::param("integrations", "nobody else is told of jobs: `integrations` is empty"));
        }
        let metadata = metadata(&fields)?;
        let (method, hyperparameters) = method(&fields)?;
        let none = Map::new();
        let given = Fields(hyperparameters.unwrap_or(&none));
        let known: &[&str] = match method {
            Method::Supervised => &["n_epochs", "batch_size", "learning_rate_multiplier"],
            Method::Dpo => &["n_epochs", "batch_size", "learning_rate_multiplier", "beta"],
        };
        given.check(known, &[])?;
        let is_said = |name: &str| given.get(name).is_some_and(|value| value != "auto");
        let wanted = Wanted {
            method,
            epochs: if is_said("n_epochs") {
                given.count("n_epochs", 1..=MOST_EPOCHS)?.map(|n| n as u64)
            } else {
                None
            },
            batch: if is_said("batch_size") { given.count("batch_size", 1..=MOST_BATCH)? } else { None },
            rate_multiplier: positive(&given, "learning_rate_multiplier", 1e4, is_said("learning_rate_multiplier"))?,
            beta: positive(&given, "beta", 2.0, is_said("beta"))?,
            seed: fields.count("seed", 0..=u64::from(u32::MAX))?.map_or(usual_seed, |seed| seed as u64),
            has_validation: validation_file.is_some(),
        };
        let details = json!({
            "model": model, "training_file": training_file, "validation_file": validation_file, "suffix": suffix,
            "seed": wanted.seed, "metadata": metadata, "method": method.name(),
            "n_epochs": wanted.epochs, "batch_size": wanted.batch, "learning_rate_multiplier": wanted.rate_multiplier,
            "beta": wanted.beta,
        });
        Ok(Create {
            model: model.to_owned(),
            training_file: training_file.to_owned(),
            validation_file: validation_file.map(str::to_owned),
            suffix: suffix.to_owned(),
            wanted,
            details,
        })
    }
}

/// How, and what is said of it: in `method`, or in the older way.
fn method<'a>(fields: &Fields<'a>) -> Result<(Method, Option<&'a Map<String, Value>>)> {
    let object = |value: &'a Value, name: &str| {
        value.as_object().ok_or_else(|| Refusal::param(name, format!("`{name}` is an object")))
    };
    let older = fields.get("hyperparameters").map(|value| object(value, "hyperparameters")).transpose()?;
    let Some(method) = fields.get("method") else { return Ok((Method::Supervised, older)) };
    if older.is_some() {
        return Err(Refusal::param("hyperparameters", "`hyperparameters` stand in `method`, or without it"));
    }
    let method = object(method, "method")?;
    let named = Fields(method);
    let kind = named.text("type")?.unwrap_or_default();
    let Some(kind) = Method::of(kind) else {
        return Err(Refusal::param("method", format!("`method.type` is `supervised` or `dpo`, not `{kind}`")));
    };
    named.check(&["type", kind.name()], &[]).map_err(|refusal| refusal.of("method"))?;
    let Some(own) = named.get(kind.name()) else { return Ok((kind, None)) };
    let own = Fields(object(own, "method")?);
    own.check(&["hyperparameters"], &[]).map_err(|refusal| refusal.of("method"))?;
    let given = own.get("hyperparameters").map(|value| object(value, "hyperparameters")).transpose()?;
    Ok((kind, given))
}

fn positive(fields: &Fields<'_>, name: &str, most: f64, is_said: bool) -> Result<Option<f64>> {
    if !is_said {
        return Ok(None);
    }
    match fields.number(name, 0.0..=most)? {
        Some(0.0) => Err(Refusal::param(name, format!("`{name}` is more than 0"))),
        number => Ok(number),
    }
}

/// Texts that a job carries for whoever asked for it.
fn metadata(fields: &Fields<'_>) -> Result<Value> {
    let wrong = || {
        let what = format!("`metadata` has at most {MOST_METADATA} texts of 512 characters, with names of 64");
        Refusal::param("metadata", what)
    };
    let Some(metadata) = fields.get("metadata") else { return Ok(Value::Null) };
    let object = metadata.as_object().filter(|object| object.len() <= MOST_METADATA).ok_or_else(wrong)?;
    let is_short = |(name, value): (&String, &Value)| {
        name.chars().count() <= 64 && value.as_str().is_some_and(|text| text.chars().count() <= 512)
    };
    if object.iter().all(is_short) { Ok(metadata.clone()) } else { Err(wrong()) }
}

/// A file.
pub fn file(stored: &Stored) -> Value {
    let purpose = if stored.kind == RESULTS { RESULTS } else { PURPOSE };
    json!({
        "id": file_id(&stored.id), "object": "file", "bytes": stored.bytes, "created_at": stored.created,
        "filename": stored.name, "purpose": purpose, "status": "processed", "status_details": null, "expires_at": null,
    })
}

/// What a file is called outside.
pub fn file_id(id: &str) -> String {
    format!("file-{id}")
}

/// What a job is called outside.
pub fn job_id(id: &str) -> String {
    format!("ftjob-{id}")
}

/// A job, with what was chosen for it once it has begun.
pub fn job(run: &Run, chosen: Option<Chosen>) -> Value {
    let details = &run.details;
    let said = |name: &str, chosen: Option<Value>| match &details[name] {
        Value::Null => chosen.unwrap_or_else(|| "auto".into()),
        said => said.clone(),
    };
    let mut hyperparameters = json!({
        "n_epochs": said("n_epochs", chosen.map(|chosen| number(chosen.epochs))),
        "batch_size": said("batch_size", chosen.map(|chosen| chosen.batch.into())),
        "learning_rate_multiplier": said("learning_rate_multiplier", chosen.map(|chosen| number(chosen.rate_multiplier))),
    });
    let method = details["method"].as_str().unwrap_or_default();
    if method == Method::Dpo.name() {
        hyperparameters["beta"] = said("beta", chosen.and_then(|chosen| chosen.beta).map(number));
    }
    // One that was deleted is nowhere any more.
    let model = (run.status == Status::Succeeded && !run.is_dropped).then_some(&run.model);
    let error = run.error.as_ref().map(|failure| {
        let is_of = |name: &str| failure.place.as_deref().is_some_and(|place| place.starts_with(name));
        let files = [(crate::serve::TRAIN, "training_file"), (crate::serve::VALIDATION, "validation_file")];
        let param = files.into_iter().find(|(name, _)| is_of(name)).map(|(_, param)| param);
        json!({"code": failure.code, "message": failure.message, "param": param})
    });
    json!({
        "id": job_id(&run.id), "object": "fine_tuning.job", "model": details["model"], "created_at": run.created,
        "finished_at": run.finished, "fine_tuned_model": model, "organization_id": "gemma-tune",
        "result_files": run.results.iter().map(|id| file_id(id)).collect::<Vec<_>>(), "status": run.status.name(),
        "training_file": details["training_file"], "validation_file": details["validation_file"],
        "hyperparameters": hyperparameters, "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "trained_tokens": run.tokens, "error": error, "seed": details["seed"], "estimated_finish": null,
        "integrations": [], "metadata": details["metadata"], "user_provided_suffix": details["suffix"],
    })
}

/// A whole number as one.
fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { (number as i64).into() } else { number.into() }
}

/// Something that happened to a job.
pub fn event(event: &Event) -> Value {
    let (kind, message, data) = match &event.metrics {
        None => ("message", event.message.clone(), json!({})),
        Some(line) => ("metrics", said(line), metrics(line)),
    };
    json!({
        "object": "fine_tuning.job.event", "id": event_id(event.number), "created_at": event.at,
        "level": event.level.name(), "message": message, "type": kind, "data": data,
    })
}

/// What an event is called outside.
pub fn event_id(number: i64) -> String {
    format!("ftevent-{number}")
}

/// A step or an evaluation, in words.
fn said(line: &Value) -> String {
    let (step, number) = (&line["step"], |name: &str| line[name].as_f64().map(metric));
    match (number("loss"), number("eval_loss"), line["skipped_why"].as_str()) {
        (Some(loss), ..) => format!("Step {step}: training loss={loss}"),
        (_, Some(loss), _) => format!("Step {step}: validation loss={loss}"),
        (.., Some(why)) => format!("Step {step} was left out: {why}"),
        _ => format!("Step {step}: the loss is no number"),
    }
}

/// Its numbers by OpenAI's names.
fn metrics(line: &Value) -> Value {
    let names = [
        ("step", "step"),
        ("loss", "train_loss"),
        ("eval_loss", "valid_loss"),
        ("learning_rate", "learning_rate"),
        ("grad_norm", "grad_norm"),
        ("epoch", "epoch"),
        ("rewards/margins", "train_reward_margin"),
        ("rewards/accuracies", "train_reward_accuracy"),
    ];
    let named = names.into_iter().filter_map(|(ours, theirs)| Some((theirs.to_owned(), line.get(ours)?.clone())));
    Value::Object(named.collect())
}

/// A checkpoint of a run. It has no name to be asked by: it is what the run would go on from, and no adapter that could be served.
pub fn checkpoint(run: &Run, checkpoint: &Checkpoint) -> Value {
    let Checkpoint { step, at, metrics: lines } = checkpoint;
    let mut numbers = Map::new();
    lines.iter().for_each(|line| numbers.extend(metrics(line).as_object().cloned().unwrap_or_default()));
    numbers.insert("step".into(), (*step).into());
    json!({
        "object": "fine_tuning.job.checkpoint", "id": checkpoint_id(&run.id, *step), "created_at": at,
        "fine_tuned_model_checkpoint": null, "fine_tuning_job_id": job_id(&run.id),
        "metrics": numbers, "step_number": step,
    })
}

/// What a checkpoint is called outside.
pub fn checkpoint_id(run: &str, step: u64) -> String {
    format!("ftckpt-{run}-{step}")
}

/// A page of a list.
pub fn list<T>(paged: &Paged<T>, item: impl Fn(&T) -> Value) -> Value {
    let data: Vec<Value> = paged.items.iter().map(item).collect();
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    json!({
        "object": "list", "first_id": id(data.first()), "last_id": id(data.last()), "has_more": paged.has_more, "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Failure, Level};

    fn create(more: Value) -> Result<Create> {
        let mut object = json!({"model": "m", "training_file": "file-a"});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Create::of(object.as_object().unwrap(), 5)
    }

    #[test]
    fn methods_and_hyperparameters_are_ours() {
        let usual = create(json!({})).unwrap().wanted;
        let nothing = Wanted {
            method: Method::Supervised,
            epochs: None,
            batch: None,
            rate_multiplier: None,
            beta: None,
            seed: 5,
            has_validation: false,
        };
        assert_eq!(usual, nothing);
        let given = json!({"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5});
        let said = Wanted { epochs: Some(3), rate_multiplier: Some(0.5), ..nothing.clone() };
        assert_eq!(create(json!({"hyperparameters": given})).unwrap().wanted, said);
        let newer = json!({"method": {"type": "supervised", "supervised": {"hyperparameters": given}}});
        assert_eq!(create(newer).unwrap().wanted, said);
        let dpo = json!({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "batch_size": 4}}},
            "seed": 9, "validation_file": "file-b", "suffix": "x-1.2_y", "metadata": {"a": "b"}, "integrations": []});
        let made = create(dpo).unwrap();
        let said = Wanted {
            method: Method::Dpo,
            batch: Some(4),
            beta: Some(0.2),
            seed: 9,
            has_validation: true,
            ..nothing.clone()
        };
        assert_eq!((made.wanted, made.suffix.as_str()), (said, "x-1.2_y"));
        assert_eq!(create(json!({"method": {"type": "dpo"}})).unwrap().wanted.method, Method::Dpo);
    }

    #[test]
    fn what_is_wrong_or_not_done_is_named() {
        let hyper = |given: Value| json!({"hyperparameters": given});
        for (more, field, part) in [
            (json!({"model": null}), "model", "missing"),
            (json!({"training_file": 3}), "training_file", "is a text"),
            (json!({"sufix": "a"}), "sufix", "did you mean `suffix`?"),
            (json!({"suffix": "a/b"}), "suffix", "letters"),
            (json!({"suffix": "a".repeat(65)}), "suffix", "64"),
            (json!({"integrations": [{"type": "wandb"}]}), "integrations", "empty"),
            (json!({"metadata": {"a": 1}}), "metadata", "texts"),
            (hyper(json!({"n_epochs": 0})), "n_epochs", "1 to 1000"),
            (hyper(json!({"n_epochs": "many"})), "n_epochs", "not \"many\""),
            (hyper(json!({"learning_rate_multiplier": 0})), "learning_rate_multiplier", "more than 0"),
            (hyper(json!({"beta": 0.1})), "beta", "not known here"),
            (json!({"hyperparameters": 3}), "hyperparameters", "an object"),
            (json!({"method": {"type": "reinforcement"}}), "method", "`supervised` or `dpo`"),
            (json!({"method": {"type": "dpo", "supervised": {}}}), "method", "not known here"),
            (json!({"method": {"type": "dpo"}, "hyperparameters": {}}), "hyperparameters", "stand in `method`"),
            (json!({"seed": -1}), "seed", "whole number"),
        ] {
            let refused = create(more.clone()).unwrap_err().json();
            let of = |name: &str| refused["error"][name].as_str().unwrap_or_default();
            assert!(of("param") == field && of("message").contains(part), "{more}: {refused}");
        }
    }

    #[test]
    fn jobs_say_what_was_asked_chosen_and_wrong() {
        let details =
            create(json!({"hyperparameters": {"batch_size": 4}, "validation_file": "file-b"})).unwrap().details;
        let failure = Failure {
            code: "invalid_input".into(),
            message: "odd".into(),
            place: Some("validation.jsonl, row 3".into()),
        };
        let run = Run {
            id: "abc".into(),
            owner: "me".into(),
            status: Status::Failed,
            model: "ft:m::abc".into(),
            is_dropped: false,
            created: 1,
            started: Some(2),
            finished: Some(3),
            tokens: None,
            results: None,
            error: Some(failure),
            details,
            output: None,
            device: None,
            process: None,
        };
        let shown = job(&run, None);
        assert_eq!(
            shown["hyperparameters"],
            json!({"n_epochs": "auto", "batch_size": 4, "learning_rate_multiplier": "auto"})
        );
        assert_eq!(shown["error"], json!({"code": "invalid_input", "message": "odd", "param": "validation_file"}));
        assert_eq!((&shown["fine_tuned_model"], &shown["status"]), (&Value::Null, &json!("failed")));
        assert_eq!(shown["method"]["supervised"]["hyperparameters"], shown["hyperparameters"]);
        let done = Run { status: Status::Succeeded, error: None, results: Some("r".into()), ..run };
        let chosen = Chosen { epochs: 3.0, batch: 8, rate_multiplier: 2.5, beta: None };
        let shown = job(&done, Some(chosen));
        assert_eq!(shown["hyperparameters"], json!({"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 2.5}));
        assert_eq!((&shown["fine_tuned_model"], &shown["result_files"]), (&json!("ft:m::abc"), &json!(["file-r"])));
        assert!(shown.to_string().find("\"me\"").is_none(), "whose it is, is not said");
        let dropped = job(&Run { is_dropped: true, ..done }, Some(chosen));
        assert_eq!((&dropped["fine_tuned_model"], &dropped["status"]), (&Value::Null, &json!("succeeded")));
        assert_eq!(dropped["hyperparameters"], shown["hyperparameters"]);
    }

    #[test]
    fn steps_are_events_with_openais_names() {
        let of = |metrics: Option<Value>| {
            event(&Event { number: 7, at: 9, level: Level::Info, message: "Begun.".into(), metrics })
        };
        let step = of(Some(json!({"step": 2, "loss": 1.25, "learning_rate": 1e-4, "tokens": 99})));
        assert_eq!((&step["message"], &step["type"]), (&json!("Step 2: training loss=1.2500"), &json!("metrics")));
        assert_eq!(step["data"], json!({"step": 2, "train_loss": 1.25, "learning_rate": 1e-4}));
        assert_eq!(of(Some(json!({"step": 2, "eval_loss": 3.0})))["data"], json!({"step": 2, "valid_loss": 3.0}));
        assert_eq!(of(None)["message"], "Begun.");
        let paged = Paged { items: vec![1, 2], has_more: true };
        let listed = list(&paged, |number| json!({"id": event_id(*number)}));
        assert_eq!(
            (&listed["first_id"], &listed["last_id"], &listed["has_more"]),
            (&json!("ftevent-1"), &json!("ftevent-2"), &json!(true))
        );
    }
}
