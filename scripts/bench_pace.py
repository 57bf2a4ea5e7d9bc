#!/usr/bin/env python3
"""Compares the time of training steps with what `gemma-tune estimate` said of them, from a probe of one layer, before and after the run.

    cargo build --release
    python3 scripts/bench_pace.py --model path/to/gemma-3-270m-q4_k_m.gguf

LoRA r=16 on all seven projections, every position supervised. The ratio is the median step over the mean of the two estimates. Close
everything else: both measure the machine as it is at that moment. One JSON object comes out: the runs, the smallest and the largest
ratio.
"""
import argparse, json, os, random, statistics, subprocess, sys, tempfile

import bench_arguments

# Tokens in the sequence, activations recomputed, the base and the adapter.
RUNS = [
    (256, False, ["model.dtype=f32"]),
    (512, False, ["model.dtype=bf16"]),
    (512, True, ["model.dtype=bf16"]),
    (512, True, ["model.dtype=bf16", "adapter.use_dora=true"]),
    (512, True, ["model.dtype=bf16", "model.quantization=nf4_double"]),
    (1024, True, ["model.dtype=bf16", "model.quantization=as_stored"]),
    (2048, True, ["model.dtype=bf16"]),
]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a .gguf file, or a Hugging Face folder (then without as_stored)")
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def recipe(folder, length, recomputed):
    draw = random.Random(0)
    rows, path = os.path.join(folder, "rows.jsonl"), os.path.join(folder, "pace.yaml")
    with open(rows, "w") as file:
        for _ in range(args.steps):
            file.write(json.dumps({"input_ids": [draw.randrange(1000, 200_000) for _ in range(length)]}) + "\n")
    with open(path, "w") as file:
        json.dump(
            {
                "model": {"base": os.path.abspath(args.model)},
                "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
                "data": {"train": [{"path": rows, "format": "tokens"}], "max_length": length, "packing": False},
                "training": {
                    "per_device_train_batch_size": 1,
                    "gradient_accumulation_steps": 1,
                    "max_steps": args.steps,
                    "activation_checkpointing": recomputed,
                },
                "output": {"dir": os.path.join(folder, "out"), "report_to": ["jsonl"]},
            },
            file,
        )
    return path


def tool(*words):
    return subprocess.run([args.tool, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(length, recomputed, overrides):
    given = [word for key in overrides for word in ("--set", key)]
    with tempfile.TemporaryDirectory() as folder:
        path = recipe(folder, length, recomputed)
        estimate = lambda: json.loads(tool("estimate", path, "--json", *given))["seconds_per_step"]
        before = estimate()
        tool("train", path, *given)
        after = estimate()
        with open(os.path.join(folder, "out", "metrics.jsonl")) as file:
            steps = [line for line in map(json.loads, file) if "loss" in line][1:]
    seconds = statistics.median(step["tokens"] / step["tokens_per_second"] for step in steps)
    run = {"tokens": length, "recomputed": recomputed, "overrides": overrides, "estimated_seconds": [before, after]}
    return {**run, "seconds": seconds, "ratio": seconds / statistics.mean((before, after))}


runs = [measured(*run) for run in RUNS if args.model.endswith(".gguf") or not any("as_stored" in key for key in run[2])]
ratios = [run["ratio"] for run in runs]
print(json.dumps({"runs": runs, "smallest": min(ratios), "largest": max(ratios)}, indent=1))
