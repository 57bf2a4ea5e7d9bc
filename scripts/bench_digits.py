#!/usr/bin/env python3
"""Trains a random model that sees to read digits, and shows that it looks: a real image task from its rows to its answers.

usage: bench_digits.py --tool target/release/gemma-tune [--folder DIR] [--train N] [--epochs N]

Needs torch, transformers, scikit-learn and Pillow. The handwritten digits of scikit-learn are drawn 64 pixels wide; a Gemma 3
of random numbers (2 layers, a tower of 2) learns N of them by LoRA beside its frozen weights, projector and tower
included, and then answers for the rows it saw, for digits that it has not seen, and for these with their pictures
exchanged, where no more than chance can be right. Prints one line of JSON.
"""
import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

HERE = Path(__file__).resolve().parent.parent
WORDS = ["Null", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"]
SIDE, TOKENS = 64, 16


def make_model(folder):
    tokenizer = AutoTokenizer.from_pretrained(HERE / "tests/goldens/tokenizer")
    ids = tokenizer.convert_tokens_to_ids
    text = dict(vocab_size=520, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, head_dim=32, sliding_window=64, query_pre_attn_scalar=32, max_position_embeddings=512,
                layer_types=["full_attention"] * 3, bos_token_id=2, eos_token_id=1, pad_token_id=0)
    vision = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, image_size=SIDE,
                  patch_size=8, num_channels=3, vision_use_head=False)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=TOKENS, eos_token_id=[1, 9],
                          image_token_index=ids("<image_soft_token>"), boi_token_index=ids("<start_of_image>"), eoi_token_index=ids("<end_of_image>"))
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration._from_config(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape) * (p.shape[-1] ** -0.5 if "embed_tokens" not in name else 0.05))
            elif "vision_tower" in name and "norm" in name and name.endswith("weight"):
                p.fill_(1.0)
            else:
                p.zero_()
    model.tie_weights()
    model.save_pretrained(folder)
    processor = Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}, image_seq_length=TOKENS)
    Gemma3Processor(processor, tokenizer, image_seq_length=TOKENS).save_pretrained(folder)
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(HERE / "tests/goldens/tokenizer" / name, folder / name)


def row(path, label, answer=True):
    parts = [{"type": "image", "image": str(path)}, {"type": "text", "text": "?"}]
    turns = [{"role": "user", "content": parts}] + [{"role": "assistant", "content": WORDS[label]}] * answer
    return json.dumps({"messages": turns, "label": WORDS[label]}) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/digits"))
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    folder = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    make_model(folder / "model")
    digits = load_digits()
    order = list(range(len(digits.images)))
    random.Random(5).shuffle(order)
    paths = {}
    for i in order:
        paths[i] = f"pictures/{i}.png"
        Image.fromarray((255 - digits.images[i] * 15.9375).astype("uint8")).resize((SIDE, SIDE), Image.BICUBIC).save(folder / paths[i])
    train, held_out = order[:options.train], order[options.train:]
    label = lambda i: int(digits.target[i])
    (folder / "train.jsonl").write_text("".join(row(paths[i], label(i)) for i in train))
    shown = held_out[1:] + held_out[:1]
    asked = {"seen": [(i, i) for i in train[:200]], "unseen": [(i, i) for i in held_out], "exchanged": list(zip(held_out, shown))}
    for name, pairs in asked.items():
        (folder / f"{name}.jsonl").write_text("".join(row(paths[picture], label(i), False) for i, picture in pairs))
    (folder / "recipe.yaml").write_text(f"""\
model: {{base: {folder}/model, dtype: f32}}
adapter: {{r: 64, lora_alpha: 64, target_modules: all-linear}}
data: {{train: {folder}/train.jsonl, max_length: 512}}
training: {{num_train_epochs: {options.epochs}, gradient_accumulation_steps: 2, learning_rate: 2.0e-3, warmup_ratio: 0.05, seed: 1}}
output: {{dir: {folder}/out}}
""")
    tool, started = options.tool, time.time()
    subprocess.run([tool, "train", folder / "recipe.yaml"], check=True, stdout=sys.stderr)
    result = {"train_secs": round(time.time() - started, 1), "rows": len(train)}
    for name, pairs in asked.items():
        output = folder / f"{name}.answers.jsonl"
        subprocess.run([tool, "generate", "--model", folder / "model", "--adapter", folder / "out/adapter", "--input", folder / f"{name}.jsonl",
                        "--output", output, "--temperature", "0", "--max-tokens", "8"], check=True, stderr=subprocess.DEVNULL)
        answers = [json.loads(line) for line in output.read_text().splitlines()]
        right = sum(answer["completion"].strip() == answer["label"] for answer in answers)
        result[name] = f"{right} of {len(answers)}"
    print(json.dumps(result))


main()
