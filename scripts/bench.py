#!/usr/bin/env python3
"""Times LoRA training steps of gemma-tune, and of transformers + PEFT on the same rows where they are installed, and prints the ratios.

    cargo build --release
    python3 scripts/bench.py --model path/to/gemma-3-270m --length 512

LoRA r=16 on all seven projections, every position supervised, one process after the other, so that each has the machine for itself:
close everything else. PEFT is tried in each setting of --peft, and its fastest one counts: f32 and, where the processor has instructions
for it, bf16, each with both of its attentions; beside an NF4 base it quantises its own (`bitsandbytes`). With --rounds its fastest one and
gemma-tune take turns, and the ratio is the median of the turns. PEFT needs `torch`, `transformers` and `peft`, and a model folder
(not a GGUF). What comes out is one JSON object on stdout; the figures are the medians of the steps after the first.
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
parser.add_argument("--peft", help="settings to try, DTYPE:ATTENTION,.. as float32:sdpa,bfloat16:eager")
parser.add_argument("--rounds", type=int, default=1, help="turns that gemma-tune and PEFT's fastest setting take")
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
                "model": {"base": args.model, "dtype": bench_arguments.fastest_dtype()},
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
    doctor = tool("doctor", "--device", "cpu")
    gemm, peaks = doctor["gemm_gflops"], doctor["peaks"]
    peak = peaks["bf16_gflops" if summary["compute_dtype"] == "bf16" else "f32_gflops"]
    return {
        "tokens_per_second": rate,
        "peak_bytes": summary["peak_device_bytes"] or summary["peak_rss_bytes"],
        "estimated_bytes": summary["estimated_bytes"],
        "peak_over_estimate": summary["peak_over_estimate"],
        "gflops": round(rate * operations / 1e9, 1),
        "gemm_gflops": round(gemm, 1),
        "share_of_gemm": round(rate * operations / 1e9 / gemm, 3),
        "compute_dtype": summary["compute_dtype"],
        "peak_gflops": round(peak, 1),
        "share_of_peak": round(rate * operations / 1e9 / peak, 3),
    }


def tool(*words):
    done = subprocess.run([args.tool, *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def quantization():
    """What --set says of the base's form."""
    said = [key.split("=", 1)[1] for key in args.overrides if key.startswith("model.quantization=")]
    return said[-1] if said else "none"


def peft_worker(setting):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype, attention = setting.split(":")
    how = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
    if quantization().startswith("nf4"):
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=quantization() == "nf4_double",
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    model = AutoModelForCausalLM.from_pretrained(args.model, **how)
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


def peft(setting):
    """In a process of its own, so that its peak memory is its own."""
    worker = [sys.executable, __file__, *sys.argv[1:], "--peft-worker", setting]
    done = subprocess.run(worker, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"PEFT cannot run {setting} here: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def our_turn():
    with tempfile.TemporaryDirectory() as folder:
        return ours(folder)


if args.peft_worker:
    peft_worker(args.peft_worker)
    sys.exit()
settings = args.peft.split(",") if args.peft else [f"{dtype}:{how}" for dtype in bench_arguments.dtypes(None) for how in ("sdpa", "eager")]
result = {"length": args.length, "batch": args.batch, "overrides": args.overrides, "gemma_tune": our_turn()}
tried = {} if args.without_peft else {setting: peft(setting) for setting in settings}
tried = {setting: found for setting, found in tried.items() if found}
if tried:
    best = max(tried, key=lambda setting: tried[setting]["tokens_per_second"])
    turns = [(result["gemma_tune"], tried[best])]
    while len(turns) < args.rounds and (theirs := peft(best)):
        turns.append((our_turn(), theirs))
    of = lambda key: [ours[key] / theirs[key] for ours, theirs in turns]
    result["peft"] = tried
    result["best"] = best
    result["ratio"] = {key: round(statistics.median(of(key)), 3) for key in ("tokens_per_second", "peak_bytes")}
    result["turns"] = [round(ratio, 3) for ratio in of("tokens_per_second")]
print(json.dumps(result, indent=1))
