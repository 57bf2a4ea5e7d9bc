#!/usr/bin/env python3
"""Asks a model the same questions by gemma-tune and by lm-evaluation-harness on transformers, and compares: log-likelihoods of
every choice, acc and acc_norm.

Run: pip install lm_eval==0.4.13 transformers torch datasets pyarrow
     python3 scripts/check_choices.py MODEL_FOLDER [--questions arc.parquet] [--rows 200] [--tool target/release/gemma-tune]

Without --questions it makes questions of ARC's form itself: sums, and which of four things is of a kind.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = {
    "animal": ["cat", "horse", "sparrow", "trout", "beetle", "goat", "whale", "frog"],
    "fruit": ["apple", "plum", "cherry", "banana", "lemon", "pear"],
    "metal": ["iron", "copper", "tin", "silver", "zinc", "lead"],
    "tool": ["hammer", "saw", "chisel", "wrench", "file", "drill press"],
    "planet": ["Mars", "Venus", "Saturn", "Neptune", "Mercury"],
    "piece of clothing": ["shirt", "pair of trousers", "scarf", "woollen hat", "coat"],
}


def questions(count):
    draw, rows = random.Random(20240229), []
    for number in range(count):
        if number % 2:
            one, other = draw.randint(2, 60), draw.randint(2, 60)
            right = one + other
            texts = [str(right)] + [str(right + by) for by in draw.sample([-10, -2, -1, 1, 2, 10], 3)]
            text = f"What is {one} plus {other}?"
        else:
            kind = draw.choice(sorted(KINDS))
            others = draw.sample(sorted(set(KINDS) - {kind}), 3)
            texts = [f"the {draw.choice(KINDS[name])}" for name in [kind, *others]]
            text = f"Which of these is {'an' if kind[0] in 'aeiou' else 'a'} {kind}?"
        order = draw.sample(range(4), 4)
        label = "ABCD" if number % 5 else "1234"
        rows.append({
            "id": f"made-{number}",
            "question": text,
            "choices": {"text": [texts[at] for at in order], "label": list(label)},
            "answerKey": label[order.index(0)],
        })
    return rows


def ours(tool, model, path, rows, folder):
    output = folder / "rows.jsonl"
    command = [tool, "evaluate", "--model", model, "--choices", path, "--limit", str(rows), "--output", output, "--json"]
    report = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout)
    scores = {metric["metric"]: metric["values"][0]["value"] for metric in report["metrics"]}
    sums = [json.loads(line)["loglikelihoods"][0] for line in output.read_text().splitlines()]
    return {"acc": scores["arc acc"], "acc_norm": scores["arc acc_norm"]}, sums


def theirs(model, path, folder, rows):
    import lm_eval
    import yaml
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    task = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/arc/arc_easy.yaml").read_text())
    kept = {key: task[key] for key in ["output_type", "doc_to_text", "doc_to_target", "doc_to_choice", "metric_list"]}
    kept |= {"task": "made", "dataset_path": "parquet", "dataset_kwargs": {"data_files": {"test": str(path)}}, "test_split": "test"}
    (folder / "made.yaml").write_text(yaml.safe_dump(kept))
    lm = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=4)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(lm, tasks=["made"], task_manager=manager, limit=rows, bootstrap_iters=0)
    samples = sorted(found["samples"]["made"], key=lambda sample: sample["doc_id"])
    scores = {name: found["results"]["made"][f"{name},none"] for name in ["acc", "acc_norm"]}
    return scores, [[sum for (sum, _) in sample["filtered_resps"]] for sample in samples]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model")
    arguments.add_argument("--questions", type=Path)
    arguments.add_argument("--rows", type=int, default=200)
    arguments.add_argument("--tool", default="target/release/gemma-tune")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = given.questions
        if path is None:
            import pyarrow
            import pyarrow.parquet

            path = folder / "made.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(questions(given.rows)), path)
        our_scores, our_sums = ours(given.tool, given.model, path, given.rows, folder)
        their_scores, their_sums = theirs(given.model, path, folder, given.rows)
    assert [len(row) for row in our_sums] == [len(row) for row in their_sums]
    gap = max(abs(a - b) for ours, theirs in zip(our_sums, their_sums) for a, b in zip(ours, theirs))
    print(f"{len(our_sums)} questions, {sum(map(len, our_sums))} choices: log-likelihoods at most {gap:.2e} nats apart")
    print(f"gemma-tune {our_scores}\nlm_eval    {their_scores}")
    if gap > 1e-3 or any(abs(our_scores[name] - their_scores[name]) > 1e-9 for name in our_scores):
        sys.exit("they differ")


main()
