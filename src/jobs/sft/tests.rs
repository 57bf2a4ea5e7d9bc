use super::*;
use crate::error::{Error, Kind};
use crate::fence::injected;
use crate::recipe::{self, Recipe};
use crate::testkit::golden::folder;
use crate::train::checkpoint;
use std::path::Path;
use std::time::Duration;

/// What a device says that has no memory left.
const NO_MEMORY: &str = "out of device memory allocating 1234 bytes";

/// A folder with rows, whose recipe is six steps of four sequences, two at once.
struct Bench {
    dir: tempfile::TempDir,
    screen: ProgressBar,
    fit: &'static str,
}

impl Bench {
    fn new(fit: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let row = |i: usize| {
            let ids: Vec<usize> = (0..6 + i % 5).map(|t| 4 + (i * 31 + t * t * 17) % 316).collect();
            format!("{}\n", serde_json::json!({ "input_ids": ids }))
        };
        std::fs::write(dir.path().join("rows.jsonl"), (0..40).map(row).collect::<String>()).unwrap();
        Bench { dir, screen: ProgressBar::lines(std::io::sink(), Duration::ZERO), fit }
    }

    fn recipe(&self, overrides: &[String]) -> Recipe {
        let text = format!(
            "model: {{base: {}, dtype: f32}}\n\
             adapter: {{r: 2, lora_alpha: 4}}\n\
             data: {{train: [{{path: {}, format: tokens}}], max_length: 16, packing: false}}\n\
             training: {{per_device_train_batch_size: 2, gradient_accumulation_steps: 2, max_steps: 6, fit: {}, \
             activation_checkpointing: false}}\n\
             output: {{dir: {}, save_steps: 100, report_to: [jsonl]}}\n",
            folder("model/lora/model").display(),
            self.dir.path().join("rows.jsonl").display(),
            if self.fit == "off" { "\"off\"" } else { self.fit },
            self.out().display(),
        );
        recipe::parse(&self.dir.path().join("r.yaml"), text.into_bytes(), overrides).unwrap()
    }

    fn out(&self) -> std::path::PathBuf {
        self.dir.path().join("out")
    }

    fn train(&self, resume: bool) -> Result<Outcome, Error> {
        let consent = |_: &str| Ok(());
        let options = TrainOptions { device: "cpu", resume, dry_run: false, is_made: false, consent: &consent };
        train(&self.recipe(&[]), &options, &self.screen, &Interrupt::default())
    }

    /// The batch size that the run's own recipe has by now.
    fn batch_size(&self) -> usize {
        recipe::load(&self.out().join("recipe.yaml"), &[]).unwrap().training.per_device_train_batch_size
    }

    fn steps_in_the_books(&self) -> Vec<u64> {
        let lines = std::fs::read_to_string(self.out().join("metrics.jsonl")).unwrap();
        let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap();
        lines.lines().map(step).collect()
    }
}

fn saved(out: &Path) -> Vec<u64> {
    checkpoint::steps(&out.join("checkpoints")).unwrap()
}

#[test]
fn with_fit_auto_a_run_without_memory_goes_on_smaller() {
    for (failures, batch_size) in [
        (&["step 4"][..], 1),
        (&["loading the model"], 1),
        (&["step 1"], 1),
        // The last step that there is: recomputing.
        (&["step 3", "step 5"], 1),
    ] {
        let bench = Bench::new("auto");
        failures.iter().for_each(|doing| injected::next(doing, NO_MEMORY));
        let outcome = bench.train(false).unwrap();
        assert!(matches!(outcome, Outcome::Ended(Ending::Done, None)), "{failures:?}: {outcome:?}");
        assert_eq!(bench.batch_size(), batch_size, "{failures:?}");
        assert_eq!(bench.steps_in_the_books(), [1, 2, 3, 4, 5, 6], "{failures:?}");
        assert!(bench.out().join("adapter/adapter_model.safetensors").exists());
        let said = bench.screen.warnings().join("\n");
        assert!(said.contains("the device has no memory left") && said.contains("going on with"), "{said}");
        assert!(said.contains("training.per_device_train_batch_size=1"), "{said}");
    }
}

#[test]
fn without_it_the_run_is_saved_and_the_key_is_named() {
    let mut bench = Bench::new("off");
    injected::next("step 4", NO_MEMORY);
    let error = bench.train(false).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::OutOfMemory, 1));
    assert_eq!(error.what(), format!("step 4: the device has no memory left: {NO_MEMORY}"));
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("--resume --device cpu --set training.fit=auto"), "{hint}");
    assert!(hint.contains("training.per_device_train_batch_size=1 training.gradient_accumulation_steps=4"), "{hint}");
    assert_eq!(saved(&bench.out()), [3]);

    // As the hint says; it fails again where it did, and goes on.
    bench.fit = "auto";
    injected::next("step 4", NO_MEMORY);
    assert!(matches!(bench.train(true).unwrap(), Outcome::Ended(Ending::Done, None)));
    assert_eq!((bench.batch_size(), bench.steps_in_the_books()), (1, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn a_device_that_fails_otherwise_ends_the_run_and_what_was_done_is_saved() {
    let bench = Bench::new("auto");
    injected::next("step 3", "an illegal address was read");
    let error = bench.train(false).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::Computing, 1));
    assert!(error.hint_text().unwrap().contains("--resume --device cpu` goes on"), "{error}");
    assert_eq!(saved(&bench.out()), [2]);
    assert!(matches!(bench.train(true).unwrap(), Outcome::Ended(Ending::Done, None)));
    assert_eq!((bench.batch_size(), bench.steps_in_the_books()), (2, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn where_nothing_is_smaller_that_is_said() {
    let bench = Bench::new("auto");
    ["step 2", "step 3", "step 4"].iter().for_each(|doing| injected::next(doing, NO_MEMORY));
    let error = bench.train(false).unwrap_err();
    assert_eq!((error.kind(), error.what().starts_with("step 4: ")), (Kind::OutOfMemory, true), "{error}");
    assert!(error.hint_text().unwrap().contains("`data.max_length`"), "{error}");
    assert_eq!(saved(&bench.out()).last(), Some(&3));
}

/// The same run twice, and once more on two replicas where a device may be named twice: the same bytes, with dropout,
/// clipping, a NormalFloat base and several micro-batches a step, in f32 and in f16 where the device has it.
#[test]
fn a_device_writes_the_same_adapter_again_and_so_do_two_replicas() {
    for found in device::all() {
        let (one, two) = (found.name(), format!("{0},{0}", found.name()));
        let narrow =
            found.backend != device::Backend::Cpu && found.device.supports_dtype(burn::tensor::FloatDType::F16);
        for compute_dtype in ["f32", "f16"].into_iter().take(1 + usize::from(narrow)) {
            let adapter = |device: &str| {
                let bench = Bench::new("off");
                let overrides = [
                    "model.quantization=nf4_double".to_owned(),
                    format!("model.compute_dtype={compute_dtype}"),
                    "adapter.lora_dropout=0.1".into(),
                    "training.max_grad_norm=0.05".into(),
                    "training.gradient_accumulation_steps=3".into(),
                    "training.max_steps=3".into(),
                ];
                let consent = |_: &str| Ok(());
                let options = TrainOptions { device, resume: false, dry_run: false, is_made: false, consent: &consent };
                let outcome = train(&bench.recipe(&overrides), &options, &bench.screen, &Interrupt::default()).unwrap();
                assert!(matches!(outcome, Outcome::Ended(Ending::Done, None)), "{device}: {outcome:?}");
                std::fs::read(bench.out().join("adapter/adapter_model.safetensors")).unwrap()
            };
            let first = adapter(&one);
            assert!(adapter(&one) == first, "{one} {compute_dtype}: another adapter the second time");
            if found.is_software() {
                assert!(adapter(&two) == first, "{two} {compute_dtype}: another adapter than on one");
            }
        }
    }
}
