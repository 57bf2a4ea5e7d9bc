"""Arguments that the benches share, checked before anything runs."""

import argparse
import os
import shutil


def dtypes(words):
    """What the other library computes in: without words f32, and bf16 where the processor has instructions for it, since it is
    75 times slower than f32 where it has none."""
    return words.split(",") if words else ["float32"] + ["bfloat16"] * multiplies_bf16()


def fastest_dtype():
    """What the base is held in, and with it computed in, where nothing is asked for: bf16 where the others may compute in it."""
    return "bf16" if multiplies_bf16() else "f32"


def multiplies_bf16():
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line.split(":")[1].split() for line in file if line.startswith(("flags", "Features"))), [])
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def program(path):
    """The gemma-tune that is measured."""
    if shutil.which(path) is None:
        raise argparse.ArgumentTypeError(f"there is no program `{path}`: run `cargo build --release`, or name another one")
    return path


def model(path):
    """A model's folder, or its .gguf file."""
    if not os.path.exists(path):
        raise argparse.ArgumentTypeError(
            f"there is no `{path}`: `python3 scripts/fetch_gemma_270m.py` fetches models/gemma-3-270m-q4_k_m.gguf; the folder"
            " comes from the Hub (google/gemma-3-270m)"
        )
    return path
