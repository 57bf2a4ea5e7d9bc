#!/usr/bin/env python3
"""Writes a model with random weights in the shape of a published Gemma 3 or 3n with its towers, and rows of tokens with pictures and
sounds for it, for benches: nothing is downloaded, nothing is learnt.

    python scripts/make_random_media_model.py configs/models/gemma-3-4b.json FOLDER [--layers N] [--rows 4] [--words 64]

FOLDER/model is the model, FOLDER/rows.jsonl the rows: each has one picture and, where the model hears, one sound of 10 seconds.
Needs transformers, torch and (for Gemma 3n) timm, which know the tensors of a configuration; none is held in memory.
"""

import argparse
import json
import math
import random
import struct
import wave
import zlib
from pathlib import Path

import torch
import transformers
from make_random_model import cut_layers, write


def png(path, side, draw):
    """A picture of random squares."""
    cell = side // 8
    colours = [[bytes(draw.randrange(256) for _ in range(3)) for _ in range(8)] for _ in range(8)]
    rows = b"".join(b"\0" + b"".join(colour * cell for colour in colours[y // cell]) for y in range(8 * cell))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", 8 * cell, 8 * cell, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def wav(path, seconds, draw):
    """A sound of a few tones."""
    tones = [draw.uniform(100, 3000) for _ in range(5)]
    samples = (sum(math.sin(2 * math.pi * tone * t / 16000) for tone in tones) / 5 for t in range(seconds * 16000))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"".join(struct.pack("<h", int(20000 * sample)) for sample in samples))


def tensors(config):
    """Every tensor's name and shape, as the modules of transformers are called."""
    kind = getattr(transformers, config.architectures[0])
    with torch.device("meta"):
        model = kind(config)
    tied = {"lm_head.weight"} if config.get_text_config().tie_word_embeddings else set()
    return [(name, list(tensor.shape)) for name, tensor in model.state_dict().items() if name not in tied]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="decoder layers, if fewer than published")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--words", type=int, default=64, help="words in a row beside its media")
    arguments = parser.parse_args()
    keys = json.loads(arguments.config.read_text())
    if arguments.layers:
        cut_layers(keys["text_config"], arguments.layers)
    model = arguments.folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text(json.dumps(keys, indent=2) + "\n")
    config = transformers.AutoConfig.from_pretrained(model)
    write(model / "model.safetensors", tensors(config))

    hears = hasattr(config, "audio_config")
    size = 768 if hears else config.vision_config.image_size
    mean = [0.0, 0.0, 0.0] if hears else [0.5, 0.5, 0.5]
    image = {
        "image_processor_type": "SiglipImageProcessor" if hears else "Gemma3ImageProcessor",
        "do_resize": True, "size": {"height": size, "width": size}, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": not hears, "image_mean": mean, "image_std": [0.5, 0.5, 0.5],
    }
    processor = "Gemma3nProcessor" if hears else "Gemma3Processor"
    (model / "preprocessor_config.json").write_text(json.dumps({**image, "processor_class": processor}, indent=2) + "\n")

    draw = random.Random(0)
    at = lambda name: getattr(config, f"{name}_token_id" if hears else f"{name}_token_index")
    with open(arguments.folder / "rows.jsonl", "w") as file:
        for number in range(arguments.rows):
            words = [draw.randrange(1000, 200_000) for _ in range(arguments.words)]
            tokens = config.vision_soft_tokens_per_image if hears else config.mm_tokens_per_image
            ids = [2, at("boi"), *[at("image")] * tokens, at("eoi")]
            row = {"images": [f"{number}.png"]}
            png(arguments.folder / f"{number}.png", 512, draw)
            if hears:
                ids += [at("boa"), *[at("audio")] * config.audio_soft_tokens_per_image, at("eoa")]
                row["audios"] = [f"{number}.wav"]
                wav(arguments.folder / f"{number}.wav", 10, draw)
            file.write(json.dumps({"input_ids": ids + words, **row}) + "\n")


if __name__ == "__main__":
    main()
