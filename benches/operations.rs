//! What the operations of a training step and of a decoding step cost, against the same composed of burn's own
//! operations.
//!
//!     cargo bench [-- FILTER]
//!
//! Sizes are those of Gemma 3 270M and a sequence of 512 tokens. Every comparison ends in a ratio, the time of the
//! composed form over that of the kernel; nothing else should run meanwhile.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "ratios on stdout, and a mistake ends it")]

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use criterion::{Criterion, Throughput};
use gemma_tune::ops::{self, AttentionMask, AttentionShape, Group, Visibility, Weight, plain};
use gemma_tune::quant::{QuantType, QuantizedMatrix, SharedBytes};
use gemma_tune::random::{Label, Rng};
use serde_json::Value;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

const TOKENS: usize = 512;
const HIDDEN: usize = 640;
const INTERMEDIATE: usize = 2048;
const RANK: usize = 16;
const SHAPE: AttentionShape = AttentionShape {
    heads: 4,
    kv_heads: 1,
    head_dim: 256,
    scaling: 0.0625,
    softcap: None,
    compute_dtype: FloatDType::F32,
};
const SLIDING_WINDOW: usize = 512;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10)
        .configure_from_args();
    row_operations(&mut criterion);
    projections(&mut criterion);
    attention(&mut criterion);
    head(&mut criterion);
    decoding(&mut criterion);
    several_sequences(&mut criterion);
    criterion.final_summary();
    print_ratios();
}

fn normal<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let mut stream = Rng::new(shape.iter().product::<usize>() as u64).stream(&[Label::Purpose("bench")]);
    let values = stream.normal_f32(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Times `kernel` and `composed`, each forward and backward with all gradients of `inputs`.
fn compare<const D: usize, const O: usize>(
    criterion: &mut Criterion,
    name: &str,
    inputs: &[Tensor<D>],
    kernel: impl Fn(&[Tensor<D>]) -> Tensor<O>,
    composed: impl Fn(&[Tensor<D>]) -> Tensor<O>,
) {
    let step = |f: &dyn Fn(&[Tensor<D>]) -> Tensor<O>| {
        let leaves: Vec<_> = inputs.iter().map(|t| t.clone().autodiff().require_grad()).collect();
        let mut tape = f(&leaves).sum().backward();
        leaves.iter().for_each(|leaf| drop(black_box(leaf.grad_remove(&mut tape))));
    };
    let mut group = criterion.benchmark_group(name);
    group.bench_function(KERNEL, |b| b.iter(|| step(&kernel)));
    group.bench_function(COMPOSED, |b| b.iter(|| step(&composed)));
    group.finish();
}

const KERNEL: &str = "kernel";
const COMPOSED: &str = "composed";

fn row_operations(criterion: &mut Criterion) {
    let gain = normal([HIDDEN]);
    compare(
        criterion,
        "rms_norm with residual",
        &[normal([TOKENS, HIDDEN]), normal([TOKENS, HIDDEN])],
        |t| ops::rms_norm(t[0].clone(), &gain, 1e-6, Some(t[1].clone())),
        |t| plain::rms_norm(t[0].clone(), &gain, 1e-6, Some(t[1].clone())),
    );
    let (gain, angles) = (normal([SHAPE.head_dim]), normal([TOKENS, 1, SHAPE.head_dim / 2]));
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    compare(
        criterion,
        "rotated_rms_norm",
        &[normal([TOKENS, SHAPE.heads, SHAPE.head_dim])],
        |t| ops::rotated_rms_norm(t[0].clone(), &gain, 1e-6, &cos, &sin),
        |t| plain::rotate(plain::rms_norm(t[0].clone(), &gain, 1e-6, None), &cos, &sin),
    );
    compare(
        criterion,
        "geglu",
        &[normal([TOKENS, INTERMEDIATE]), normal([TOKENS, INTERMEDIATE])],
        |t| ops::geglu(t[0].clone(), t[1].clone()),
        |t| plain::geglu(t[0].clone(), t[1].clone()),
    );
}

fn projections(criterion: &mut Criterion) {
    let weight: Tensor<2> = normal([INTERMEDIATE, HIDDEN]);
    let inputs = [normal([TOKENS, HIDDEN]), normal([RANK, HIDDEN]), normal([INTERMEDIATE, RANK])];
    let values = weight.to_data().iter::<f32>().collect::<Vec<_>>();
    for (name, frozen) in [
        ("lora_linear, f32", Weight::new(weight.clone())),
        ("lora_linear, bf16", Weight::new(weight.clone().cast(FloatDType::BF16))),
        (
            "lora_linear, bf16 products",
            Weight::new(weight.clone().cast(FloatDType::BF16)).computed_in(FloatDType::BF16),
        ),
        ("lora_linear, nf4_double", quantized(QuantizedMatrix::to_nf4(&values, weight.dims(), true))),
    ] {
        let dense = frozen.to_f32();
        compare(
            criterion,
            name,
            &inputs,
            |t| frozen.project_adapted(t[0].clone(), &t[1], &t[2], 2.0),
            |t| {
                let y = t[0].clone().matmul(dense.clone().transpose());
                plain::add_low_rank(y, &t[0], &t[1], &t[2], 2.0)
            },
        );
    }
}

fn attention(criterion: &mut Criterion) {
    const BF16: AttentionShape = AttentionShape { compute_dtype: FloatDType::BF16, ..SHAPE };
    for (name, tokens, window, shape) in [
        ("attention, 512 tokens", 512, usize::MAX, SHAPE),
        ("attention, 2048 tokens", 2048, usize::MAX, SHAPE),
        ("attention, 2048 tokens, sliding", 2048, SLIDING_WINDOW, SHAPE),
        ("attention, 2048 tokens, sliding, bf16 products", 2048, SLIDING_WINDOW, BF16),
    ] {
        let groups = vec![Group { queries: 0..tokens, keys: 0..tokens }];
        let visibility = Visibility { groups, window, spans: Vec::new() };
        let tiles = plain::attention::tiles(&visibility, &Device::flex());
        let mask = AttentionMask::new(visibility);
        let kv = [tokens, SHAPE.kv_heads, SHAPE.head_dim];
        compare(
            criterion,
            name,
            &[normal([tokens, SHAPE.heads, SHAPE.head_dim]), normal(kv), normal(kv)],
            |t| ops::attention(t[0].clone(), t[1].clone(), t[2].clone(), &shape, &mask),
            |t| plain::attention::attention(t[0].clone(), t[1].clone(), t[2].clone(), &SHAPE, &tiles),
        );
    }
}

fn head(criterion: &mut Criterion) {
    const WORDS: usize = 32_768; // an eighth of the vocabulary
    let (x, head) = (normal([TOKENS, HIDDEN]), normal([WORDS, HIDDEN]));
    let targets: Vec<u32> = (0..TOKENS as u32).map(|row| row * 61 % WORDS as u32).collect();
    let frozen = Weight::new(head.clone());
    let mut group = criterion.benchmark_group("linear_cross_entropy, 32768 words");
    group.bench_function(KERNEL, |b| b.iter(|| ops::linear_cross_entropy(&x, &frozen, None, &targets, Some(1.0))));
    group.bench_function(COMPOSED, |b| {
        b.iter(|| {
            let x = x.clone().autodiff().require_grad();
            let logits = x.clone().matmul(Tensor::from_inner(head.clone()).transpose());
            let at = Tensor::from_data(
                TensorData::new(targets.iter().map(|&t| i64::from(t)).collect(), [TOKENS, 1]),
                &x.device(),
            );
            let loss = burn::tensor::activation::log_softmax(logits, 1).gather(1, at).sum().neg();
            x.grad_remove(&mut loss.backward())
        })
    });
    group.finish();
}

/// A compressed weight on the CPU.
fn quantized(matrix: Option<QuantizedMatrix>) -> Weight {
    Weight::quantized(matrix.expect("finite values, and as many bytes as they take"), &Device::flex())
}

/// One token through one projection: bound by how fast its weights are read and unpacked.
fn decoding(criterion: &mut Criterion) {
    let (x, weight): (Tensor<2>, Tensor<2>) = (normal([1, HIDDEN]), normal([4 * INTERMEDIATE, HIDDEN]));
    let values = weight.to_data().iter::<f32>().collect::<Vec<_>>();
    let mut group = criterion.benchmark_group("decoding");
    group.throughput(Throughput::Elements(values.len() as u64));
    let mut time = |name: &str, frozen: Weight| {
        group.bench_function(name, |b| b.iter(|| frozen.project(x.clone())));
    };
    time("f32", Weight::new(weight.clone()));
    time("bf16", Weight::new(weight.clone().cast(FloatDType::BF16)));
    time("int8", quantized(QuantizedMatrix::to_int8(&values, weight.dims())));
    time("nf4", quantized(QuantizedMatrix::to_nf4(&values, weight.dims(), false)));
    time("nf4_double", quantized(QuantizedMatrix::to_nf4(&values, weight.dims(), true)));
    for of in QuantType::ALL.into_iter().filter(|of| !of.is_float()) {
        // A row is whole blocks of every type with 768 elements; what the bytes say costs nothing.
        let dims = [values.len() / 768, 768];
        let bytes = of.bytes_of(dims[0] * dims[1]).expect("whole blocks");
        let matrix = QuantizedMatrix::blocks(dims, of, SharedBytes::from(vec![17; bytes]));
        let (x, frozen): (Tensor<2>, _) = (normal([1, 768]), quantized(matrix.ok()));
        group.bench_function(of.name(), |b| b.iter(|| frozen.project(x.clone())));
    }
    group.finish();
}

/// The tokens of eight sequences through one projection, in blocks as they are stored, against a product with the weight in f32.
fn several_sequences(criterion: &mut Criterion) {
    const SEQUENCES: usize = 8;
    // Whole blocks of every type.
    const DIMS: [usize; 2] = [8192, 768];
    let x: Tensor<2> = normal([SEQUENCES, DIMS[1]]);
    let dense: Tensor<2> = normal([DIMS[1], DIMS[0]]);
    for of in [QuantType::Q8_0, QuantType::Q5_0, QuantType::Q4K, QuantType::Q6K] {
        let bytes = of.bytes_of(DIMS[0] * DIMS[1]).expect("whole blocks");
        let frozen = quantized(QuantizedMatrix::blocks(DIMS, of, SharedBytes::from(vec![17; bytes])).ok());
        let rounded = frozen.clone().with_rounded_inputs();
        for (name, frozen) in
            [(format!("eight sequences, {of}"), frozen), (format!("eight sequences, {of}, int8"), rounded)]
        {
            let mut group = criterion.benchmark_group(name);
            group.bench_function(KERNEL, |b| b.iter(|| ops::inference(|| frozen.project(x.clone()))));
            group.bench_function(COMPOSED, |b| b.iter(|| x.clone().matmul(dense.clone())));
            group.finish();
        }
    }
}

/// Composed time over kernel time of every comparison in Criterion's folder.
fn print_ratios() {
    let home =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from).join("criterion");
    let mean = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("new/estimates.json")).ok()?;
        serde_json::from_str::<Value>(&text).ok()?["mean"]["point_estimate"].as_f64()
    };
    let Ok(folders) = std::fs::read_dir(&home) else { return };
    let mut folders: Vec<PathBuf> = folders.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        if let (Some(kernel), Some(composed)) = (mean(folder.join(KERNEL)), mean(folder.join(COMPOSED))) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            println!("{name}: {:.2} times as fast as composed", composed / kernel);
        }
    }
}
