#!/usr/bin/env python3
"""Writes tests/goldens/eval/metrics.json: what sacrebleu, rouge-score and jiwer say of the same texts.

Run: pip install sacrebleu==2.6.0 rouge-score==0.1.2 jiwer==4.0.0 && python3 scripts/make_metric_goldens.py
"""

import importlib.metadata
import json
from pathlib import Path

import jiwer
import sacrebleu
from rouge_score import rouge_scorer

OUTPUT = Path(__file__).resolve().parent.parent / "tests/goldens/eval/metrics.json"

# An answer and its reference.
PAIRS = [
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("A cat was sitting on a mat", "The cat sat on the mat."),
    ("It costs $3,999.50 (about 4-5 % more), doesn't it?", "It costs $4,000.00 (about 5 % more), does it not?"),
    ("Der Hund läuft über die Straße - schnell!", "Der Hund lief über die Strasse; schnell!"),
    ("", "Nothing was said here."),
    ("Something was said.", "Nothing at all, not a word of it."),
    ("one  two\tthree\n\nfour", "one two three four"),
    ("line one\nline two", "line one line two"),
    ("hyphen-\nated &quot;quoted&quot; &amp; &lt;b&gt;", "hyphenated \"quoted\" & <b>"),
    ("你好，世界。今天天气很好", "你好，世界！今天的天气很好"),
    ("naïve café Ωmega ﬁnal K", "naive cafe omega final k"),
    ("e-mail: a.b@c.org, http://x.y/z?q=1&r=2", "email: a.b@c.org; http://x.y/z?q=1"),
    ("1.5 2,5 3-4 5.-6 .7 ,8 9.", "1.5 2.5 3-4 5-6 0.7 8 9"),
    ("the the the the the", "the cat the dog"),
    ("a", "a"),
    ("b", "a"),
    ("ab", "abc"),
    ("[x] {y} ~z` ^w_ `v` \\u/ <t> @s =r ;q :p", "[x] {y} z w v u t s r q p"),
    ("  spaces around  ", "spaces around"),
    ("Emoji 😀 count 👍🏽 too", "Emoji 😀 counts 👍 too"),
    ("no-break\u00a0space and\u2003em\u3000ideographic", "no-break space and em ideographic"),
    ("control\u001cseparated\u001ftext\u0085here", "control separated text here"),
    ("<skipped> words and <skipped>", "words and"),
    ("repeat me repeat me repeat me now", "repeat me now repeat me"),
    ("UPPER lower MiXeD", "upper LOWER mixed"),
    ("İstanbul'da hava güzel", "Istanbul'da hava güzel"),
    ("tabs\tand\ttabs", "tabs and tabs"),
    ("... , , ... !!! ???", "... !!! ???"),
    ("the quick brown fox jumps over the lazy dog again and again", "the quick brown fox jumped over a lazy dog again"),
    ("x" * 40 + " y", "x" * 39 + " y z"),
]
SETS = [[i] for i in range(len(PAIRS))] + [list(range(len(PAIRS))), list(range(0, len(PAIRS), 2)), [0, 1, 2, 3], [4, 5]]


def scores(rows):
    texts, references = zip(*(PAIRS[row] for row in rows))
    rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    return {
        "bleu": sacrebleu.BLEU().corpus_score(texts, [references]).score,
        "chrf": sacrebleu.CHRF().corpus_score(texts, [references]).score,
        "rouge_l": sum(rouge.score(r, t)["rougeL"].fmeasure for t, r in zip(texts, references)) / len(rows),
        "wer": jiwer.wer(list(references), list(texts)),
        "cer": jiwer.cer(list(references), list(texts)),
    }


def main():
    versions = {name: importlib.metadata.version(name) for name in ["sacrebleu", "rouge-score", "jiwer"]}
    golden = {"versions": versions, "pairs": PAIRS, "sets": [{"rows": rows, "scores": scores(rows)} for rows in SETS]}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


main()
