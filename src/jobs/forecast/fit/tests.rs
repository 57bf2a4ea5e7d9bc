use super::*;
use crate::device::host;
use crate::jobs::forecast::beside::Factors;
use crate::model::ModelConfig;
use crate::model::load::float_dtype;
use crate::ops::sizes::UNPACKED_TILE_BYTES;
use crate::progress::Silent;
use crate::weights::HostDtype;

const GB: u64 = 1_000_000_000;

/// What LoRA of rank 16 keeps in a layer of the 1B: two inputs of 1,152, and 16 numbers of each projection.
const KEPT_BESIDE: u64 = 2 * 1152 + 7 * 16;

fn asked() -> FitSettings {
    FitSettings {
        holding: Holding::dense(None),
        batch_size: 4,
        accumulation: 3,
        max_length: 1024,
        activation_checkpointing: AutoBool::False,
        samples: 0,
        drawn: None,
        is_one_batch: false,
    }
}

/// The published 1B with rank 16 on everything, where `available_bytes` are free.
fn with_sizes<T>(available_bytes: u64, look: impl FnOnce(&Sizes) -> T) -> T {
    let total_bytes = host::machine_bytes();
    with_capacity(Capacity { available_bytes: Some(available_bytes), total_bytes, ..Capacity::default() }, look)
}

/// The same where there is this capacity.
fn with_capacity<T>(capacity: Capacity, look: impl FnOnce(&Sizes) -> T) -> T {
    let config = ModelConfig::published("google/gemma-3-1b-it").unwrap().unwrap();
    let largest = |batch_size: usize, max_length: usize| Largest::of((batch_size * max_length) as u64);
    look(&Sizes {
        frozen: Frozen { config: &config, source: None },
        trainable: 13_045_760,
        beside: Beside { per_token: 26 * KEPT_BESIDE, per_token_in_a_layer: KEPT_BESIDE, ..Beside::default() },
        optimizer_slots: 2,
        largest: &largest,
        devices: 1,
        capacity,
    })
}

#[test]
fn as_few_layers_are_recomputed_as_leave_half_of_the_memory_to_others() {
    const LAYERS: usize = 26;
    let auto = FitSettings { activation_checkpointing: AutoBool::Auto, ..asked() };
    let of = |recompute| FitSettings { activation_checkpointing: recompute, ..asked() };
    let needed = |settings| with_sizes(GB, |sizes| sizes.need(&settings).memory.total_bytes());
    let [kept, recomputed] = [AutoBool::False, AutoBool::True].map(|how| needed(of(how)));
    assert!(recomputed < kept / 2);
    let mut last = LAYERS + 1;
    for half in (0..=10).map(|step| recomputed + (kept - recomputed) * step / 10) {
        let need = with_sizes(2 * half, |sizes| sizes.need(&auto));
        let layers = need.recompute.of(LAYERS);
        assert!(need.memory.total_bytes() <= half && layers < last, "{layers} of {last}");
        last = layers;
    }
    assert_eq!(last, 0, "all fits");
    // The last layer is run again right after it was run: that it is kept costs nothing.
    for (less, recompute) in [(Some(2 * recomputed - 2), Recompute::first(LAYERS - 1)), (None, Recompute::ALL)] {
        let capacity = Capacity { available_bytes: less, ..Capacity::default() };
        let need = with_capacity(capacity, |sizes| sizes.need(&auto));
        assert_eq!((need.recompute, need.memory.total_bytes()), (recompute, recomputed));
    }
    let told = |recompute| memory::Activations::new(recompute, LAYERS).to_string();
    assert_eq!(told(Recompute::NOTHING), "keeping activations");
    assert_eq!(told(Recompute::first(7)), "recomputing activations of 7 of 26 layers");
    assert_eq!(told(Recompute::ALL), "recomputing activations");
}

#[test]
fn a_run_is_made_to_fit_by_smaller_micro_batches_before_recomputing() {
    let need = with_sizes(GB, |sizes| sizes.need(&asked()).memory.total_bytes());
    assert_eq!(with_sizes(need, |sizes| sizes.fitting(&asked())), Some(asked()));

    let fitting = with_sizes(need - 1, |sizes| sizes.fitting(&asked())).unwrap();
    assert_eq!((fitting.batch_size, fitting.accumulation), (3, 4), "12 sequences in a step, as asked");
    assert_eq!(fitting.activation_checkpointing, AutoBool::False);

    // Where a batch is judged as a whole, recomputing is all that there is.
    let whole = FitSettings { is_one_batch: true, ..asked() };
    let fitting = with_sizes(need - 1, |sizes| sizes.fitting(&whole)).unwrap();
    assert_eq!((fitting.batch_size, fitting.activation_checkpointing), (4, AutoBool::True));

    let one = FitSettings { batch_size: 1, accumulation: 12, ..asked() };
    let need = with_sizes(GB, |sizes| sizes.need(&one).memory.total_bytes());
    let fitting = with_sizes(need - 1, |sizes| sizes.fitting(&asked())).unwrap();
    assert_eq!(fitting.batch_size * fitting.accumulation, 12);
    assert_eq!(fitting.activation_checkpointing, AutoBool::True);

    assert_eq!(with_sizes(GB, |sizes| sizes.fitting(&asked())), None, "the weights alone take 2 GB");
}

#[test]
fn suggestions_are_what_the_estimate_says_of_them() {
    let suggestions = with_sizes(4 * GB, |sizes| sizes.suggestions(&asked()));
    let set: Vec<String> = suggestions.iter().map(|s| s.set.join(" ")).collect();
    assert_eq!(
        set,
        [
            "training.activation_checkpointing=true",
            "training.per_device_train_batch_size=1 training.gradient_accumulation_steps=12",
            "model.quantization=nf4_double",
            "model.embedding_quantization=int8",
            "data.max_length=128"
        ]
    );
    let changed = [
        FitSettings { activation_checkpointing: AutoBool::True, ..asked() },
        FitSettings { batch_size: 1, accumulation: 12, ..asked() },
        FitSettings { holding: Holding { projections: Compression::Nf4Double, ..Holding::default() }, ..asked() },
        FitSettings { holding: Holding { embedding_int8: true, ..Holding::default() }, ..asked() },
        FitSettings { max_length: 128, ..asked() },
    ];
    for (suggestion, settings) in suggestions.iter().zip(changed) {
        let need = with_sizes(4 * GB, |sizes| sizes.need(&settings).memory.total_bytes());
        assert_eq!((suggestion.memory_bytes, suggestion.fits), (need, need <= 4 * GB), "{:?}", suggestion.set);
    }
    assert!(advice(&suggestions).starts_with("any of these makes it fit: `"), "{}", advice(&suggestions));
}

#[test]
fn where_no_setting_is_enough_they_are_combined() {
    let suggestions = with_sizes(2 * GB, |sizes| sizes.suggestions(&asked()));
    let last = suggestions.last().unwrap();
    assert!(last.fits && last.set.len() > 2, "{last:?}");
    assert_eq!(suggestions.iter().filter(|s| s.fits).count(), 1);

    let suggestions = with_sizes(GB / 4, |sizes| sizes.suggestions(&asked()));
    assert!(suggestions.iter().all(|s| !s.fits));
    assert!(advice(&suggestions).starts_with("not enough, but as low as it goes"), "{}", advice(&suggestions));
}

/// A recipe of four sequences at once, three times a step.
fn recipe(fit: &str) -> Recipe {
    let text = format!(
        "model: {{base: google/gemma-3-1b-it}}\ndata: {{train: rows.jsonl, max_length: 1024}}\noutput: {{dir: out}}\n\
         training: {{per_device_train_batch_size: 4, gradient_accumulation_steps: 3, activation_checkpointing: false, fit: {fit}}}\n"
    );
    recipe::parse(std::path::Path::new("r.yaml"), text.into_bytes(), &[]).unwrap()
}

/// The batch size, the accumulation and the recomputation that a recipe is settled to.
fn settled(fit: &str, available_bytes: u64, keep: bool) -> (usize, usize, AutoBool) {
    let recipe = with_sizes(available_bytes, |sizes| settle(&recipe(fit), sizes, keep, true, &Silent)).unwrap();
    let keys = &recipe.training;
    (keys.per_device_train_batch_size, keys.gradient_accumulation_steps, keys.activation_checkpointing)
}

#[test]
fn only_auto_changes_a_recipe_and_only_at_the_start() {
    assert_eq!(settled("auto", 1 << 50, false), (4, 3, AutoBool::False));
    assert_eq!(settled("auto", 7 * GB, false), (1, 12, AutoBool::False));
    assert_eq!(settled("auto", 3 * GB, false), (1, 12, AutoBool::True));
    assert_eq!(settled("auto", GB, false), (4, 3, AutoBool::False), "nothing helps");
    assert_eq!(settled("auto", 7 * GB, true), (4, 3, AutoBool::False));
    assert_eq!(settled("off", 7 * GB, false), (4, 3, AutoBool::False));
}

#[test]
fn a_resumed_run_keeps_what_was_chosen_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("recipe.yaml");
    assert!(begun(&recipe("auto"), &saved).unwrap().is_none(), "nothing has begun");
    let chosen = with_sizes(7 * GB, |sizes| settle(&recipe("auto"), sizes, false, true, &Silent)).unwrap();
    std::fs::write(&saved, chosen.to_yaml()).unwrap();
    let resumed = begun(&recipe("auto"), &saved).unwrap().unwrap();
    assert_eq!(FitSettings::of(&resumed), FitSettings::of(&chosen));
    assert!(begun(&recipe("off"), &saved).unwrap().is_none());
    let mut other = recipe("auto");
    other.training.gradient_accumulation_steps = 4;
    assert!(begun(&other, &saved).unwrap().is_none(), "another number of sequences in a step");
}

#[test]
fn what_the_whole_machine_cannot_hold_is_not_begun() {
    let Some(machine) = host::machine_bytes() else { return };
    let mut huge = recipe("off");
    huge.data.max_length = 1 << 20;
    huge.training.per_device_train_batch_size = 1 << 12;
    let settled = |dry_run| with_sizes(machine, |sizes| settle(&huge, sizes, false, dry_run, &Silent));
    let error = settled(false).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.what().contains("and this machine has"), "{}", error.what());
    settled(true).unwrap();
}

#[test]
fn keys_and_values_of_sampled_answers_are_counted() {
    let kv = |samples, max_length| {
        let settings = FitSettings { samples, max_length, ..asked() };
        with_sizes(GB, |sizes| sizes.need(&settings).memory.kv_bytes)
    };
    assert_eq!(kv(0, 936), 0);
    // 22 sliding layers keep 512 tokens, 4 full ones all 1000; a key and a value of 256 floats each.
    assert_eq!(kv(1, 936), (22 * 512 + 4 * 1000) * 2 * 256 * 4);
    assert_eq!(kv(1000, 936), 8 * kv(1, 936), "eight at once");
}

#[test]
fn a_gpu_needs_room_for_the_weights_that_it_unpacks() {
    let config = ModelConfig::published("google/gemma-3-1b-it").unwrap().unwrap();
    let frozen = Frozen { config: &config, source: None };
    let products = |holding: Holding, fastest| {
        let products = frozen.gpu_products(&holding, float_dtype(fastest));
        (products.factor_bytes, products.unpacked_bytes)
    };
    let (f32, bf16, f16) = (HostDtype::F32, HostDtype::BF16, HostDtype::F16);
    let largest = 1152 * 6912;
    let nf4 = Holding { projections: Compression::Nf4Double, ..Holding::default() };
    assert_eq!(products(Holding::dense(None), bf16), (2, 0), "bf16 is multiplied as it is held");
    assert_eq!(products(Holding::dense(None), f16), (2, 2 * largest.min(UNPACKED_TILE_BYTES as u64 / 2)));
    assert_eq!(products(Holding::dense(Some(f32)), bf16), (4, 0), "f32 weights are multiplied as f32");
    assert_eq!(products(nf4, bf16), (2, 2 * largest.min(UNPACKED_TILE_BYTES as u64 / 2)));
    let exact = Holding { compute_dtype: Some(f32), ..nf4 };
    assert_eq!(products(exact, bf16), (4, 4 * largest.min(UNPACKED_TILE_BYTES as u64 / 4)));

    let need = |gpu: Option<HostDtype>| {
        let gpu = gpu.map(float_dtype);
        with_capacity(Capacity { gpu, ..Capacity::default() }, |sizes| sizes.need(&asked()).memory)
    };
    let [cpu, gpu, exact] = [None, Some(bf16), Some(f32)].map(need);
    assert_eq!((exact.base_bytes, exact.activation_bytes), (cpu.base_bytes, cpu.activation_bytes));
    // Queries, keys, values and what attention made of them, in two bytes each: q = 1024, kv = 256.
    assert_eq!(gpu.activation_bytes, cpu.activation_bytes - 4 * 1024 * 26 * 2 * (2 * 1024 + 2 * 256));
    assert!(gpu.loss_bytes > cpu.loss_bytes, "larger tiles of logits");
}

#[test]
fn memory_of_a_gpus_own_is_taken_but_for_an_eighth() {
    // The published 12B in bf16, two rows of 2,048 tokens, rank 16 on everything, on a card of 80 GB.
    let config = ModelConfig::published("google/gemma-3-12b-it").unwrap().unwrap();
    let (d, f, q) = (3840, 15360, 4096);
    let kept = 2 * d + 7 * 16;
    let factors = Factors { instead: 2 * d + 2 * f, again: q };
    let need = |available_bytes, gpu, activation_checkpointing| {
        let largest = |batch_size: usize, max_length: usize| Largest::of((batch_size * max_length) as u64);
        let capacity =
            Capacity { available_bytes: Some(available_bytes), total_bytes: None, gpu: Some(gpu), is_own: true };
        let beside = Beside { per_token: 48 * kept, per_token_in_a_layer: kept, factors, ..Beside::default() };
        let frozen = Frozen { config: &config, source: None };
        let sizes = Sizes {
            frozen,
            trainable: 65_470_464,
            beside,
            optimizer_slots: 2,
            largest: &largest,
            devices: 1,
            capacity,
        };
        let asked =
            FitSettings { batch_size: 2, max_length: 2048, accumulation: 1, activation_checkpointing, ..asked() };
        sizes.need(&asked)
    };
    let [bf16, f32] = [HostDtype::BF16, HostDtype::F32].map(float_dtype);
    let whole = need(80 * GB, bf16, AutoBool::Auto);
    assert_eq!(whole.recompute, Recompute::NOTHING, "{}", whole.memory);
    assert!(need(80 * GB, f32, AutoBool::Auto).recompute.of(48) > 0, "in f32 it does not fit");
    // Of a board whose memory is the machine's too, half.
    let bytes = whole.memory.total_bytes();
    let shared = Capacity { available_bytes: Some(80 * GB), ..Capacity::default() };
    assert_eq!(shared.budget_bytes(), Some(40 * GB));
    // Of a small one what a desktop takes, and half at least is used.
    let of = |free| Capacity { available_bytes: Some(free), is_own: true, ..Capacity::default() }.budget_bytes();
    assert_eq!((of(8 << 30), of(3 << 30), of(32 << 30)), (Some(6 << 30), Some(3 << 29), Some(28 << 30)));
    assert_eq!(need(bytes.div_ceil(7) * 8, bf16, AutoBool::Auto).recompute, Recompute::NOTHING);
    assert!(need(bytes / 8 * 9, bf16, AutoBool::Auto).recompute.of(48) > 0);
}

#[test]
fn replicas_share_what_is_frozen_and_keep_what_is_of_a_micro_batch() {
    let need = |devices: usize, gpu: Option<HostDtype>, settings: &FitSettings| {
        let capacity = Capacity { gpu: gpu.map(float_dtype), ..Capacity::default() };
        with_capacity(capacity, |sizes| Sizes { devices, ..*sizes }.need(settings).memory)
    };
    let trained = 4 * 13_045_760;
    let (one, two) = (need(1, None, &asked()), need(2, None, &asked()));
    assert_eq!((two.base_bytes, two.optimizer_bytes), (one.base_bytes, one.optimizer_bytes));
    assert_eq!((two.activation_bytes, two.loss_bytes), (2 * one.activation_bytes, 2 * one.loss_bytes));
    assert_eq!(two.adapter_bytes, one.adapter_bytes + 2 * trained);
    assert_eq!(need(3, None, &asked()), need(8, None, &asked()), "a step has three micro-batches");
    let alone = FitSettings { accumulation: 1, ..asked() };
    assert_eq!(need(2, None, &alone), need(1, None, &alone));

    // Each GPU has its own; the first one the sum beside.
    let gpu = Some(HostDtype::BF16);
    let (one, two) = (need(1, gpu, &asked()), need(2, gpu, &asked()));
    assert_eq!(two.total_bytes(), one.total_bytes() + trained);
    assert_eq!(two.adapter_bytes, one.adapter_bytes + trained);
}

#[test]
fn where_memory_ends_all_the_same_micro_batches_shrink_and_then_layers_are_recomputed() {
    let (mut now, mut steps) = (recipe("auto"), Vec::new());
    while let Some((smaller, changes)) = next_smaller(&now, now.training.activation_checkpointing == AutoBool::True) {
        let of = |recipe: &Recipe| FitSettings::of(recipe).batch_size * FitSettings::of(recipe).accumulation;
        assert_eq!(of(&smaller), of(&now), "as many sequences in a step");
        steps.push(changes.join(" "));
        now = smaller;
    }
    assert_eq!(
        steps,
        [
            "training.per_device_train_batch_size=3 training.gradient_accumulation_steps=4",
            "training.per_device_train_batch_size=2 training.gradient_accumulation_steps=6",
            "training.per_device_train_batch_size=1 training.gradient_accumulation_steps=12",
            "training.activation_checkpointing=true",
        ]
    );
}
