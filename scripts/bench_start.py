#!/usr/bin/env python3
"""Times the start of a run from a GGUF file, held as it is stored: from the start of the program to the end of the first step, and to
the end of the program, when the one chat that it trains on has been learnt once and the adapter is written.

    cargo build --release
    python3 scripts/bench_start.py --model path/to/gemma-3-270m-q4_k_m.gguf

The median of several runs after one that fills the system's file cache. One JSON object comes out.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

import bench_arguments

HERE = os.path.dirname(os.path.abspath(__file__))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a .gguf file")
parser.add_argument("--data", default=os.path.join(HERE, "..", "data", "marlow.jsonl"), help="conversations, of which the first is trained on")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def run(folder):
    rows, recipe, out = (os.path.join(folder, name) for name in ("rows.jsonl", "start.yaml", "out"))
    with open(args.data) as source, open(rows, "w") as file:
        file.write(source.readline())
    with open(recipe, "w") as file:
        json.dump(
            {
                "model": {"base": os.path.abspath(args.model), "dtype": "bf16", "quantization": "as_stored"},
                "adapter": {"r": 16, "lora_alpha": 32},
                "data": {"train": [{"path": rows}]},
                "training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "max_steps": 1},
                "output": {"dir": out, "report_to": ["jsonl"]},
            },
            file,
        )
    start = time.perf_counter()
    process = subprocess.Popen([args.tool, "train", recipe], stdout=sys.stderr)
    metrics, first_step = os.path.join(out, "metrics.jsonl"), None
    while process.poll() is None:
        # A step's line appears whole, in one write, when the step is done.
        if first_step is None and os.path.exists(metrics) and os.path.getsize(metrics):
            first_step = time.perf_counter() - start
        time.sleep(0.005)
    end = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.returncode)
    return first_step or end, end


def runs():
    for _ in range(1 + args.runs):
        with tempfile.TemporaryDirectory() as folder:
            yield run(folder)


first_steps, ends = zip(*list(runs())[1:])
print(json.dumps({"first_step_seconds": statistics.median(first_steps), "end_seconds": statistics.median(ends)}, indent=1))
