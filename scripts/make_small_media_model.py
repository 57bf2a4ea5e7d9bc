#!/usr/bin/env python3
"""Writes two random models of half a megabyte, with tokenizer and processor, that take every recipe with pictures and sounds: one in the
shape of a Gemma 3 that sees, one in that of a Gemma 3n that sees and hears. They know nothing: what can be tried is whether a run works.

    python3 scripts/make_small_media_model.py FOLDER

FOLDER/gemma-3 and FOLDER/gemma-3n are those of the tests, the latter with places for sounds of 30 seconds, as published, where the tests
have some for one second. Needs Python 3 alone.
"""

import argparse
import json
import shutil
from pathlib import Path

GOLDENS = Path(__file__).resolve().parent.parent / "tests/goldens"
# Soft tokens of a published Gemma 3n, for the 30 seconds that it hears at once.
PLACES = 188


def set_key(path, key, value):
    """Changes a key of a JSON file."""
    keys = json.loads(path.read_text())
    keys[key] = value
    path.write_text(json.dumps(keys, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.copytree(GOLDENS / "multimodal/model", folder / "gemma-3", dirs_exist_ok=True)
    hears = Path(shutil.copytree(GOLDENS / "multimodal3n/model", folder / "gemma-3n", dirs_exist_ok=True))
    set_key(hears / "config.json", "audio_soft_tokens_per_image", PLACES)
    set_key(hears / "processor_config.json", "audio_seq_length", PLACES)


if __name__ == "__main__":
    main()
