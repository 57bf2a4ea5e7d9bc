#!/usr/bin/env python3
"""Holds the GGUF files of `gemma-tune export gguf` against those that llama.cpp's own quantiser makes of the same f32 file.

    cargo build --release
    pip install llama-cpp-python gguf transformers torch safetensors
    python3 scripts/check_gguf.py MODEL_FOLDER --text measured.txt --work DIR
    python3 scripts/check_gguf.py MODEL_FOLDER --text measured.txt --calibrate other.txt --types Q4_K_M --mixture --work DIR

MODEL_FOLDER is a Hugging Face folder in f32; of a model which was once a quantised file, one that `make_noisy_model.py` makes of it, so that
the grid it was on favours nobody. For each type:

- `kl`: the mean divergence from the f32 model in nats a token, over the first `--tokens` tokens of the text, both files read by
  `gemma-tune score` with products in f32;
- `rmse`: root mean square errors of the quantised matrices, averaged;
- `same`: of `--prompts` prompts, those that llama.cpp continues by the 32 tokens that transformers does, greedily, and the tokens
  up to the first that differs (`tokens`);
- `bytes`, and the `seconds` of making the file, the median of `--runs`.

With `--tokens 0` no divergence is measured: the rest takes a minute.

`--calibrate` gives both quantisers the importance matrix of another text; `--mixture` adds ours of the size of llama.cpp's Q4_K_M. One line
of JSON a type comes out. Made with llama-cpp-python 0.3.36 and transformers 5.23.0.
"""

import argparse
import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

# llama.cpp's numbers of its kinds of files (`llama_ftype`).
TYPES = dict(F32=0, F16=1, BF16=32, Q8_0=7, Q6_K=18, Q5_K_M=17, Q5_K_S=16, Q5_1=9, Q5_0=8, Q4_K_M=15, Q4_K_S=14, Q4_1=3, Q4_0=2,
             IQ4_NL=25, IQ4_XS=30, Q3_K_L=13, Q3_K_M=12, Q3_K_S=11, Q2_K=10)

PROMPTS = [
    "The capital of France is", "Water is made of hydrogen and", "The quick brown fox jumps over", "In 1969, the first people",
    "My favourite recipe begins with", "The train to London leaves at", "def fibonacci(n):", "Dear Sir or Madam,",
    "The three primary colours are", "Once upon a time there was", "To install the program, first", "The human heart has",
    "Die Hauptstadt von Deutschland ist", "Le chat dort sur", "The largest planet of the solar system", "She opened the door and",
    "A good night's sleep", "The price of bread rose because", "Shakespeare wrote", "When the rain stopped, the children",
]
CONTINUED = 32  # tokens


class Tool:
    """`gemma-tune`, in the folder of this check."""

    def __init__(self, tool, model, text, tokens, work):
        self.tool, self.model, self.work = tool, model, work
        self.rows = work / "rows.jsonl"
        ids = self.tokenised(text, tokens) if tokens else []
        with open(self.rows, "w") as rows:
            for at in range(0, len(ids), 250):
                rows.write(json.dumps({"input_ids": [2, *ids[at:at + 250]]}) + "\n")
        self.reference = self.logits(model) if ids else None

    def tokenised(self, text, tokens):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model)(Path(text).read_text(), add_special_tokens=False)["input_ids"][:tokens]

    def run(self, *arguments):
        begun = time.monotonic()
        done = subprocess.run([self.tool, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"gemma-tune {' '.join(map(str, arguments))}\n{done.stderr}")
        return time.monotonic() - begun

    def logits(self, model):
        """The logits of all rows, a file that is read as it is asked for."""
        from safetensors import safe_open

        path = self.work / "logits" / f"{Path(model).name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        self.run("score", "--model", model, "--dtype", "f32", "--input", self.rows, "--output", self.work / "scores.jsonl", "--logits", path)
        return safe_open(path, "numpy")

    def divergence(self, file):
        """The mean of `KL(f32 || file)` over all tokens; nothing without a text."""
        if self.reference is None:
            return None
        other, total, tokens = self.logits(file), 0.0, 0
        for name in self.reference.keys():
            p, q = (log_softmax(logits.get_tensor(name)) for logits in (self.reference, other))
            total += float((np.exp(p) * (p - q)).sum())
            tokens += len(p)
        os.remove(self.work / "logits" / f"{Path(file).name}.safetensors")
        return total / tokens


def shared(text, other, words=8):
    """How many sequences of so many words two texts share: what is measured on is not to be calibrated on."""
    def sequences(path):
        said = re.findall(r"\w+", Path(path).read_text().lower())
        return {tuple(said[at:at + words]) for at in range(len(said) - words + 1)}

    return len(sequences(text) & sequences(other))


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def errors(whole, file):
    """The root mean square error of each matrix that is quantised in a file."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    def tensors(path):
        return {tensor.name: tensor for tensor in GGUFReader(path).tensors}

    def rmse(name, tensor):
        exact = wholes[name].data.astype(np.float32)
        return float(np.sqrt(np.mean((dequantize(tensor.data, tensor.tensor_type).reshape(exact.shape) - exact) ** 2)))

    wholes = tensors(whole)
    return {name: rmse(name, tensor) for name, tensor in tensors(file).items() if len(tensor.shape) == 2}


def quantised(whole, out, kind, importance, threads):
    """llama.cpp's own file; the seconds it took."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = TYPES[kind], threads
    held = importance and imatrix(importance)
    if held:
        parameters.imatrix = ctypes.cast(held, ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
    begun = time.monotonic()
    if llama_cpp.llama_model_quantize(str(whole).encode(), str(out).encode(), ctypes.byref(parameters)) != 0:
        sys.exit(f"llama.cpp does not quantise to {kind}")
    return time.monotonic() - begun


def imatrix(path):
    """An importance matrix as llama.cpp's quantiser takes it: names, and the mean square of each input."""
    import llama_cpp
    from gguf import GGUFReader

    tensors = {tensor.name: np.asarray(tensor.data, np.float32) for tensor in GGUFReader(path).tensors}
    entries = []
    for name in (name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")):
        means = np.ascontiguousarray((tensors[f"{name}.in_sum2"] / tensors[f"{name}.counts"].reshape(-1, 1)).reshape(-1))
        held_arrays.append(means)
        entries.append((name.encode(), means.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), means.size))
    return (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))(*entries)


held_arrays = []  # what llama.cpp has pointers to


def silence():
    """Keeps llama.cpp from telling of every tensor."""
    import llama_cpp

    nothing = llama_cpp.llama_log_callback(lambda level, text, data: None)
    held_arrays.append(nothing)
    llama_cpp.llama_log_set(nothing, ctypes.c_void_p())


def continued(file, prompts):
    """What llama.cpp says after each prompt, greedily."""
    import llama_cpp

    model = llama_cpp.Llama(str(file), n_ctx=256, n_threads=os.cpu_count(), n_threads_batch=os.cpu_count(), verbose=False)

    def after(ids):
        model.reset()
        model.eval(ids)
        said = []
        for _ in range(CONTINUED):
            said.append(int(np.argmax(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), (model.n_vocab(),)))))
            model.eval(said[-1:])
        return said

    return [after(ids) for ids in prompts]


def prompts_of(text, count):
    """The prompts, and where more are asked for beginnings of nine words from all over a text: so few answers are the same as a whole
    that twenty tell two files of four bits apart by chance alone."""
    words = Path(text).read_text().split() if count > len(PROMPTS) else []
    more = max(0, count - len(PROMPTS))
    step = max(1, len(words) // max(1, more))
    return PROMPTS[:count] + [" ".join(words[at:at + 9]) for at in range(0, len(words) - 9, step)][:more]


def wanted(folder, text, count):
    """Prompts as tokens, and what transformers says after each."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts, said = [tokenizer(prompt)["input_ids"] for prompt in prompts_of(text, count)], []
    for ids in prompts:
        out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=CONTINUED, min_new_tokens=CONTINUED)
        said.append(out[0, len(ids):].tolist())
    return prompts, said


def agreement(said, expected):
    """Whole answers that are the same, and tokens up to the first that differs."""
    common = [next((at for at, (a, b) in enumerate(zip(*pair)) if a != b), CONTINUED) for pair in zip(said, expected)]
    return dict(same=sum(count == CONTINUED for count in common), tokens=sum(common))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", help="what is measured on, a text file")
    parser.add_argument("--calibrate", help="a text for the importance matrix that both quantisers get")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the files, a few GB")
    parser.add_argument("--types", default=",".join(kind for kind in TYPES if kind != "F32"))
    parser.add_argument("--mixture", action="store_true", help="also ours of the size of llama.cpp's Q4_K_M, by measurement")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=0, help="greedy answers that are compared; beyond 20 to beginnings from the text")
    parser.add_argument("--runs", type=int, default=1, help="how often each file is made, in turns")
    parser.add_argument("--tool", default="target/release/gemma-tune")
    given = parser.parse_args()
    if given.text is None and (given.tokens or given.mixture or given.prompts > len(PROMPTS)):
        parser.error("--text is needed, or --tokens 0 and at most 20 prompts")
    given.work.mkdir(parents=True, exist_ok=True)
    silence()
    model = given.model
    tool = Tool(given.tool, model, given.text, given.tokens, given.work)
    whole = given.work / "whole.gguf"
    tool.run("export", "gguf", "--model", model, "--quant", "F32", "--output", whole)
    importance, weighed = None, []
    if given.calibrate:
        if given.text:
            print(json.dumps(dict(shared_sequences_of_8_words=shared(given.text, given.calibrate))), flush=True)
        importance = given.work / "imatrix.gguf"
        tool.run("export", "gguf", "--model", model, "--quant", "Q4_K_M", "--imatrix", given.calibrate, "--save-imatrix", importance,
                 "--output", given.work / "first.gguf")
        weighed = ["--imatrix", importance]
    prompts, expected = wanted(model, given.text, given.prompts) if given.prompts else ([], [])

    def facts(file, seconds):
        rmse = errors(whole, file)
        known = dict(bytes=file.stat().st_size, seconds=round(seconds, 1), kl=tool.divergence(file), rmse=float(np.mean(list(rmse.values()))))
        return known | (agreement(continued(file, prompts), expected) if prompts else {}), rmse

    def report(name, theirs, seconds_of_theirs, ours, seconds):
        (theirs, their_errors), (ours, our_errors) = facts(theirs, seconds_of_theirs), facts(ours, seconds)
        worse = [our_errors[name] / error for name, error in their_errors.items() if error > 0]
        rounded = any(worse)
        line = dict(type=name, llama_cpp=theirs, gemma_tune=ours)
        if tool.reference is not None:
            line |= dict(kl_ratio=round(ours["kl"] / theirs["kl"], 3))
        if rounded:
            line |= dict(rmse_ratio=round(float(np.mean(worse)), 4), largest_rmse_ratio=round(max(worse), 4))
        print(json.dumps(line), flush=True)

    for kind in given.types.split(","):
        theirs, ours = given.work / f"llama-{kind}.gguf", given.work / f"ours-{kind}.gguf"
        took = [], []
        for _ in range(given.runs):
            ours.unlink(missing_ok=True)
            took[0].append(quantised(whole, theirs, kind, importance, os.cpu_count()))
            took[1].append(tool.run("export", "gguf", "--model", whole, "--quant", kind, *weighed, "--output", ours))
        report(kind, theirs, statistics.median(took[0]), ours, statistics.median(took[1]))
    if given.mixture:
        theirs, ours = given.work / "llama-Q4_K_M.gguf", given.work / "mixture.gguf"
        took = quantised(whole, theirs, "Q4_K_M", importance, os.cpu_count())
        size = theirs.stat().st_size
        by = ["--imatrix", given.calibrate or given.text]
        report(f"mixture of {size} bytes", theirs, took, ours,
               tool.run("export", "gguf", "--model", model, *by, "--target-size", size, "--output", ours))


if __name__ == "__main__":
    main()
