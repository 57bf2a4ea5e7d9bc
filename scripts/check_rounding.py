#!/usr/bin/env python3
"""How far rounded inputs move the logits of a GGUF file: `--compute-dtype int8` of gemma-tune, and llama.cpp, against exact products.

    cargo build --release
    pip install llama-cpp-python safetensors numpy
    python3 scripts/check_rounding.py --model F.gguf --text measured.txt

`kl` is the mean divergence in nats a token from `gemma-tune score --compute-dtype f32` of the same file, `same` the share of tokens whose
most likely successor is the same. One JSON object comes out. Made with llama-cpp-python 0.3.36.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import bench_arguments

ROW = 250  # tokens

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a .gguf file")
parser.add_argument("--text", type=Path, required=True)
parser.add_argument("--tokens", type=int, default=2000)
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


class Agreement:
    """Sums over tokens."""

    def __init__(self):
        self.kl, self.same, self.tokens = 0.0, 0, 0

    def take(self, exact, other):
        p, q = log_softmax(exact), log_softmax(other)
        self.kl += float((np.exp(p) * (p - q)).sum())
        self.same += int((p.argmax(1) == q.argmax(1)).sum())
        self.tokens += len(p)

    def said(self):
        return dict(kl=self.kl / self.tokens, same=round(self.same / self.tokens, 4), tokens=self.tokens)


def main():
    import llama_cpp
    from safetensors import safe_open

    llama = llama_cpp.Llama(str(args.model), n_ctx=ROW + 6, n_batch=ROW + 6, logits_all=True, verbose=False)
    tokens = llama.tokenize(args.text.read_bytes(), add_bos=False)[: args.tokens]
    rows = [[llama.token_bos(), *tokens[at:at + ROW]] for at in range(0, len(tokens), ROW)]
    with tempfile.TemporaryDirectory() as work:
        ids = Path(work) / "rows.jsonl"
        ids.write_text("".join(json.dumps(dict(input_ids=row)) + "\n" for row in rows))

        def logits(dtype):
            out = Path(work) / f"{dtype}.safetensors"
            command = [args.tool, "score", "--model", args.model, "--input", ids, "--output", Path(work) / "scores.jsonl", "--logits", out]
            subprocess.run([*command, "--compute-dtype", dtype], check=True)
            return safe_open(out, "numpy")

        exact, rounded = logits("f32"), logits("int8")
        agreements = dict(gemma_tune=Agreement(), llama_cpp=Agreement())
        for row, name in zip(rows, sorted(exact.keys(), key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])):
            expected = exact.get_tensor(name)
            agreements["gemma_tune"].take(expected, rounded.get_tensor(name))
            llama.reset()
            llama.eval(row)
            agreements["llama_cpp"].take(expected, np.asarray(llama.scores[: len(row)]))
    print(json.dumps({name: agreement.said() for name, agreement in agreements.items()}))


main()
