#!/usr/bin/env python3
"""Times greedy decoding of one sequence from a GGUF file: gemma-tune against llama.cpp on the same file.

    cargo build --release
    python3 scripts/bench_generate.py --model path/to/gemma-3-270m-q4_k_m.gguf

The rate is that of the tokens after the prompt and the first of them: two runs of different length, the difference of their times.
llama.cpp is asked through `llama_cpp` (pip's llama-cpp-python), where it is installed. One JSON object comes out.
"""
import argparse, json, statistics, subprocess, time

import bench_arguments

PROMPT = "The history of the lighthouse begins"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a .gguf file")
parser.add_argument("--tokens", type=int, default=128)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def ours(tokens):
    command = [args.tool, "generate", "--model", args.model, "--raw", "--prompt", PROMPT, "--max-tokens", str(tokens), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    return seconds, json.loads(done.stdout)["tokens"]


def our_rate():
    (short, few), (long, many) = ours(1), ours(1 + args.tokens)
    return (many - few) / (long - short)


def llama_rates():
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    model = Llama(args.model, n_ctx=1024, n_threads=args.threads, n_threads_batch=args.threads, verbose=False)

    def rate():
        model.reset()
        model.eval(model.tokenize(PROMPT.encode(), add_bos=True))
        token = model.sample(temp=0.0)
        start = time.perf_counter()
        for _ in range(args.tokens):
            model.eval([token])
            token = model.sample(temp=0.0)
        return args.tokens / (time.perf_counter() - start)

    return rate


def summary(rates):
    return {"tokens_per_second": statistics.median(rates), "runs": [round(rate, 1) for rate in rates]}


llama_rate = llama_rates()
pairs = [(our_rate(), llama_rate() if llama_rate else None) for _ in range(args.runs)]
result = {"tokens": args.tokens, "gemma_tune": summary([ours for ours, _ in pairs])}
if llama_rate:
    result["llama_cpp"] = summary([theirs for _, theirs in pairs])
    result["ratio"] = round(statistics.median(ours / theirs for ours, theirs in pairs), 3)
print(json.dumps(result, indent=1))
