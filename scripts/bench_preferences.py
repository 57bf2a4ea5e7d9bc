#!/usr/bin/env python3
"""Times steps of dpo and grpo, and of TRL's DPOTrainer and GRPOTrainer on the same rows where TRL is installed, and prints the ratios.

    cargo build --release
    python3 scripts/bench_preferences.py dpo --model path/to/gemma-3-270m --prompt 256 --answer 256
    python3 scripts/bench_preferences.py grpo --model path/to/gemma-3-270m --prompt 16 --answer 64

LoRA r=16 on all seven projections. Each is a process of its own, one after the other, so that it has the machine for itself: close
everything else. TRL is tried in each setting of --trl (dtype, attention, pairs at once), and its fastest one counts. The log-probabilities
of the reference are computed once for the whole run on both sides (TRL: `precompute_ref_log_probs`), before the steps that are timed;
`seconds_before` is what that took. Needs `torch`, `transformers`, `peft`, `trl`, `datasets`, and a model folder. One JSON object
on stdout; figures are medians of the steps after the first.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import bench_arguments

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("task", choices=["dpo", "grpo"])
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a Hugging Face folder")
parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
parser.add_argument("--answer", type=int, default=256, help="tokens of an answer; of grpo, the most")
parser.add_argument("--answers", type=int, default=8, help="grpo: answers to a prompt")
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
parser.add_argument("--set", action="append", default=[], dest="overrides", help="as in gemma-tune train --set")
parser.add_argument("--trl", default="float32:sdpa:1,float32:eager:1,bfloat16:sdpa:1", help="settings to try, DTYPE:ATTENTION:PAIRS")
parser.add_argument("--trl-limit", type=float, default=600, help="seconds for one setting; a slower one does not count")
parser.add_argument("--without-trl", action="store_true")
parser.add_argument("--trl-worker", help=argparse.SUPPRESS)
args = parser.parse_args()

NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows():
    """Prompts and answers of words that are a token each, so that both sides see the same lengths."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    words = [w for w in (tokenizer.decode([id]) for id in range(1000, 60_000)) if w[:1] == " " and w[1:].isascii() and w[1:].isalpha()]
    draw = random.Random(0)
    text = lambda tokens: "".join(draw.choice(words) for _ in range(tokens))
    made = []
    for _ in range(args.steps * (1 if args.task == "grpo" else most_pairs())):
        row = {"prompt": text(args.prompt - 1)[1:]}  # and <bos>
        if args.task == "dpo":
            row |= {"chosen": text(args.answer), "rejected": text(args.answer)}
        made.append(row)
    return made


def most_pairs():
    return max(int(setting.split(":")[2]) for setting in args.trl.split(","))


def ours(folder):
    data = os.path.join(folder, "rows.jsonl")
    recipe = os.path.join(folder, "bench.yaml")
    text = {
        "task": args.task,
        "model": {"base": args.model, "dtype": "f32"},
        "adapter": {"r": 16, "lora_alpha": 32, "target_modules": NAMES},
        "data": {"train": data, "template": False, "shuffle": False, "max_length": args.prompt + args.answer + 8},
        "training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "max_steps": args.steps},
        "output": {"dir": os.path.join(folder, "out"), "report_to": ["jsonl"], "save_steps": 1000},
    }
    if args.task == "grpo":
        text["grpo"] = {"num_generations": args.answers, "max_completion_length": args.answer}
        text["rewards"] = [{"kind": "length", "min": 1000, "unit": "characters"}]
        text["training"]["per_device_train_batch_size"] = args.answers
    with open(recipe, "w") as file:
        json.dump(text, file)
    command = [args.tool, "train", recipe] + [word for key in args.overrides for word in ("--set", key)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    whole = time.perf_counter() - started
    with open(os.path.join(folder, "out", "metrics.jsonl")) as file:
        steps = [line for line in map(json.loads, file) if "loss" in line]
    with open(os.path.join(folder, "out", "summary.json")) as file:
        summary = json.load(file)
    seconds = [step["tokens"] / step["tokens_per_second"] for step in steps]
    return {
        "seconds_per_step": statistics.median(seconds[1:] or seconds),
        "seconds_before": whole - sum(seconds),
        "peak_bytes": summary["peak_rss_bytes"],
        "lengths": [step.get("completions/mean_length") for step in steps],
    }


def trl_worker(setting):
    dtype, attention, pairs = setting.split(":")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, dtype), attn_implementation=attention)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=NAMES, task_type="CAUSAL_LM")
    common = dict(
        output_dir=tempfile.mkdtemp(),
        gradient_accumulation_steps=1,
        max_steps=args.steps,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=dtype == "bfloat16",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    if args.task == "dpo":
        from trl import DPOConfig as Config
        from trl import DPOTrainer as Trainer

        longest = args.prompt + args.answer + 8
        config = Config(**common, per_device_train_batch_size=int(pairs), precompute_ref_log_probs=True, max_length=longest)
        extra = {}
    else:
        from trl import GRPOConfig as Config
        from trl import GRPOTrainer as Trainer

        config = Config(
            **common,
            per_device_train_batch_size=args.answers,
            num_generations=args.answers,
            max_completion_length=args.answer,
            temperature=1.0,
        )
        extra = {"reward_funcs": lambda completions, **_: [min(len(text), 1000) / 1000 for text in completions]}

    seconds, lengths = [], []

    class Clock(transformers.TrainerCallback):
        """A step with what stands before it: reading rows, and in grpo the answers."""

        def on_train_begin(self, *_, **__):
            self.last = time.perf_counter()

        def on_step_end(self, *_, **__):
            now = time.perf_counter()
            seconds.append(now - self.last)
            self.last = now

        def on_log(self, *_, logs=None, **__):
            lengths.append((logs or {}).get("completions/mean_length"))

    started = time.perf_counter()
    trainer = Trainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows()),
        processing_class=AutoTokenizer.from_pretrained(args.model),
        peft_config=lora,
        callbacks=[Clock()],
        **extra,
    )
    trainer.train()
    whole = time.perf_counter() - started
    median = statistics.median(seconds[1:] or seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    per_pair = median / (int(pairs) if args.task == "dpo" else 1)
    result = {"seconds_per_step": per_pair, "seconds_before": whole - sum(seconds), "peak_bytes": peak, "lengths": lengths}
    print(json.dumps(result))


def trl():
    """Each setting in a process of its own, so that its peak memory is its own."""
    found = {}
    for setting in args.trl.split(","):
        worker = [sys.executable, __file__, *sys.argv[1:], "--trl-worker", setting]
        try:
            done = subprocess.run(worker, capture_output=True, text=True, timeout=args.trl_limit)
        except subprocess.TimeoutExpired:
            found[setting] = f"slower than {args.trl_limit:.0f} s"
            continue
        if done.returncode != 0:
            print(f"TRL cannot run {setting} here: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
            continue
        found[setting] = json.loads(done.stdout.splitlines()[-1])
    return found


if args.trl_worker:
    trl_worker(args.trl_worker)
    sys.exit()
made = rows()
with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "rows.jsonl"), "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in made)
    result = {"task": args.task, "prompt": args.prompt, "answer": args.answer, "gemma_tune": ours(folder)}
if not args.without_trl:
    result["trl"] = trl()
    best = min((r for r in result["trl"].values() if isinstance(r, dict)), key=lambda r: r["seconds_per_step"], default=None)
    if best:
        result["ratio"] = {
            "speed": round(best["seconds_per_step"] / result["gemma_tune"]["seconds_per_step"], 2),
            "peak_bytes": round(result["gemma_tune"]["peak_bytes"] / best["peak_bytes"], 3),
        }
print(json.dumps(result, indent=1))
