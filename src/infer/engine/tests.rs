use super::*;
use crate::adapter::{Adapter, LoraModule};
use crate::infer::testing::{Count, model};
use crate::infer::{Choose, GenerationSettings, Sampler, Sampling, generate};
use crate::model::Site;
use crate::nn::{BaseOnly, Segments};
use crate::random::{Label, Rng};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

/// An adapter that matters, on every projection.
fn adapter(model: &dyn LanguageModel, seed: u64) -> Adapter {
    let tensor = |site: &Site, which: u64, dims: [usize; 2]| {
        let labels = [Label::Step(seed), Label::Layer(site.index as u64), Label::Micro(which)];
        let mut random = Rng::new(1).stream(&labels);
        let values: Vec<f32> = (0..dims[0] * dims[1]).map(|_| (random.unit() - 0.5) as f32 * 0.4).collect();
        Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape(dims)
    };
    let module = |site: Site| {
        let [out, input] = site.dims();
        let (a, b) = (tensor(&site, 0, [4, input]), tensor(&site, 1, [out, 4]));
        LoraModule { site, a, b, magnitude: None, scaling: 1.0, subtracted: None }
    };
    Adapter::new(model.sites().into_iter().map(module).collect())
}

const WARM: Sampling = Sampling { temperature: 1.5, top_k: 0, top_p: 1.0 };

fn settings(max_new_tokens: usize, sampling: Sampling) -> GenerationSettings {
    GenerationSettings {
        max_new_tokens,
        sampling,
        stop: vec![],
        seed: 3,
        first_prompt: 0,
        drafts: 0,
        cache_dtype: CacheDtype::F32,
    }
}

fn ids(from: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| 2 + (from + i * i) % 290).collect()
}

fn request(ids: &[u32], max_new_tokens: usize) -> Request {
    settings(max_new_tokens, Sampling::GREEDY).request(Prompt::of(Inputs::of(ids.to_vec())), 0)
}

/// What is said to a prompt alone.
fn alone(model: &dyn LanguageModel, side: &dyn SidePath, ids: &[u32], settings: &GenerationSettings) -> Vec<u32> {
    let go_on = |_, _| ControlFlow::Continue(());
    generate(model, side, &[Inputs::of(ids.to_vec())], settings, go_on).remove(0).tokens
}

/// Steps until there is nothing to do; what was said, and which answers ended.
fn run(engine: &mut Engine, sides: &[&dyn SidePath]) -> (BTreeMap<AnswerId, Vec<u32>>, Vec<AnswerId>) {
    let (mut said, mut done): (BTreeMap<_, Vec<u32>>, _) = (BTreeMap::new(), Vec::new());
    while !engine.is_idle() {
        for event in engine.step(sides) {
            match event {
                Event::Token(id, token) => said.entry(id).or_default().push(token),
                Event::Done(id, _) => done.push(id),
            }
        }
    }
    (said, done)
}

fn first(request: u64) -> AnswerId {
    AnswerId { request, answer: 0 }
}

/// The batch as it was generated before there was an engine.
fn batch(model: &dyn LanguageModel, prompts: &[Vec<u32>], settings: &GenerationSettings) -> Vec<Vec<u32>> {
    let mut said = vec![Vec::new(); prompts.len()];
    let mut cache = model.cache(prompts.len());
    let stream = |i: usize| Rng::new(settings.seed).stream(&[Label::Purpose("sample"), Label::Step(i as u64)]);
    let mut rows: Vec<(usize, _)> = (0..prompts.len()).map(|i| (i, stream(i))).collect();
    let piece = (512 / prompts.len()).max(1);
    let (mut last, mut read) = (vec![None; prompts.len()], vec![0; prompts.len()]);
    while last.iter().any(Option::is_none) {
        let pieces: Vec<Range<usize>> =
            prompts.iter().zip(&read).map(|(p, &start)| start..(start + piece).min(p.len())).collect();
        let lengths: Vec<usize> = pieces.iter().map(Range::len).collect();
        let inputs = prompts.iter().zip(&pieces).map(|(p, piece)| Inputs::of(p[piece.clone()].to_vec()));
        let hidden = model.hidden_cached(&Inputs::joined(inputs), &lengths, &mut cache, &BaseOnly);
        let mut end = 0;
        for (i, piece) in pieces.iter().enumerate() {
            end += piece.len();
            if !piece.is_empty() && piece.end == prompts[i].len() {
                last[i] = Some(hidden.clone().narrow(0, end - 1, 1));
            }
            read[i] = piece.end;
        }
    }
    let mut hidden: Tensor<2> = Tensor::cat(last.into_iter().flatten().collect(), 0);
    loop {
        let logits: Vec<f32> = model.logits(hidden).into_data().iter().collect();
        let mut keep = Vec::new();
        for ((i, random), logits) in rows.iter_mut().zip(logits.chunks(model.config().vocab_size())) {
            let token = settings.sampling.choose(logits, random);
            let stopped = settings.stop.contains(&token);
            said[*i].extend((!stopped).then_some(token));
            keep.push(!stopped && said[*i].len() < settings.max_new_tokens);
        }
        let mut kept = keep.iter();
        rows.retain(|_| *kept.next().unwrap());
        if rows.is_empty() {
            return said;
        }
        (0..keep.len()).rev().filter(|&at| !keep[at]).for_each(|at| drop(cache.remove(at)));
        let next: Vec<u32> = rows.iter().map(|(i, _)| *said[*i].last().unwrap()).collect();
        let lengths = vec![1; next.len()];
        let next = Inputs::text(next, Segments::from_lengths(lengths.iter().copied()));
        hidden = model.hidden_cached(&next, &lengths, &mut cache, &BaseOnly);
    }
}

#[test]
fn a_fixed_batch_says_what_it_always_said() {
    let model = model();
    let prompts: Vec<Vec<u32>> = [3, 200, 41, 130, 1].map(|tokens| ids(tokens, tokens)).to_vec();
    let inputs: Vec<Inputs> = prompts.iter().map(|ids| Inputs::of(ids.clone())).collect();
    for sampling in [Sampling::GREEDY, WARM] {
        let mut settings = settings(24, sampling);
        settings.stop = vec![batch(&*model, &prompts, &settings)[1][5]];
        let said = generate(&*model, &BaseOnly, &inputs, &settings, |_, _| ControlFlow::Continue(()));
        let said: Vec<Vec<u32>> = said.into_iter().map(|answer| answer.tokens).collect();
        assert_eq!(said, batch(&*model, &prompts, &settings));
        assert!(said[1].len() <= 5);
    }
}

#[test]
fn requests_come_at_any_time_and_say_what_they_say_alone() {
    let model = model();
    let mut engine =
        Engine::new(&*model, EngineOptions { step_tokens: 24, most_running: 3, ..EngineOptions::default() });
    let prompts = [ids(1, 30), ids(2, 7), ids(3, 90), ids(4, 12), ids(5, 55)];
    let mut said: BTreeMap<AnswerId, Vec<u32>> = BTreeMap::new();
    let mut asked = prompts.iter();
    for step in 0.. {
        if step % 4 == 0
            && let Some(ids) = asked.next()
        {
            engine.submit(request(ids, 20)).unwrap();
        }
        let events = engine.step(&[&BaseOnly]);
        assert!(engine.figures().running <= 3);
        for event in events {
            if let Event::Token(id, token) = event {
                said.entry(id).or_default().push(token);
            }
        }
        if asked.len() == 0 && engine.is_idle() {
            break;
        }
    }
    for (i, ids) in prompts.iter().enumerate() {
        assert_eq!(said[&first(i as u64)], alone(&*model, &BaseOnly, ids, &settings(20, Sampling::GREEDY)), "{i}");
    }
    let Figures { tokens_read, tokens_said, running, reserved_bytes, .. } = engine.figures();
    assert_eq!((tokens_read, tokens_said, running, reserved_bytes), (194, 100, 0, 0));
}

#[test]
fn answers_go_on_while_a_long_prompt_is_read() {
    let model = model();
    let mut engine = Engine::new(&*model, EngineOptions { step_tokens: 16, ..EngineOptions::default() });
    let short = engine.submit(request(&ids(1, 5), 60)).unwrap();
    engine.step(&[&BaseOnly]);
    let long = engine.submit(request(&ids(2, 200), 2)).unwrap();
    let count = Count::default();
    for step in 1..=14 {
        let events = engine.step(&[&count]);
        assert!(matches!(events[0], Event::Token(id, _) if id == first(short)), "{step}");
        // 13 steps of 15 tokens, then what is left of 200, and the first token.
        assert_eq!((count.take(), events.len()), if step < 14 { (16, 1) } else { (6, 2) }, "{step}");
    }
    // The more urgent one is read first, and so is of two alike the one that came first.
    let mut urgent = request(&ids(4, 40), 1);
    urgent.priority = 1;
    let [calm, calmer] = [3, 5].map(|from| engine.submit(request(&ids(from, 40), 1)).unwrap());
    let urgent = engine.submit(urgent).unwrap();
    let (_, done) = run(&mut engine, &[&BaseOnly]);
    assert_eq!(done, [first(long), first(urgent), first(calm), first(calmer), first(short)]);
}

#[test]
fn what_does_not_fit_waits_and_what_never_will_is_refused() {
    let model = model();
    let (prompt, other) = (ids(1, 40), ids(2, 30));
    let needed = |engine: &Engine, ids: &[u32]| engine.bytes_of(&Prompt::of(Inputs::of(ids.to_vec())), 10);
    let plenty = Engine::new(&*model, EngineOptions::default());
    let (config, bytes) = (model.config(), needed(&plenty, &prompt));
    // Of so few tokens a sliding layer keeps all the same.
    let numbers = 50 * config.num_hidden_layers() * 2 * config.num_key_value_heads() * config.head_dim();
    assert_eq!(bytes, 4 * numbers as u64);

    let budget = EngineOptions { cache_bytes: bytes + bytes / 2, most_waiting: 1, ..EngineOptions::default() };
    let mut engine = Engine::new(&*model, budget);
    let [one, two] = [&prompt, &other].map(|ids| engine.submit(request(ids, 10)).unwrap());
    assert_eq!(engine.submit(request(&other, 10)), Err(Refusal::QueueFull));
    engine.step(&[&BaseOnly]);
    let Figures { waiting, running, reserved_bytes, .. } = engine.figures();
    assert_eq!((waiting, running, reserved_bytes), (1, 1, bytes));
    assert!(engine.cache.bytes_at(0) <= bytes && engine.cache.bytes_at(0) > bytes / 2);
    let (said, done) = run(&mut engine, &[&BaseOnly]);
    assert_eq!(done, [first(one), first(two)]);
    assert_eq!(said[&first(two)], alone(&*model, &BaseOnly, &other, &settings(10, Sampling::GREEDY)));

    let refused = engine.submit(request(&ids(3, 80), 10));
    assert!(matches!(refused, Err(Refusal::NeedsMemory { needed_bytes, .. }) if needed_bytes > bytes + bytes / 2));
    assert_eq!(refused.unwrap_err().error().kind(), crate::error::Kind::OutOfMemory);
    let mut several = request(&other, 10);
    several.choosers.extend((0..16).flat_map(|_| request(&other, 10).choosers));
    assert_eq!(engine.submit(several), Err(Refusal::TooManyAnswers { most: 16 }));
    for nothing in [request(&[], 10), request(&other, 0)] {
        assert_eq!(engine.submit(nothing), Err(Refusal::Nothing));
    }
    assert!(engine.is_idle());
}

#[test]
fn who_could_be_answered_at_once_waits_for_nobody() {
    let model = model();
    let has_room = |most_running: usize, most_waiting: usize, new: usize, others: &[usize]| {
        let mut engine = Engine::new(&*model, EngineOptions { most_running, ..EngineOptions::default() });
        let mut ask = |answers: usize, most_waiting: usize| {
            engine.options.most_waiting = most_waiting;
            let mut several = request(&[2, 5], 4);
            several.choosers.extend((1..answers).flat_map(|_| request(&[2], 1).choosers));
            engine.submit(several)
        };
        for answers in others {
            ask(*answers, usize::MAX).unwrap();
        }
        let taken = ask(new, most_waiting);
        assert!(taken.is_ok() || taken == Err(Refusal::QueueFull));
        taken.is_ok()
    };
    assert!(has_room(4, 0, 1, &[]) && has_room(4, 0, 1, &[1, 1, 1]) && has_room(4, 0, 3, &[1]));
    assert!(!has_room(4, 0, 1, &[1, 1, 1, 1]) && !has_room(4, 0, 4, &[1]));
    assert!(has_room(4, 1, 1, &[1, 1, 1, 1]) && !has_room(4, 1, 1, &[1, 1, 1, 1, 1]));
    // One that fits does not overtake another that waits.
    assert!(!has_room(4, 1, 1, &[3, 2]) && has_room(4, 2, 1, &[3, 2]));

    // The same when those that could begin have begun; and of the more urgent ones those before them alone count.
    let options = EngineOptions { most_running: 2, most_waiting: 1, ..EngineOptions::default() };
    let mut engine = Engine::new(&*model, options);
    let ids = [2, 5];
    engine.submit(request(&ids, 4)).unwrap();
    engine.step(&[&BaseOnly]);
    let mut wide = request(&ids, 4);
    wide.choosers.extend(request(&ids, 4).choosers);
    engine.submit(wide).unwrap(); // waits for the first to end
    assert_eq!(engine.submit(request(&ids, 4)), Err(Refusal::QueueFull));
    let urgent = Request { priority: 1, ..request(&ids, 4) };
    assert_eq!(engine.submit(urgent), Ok(2));
    assert_eq!(engine.submit(Request { priority: 1, ..request(&ids, 4) }), Err(Refusal::QueueFull));
}

#[test]
fn several_answers_read_their_prompt_once() {
    let model = model();
    let prompt = ids(9, 70);
    let count = Count::default();
    let mut engine = Engine::new(&*model, EngineOptions::default());
    let mut asked = settings(12, WARM).request(Prompt::of(Inputs::of(prompt.clone())), 0);
    let prompted = || Prompt::of(Inputs::of(prompt.clone()));
    asked.choosers.extend((1..4).flat_map(|number| settings(12, WARM).request(prompted(), number).choosers));
    engine.submit(asked).unwrap();
    let (said, done) = run(&mut engine, &[&count]);
    assert_eq!((done.len(), count.tokens()), (4, 70 + 4 * 11));
    for (number, said) in said.values().enumerate() {
        let settings = GenerationSettings { first_prompt: number, ..settings(12, WARM) };
        assert_eq!(*said, alone(&*model, &BaseOnly, &prompt, &settings), "{number}");
    }
    let all: std::collections::BTreeSet<_> = said.values().collect();
    assert_eq!(all.len(), 4, "each has random numbers of its own");
}

#[test]
fn what_is_known_of_a_prompt_is_not_read_again() {
    let model = model();
    let options = EngineOptions { step_tokens: 64, memory: Memory::Prefixes(8), ..EngineOptions::default() };
    let mut engine = Engine::new(&*model, options);
    let count = Count::default();
    let mut ask = |prompt: &[u32]| {
        let request = engine.submit(request(prompt, 4)).unwrap();
        let said = run(&mut engine, &[&count]).0.remove(&first(request)).unwrap();
        assert_eq!(said, alone(&*model, &BaseOnly, prompt, &settings(4, Sampling::GREEDY)));
        (said, count.take() - 3)
    };
    // Longer than what sliding layers keep, so that nothing can be cut out of the middle of it.
    let common = ids(1, 200);
    let with = |rest: Vec<u32>| [common.clone(), rest].concat();
    let (said, read) = ask(&with(ids(7, 100)));
    assert_eq!(read, 300);
    assert_eq!(ask(&with(ids(8, 100))).1, 300, "says where the two part");
    assert_eq!(ask(&with(ids(9, 100))).1, 100, "and the next one begins there");
    assert_eq!(ask(&with(ids(7, 100))).1, 1, "the same again");
    let conversation = [with(ids(7, 100)), said, ids(3, 20)].concat();
    assert_eq!(ask(&conversation).1, 21, "of an answer the last token has not been read");
    assert_eq!(ask(&ids(5, 50)).1, 50);

    let Figures { kept, kept_bytes, tokens_known, .. } = engine.figures();
    assert!(kept <= 8 && kept_bytes > 0);
    assert_eq!(tokens_known, 200 + 299 + 303);
    engine.forget(Some(1));
    assert_eq!(engine.figures().kept, kept);
    engine.forget(Some(0));
    assert_eq!((engine.figures().kept, engine.figures().kept_bytes), (0, 0));
}

#[test]
fn what_is_kept_makes_room_for_who_needs_it() {
    let model = model();
    let budget = Engine::new(&*model, EngineOptions::default()).bytes_of(&Prompt::of(Inputs::of(ids(0, 100))), 10);
    let options = EngineOptions { memory: Memory::Prefixes(100), cache_bytes: budget, ..EngineOptions::default() };
    let mut engine = Engine::new(&*model, options);
    for from in 0..6 {
        engine.submit(request(&ids(from * 31, 20 + 16 * from), 4)).unwrap();
        while !engine.is_idle() {
            engine.step(&[&BaseOnly]);
            let Figures { reserved_bytes, kept_bytes, .. } = engine.figures();
            assert!(reserved_bytes + kept_bytes <= budget, "{reserved_bytes} {kept_bytes}");
        }
        assert!(engine.figures().kept > 0);
    }
}

#[test]
fn what_is_cancelled_is_gone_at_once() {
    let model = model();
    let mut engine = Engine::new(&*model, EngineOptions { most_running: 2, ..EngineOptions::default() });
    let [a, b, c] = [1, 2, 3].map(|from| engine.submit(request(&ids(from, 10), 12)).unwrap());
    let mut before = Vec::new();
    for _ in 0..3 {
        before.extend(engine.step(&[&BaseOnly]));
    }
    engine.cancel(a);
    assert_eq!((engine.figures().running, engine.cache.lengths.len()), (1, 1));
    let d = engine.submit(request(&ids(4, 10), 12)).unwrap();
    engine.cancel(d);
    let (said, done) = run(&mut engine, &[&BaseOnly]);
    assert_eq!(done, [first(b), first(c)]);
    let begun = before.into_iter().filter_map(|event| match event {
        Event::Token(id, token) if id == first(b) => Some(token),
        _ => None,
    });
    let whole: Vec<u32> = begun.chain(said[&first(b)].iter().copied()).collect();
    assert_eq!(whole, alone(&*model, &BaseOnly, &ids(2, 10), &settings(12, Sampling::GREEDY)));

    // One of several answers to one prompt, before the prompt is read and after.
    let mut several = request(&ids(5, 10), 12);
    several.choosers.extend((0..3).flat_map(|_| request(&[1], 1).choosers));
    let mut engine = Engine::new(&*model, EngineOptions { step_tokens: 6, ..EngineOptions::default() });
    let number = engine.submit(several).unwrap();
    let answer = |answer| AnswerId { request: number, answer };
    engine.cancel_answer(answer(2));
    engine.step(&[&BaseOnly]);
    engine.cancel_answer(answer(0));
    engine.step(&[&BaseOnly]);
    assert_eq!(engine.figures().running, 2);
    engine.cancel_answer(answer(3));
    assert_eq!(run(&mut engine, &[&BaseOnly]).1, [answer(1)]);
}

#[test]
fn adapters_in_one_batch_say_what_each_says_alone() {
    let model = model();
    let (first_side, second_side) = (adapter(&*model, 1), adapter(&*model, 2));
    let sides: [&dyn SidePath; 3] = [&first_side, &BaseOnly, &second_side];
    let mut engine = Engine::new(&*model, EngineOptions { step_tokens: 20, ..EngineOptions::default() });
    let asked: Vec<(usize, Vec<u32>)> = [2, 0, 1, 0, 2].into_iter().map(|side| (side, ids(6, 25))).collect();
    for (side, ids) in &asked {
        // Drawn: the likeliest word of a model that knows nothing is the same one, whoever stands beside it.
        let mut request = settings(15, WARM).request(Prompt::of(Inputs::of(ids.clone())), 0);
        request.side = *side;
        engine.submit(request).unwrap();
    }
    let (said, _) = run(&mut engine, &sides);
    for (number, (side, ids)) in asked.iter().enumerate() {
        let alone = alone(&*model, sides[*side], ids, &settings(15, WARM));
        assert_eq!(said[&first(number as u64)], alone, "{number}");
    }
    assert_ne!(said[&first(0)], said[&first(1)]);
    assert_ne!(said[&first(1)], said[&first(2)]);
}

/// Draws tokens, and writes down the logits.
struct Recorder(Sampler, Arc<Mutex<Vec<Vec<u32>>>>);

impl Choose for Recorder {
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32 {
        self.1.lock().unwrap().push(logits.iter().map(|logit| logit.to_bits()).collect());
        self.0.choose(logits, said)
    }
}

#[test]
fn guesses_change_no_bit() {
    let model = model();
    let adapter = adapter(&*model, 3);
    // Text that repeats itself, so that there is something to guess.
    let prompt: Vec<u32> = (0..60).map(|i| 20 + (i * i) % 7).collect();
    let sides: [&dyn SidePath; 2] = [&BaseOnly, &adapter];
    for (side, sampling) in sides.into_iter().flat_map(|side| [(side, Sampling::GREEDY), (side, WARM)]) {
        let said = |drafts: usize| {
            let sampling = if sampling == Sampling::GREEDY { sampling } else { Sampling { top_k: 2, ..sampling } };
            let random = Rng::new(5).stream(&[Label::Purpose("sample")]);
            let logits = Arc::default();
            let mut asked = request(&prompt, 50);
            asked.choosers = vec![Box::new(Recorder(Sampler { sampling, random }, Arc::clone(&logits)))];
            asked.drafts = drafts;
            let mut engine = Engine::new(&*model, EngineOptions::default());
            engine.submit(asked).unwrap();
            let (said, _) = run(&mut engine, &[side]);
            let logits = logits.lock().unwrap().clone();
            (said[&first(0)].clone(), logits, engine.figures())
        };
        let (plain, plain_logits, _) = said(0);
        for drafts in [1, 2, 7] {
            let (guessed, logits, figures) = said(drafts);
            assert_eq!(guessed, plain, "{drafts}");
            assert!(logits == plain_logits, "{drafts}");
            let Figures { tokens_guessed, guessed_right, .. } = figures;
            assert!(guessed_right <= tokens_guessed);
            let greedy = sampling == Sampling::GREEDY;
            assert!(if side.is_nothing() { !greedy || guessed_right > 0 } else { tokens_guessed == 0 }, "{figures:?}");
        }
    }
}

#[test]
fn a_cache_of_half_the_bytes_moves_logits_a_little() {
    let model = model();
    let logits = |cache_dtype: CacheDtype| {
        let logits = Arc::default();
        let mut asked = request(&ids(5, 40), 6);
        let random = Rng::new(5).stream(&[Label::Purpose("sample")]);
        let sampler = Sampler { sampling: Sampling::GREEDY, random };
        asked.choosers = vec![Box::new(Recorder(sampler, Arc::clone(&logits)))];
        let mut engine = Engine::new(&*model, EngineOptions { cache_dtype, ..EngineOptions::default() });
        engine.submit(asked).unwrap();
        run(&mut engine, &[&BaseOnly]);
        let first: Vec<u32> = logits.lock().unwrap().first().cloned().unwrap();
        first.into_iter().map(f32::from_bits).collect::<Vec<f32>>()
    };
    let (whole, half) = (logits(CacheDtype::F32), logits(CacheDtype::F16));
    let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let off = size(&mut whole.iter().zip(&half).map(|(a, b)| a - b)) / size(&mut whole.iter().copied());
    assert!(off > 0.0 && off < 1e-3, "{off}");
}
