#!/usr/bin/env python3
"""Times LoRA training steps of gemma-tune, and of transformers + PEFT on the same rows where they are installed, and prints the ratios.

    cargo build --release
    python3 scripts/bench.py --model path/to/gemma-3-270m --length 512

LoRA r=16 on all seven projections, f32 compute, every position supervised, one process after the other, so that each has the
machine for itself: close everything else. PEFT needs `torch`, `transformers` and `peft`, and a model folder (not a GGUF).
What comes out is one JSON object on stdout; the figures are the medians of the steps after the first.
"""
import argparse, json, os, random, resource, statistics, subprocess, sys, tempfile, time

import bench_arguments

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a Hugging Face folder, or a .gguf file (then without PEFT)")
parser.add_argument("--length", type=int, default=512, help="tokens in a row")
parser.add_argument("--batch", type=int, default=1, help="rows in a step")
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
parser.add_argument("--device", default="auto", help="as in gemma-tune train --device")
parser.add_argument("--set", action="append", default=[], dest="overrides", help="as in gemma-tune train --set")
parser.add_argument("--without-peft", action="store_true")
parser.add_argument("--peft-worker", help=argparse.SUPPRESS)
args = parser.parse_args()


# All linear layers of a decoder layer of Gemma 3; Gemma 3n has more, which neither side adapts.
NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows():
    """The same random words for both; how fast a step is does not depend on which words they are."""
    draw = random.Random(0)
    return [[draw.randrange(1000, 200_000) for _ in range(args.length)] for _ in range(args.batch * args.steps)]


def ours(folder):
    data = os.path.join(folder, "rows.jsonl")
    with open(data, "w") as file:
        file.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows())
    recipe = os.path.join(folder, "bench.yaml")
    with open(recipe, "w") as file:
        json.dump(
            {
                "model": {"base": args.model, "dtype": "f32"},
                "adapter": {"r": 16, "lora_alpha": 32, "target_modules": NAMES},
                "data": {
                    "train": [{"path": data, "format": "tokens"}],
                    "max_length": args.length,
                    "packing": False,
                    "shuffle": False,
                },
                "training": {
                    "per_device_train_batch_size": args.batch,
                    "gradient_accumulation_steps": 1,
                    "max_steps": args.steps,
                },
                "output": {"dir": os.path.join(folder, "out"), "report_to": ["jsonl"]},
            },
            file,
        )
    command = [args.tool, "train", recipe, "--device", args.device] + [word for key in args.overrides for word in ("--set", key)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    with open(os.path.join(folder, "out", "metrics.jsonl")) as file:
        steps = [line for line in map(json.loads, file) if "loss" in line]
    with open(os.path.join(folder, "out", "summary.json")) as file:
        summary = json.load(file)
    rate = statistics.median(step["tokens_per_second"] for step in steps[1:] or steps)
    # A token goes through every weight twice, forward and back, and through the adapter's three times.
    operations = 4 * tool("inspect", args.model)["parameters"] + 6 * summary["trainable_parameters"]
    gemm = tool("doctor", "--device", "cpu")["gemm_gflops"]
    return {
        "tokens_per_second": rate,
        "peak_bytes": summary["peak_device_bytes"] or summary["peak_rss_bytes"],
        "estimated_bytes": summary["estimated_bytes"],
        "peak_over_estimate": summary["peak_over_estimate"],
        "gflops": round(rate * operations / 1e9, 1),
        "gemm_gflops": round(gemm, 1),
        "share_of_gemm": round(rate * operations / 1e9 / gemm, 3),
    }


def tool(*words):
    done = subprocess.run([args.tool, *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def peft_worker():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=NAMES, task_type="CAUSAL_LM"))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4)
    seconds = []
    data = rows()
    for step in range(args.steps):
        ids = torch.tensor(data[step * args.batch : (step + 1) * args.batch])
        start = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = args.batch * args.length / statistics.median(seconds[1:] or seconds)
    print(json.dumps({"tokens_per_second": rate, "peak_bytes": peak}))


def peft():
    """In a process of its own, so that its peak memory is its own."""
    worker = [sys.executable, __file__, *sys.argv[1:], "--peft-worker", "1"]
    done = subprocess.run(worker, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"PEFT cannot run here: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


if args.peft_worker:
    peft_worker()
    sys.exit()
with tempfile.TemporaryDirectory() as folder:
    result = {"length": args.length, "batch": args.batch, "overrides": args.overrides, "gemma_tune": ours(folder)}
result["peft"] = None if args.without_peft else peft()
if result["peft"]:
    of = lambda key: result["gemma_tune"][key] / result["peft"][key]
    result["ratio"] = {key: round(of(key), 3) for key in ("tokens_per_second", "peak_bytes")}
print(json.dumps(result, indent=1))
