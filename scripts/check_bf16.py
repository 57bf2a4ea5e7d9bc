#!/usr/bin/env python3
"""What products in bf16 cost a run on the CPU, against the same run in f32: gradients, and the loss on held-back rows.

    cargo build --release
    python3 scripts/check_bf16.py recipes/quickstart.yaml

Runs the recipe with `model.compute_dtype` f32 and bf16; then takes one step more of the f32 adapter in each of them, and compares the
gradients, matrix by matrix, by their cosine (AdamW's first average after one step is a tenth of them). Any processor will do: one without the
instruction makes the same bits, slower. The recipe needs `data.eval`. Needs `safetensors` and `numpy`. One JSON object comes out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open

import bench_arguments

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("recipe", type=Path)
parser.add_argument("--set", action="append", default=[], dest="overrides", help="as in gemma-tune train --set")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def train(out, dtype, *more):
    settings = [*args.overrides, f"model.compute_dtype={dtype}", f"output.dir={out}", *more]
    command = [args.tool, "train", args.recipe, *(word for key in settings for word in ("--set", key))]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return json.loads((out / "summary.json").read_text())


def gradients(out, dtype, adapter):
    train(out, dtype, f"adapter.init_from={adapter}", "training.max_steps=2", "training.warmup_ratio=0", "output.save_steps=1")
    state = safe_open(out / "checkpoints" / "step-1" / "optimizer.safetensors", "numpy")
    first = [name for name in state.keys() if int(name) % 2 == 0]  # of each matrix two averages, one after the other
    return {name: state.get_tensor(name).astype(np.float64).ravel() for name in first}


def check():
    """What would end the comparison only after its runs."""
    command = [args.tool, "recipe", "show", args.recipe, *(word for key in args.overrides for word in ("--set", key))]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [line.strip() for line in shown.splitlines()]
    if not any(line == "eval:" or (line.startswith("eval_fraction:") and float(line.split()[1]) > 0) for line in lines):
        sys.exit("error: the recipe has no `data.eval`, so that there is no loss to compare")
    if not any(line.startswith("optimizer:") and "adamw" in line for line in lines):
        sys.exit("error: the gradients are read from AdamW's averages: set `training.optimizer=adamw`")


def main():
    check()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        losses = {dtype: train(work / dtype, dtype)["last_eval"]["eval_loss"] for dtype in ("f32", "bf16")}
        exact, rounded = (gradients(work / f"one-{dtype}", dtype, work / "f32" / "adapter") for dtype in ("f32", "bf16"))
        cosine = lambda a, b: float(a @ b / np.sqrt((a @ a) * (b @ b)))
        cosines = sorted(cosine(exact[name], rounded[name]) for name in exact)
    print(
        json.dumps(
            {
                "eval_loss": losses,
                "eval_loss_change": losses["bf16"] / losses["f32"] - 1,
                "gradients": len(cosines),
                "cosine_min": cosines[0],
                "cosine_median": float(np.median(cosines)),
            },
            indent=1,
        )
    )


main()
