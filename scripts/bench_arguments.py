"""Arguments that the benches share, checked before anything runs."""

import argparse
import os
import shutil


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
