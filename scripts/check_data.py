#!/usr/bin/env python3
"""Checks the sample data in data/: every row parses, no question or answer appears twice, every answer keeps Marlow's style.

    python3 scripts/check_data.py

Needs Python 3.8 and nothing else. Prints one line per file, or the offending file and row.
"""

import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
GREETING, FAREWELL = "Ahoy! ", " Fair winds!"
FORMATS = {
    "prompt_completion.jsonl", "alpaca.json", "sharegpt.jsonl", "text.jsonl", "function_calling.jsonl", "preference.jsonl",
    "unpaired.jsonl", "prompt_only.jsonl",
}
ROWS_PER_FORMAT = 8


def main():
    seen = {}
    for name, least in (("marlow.jsonl", 240), ("marlow_eval.jsonl", 24), ("prompts.jsonl", 8)):
        found = rows(DATA / name)
        if len(found) < least:
            raise ValueError(f"data/{name} has {len(found)} rows, at least {least} are expected")
        for number, row in enumerate(found, 1):
            check(row["messages"], f"data/{name}:{number}", seen, is_prompt=name == "prompts.jsonl")
        print(f"data/{name}: {len(found)} rows")
    asked = [row["prompt"] for row in rows(DATA / "questions.jsonl")]
    if len(set(asked)) != len(asked):
        raise ValueError("data/questions.jsonl asks the same twice")
    print(f"data/questions.jsonl: {len(asked)} rows")
    routed = set()
    for name, least in (("routing.jsonl", 48), ("routing_eval.jsonl", 16)):
        found = rows(DATA / name)
        labels = [row["label"] for row in found]
        if len(found) < least or labels.count("local") != labels.count("remote") or set(labels) != {"local", "remote"}:
            raise ValueError(f"data/{name} has {len(found)} rows, at least {least} are expected, half of them for each side")
        for row in found:
            if row["prompt"] in routed:
                raise ValueError(f"data/{name} asks the same twice: {row['prompt']}")
            routed.add(row["prompt"])
        print(f"data/{name}: {len(found)} rows")
    for name in sorted(FORMATS):
        found = rows(DATA / "formats" / name)
        if len(found) != ROWS_PER_FORMAT:
            raise ValueError(f"data/formats/{name} has {len(found)} rows, {ROWS_PER_FORMAT} are expected")
        print(f"data/formats/{name}: {len(found)} rows")
    of_pairs = [("charts_preference.jsonl", 28), ("charts_preference_eval.jsonl", 8)]
    check_media(DATA / "charts", [("charts.jsonl", 28), ("charts_eval.jsonl", 8), *of_pairs])
    check_media(DATA / "speech", [("speech.jsonl", 24), ("speech_eval.jsonl", 8)])


def check_media(folder, files):
    """Checks that every picture or clip of these rows is there, and that none lies there unused."""
    used = set()
    for name, least in files:
        found = rows(folder / name)
        if len(found) < least:
            raise ValueError(f"{folder.name}/{name} has {len(found)} rows, at least {least} are expected")
        for row in found:
            if row.get("chosen") is not None and row["chosen"] == row["rejected"]:
                raise ValueError(f"{folder.name}/{name}: both answers are {row['chosen']}")
            parts = row.get("messages", row.get("prompt"))[0]["content"]
            used.update(part.get("image") or part.get("audio") for part in parts if part["type"] != "text")
        print(f"data/{folder.name}/{name}: {len(found)} rows")
    there = {str(path.relative_to(folder)) for path in folder.glob("*/*")}
    if used != there:
        raise ValueError(f"data/{folder.name}: used and there differ in {sorted(used ^ there)}")


def rows(path):
    """The rows of a .jsonl file, or the list in a .json file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines()]


def check(messages, place, seen, is_prompt):
    """Checks one conversation's order of turns, its style, and that nothing in it was seen before."""
    turns = [m["role"] for m in messages if m["role"] != "system"]
    if turns != (["user"] if is_prompt else ["user", "assistant"] * (len(turns) // 2)):
        raise ValueError(f"{place}: unexpected turns {turns}")
    questions = "\n".join(m["content"] for m in messages if m["role"] != "assistant")
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    for text in [questions, *answers]:
        key = text.lower().strip(" .?!")
        if key in seen:
            raise ValueError(f"{place}: the same text is in {seen[key]}")
        seen[key] = place
    for text in answers:
        if not (text.startswith(GREETING) and text.endswith(FAREWELL)):
            raise ValueError(f"{place}: an answer begins with `{GREETING.strip()}` and ends with `{FAREWELL.strip()}`")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, KeyError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
