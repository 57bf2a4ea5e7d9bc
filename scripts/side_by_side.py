#!/usr/bin/env python3
"""Prints a run's base.jsonl and tuned.jsonl (made by `gemma-tune generate`) side by side, then what the run cost.

    python3 scripts/side_by_side.py RUN_FOLDER SECONDS
"""

import json
import shutil
import sys
import textwrap
from pathlib import Path

LABEL_COLUMNS = 10
SHOWN_CHARACTERS = 280


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    run, seconds = Path(sys.argv[1]), float(sys.argv[2])
    for base, tuned in zip(rows(run / "base.jsonl"), rows(run / "tuned.jsonl")):
        print()
        show("question", base["messages"][-1]["content"])
        show("base", base["completion"])
        show("tuned", tuned["completion"])
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    print(
        f"\ntraining {summary['seconds']:.0f} s, all after the build {seconds:.0f} s, "
        f"peak memory of training {summary['peak_rss_bytes'] / 1e9:.2f} GB"
    )
    return 0


def rows(path):
    """The objects of a jsonl file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def show(label, text):
    """Prints one labelled paragraph, cut to a readable length."""
    flat = " ".join(text.split()) or "(nothing)"
    if len(flat) > SHOWN_CHARACTERS:
        flat = flat[:SHOWN_CHARACTERS].rstrip() + " ..."
    columns = min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = textwrap.wrap(flat, max(columns - LABEL_COLUMNS, 30))
    for number, line in enumerate(lines):
        print(f"{label if number == 0 else '':<{LABEL_COLUMNS}}{line}")


if __name__ == "__main__":
    sys.exit(main())
