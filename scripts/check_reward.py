#!/usr/bin/env python3
"""Holds a reward model against TRL, transformers and PEFT on a real model.

usage: check_reward.py RUN MODEL [GEMMA_TUNE]

RUN is a folder of a TRL run on the model: rows.jsonl (prompt, chosen, rejected), lora_init/ (PEFT, with its head), log.jsonl (what TRL
logged of each step), meta.json (batch, steps, lr); constant rate, AdamW, no shuffling, no dropout, clipped to 1. Says how far each
step's loss, gradient norm and metrics are from TRL's (rewards and margins by the largest reward of the step); trains the adapter here, and
says how far the rewards that `score` gives are from those of AutoModelForSequenceClassification with PEFT, and of the merged folder; every
warning of theirs is a failure.
"""
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

RUN, MODEL = sys.argv[1:3]
TUNE = sys.argv[3] if len(sys.argv) > 3 else "gemma-tune"
FIRST, ALL, SCORES = 1e-5, 1e-3, 1e-5
meta = json.loads(Path(f"{RUN}/meta.json").read_text())
failed = []


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def tune(*args):
    return subprocess.run([TUNE, *args], check=True, capture_output=True, text=True).stdout


def holds(what, gap, bar):
    print(f"{what:46} {gap:.1e}  (at most {bar:.0e})")
    if not gap <= bar:
        failed.append(what)


class Said(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING and "deprecated" not in record.getMessage():
            failed.append(f"transformers says: {record.getMessage()}")


transformers.utils.logging.get_logger().addHandler(Said())
logging.getLogger().addHandler(Said())
warnings.simplefilter("error")
# What PEFT itself has yet to rename in transformers is no fault of a folder.
for kind in (FutureWarning, DeprecationWarning):
    warnings.simplefilter("ignore", kind)

with tempfile.TemporaryDirectory() as folder:
    recipe = f"""
task: reward
model: {{base: "{MODEL}", dtype: f32}}
adapter: {{init_from: "{RUN}/lora_init"}}
data: {{train: "{RUN}/rows.jsonl", shuffle: false, max_length: 256}}
training: {{per_device_train_batch_size: {meta['batch']}, gradient_accumulation_steps: 1, max_steps: {meta['steps']},
  learning_rate: {meta['lr']}, lr_scheduler_type: constant, warmup_steps: 0, weight_decay: 0.0, max_grad_norm: 1.0}}
output: {{dir: "{folder}/out", report_to: [jsonl]}}
"""
    Path(f"{folder}/r.yaml").write_text(recipe)
    tune("train", f"{folder}/r.yaml")
    ours = lines(f"{folder}/out/metrics.jsonl")
    ours = [line for line in ours if line.get("loss") is not None]
    theirs = lines(f"{RUN}/log.jsonl")
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    worst = {}
    for at, (our, their) in enumerate(zip(ours, theirs)):
        for name in ("loss", "grad_norm", "margin", "mean_reward", "min_reward", "max_reward", "accuracy"):
            # A margin is a difference of rewards: however near they are to one another, f32 leaves of it a part of them.
            of = (name,) if name in ("loss", "grad_norm") else ("min_reward", "max_reward")
            size = 1.0 if name == "accuracy" else max(1e-6, *(abs(their[part]) for part in of))
            gap = abs(our[name] - their[name]) / size
            assert gap == gap, (name, our, their)
            which = "first step" if at == 0 else "later steps"
            worst[which, name] = max(worst.get((which, name), 0.0), gap)
    for (which, name), gap in sorted(worst.items()):
        holds(f"{which}: {name}", gap, FIRST if which == "first step" else ALL)

    adapter, merged = f"{folder}/out/adapter", f"{folder}/merged"
    tune("merge", "--model", MODEL, "--adapter", adapter, "--output", merged, "--dtype", "f32")
    answers = [dict(prompt=row["prompt"], completion=row[which]) for row in lines(f"{RUN}/rows.jsonl") for which in ("chosen", "rejected")]
    Path(f"{folder}/answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    scored = tune("score", "--model", MODEL, "--adapter", adapter, "--input", f"{folder}/answers.jsonl")
    judged = [json.loads(line) for line in scored.splitlines()]
    settings = dict(dtype=torch.float32, attn_implementation="eager")
    base = AutoModelForSequenceClassification.from_pretrained(merged, **settings)

    def gap(model):
        with torch.no_grad():
            rewards = [model(input_ids=torch.tensor([row["input_ids"]])).logits.item() for row in judged]
        scale = max(abs(reward) for reward in rewards)
        return max(abs(row["reward"] - reward) for row, reward in zip(judged, rewards)) / scale

    holds("rewards of the merged folder", gap(base), SCORES)
    # The base has no head, of which transformers rightly warns: that is no fault of the adapter.
    transformers.utils.logging.set_verbosity_error()
    base = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1, **settings)
    transformers.utils.logging.set_verbosity_warning()
    holds("rewards with PEFT", gap(PeftModel.from_pretrained(base, adapter).eval()), SCORES)
for what in failed:
    print("FAILED:", what)
sys.exit(bool(failed))
