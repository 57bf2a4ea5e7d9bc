#!/usr/bin/env python3
"""Measures the memory that preparing one large row takes, in every format: `scripts/bench_rows.py --model models/gemma-3-270m-q4_k_m.gguf`.

A row of 12 MB in each format is prepared by `data stats`, whose peak is compared with that of a row of a few bytes. `--binary`
names the program, `--megabytes` the row's size.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = "the a of and to in is you that it he was for on are with as his they at be this have from or one had by word".split()


def rows(size, rng):
    """A row of about `size` bytes in each format: the file's name, and its text."""
    text = " ".join(rng.choice(WORDS) for _ in range(size // 4))[:size]
    rare = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(size // 3))
    turns = [
        {"role": role, "content": text[start : start + 400]}
        for start in range(0, len(text) - 800, 800)
        for role, start in (("user", start), ("assistant", start + 400))
    ]
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]
    one_line = lambda row: json.dumps(row, ensure_ascii=False) + "\n"
    return {
        "text.jsonl": one_line({"text": text}),
        "book.txt": text,
        "rare characters.jsonl": one_line({"text": rare}),
        "one answer.jsonl": one_line({"messages": talk}),
        "many turns.jsonl": one_line({"messages": turns}),
        "pair.jsonl": one_line({"prompt": "hi", "completion": text}),
        "pair.csv": f'prompt,completion\nhi,"{text}"\n',
        "tokens.jsonl": one_line({"input_ids": [rng.randrange(200_000) for _ in range(size // 8)]}),
        "digits.jsonl": '{"input_ids": [' + ",".join(str(rng.randrange(1, 10)) for _ in range(size // 2)) + "]}\n",
    }


def peak_bytes(binary, model, data, folder):
    """The peak memory of preparing `data`, with a small row beside it so that there is something to train on."""
    on_long = "split" if data.suffix == ".txt" or "text" in data.name or "rare" in data.name else "truncate"
    small = folder / "small.jsonl"
    recipe = folder / "recipe.yaml"
    sources = "".join(f"    - {{path: '{path}'}}\n" for path in ([data] if data != small else []))
    sources += f"    - {{path: '{small}'}}\n" if on_long == "truncate" else ""
    long = f"  on_long: {on_long}\n" if on_long == "truncate" else ""
    recipe.write_text(f"model: {{base: '{model}'}}\ndata:\n{long}  train:\n{sources}output: {{dir: '{folder}/out'}}\n")
    cache = tempfile.mkdtemp(dir=folder)
    script = (
        "import resource,subprocess,sys;"
        "code=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL).returncode;"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);sys.exit(code)"
    )
    command = [sys.executable, "-c", script, binary, "data", "stats", str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, env={"GEMMA_TUNE_CACHE": cache, "PATH": "/usr/bin:/bin"})
    if done.returncode != 0:
        sys.exit(f"{data.name}: {done.stderr}")
    return int(done.stdout.split()[-1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model whose tokenizer is used")
    parser.add_argument("--binary", default="target/release/gemma-tune")
    parser.add_argument("--megabytes", type=int, default=12)
    arguments = parser.parse_args()
    model = Path(arguments.model).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        small = folder / "small.jsonl"
        small.write_text('{"prompt": "a", "completion": "b"}\n')
        without = peak_bytes(arguments.binary, model, small, folder)
        print(f"{'row':<24}{'MB':>7}{'peak MB':>9}{'of the row':>12}   without it {without / 1e6:.0f} MB")
        for name, text in rows(arguments.megabytes * 1_000_000, random.Random(1)).items():
            data = folder / name
            data.write_text(text)
            peak, size = peak_bytes(arguments.binary, model, data, folder), data.stat().st_size
            print(f"{name:<24}{size / 1e6:>7.1f}{peak / 1e6:>9.0f}{(peak - without) / size:>11.2f}x", flush=True)


if __name__ == "__main__":
    main()
