//! Losses of pairs and of judged answers against TRL (goldens by `scripts/make_preference_goldens.py`).

use crate::bench::{Bench, lines};
use crate::fidelity::{Case, case};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, TrainedTensor};
use gemma_tune::infer::score;
use gemma_tune::model::{LanguageModel, WholeTensor};
use gemma_tune::nn::{BaseOnly, Segments};
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::{Cpo, CpoLoss, Dpo, DpoLoss, Kto, KtoLoss, Objective, Orpo, Reward};
use gemma_tune::train::step::{self, Computed, OneDevice, StepSettings, Watch, WindowGradients};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// As in the script.
const BETA: f64 = 0.4;
const SMOOTHING: f64 = 0.1;
const STRIDE: usize = 11;
const METRICS: [&str; 6] =
    ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"];

/// The golden's sequences, each pair's two in turn: ids and labels.
fn sequences(golden: &Golden) -> Vec<(Vec<u32>, Vec<i32>)> {
    let mut ids = golden.values("ids").iter().map(|&id| id as u32);
    let numbers = |name: &str| golden.values(name).iter().map(|&n| n as usize).collect::<Vec<_>>();
    let sequence = |(length, prompt): (usize, usize)| {
        let ids: Vec<u32> = ids.by_ref().take(length).collect();
        let label = |(at, &id): (usize, &u32)| if at < prompt { -100 } else { id as i32 };
        let labels = ids.iter().enumerate().map(label).collect();
        (ids, labels)
    };
    numbers("lengths").into_iter().zip(numbers("prompts")).map(sequence).collect()
}

/// Sequences in one micro-batch, with what the model says of them without an adapter.
fn micro_batch(model: &dyn LanguageModel, sequences: &[(Vec<u32>, Vec<i32>)]) -> MicroBatch {
    let ids = sequences.iter().flat_map(|(ids, _)| ids.clone()).collect();
    let labels: Vec<i32> = sequences.iter().flat_map(|(_, labels)| labels.clone()).collect();
    let segments = Segments::from_lengths(sequences.iter().map(|(ids, _)| ids.len()));
    let mut batch = MicroBatch::new(ids, &labels, segments);
    let losses = backprop::losses(model, &BaseOnly, &batch);
    batch.reference = batch.log_probabilities(&losses);
    batch
}

/// The same, with what both sequences of a pair begin with once.
fn sharing(model: &dyn LanguageModel, sequences: &[(Vec<u32>, Vec<i32>)]) -> MicroBatch {
    let (mut ids, mut labels, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for pair in sequences.chunks(2) {
        let [chosen, rejected] = pair else { panic!("a pair") };
        let prompt = chosen.1.iter().zip(&rejected.1).take_while(|both| *both == (&-100, &-100)).count();
        assert!(prompt > 1 && chosen.0[..prompt] == rejected.0[..prompt]);
        for ((own, of_own), shared) in [(chosen, 0), (rejected, prompt)] {
            ids.extend_from_slice(&own[shared..]);
            labels.extend_from_slice(&of_own[shared..]);
            lengths.push((own.len() - shared, shared));
        }
    }
    let mut batch = MicroBatch::new(ids, &labels, Segments::sharing(lengths));
    let losses = backprop::losses(model, &BaseOnly, &batch);
    batch.reference = batch.log_probabilities(&losses);
    batch
}

pub fn computed(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    window: &[MicroBatch],
    objective: Arc<dyn Objective>,
) -> Computed {
    let settings = StepSettings {
        objective,
        max_grad_norm: 0.0,
        activation_checkpointing: false,
        lora_dropout: 0.0,
        rng: Rng::new(0),
    };
    let watch = Watch { stop: &backprop::NEVER, on_progress: &mut |_| {} };
    OneDevice(model).gradients(adapter, window, 0, &settings, watch).unwrap()
}

/// What the golden has of gradients: every [`STRIDE`]th value of all of them, in the order of PEFT's names.
pub fn sampled(adapter: &Adapter, gradients: &[Tensor<2>]) -> Vec<f32> {
    let names = adapter.modules().iter().flat_map(|module| {
        let path = module.site.module_path(false);
        ["A", "B"].map(|part| format!("{path}.lora_{part}.weight"))
    });
    let named: BTreeMap<String, &Tensor<2>> = names.zip(gradients).collect();
    let all = named.values().flat_map(|gradient| gradient.to_data().iter::<f32>().collect::<Vec<_>>());
    all.step_by(STRIDE).collect()
}

#[test]
fn losses_of_pairs_and_their_gradients_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    let batch = |sequences: &[(Vec<u32>, Vec<i32>)]| micro_batch(model.as_ref(), sequences);
    let at_once = [batch(&sequences)];
    for (got, expected) in at_once[0].reference.iter().zip(golden.values("reference")) {
        assert!((got - expected).abs() <= 1e-5 * expected.abs(), "the reference says {got}, expected {expected}");
    }
    // However a window is divided, its loss is the mean of all its pairs, and that of their answers' tokens.
    let windows =
        [at_once.to_vec(), sequences.chunks(2).map(batch).collect(), sequences.chunks(4).map(batch).collect()];
    // Nor does it matter whether a prompt is computed once or twice.
    let shared = sharing(model.as_ref(), &sequences);
    let prompts: f64 = golden.values("prompts").iter().step_by(2).sum();
    assert_eq!(shared.tokens() + prompts as usize, at_once[0].tokens());
    for activation_checkpointing in [false, true] {
        let objective = Dpo { beta: BETA, label_smoothing: 0.0, losses: vec![(DpoLoss::Sigmoid, 1.0)] };
        let settings = StepSettings {
            objective: Arc::new(objective),
            max_grad_norm: 0.0,
            activation_checkpointing,
            lora_dropout: 0.0,
            rng: Rng::new(0),
        };
        let of = |batch: &MicroBatch| {
            let (loss, gradients) =
                step::gradients(model.as_ref(), &adapter, std::slice::from_ref(batch), 0, &settings);
            (loss, sampled(&adapter, &gradients))
        };
        let ((loss, gradient), (expected, twice)) = (of(&shared), of(&at_once[0]));
        let twice: Vec<f64> = twice.into_iter().map(f64::from).collect();
        let gap = l2_relative(&gradient, &twice);
        assert!(gap <= 1e-5 && (loss - expected).abs() <= 1e-6 * expected, "{gap:e}: {loss} {expected}");
    }
    let windows = [windows.to_vec(), vec![vec![shared]]].concat();
    for (name, losses) in [
        ("sigmoid", &[(DpoLoss::Sigmoid, 1.0)][..]),
        ("hinge", &[(DpoLoss::Hinge, 1.0)]),
        ("ipo", &[(DpoLoss::Ipo, 1.0)]),
        ("exo_pair", &[(DpoLoss::ExoPair, 1.0)]),
        ("nca_pair", &[(DpoLoss::NcaPair, 1.0)]),
        ("robust", &[(DpoLoss::Robust, 1.0)]),
        ("bco_pair", &[(DpoLoss::BcoPair, 1.0)]),
        ("sppo_hard", &[(DpoLoss::SppoHard, 1.0)]),
        ("apo_zero", &[(DpoLoss::ApoZero, 1.0)]),
        ("apo_down", &[(DpoLoss::ApoDown, 1.0)]),
        ("sigmoid_norm", &[(DpoLoss::SigmoidNorm, 1.0)]),
        ("mix", &[(DpoLoss::Sigmoid, 1.0), (DpoLoss::Sft, 0.3)]),
    ] {
        for window in &windows {
            let parts = window.len();
            let objective = Dpo { beta: BETA, label_smoothing: SMOOTHING, losses: losses.to_vec() };
            let computed = computed(model.as_ref(), &adapter, window, Arc::new(objective));
            check(&golden, &format!("{name} in {parts}"), name, &adapter, &computed, ("metrics", &METRICS));
        }
    }
}

/// Holds what was computed of a window against the golden called `name`, whose metrics `kept` these are.
fn check(
    golden: &Golden,
    what: &str,
    name: &str,
    adapter: &Adapter,
    Computed { loss, metrics, gradients }: &Computed,
    (kept, names): (&str, &[&str]),
) {
    let expected = golden.values(&format!("{name}.loss"))[0];
    assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "{what}: {loss}, expected {expected}");
    let gap = l2_relative(&sampled(adapter, gradients), golden.values(&format!("{name}.gradient")));
    assert!(gap <= 1e-4, "{what}: the gradient is {gap:e} off");
    for (metric, expected) in names.iter().zip(golden.values(kept)) {
        let got = metrics[*metric];
        assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{metric} of {what}: {got} {expected}");
    }
}

#[test]
fn losses_without_a_reference_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    let cpo = |loss, label_smoothing| -> Arc<dyn Objective> {
        Arc::new(Cpo { beta: BETA, label_smoothing, cpo_alpha: 0.3, loss })
    };
    let simpo = |alpha| CpoLoss::Simpo { gamma: 0.5, alpha };
    let of_pair = [
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/rejected",
        "logps/chosen",
        "nll_loss",
    ];
    let of_odds = [of_pair.as_slice(), &["log_odds_ratio", "log_odds_chosen"]].concat();
    let kinds: [(&str, Arc<dyn Objective>, &[&str]); 7] = [
        ("orpo", Arc::new(Orpo { beta: BETA, nll_on_prompt: true }), &of_odds),
        ("orpo_answer", Arc::new(Orpo { beta: BETA, nll_on_prompt: false }), &["nll_loss"]),
        ("cpo", cpo(CpoLoss::Sigmoid, SMOOTHING), &of_pair),
        ("cpo_hinge", cpo(CpoLoss::Hinge, 0.0), &of_pair),
        ("cpo_ipo", cpo(CpoLoss::Ipo, 0.0), &of_pair),
        ("simpo", cpo(simpo(0.0), SMOOTHING), &of_pair),
        ("alphapo", cpo(simpo(0.25), SMOOTHING), &of_pair),
    ];
    for (name, objective, metrics) in kinds {
        let batch = |sequences: &[(Vec<u32>, Vec<i32>)]| {
            let batch = micro_batch(model.as_ref(), sequences);
            if objective.needs().prompts { batch.with_prompts() } else { batch }
        };
        // However a window is divided, its loss is the mean of all its pairs, and that of its tokens.
        let shared = sharing(model.as_ref(), &sequences);
        let shared = if objective.needs().prompts { shared.with_prompts() } else { shared };
        for window in [vec![batch(&sequences)], sequences.chunks(2).map(batch).collect(), vec![shared]] {
            let computed = computed(model.as_ref(), &adapter, &window, objective.clone());
            let what = format!("{name} in {}", window.len());
            check(&golden, &what, name, &adapter, &computed, (&format!("{name}.metrics"), metrics));
        }
    }
}

#[test]
fn losses_of_judged_answers_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    // Each prompt with the answer to the one before it.
    let others: Vec<(Vec<u32>, Vec<i32>)> = (0..sequences.len())
        .map(|at| {
            let (own, other) = (&sequences[at], &sequences[(at + sequences.len() - 1) % sequences.len()]);
            let start = |row: &(Vec<u32>, Vec<i32>)| row.1.iter().position(|&label| label != -100).expect("an answer");
            let ids = [&own.0[..start(own)], &other.0[start(other)..]].concat();
            let labels = [&own.1[..start(own)], &other.1[start(other)..]].concat();
            (ids, labels)
        })
        .collect();
    let batch = |range: std::ops::Range<usize>| {
        let mut batch = micro_batch(model.as_ref(), &sequences[range.clone()]);
        batch.desirable = range.clone().map(|at| at % 2 == 0).collect();
        let mut mismatched = micro_batch(model.as_ref(), &others[range.clone()]);
        mismatched.reference = golden.values("mismatched")[range].to_vec();
        batch.mismatched = Some(Box::new(mismatched));
        batch
    };
    let kto = |loss| Kto { beta: BETA, loss, desirable_weight: 1.5, undesirable_weight: 0.7 };
    let metrics = ["kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"];
    let whole = vec![batch(0..6)];
    let parts = vec![batch(0..2), batch(2..5), batch(5..6)];
    // What is estimated of a batch is its own; without that, windows may be divided.
    for (name, loss, windows) in
        [("kto", KtoLoss::Kto, vec![&whole]), ("apo_zero_unpaired", KtoLoss::ApoZeroUnpaired, vec![&whole, &parts])]
    {
        for window in windows {
            let computed = computed(model.as_ref(), &adapter, window, Arc::new(kto(loss)));
            let what = format!("{name} in {}", window.len());
            check(&golden, &what, name, &adapter, &computed, (&format!("{name}.metrics"), &metrics));
        }
    }
    // What nobody judged, or asked the reference about, makes no loss that looks like one.
    let of = |change: &dyn Fn(&mut MicroBatch)| {
        let mut batch = whole[0].clone();
        change(&mut batch);
        computed(model.as_ref(), &adapter, &[batch], Arc::new(kto(KtoLoss::Kto))).loss
    };
    assert!(of(&|_| {}).is_finite());
    assert!(of(&|batch| batch.desirable.truncate(5)).is_nan());
    assert!(of(&|batch| batch.reference.clear()).is_nan());
    assert!(of(&|batch| batch.mismatched = None).is_nan());
}

#[test]
fn rewards_of_pairs_and_their_gradients_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("preference.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let sequences = sequences(&golden);
    let values: Vec<f32> = golden.values("head").iter().map(|&x| x as f32).collect();
    let tensor = WholeTensor::score(values.len());
    let head = Tensor::from_data(TensorData::new(values, tensor.dims), &Device::flex());
    let without = adapter.clone();
    let adapter = adapter.with_whole(vec![TrainedTensor { tensor, value: head }]);
    let metrics = ["accuracy", "margin", "mean_reward", "min_reward", "max_reward"];
    for (name, center_rewards_coefficient, margins) in
        [("reward", 0.0, Vec::new()), ("reward_centred", 0.25, golden.values("margins").to_vec())]
    {
        let batch = |first: usize, sequences: &[(Vec<u32>, Vec<i32>)]| {
            let batch = micro_batch(model.as_ref(), sequences).at_ends();
            let margins = margins.iter().skip(first).take(sequences.len() / 2).copied().collect();
            MicroBatch { margins, ..batch }
        };
        let parts = sequences.chunks(2).enumerate().map(|(pair, sequences)| batch(pair, sequences)).collect();
        let shared = MicroBatch { margins: margins.clone(), ..sharing(model.as_ref(), &sequences).at_ends() };
        for window in [vec![batch(0, &sequences)], parts, vec![shared]] {
            let computed = computed(model.as_ref(), &adapter, &window, Arc::new(Reward { center_rewards_coefficient }));
            let what = format!("{name} in {}", window.len());
            check(&golden, &what, name, &adapter, &computed, (&format!("{name}.metrics"), &metrics));
            let of_head = computed.gradients.last().unwrap().to_data().try_to_vec::<f32>().unwrap();
            let gap = l2_relative(&of_head, golden.values(&format!("{name}.head_gradient")));
            assert!(gap <= 1e-4, "{what}: the gradient of the head is {gap:e} off");
        }
    }
    // What is asked of the same sequences by themselves.
    let inputs = micro_batch(model.as_ref(), &sequences).inputs;
    let rewards = score::rewards(model.as_ref(), &adapter, &inputs).unwrap();
    let least = rewards.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((least - golden.values("reward.metrics")[3]).abs() < 1e-5, "{rewards:?}");
    // Without a head there is no reward, and no loss that looks like one.
    assert_eq!(score::rewards(model.as_ref(), &without, &inputs), None);
    let window = [micro_batch(model.as_ref(), &sequences).at_ends()];
    let reward = Arc::new(Reward { center_rewards_coefficient: 0.0 });
    assert!(computed(model.as_ref(), &without, &window, reward).loss.is_nan());
}

const TRAINING: &str = "\
training:
  max_steps: 6
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 3
  learning_rate: 1.0e-2
  lr_scheduler_type: constant
  warmup_steps: 0
";

/// A run of a task, with what stands in its `preference`.
fn recipe(task: &str, rows: &str, preference: &str, out: &str) -> String {
    format!(
        "task: {task}\nmodel: {{base: t}}\nadapter: {{r: 4}}\ndata: {{train: {rows}, eval: {rows}}}\n\
         preference: {{{preference}}}\n{TRAINING}output: {{dir: {out}, report_to: [jsonl]}}\n"
    )
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// The steps of a run, and its evaluations.
fn steps(bench: &Bench, out: &str) -> (Vec<Value>, Vec<Value>) {
    let metrics = bench.text(&format!("{out}/metrics.jsonl"));
    let metrics = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    metrics.partition(|line| !line["loss"].is_null())
}

fn said(role: &str, text: String) -> Value {
    json!([{"role": role, "content": text}])
}

/// A question, an answer that is wanted, and one that is not.
fn pair(i: usize) -> [Value; 3] {
    let (good, bad) = (said("assistant", format!("It is {i}.")), said("assistant", "No idea at all.".into()));
    [said("user", format!("What is {i}?")), good, bad]
}

#[test]
fn a_run_learns_what_is_preferred() {
    let bench = Bench::new().with_text();
    let row = |i: usize| {
        let [prompt, chosen, rejected] = pair(i);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    };
    bench.write("pairs.jsonl", lines(&(0..10).map(row).collect::<Vec<_>>()));
    bench.write("dpo.yaml", recipe("dpo", "pairs.jsonl", "beta: 0.5", "out"));
    let preview = bench.run("data preview dpo.yaml --rows 1 --json").json();
    assert_eq!(preview["segments"].as_array().map(Vec::len), Some(2), "{preview}");

    // What is chosen where preferences are learnt is TRL's.
    let plan = bench.run("train dpo.yaml --dry-run --json --set training.learning_rate=auto").json()["plan"].clone();
    assert!(plan["chosen"].to_string().contains("training.learning_rate=1.0e-6"), "{plan}");
    let said = bench.run("train dpo.yaml");
    assert!(said.stderr.contains("the chosen one is the longer in 0 % of 10 pairs"), "{}", said.stderr);
    said.ok();
    let (of_steps, evaluations) = steps(&bench, "out");
    let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
    // The policy begins where its reference stays.
    let ln2 = 2.0_f64.ln();
    assert!((number(first, "loss") - ln2).abs() < 1e-4, "{first}");
    for name in METRICS {
        assert!(number(first, name).is_finite());
    }
    assert!(number(first, "rewards/margins").abs() < 1e-3 && number(first, "logps/chosen") < -1.0, "{first}");
    assert!(number(last, "loss") < ln2 && number(last, "rewards/margins") > 0.0, "{last}");
    let [before, .., after] = &evaluations[..] else { panic!("{evaluations:?}") };
    let [loss_before, loss_after] = [before, after].map(|line| number(line, "eval_loss"));
    assert!((loss_before - ln2).abs() < 1e-4 && loss_after < loss_before, "{evaluations:?}");
    assert!(number(after, "eval_rewards/margins") > 0.0, "{after}");

    // What is measured of pairs is said, and is of the preferred answers.
    let report = bench.run("evaluate dpo.yaml --adapter out --json").json();
    let metric = |name: &str| {
        let metrics = report["metrics"].as_array().expect("metrics");
        metrics
            .iter()
            .find(|metric| metric["metric"] == name)
            .unwrap_or_else(|| panic!("no {name} in {report}"))
            .clone()
    };
    assert_eq!(metric("loss")["about"], "nats per supervised token of the preferred answers");
    assert_eq!((metric("accuracy")["rows"].clone(), metric("margin")["rows"].clone()), (json!(10), json!(10)));
    // Beyond the base by what the rewards say, divided by beta.
    let margin = metric("margin");
    let more = number(&margin["values"][1], "value") - number(&margin["values"][0], "value");
    let rewards = number(after, "eval_rewards/margins") / 0.5;
    assert!((more - rewards).abs() < 1e-3 * rewards, "{more} {rewards}");
    let verified = bench.run("verify --model t --adapter out --json").json();
    assert_eq!(verified["rows_from"], "the evaluation rows of the adapter's run, of each pair the preferred answer");

    // The same rows without a reference; `auto` looks at one answer with its prompt.
    let previews = bench.run("data preview dpo.yaml --rows 10 --json").ok();
    let previews = previews.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lengths = previews.flat_map(|row| {
        let segments = row["segments"].as_array().expect("segments").clone();
        segments.into_iter().map(|segment| segment[1].as_u64().unwrap() - segment[0].as_u64().unwrap())
    });
    let longest = lengths.max().expect("rows");
    for (task, keys, out) in
        [("orpo", "beta: 0.5", "orpo"), ("dpo", "loss_type: simpo, beta: 2.0, cpo_alpha: 0.5", "simpo")]
    {
        bench.write("free.yaml", recipe(task, "pairs.jsonl", keys, out));
        bench.run("train free.yaml --set data.max_length=auto").ok();
        let (of_steps, evaluations) = steps(&bench, out);
        let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
        assert!(number(last, "loss") < number(first, "loss"), "{task}: {first} {last}");
        assert!(number(last, "nll_loss") < number(first, "nll_loss"), "{task}: {first} {last}");
        assert!(number(last, "rewards/margins") > number(first, "rewards/margins"), "{task}: {first} {last}");
        assert!(evaluations.iter().all(|line| number(line, "eval_nll_loss").is_finite()));
        // Where `<eos>` follows each answer there is one token more.
        let chosen = bench.text(&format!("{out}/recipe.yaml"));
        let remark = format!("the longest answer with its prompt has {}", longest + 1);
        assert!(chosen.contains(&remark), "{remark}: {chosen}");
    }
}

#[test]
fn a_run_learns_from_judged_answers() {
    let bench = Bench::new().with_text();
    let rows = (0..6).flat_map(|i| {
        let [prompt, good, bad] = pair(i);
        [(good, true), (bad, false)]
            .map(|(completion, label)| json!({"prompt": prompt, "completion": completion, "label": label}))
    });
    bench.write("judged.jsonl", lines(&rows.collect::<Vec<_>>()));
    bench.write("kto.yaml", recipe("kto", "judged.jsonl", "beta: 0.5", "out"));
    let preview = bench.run("data preview kto.yaml --rows 2 --json").ok();
    assert!(preview.contains("unpaired: a good answer") && preview.contains("unpaired: a bad answer"), "{preview}");
    let said = bench.run("train kto.yaml");
    assert!(said.stderr.contains("How far the model has gone is estimated of each 2 rows"), "{}", said.stderr);
    let (of_steps, evaluations) = steps(&bench, "out");
    let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
    // Nothing has moved at first: neither the answers nor those to other prompts.
    assert!((number(first, "loss") - 0.5).abs() < 1e-4 && number(first, "kl").abs() < 1e-3, "{first}");
    assert!(number(last, "loss") < 0.5 && number(last, "rewards/margins") > 0.0, "{last}");
    let [before, .., after] = &evaluations[..] else { panic!("{evaluations:?}") };
    assert!((number(before, "eval_loss") - 0.5).abs() < 1e-4 && number(after, "eval_rewards/margins") > 0.0, "{after}");
    // The same run again ends in the same bytes.
    bench.run("train kto.yaml --set output.dir=again").ok();
    let adapter = |out: &str| bench.read(&format!("{out}/adapter/adapter_model.safetensors"));
    assert!(adapter("out") == adapter("again"));
    // Pairs are the same rows.
    let row = |i: usize| {
        let [prompt, chosen, rejected] = pair(i);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    };
    bench.write("pairs.jsonl", lines(&(0..6).map(row).collect::<Vec<_>>()));
    let of_pairs = recipe("kto", "pairs.jsonl", "beta: 0.5", "pairs").replace("data: {", "data: {format: preference, ");
    bench.write("pairs.yaml", of_pairs);
    let said = bench.run("train pairs.yaml");
    assert!(said.stderr.contains("Pairs are taken apart, as in TRL"), "{}", said.stderr);
    assert!(adapter("out") == adapter("pairs"));
    let report = bench.run("evaluate kto.yaml --adapter out --json").json();
    assert_eq!(report["metrics"][0]["about"], "nats per supervised token of the good answers");
    assert_eq!(report["metrics"][0]["rows"], 6);
}

#[test]
fn a_reward_model_is_trained_asked_and_merged() {
    let bench = Bench::new().with_text();
    let row = |i: usize| {
        let [prompt, chosen, rejected] = pair(i);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected, "margin": 0.25})
    };
    bench.write("pairs.jsonl", lines(&(0..6).map(row).collect::<Vec<_>>()));
    let keys = "center_rewards_coefficient: 0.01";
    let saved = recipe("reward", "pairs.jsonl", keys, "out").replace("output: {", "output: {save_steps: 3, ");
    bench.write("reward.yaml", saved);
    let plan = bench.run("train reward.yaml --dry-run --json --set training.learning_rate=auto").json()["plan"].clone();
    assert!(plan["chosen"].to_string().contains("training.learning_rate=0.0001"), "{plan}");
    let said = bench.run("train reward.yaml");
    assert!(said.stderr.contains("next: gemma-tune score --model t --adapter out/adapter"), "{}", said.stderr);
    said.ok();
    let (of_steps, evaluations) = steps(&bench, "out");
    let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
    assert!(number(last, "loss") < number(first, "loss") && number(last, "margin") > 0.25, "{first} {last}");
    assert!(number(last, "min_reward") <= number(last, "mean_reward"), "{last}");
    assert!(number(last, "mean_reward") <= number(last, "max_reward"), "{last}");
    let after = evaluations.last().expect("an evaluation");
    assert_eq!(number(after, "eval_accuracy"), 1.0, "{after}");

    // What is left is PEFT's, and killed after its third step the run ends in the same bytes.
    const ADAPTER: &str = "out/adapter/adapter_model.safetensors";
    let adapter = bench.read(ADAPTER);
    let config: Value = serde_json::from_slice(&bench.read("out/adapter/adapter_config.json")).unwrap();
    assert_eq!((&config["task_type"], &config["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    let head = Golden::read(&bench.path(ADAPTER));
    assert_eq!(head.shape("base_model.model.score.weight"), [1, 48]);
    for gone in ["out/adapter", "out/checkpoints/step-6"] {
        std::fs::remove_dir_all(bench.path(gone)).expect(gone);
    }
    std::fs::remove_file(bench.path("out/summary.json")).expect("a summary");
    bench.run("train reward.yaml --resume").ok();
    assert!(bench.read(ADAPTER) == adapter);

    // Rows are judged as the evaluation judged them.
    let judged = bench.run("score --model t --adapter out --input pairs.jsonl").ok();
    let judged: Vec<Value> = judged.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let margin = judged.iter().map(|row| number(row, "margin")).sum::<f64>() / 6.0;
    assert!((margin - number(after, "eval_margin")).abs() < 1e-5, "{margin} {after}");
    let differs = number(&judged[0]["chosen"], "reward") - number(&judged[0]["rejected"], "reward");
    assert!((differs - number(&judged[0], "margin")).abs() < 1e-9, "{}", judged[0]);
    let report = bench.run("evaluate reward.yaml --adapter out --json").json();
    let metric =
        |at: usize| (report["metrics"][at]["metric"].clone(), number(&report["metrics"][at]["values"][0], "value"));
    assert_eq!(metric(0), (json!("accuracy"), 1.0));
    assert!(metric(1).0 == json!("margin") && (metric(1).1 - margin).abs() < 1e-5, "{report}");

    // It judges what another model says of its own accord, as it judges rows.
    let prompts: Vec<Value> = (0..2).map(|i| json!({"prompt": pair(i)[0]})).collect();
    bench.write("prompts.jsonl", lines(&prompts));
    let own = "task: grpo\nmodel: {base: t}\ndata: {train: prompts.jsonl, max_length: 64}\n\
               grpo: {num_generations: 4, max_completion_length: 6}\ntraining: {max_steps: 1, gradient_accumulation_steps: 8}\n\
               rewards: [{kind: model, adapter: out, weight: 2.0}]\noutput: {dir: own}\n";
    bench.write("own.yaml", own);
    bench.run("train own.yaml").ok();
    let answers = String::from_utf8(bench.read("own/rewards.jsonl")).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 8);
    let of_row = |answer: &Value| {
        let at = usize::from(answer["prompt"].as_str().is_some_and(|origin| origin.contains("row 2")));
        json!({"prompt": prompts[at]["prompt"], "completion": [{"role": "assistant", "content": answer["completion"]}]})
    };
    bench.write("answers.jsonl", lines(&answers.iter().map(of_row).collect::<Vec<_>>()));
    let scored = bench.run("score --model t --adapter out --input answers.jsonl").ok();
    for (answer, scored) in answers.iter().zip(scored.lines()) {
        let scored: Value = serde_json::from_str(scored).expect("JSON");
        let reward = number(&scored, "reward");
        assert!((number(&answer["rewards"], "model") - reward).abs() < 1e-5, "{answer} {scored}");
        assert!((number(answer, "reward") - 2.0 * reward).abs() < 1e-5, "{answer} {scored}");
    }
    bench.write("own.yaml", own.replace("adapter: out", "adapter: own"));
    let said = bench.run("train own.yaml --set output.dir=other");
    assert!(said.code == Some(2) && said.problem().contains("the adapter is no reward model"), "{}", said.stderr);

    // As a whole it is a classifier for transformers.
    bench.run("merge --model t --adapter out --output whole --dtype f32").ok();
    let config: Value = serde_json::from_slice(&bench.read("whole/config.json")).unwrap();
    assert_eq!(config["architectures"], json!(["Gemma3TextForSequenceClassification"]));
    assert_eq!(config["id2label"].as_object().map(|labels| labels.len()), Some(1));
    let whole = Golden::read(&bench.path("whole/model.safetensors"));
    assert_eq!(whole.values("score.weight"), head.values("base_model.model.score.weight"));
    // And for us: it judges as base and adapter did, in every place where these judge.
    let scored = bench.run("score --model whole --input pairs.jsonl").ok();
    for (whole, parts) in scored.lines().zip(&judged) {
        let whole: Value = serde_json::from_str(whole).expect("JSON");
        assert!((number(&whole, "margin") - number(parts, "margin")).abs() < 1e-4, "{whole} {parts}");
    }
    let report = bench.run("evaluate reward.yaml --model whole --json").json();
    let value = |at: usize| number(&report["metrics"][at]["values"][0], "value");
    assert!(value(0) == 1.0 && (value(1) - margin).abs() < 1e-4, "{report}");
    let inspected = bench.run("inspect whole").ok();
    assert!(inspected.contains("it is a reward model, whose `score` head judges texts"), "{inspected}");
    bench.write("own.yaml", own.replace("adapter: out", "base: whole"));
    bench.run("train own.yaml --set output.dir=by_whole").ok();
    let by_whole = bench.text("by_whole/rewards.jsonl");
    for (line, parts) in by_whole.lines().zip(&answers) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!((number(&line, "reward") - number(parts, "reward")).abs() < 1e-4, "{line} {parts}");
    }
    bench.write("own.yaml", own.replace("adapter: out", "base: t"));
    let said = bench.run("train own.yaml --set output.dir=other");
    assert!(said.code == Some(2) && said.problem().contains("`t` is no reward model"), "{}", said.stderr);
    bench.write("whole.yaml", recipe("dpo", "pairs.jsonl", "beta: 0.5", "other").replace("base: t", "base: whole"));
    for refused in [
        "train whole.yaml",
        "estimate whole.yaml",
        "generate --model whole --prompt a",
        "verify --model whole --adapter out",
        "merge --model whole --adapter out --output other",
        "export gguf --model whole --quant F32 --output a.gguf",
    ] {
        let said = bench.run(refused);
        assert_eq!(said.code, Some(2), "{refused}: {}", said.stderr);
        assert!(said.problem().contains("the model is a reward model"), "{refused}: {}", said.stderr);
    }
    for refused in
        ["score --model whole --adapter out --input pairs.jsonl", "evaluate reward.yaml --model whole --adapter out"]
    {
        let said = bench.run(refused);
        assert!(said.code == Some(2) && said.problem().contains("no adapter goes on it"), "{refused}: {}", said.stderr);
    }

    // It goes on as what it is, and is no writer for anybody.
    bench.run("train reward.yaml --set adapter.init_from=out --set output.dir=more --set training.max_steps=1").ok();
    let (more, _) = steps(&bench, "more");
    assert!(number(&more[0], "margin") > number(first, "margin"), "{more:?}");
    bench.write("dpo.yaml", recipe("dpo", "pairs.jsonl", "beta: 0.5", "dpo"));
    for refused in [
        "train dpo.yaml --set adapter.init_from=out",
        "generate --model t --adapter out --prompt a",
        "verify --model t --adapter out",
        "export gguf --model t --adapter out --quant F32 --output a.gguf",
        "export gguf-lora --model t --adapter out --output a.gguf",
        "export ollama --model t --adapter out --output ollama",
    ] {
        let said = bench.run(refused);
        assert_eq!(said.code, Some(2), "{refused}: {}", said.stderr);
        assert!(said.problem().contains("the adapter is a reward model"), "{refused}: {}", said.stderr);
    }
    let said = bench.run("evaluate reward.yaml --adapter out --generate");
    assert!(said.code == Some(2) && said.problem().contains("it judges"), "{}", said.stderr);
    let said = bench.run("score --model t --adapter out --input pairs.jsonl --logits l.safetensors");
    assert!(said.code == Some(2) && said.problem().contains("no logits"), "{}", said.stderr);
    let said = bench.run("train reward.yaml --dry-run --set evaluation.samples=2 --set output.dir=new");
    assert!(
        said.code == Some(2) && said.problem().contains("`evaluation.samples` does not go with"),
        "{}",
        said.stderr
    );
}
