//! What goes back, in OpenAI's forms.

use crate::serve::scored::Scored;
use crate::text::ToolCall;
use crate::text::called::Called;
use crate::text::stream::bytes;
use serde_json::{Map, Value, json};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Turns of a conversation.
    Chat,
    /// What follows a text.
    Text,
}

/// What all pieces of a reply have in common.
#[derive(Debug, Clone)]
pub struct Form {
    /// What was asked for.
    pub kind: Kind,
    /// Names the reply.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// Whether somebody asked how likely tokens were.
    pub with_logprobs: bool,
}

/// How tokens are spelt.
pub type Spelling<'a> = &'a dyn Fn(u32) -> Option<String>;

impl Form {
    /// A whole reply: a choice for each answer, and how many tokens there were.
    pub fn whole(&self, choices: Vec<Value>, prompt_tokens: usize, answer_tokens: usize) -> Value {
        let object = if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" };
        let mut reply = self.around(object, choices);
        reply["usage"] = usage(prompt_tokens, answer_tokens);
        reply
    }

    /// One answer of a whole reply: a text, or calls of tools.
    pub fn choice(
        &self,
        index: usize,
        text: &str,
        called: Option<&Called>,
        reason: &str,
        scored: &[Scored],
        spelling: Spelling<'_>,
    ) -> Value {
        let logprobs = self.logprobs(scored, spelling);
        match self.kind {
            Kind::Chat => json!({
                "index": index,
                "message": called.map_or_else(
                    || json!({"role": "assistant", "content": text, "refusal": null}),
                    |called| self.message(index, called),
                ),
                "logprobs": logprobs,
                "finish_reason": reason,
            }),
            Kind::Text => json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}),
        }
    }

    /// The first piece of an answer, before any text; a text has none.
    pub fn begin(&self, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        (self.kind == Kind::Chat).then(|| self.piece_of(choice))
    }

    /// More of an answer.
    pub fn piece(&self, index: usize, text: &str, scored: &[Scored], spelling: Spelling<'_>) -> Value {
        let logprobs = self.logprobs(scored, spelling);
        self.piece_of(match self.kind {
            Kind::Chat => {
                json!({"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": null})
            }
            Kind::Text => json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": null}),
        })
    }

    /// An answer that calls tools, in one piece.
    pub fn calls(&self, index: usize, called: &Called) -> Value {
        let delta = self.message(index, called);
        self.piece_of(json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null}))
    }

    /// A message that calls tools.
    fn message(&self, index: usize, Called { words, calls }: &Called) -> Value {
        let call = |(at, call): (usize, &ToolCall)| {
            let id = format!("call-{}-{index}-{at}", self.id);
            let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
            json!({"index": at, "id": id, "type": "function", "function": function})
        };
        let content = if words.is_empty() { Value::Null } else { json!(words) };
        let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
        json!({"role": "assistant", "content": content, "tool_calls": calls})
    }

    /// The end of an answer.
    pub fn end(&self, index: usize, reason: &str) -> Value {
        self.piece_of(match self.kind {
            Kind::Chat => json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}),
            Kind::Text => json!({"index": index, "text": "", "logprobs": null, "finish_reason": reason}),
        })
    }

    /// How many tokens there were, as the last piece.
    pub fn used(&self, prompt_tokens: usize, answer_tokens: usize) -> Value {
        let mut piece = self.around(self.object_of_pieces(), Vec::new());
        piece["usage"] = usage(prompt_tokens, answer_tokens);
        piece
    }

    fn piece_of(&self, choice: Value) -> Value {
        self.around(self.object_of_pieces(), vec![choice])
    }

    fn object_of_pieces(&self) -> &'static str {
        if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn around(&self, object: &str, choices: Vec<Value>) -> Value {
        let Form { id, created, model, .. } = self;
        json!({"id": id, "object": object, "created": created, "model": model, "choices": choices})
    }

    fn logprobs(&self, scored: &[Scored], spelling: Spelling<'_>) -> Value {
        if !self.with_logprobs {
            return Value::Null;
        }
        let spelt = |token: u32| Spelt::of(&spelling(token).unwrap_or_default());
        match self.kind {
            Kind::Chat => {
                let entry = |token: u32, logprob: f64| {
                    let Spelt { text, bytes } = spelt(token);
                    json!({"token": text, "logprob": logprob, "bytes": bytes})
                };
                let content = scored.iter().map(|scored| {
                    let mut whole = entry(scored.token, scored.logprob);
                    let top = scored.top.iter().map(|(token, logprob)| entry(*token, *logprob));
                    whole["top_logprobs"] = top.collect();
                    whole
                });
                json!({"content": content.collect::<Vec<_>>(), "refusal": null})
            }
            Kind::Text => {
                let top = scored.iter().map(|scored| {
                    let mut top = Map::new();
                    for (token, logprob) in &scored.top {
                        // Of those that are spelt alike the most likely one.
                        top.entry(spelt(*token).word()).or_insert(json!(logprob));
                    }
                    Value::Object(top)
                });
                json!({
                    "tokens": scored.iter().map(|scored| spelt(scored.token).word()).collect::<Vec<_>>(),
                    "token_logprobs": scored.iter().map(|scored| scored.logprob).collect::<Vec<_>>(),
                    "top_logprobs": top.collect::<Vec<_>>(),
                })
            }
        }
    }
}

fn usage(prompt_tokens: usize, answer_tokens: usize) -> Value {
    let total = prompt_tokens + answer_tokens;
    json!({"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens, "total_tokens": total})
}

/// A token as a text and as bytes.
struct Spelt {
    text: String,
    bytes: Vec<u8>,
}

impl Spelt {
    /// Of its spelling in the vocabulary.
    fn of(spelling: &str) -> Self {
        let bytes = bytes(spelling);
        Spelt { text: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    /// As text where that is all there is: bytes that are no text are `bytes:` and `\xE2`, as OpenAI spells them.
    fn word(self) -> String {
        let spelt = || self.bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        if std::str::from_utf8(&self.bytes).is_ok() { self.text } else { format!("bytes:{}", spelt()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_texts_and_bytes() {
        let spelt = |spelling: &str| {
            let Spelt { text, bytes } = Spelt::of(spelling);
            (text, bytes)
        };
        assert_eq!(spelt("▁a"), (" a".to_owned(), b" a".to_vec()));
        assert_eq!(spelt("<0x0A>"), ("\n".to_owned(), vec![10]));
        assert_eq!(spelt("<0xE2>"), ("\u{fffd}".to_owned(), vec![0xe2]));
        assert_eq!(spelt("<0xZZ>").0, "<0xZZ>");
    }

    #[test]
    fn pieces_have_openais_forms() {
        let form = Form { kind: Kind::Chat, id: "c".into(), created: 1, model: "m".into(), with_logprobs: true };
        let scored = [Scored { token: 1, logprob: -0.5, top: vec![(1, -0.5), (2, -1.0)] }];
        let spelling = |token: u32| Some(format!("▁{token}"));
        let piece = form.piece(0, " 1", &scored, &spelling);
        assert_eq!(piece["object"], "chat.completion.chunk");
        assert_eq!(piece["choices"][0]["delta"], json!({"content": " 1"}));
        let entry = &piece["choices"][0]["logprobs"]["content"][0];
        assert_eq!(
            (&entry["token"], &entry["bytes"], &entry["logprob"]),
            (&json!(" 1"), &json!([32, 49]), &json!(-0.5))
        );
        assert_eq!(entry["top_logprobs"][1], json!({"token": " 2", "logprob": -1.0, "bytes": [32, 50]}));
        assert_eq!(form.begin(1).unwrap()["choices"][0]["delta"]["role"], "assistant");
        let whole = form.whole(vec![form.choice(0, "x", None, "stop", &[], &spelling)], 3, 2);
        assert_eq!((&whole["object"], &whole["usage"]["total_tokens"]), (&json!("chat.completion"), &json!(5)));
        let called =
            Called { words: String::new(), calls: vec![ToolCall { name: "add".into(), arguments: json!({"a": 1}) }] };
        let piece = &form.calls(0, &called)["choices"][0]["delta"];
        assert_eq!(piece["tool_calls"][0]["function"], json!({"name": "add", "arguments": "{\"a\":1}"}));
        assert_eq!(form.choice(0, "x", Some(&called), "tool_calls", &[], &spelling)["message"]["content"], Value::Null);
        let text = Form { kind: Kind::Text, with_logprobs: false, ..form };
        assert_eq!(text.begin(0), None);
        assert_eq!(text.piece(0, "x", &scored, &spelling)["choices"][0]["logprobs"], Value::Null);
        let text = Form { with_logprobs: true, ..text };
        let logprobs = text.piece(0, "x", &scored, &spelling)["choices"][0]["logprobs"].clone();
        assert_eq!((&logprobs["tokens"], &logprobs["top_logprobs"][0][" 2"]), (&json!([" 1"]), &json!(-1.0)));
        // Bytes that are no text keep their places, and of a letter and its byte the likelier one is said.
        let top = vec![(0, -0.5), (1, -1.0), (2, -2.0), (3, -3.0)];
        let spelling = |token: u32| Some(["<0xE2>", "<0xE3>", "A", "<0x41>"][token as usize].to_owned());
        let logprobs = text.piece(0, "", &[Scored { token: 0, logprob: -0.5, top }], &spelling);
        let logprobs = &logprobs["choices"][0]["logprobs"];
        assert_eq!(logprobs["tokens"], json!(["bytes:\\xe2"]));
        assert_eq!(logprobs["top_logprobs"][0], json!({"bytes:\\xe2": -0.5, "bytes:\\xe3": -1.0, "A": -2.0}));
    }
}
