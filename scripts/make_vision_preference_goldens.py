#!/usr/bin/env python3
"""Makes tests/goldens/train/vision_preference: runs of TRL's DPOTrainer on the tiny Gemma 3 that sees (tests/goldens/multimodal), on pairs
with pictures.

usage: make_vision_preference_goldens.py [GOLDENS]    (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, trl 1.16.0, datasets 5.2.0)

rows.jsonl            two pairs for each step, in the order of the steps: with one picture, with two, and one with none
seed-N/adapter_*      the adapter that a run starts from, as PEFT saves it; B is not zero, so that it is also the reference
seed-N/steps.jsonl    of each step: loss, grad_norm, and TRL's metrics of pairs

TRL's trainer, collator and processor do all of it, in f32; only the order of the rows is held fast.
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import datasets
import peft
import torch
import transformers
import trl
from PIL import Image
from transformers import AutoProcessor, Gemma3ForConditionalGeneration
from trl import DPOConfig, DPOTrainer

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
GOLDENS = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens")
MODEL, OUT = GOLDENS / "multimodal/model", GOLDENS / "train/vision_preference"
SEEDS, STEPS, PAIRS, RATE, BETA = [1, 2], 6, 2, 1e-2, 0.4
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"]
LINEAR = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"

ASKED = [
    (["red.png"], "What is this?", "A red disc.", "No idea."),
    (["wide.png"], "And this?", "Some bars.", "A disc, I think, or a ring."),
    (["grey.jpg"], "Which colour?", "Grey.", "Red and blue."),
    (["wide.png", "grey.jpg"], "Compare the two.", "The first is wide, the other one is grey.", "Both are red."),
    (["red.png"], "Is it round?", "Yes.", "It is a square."),
    ([], "Is there a picture?", "There is none.", "Yes, of a disc."),
    (["grey.jpg"], "Describe it.", "From dark to light, again and again.", "It is white."),
    (["red.png", "red.png"], "Are they the same?", "They are.", "One of them is blue."),
    (["wide.png"], "How many bars?", "Six.", "Two or three."),
    (["grey.jpg", "red.png"], "Which is red?", "The second.", "The first one is."),
    (["red.png"], "What is behind it?", "White.", "A black wall."),
    (["wide.png"], "Is it tall?", "No, wide.", "Very tall."),
]


def row(images, question, chosen, rejected):
    said = lambda text: [{"role": "assistant", "content": text}]
    return {"images": [f"pictures/{name}" for name in images], "prompt": [{"role": "user", "content": question}],
            "chosen": said(chosen), "rejected": said(rejected)}


class InOrder(DPOTrainer):
    """Rows in their order, and losses that nobody has rounded."""

    def _get_train_sampler(self, *_, **__):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.losses.append(loss.item())
        return loss


def run(rows, seed):
    folder = OUT / f"seed-{seed}"
    processor = AutoProcessor.from_pretrained(MODEL, backend="pil")
    processor.chat_template = processor.tokenizer.chat_template
    base = Gemma3ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                             target_modules=rf".*language_model.*\.({LINEAR})")
    model = peft.get_peft_model(base, config)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    described = json.loads((folder / "adapter_config.json").read_text())
    described["base_model_name_or_path"] = "v"
    (folder / "adapter_config.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    shown = [row | {"images": [Image.open(GOLDENS / "multimodal" / path).convert("RGB") for path in row["images"]]} for row in rows]
    with tempfile.TemporaryDirectory() as trained:
        settings = DPOConfig(
            output_dir=trained, per_device_train_batch_size=PAIRS, gradient_accumulation_steps=1, max_steps=STEPS, learning_rate=RATE,
            lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0, logging_steps=1, save_strategy="no",
            report_to=[], use_cpu=True, seed=seed, data_seed=seed, dataloader_num_workers=0, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, optim="adamw_torch", max_length=None, beta=BETA, remove_unused_columns=False)
        trainer = InOrder(model=model, args=settings, train_dataset=datasets.Dataset.from_list(shown), processing_class=processor)
        trainer.losses = []
        trainer.train()
    logs = [log for log in trainer.state.log_history if "grad_norm" in log]
    assert len(logs) == len(trainer.losses) == STEPS
    lines = [{"loss": loss} | {name: log[name] for name in ["grad_norm", *METRICS]} for loss, log in zip(trainer.losses, logs)]
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        print(seed, line)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    rows = [row(*asked) for asked in ASKED]
    (OUT / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed in SEEDS:
        run(rows, seed)
    print({module.__name__: module.__version__ for module in (torch, transformers, peft, trl, datasets)})


main()
