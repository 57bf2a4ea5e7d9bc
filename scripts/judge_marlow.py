#!/usr/bin/env python3
"""A reward for recipes/grpo_marlow.yaml: how near an answer is to one sentence in Marlow's manner.

Reads a line of JSON for each answer, with `prompt`, `completion` and the other columns of the row, and writes a line with a number: a
quarter each for beginning with "Ahoy!", for ending with "Fair winds!", for saying one sentence between the two, and for saying it in
at most twelve words.
"""
import json
import re
import sys

MOST_WORDS = 12


def score(completion):
    said = completion.strip()
    begins, ends = said.startswith("Ahoy!"), said.endswith("Fair winds!")
    between = said.removeprefix("Ahoy!").removesuffix("Fair winds!").strip()
    sentences = len(re.findall(r"[.!?]+(?:\s|$)", between))
    words = len(between.split())
    one = 1.0 if sentences == 1 else 0.0
    short = min(1.0, MOST_WORDS / words) if words else 0.0
    return (begins + ends + one + short) / 4


for line in sys.stdin:
    print(score(json.loads(line)["completion"]), flush=True)
