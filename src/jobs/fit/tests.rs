use super::*;
use crate::model::gemma3;

const GB: u64 = 1_000_000_000;

fn asked() -> Settings {
    Settings {
        holding: Holding::dense(None),
        batch_size: 4,
        accumulation: 3,
        max_length: 1024,
        activation_checkpointing: AutoBool::False,
    }
}

/// The published 1B with rank 16 on everything, where `available_bytes` are free.
fn with_sizes<T>(available_bytes: u64, look: impl FnOnce(&Sizes) -> T) -> T {
    let config = gemma3::published("google/gemma-3-1b-it").unwrap().unwrap();
    let tokens = |batch_size: usize, max_length: usize| (batch_size * max_length) as u64;
    look(&Sizes {
        frozen: Frozen { config: &config, source: None },
        trainable: 13_045_760,
        optimizer_slots: 2,
        tokens: &tokens,
        available_bytes: Some(available_bytes),
    })
}

#[test]
fn a_run_is_made_to_fit_by_smaller_micro_batches_before_recomputing() {
    let need = with_sizes(GB, |sizes| sizes.need(&asked()).memory.total_bytes());
    assert_eq!(with_sizes(need, |sizes| sizes.fitting(&asked())), Some(asked()));

    let fitting = with_sizes(need - 1, |sizes| sizes.fitting(&asked())).unwrap();
    assert_eq!((fitting.batch_size, fitting.accumulation), (3, 4), "12 sequences in a step, as asked");
    assert_eq!(fitting.activation_checkpointing, AutoBool::False);

    let one = Settings { batch_size: 1, accumulation: 12, ..asked() };
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
            "data.max_length=256"
        ]
    );
    let changed = [
        Settings { activation_checkpointing: AutoBool::True, ..asked() },
        Settings { batch_size: 1, accumulation: 12, ..asked() },
        Settings { holding: Holding { projections: Compression::Nf4Double, ..Holding::default() }, ..asked() },
        Settings { holding: Holding { embedding_int8: true, ..Holding::default() }, ..asked() },
        Settings { max_length: 256, ..asked() },
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
