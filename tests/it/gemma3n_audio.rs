//! Sounds against transformers + PEFT (goldens by `scripts/make_gemma3n_audio_goldens.py`): every part of the tower, logits,
//! losses, gradients, on every device that this build has and this machine can use.

use crate::bench::{Bench, copy, golden as golden_path, lines};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_tune::adapter::{Adapter, LoraModule};
use gemma_tune::device;
use gemma_tune::model::load::Loader;
use gemma_tune::model::{self, Features, Gemma3n, Inputs, LanguageModel, Modality, ModelConfig, Site, SoftTokens};
use gemma_tune::nn::{BaseOnly, Segments, SidePath};
use gemma_tune::progress::Silent;
use gemma_tune::random::Rng;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative, max_relative};
use gemma_tune::train::backprop;
use gemma_tune::train::micro_batch::MicroBatch;
use gemma_tune::train::objective::Sft;
use gemma_tune::train::step::{self, StepSettings};
use gemma_tune::weights::names::{Spelling, TensorId};
use gemma_tune::weights::{Holding, HostDtype, Source};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A part of the tower may be this far from transformers, relative to its largest number.
const PARTS: f64 = 1e-5;
const LOGITS: f64 = 1e-4;
const GRADIENTS: f64 = 1e-3;

/// A model that hears, an adapter, and rows for it.
struct Case {
    model: Gemma3n,
    adapter: Adapter,
    rows: Vec<Row>,
}

/// A row without padding.
struct Row {
    ids: Vec<u32>,
    labels: Vec<i32>,
    /// Of each clip, `[1, frames, bins]`.
    clips: Vec<Tensor<3>>,
    /// Of each picture, `[3, side, side]`.
    pictures: Vec<Tensor<3>>,
}

/// Whether the tower has listened before the model reads.
#[derive(Clone, Copy, PartialEq)]
enum Listen {
    Before,
    InTheGraph,
}

fn assemble(dir: &Path, device: &Device) -> Gemma3n {
    let (config, _) = ModelConfig::from_folder(dir).unwrap();
    let source = Source::open_folder(dir).unwrap();
    config.check_towers(&source).unwrap();
    let ModelConfig::Gemma3n(config) = config else { panic!("{config:?}") };
    let holding = Holding::dense(Some(HostDtype::F32));
    Gemma3n::assemble(config, &mut Loader { source: &source, holding: &holding, device, progress: &Silent }, device)
        .unwrap()
}

impl Case {
    fn new(dir: &Path, rows: Vec<Row>, device: &Device) -> Self {
        let model = assemble(&dir.join("model"), device);
        let adapter = adapter(&dir.join("adapter"), &model);
        Case { model, adapter, rows }
    }

    fn inputs(&self, row: &Row, listen: Listen) -> Inputs {
        let sounds = self.model.config.sounds.as_ref().unwrap();
        let clips = blocks(&row.ids, sounds.audio_token_id).into_iter().zip(&row.clips).map(|(rows, clip)| {
            let features = match listen {
                Listen::Before => Features::Encoded(self.model.encode(Modality::Audio, clip.clone()).unwrap()),
                Listen::InTheGraph => Features::Prepared { valid: clip.dims()[1], values: clip.clone() },
            };
            SoftTokens { rows, modality: Modality::Audio, features }
        });
        let image_token = self.model.config.images.as_ref().map(|images| images.image_token_id);
        let pictures = image_token.map(|token| blocks(&row.ids, token)).unwrap_or_default();
        let pictures = pictures.into_iter().zip(&row.pictures).map(|(rows, picture)| {
            let features = Features::Encoded(self.model.encode(Modality::Image, picture.clone()).unwrap());
            SoftTokens { rows, modality: Modality::Image, features }
        });
        let mut soft_tokens: Vec<SoftTokens> = clips.chain(pictures).collect();
        soft_tokens.sort_by_key(|soft| soft.rows.start);
        assert_eq!(soft_tokens.len(), row.clips.len() + row.pictures.len());
        Inputs { input_ids: row.ids.clone(), segments: Segments::from_lengths([row.ids.len()]), soft_tokens }
    }

    /// Rows one after the other.
    fn packed(&self, rows: &[Row], listen: Listen) -> MicroBatch {
        let labels: Vec<i32> = rows.iter().flat_map(|row| row.labels.clone()).collect();
        MicroBatch::of(Inputs::joined(rows.iter().map(|row| self.inputs(row, listen))), &labels)
    }

    fn logits(&self, listen: Listen, side: &dyn SidePath) -> Vec<f32> {
        let inputs = self.packed(&self.rows, listen).inputs;
        floats(&self.model.logits(self.model.hidden(&inputs, side)))
    }

    /// The modules of the adapter that are those of the language model.
    fn of_text(&self) -> Adapter {
        Adapter::new(self.adapter.modules().iter().filter(|module| module.site.weight.is_of_text()).cloned().collect())
    }
}

/// The adapter of a folder, on all layers that its file has.
fn adapter(dir: &Path, model: &Gemma3n) -> Adapter {
    let tensors = Golden::read(&dir.join("adapter_model.safetensors"));
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join("adapter_config.json")).unwrap()).unwrap();
    let scaling = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
    let tensor = |key: String| {
        let Some([rows, columns]) = tensors.names().any(|name| name == key).then(|| tensors.shape(&key)) else {
            return None;
        };
        Some(tensor(tensors.values(&key), [*rows, *columns], &model.device))
    };
    let sites = model.sites().into_iter().chain(model.config().tower_sites());
    let modules: Vec<LoraModule> = sites
        .filter_map(|site| {
            let (a, b) = (tensor(key(&site, "A"))?, tensor(key(&site, "B"))?);
            Some(LoraModule { site, a, b, magnitude: None, scaling, subtracted: None })
        })
        .collect();
    assert_eq!(2 * modules.len(), tensors.names().count(), "every tensor of the file is on a site");
    Adapter::new(modules)
}

/// How PEFT calls the matrix of a site.
fn key(site: &Site, part: &str) -> String {
    format!("base_model.model.{}.lora_{part}.weight", site.module_path(true))
}

/// The runs of a token.
fn blocks(ids: &[u32], token: u32) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for (at, _) in ids.iter().enumerate().filter(|(_, id)| **id == token) {
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

fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
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

/// The rows of the committed golden.
fn golden_rows(golden: &Golden, device: &Device) -> Vec<Row> {
    let row = |i: usize| {
        let of = |name: &str| golden.values(&format!("row.{i}.{name}"));
        let clips: Vec<String> = (0..9).map(|k| format!("row.{i}.clip.{k}")).collect();
        let clips = clips.iter().filter(|name| golden.names().any(|known| known == name.as_str())).map(|name| {
            let [frames, bins] = *golden.shape(name) else { panic!("{name}") };
            tensor(golden.values(name), [1, frames, bins], device)
        });
        Row {
            ids: of("input_ids").iter().map(|&x| x as u32).collect(),
            labels: of("labels").iter().map(|&x| x as i32).collect(),
            clips: clips.collect(),
            pictures: Vec::new(),
        }
    };
    (0..3).map(row).collect()
}

/// The committed case on every device, each with a name.
fn cases() -> impl Iterator<Item = (String, Case, Golden)> {
    device::all().into_iter().map(|found| {
        let dir = folder("gemma3n_audio");
        let golden = Golden::read(&dir.join("golden.safetensors"));
        let case = Case::new(&dir, golden_rows(&golden, &found.device), &found.device);
        (found.name().to_string(), case, golden)
    })
}

#[test]
fn every_part_of_the_tower_equals_the_reference() {
    for (device, case, golden) in cases() {
        let Case { model, adapter: side, rows } = &case;
        let audio = model.audio.as_ref().unwrap();
        let check = |name: &str, got: Vec<f32>| {
            let gap = max_relative(&got, golden.values(&format!("lora.{name}")));
            assert!(gap <= PARTS, "{device} {name}: {gap:e}");
        };
        let clip = rows[0].clips[0].clone();
        let before = &audio.audio_tower.as_ref().unwrap().subsample_conv_projection;
        let x = before.convs[0].forward(clip.clone().permute([1, 2, 0]));
        check("subsample_conv_projection.conv_0", floats(&x));
        check("subsample_conv_projection.conv_1", floats(&before.convs[1].forward(x)));
        let mut x = before.forward(clip.clone().permute([1, 2, 0]), side);
        check("subsample_conv_projection", floats(&x));
        for (index, block) in audio.audio_tower.as_ref().unwrap().conformer.iter().enumerate() {
            let check = |part: &str, got: &Tensor<2>| check(&format!("conformer.{index}{part}"), floats(got));
            let mask = block.attention.attn.mask(x.dims()[0], &model.device);
            let started = block.ffw_layer_start.forward(x.clone(), side);
            check(".ffw_layer_start", &started);
            let clipping = block.gradient_clipping;
            let normed = block.attention.pre_attn_norm.forward(started.clone().clamp(-clipping, clipping));
            check(".attention.attn", &block.attention.attn.forward(normed, &mask, side));
            let attended = block.attention.forward(started, &mask, side);
            check(".attention", &attended);
            let convolved = block.lconv1d.forward(attended, side);
            check(".lconv1d", &convolved);
            check(".ffw_layer_end", &block.ffw_layer_end.forward(convolved, side));
            x = block.forward(x, &mask, side);
            check("", &x);
        }
        let heard = audio.audio_tower.as_ref().unwrap().forward(clip, side);
        check("audio_tower", floats(&heard));
        check("embed_audio", floats(&audio.embed_audio.project(audio.embed_audio.soft(heard), side)));
    }
}

#[test]
fn logits_and_losses_equal_the_reference() {
    for (device, case, golden) in cases() {
        for (variant, listen, side) in [
            ("base", Listen::Before, &BaseOnly as &dyn SidePath),
            ("base", Listen::InTheGraph, &BaseOnly),
            ("lora", Listen::InTheGraph, &case.adapter),
        ] {
            let gap = max_relative(&case.logits(listen, side), golden.values(&format!("{variant}.logits")));
            assert!(gap <= LOGITS, "{device} {variant}: {gap:e}");
            let batch = case.packed(&case.rows, listen);
            let loss = backprop::loss(&case.model, side, &batch) / batch.supervised() as f64;
            let expected = golden.values(&format!("{variant}.loss"))[0];
            assert!((loss - expected).abs() <= 1e-5 * expected, "{device} {variant}: {loss} {expected}");
        }
    }
}

/// The worst of all gradients, relative to the reference.
fn gradients(case: &Case, listen: Listen, loss: f64, expected: &dyn Fn(&str) -> Vec<f64>) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for activation_checkpointing in [true, false] {
        let window = [case.packed(&case.rows, listen)];
        let (got, gradients) =
            step::gradients(&case.model, &case.adapter, &window, 0, &settings(activation_checkpointing));
        assert!((got - loss).abs() <= 1e-5 * loss, "{got} {loss}");
        let keys = case.adapter.modules().iter().flat_map(|module| ["A", "B"].map(|part| key(&module.site, part)));
        for (key, gradient) in keys.zip(gradients) {
            let gap = l2_relative(&floats(&gradient), &expected(&key));
            if gap > worst.0 {
                worst = (gap, key);
            }
        }
    }
    worst
}

#[test]
fn gradients_equal_the_reference() {
    for (device, case, golden) in cases() {
        let of = golden.names().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(2 * case.adapter.modules().len(), of);
        let expected = |key: &str| golden.values(&format!("grad.{key}")).to_vec();
        let (worst, key) = gradients(&case, Listen::InTheGraph, golden.values("lora.loss")[0], &expected);
        println!("{device}: gradients within {worst:.1e}");
        assert!(worst <= GRADIENTS, "{device} {key}: {worst:e}");
    }
}

#[test]
fn packed_rows_and_single_ones_have_the_same_gradients() {
    let (_, case, _) = cases().next().unwrap();
    let of = |window: &[MicroBatch]| step::gradients(&case.model, &case.adapter, window, 0, &settings(true));
    let (packed_loss, packed) = of(&[case.packed(&case.rows, Listen::InTheGraph)]);
    let single = case.rows.iter().map(|row| case.packed(std::slice::from_ref(row), Listen::InTheGraph));
    let (single_loss, single) = of(&single.collect::<Vec<_>>());
    assert!((packed_loss - single_loss).abs() <= 1e-6 * packed_loss);
    let whole = |gradients: &[Tensor<2>]| gradients.iter().flat_map(floats).collect::<Vec<f32>>();
    let expected: Vec<f64> = whole(&packed).into_iter().map(f64::from).collect();
    let gap = l2_relative(&whole(&single), &expected);
    assert!(gap <= 1e-5, "{gap:e}");
}

#[test]
fn a_tower_that_listened_before_gives_what_one_in_the_graph_gives() {
    for (device, case, _) in cases() {
        let side = case.of_text();
        assert_eq!(case.logits(Listen::Before, &side), case.logits(Listen::InTheGraph, &side), "{device}");
    }
}

#[test]
fn what_is_cached_is_what_is_read_at_once() {
    for (device, case, _) in cases() {
        let side = case.of_text();
        let width = case.model.config().vocab_size();
        let expected: Vec<f64> = case.logits(Listen::Before, &side).into_iter().map(f64::from).collect();
        let rows: Vec<Inputs> = case.rows.iter().map(|row| case.inputs(row, Listen::Before)).collect();
        // In pieces of about three tokens, which keep clips whole; all rows at once, shorter ones end earlier.
        let mut cache = case.model.cache(rows.len());
        let (mut at, mut got) = (vec![0; rows.len()], vec![Vec::new(); rows.len()]);
        while rows.iter().zip(&at).any(|(row, at)| *at < row.input_ids.len()) {
            let ends: Vec<usize> = rows.iter().zip(&at).map(|(row, &at)| row.piece_end(at, 3)).collect();
            let pieces = rows.iter().zip(at.iter().zip(&ends)).map(|(row, (&from, &to))| row.slice(from..to));
            let inputs = Inputs::joined(pieces);
            let lengths: Vec<usize> = at.iter().zip(&ends).map(|(from, to)| to - from).collect();
            let hidden = case.model.hidden_cached(&inputs, &lengths, &mut cache, &side);
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
fn clips_fill_as_many_rows_as_their_frames_say_and_the_rest_is_the_last_word() {
    let (_, case, _) = cases().next().unwrap();
    let sounds = case.model.config.sounds.as_ref().unwrap();
    let (config, tokens) = (&sounds.audio_config, sounds.audio_soft_tokens_per_image);
    let audio = case.model.audio.as_ref().unwrap();
    let device = &case.model.device;
    for frames in 1..=30 {
        let clip = Tensor::<3>::ones([1, frames, config.input_feat_size], device);
        let heard = case.model.encode(Modality::Audio, clip).unwrap();
        assert_eq!(heard.dims(), [config.rows(frames), config.hidden_size], "{frames}");
        let rows = heard.dims()[0];
        assert!((1..=tokens).contains(&rows), "{frames}: {rows}");
        let ids = vec![sounds.audio_token_id; tokens];
        let soft = SoftTokens { rows: 0..tokens, modality: Modality::Audio, features: Features::Encoded(heard) };
        let inputs = Inputs { soft_tokens: vec![soft], ..Inputs::of(ids) };
        let embedded = floats(&case.model.embed(&inputs, &BaseOnly).hidden);
        let last = case.model.config.vocab_size as u32 - 1;
        let padding = floats(&audio.embed_audio.project(audio.embed_audio.hard(&[last]), &BaseOnly));
        for (at, row) in embedded.chunks(padding.len()).enumerate() {
            let gap = row.iter().zip(&padding).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(gap < 1e-6, at >= rows, "{frames} frames, row {at}: {gap}");
        }
    }
}

#[test]
fn what_comes_later_in_a_clip_changes_nothing_that_was_out_of_reach() {
    let (_, case, _) = cases().next().unwrap();
    let config = &case.model.config.sounds.as_ref().unwrap().audio_config;
    let clip = case.rows[1].clips[1].clone();
    let [_, frames, _] = clip.dims();
    let hear = |clip: Tensor<3>| floats(&case.model.encode(Modality::Audio, clip).unwrap());
    let whole = hear(clip.clone());
    let first = hear(clip.narrow(1, 0, frames - 6));
    // The last rows look ahead, one step a block, and into frames that are cut off here.
    let alike = config.rows(frames - 6 - 8) * config.hidden_size;
    assert!(alike > 2 * config.hidden_size);
    for (whole, first) in whole[..alike].iter().zip(&first) {
        assert!((whole - first).abs() < 1e-5, "{whole} {first}");
    }
    assert!(whole.iter().zip(&first[alike..]).any(|(whole, first)| whole != first));
}

#[test]
fn a_model_of_text_is_the_same_without_its_tower() {
    let dir = folder("gemma3n_audio/model");
    let source = Source::open_folder(&dir).unwrap();
    let (config, _) = ModelConfig::from_folder(&dir).unwrap();
    let load = |config| model::load(config, &source, &Holding::default(), &Device::flex(), &Silent).unwrap();
    let (whole, text) = (load(config.clone()), load(config.of_text()));
    let inputs = Inputs::of((3..38).collect());
    assert_eq!(floats(&whole.hidden(&inputs, &BaseOnly)), floats(&text.hidden(&inputs, &BaseOnly)));
    let clip = Tensor::<3>::zeros([1, 20, 9], &Device::flex());
    assert!(text.encode(Modality::Audio, clip.clone()).is_none());
    assert!(whole.encode(Modality::Audio, clip.clone()).is_some());
    assert!(whole.encode(Modality::Image, clip).is_none());
    assert_eq!(whole.tower_linears().len(), whole.config().tower_sites().len());
    for site in whole.config().tower_sites() {
        let linear = whole.linear(site.index);
        assert_eq!((linear.site, linear.weight.dims()), (site.index, site.dims()), "{}", site.weight);
    }
}

/// The golden's model in another folder, each tensor under the name that `spelled` gives, if any, and `more` zeros.
fn respelled(spelled: impl Fn(&TensorId) -> Option<String>, more: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(folder("gemma3n_audio/model/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, TensorView> = BTreeMap::new();
    for (name, view) in file.tensors() {
        let (_, id) = Spelling::parse(&name).unwrap_or_else(|| panic!("{name}"));
        tensors.extend(spelled(&id).map(|name| (name, view)));
    }
    for name in more {
        tensors.insert((*name).into(), TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap());
    }
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    std::fs::copy(folder("gemma3n_audio/model/config.json"), dir.path().join("config.json")).unwrap();
    dir
}

#[test]
fn every_spelling_is_the_same_tower() {
    let (_, case, _) = cases().next().unwrap();
    let clip = case.rows[0].clips[0].clone();
    let want = floats(&case.model.encode(Modality::Audio, clip.clone()).unwrap());
    for spelling in [Spelling::LanguageModelOutside, Spelling::LanguageModelInside] {
        let dir = respelled(|id| Some(spelling.name(id)), &[]);
        let model = assemble(dir.path(), &Device::flex());
        assert_eq!(floats(&model.encode(Modality::Audio, clip.clone()).unwrap()), want, "{spelling:?}");
    }
}

#[test]
fn a_tower_that_is_not_the_configurations_is_refused() {
    let refused = |dir: &Path, expected: &str| {
        let (config, _) = ModelConfig::from_folder(dir).unwrap();
        let source = Source::open_folder(dir).unwrap();
        let error = model::load(config, &source, &Holding::default(), &Device::flex(), &Silent).unwrap_err();
        assert!(error.iter().any(|e| e.what().contains(expected)), "{expected}: {error:?}");
    };
    let inside = |id: &TensorId| Some(Spelling::LanguageModelInside.name(id));
    let without = |part: &'static str| respelled(move |id| inside(id).filter(|name| !name.contains(part)), &[]);
    refused(without("1.attention.attn.per_dim_scale").path(), "audio_tower.conformer.1.attention.attn.per_dim_scale");
    refused(without("embed_audio.hard").path(), "embed_audio.hard_embedding_norm.weight");
    let bias = "model.audio_tower.conformer.0.attention.post.bias";
    refused(respelled(inside, &[bias]).path(), "the audio tower holds what this program does not compute with");
    let dir = respelled(inside, &[]);
    let mut config: Value = serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    config["audio_config"]["vocab_size"] = json!(5);
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    refused(dir.path(), "those from 44 to 48 (`vocab_offset` and `vocab_size`), but short clips are padded with");
    config["audio_config"]["vocab_size"] = json!(6);
    config["audio_config"]["conf_conv_kernel_size"] = json!(4);
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    refused(dir.path(), "lconv1d.depthwise_conv1d.weight`: expected [12, 1, 4], found [12, 1, 3]");
}

#[test]
fn inspect_counts_the_tower_and_merge_keeps_it() {
    let bench = Bench::new();
    copy(&golden_path("gemma3n_audio/model"), &bench.path("g"));
    let model = bench.run("inspect g --json").json();
    let dir = folder("gemma3n_audio/model/model.safetensors");
    let bytes = std::fs::read(dir).unwrap();
    let base = SafeTensors::deserialize(&bytes).unwrap();
    let beside: Vec<String> =
        base.names().iter().filter(|name| !name.contains("language_model")).map(|n| (*n).to_owned()).collect();
    assert_eq!(model["tower_tensors"], beside.len());
    let rows: Vec<Value> = (0..8)
        .map(|at| (0..12).map(|t| 3 + (at * 7 + t * 5) % 35).collect::<Vec<u64>>())
        .map(|ids| json!({"input_ids": ids, "labels": ids}))
        .collect();
    bench.write("rows.jsonl", lines(&rows));
    bench
        .run("train r.yaml --set model.base=g --set training.max_steps=2 --set adapter.target_modules=[q_proj,up_proj]")
        .ok();
    bench.run("merge --model g --adapter out/adapter --output merged").ok();
    let merged = bench.read("merged/model.safetensors");
    let merged = SafeTensors::deserialize(&merged).unwrap();
    assert_eq!(merged.names().len(), base.names().len());
    for name in &beside {
        let (merged, base) = (merged.tensor(name).unwrap(), base.tensor(name).unwrap());
        assert_eq!(
            (merged.dtype(), merged.shape(), merged.data()),
            (base.dtype(), base.shape(), base.data()),
            "{name}"
        );
    }
    assert!(assemble(&bench.path("merged"), &Device::flex()).audio.is_some());
}

/// Goldens of whoever makes folders with `model`, `adapter`, and `inputs`, `base`, `lora`, `grads` as safetensors: of each
/// row a picture and a clip.
#[test]
#[ignore = "reads the folders of GEMMA_TUNE_GOLDENS"]
fn other_goldens_are_met() {
    let Ok(root) = std::env::var("GEMMA_TUNE_GOLDENS") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("grads.safetensors").exists());
    folders.sort();
    assert!(!folders.is_empty(), "no golden in {root}");
    let device = Device::flex();
    for folder in folders {
        let read = |name: &str| Golden::read(&folder.join(format!("{name}.safetensors")));
        let meta: Value = serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let noise = meta["noise_f32_vs_f64_logits"].as_f64().unwrap() / meta["max_abs_logit"].as_f64().unwrap();
        let (inputs, base, lora, grads) = (read("inputs"), read("base"), read("lora"), read("grads"));
        let ([b, padded], [_, frames, bins]) = (
            <[usize; 2]>::try_from(inputs.shape("input_ids")).unwrap(),
            <[usize; 3]>::try_from(inputs.shape("input_features")).unwrap(),
        );
        let [_, channels, height, width] = <[usize; 4]>::try_from(inputs.shape("pixel_values")).unwrap();
        let of = |name: &str, i: usize| {
            let values = inputs.values(name);
            values[i * values.len() / b..(i + 1) * values.len() / b].to_vec()
        };
        let rows: Vec<Row> = (0..b)
            .map(|i| {
                let len = of("attention_mask", i).iter().sum::<f64>() as usize;
                let valid = of("input_features_mask", i).iter().sum::<f64>() as usize;
                Row {
                    ids: of("input_ids", i)[..len].iter().map(|&x| x as u32).collect(),
                    labels: of("labels", i)[..len].iter().map(|&x| x as i32).collect(),
                    // A clip by itself, without what stands beside it for a longer one.
                    clips: vec![tensor::<3>(&of("input_features", i), [1, frames, bins], &device).narrow(1, 0, valid)],
                    pictures: vec![tensor(&of("pixel_values", i), [channels, height, width], &device)],
                }
            })
            .collect();
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        let unpadded = |golden: &Golden, name: &str| -> Vec<f64> {
            let values = golden.values(name);
            let width = values.len() / (b * padded);
            let rows = lengths.iter().enumerate();
            rows.flat_map(|(i, len)| values[i * padded * width..][..len * width].to_vec()).collect()
        };
        let case = Case::new(&folder, rows, &device);
        let listens = case.adapter.modules().iter().any(|module| module.site.module_path(true).contains("audio_tower"));
        let listen = if listens { Listen::InTheGraph } else { Listen::Before };
        let bar = LOGITS.max(3.0 * noise);
        let of_base = max_relative(&case.logits(Listen::Before, &BaseOnly), &unpadded(&base, "logits"));
        let of_lora = max_relative(&case.logits(listen, &case.adapter), &unpadded(&lora, "logits"));
        let expected = |key: &str| grads.values(key).to_vec();
        let (worst, key) = gradients(&case, listen, lora.values("loss")[0], &expected);
        println!(
            "{}: noise {noise:.1e}, logits {of_base:.1e}, with the adapter {of_lora:.1e}, gradients {worst:.1e} ({key})",
            folder.display()
        );
        assert!(of_base <= bar && of_lora <= bar);
        assert!(worst <= GRADIENTS || noise >= 1e-4, "{key}: {worst:e}");
    }
}
