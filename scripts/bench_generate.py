#!/usr/bin/env python3
"""Times greedy decoding from a GGUF file: gemma-tune against llama.cpp on the same file.

    cargo build --release
    python3 scripts/bench_generate.py --model path/to/gemma-3-270m-q4_k_m.gguf

The rate is that of the tokens after the prompt and the first of them: two runs of different length, the difference of their times.
`--sequences` answers so many prompts in one batch, `--drafts` guesses so many tokens at once, `--words` makes the prompt longer.
llama.cpp is asked through `llama_cpp` (pip's llama-cpp-python), where it is installed, for one sequence. One JSON object comes out.
"""
import argparse, json, statistics, subprocess, tempfile, time

import bench_arguments

PROMPT = "The history of the lighthouse begins"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a .gguf file")
parser.add_argument("--tokens", type=int, default=128)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--sequences", type=int, default=1, help="prompts of a batch")
parser.add_argument("--drafts", type=int, default=0, help="tokens that are guessed at once")
parser.add_argument("--words", type=int, default=6, help="words of the prompt")
parser.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()
words = PROMPT.split()
prompt = " ".join(words[at % len(words)] for at in range(args.words))
prompts = tempfile.NamedTemporaryFile("w", suffix=".jsonl")
prompts.writelines(json.dumps({"prompt": prompt}) + "\n" for _ in range(args.sequences))
prompts.flush()


def ours(tokens):
    command = [args.tool, "generate", "--model", args.model, "--raw", "--input", prompts.name, "--max-tokens", str(tokens)]
    command += ["--batch-size", str(args.sequences)]
    command += ["--drafts", str(args.drafts)] if args.drafts else []
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    return seconds, sum(json.loads(row)["tokens"] for row in done.stdout.splitlines())


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
        model.eval(model.tokenize(prompt.encode(), add_bos=True))
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
result = {"tokens": args.tokens, "sequences": args.sequences, "drafts": args.drafts, "gemma_tune": summary([ours for ours, _ in pairs])}
if llama_rate:
    result["llama_cpp"] = summary([theirs for _, theirs in pairs])
    result["ratio"] = round(statistics.median(ours / theirs for ours, theirs in pairs), 3)
print(json.dumps(result, indent=1))
