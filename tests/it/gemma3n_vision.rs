//! Pictures in Gemma 3n against transformers, timm and PEFT (goldens by `scripts/make_gemma3n_vision_goldens.py`): every
//! block of the tower, soft tokens, logits and gradients, on every device that this build has and this machine can use.

use crate::bench::{Bench, copy, golden as golden_path, lines, safetensors_bytes};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, LoraModule};
use gemma_tune::device;
use gemma_tune::model::load::Loader;
use gemma_tune::model::random::RandomModel;
use gemma_tune::model::vision::mobilenet::tower::cells;
use gemma_tune::model::vision::mobilenet::{MobileNet, MobileNetConfig};
use gemma_tune::model::{self, Features, Gemma3n, Inputs, LanguageModel, Modality, ModelConfig, Site, SoftTokens};
use gemma_tune::nn::{BaseOnly, Segments, SidePath};
use gemma_tune::progress::Silent;
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative, max_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::step::{self, StepSettings};
use gemma_tune::weights::names::TensorId;
use gemma_tune::weights::{Form, Holding, HostDtype, Source};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOGITS: f64 = 1e-4;
const GRADIENTS: f64 = 1e-3;
/// What a block of the tower may be off, relative to the largest of its numbers.
const BLOCKS: f64 = 2e-5;

struct Case {
    model: Gemma3n,
    adapter: Adapter,
    golden: Golden,
    rows: Vec<Row>,
}

struct Row {
    ids: Vec<u32>,
    labels: Vec<i32>,
    /// Of each picture, `[3, height, width]`.
    pixels: Vec<Tensor<3>>,
}

/// Whether the tower has looked at pictures before the model reads them.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Look {
    Before,
    InTheModel,
}

fn dir() -> PathBuf {
    folder("gemma3n_vision")
}

/// The model of a folder with its towers.
fn gemma3n(dir: &Path, device: &Device) -> Gemma3n {
    let ModelConfig::Gemma3n(config) = ModelConfig::from_folder(dir).unwrap().0 else { panic!("no Gemma 3n") };
    let source = Source::open_folder(dir).unwrap();
    config.check_towers(&source).unwrap();
    let mut parts = Loader { source: &source, holding: &Holding::default(), device, progress: &Silent };
    Gemma3n::assemble(config, &mut parts, device).unwrap()
}

/// The adapter of a folder, on all layers that its file has.
fn adapter(dir: &Path, model: &Gemma3n) -> Adapter {
    let tensors = Golden::read(&dir.join("adapter_model.safetensors"));
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join("adapter_config.json")).unwrap()).unwrap();
    let scaling = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
    let tensor = |key: String| {
        let values: Vec<f32> = tensors.values(&key).iter().map(|&x| x as f32).collect();
        let [rows, columns] = *tensors.shape(&key) else { panic!() };
        Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), model.device())
    };
    let has = |site: &Site| tensors.names().any(|name| name == format!("{}.lora_A.weight", path(site)));
    let sites = model.sites().into_iter().chain(model.config().tower_sites());
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

/// How PEFT calls the module of a site.
fn path(site: &Site) -> String {
    format!("base_model.model.{}", site.module_path(true))
}

/// The pictures of a tensor `[n, 3, height, width]`.
fn pictures(golden: &Golden, name: &str, device: &Device) -> Vec<Tensor<3>> {
    let [_, channels, height, width] = *golden.shape(name) else { panic!() };
    let each = golden.values(name).chunks(channels * height * width);
    let picture = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        Tensor::from_data(TensorData::new(values, [channels, height, width]), device)
    };
    each.map(picture).collect()
}

impl Case {
    fn new(device: &Device) -> Self {
        let golden = Golden::read(&dir().join("golden.safetensors"));
        let model = gemma3n(&dir().join("model"), device);
        let row = |i: usize| {
            let of = |name: &str| golden.values(&format!("row.{i}.{name}"));
            let pixels = format!("row.{i}.pixel_values");
            let has = golden.names().any(|name| name == pixels);
            Row {
                ids: of("input_ids").iter().map(|&x| x as u32).collect(),
                labels: of("labels").iter().map(|&x| x as i32).collect(),
                pixels: if has { pictures(&golden, &pixels, device) } else { Vec::new() },
            }
        };
        let rows = (0..3).map(row).collect();
        let adapter = adapter(&dir().join("adapter"), &model);
        Case { model, adapter, golden, rows }
    }

    fn inputs(&self, row: &Row, look: Look) -> Inputs {
        let images = self.model.config.images.as_ref().unwrap();
        let blocks = blocks(&row.ids, images.image_token_id, images.vision_soft_tokens_per_image);
        assert_eq!(blocks.len(), row.pixels.len());
        let soft = blocks.into_iter().zip(&row.pixels).map(|(rows, pixels)| SoftTokens {
            rows,
            modality: Modality::Image,
            features: match look {
                Look::Before => Features::Encoded(self.model.encode(Modality::Image, pixels.clone()).unwrap()),
                Look::InTheModel => Features::Prepared { values: pixels.clone(), valid: 0 },
            },
        });
        let segments = Segments::from_lengths([row.ids.len()]);
        Inputs { input_ids: row.ids.clone(), segments, soft_tokens: soft.collect() }
    }

    /// Rows one after the other.
    fn packed(&self, rows: &[Row], look: Look) -> MicroBatch {
        let labels: Vec<i32> = rows.iter().flat_map(|row| row.labels.clone()).collect();
        MicroBatch::of(Inputs::joined(rows.iter().map(|row| self.inputs(row, look))), &labels)
    }

    fn logits(&self, look: Look, side: &dyn SidePath) -> Vec<f32> {
        let inputs = self.packed(&self.rows, look).inputs;
        floats(&self.model.logits(self.model.hidden(&inputs, side)))
    }

    /// A golden's values of all rows.
    fn of_rows(&self, variant: &str, what: &str) -> Vec<f64> {
        let rows = 0..self.rows.len();
        let names =
            rows.map(|i| format!("{variant}.row.{i}.{what}")).filter(|name| self.golden.names().any(|n| n == name));
        names.flat_map(|name| self.golden.values(&name).to_vec()).collect()
    }
}

/// The runs of so many image tokens.
fn blocks(ids: &[u32], image_token: u32, tokens: usize) -> Vec<Range<usize>> {
    let at: Vec<usize> = (0..ids.len()).filter(|&at| ids[at] == image_token).collect();
    at.chunks(tokens).map(|run| run[0]..run[run.len() - 1] + 1).collect()
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

fn cases() -> impl Iterator<Item = (String, Case)> {
    device::all().into_iter().map(|found| (found.name().to_string(), Case::new(&found.device)))
}

/// Every part of the tower in the order of a pass: its name, and what it gives for a picture.
fn parts(tower: &MobileNet, pixels: Tensor<3>) -> Vec<(String, Tensor<3>)> {
    let mut parts = vec![("conv_stem".to_owned(), tower.conv_stem.forward(cells(pixels)))];
    let mut scales = vec![parts[0].1.clone()];
    for (stage, blocks) in tower.blocks.iter().enumerate() {
        for (index, block) in blocks.iter().enumerate() {
            let x = block.forward(parts[parts.len() - 1].1.clone());
            parts.push((format!("blocks.{stage}.{index}"), x));
        }
        scales.push(parts[parts.len() - 1].1.clone());
    }
    parts.push(("msfa".into(), tower.msfa.forward(scales.split_off(scales.len() - 2))));
    parts
}

#[test]
fn every_block_of_the_tower_equals_the_reference() {
    for (device, case) in cases() {
        let vision = case.model.vision.as_ref().unwrap();
        let pixels = case.rows[1].pixels[0].clone();
        let parts = parts(vision.vision_tower.as_ref().unwrap(), pixels.clone());
        let expected = case.golden.names().filter(|name| name.starts_with("tower.")).count();
        assert_eq!(parts.len(), expected);
        for (name, got) in &parts {
            let gap = max_relative(&floats(got), case.golden.values(&format!("tower.{name}")));
            assert!(gap <= BLOCKS, "{device} {name}: {gap:e}");
        }
        let [.., (_, fused)] = parts.as_slice() else { panic!() };
        assert_eq!(floats(&vision.vision_tower.as_ref().unwrap().forward(pixels)), floats(fused), "{device}");
    }
}

#[test]
fn soft_tokens_equal_the_reference() {
    for (device, case) in cases() {
        for (variant, side) in [("base", &BaseOnly as &dyn SidePath), ("lora", &case.adapter)] {
            let inputs = case.packed(&case.rows, Look::Before).inputs;
            let embedded = case.model.embed(&inputs, side).hidden;
            let soft = inputs.images().into_iter().map(|rows| embedded.clone().narrow(0, rows.start, rows.len()));
            let got: Vec<f32> = soft.flat_map(|rows| floats(&rows)).collect();
            let gap = max_relative(&got, &case.of_rows(variant, "embed_vision"));
            assert!(gap <= BLOCKS, "{device} {variant}: {gap:e}");
        }
    }
}

#[test]
fn logits_losses_and_gradients_equal_the_reference() {
    for (device, case) in cases() {
        for (variant, side) in [("base", &BaseOnly as &dyn SidePath), ("lora", &case.adapter)] {
            let gap = max_relative(&case.logits(Look::Before, side), &case.of_rows(variant, "logits"));
            assert!(gap <= LOGITS, "{device} {variant} logits: {gap:e}");
            let batch = case.packed(&case.rows, Look::Before);
            let loss = backprop::loss(&case.model, side, &batch) / batch.supervised() as f64;
            let expected = case.golden.values(&format!("{variant}.loss"))[0];
            assert!((loss - expected).abs() <= 1e-5 * expected, "{device} {variant}: {loss} {expected}");
        }
        assert_eq!(
            case.golden.names().filter(|name| name.starts_with("grad.")).count(),
            2 * case.adapter.modules().len()
        );
        for look in [Look::Before, Look::InTheModel] {
            for activation_checkpointing in [true, false] {
                let window = [case.packed(&case.rows, look)];
                let settings = settings(activation_checkpointing);
                let (_, gradients) = step::gradients(&case.model, &case.adapter, &window, 0, &settings);
                let keys = case.adapter.modules().iter().flat_map(|module| ["A", "B"].map(|part| (module.site, part)));
                for ((site, part), gradient) in keys.zip(gradients) {
                    let key = format!("{}.lora_{part}.weight", path(&site));
                    let gap = l2_relative(&floats(&gradient), case.golden.values(&format!("grad.{key}")));
                    assert!(gap <= GRADIENTS, "{device} {look:?} {key}: {gap:e}");
                }
            }
        }
    }
}

#[test]
fn packed_rows_and_single_ones_have_the_same_gradients() {
    for (device, case) in cases() {
        let of = |window: &[MicroBatch]| step::gradients(&case.model, &case.adapter, window, 0, &settings(true));
        let (packed_loss, packed) = of(&[case.packed(&case.rows, Look::Before)]);
        let single = case.rows.iter().map(|row| case.packed(std::slice::from_ref(row), Look::Before));
        let (single_loss, single) = of(&single.collect::<Vec<_>>());
        assert!((packed_loss - single_loss).abs() <= 1e-6 * packed_loss, "{device}");
        let [packed, single] = [packed, single].map(|all| all.iter().flat_map(floats).collect::<Vec<f32>>());
        let expected: Vec<f64> = packed.into_iter().map(f64::from).collect();
        let gap = l2_relative(&single, &expected);
        assert!(gap <= 1e-5, "{device}: {gap:e}");
    }
}

#[test]
fn a_tower_that_looked_before_gives_what_one_in_the_model_gives() {
    for (device, case) in cases() {
        let [before, within] = [Look::Before, Look::InTheModel].map(|look| case.logits(look, &case.adapter));
        assert_eq!(before, within, "{device}");
    }
}

#[test]
fn what_is_cached_is_what_is_read_at_once() {
    for (device, case) in cases() {
        let width = case.model.config().vocab_size();
        let expected: Vec<f64> = case.logits(Look::Before, &case.adapter).into_iter().map(f64::from).collect();
        let rows: Vec<Inputs> = case.rows.iter().map(|row| case.inputs(row, Look::Before)).collect();
        let mut cache = case.model.cache(rows.len());
        let (mut at, mut got) = (vec![0; rows.len()], vec![Vec::new(); rows.len()]);
        while rows.iter().zip(&at).any(|(row, at)| *at < row.input_ids.len()) {
            let ends: Vec<usize> = rows.iter().zip(&at).map(|(row, &at)| row.piece_end(at, 3)).collect();
            let pieces = rows.iter().zip(at.iter().zip(&ends)).map(|(row, (&from, &to))| row.slice(from..to));
            let inputs = Inputs::joined(pieces);
            let lengths: Vec<usize> = at.iter().zip(&ends).map(|(from, to)| to - from).collect();
            let hidden = case.model.hidden_cached(&inputs, &lengths, &mut cache, &case.adapter);
            let logits = floats(&case.model.logits(hidden));
            let mut logits = logits.chunks(width);
            for (row, &len) in lengths.iter().enumerate() {
                (0..len).for_each(|_| got[row].extend_from_slice(logits.next().unwrap()));
            }
            at = ends;
        }
        let gap = max_relative(&got.concat(), &expected);
        assert!(gap <= 1e-5, "{device}: {gap:e}");
    }
}

#[test]
fn a_model_of_text_is_the_same_without_its_tower() {
    let model = dir().join("model");
    let source = Source::open_folder(&model).unwrap();
    let (config, _) = ModelConfig::from_folder(&model).unwrap();
    let load = |config| model::load(config, &source, &Holding::default(), &Device::flex(), &Silent).unwrap();
    let (whole, text) = (load(config.clone()), load(config.of_text()));
    let inputs = Inputs::of((2..58).collect());
    assert_eq!(floats(&whole.hidden(&inputs, &BaseOnly)), floats(&text.hidden(&inputs, &BaseOnly)));
    let picture = Tensor::<3>::zeros([3, 32, 32], &Device::flex());
    assert!(text.encode(Modality::Image, picture.clone()).is_none() && text.tower_linears().is_empty());
    assert_eq!(whole.encode(Modality::Image, picture).unwrap().dims(), [4, 2048]);
    // A picture is worth what it shows.
    let case = Case::new(&Device::flex());
    let row = &case.rows[1];
    let blank = Row { ids: row.ids.clone(), labels: row.labels.clone(), pixels: vec![row.pixels[0].zeros_like()] };
    let loss =
        |row: &Row| backprop::loss(&case.model, &BaseOnly, &case.packed(std::slice::from_ref(row), Look::Before));
    assert!((loss(row) - loss(&blank)).abs() > 1e-3);
}

/// Tensors of a file, in f32.
type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// The committed model as a folder, in f32, with its tensors changed.
fn changed(bench: &Bench, name: &str, change: impl Fn(&mut Tensors)) -> PathBuf {
    copy(&dir().join("model"), &bench.path(name));
    let file = bench.path(&format!("{name}/model.safetensors"));
    let golden = Golden::read(&file);
    let tensor = |name: &str| {
        let values = golden.values(name).iter().map(|&x| x as f32).collect();
        (name.to_owned(), golden.shape(name).to_vec(), values)
    };
    let mut all: Tensors = golden.names().map(tensor).collect();
    change(&mut all);
    std::fs::write(file, safetensors_bytes(&all)).unwrap();
    bench.path(name)
}

#[test]
fn every_spelling_of_a_tower_loads_and_what_is_wrong_with_one_is_named() {
    let bench = Bench::new();
    let hidden = |dir: &Path| {
        let model = gemma3n(dir, &Device::flex());
        let case = Case { model, ..Case::new(&Device::flex()) };
        case.logits(Look::Before, &BaseOnly)
    };
    let inside = changed(&bench, "inside", |_| {});
    let outside = changed(&bench, "outside", |all| {
        for (name, ..) in all {
            *name = match name.strip_prefix("model.language_model.") {
                Some(rest) => format!("language_model.model.{rest}"),
                None => name.trim_start_matches("model.").to_owned(),
            };
        }
    });
    assert_eq!(hidden(&inside), hidden(&outside));

    let refused = |name: &str, change: &dyn Fn(&mut Tensors)| {
        let dir = changed(&bench, name, change);
        let (config, _) = ModelConfig::from_folder(&dir).unwrap();
        let error = config.check_towers(&Source::open_folder(&dir).unwrap()).unwrap_err();
        error.iter().map(|error| error.what().to_owned()).collect::<Vec<_>>().join("\n")
    };
    let block = "model.vision_tower.timm_model.blocks.2.1.attn.key.proj.weight";
    let missing = refused("missing", &|all| all.retain(|(name, ..)| name != block));
    assert!(missing.contains(block) && missing.contains("missing"), "{missing}");
    let beyond = refused("beyond", &|all| {
        all.push(("model.vision_tower.timm_model.blocks.0.2.bn1.weight".into(), vec![1], vec![0.0]));
    });
    assert!(beyond.contains("does not compute with") && beyond.contains("blocks.0.2.bn1"), "{beyond}");
    let unknown = refused("unknown", &|all| all.push(("model.embed_vision.scale".into(), vec![1], vec![0.0])));
    assert!(unknown.contains("embed_vision.scale"), "{unknown}");
    let narrow = refused("narrow", &|all| {
        let (_, shape, values) =
            all.iter_mut().find(|(name, ..)| name.contains("embed_vision.embedding_projection")).unwrap();
        (shape[1], _) = (1024, values.truncate(shape[0] * 1024));
    });
    assert!(narrow.contains("embed_vision.embedding_projection") && narrow.contains("[8, 1024]"), "{narrow}");
}

#[test]
fn the_projection_of_pictures_is_no_linear_layer_of_the_language_model() {
    let (config, _) = ModelConfig::from_folder(&dir().join("model")).unwrap();
    let paths = |sites: Vec<Site>| sites.iter().map(|site| site.module_path(true)).collect::<Vec<_>>();
    let (own, beside) = (paths(config.sites()), paths(config.tower_sites()));
    let projection = "model.embed_vision.embedding_projection".to_owned();
    assert!(beside.contains(&projection) && !own.contains(&projection));
    let first = config.sites().len();
    assert!(config.tower_sites().iter().enumerate().all(|(at, site)| site.index == first + at));
    let model = Case::new(&Device::flex()).model;
    for site in config.tower_sites() {
        let linear = LanguageModel::linear(&model, site.index);
        assert_eq!((linear.site, linear.weight.dims()), (site.index, site.dims()));
    }
}

#[test]
fn towers_are_counted_kept_and_left_out_where_nothing_looks() {
    let bench = Bench::new();
    copy(&golden_path("gemma3n_vision/model"), &bench.path("v"));
    let rows: Vec<Value> = (0..20)
        .map(|at: u64| (0..12).map(|t| 3 + (at * 7 + t * 5) % 55).collect::<Vec<u64>>())
        .map(|ids| json!({"input_ids": ids, "labels": ids}))
        .collect();
    bench.write("rows.jsonl", lines(&rows));
    let model = bench.run("inspect v --json").json();
    let all = model["tensors"].as_array().unwrap();
    let beside = all.iter().filter(|tensor| !tensor["name"].as_str().unwrap().contains("language_model")).count();
    assert_eq!(model["tower_tensors"].as_u64().unwrap() as usize, beside);
    bench.run("train r.yaml --set model.base=v --set training.max_steps=1 --set data.train=rows.jsonl").ok();
    bench.run("merge --model v --adapter out/adapter --output merged --dtype bf16").ok();
    let [base, merged] = ["v", "merged"].map(|name| bench.read(&format!("{name}/model.safetensors")));
    let [base, merged] = [&base, &merged].map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(base.names().len(), merged.names().len());
    let of_tower = base.tensors().into_iter().filter(|(name, _)| !name.contains("language_model"));
    for (name, tensor) in of_tower {
        assert_eq!(merged.tensor(&name).unwrap().data(), tensor.data(), "{name}");
    }
    let [base, merged] = ["v", "merged"].map(|name| {
        serde_json::from_slice::<Value>(&bench.read(&format!("{name}/config.json"))).unwrap()["vision_config"].clone()
    });
    assert_eq!(base, merged);
}

/// What the process has had in memory at most, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
#[ignore = "a tower of the published size, of random numbers: says what a picture takes"]
fn a_picture_of_the_published_size_takes_seconds() {
    let device = Device::flex();
    let form = |_: &TensorId| Form::Dense(HostDtype::BF16);
    let mut random = RandomModel::new(&form, &device);
    let tower = MobileNet::assemble(&MobileNetConfig::published(), &mut random).unwrap();
    let pixels = random.tensor(3 * 768, 768, 0.3).reshape([3, 768, 768]);
    let held = peak_mib();
    let start = std::time::Instant::now();
    let seen = tower.forward(pixels);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(seen.dims(), [256, 2048]);
    assert!(floats(&seen).iter().all(|x| x.is_finite()));
    println!("one picture: {seconds:.1} s, {held} MiB before it, {} MiB at most", peak_mib());
}

/// Towers of whoever makes folders with `model`, and `inputs` and `base` as safetensors.
#[test]
#[ignore = "reads the folders of GEMMA_TUNE_GOLDENS"]
fn other_towers_are_met() {
    let Ok(root) = std::env::var("GEMMA_TUNE_GOLDENS") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("base.safetensors").exists());
    folders.sort();
    for folder in folders {
        let [inputs, base] = ["inputs", "base"].map(|name| Golden::read(&folder.join(format!("{name}.safetensors"))));
        if !base.names().any(|name| name.contains("timm_model")) {
            continue;
        }
        let model = gemma3n(&folder.join("model"), &Device::flex());
        let vision = model.vision.as_ref().unwrap();
        let (mut worst, mut at) = (0.0, String::new());
        for (picture, pixels) in pictures(&inputs, "pixel_values", &Device::flex()).into_iter().enumerate() {
            for (name, got) in parts(vision.vision_tower.as_ref().unwrap(), pixels) {
                let key = format!("act.model.vision_tower.timm_model.{name}");
                let [_, channels, height, width] = *base.shape(&key) else { panic!() };
                let (size, cells) = (channels * height * width, height * width);
                let expected = &base.values(&key)[picture * size..][..size];
                let expected: Vec<f64> = (0..size).map(|i| expected[(i % channels) * cells + i / channels]).collect();
                let gap = max_relative(&floats(&got), &expected);
                if gap > worst {
                    (worst, at) = (gap, name);
                }
            }
        }
        println!("{}: {worst:.1e} at {at}", folder.display());
        assert!(worst <= LOGITS, "{}: {at}", folder.display());
    }
}
