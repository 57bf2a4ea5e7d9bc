#!/usr/bin/env python3
"""Times greedy decoding from a GGUF file: gemma-tune against llama.cpp on the same file.

    cargo build --release
    python3 scripts/bench_generate.py --model path/to/gemma-3-270m-q4_k_m.gguf

The rate is that of the tokens after the prompt and the first of them: two runs of different length, the difference of their times.
`--sequences` answers so many prompts in one batch, `--drafts` guesses so many tokens at once, `--words` makes the prompt longer, and
`--reading` times that prompt itself, which then has `--words` words, against a short one.
llama.cpp is asked through `llama_cpp` (pip's llama-cpp-python), where it is installed, for one sequence. One JSON object comes out.
"""
import argparse, json, statistics, subprocess, tempfile, time

import bench_arguments

PROMPT = "The history of the lighthouse begins"
SHORT = 6  # words

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a .gguf file")
parser.add_argument("--tokens", type=int, default=128)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--sequences", type=int, default=1, help="prompts of a batch")
parser.add_argument("--drafts", type=int, default=0, help="tokens that are guessed at once")
parser.add_argument("--words", type=int, default=6, help="words of the prompt")
parser.add_argument("--reading", action="store_true", help="time the prompt, not the answer")
parser.add_argument("--compute-dtype", default="auto", help="f32 or int8; auto is f32")
parser.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
args = parser.parse_args()


def prompt_of(words):
    text = PROMPT.split()
    return " ".join(text[at % len(text)] for at in range(words))


def ours(tokens, words=args.words):
    """Seconds, and tokens of all answers."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as prompts:
        prompts.writelines(json.dumps({"prompt": prompt_of(words)}) + "\n" for _ in range(args.sequences))
        prompts.flush()
        command = [args.tool, "generate", "--model", args.model, "--raw", "--input", prompts.name, "--max-tokens", str(tokens)]
        command += ["--batch-size", str(args.sequences), "--compute-dtype", args.compute_dtype]
        command += ["--drafts", str(args.drafts)] if args.drafts else []
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return time.perf_counter() - start, sum(json.loads(row)["tokens"] for row in done.stdout.splitlines())


def our_rate():
    if args.reading:
        short, long = ours(1, SHORT), ours(1)
        return args.sequences * (args.words - SHORT) / (long[0] - short[0])
    (short, few), (long, many) = ours(1), ours(1 + args.tokens)
    return (many - few) / (long - short)


def llama_rates():
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    model = Llama(args.model, n_ctx=max(1024, 2 * args.words), n_batch=max(512, 2 * args.words), n_ubatch=512, n_threads=args.threads, n_threads_batch=args.threads, verbose=False)

    def read(words):
        model.reset()
        tokens = model.tokenize(prompt_of(words).encode(), add_bos=True)
        start = time.perf_counter()
        model.eval(tokens)
        return time.perf_counter() - start

    def rate():
        if args.reading:
            return (args.words - SHORT) / (read(args.words) - read(SHORT))
        model.reset()
        model.eval(model.tokenize(prompt_of(args.words).encode(), add_bos=True))
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
result = {"reading": args.reading, "compute_dtype": args.compute_dtype, "tokens": args.tokens, "words": args.words, "sequences": args.sequences, "drafts": args.drafts, "gemma_tune": summary([ours for ours, _ in pairs])}
if llama_rate:
    result["llama_cpp"] = summary([theirs for _, theirs in pairs])
    result["ratio"] = round(statistics.median(ours / theirs for ours, theirs in pairs), 3)
print(json.dumps(result, indent=1))
