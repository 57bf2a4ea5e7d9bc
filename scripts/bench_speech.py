#!/usr/bin/env python3
"""Trains a random model that hears to write down what is said, and shows that it listens: a real audio task from its rows to its
answers.

usage: bench_speech.py --tool target/release/gemma-tune [--folder DIR] [--epochs N]

Needs espeak-ng, soundfile, torch, transformers and timm. Eight orders are spoken by espeak-ng in many voices and paces; a Gemma 3n of
random numbers (4 layers, a conformer of 2 blocks) learns those of most voices by LoRA beside its frozen weights, tower
included, and then answers for the rows it heard, for voices that it has not heard, and for these with their clips exchanged, where
no more than chance, one in eight, can be right. Prints one line of JSON.
"""
import argparse
import copy
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import soundfile
import torch
from timm.models._efficientnet_builder import decode_arch_def
from transformers import Gemma3nAudioConfig, Gemma3nConfig, Gemma3nForConditionalGeneration, Gemma3nTextConfig, Gemma3nVisionConfig

from make_speech import ORDERS, speak

HERE = Path(__file__).resolve().parent.parent
ACCENTS = ["en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029"]
VARIANTS = ["", "+m1", "+m3", "+m5", "+f1", "+f2", "+f4"]
PACES = [130, 150, 170]
UNSEEN = ["+m3", "+f2"]
WORDS, HEARD, BINS = 513, 40, 128


def make_model(folder):
    """The words of pictures and sounds follow those of the tiny tokenizer."""
    model = HERE / "tests/goldens/multimodal3n/model"
    folder.mkdir(parents=True)
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(model / name, folder / name)
    given = json.loads((model / "config.json").read_text())
    blocks = decode_arch_def([["er_r1_k3_s2_e4_c8"], ["uir_r1_a3_k5_s2_e2_c8"], ["uir_r1_a3_k5_s2_e2_c8"], ["uir_r1_a3_k5_s2_e2_c8"]])
    args = dict(block_args=blocks, stem_size=8, msfa_output_resolution=2)
    text = Gemma3nTextConfig(vocab_size=520, vocab_size_per_layer_input=511, hidden_size=128, hidden_size_per_layer_input=16,
                             intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                             sliding_window=128, layer_types=["full_attention"] * 4, num_kv_shared_layers=1, laurel_rank=8,
                             max_position_embeddings=1024, activation_sparsity_pattern=[0.0] * 4, pad_token_id=0, eos_token_id=1, bos_token_id=2)
    vision = Gemma3nVisionConfig(model_args=copy.deepcopy(args), vocab_size=2, vocab_offset=511, num_classes=0, label_names=[])
    audio = Gemma3nAudioConfig(vocab_size=7, vocab_offset=WORDS, input_feat_size=BINS, hidden_size=128, conf_num_attention_heads=4,
                               conf_num_hidden_layers=2, sscp_conv_channel_size=[16, 8])
    ids = {key: given[key] for key in given if key.endswith("_token_id")}
    config = Gemma3nConfig(text_config=text, vision_config=vision, audio_config=audio, vision_soft_tokens_per_image=4,
                           audio_soft_tokens_per_image=HEARD, **ids)
    torch.manual_seed(0)
    net = Gemma3nForConditionalGeneration._from_config(config)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim > 1:
                size = 0.05 if "embed_tokens" in name else (0.2 if "_coefs" in name else 1.0) * p[0].numel() ** -0.5
                p.copy_(torch.randn(p.shape) * size)
    net.tie_weights()
    net.config.vision_config.model_args = copy.deepcopy(args)
    net.save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/speech"))
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    folder = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "clips").mkdir(parents=True)
    make_model(folder / "model")
    seen, unseen = [], []
    for accent in ACCENTS:
        for variant in VARIANTS:
            for pace in PACES:
                for order, text in enumerate(ORDERS):
                    path = f"clips/{accent}{variant}_{pace}_{order}.wav"
                    soundfile.write(folder / path, speak(text, accent + variant, pace), 16000)
                    (unseen if variant in UNSEEN else seen).append((path, text))

    def row(path, text, answer=True):
        parts = [{"type": "audio", "audio": path}, {"type": "text", "text": "?"}]
        turns = [{"role": "user", "content": parts}] + [{"role": "assistant", "content": text}] * answer
        return json.dumps({"messages": turns, "said": text}) + "\n"

    moved = [unseen[(i + 3) % len(unseen)][0] for i in range(len(unseen))]
    exchanged = [(path, text) for path, (_, text) in zip(moved, unseen)]
    (folder / "train.jsonl").write_text("".join(row(*pair) for pair in seen))
    for name, pairs in [("heard", seen[:200]), ("unheard", unseen), ("exchanged", exchanged)]:
        (folder / f"{name}.jsonl").write_text("".join(row(*pair, answer=False) for pair in pairs))
    (folder / "recipe.yaml").write_text(f"""\
model: {{base: {folder}/model, dtype: f32}}
adapter: {{r: 64, lora_alpha: 64, target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]}}
data: {{train: {folder}/train.jsonl, max_length: 512}}
training: {{num_train_epochs: {options.epochs}, gradient_accumulation_steps: 2, learning_rate: 2.0e-3, warmup_ratio: 0.05, seed: 1}}
output: {{dir: {folder}/out}}
""")
    tool, started = options.tool, time.time()
    subprocess.run([tool, "train", folder / "recipe.yaml"], check=True, stdout=sys.stderr)
    result = {"train_secs": round(time.time() - started, 1), "rows": len(seen)}
    for name, pairs in [("heard", seen[:200]), ("unheard", unseen), ("exchanged", exchanged)]:
        output = folder / f"{name}.answers.jsonl"
        subprocess.run([tool, "generate", "--model", folder / "model", "--adapter", folder / "out/adapter", "--input", folder / f"{name}.jsonl",
                        "--output", output, "--temperature", "0", "--max-tokens", "24"], check=True, stderr=subprocess.DEVNULL)
        answers = [json.loads(line) for line in output.read_text().splitlines()]
        result[name] = f"{sum(a['completion'].strip() == a['said'] for a in answers)} of {len(pairs)}"
    print(json.dumps(result))


main()
