use super::*;
use crate::infer::{Adjusted, Choose, Sampler, Sampling};
use crate::random::{Label, Rng, Stream};
use crate::testkit::tokenizer::tiny_tokenizer;
use crate::text::called::{BEGIN, CallForm, END, calls};
use crate::text::{TokenStream, Tokenizer};
use std::sync::OnceLock as Once;

fn tokenizer() -> Tokenizer {
    tiny_tokenizer().unwrap()
}

/// The tiny tokenizer's words; its turns end with `<end_of_turn>`.
fn words() -> &'static Words {
    static WORDS: Once<Words> = Once::new();
    WORDS.get_or_init(|| {
        let tokenizer = tokenizer();
        let spellings = (0..512).map(|id| (tokenizer.token(id), tokenizer.is_special(id)));
        Words::of(spellings, &[tokenizer.id("<end_of_turn>").unwrap()]).unwrap()
    })
}

fn grammar(schema: Value) -> Grammar {
    words().grammar(&Shape { answer: Some(schema), ..Shape::default() }, CallForm::Json).unwrap()
}

fn random(number: u64) -> Stream {
    Rng::new(1).stream(&[Label::Purpose("grammar"), Label::Step(number)])
}

/// What a model that knows nothing says within `tokens` tokens, and whether it came to an end. Quotes, braces and what ends an answer are
/// a little likelier than the rest, as no text of so few words ever ended otherwise.
fn said(grammar: Grammar, number: u64, sampling: Sampling, tokens: usize) -> (String, bool) {
    let tokenizer = tokenizer();
    let end = tokenizer.id("<end_of_turn>").unwrap();
    let likely: Vec<u32> = ["\"", "}", "]", "<"].iter().filter_map(|word| tokenizer.id(word)).chain([end]).collect();
    let sampler = Sampler { sampling, random: random(number) };
    let bias = likely.iter().map(|id| (*id, 3.0)).collect();
    let adjusted = Adjusted { sampler, bias, presence_penalty: 0.0, frequency_penalty: 0.0 };
    let mut held = Held { adjusted, grammar, broken: Broken::default() };
    let (mut noise, mut text, mut ids) = (random(1_000 + number), String::new(), Vec::new());
    let mut stream = TokenStream::new(tokenizer);
    for _ in 0..tokens {
        let logits: Vec<f32> = (0..512).map(|_| 2.0 * noise.unit() as f32).collect();
        let token = held.choose(&logits, &ids);
        assert_eq!(held.broken.get(), None);
        if token == end {
            return (text + &stream.finish().unwrap_or_default(), true);
        }
        ids.push(token);
        text += &stream.push(token).unwrap_or_default();
    }
    (text + &stream.finish().unwrap_or_default(), false)
}

const ANY: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };

#[test]
fn whatever_is_drawn_is_of_the_schema() {
    let schemas = [
        json!({"type": "object"}),
        json!({"type": "boolean"}),
        json!({
            "type": "object",
            "properties": {
                "sky": {"enum": ["clear", "grey", "ночь 👋"]},
                "days": {"type": "integer", "minimum": 0, "maximum": 99},
                "note": {"type": ["string", "null"], "maxLength": 8},
            },
            "required": ["sky", "days", "note"],
            "additionalProperties": false,
        }),
        json!({"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2, "maxItems": 3}),
        json!({
            "$defs": {"tree": {
                "type": "object",
                "properties": {"leaves": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
                "required": ["leaves"],
                "additionalProperties": false,
            }},
            "$ref": "#/$defs/tree",
        }),
        json!({"anyOf": [{"const": {"a": [1, null]}}, {"type": "string", "pattern": "^[a-c]{2,3}$"}]}),
    ];
    let greedy_nucleus = Sampling { temperature: 0.7, top_k: 8, top_p: 0.9 };
    for schema in schemas {
        let (validator, grammar) = (jsonschema::validator_for(&schema).unwrap(), grammar(schema.clone()));
        let mut ended = 0;
        for number in 0..6 {
            let sampling = [ANY, greedy_nucleus, Sampling::GREEDY][number as usize % 3];
            let (text, is_whole) = said(grammar.clone(), number, sampling, 300);
            if is_whole {
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert!(validator.is_valid(&value), "{schema}: {text}");
                ended += 1;
            }
        }
        assert!(ended >= 3, "{schema}: {ended} of 6 came to an end");
    }
}

#[test]
fn an_answer_ends_with_its_form_and_not_before() {
    let tokenizer = tokenizer();
    let end = tokenizer.id("<end_of_turn>").unwrap() as usize;
    let mut grammar = grammar(json!({"const": "ab"}));
    let allowed = |grammar: &mut Grammar| {
        let mut logits = vec![0.0; 512];
        grammar.forbid(&mut logits).unwrap();
        let kept = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite());
        kept.map(|(id, _)| id).collect::<Vec<_>>()
    };
    for id in tokenizer.encode("\"ab\"").unwrap() {
        let now = allowed(&mut grammar);
        assert!(now.contains(&(id as usize)) && !now.contains(&end), "{id}: {now:?}");
        grammar.take(id).unwrap();
    }
    assert_eq!(allowed(&mut grammar), [end]);
    grammar.take(end as u32).unwrap();
    // A byte and the letter that it is are both taken, and a word that is part of no text never is.
    let mut grammar = super::tests::grammar(json!({"type": "string"}));
    grammar.take(tokenizer.id("\"").unwrap()).unwrap();
    let now = allowed(&mut grammar);
    let is_allowed = |word: &str| now.contains(&(tokenizer.id(word).unwrap() as usize));
    assert!(is_allowed("a") && is_allowed("<0x61>") && is_allowed("<0xC3>") && !is_allowed("<0xFF>"));
    assert!(!is_allowed("<bos>") && !is_allowed("<end_of_turn>") && !is_allowed("<0x0A>"));
}

#[test]
fn calls_of_tools_are_what_is_parsed_as_calls() {
    let parameters = json!({
        "$defs": {"unit": {"enum": ["c", "f"]}},
        "type": "object",
        "properties": {"unit": {"$ref": "#/$defs/unit"}, "$ref": {"type": "boolean"}},
        "required": ["unit", "$ref"],
        "additionalProperties": false,
    });
    let empty = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let call = |name: &str, parameters: &Value| Call {
        name: name.into(),
        parameters: parameters.clone(),
        place: "tools[0].function.parameters".into(),
    };
    let tools = vec![call("weather", &parameters), call("now", &empty)];
    let known = ["weather".to_owned(), "now".to_owned()];
    let validator = jsonschema::validator_for(&parameters).unwrap();
    for several in [false, true] {
        let shape = Shape { answer: None, calls: tools.clone(), several };
        let grammar = words().grammar(&shape, CallForm::Json).unwrap();
        let mut ended = 0;
        for number in 0..4 {
            let (text, is_whole) = said(grammar.clone(), number, ANY, 400);
            if is_whole {
                let called = calls(&text, &known, CallForm::Json).unwrap_or_else(|| panic!("{text}"));
                assert!(called.words.is_empty() && (several || called.calls.len() == 1), "{text}");
                let right = |call: &crate::text::ToolCall| match call.name.as_str() {
                    "weather" => validator.is_valid(&call.arguments),
                    _ => call.arguments == json!({}),
                };
                assert!(called.calls.iter().all(right), "{text}");
                ended += 1;
            }
        }
        assert!(ended > 0, "{several}");
    }
}

#[test]
fn what_is_not_enforced_is_named_by_its_place() {
    let wide: Vec<Value> = (0..1_100).map(|at| json!({"const": at})).collect();
    let chain: serde_json::Map<String, Value> = (0..900)
        .map(|at| (format!("d{at}"), json!({"$ref": format!("#/$defs/d{}", (at + 1).min(899))})))
        .chain([("d899".to_owned(), json!({"type": "null"}))])
        .collect();
    let shape = Shape { answer: Some(json!({"$ref": "#/$defs/d0", "$defs": chain})), ..Shape::default() };
    assert!(words().grammar(&shape, CallForm::Json).is_ok(), "as deep as schemas may be");
    let property = |schema: Value| json!({"type": "object", "properties": {"a/b": schema}, "required": ["a/b"]});
    for (schema, at, part) in [
        (property(json!({"not": {}})), "/properties/a~1b/not", "not enforced"),
        (property(json!({"typ": "string"})), "/properties/a~1b/typ", "did you mean `type`?"),
        (property(json!({"type": "strnig"})), "/properties/a~1b/type", "strnig"),
        (property(json!({"type": "string", "format": "color"})), "/properties/a~1b/format", "date-time"),
        (property(json!({"$ref": "https://example.com/x"})), "/properties/a~1b/$ref", "not in this schema"),
        (property(json!({"$ref": "#/$defs/none"})), "/properties/a~1b/$ref", "not in this schema"),
        (property(json!({"x-guidance": {"lenient": true}})), "/properties/a~1b/x-guidance", "no keyword"),
        (property(json!({"minItems": 1e9 as u64})), "/properties/a~1b/minItems", "not counted"),
        (property(json!({"type": "string", "pattern": "(?=a)b"})), "/properties/a~1b", "look-around"),
        (property(json!({"type": "integer", "minimum": 3, "maximum": 2})), "/properties/a~1b", "greater than maximum"),
        (property(json!({"oneOf": [{"type": "string"}, {"minLength": 2}]})), "/properties/a~1b", "`anyOf` is"),
        (json!({"anyOf": wide}), "/anyOf/", "too large"),
        (json!({"x-guidance": {}}), "/x-guidance", "no keyword"),
    ] {
        let shape = Shape { answer: Some(schema.clone()), ..Shape::default() };
        let error = words().grammar(&shape, CallForm::Json).err().unwrap_or_else(|| panic!("{schema}")).json();
        let message = error["error"]["message"].as_str().unwrap();
        let begins = format!("`response_format.json_schema.schema`, at {at}");
        assert!(message.starts_with(&begins) && message.contains(part), "{schema}: {message}");
        assert_eq!(
            (&error["error"]["param"], &error["error"]["code"]),
            (&json!("response_format"), &json!("invalid_schema"))
        );
    }
    // Of tools their own place is said.
    let call = Call {
        name: "f".into(),
        parameters: json!({"type": "object", "properties": {"x": {"uniqueItems": true}}}),
        place: "tools[3].function.parameters".into(),
    };
    let shape = Shape { calls: vec![call], ..Shape::default() };
    let error = words().grammar(&shape, CallForm::Json).err().unwrap().json();
    assert_eq!(error["error"]["param"], "tools");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("`tools[3].function.parameters`, at /properties/x/uniqueItems")
    );
}

#[test]
fn a_model_whose_answers_end_with_nothing_has_no_forms() {
    let spelt = || ["a", "b"].into_iter().map(|word| (Some(word.to_owned()), false));
    assert!(Words::of(spelt(), &[]).is_err() && Words::of(spelt(), &[7]).is_err());
    assert!(Words::of(spelt(), &[1]).is_ok());
}

#[test]
fn calls_in_words_are_what_is_parsed_as_such() {
    let stop = json!({"type": "object", "properties": {"at": {"type": "number"}}, "required": ["at"]});
    let plan = json!({
        "type": "object",
        "properties": {
            "days": {"type": "integer", "description": "how long"},
            "dry": {"type": ["boolean", "null"]},
            "note": {"type": "string"},
            "sky": {"enum": ["clear", "grau 👋", 3]},
            "stops": {"type": "array", "items": stop},
        },
        "required": ["sky", "days"],
        "additionalProperties": false,
    });
    let call =
        |name: &str, parameters: Value| Call { name: name.into(), parameters, place: "tools[0].parameters".into() };
    let now = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let tools = vec![call("plan", plan.clone()), call("now", now), call("any", json!({"type": "object"}))];
    let known: Vec<String> = tools.iter().map(|call| call.name.clone()).collect();
    let validator = jsonschema::validator_for(&plan).unwrap();
    let mut planned = 0;
    for number in 0..12 {
        let shape = Shape { answer: None, calls: tools.clone(), several: number % 2 == 0 };
        let (text, is_whole) = said(words().grammar(&shape, CallForm::Words).unwrap(), number, ANY, 400);
        if is_whole {
            let called = calls(&text, &known, CallForm::Words).unwrap_or_else(|| panic!("{text}"));
            assert!(called.words.is_empty() && (shape.several || called.calls.len() == 1), "{text}");
            for call in called.calls.iter().filter(|call| call.name == "plan") {
                assert!(validator.is_valid(&call.arguments), "{text}");
                planned += 1;
            }
        }
    }
    assert!(planned > 0);

    let refused = |parameters: Value| {
        let shape = Shape { calls: vec![call("f", parameters)], ..Shape::default() };
        let error = words().grammar(&shape, CallForm::Words).err().unwrap().json();
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    for (schema, at) in [
        (json!({"type": "integer", "minimum": 3}), "/properties/x/minimum"),
        (json!({"enum": ["a<b"]}), "/properties/x/enum"),
        (json!({"type": "array", "items": {"pattern": "a"}}), "/properties/x/items/pattern"),
        (json!({"type": "object", "additionalProperties": {}}), "/properties/x/additionalProperties"),
    ] {
        let message = refused(json!({"type": "object", "properties": {"x": schema}}));
        assert!(message.starts_with(&format!("`tools[0].parameters`, at {at}")), "{message}");
    }
    assert!(refused(json!({"type": "object", "minProperties": 1})).contains("at /minProperties"));
    let shape = Shape { answer: Some(json!({"type": "object"})), calls: tools, several: false };
    assert!(words().grammar(&shape, CallForm::Words).is_err());
    let shape = Shape { calls: Vec::new(), ..shape };
    assert!(words().grammar(&shape, CallForm::Words).is_ok(), "JSON is for every model");
}

/// What a model says that wants to say these tokens and then nothing, held to the schemas of what it calls, and says whatever may come
/// where it may not. It ends once it has called a tool.
fn calling(wanted: &[u32], shape: &Shape, form: CallForm) -> String {
    let tokenizer = tokenizer();
    let [end, brace, bracket] = ["<end_of_turn>", "}", "]"].map(|word| tokenizer.id(word).unwrap());
    let names: Vec<String> = shape.calls.iter().map(|call| call.name.clone()).collect();
    let sampler = Sampler { sampling: Sampling::GREEDY, random: random(0) };
    let adjusted = Adjusted { sampler, bias: Vec::new(), presence_penalty: 0.0, frequency_penalty: 0.0 };
    let grammar = words().grammar(shape, form).unwrap();
    let hold = Hold::Calls(Calls::of(grammar, names.clone(), form).unwrap());
    let (broken, mut noise) = (Broken::default(), random(7));
    let mut held = hold.chooser(adjusted, broken.clone());
    let (mut text, mut ids, mut stream) = (String::new(), Vec::new(), TokenStream::new(tokenizer).with_calls());
    for step in 0..200 {
        let mut logits: Vec<f32> = (0..512).map(|_| noise.unit() as f32).collect();
        [brace, bracket].into_iter().for_each(|close| logits[close as usize] += 3.0);
        let is_over = calls(&text, &names, form).is_some();
        let next = wanted.get(step).copied().filter(|_| !is_over).unwrap_or(end);
        logits[next as usize] += 50.0;
        let token = held.choose(&logits, &ids);
        if token == end {
            break;
        }
        ids.push(token);
        text += &stream.push(token).unwrap_or_default();
    }
    assert_eq!(broken.get(), None);
    text + &stream.finish().unwrap_or_default()
}

#[test]
fn a_call_that_is_made_of_its_own_accord_fits_and_words_are_free() {
    let whole = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let call = Call { name: "add".into(), parameters: whole, place: "tools[0].function.parameters".into() };
    let shape = Shape { answer: None, calls: vec![call], several: true };
    let known = ["add".to_owned()];
    let said = |wanted: &str| calling(&tokenizer().encode(wanted).unwrap(), &shape, CallForm::Json);
    for words in [
        "Four.",
        "{\"a\": [1, \"x\"]}",
        "{\"name\": \"sub\", \"parameters\": {\"a\": \"x\"}}",
        "I call {\"name\": \"add\"",
    ] {
        assert_eq!(said(words), words, "what calls nothing is said as it is wanted");
    }
    for fits in
        ["{\"name\": \"add\", \"parameters\": {\"a\": 3}}", "I look.\n{\"name\": \"add\", \"parameters\": {\"a\": 3}}"]
    {
        assert_eq!(said(fits), fits, "and so is what fits");
    }
    for odd in [
        "{\"name\": \"add\", \"parameters\": {\"a\": \"x\"}}",
        "I look.\n{\"name\": \"add\", \"parameters\": {\"b\": 3}}",
        "[{\"name\": \"add\", \"parameters\": {}}]",
    ] {
        let text = said(odd);
        let called = calls(&text, &known, CallForm::Json).unwrap_or_else(|| panic!("{odd}: {text}"));
        assert!(called.calls.iter().all(|call| call.arguments["a"].is_number()), "{odd}: {text}");
        assert_eq!(called.words.is_empty(), !odd.starts_with("I look."), "{text}");
    }
}

#[test]
fn a_call_in_words_of_its_own_fits_too() {
    let spellings = ["<end_of_turn>", BEGIN, END, "call:", "add", "{", "a:", "true", "3", "}"];
    let of = |word: &str| (Some(word.to_owned()), word.starts_with('<'));
    let words = Words::of(spellings.into_iter().map(of), &[0]).unwrap();
    let whole = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let call = Call { name: "add".into(), parameters: whole, place: "tools[0].function.parameters".into() };
    let shape = Shape { answer: None, calls: vec![call], several: true };
    let names = vec!["add".to_owned()];
    let grammar = words.grammar(&shape, CallForm::Words).unwrap();
    let hold = Hold::Calls(Calls::of(grammar, names.clone(), CallForm::Words).unwrap());
    let sampler = Sampler { sampling: Sampling::GREEDY, random: random(0) };
    let adjusted = Adjusted { sampler, bias: Vec::new(), presence_penalty: 0.0, frequency_penalty: 0.0 };
    let broken = Broken::default();
    let mut held = hold.chooser(adjusted, broken.clone());
    let mut said = Vec::new();
    // It wants to say `true`, and then what ends the call.
    for wanted in [BEGIN, "call:", "add", "{", "a:", "true", "}", END] {
        let logits: Vec<f32> = spellings.iter().map(|word| if *word == wanted { 50.0 } else { 0.0 }).collect();
        said.push(held.choose(&logits, &said));
    }
    assert_eq!(broken.get(), None);
    let text: String = said.iter().map(|id| spellings[*id as usize]).collect();
    let called = calls(&text, &names, CallForm::Words).unwrap_or_else(|| panic!("{text}"));
    assert!(called.calls[0].arguments["a"].is_number(), "{text}");
}
