use super::*;
use crate::adapter::Init;
use crate::adapter::target::TargetModules;
use crate::device::{self, Capacity};
use crate::jobs::forecast::beside::Beside;
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::model::{ModelConfig, gemma3};
use crate::nn::{AttentionKind, Segments};
use crate::progress::Silent;
use crate::recipe;
use crate::train::optimizer::Rule;
use crate::train::recompute::Recompute;
use crate::weights::{Compression, Holding};
use burn::tensor::FloatDType;
use std::collections::BTreeSet;

/// A model of the kind and pattern of the 270M, with narrow layers and a small vocabulary.
fn narrow() -> ModelConfig {
    let published = gemma3::published("google/gemma-3-270m").unwrap().unwrap();
    ModelConfig::Gemma3(gemma3::TextConfig {
        vocab_size: 20_000,
        hidden_size: 64,
        intermediate_size: 128,
        num_attention_heads: 2,
        head_dim: 32,
        sliding_window: 5,
        ..published
    })
}

/// Looks at a run of this model, of two sequences of 40 tokens three times a step, rank 4 on everything.
fn with_run<T>(config: &ModelConfig, look: impl FnOnce(TimedRun) -> T) -> T {
    let keys = recipe::Adapter {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.1,
        target_modules: TargetModules::AllLinear,
        exclude_modules: Vec::new(),
        vision_target_modules: Vec::new(),
        audio_target_modules: Vec::new(),
        train_projector: false,
        use_rslora: false,
        use_dora: false,
        init_lora_weights: recipe::InitLoraWeights::Kaiming,
        init_from: None,
        given: BTreeSet::new(),
    };
    let adapter = AdapterPlan::new(&keys, config).unwrap();
    look(TimedRun {
        frozen: Frozen { config, source: None },
        holding: Holding::dense(None),
        adapter: &adapter,
        beside: Beside::default(),
        rule: Rule::Sgd { momentum: 0.9, weight_decay: 0.0 },
        batch_size: 2,
        max_length: 40,
        alike: [1, 0],
        accumulation: 3,
        recompute: Recompute::ALL,
        max_steps: Some(10),
        at_most: false,
        devices: 1,
        capacity: Capacity::default(),
    })
}

#[test]
fn a_step_is_its_layers_by_kind_its_vocabulary_and_its_passes() {
    let config = ModelConfig::published("google/gemma-3-270m").unwrap().unwrap();
    let full = config.layer_types().iter().filter(|&&kind| kind == AttentionKind::Full).count();
    assert_eq!((config.num_hidden_layers(), full, config.vocab_size()), (18, 3, 262_144));
    let costs = Costs { layer: 1.0, sliding: 0.01, full: 0.1, head: 0.5, words: 8192, update: 0.25 };
    // 18 layers, of which 15 slide, and 32 times the words.
    let micro_batch = 18.0 + 15.0 * 0.01 + 3.0 * 0.1 + 32.0 * 0.5;
    with_run(&config, |run| assert!((costs.step(&run) - (3.0 * micro_batch + 0.25)).abs() < 1e-9));
}

#[test]
fn pairs_are_counted_as_the_masks_have_them() {
    let sees = |window: usize, lengths: &[usize]| -> usize {
        lengths.iter().flat_map(|&length| (0..length).map(move |i| (i + 1).min(window))).sum()
    };
    let config = narrow();
    with_run(&config, |run| {
        for (tokens, lengths) in [(80, vec![40, 40]), (47, vec![40, 7]), (40, vec![40]), (3, vec![3]), (0, vec![])] {
            assert_eq!(run.segments(tokens).ranges().iter().map(|range| range.len()).collect::<Vec<_>>(), lengths);
            assert_eq!(run.pairs(AttentionKind::Sliding, tokens), sees(5, &lengths) as f64, "{lengths:?}");
            assert_eq!(run.pairs(AttentionKind::Full, tokens), sees(usize::MAX, &lengths) as f64, "{lengths:?}");
            assert_eq!(run.looked_at(tokens), tokens);
        }
    });
    // Seven answers of 10 tokens, three of them at most to the same prompt of 30.
    with_run(&config, |run| {
        let run = TimedRun { batch_size: 7, alike: [3, 30], ..run };
        assert_eq!((run.tokens(), run.looked_at(run.tokens())), (160, 280));
        let lengths = [(40, 0), (10, 30), (10, 30), (40, 0), (10, 30), (10, 30), (40, 0)];
        assert_eq!(run.segments(160), Segments::sharing(lengths));
        let own = |shared: usize| (shared..40).map(|at| at + 1).sum::<usize>();
        assert_eq!(run.pairs(AttentionKind::Full, 160), (3 * own(0) + 4 * own(30)) as f64);
        assert_eq!(run.pairs(AttentionKind::Sliding, 160), (3 * (sees(5, &[40])) + 4 * 50) as f64);
        assert_eq!((run.segments(45).tokens(), run.looked_at(45)), (45, 75));
    });
}

#[test]
fn every_kind_of_run_is_timed() {
    let compute = device::open("cpu").unwrap();
    let config = narrow();
    let check = |change: &dyn Fn(&mut TimedRun)| {
        with_run(&config, |mut run| {
            change(&mut run);
            let pace = Pace::measure(&run, &compute, &Silent);
            assert_eq!((pace.tokens_per_step, &pace.not_timed), (240, &None));
            let seconds = pace.seconds_per_step.unwrap();
            assert!(seconds.is_finite() && seconds > 0.0, "{pace:?}");
            assert_eq!((pace.tokens_per_second, pace.seconds_total), (Some(240.0 / seconds), Some(10.0 * seconds)));
        });
    };
    for projections in [Compression::None, Compression::Int8, Compression::Nf4, Compression::Nf4Double] {
        let holding = Holding { projections, embedding_int8: true, ..Holding::dense(None) };
        check(&|run| run.holding = holding);
    }
    check(&|run| run.recompute = Recompute::NOTHING);
    check(&|run| run.recompute = Recompute::first(1));
    for (use_dora, init) in [(true, Init::Kaiming), (false, Init::Pissa)] {
        with_run(&config, |run| {
            let mut adapter = run.adapter.clone();
            (adapter.config.use_dora, adapter.init) = (use_dora, init);
            let pace = Pace::measure(&TimedRun { adapter: &adapter, ..run }, &compute, &Silent);
            assert!(pace.seconds_per_step.is_some_and(f64::is_normal), "{pace:?}");
        });
    }
}

#[test]
fn replicas_wait_for_the_last_of_them_and_share_the_threads_of_a_cpu() {
    let config = narrow();
    with_run(&config, |mut run| {
        let mut passes = |devices: usize, gpu| {
            (run.devices, run.capacity.gpu) = (devices, gpu);
            run.passes()
        };
        assert_eq!([1, 2, 3, 4].map(|devices| passes(devices, None)), [3.0, 4.0, 3.0, 4.0]);
        let gpu = Some(FloatDType::BF16);
        assert_eq!([1, 2, 3, 4].map(|devices| passes(devices, gpu)), [3.0, 2.0, 1.0, 1.0]);
    });
}

#[test]
fn a_probe_takes_no_more_than_half_of_what_is_free() {
    let config = ModelConfig::published("google/gemma-3-27b-it").unwrap().unwrap();
    with_run(&config, |mut run| {
        (run.batch_size, run.max_length) = (64, 1024);
        assert_eq!(StandIn::affordable_tokens(&run).unwrap(), 65_536, "nobody knows what is free");
        run.capacity.available_bytes = Some(64_000_000_000);
        assert_eq!(StandIn::affordable_tokens(&run).unwrap(), 32_768);
        run.capacity.available_bytes = Some(4_000_000_000);
        assert!((64..4096).contains(&StandIn::affordable_tokens(&run).unwrap()));
        // A layer is 409 M weights, in bf16.
        run.capacity.available_bytes = Some(1_000_000_000);
        let compute = device::open("cpu").unwrap();
        let pace = Pace::measure(&run, &compute, &Silent);
        let why = pace.not_timed.as_deref().unwrap();
        assert!(why.starts_with("a probe of one layer takes ") && why.ends_with(", and 1.00 GB is free"), "{why}");
        assert_eq!((pace.tokens_per_step, pace.seconds_per_step, pace.seconds_total), (196_608, None, None));
        assert_eq!(pace.to_string(), format!("not measured: {why}"));
    });
}

#[test]
fn a_pace_is_shown_with_what_it_promises() {
    let config = narrow();
    with_run(&config, |mut run| {
        let shown = |run: &TimedRun| Pace::new(run, 12.0).to_string();
        let about = "about 12 s a step of 240 tokens, 20.0 tokens per second";
        assert_eq!(shown(&run), format!("{about}; about 2 min 00 s for 10 steps"));
        run.max_steps = None;
        assert_eq!(shown(&run), about);
        run.at_most = true;
        assert_eq!(shown(&run), "at most 12 s a step of 240 tokens, 20.0 tokens per second");
    });
}
