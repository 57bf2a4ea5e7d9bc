#!/usr/bin/env python3
"""Times training on replicas on the CPU against one replica with all of its threads.

    cargo build --release
    python3 scripts/bench_replicas.py --model path/to/gemma-3-270m --replicas 2

Each replica has its share of the threads, so that as many are at work either way. The steps are the same, and so must be the adapter:
each replica of one thread writes the bytes that one thread alone writes. One JSON object comes out.
"""
import argparse, hashlib, json, os, random, statistics, subprocess, sys, tempfile

import bench_arguments

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a folder, or a .gguf file")
parser.add_argument("--replicas", type=int, default=2)
parser.add_argument("--length", type=int, default=512, help="tokens in a row")
parser.add_argument("--rows", type=int, default=4, help="micro-batches of a step, one row each")
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def run(devices):
    """Tokens a second, and what the adapter's weights are."""
    with tempfile.TemporaryDirectory() as folder:
        data, out, draw = os.path.join(folder, "rows.jsonl"), os.path.join(folder, "out"), random.Random(0)
        with open(data, "w") as file:
            for _ in range(args.rows * args.steps):
                file.write(json.dumps({"input_ids": [draw.randrange(1000, 200_000) for _ in range(args.length)]}) + "\n")
        recipe = {
            "model": {"base": args.model},
            "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
            "data": {"train": [{"path": data, "format": "tokens"}], "max_length": args.length, "packing": False},
            "training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": args.rows, "max_steps": args.steps},
            "output": {"dir": out, "report_to": ["jsonl"], "save_steps": 100},
        }
        path = os.path.join(folder, "recipe.yaml")
        with open(path, "w") as file:
            json.dump(recipe, file)
        done = subprocess.run([args.tool, "train", path, "--device", devices], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{devices}: {done.stdout}")
        with open(os.path.join(out, "summary.json")) as file:
            summary = json.load(file)
        with open(os.path.join(out, "adapter", "adapter_model.safetensors"), "rb") as file:
            return summary["tokens_per_second"], hashlib.sha256(file.read()).hexdigest()


pairs = [(run("cpu"), run(",".join(["cpu"] * args.replicas))) for _ in range(args.runs)]
rates = lambda which: [round(pair[which][0], 1) for pair in pairs]
result = {
    "replicas": args.replicas,
    "tokens_per_second_of_one": {"median": statistics.median(rates(0)), "runs": rates(0)},
    "tokens_per_second_of_replicas": {"median": statistics.median(rates(1)), "runs": rates(1)},
    "ratio": round(statistics.median(many[0] / one[0] for one, many in pairs), 3),
    "same_bytes_each_time": len({many[1] for _, many in pairs}) == 1,
}
print(json.dumps(result, indent=1))
