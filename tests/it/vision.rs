//! Pictures against transformers + PEFT (goldens by `scripts/make_vision_goldens.py`): every layer of tower and language
//! model, logits and gradients, on every device that this build has and this machine can use.

use crate::bench::{Bench, copy, golden as golden_path, lines};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, LoraModule};
use gemma_tune::device;
use gemma_tune::model::{self, Features, Inputs, LanguageModel, Modality, ModelConfig, Site, SoftTokens};
use gemma_tune::nn::{BaseOnly, Segments, SidePath};
use gemma_tune::progress::Silent;
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative, max_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::step::{self, StepSettings};
use gemma_tune::weights::{Holding, Source};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const LOGITS: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;

/// A multimodal model and rows of words and pictures for it.
struct Case {
    model: Box<dyn LanguageModel>,
    rows: Vec<Row>,
    /// Tokens of a row with its padding.
    padded: usize,
    image_token: u32,
}

/// A row without its padding.
struct Row {
    ids: Vec<u32>,
    labels: Vec<i32>,
    /// Of each picture, `[3, side, side]`.
    pixels: Vec<Tensor<3>>,
}

/// Whether the tower has looked at pictures before the model reads them.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Before,
    InTheGraph,
}

impl Case {
    fn new(model: &Path, inputs: &Golden, device: &Device) -> Self {
        let (config, _) = ModelConfig::from_folder(model).unwrap();
        let image_token = serde_json::from_slice::<Value>(
            &std::fs::read(model.join("config.json")).unwrap(),
        )
        .unwrap()["image_token_index"]
            .as_u64()
            .unwrap() as u32;
        let source = Source::open_folder(model).unwrap();
        let model = model::load(config, &source, &Holding::default(), device, &Silent).unwrap();
        let [b, padded] = *inputs.shape("input_ids") else { panic!() };
        let [_, channels, height, width] = *inputs.shape("pixel_values") else { panic!() };
        let size = channels * height * width;
        let mut pictures = inputs.values("pixel_values").chunks(size).map(|values| {
            let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
            Tensor::<3>::from_data(TensorData::new(values, [channels, height, width]), device)
        });
        let row = |name: &str, i: usize| inputs.values(name)[i * padded..(i + 1) * padded].to_vec();
        let rows = (0..b).map(|i| {
            let len = row("attention_mask", i).iter().sum::<f64>() as usize;
            let ids: Vec<u32> = row("input_ids", i)[..len].iter().map(|&x| x as u32).collect();
            let labels = row("labels", i)[..len].iter().map(|&x| x as i32).collect();
            let pixels = pictures.by_ref().take(blocks(&ids, image_token).len()).collect();
            Row { ids, labels, pixels }
        });
        let rows = rows.collect();
        Case { model, rows, padded, image_token }
    }

    fn inputs(&self, row: &Row, look: Look) -> Inputs {
        let soft = blocks(&row.ids, self.image_token).into_iter().zip(&row.pixels).map(|(rows, pixels)| {
            let features = match look {
                Look::Before => Features::Encoded(self.model.encode(Modality::Image, pixels.clone()).unwrap()),
                Look::InTheGraph => Features::Prepared { values: pixels.clone(), valid: 0 },
            };
            SoftTokens { rows, modality: Modality::Image, features }
        });
        let segments = Segments::from_lengths([row.ids.len()]);
        Inputs { input_ids: row.ids.clone(), segments, soft_tokens: soft.collect() }
    }

    /// Rows one after the other, without padding.
    fn packed(&self, rows: &[Row], look: Look) -> MicroBatch {
        let labels: Vec<i32> = rows.iter().flat_map(|row| row.labels.clone()).collect();
        MicroBatch::of(Inputs::joined(rows.iter().map(|row| self.inputs(row, look))), &labels)
    }

    /// The adapter of a folder, on all layers that its file has.
    fn adapter(&self, dir: &Path) -> Adapter {
        let tensors = Golden::read(&dir.join("adapter_model.safetensors"));
        let config: Value = serde_json::from_slice(&std::fs::read(dir.join("adapter_config.json")).unwrap()).unwrap();
        let scaling = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
        let tensor = |key: String| {
            let values: Vec<f32> = tensors.values(&key).iter().map(|&x| x as f32).collect();
            let [rows, columns] = *tensors.shape(&key) else { panic!() };
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), self.model.device())
        };
        let has = |site: &Site| tensors.names().any(|name| name == format!("{}.lora_A.weight", path(site)));
        let sites = self.model.sites().into_iter().chain(self.model.config().tower_sites());
        let modules: Vec<LoraModule> = sites
            .filter(has)
            .map(|site| LoraModule {
                a: tensor(format!("{}.lora_A.weight", path(&site))),
                b: tensor(format!("{}.lora_B.weight", path(&site))),
                magnitude: None,
                scaling,
                subtracted: None,
                site,
            })
            .collect();
        assert_eq!(2 * modules.len(), tensors.names().count(), "every tensor of the file is on a site");
        Adapter::new(modules)
    }

    /// A golden's values for the tokens that are not padding.
    fn unpadded(&self, golden: &Golden, name: &str) -> Vec<f64> {
        let values = golden.values(name);
        let width = values.len() / (self.rows.len() * self.padded);
        let rows = self.rows.iter().enumerate();
        rows.flat_map(|(i, row)| values[i * self.padded * width..][..row.ids.len() * width].to_vec()).collect()
    }

    fn logits(&self, look: Look, side: &dyn SidePath) -> Vec<f32> {
        let inputs = self.packed(&self.rows, look).inputs;
        floats(&self.model.logits(self.model.hidden(&inputs, side)))
    }
}

/// How PEFT calls the module of a site.
fn path(site: &Site) -> String {
    format!("base_model.model.{}", site.module_path(true))
}

/// The runs of image tokens.
fn blocks(ids: &[u32], image_token: u32) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for (at, _) in ids.iter().enumerate().filter(|(_, id)| **id == image_token) {
        match blocks.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => blocks.push(at..at + 1),
        }
    }
    blocks
}

fn floats<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}

fn settings(activation_checkpointing: bool) -> StepSettings {
    StepSettings {
        objective: Arc::new(Sft),
        max_grad_norm: 0.0,
        recompute: activation_checkpointing.into(),
        lora_dropout: 0.0,
        rng: Rng::new(0),
    }
}

/// The committed case on every device, each with a name.
fn cases() -> impl Iterator<Item = (String, Case, Golden)> {
    device::all().into_iter().map(|found| {
        let golden = Golden::read(&folder("vision").join("golden.safetensors"));
        let case = Case::new(&folder("vision").join("model"), &golden, &found.device);
        (found.name().to_string(), case, golden)
    })
}

#[test]
fn tower_and_projector_equal_the_reference_layer_by_layer() {
    for (name, case, golden) in cases() {
        // From the model's own side nothing is seen of the tower's layers: one is put together as the model does.
        let dir = folder("vision").join("model");
        let tower = tower(&dir, case.model.device());
        let pictures: Vec<Tensor<3>> = case.rows.iter().flat_map(|row| row.pixels.clone()).collect();
        let close = |what: &str, tensors: &[Tensor<2>]| {
            let got: Vec<f32> = tensors.iter().flat_map(floats).collect();
            let gap = max_relative(&got, golden.values(&format!("base.{what}")));
            assert!(gap <= 1e-5, "{name} {what}: {gap:e}");
        };
        let mut streams: Vec<Tensor<2>> =
            pictures.iter().map(|pixels| tower.embeddings.forward(pixels.clone())).collect();
        for (index, layer) in tower.layers.iter().enumerate() {
            for x in &mut streams {
                let everyone = model::vision::siglip::attention::everyone(x.dims()[0]);
                *x = layer.forward(x.clone(), &everyone, &BaseOnly);
            }
            close(&format!("vision_tower.encoder.layers.{index}"), &streams);
        }
        let seen: Vec<Tensor<2>> = pictures.iter().map(|pixels| tower.forward(pixels.clone(), &BaseOnly)).collect();
        close("vision_tower", &seen);
        let inputs = case.packed(&case.rows, Look::Before).inputs;
        let embedded = case.model.embed(&inputs, &BaseOnly).hidden;
        let soft: Vec<Tensor<2>> =
            inputs.images().into_iter().map(|rows| embedded.clone().narrow(0, rows.start, rows.len())).collect();
        close("multi_modal_projector", &soft);
    }
}

/// The tower alone.
#[allow(irrefutable_let_patterns, reason = "true while there is one architecture")]
fn tower(dir: &Path, device: &Device) -> model::vision::siglip::VisionTower {
    let ModelConfig::Gemma3(config) = ModelConfig::from_folder(dir).unwrap().0 else { panic!() };
    let source = Source::open_folder(dir).unwrap();
    let mut parts = model::load::Loader { source: &source, holding: &Holding::default(), device, progress: &Silent };
    let images = config.images.as_ref().unwrap();
    model::vision::siglip::VisionTower::assemble(&images.vision_config, &config.tower_sites(), &mut parts).unwrap()
}

#[test]
fn layers_and_logits_equal_the_reference() {
    for (name, case, golden) in cases() {
        let [text, all] = ["text", "all"].map(|variant| case.adapter(&folder("vision").join(variant)));
        for (variant, side) in [("base", &BaseOnly as &dyn SidePath), ("text", &text), ("all", &all)] {
            let look = if variant == "all" { Look::InTheGraph } else { Look::Before };
            let inputs = case.packed(&case.rows, look).inputs;
            let layout = case.model.layout(&inputs);
            let mut x = case.model.embed(&inputs, side);
            for layer in 0..case.model.num_layers() {
                x = case.model.layer(layer, x, &layout, side);
                let expected = case.unpadded(&golden, &format!("{variant}.language_model.layers.{layer}"));
                let gap = max_relative(&floats(&x.hidden), &expected);
                assert!(gap <= 1e-5, "{name} {variant} layer {layer}: {gap:e}");
            }
            let gap = max_relative(&case.logits(look, side), &case.unpadded(&golden, &format!("{variant}.logits")));
            assert!(gap <= LOGITS, "{name} {variant} logits: {gap:e}");
        }
    }
}

/// The worst of all gradients and the loss, relative to the reference.
fn gradients(case: &Case, adapter: &Adapter, look: Look, loss: f64, expected: &dyn Fn(&str) -> Vec<f64>) -> f64 {
    let mut worst = 0.0_f64;
    for activation_checkpointing in [true, false] {
        let window = [case.packed(&case.rows, look)];
        let (got, gradients) =
            step::gradients(case.model.as_ref(), adapter, &window, 0, &settings(activation_checkpointing));
        assert!((got - loss).abs() <= 1e-5 * loss, "{got} {loss}");
        let keys = adapter.modules().iter().flat_map(|module| ["A", "B"].map(|part| (module.site, part)));
        for ((site, part), gradient) in keys.zip(gradients) {
            let key = format!("{}.lora_{part}.weight", path(&site));
            let gap = l2_relative(&floats(&gradient), &expected(&key));
            assert!(gap <= GRADIENTS, "{key}: {gap:e}");
            worst = worst.max(gap);
        }
    }
    worst
}

#[test]
fn losses_and_gradients_equal_the_reference() {
    for (name, case, golden) in cases() {
        for (variant, look) in [("text", Look::Before), ("all", Look::InTheGraph)] {
            let adapter = case.adapter(&folder("vision").join(variant));
            let prefix = format!("grad.{variant}.");
            assert_eq!(2 * adapter.modules().len(), golden.names().filter(|n| n.starts_with(&prefix)).count());
            let loss = golden.values(&format!("{variant}.loss"))[0];
            let expected = |key: &str| golden.values(&format!("{prefix}{key}")).to_vec();
            let worst = gradients(&case, &adapter, look, loss, &expected);
            println!("{name} {variant}: gradients within {worst:.1e}");
            let batch = case.packed(&case.rows, look);
            let forward = backprop::loss(case.model.as_ref(), &adapter, &batch) / batch.supervised() as f64;
            assert!((forward - loss).abs() <= 1e-5 * loss, "{name} {variant}: {forward} {loss}");
        }
    }
}

#[test]
fn packed_rows_and_single_ones_have_the_same_gradients() {
    for (name, case, _) in cases() {
        let adapter = case.adapter(&folder("vision").join("all"));
        let of = |window: &[MicroBatch]| step::gradients(case.model.as_ref(), &adapter, window, 0, &settings(true));
        let (packed_loss, packed) = of(&[case.packed(&case.rows, Look::InTheGraph)]);
        let single = case.rows.iter().map(|row| case.packed(std::slice::from_ref(row), Look::InTheGraph));
        let (single_loss, single) = of(&single.collect::<Vec<_>>());
        assert!((packed_loss - single_loss).abs() <= 1e-6 * packed_loss, "{name}");
        for (packed, single) in packed.iter().zip(&single) {
            let expected: Vec<f64> = floats(packed).into_iter().map(f64::from).collect();
            assert!(l2_relative(&floats(single), &expected) <= 1e-5, "{name}");
        }
    }
}

#[test]
fn a_tower_that_looked_before_gives_what_one_in_the_graph_gives() {
    for (name, case, _) in cases() {
        let adapter = case.adapter(&folder("vision").join("text"));
        let (before, within) = (case.logits(Look::Before, &adapter), case.logits(Look::InTheGraph, &adapter));
        assert_eq!(before, within, "{name}");
    }
}

#[test]
fn what_is_cached_is_what_is_read_at_once() {
    for (name, case, _) in cases() {
        let adapter = case.adapter(&folder("vision").join("text"));
        let width = case.model.config().vocab_size();
        let expected: Vec<f64> = case.logits(Look::Before, &adapter).into_iter().map(f64::from).collect();
        let rows: Vec<Inputs> = case.rows.iter().map(|row| case.inputs(row, Look::Before)).collect();
        // In pieces of about three tokens, which keep pictures whole; both rows at once, the shorter one ends earlier.
        let mut cache = case.model.cache(rows.len());
        let (mut at, mut got) = (vec![0; rows.len()], vec![Vec::new(); rows.len()]);
        while rows.iter().zip(&at).any(|(row, at)| *at < row.input_ids.len()) {
            let ends: Vec<usize> = rows.iter().zip(&at).map(|(row, &at)| row.piece_end(at, 3)).collect();
            let pieces = rows.iter().zip(at.iter().zip(&ends)).map(|(row, (&from, &to))| row.slice(from..to));
            let inputs = Inputs::joined(pieces);
            let lengths: Vec<usize> = at.iter().zip(&ends).map(|(from, to)| to - from).collect();
            let hidden = case.model.hidden_cached(&inputs, &lengths, &mut cache, &adapter);
            let logits = floats(&case.model.logits(hidden));
            let mut logits = logits.chunks(width);
            for (row, &len) in lengths.iter().enumerate() {
                (0..len).for_each(|_| got[row].extend_from_slice(logits.next().unwrap()));
            }
            at = ends;
        }
        let gap = max_relative(&got.concat(), &expected);
        assert!(gap <= 1e-5, "{name}: {gap:e}");
    }
}

#[test]
fn a_model_of_text_is_the_same_without_its_tower() {
    let dir = folder("vision").join("model");
    let source = Source::open_folder(&dir).unwrap();
    let (config, _) = ModelConfig::from_folder(&dir).unwrap();
    let load = |config| model::load(config, &source, &Holding::default(), &Device::flex(), &Silent).unwrap();
    let (whole, text) = (load(config.clone()), load(config.of_text()));
    let inputs = Inputs::of((3..40).collect());
    assert_eq!(floats(&whole.hidden(&inputs, &BaseOnly)), floats(&text.hidden(&inputs, &BaseOnly)));
    let picture = Tensor::<3>::zeros([3, 24, 24], &Device::flex());
    assert!(text.encode(Modality::Image, picture.clone()).is_none());
    assert!(whole.encode(Modality::Image, picture.clone()).is_some());
    assert!(whole.encode(Modality::Audio, picture).is_none());
}

/// Goldens of whoever makes folders with `model`, `adapter`, and `inputs`, `base`, `lora`, `grads` as safetensors.
#[test]
#[ignore = "reads the folders of GEMMA_TUNE_GOLDENS"]
fn other_goldens_are_met() {
    let Ok(root) = std::env::var("GEMMA_TUNE_GOLDENS") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("grads.safetensors").exists());
    folders.sort();
    for folder in folders {
        let read = |name: &str| Golden::read(&folder.join(format!("{name}.safetensors")));
        let inputs = read("inputs");
        let case = Case::new(&folder.join("model"), &inputs, &Device::flex());
        let adapter = case.adapter(&folder.join("adapter"));
        let tower = adapter.modules().iter().any(|module| path(&module.site).contains("vision_tower"));
        let look = if tower { Look::InTheGraph } else { Look::Before };
        let (base, lora, grads) = (read("base"), read("lora"), read("grads"));
        let of_base = max_relative(&case.logits(Look::Before, &BaseOnly), &case.unpadded(&base, "logits"));
        let of_lora = max_relative(&case.logits(look, &adapter), &case.unpadded(&lora, "logits"));
        let expected = |key: &str| grads.values(key).to_vec();
        let worst = gradients(&case, &adapter, look, lora.values("loss")[0], &expected);
        println!("{}: logits {of_base:.1e}, with the adapter {of_lora:.1e}, gradients {worst:.1e}", folder.display());
        assert!(of_base <= LOGITS && of_lora <= LOGITS);
    }
}

#[test]
fn rows_with_pictures_are_refused_by_models_of_text() {
    let bench = Bench::new();
    copy(&golden_path("vision/model"), &bench.path("v"));
    let row = |at: u64, images: Value| {
        let ids: Vec<u64> = (0..12).map(|t| 3 + (at * 7 + t * 5) % 58).collect();
        json!({"input_ids": ids, "labels": ids, "images": images})
    };
    let rows: Vec<Value> = (0..20).map(|at| row(at, if at == 6 { json!(["a.png"]) } else { json!([]) })).collect();
    bench.write("rows.jsonl", lines(&rows));
    for (model, said) in [("v", "there is no file `a.png`"), ("m", "the model does not see")] {
        let score = format!("score --model {model} --input rows.jsonl --output scores.jsonl");
        let train = format!("train r.yaml --set model.base={model} --set training.max_steps=1");
        for command in [score, train.clone(), format!("{train} --dry-run")] {
            let refused = bench.run(&command);
            assert_eq!(refused.code, Some(2), "{command}: {}", refused.stderr);
            assert!(refused.problem().contains(said), "{}", refused.stderr);
            assert!(refused.problem().contains("rows.jsonl, row 7"), "{}", refused.stderr);
        }
        let skipped = bench.run(&format!("{train} --set data.on_bad_row=skip --set output.dir=out-{model}"));
        assert_eq!(skipped.code, Some(0), "{}", skipped.stderr);
    }
}

#[test]
fn names_of_towers_have_a_key_of_their_own() {
    let bench = Bench::new();
    copy(&golden_path("vision/model"), &bench.path("v"));
    let train = "train r.yaml --set model.base=v --set adapter.target_modules=[q_proj,fc1]";
    let said = bench.run(train);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("stand in `adapter.vision_target_modules`"), "{}", said.stderr);
}
