//! What a request for answers asks for.

use super::fields::{Fields, few};
use super::wanted::Wanted;
use crate::infer::{Prompt, Sampling};
use crate::serve::grammar::Shape;
use crate::serve::refusal::{Refusal, TOO_LONG};
use crate::serve::worker::{Ask, Said};
use crate::serve::{ServeOptions, Side};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

type Result<T> = std::result::Result<T, Refusal>;

/// Fields of both kinds of requests.
const KNOWN: [&str; 15] = [
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "logprobs",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "priority",
];
/// Fields of a chat.
const OF_CHATS: [&str; 7] = [
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
];
/// Fields of texts to go on with.
const OF_TEXTS: [&str; 4] = ["prompt", "echo", "best_of", "suffix"];
/// Fields on which no answer depends.
const WITHOUT_EFFECT: [&str; 6] =
    ["user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"];

/// The most texts that may end an answer.
const MOST_STOPS: usize = 16;
/// The most tokens that a request may bias: each is looked at once for each token of an answer.
const MOST_BIASES: usize = 1024;
/// The most messages of a chat, as of OpenAI.
const MOST_MESSAGES: usize = 2048;

/// How answers are asked for.
#[derive(Debug)]
pub struct Asked {
    /// The model's name.
    pub model: String,
    /// Answers to each prompt.
    pub answers: usize,
    /// Whether they are wanted while they come.
    pub stream: bool,
    /// Whether a stream ends with how many tokens there were.
    pub include_usage: bool,
    /// As of [`Ask`].
    pub logprobs: Option<usize>,
    /// The names of tools that may be called.
    pub tools: Vec<String>,
    /// What answers have to be, where that is not any text.
    pub shape: Option<Shape>,
    /// What calls in them have to be, where they may be any text.
    pub calls: Option<Shape>,
    max_tokens: Option<usize>,
    sampling: Sampling,
    seed: Option<u64>,
    bias: Vec<(u32, f32)>,
    presence_penalty: f32,
    frequency_penalty: f32,
    stops: Vec<String>,
    priority: i32,
}

/// Prompts as a request has them.
#[derive(Debug, Clone, PartialEq)]
pub enum Texts {
    /// Texts.
    Texts(Vec<String>),
    /// Tokens.
    Tokens(Vec<Vec<u32>>),
}

impl Asked {
    /// What a request for an answer in a chat asks for.
    ///
    /// # Errors
    /// Fields that are wrong, unknown, or ask for what is not done here.
    pub fn chat(object: &Map<String, Value>, options: &ServeOptions) -> Result<Self> {
        let fields = Fields(object);
        fields.check(&[&KNOWN[..], &OF_CHATS].concat(), &WITHOUT_EFFECT)?;
        if fields.get("messages").is_none() {
            return Err(Refusal::param("messages", "`messages` is missing"));
        }
        let messages = fields.get("messages").and_then(Value::as_array).map_or(0, Vec::len);
        few("messages", messages, MOST_MESSAGES, "messages")?;
        let Wanted { tools, shape, calls } = Wanted::of(&fields)?;
        let top = fields.count("top_logprobs", 0..=20)?;
        let logprobs = fields.flag("logprobs")?;
        if top.is_some() && !logprobs {
            return Err(Refusal::param("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
        }
        let asked = Asked::of(&fields, logprobs.then(|| top.unwrap_or(0)), options)?;
        let newer = fields.count("max_completion_tokens", 1..=u64::MAX)?;
        match (newer, asked.max_tokens) {
            (Some(newer), Some(older)) if newer != older => {
                Err(Refusal::param("max_tokens", "`max_tokens` and `max_completion_tokens` differ"))
            }
            _ => Ok(Asked { max_tokens: newer.or(asked.max_tokens), tools, shape, calls, ..asked }),
        }
    }

    /// What a request to go on with texts asks for, and these.
    ///
    /// # Errors
    /// As [`Asked::chat`].
    pub fn texts(object: &Map<String, Value>, options: &ServeOptions) -> Result<(Self, Texts)> {
        let fields = Fields(object);
        fields.check(&[&KNOWN[..], &OF_TEXTS].concat(), &WITHOUT_EFFECT)?;
        if fields.flag("echo")? {
            return Err(Refusal::param("echo", "prompts are not said back"));
        }
        if fields.get("suffix").is_some_and(|suffix| suffix != "") {
            return Err(Refusal::param("suffix", "texts are gone on with, and no gaps are filled"));
        }
        let logprobs = fields.count("logprobs", 0..=20)?;
        let asked = Asked::of(&fields, logprobs, options)?;
        if fields.count("best_of", 1..=u64::MAX)?.is_some_and(|best| best != asked.answers) {
            return Err(Refusal::param("best_of", "all answers are given, and none is left out: `best_of` is `n`"));
        }
        let prompts = fields.get("prompt").ok_or_else(|| Refusal::param("prompt", "`prompt` is missing"))?;
        Ok((asked, Texts::of(prompts, "prompt")?))
    }

    fn of(fields: &Fields<'_>, logprobs: Option<usize>, options: &ServeOptions) -> Result<Self> {
        let model = fields.text("model")?.ok_or_else(|| Refusal::param("model", "`model` is missing"))?;
        let usual = options.sampling;
        let sampling = Sampling {
            temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(usual.temperature),
            top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(usual.top_p),
            top_k: fields.count("top_k", 0..=u64::MAX)?.unwrap_or(usual.top_k),
        };
        let stops = fields.texts("stop")?;
        if stops.len() > MOST_STOPS || stops.iter().any(String::is_empty) {
            return Err(Refusal::param("stop", format!("`stop` is at most {MOST_STOPS} texts, none of them empty")));
        }
        let stream = fields.flag("stream")?;
        let include_usage = match fields.get("stream_options") {
            None => false,
            Some(_) if !stream => {
                return Err(Refusal::param("stream_options", "`stream_options` needs `stream: true`"));
            }
            Some(Value::Object(options)) => {
                let options = Fields(options);
                options.check(&["include_usage"], &["include_obfuscation"])?;
                options.flag("include_usage")?
            }
            Some(_) => return Err(Refusal::param("stream_options", "`stream_options` is an object")),
        };
        Ok(Asked {
            model: model.to_owned(),
            answers: fields.count("n", 1..=options.most_answers as u64)?.unwrap_or(1),
            stream,
            include_usage,
            logprobs,
            tools: Vec::new(),
            shape: None,
            calls: None,
            max_tokens: fields.count("max_tokens", 1..=u64::MAX)?,
            sampling,
            seed: seed(fields)?,
            bias: bias(fields)?,
            presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0) as f32,
            frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0) as f32,
            stops,
            priority: priority(fields)?,
        })
    }

    /// The fields that a request for an answer in a chat may have.
    #[cfg(test)]
    pub fn fields_of_chats() -> Vec<&'static str> {
        [&KNOWN[..], &OF_CHATS, &WITHOUT_EFFECT].concat()
    }

    /// The fields that a request to go on with texts may have.
    #[cfg(test)]
    pub fn fields_of_texts() -> Vec<&'static str> {
        [&KNOWN[..], &OF_TEXTS, &WITHOUT_EFFECT].concat()
    }

    /// Refuses biases of tokens that a model of so many words does not have.
    ///
    /// # Errors
    /// The first of these.
    pub fn check_words(&self, words: usize) -> Result<()> {
        match self.bias.iter().find(|(id, _)| *id as usize >= words) {
            Some((id, _)) => Err(Refusal::param("logit_bias", format!("token {id} is not among the model's {words}"))),
            None => Ok(()),
        }
    }

    /// New tokens of all its answers together, at most; `usual` is how many one has where it does not say.
    pub fn most_tokens(&self, usual: usize) -> usize {
        self.max_tokens.unwrap_or(usual).saturating_mul(self.answers)
    }

    /// New tokens of an answer to a prompt of so many tokens, at most, where a model takes `context` of both together.
    ///
    /// # Errors
    /// A prompt that leaves no room for its answer.
    pub fn room(&self, prompt_tokens: usize, (context, usual): (usize, usize)) -> Result<usize> {
        let room = context.saturating_sub(prompt_tokens);
        let wanted = self.max_tokens.unwrap_or(usual.min(room));
        if room == 0 || wanted > room {
            let wanted =
                self.max_tokens.map(|wanted| format!(" of the {wanted} that are asked for")).unwrap_or_default();
            let what = format!(
                "the prompt has {prompt_tokens} tokens, which leaves room for {room}{wanted}: the model takes {context}"
            );
            return Err(Refusal::bad(what).code(TOO_LONG));
        }
        Ok(wanted)
    }

    /// The same for the worker: of a prompt, whose first answer has the number `first`. `usual_seed` is that of a request without one,
    /// and `room` is as of [`Asked::room`].
    ///
    /// # Errors
    /// A prompt that leaves no room for its answer.
    pub fn ask(
        &self,
        prompt: Prompt,
        side: Arc<Side>,
        first: usize,
        usual_seed: u64,
        room: (usize, usize),
        reply: UnboundedSender<Said>,
    ) -> Result<Ask> {
        let wanted = self.room(prompt.tokens(), room)?;
        Ok(Ask {
            prompt,
            side,
            answers: self.answers,
            max_tokens: wanted,
            sampling: self.sampling,
            seed: self.seed.unwrap_or(usual_seed),
            bias: self.bias.clone(),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            hold: None,
            stops: self.stops.clone(),
            priority: self.priority,
            logprobs: self.logprobs,
            first,
            reply,
        })
    }
}

impl Default for Texts {
    fn default() -> Self {
        Texts::Texts(Vec::new())
    }
}

impl Texts {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Texts::Texts(texts) => texts.len(),
            Texts::Tokens(lists) => lists.len(),
        }
    }

    /// Texts, or tokens, in the four forms that the field `name` may have.
    ///
    /// # Errors
    /// What has none of these.
    pub fn of(prompt: &Value, name: &str) -> Result<Self> {
        let wrong = || {
            let what = format!("`{name}` is a text, a list of texts, or one or several lists of tokens");
            Refusal::param(name, what)
        };
        let tokens = |list: &Value| -> Option<Vec<u32>> {
            list.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
        };
        match prompt {
            Value::String(text) => Ok(Texts::Texts(vec![text.clone()])),
            Value::Array(list) if list.is_empty() => Err(wrong()),
            Value::Array(list) if list[0].is_string() => {
                let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map(Texts::Texts).ok_or_else(wrong)
            }
            Value::Array(list) if list[0].is_array() => {
                list.iter().map(tokens).collect::<Option<_>>().map(Texts::Tokens).ok_or_else(wrong)
            }
            list => tokens(list).map(|ids| Texts::Tokens(vec![ids])).ok_or_else(wrong),
        }
    }
}

fn seed(fields: &Fields<'_>) -> Result<Option<u64>> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    let number = value.as_u64().or_else(|| value.as_i64().map(|number| number as u64));
    number.map(Some).ok_or_else(|| Refusal::param("seed", "`seed` is a whole number"))
}

fn priority(fields: &Fields<'_>) -> Result<i32> {
    let Some(value) = fields.get("priority") else { return Ok(0) };
    let number = value.as_i64().filter(|number| (-100..=100).contains(number));
    number.map(|number| number as i32).ok_or_else(|| {
        Refusal::param(
            "priority",
            "`priority` is a whole number from -100 to 100: those of a higher one are answered first",
        )
    })
}

fn bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>> {
    let wrong = || Refusal::param("logit_bias", "`logit_bias` is an object of numbers from -100 to 100 by token ids");
    match fields.get("logit_bias") {
        None => Ok(Vec::new()),
        Some(Value::Object(biases)) => {
            few("logit_bias", biases.len(), MOST_BIASES, "tokens")?;
            let bias = |(id, bias): (&String, &Value)| {
                let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias)).ok_or_else(wrong)?;
                Ok((id.parse().map_err(|_| wrong())?, bias as f32))
            };
            biases.iter().map(bias).collect()
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::Keys;
    use serde_json::json;

    fn options() -> ServeOptions {
        let sampling = Sampling { temperature: 1.0, top_k: 64, top_p: 0.95 };
        ServeOptions {
            keys: Keys::default(),
            max_body_bytes: 1 << 20,
            max_tokens: 100,
            sampling,
            most_answers: 16,
            most_waiting: 8,
            request_time: std::time::Duration::from_secs(1),
            requests_per_minute: None,
            tokens_per_minute: None,
            tuning: None,
            routing: None,
        }
    }

    /// What is wrong with a chat that has these fields too: the field, and the message.
    fn problem(more: Value) -> (String, String) {
        let mut object = json!({"model": "m", "messages": []});
        let map = object.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        let error = Asked::chat(map, &options()).unwrap_err().json();
        let of = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
        (of("param"), of("message"))
    }

    #[test]
    fn wrong_fields_are_named() {
        for (more, field, part) in [
            (json!({"temprature": 1}), "temprature", "did you mean `temperature`?"),
            (json!({"temperature": 3}), "temperature", "from 0 to 2, not 3"),
            (json!({"temperature": "hot"}), "temperature", "not \"hot\""),
            (json!({"n": 0}), "n", "1 to 16, not 0"),
            (json!({"max_tokens": -1}), "max_tokens", "1 or more, not -1"),
            (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens", "differ"),
            (json!({"stop": ["a", ""]}), "stop", "none of them empty"),
            (json!({"stop": [1]}), "stop", "a list of them, not 1"),
            (json!({"stream": "yes"}), "stream", "true or false"),
            (json!({"stream_options": {"include_usage": true}}), "stream_options", "needs `stream: true`"),
            (json!({"top_logprobs": 3}), "top_logprobs", "needs `logprobs: true`"),
            (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "0 to 20"),
            (json!({"logit_bias": {"a": 1}}), "logit_bias", "by token ids"),
            (json!({"logit_bias": {"1": 101}}), "logit_bias", "-100 to 100"),
            (json!({"seed": 1.5}), "seed", "a whole number"),
            (json!({"priority": 101}), "priority", "-100 to 100"),
            (json!({"tools": [{"type": "function"}]}), "tools", "a list of"),
            (json!({"model": null}), "model", "missing"),
            (json!({"messages": null}), "messages", "missing"),
        ] {
            let (param, message) = problem(more.clone());
            assert!(param == field && message.contains(part), "{more}: {param}: {message}");
        }
    }

    #[test]
    fn lists_have_a_documented_end() {
        let message = json!({"role": "user", "content": "a"});
        let biases = |count: usize| (0..count).map(|id| (id.to_string(), json!(1))).collect::<Map<_, _>>();
        let tool = |at: usize| json!({"type": "function", "function": {"name": format!("f{at}")}});
        let tools = |count: usize| (0..count).map(tool).collect::<Vec<_>>();
        for (more, field, part) in [
            (json!({"messages": vec![message.clone(); 2049]}), "messages", "has 2049 messages: at most 2048"),
            (json!({"logit_bias": biases(1025)}), "logit_bias", "has 1025 tokens: at most 1024"),
            (json!({"tools": tools(129)}), "tools", "has 129 tools: at most 128"),
            (json!({"stop": vec!["a"; 17]}), "stop", "at most 16"),
            (json!({"n": 17}), "n", "1 to 16"),
        ] {
            let (param, message) = problem(more);
            assert!(param == field && message.contains(part), "{param}: {message}");
        }
        let most =
            json!({"model": "m", "messages": vec![message; 2048], "logit_bias": biases(1024), "tools": tools(128)});
        assert!(Asked::chat(most.as_object().unwrap(), &options()).is_ok());
    }

    #[test]
    fn what_is_not_said_is_the_servers() {
        let object = json!({"model": "m", "messages": [], "tools": [], "user": "u", "seed": -1, "temperature": 0,
            "logit_bias": {"7": -100}, "stop": "x", "max_completion_tokens": 5, "top_p": null});
        let asked = Asked::chat(object.as_object().unwrap(), &options()).unwrap();
        assert_eq!(asked.tools, Vec::<String>::new());
        assert_eq!(asked.sampling, Sampling { temperature: 0.0, top_k: 64, top_p: 0.95 });
        assert_eq!((asked.seed, asked.max_tokens, asked.answers), (Some(u64::MAX), Some(5), 1));
        assert_eq!((asked.bias, asked.stops, asked.logprobs), (vec![(7, -100.0)], vec!["x".to_owned()], None));
    }

    #[test]
    fn prompts_are_texts_or_tokens() {
        let of = |prompt: Value| Texts::of(&prompt, "prompt").ok();
        let text = |texts: &[&str]| Some(Texts::Texts(texts.iter().map(|text| (*text).to_owned()).collect()));
        assert_eq!(of(json!("a")), text(&["a"]));
        assert_eq!(of(json!(["a", "b"])), text(&["a", "b"]));
        assert_eq!(of(json!([1, 2])), Some(Texts::Tokens(vec![vec![1, 2]])));
        assert_eq!(of(json!([[1], [2, 3]])), Some(Texts::Tokens(vec![vec![1], vec![2, 3]])));
        for wrong in [json!([]), json!(1), json!(["a", 1]), json!([1, "a"]), json!([[1], 2]), json!([-1]), json!([1.5])]
        {
            assert_eq!(of(wrong.clone()), None, "{wrong}");
        }
    }
}
