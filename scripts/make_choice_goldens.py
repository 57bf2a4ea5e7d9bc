#!/usr/bin/env python3
"""Writes tests/goldens/eval/choices.json: how lm-evaluation-harness puts rows of ARC, HellaSwag, MMLU and PIQA; and beside it the
rows of ARC as arc.parquet, in the Hub's form.

Run: pip install lm_eval==0.4.13 pyarrow pyyaml && python3 scripts/make_choice_goldens.py
"""

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import lm_eval
import pyarrow
import pyarrow.parquet
import yaml
from lm_eval.utils import apply_template

OUTPUT = Path(__file__).resolve().parent.parent / "tests/goldens/eval/choices.json"
TASKS = Path(lm_eval.__file__).parent / "tasks"

ROWS = {
    "arc/arc_easy.yaml": [
        {"question": "Which is warm?", "choices": {"text": ["ice", "the sun"], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": "Two?\nLines ", "choices": {"text": ["1", "2", "3"], "label": ["1", "2", "3"]}, "answerKey": "1"},
    ],
    "arc/arc_challenge.yaml": [
        {"question": "Why {{x}}?", "choices": {"text": ["a ", " b", "c", "d", "e"], "label": list("ABCDE")}, "answerKey": "E"},
    ],
    "hellaswag/hellaswag.yaml": [
        {"activity_label": "Cleaning", "ctx_a": "A man [header] wipes  it.", "ctx_b": "THE man", "label": "1",
         "endings": ["goes [title] on.", " stops [step] there. ", "[substeps] x", "y   z"]},
        {"activity_label": "Éte", "ctx_a": "[title] How to [b] sit", "ctx_b": "", "label": "0", "endings": ["a", "b", "c", "d"]},
        {"activity_label": "Lines", "ctx_a": "one [a\nb] two", "ctx_b": "ßtraße OF", "label": "3", "endings": ["w", "x", "y", "z"]},
    ],
    "piqa/piqa.yaml": [
        {"goal": "To open a jar, ", "sol1": "Turn the lid.", "sol2": "Turn the jar's  bottom.", "label": 1},
    ],
    "mmlu/default/mmlu_high_school_physics.yaml": [
        {"question": " What falls? ", "subject": "high_school_physics", "choices": ["ink", "air", "fog", "sky"], "answer": 0},
    ],
}  # fmt: skip


def read(path):
    """A task's YAML with what it includes, without its Python."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    task = yaml.load(path.read_text(), Loader)
    if "include" in task:
        task = read(path.parent / task["include"]) | task
    return task


def hellaswag(row):
    spec = importlib.util.spec_from_file_location("utils", TASKS / "hellaswag/utils.py")
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    import datasets

    return utils.process_docs(datasets.Dataset.from_list([row]))[0]


def put(task, row):
    doc = hellaswag(row) if task["task"] == "hellaswag" else row
    of = lambda key: apply_template(task[key], doc) if "{" in str(task[key]) else doc.get(task[key], task[key])
    choices = task["doc_to_choice"]
    if isinstance(choices, str):
        choices = of("doc_to_choice")
    if isinstance(choices, str):
        choices = eval(choices)
    right = of("doc_to_target")
    return {"context": task.get("description", "") + of("doc_to_text"), "choices": choices, "right": int(right)}


def main():
    cases = []
    for path, rows in ROWS.items():
        task = read(TASKS / path)
        cases += [{"row": row, "asked": put(task, row)} for row in rows]
    golden = {"versions": {"lm_eval": importlib.metadata.version("lm_eval")}, "cases": cases}
    arc = [row for path, rows in ROWS.items() if path.startswith("arc") for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(arc), OUTPUT.with_name("arc.parquet"))
    OUTPUT.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


main()
