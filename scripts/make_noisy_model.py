#!/usr/bin/env python3
"""Writes a copy of a model whose matrices have Gaussian noise added: no file of it lies on the grid of a quantised type, as a model does
that was once read from such a file.

    python3 scripts/make_noisy_model.py models/gemma-3-270m FOLDER [--noise 0.05] [--seed 0]

The noise is a share of each row's root mean square. The model is a folder of safetensors in BF16 or F32; everything else in it is copied.
Needs Python 3 alone; about four minutes for the 270M.
"""

import argparse
import array
import json
import math
import random
import shutil
import struct
import sys
from pathlib import Path

# A prime, so that no two rows start at the same value of the repeated noise.
BLOCK = 65521


def floats(dtype, data):
    """The numbers of little-endian bytes."""
    if dtype == "F32":
        values = array.array("f", data)
    else:
        # The upper half of each number's bits.
        words = bytearray(2 * len(data))
        words[2::4], words[3::4] = data[0::2], data[1::2]
        values = array.array("f", bytes(words))
    return values


def data_of(dtype, values):
    """The bytes of numbers, in BF16 rounded to the nearest."""
    if dtype == "F32":
        return values.tobytes()
    bits = array.array("I", values.tobytes())
    return array.array("H", ((word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in bits)).tobytes()


def with_noise(path, copy, share, noise):
    """Copies a safetensors file, each row of its matrices with noise added."""
    at = 0
    with open(path, "rb") as file, open(copy, "wb") as out:
        head = file.read(8)
        text = file.read(struct.unpack("<Q", head)[0])
        out.write(head + text)
        tensors = [entry for name, entry in json.loads(text).items() if name != "__metadata__"]
        for entry in sorted(tensors, key=lambda entry: entry["data_offsets"]):
            begin, end = entry["data_offsets"]
            dtype, shape = entry["dtype"], entry["shape"]
            if dtype not in ("BF16", "F32"):
                sys.exit(f"error: {path} holds {dtype}, and BF16 or F32 is read\nhint: `gemma-tune merge --dtype bf16` writes such a folder")
            if len(shape) < 2:
                out.write(file.read(end - begin))
                continue
            columns = math.prod(shape[1:])
            for _ in range(shape[0]):
                row = floats(dtype, file.read(columns * (4 if dtype == "F32" else 2)))
                size = share * math.sqrt(math.fsum(value * value for value in row) / columns)
                row = array.array("f", (value + size * noise[(at + i) % BLOCK] for i, value in enumerate(row)))
                at += columns
                out.write(data_of(dtype, row))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if sys.byteorder == "big":
        sys.exit("error: the numbers of this machine are big-endian, those of safetensors little-endian")
    files = sorted(arguments.model.glob("*.safetensors"))
    if not files:
        sys.exit(f"error: there is no .safetensors file in {arguments.model}")
    draw = random.Random(arguments.seed)
    noise = [draw.gauss(0, 1) for _ in range(BLOCK)]
    arguments.folder.mkdir(parents=True)
    for path in sorted(arguments.model.iterdir()):
        if path.is_file() and path not in files:
            shutil.copy(path, arguments.folder / path.name)
    for path in files:
        with_noise(path, arguments.folder / path.name, arguments.noise, noise)


if __name__ == "__main__":
    main()
