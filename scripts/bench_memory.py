#!/usr/bin/env python3
"""Compares the peak memory of short runs with what was estimated before them: a walk through every key that memory depends on.

    cargo build --release
    python3 scripts/bench_memory.py --folder path/to/gemma-3-270m --gguf path/to/gemma-3-270m-q4_k_m.gguf

Two steps a run; how busy the machine is makes no difference. One JSON object comes out: the runs, the smallest and the largest ratio,
and the runs beyond 10 %. `--only nf4` takes the runs whose names hold that text; without a folder or a .gguf file its runs are left out.
`--device wgpu:0` runs them on another device, `--set model.compute_dtype=f16` with another key.
`--length 384 --steps 1` makes rows of another length, and takes one step, in which the optimiser's state comes only after the peak.
"""
import argparse, json, os, random, subprocess, sys, tempfile

import bench_arguments

WITHIN = 0.1  # what an estimate may be off by

KEEP = {"training.activation_checkpointing": "false"}
RECOMPUTE = {"training.activation_checkpointing": "true"}
BF16 = {"model.dtype": "bf16"}
NF4 = {**BF16, "model.quantization": "nf4"}

# Name, base, keys of the recipe; `rows` and `length` are the data's: `tokens` of one length, `short` ones, or `chat`.
RUNS = [
    ("f32, kept", "folder", {"model.dtype": "f32", **KEEP}),
    ("f32, recomputed", "folder", {"model.dtype": "f32", **RECOMPUTE}),
    ("bf16, kept", "folder", {**BF16, **KEEP}),
    ("bf16, recomputed, 1024 tokens", "folder", {**BF16, **RECOMPUTE, "length": 1024}),
    ("f16, recomputed", "folder", {"model.dtype": "f16", **RECOMPUTE}),
    ("compute_dtype f32", "folder", {**BF16, "model.compute_dtype": "f32", **RECOMPUTE}),
    ("int8, kept", "folder", {**BF16, "model.quantization": "int8", **KEEP}),
    ("nf4, recomputed", "folder", {**NF4, **RECOMPUTE}),
    ("nf4, chat rows, recomputed", "folder", {**NF4, **RECOMPUTE, "rows": "chat"}),
    ("nf4_double, kept", "folder", {**BF16, "model.quantization": "nf4_double", **KEEP}),
    ("nf4, embedding int8", "folder", {**NF4, "model.embedding_quantization": "int8", **RECOMPUTE}),
    ("gguf, as_stored, kept", "gguf", {**BF16, "model.quantization": "as_stored", **KEEP}),
    ("gguf, as_stored, 1024 tokens", "gguf", {**BF16, "model.quantization": "as_stored", **RECOMPUTE, "length": 1024}),
    ("gguf, as_stored, chat rows", "gguf", {**BF16, "model.quantization": "as_stored", **RECOMPUTE, "rows": "chat"}),
    ("gguf, bf16, recomputed", "gguf", {**BF16, **RECOMPUTE}),
    ("gguf, nf4_double", "gguf", {**BF16, "model.quantization": "nf4_double", **RECOMPUTE}),
    ("lora_dropout, kept", "folder", {**BF16, **KEEP, "adapter.lora_dropout": "0.05"}),
    ("lora_dropout, recomputed", "folder", {**NF4, **RECOMPUTE, "adapter.lora_dropout": "0.05", "length": 512}),
    ("lora_dropout on q_proj and v_proj", "folder", {**BF16, **KEEP, "adapter.lora_dropout": "0.05", "adapter.target_modules": "[q_proj, v_proj]"}),
    ("use_dora, kept", "folder", {**BF16, **KEEP, "adapter.use_dora": "true"}),
    ("use_dora, lora_dropout", "folder", {**BF16, **KEEP, "adapter.use_dora": "true", "adapter.lora_dropout": "0.05"}),
    ("use_dora, recomputed", "folder", {**NF4, **RECOMPUTE, "adapter.use_dora": "true"}),
    ("pissa, kept", "folder", {**BF16, **KEEP, "adapter.init_lora_weights": "pissa"}),
    ("r 128", "folder", {**NF4, **RECOMPUTE, "adapter.r": "128"}),
    ("q_proj and v_proj", "folder", {**BF16, **KEEP, "adapter.target_modules": "[q_proj, v_proj]"}),
    ("sgd", "folder", {**NF4, **RECOMPUTE, "adapter.r": "64", "training.optimizer": "sgd", "training.learning_rate": "1.0e-2"}),
    ("4 rows at once", "folder", {**BF16, **KEEP, "training.per_device_train_batch_size": "4", "length": 64}),
    ("accumulation", "folder", {**NF4, **RECOMPUTE, "training.gradient_accumulation_steps": "4"}),
    ("packing", "folder", {**BF16, **KEEP, "data.packing": "true", "rows": "short"}),
    ("evaluation", "folder", {**NF4, **RECOMPUTE, "data.eval_fraction": "0.2", "evaluation.eval_steps": "1", "evaluation.load_best_model_at_end": "true"}),
    ("evaluation.samples", "folder", {**NF4, **RECOMPUTE, "rows": "chat", "data.eval_fraction": "0.5", "evaluation.eval_steps": "1", "evaluation.samples": "8"}),
    ("init_from", "folder", {**NF4, **RECOMPUTE, "init_from": True}),
]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--folder", type=bench_arguments.model, help="a Hugging Face folder")
parser.add_argument("--gguf", type=bench_arguments.model, help="a .gguf file")
parser.add_argument("--only", default="", help="only runs whose name holds this")
parser.add_argument("--length", type=int, default=256, help="tokens in a row, where a run has no length of its own")
parser.add_argument("--steps", type=int, default=2)
parser.add_argument("--device", default="cpu", help="as in gemma-tune train --device")
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of every recipe, as in gemma-tune train --set; repeatable")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def write_rows(path, kind, length):
    draw = random.Random(0)
    word = lambda: draw.randrange(1000, 200_000)
    with open(path, "w") as file:
        for _ in range(40):
            if kind == "chat":
                numbers = lambda count: " ".join(str(draw.randrange(1000)) for _ in range(count))
                messages = [{"role": "user", "content": numbers(length // 16)}, {"role": "assistant", "content": numbers(length // 8)}]
                row = {"messages": messages}
            else:
                row = {"input_ids": [word() for _ in range(length // 8 if kind == "short" else length)]}
            file.write(json.dumps(row) + "\n")


def run(folder, name, base, keys, steps):
    """Runs a recipe in a folder of its own and returns its summary."""
    keys = dict(keys)
    length, kind, init_from = keys.pop("length", args.length), keys.pop("rows", "tokens"), keys.pop("init_from", None)
    data, out = os.path.join(folder, "rows.jsonl"), os.path.join(folder, "out")
    write_rows(data, kind, length)
    adapter = {"init_from": init_from} if init_from else {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    recipe = {
        "model": {"base": base},
        "adapter": adapter,
        "data": {
            "train": [{"path": data, "format": "messages" if kind == "chat" else "tokens"}],
            "max_length": length,
            "packing": False,
        },
        "training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "max_steps": steps},
        "output": {"dir": out, "report_to": ["jsonl"], "save_steps": 100},
    }
    path = os.path.join(folder, "recipe.yaml")
    with open(path, "w") as file:
        json.dump(recipe, file)
    settings = [f"{key}={value}" for key, value in keys.items()] + args.set
    words = [word for setting in settings for word in ("--set", setting)]
    command = [args.tool, "train", path, "--device", args.device, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{name}: {' '.join(command)}\n{done.stdout}")
    with open(os.path.join(out, "summary.json")) as file:
        return json.load(file), out


def measured(name, base, keys):
    with tempfile.TemporaryDirectory() as folder:
        if "init_from" in keys:
            os.mkdir(os.path.join(folder, "first"))
            _, first = run(os.path.join(folder, "first"), name, base, {**NF4, **RECOMPUTE, "length": 64}, steps=1)
            keys = {**keys, "init_from": os.path.join(first, "adapter")}
        summary, _ = run(folder, name, base, keys, args.steps)
    peak, estimated = summary["peak_device_bytes"] or summary["peak_rss_bytes"], summary["estimated_bytes"]
    done = {"run": name, "peak_bytes": peak, "estimated_bytes": estimated, "peak_over_estimate": round(peak / estimated, 3)}
    print(f"{done['peak_over_estimate']:.3f}  {peak / 1e6:7.0f} MB  {estimated / 1e6:7.0f} MB  {name}", file=sys.stderr)
    return done


bases = {"folder": args.folder, "gguf": args.gguf}
wanted = [(name, bases[base], keys) for name, base, keys in RUNS if bases[base] and args.only in name]
if not wanted:
    sys.exit("nothing to run: name a --folder or a --gguf, and an --only that some run has in its name")
runs = [measured(*one) for one in wanted]
ratios = [one["peak_over_estimate"] for one in runs]
beyond = [one["run"] for one in runs if abs(one["peak_over_estimate"] - 1) > WITHIN]
print(json.dumps({"runs": runs, "smallest": min(ratios), "largest": max(ratios), "beyond_a_tenth": beyond}, indent=1))
