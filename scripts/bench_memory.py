#!/usr/bin/env python3
"""Compares the peak memory of short runs with what `gemma-tune estimate` said before them: eleven runs over four forms of the base.

    cargo build --release
    python3 scripts/bench_memory.py --model path/to/gemma-3-270m-q4_k_m.gguf

Two steps of LoRA r=16 on all seven projections, every position supervised, no dropout; how busy the machine is makes no difference.
`as_stored` needs a .gguf file, and is left out of another model. One JSON object comes out: the runs, the smallest and the largest
ratio. Each run is one of bench.py, which measures a setting of your own.
"""
import argparse, json, os, subprocess, sys

import bench_arguments

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench.py")
# What holds the base, tokens in the sequence, activations recomputed.
RUNS = [
    ("f32", 256, False),
    ("f32", 512, True),
    ("f32", 2048, True),
    ("bf16", 256, False),
    ("bf16", 512, True),
    ("bf16", 2048, True),
    ("nf4_double", 256, False),
    ("nf4_double", 512, True),
    ("nf4_double", 2048, True),
    ("as_stored", 512, False),
    ("as_stored", 2048, True),
]
FORMS = {
    "f32": ["model.dtype=f32"],
    "bf16": ["model.dtype=bf16"],
    "nf4_double": ["model.dtype=bf16", "model.quantization=nf4_double"],
    "as_stored": ["model.dtype=bf16", "model.quantization=as_stored"],
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a Hugging Face folder or a .gguf file")
parser.add_argument("--device", default="auto", help="as in gemma-tune train --device")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def measured(form, length, recomputed):
    command = [sys.executable, BENCH, "--model", args.model, "--tool", args.tool, "--without-peft", "--steps", "2"]
    command += ["--device", args.device, "--length", str(length), "--set", f"training.activation_checkpointing={str(recomputed).lower()}"]
    command += [word for key in FORMS[form] for word in ("--set", key)]
    done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["gemma_tune"]
    kept = {key: done[key] for key in ("peak_bytes", "estimated_bytes", "peak_over_estimate")}
    return {"base": form, "tokens": length, "recomputed": recomputed, **kept}


runs = [measured(*run) for run in RUNS if run[0] != "as_stored" or args.model.endswith(".gguf")]
ratios = [run["peak_over_estimate"] for run in runs]
print(json.dumps({"runs": runs, "smallest": min(ratios), "largest": max(ratios)}, indent=1))
