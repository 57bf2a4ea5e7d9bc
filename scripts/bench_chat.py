#!/usr/bin/env python3
"""Times training on conversations, where only the assistant's words are trained: gemma-tune against TRL's SFTTrainer on the same rows.

    cargo build --release
    python3 scripts/bench_chat.py --model path/to/gemma-3-270m

What counts is supervised tokens per second. gemma-tune packs the rows; TRL is given the same tokens and masks, and runs with
each of several batch sizes and with its own packing, in f32 and, where the processor has instructions for it, in bf16: the best counts. TRL needs `torch`, `transformers`, `peft`, `trl`
and `datasets`, and all of it a model folder. One process runs at a time: close everything else. One JSON object comes out.
"""
import argparse, json, os, subprocess, sys, tempfile, time

import bench_arguments

HERE = os.path.dirname(os.path.abspath(__file__))
SETTINGS = [{"batch": 1}, {"batch": 4}, {"batch": 8}, {"batch": 1, "packing": True}]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a Hugging Face folder")
parser.add_argument("--data", default=os.path.join(HERE, "..", "data", "marlow.jsonl"))
parser.add_argument("--rows", type=int, default=64, help="conversations that are trained on")
parser.add_argument("--length", type=int, default=512, help="tokens in a packed row")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
parser.add_argument("--set", action="append", default=[], dest="overrides", help="as in gemma-tune train --set")
parser.add_argument("--trl-dtypes", help="float32,bfloat16: what TRL computes in")
parser.add_argument("--without-trl", action="store_true")
parser.add_argument("--trl-worker", help=argparse.SUPPRESS)
args = parser.parse_args()


def write_recipe(folder):
    rows = os.path.join(folder, "rows.jsonl")
    with open(args.data) as source, open(rows, "w") as file:
        file.writelines(line for _, line in zip(range(args.rows), source))
    recipe = os.path.join(folder, "bench.yaml")
    with open(recipe, "w") as file:
        json.dump(
            {
                "model": {"base": args.model, "dtype": bench_arguments.fastest_dtype()},
                "adapter": {"r": 16, "lora_alpha": 32},
                "data": {"train": [{"path": rows}], "max_length": args.length, "shuffle": False},
                "training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1},
                "output": {"dir": os.path.join(folder, "out"), "report_to": ["jsonl"]},
            },
            file,
        )
    return recipe


def ours(recipe, folder):
    command = [args.tool, "train", recipe] + [word for key in args.overrides for word in ("--set", key)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    with open(os.path.join(folder, "out", "metrics.jsonl")) as file:
        steps = [line for line in map(json.loads, file) if "loss" in line][1:]
    seconds = sum(step["tokens"] / step["tokens_per_second"] for step in steps)
    return {"supervised_tokens_per_second": sum(step["supervised_tokens"] for step in steps) / seconds}


def tokenized(recipe):
    """The rows as gemma-tune sees them, not packed."""
    command = [args.tool, "data", "preview", recipe, "--json", "--rows", str(args.rows), "--set", "data.packing=false"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [{key: row[key] for key in ("input_ids", "labels")} for row in map(json.loads, lines)]


def trl_worker():
    with open(args.trl_worker) as file:
        job = json.load(file)
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    seconds = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.start)

    rows = [
        {"input_ids": row["input_ids"], "completion_mask": [int(label != -100) for label in row["labels"]]}
        for row in job["rows"]
    ]
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, job["dtype"])),
        processing_class=AutoTokenizer.from_pretrained(args.model),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=names, task_type="CAUSAL_LM"),
        callbacks=[Clock()],
        args=SFTConfig(
            output_dir=os.path.join(os.path.dirname(args.trl_worker), "trl"),
            per_device_train_batch_size=job["batch"],
            packing=job.get("packing", False),
            max_length=args.length,
            completion_only_loss=True,
            num_train_epochs=1,
            use_cpu=True,
            bf16=job["dtype"] == "bfloat16",
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
    )
    supervised = []
    collate = trainer.data_collator

    def counted(examples):
        batch = collate(examples)
        supervised.append(int((batch["labels"] != -100).sum()))
        return batch

    trainer.data_collator = counted
    trainer.train()
    # The loader is a batch ahead of the step it feeds, and the first step warms up.
    print(json.dumps(sum(supervised[1 : len(seconds)]) / sum(seconds[1:])))


def trl(rows, folder):
    results = []
    for setting in ({**setting, "dtype": dtype} for dtype in bench_arguments.dtypes(args.trl_dtypes) for setting in SETTINGS):
        job = os.path.join(folder, "job.json")
        with open(job, "w") as file:
            json.dump({"rows": rows, **setting}, file)
        worker = [sys.executable, __file__, *sys.argv[1:], "--trl-worker", job]
        done = subprocess.run(worker, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"TRL cannot run {setting} here: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        results.append({**setting, "supervised_tokens_per_second": json.loads(done.stdout.splitlines()[-1])})
        print(f"TRL {results[-1]}", file=sys.stderr)
    return results


if args.trl_worker:
    trl_worker()
    sys.exit()
with tempfile.TemporaryDirectory() as folder:
    recipe = write_recipe(folder)
    result = {"rows": args.rows, "length": args.length, "overrides": args.overrides, "gemma_tune": ours(recipe, folder)}
    result["trl"] = [] if args.without_trl else trl(tokenized(recipe), folder)
if result["trl"]:
    best = max(run["supervised_tokens_per_second"] for run in result["trl"])
    result["ratio"] = round(result["gemma_tune"]["supervised_tokens_per_second"] / best, 3)
print(json.dumps(result, indent=1))
