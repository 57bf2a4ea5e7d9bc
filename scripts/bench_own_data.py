#!/usr/bin/env python3
"""Trains on one's own data with one command, and asks for what was learnt.

    cargo build --release
    python3 scripts/bench_own_data.py --model models/gemma-3-270m-q4_k_m.gguf [--kinds comma.csv alpaca.json ..]

Makes the files of make_own_data.py, runs `gemma-tune train --model M --data FILE` for each of the kinds, asks the adapter all the
questions that it was trained on and two more for each fact, and counts the answers that have the fact. `--by-hand` also trains a
recipe that was tuned by hand for these rows, for its time. The folder of .txt files is trained and continued, not asked. One process
runs at a time: close everything else. One JSON object a kind comes out. Needs Python 3.8; pyarrow for sharegpt.parquet.
"""
import argparse, json, os, subprocess, sys, tempfile, time

import bench_arguments

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ["comma.csv", "semicolon.csv", "bom.csv", "cp1252.csv", "alpaca.json", "chat.jsonl", "sharegpt.jsonl", "sharegpt.parquet", "notes"]
# The best of what was tried for these rows: fewer passes or longer steps forget facts.
BY_HAND = {
    "data": {"max_length": 256},
    "training": {"gradient_accumulation_steps": 1, "num_train_epochs": 5, "learning_rate": 6e-4},
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=bench_arguments.model, required=True, help="a Hugging Face folder or a .gguf file")
parser.add_argument("--kinds", nargs="+", default=["comma.csv"], choices=KINDS)
parser.add_argument("--by-hand", action="store_true")
parser.add_argument("--tool", type=bench_arguments.program, default="target/release/gemma-tune")
parser.add_argument("--folder", help="keep everything here instead of in a temporary folder")
args = parser.parse_args()


def run(*words):
    """Seconds that a command takes; what it says goes to stderr."""
    started = time.time()
    subprocess.run([str(word) for word in words], check=True, stdout=sys.stderr)
    return round(time.time() - started, 1)


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def summary(out):
    with open(os.path.join(out, "summary.json")) as file:
        return json.load(file)


def ask(out, questions):
    """The share of questions whose answer has the fact."""
    answers = os.path.join(out, "answers_" + os.path.basename(questions))
    if os.path.exists(answers):
        os.remove(answers)
    run(args.tool, "generate", "--model", args.model, "--adapter", os.path.join(out, "adapter"),
        "--input", questions, "--output", answers, "--max-tokens", "32")
    rows = lines(answers)
    return round(sum(row["fact"].lower() in row["completion"].lower() for row in rows) / len(rows), 3)


def main(folder):
    data = os.path.join(folder, "data")
    run(sys.executable, os.path.join(HERE, "make_own_data.py"), data)
    for kind in args.kinds:
        out = os.path.join(folder, "out-" + kind)
        seconds = run(args.tool, "train", "--model", args.model, "--data", os.path.join(data, kind), "--output", out)
        said = summary(out)
        found = {"kind": kind, "seconds": seconds, "steps": said["steps"], "losses": [said["first_loss"], said["last_loss"]]}
        if kind == "notes":
            run(args.tool, "generate", "--model", args.model, "--adapter", os.path.join(out, "adapter"),
                "--prompt", "The Pebble lamp costs", "--max-tokens", "32")
        else:
            found.update({name: ask(out, os.path.join(data, name + ".jsonl")) for name in ("trained", "unseen")})
        print(json.dumps(found), flush=True)
    if args.by_hand:
        recipe, out = os.path.join(folder, "by_hand.yaml"), os.path.join(folder, "out-by-hand")
        rows = {"train": [{"path": os.path.join(data, "chat.jsonl"), "format": "messages"}]}
        with open(recipe, "w") as file:
            json.dump({"model": {"base": args.model}, "output": {"dir": out}, **BY_HAND, "data": {**BY_HAND["data"], **rows}}, file)
        print(json.dumps({"kind": "by hand", "seconds": run(args.tool, "train", recipe), "steps": summary(out)["steps"]}))


if args.folder:
    os.makedirs(args.folder, exist_ok=True)
    main(args.folder)
else:
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
