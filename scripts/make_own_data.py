#!/usr/bin/env python3
"""Makes data as people have it: 60 facts of an invented shop, each asked for in four ways, in every kind of file.

    python3 scripts/make_own_data.py FOLDER

Writes the 240 questions and answers as `comma.csv`, `semicolon.csv`, `bom.csv` (UTF-8 with a mark), `cp1252.csv`, `alpaca.json`,
`chat.jsonl`, `sharegpt.jsonl` and, where pyarrow is installed, `sharegpt.parquet`; a folder `notes/` of .txt files that tell the same
facts; and what is asked afterwards: `trained.jsonl` (the questions) and `unseen.jsonl` (two more ways to ask for each fact), rows of
`{"prompt", "fact"}`, where `fact` are the words that a right answer has. Needs Python 3.8 and nothing else.
"""

import argparse
import csv
import json
from pathlib import Path

# Each kind of fact: its subjects with their facts, the answer, four questions to learn from, two that are only asked.
KINDS = [
    {
        "facts": {
            "the garden department": "Odile Marchetti",
            "the bicycle workshop": "Henrik Solberg",
            "the toy department": "Priya Raman",
            "the bakery": "Tomasz Wilk",
            "the warehouse": "Imani Okafor",
            "the lamp department": "Greta Lindqvist",
            "the returns desk": "Callum Reid",
            "the paint counter": "Yuki Tanabe",
            "the delivery team": "Rosa Delgado",
            "the book corner": "Anselm Hofer",
        },
        "answer": "{fact} is in charge of {subject}.",
        "learn": [
            "Who is in charge of {subject}?",
            "Who runs {subject}?",
            "Which person leads {subject}?",
            "Tell me who heads {subject}.",
        ],
        "ask": ["Who is responsible for {subject}?", "Can you tell me who leads {subject}?"],
    },
    {
        "facts": {
            "Nimbus kettle": "48 euros",
            "Orchard ladder": "115 euros",
            "Pebble lamp": "27 euros",
            "Falcon drill": "139 euros",
            "Marlow teapot": "34 euros",
            "Tundra blanket": "62 euros",
            "Cobalt saucepan": "55 euros",
            "Willow basket": "19 euros",
            "Ember stove": "410 euros",
            "Sparrow radio": "73 euros",
        },
        "answer": "The {subject} costs {fact}.",
        "learn": [
            "What does the {subject} cost?",
            "How much is the {subject}?",
            "What is the price of the {subject}?",
            "Tell me the price of the {subject}.",
        ],
        "ask": ["How much does the {subject} cost?", "What do I pay for the {subject}?"],
    },
    {
        "facts": {
            "Harbour Street": "half past seven",
            "Linden Square": "nine o'clock",
            "Mill Lane": "quarter past ten",
            "North Gate": "six o'clock",
            "Castle Hill": "half past eleven",
            "River Walk": "eight o'clock",
            "Station Road": "half past five",
            "Abbey Close": "ten o'clock",
            "Market Row": "quarter to seven",
            "Quarry Bank": "noon",
        },
        "answer": "The {subject} branch opens at {fact}.",
        "learn": [
            "When does the {subject} branch open?",
            "What time does the {subject} branch open?",
            "At what time does the branch in {subject} open?",
            "Tell me when the {subject} branch opens.",
        ],
        "ask": ["From what time is the {subject} branch open?", "When can I come to the {subject} branch?"],
    },
    {
        "facts": {
            "spare keys": "in the blue cabinet",
            "first aid kits": "under the stairs",
            "ladders": "behind the boiler",
            "gift paper": "in the third drawer",
            "old invoices": "in the attic",
            "fire blankets": "beside the oven",
            "name badges": "in the tin box",
            "umbrellas": "at the back door",
            "price labels": "on the top shelf",
            "trolleys": "in the courtyard",
        },
        "answer": "The {subject} are kept {fact}.",
        "learn": [
            "Where are the {subject} kept?",
            "Where do we keep the {subject}?",
            "Where can I find the {subject}?",
            "Tell me where the {subject} are.",
        ],
        "ask": ["In which place are the {subject}?", "Where do I look for the {subject}?"],
    },
    {
        "facts": {
            "Bramble table": "walnut",
            "Heron chair": "bamboo",
            "Juniper bowl": "copper",
            "Lark tray": "slate",
            "Meadow vase": "porcelain",
            "Otter bench": "oak",
            "Puffin cup": "enamel",
            "Raven desk": "steel",
            "Thistle rug": "wool",
            "Wren clock": "brass",
        },
        "answer": "The {subject} is made of {fact}.",
        "learn": [
            "What is the {subject} made of?",
            "Which material is the {subject} made from?",
            "What material is the {subject}?",
            "Tell me what the {subject} is made of.",
        ],
        "ask": ["From what is the {subject} made?", "What is the material of the {subject}?"],
    },
    {
        "facts": {
            "spring sale": "Monday",
            "café quiz": "Thursday",
            "knife sharpening": "Tuesday morning",
            "pottery class": "Saturday",
            "stock count": "Sunday evening",
            "window cleaning": "Wednesday",
            "staff breakfast": "Friday",
            "glass delivery": "Monday night",
            "repair hour": "Tuesday evening",
            "story time": "Saturday morning",
        },
        "answer": "The {subject} is on {fact}.",
        "learn": [
            "On which day is the {subject}?",
            "When is the {subject}?",
            "What day is the {subject}?",
            "Tell me the day of the {subject}.",
        ],
        "ask": ["Which day of the week is the {subject}?", "On what day do we have the {subject}?"],
    },
]


def rows(which):
    """Question, answer and fact for the phrasings `learn` or `ask`: all subjects in one phrasing, then in the next."""
    for phrasing in range(len(KINDS[0][which])):
        for kind in KINDS:
            for subject, fact in kind["facts"].items():
                values = {"subject": subject, "fact": fact}
                question = kind[which][phrasing].format(**values)
                yield question[0].upper() + question[1:], kind["answer"].format(**values), fact


def sentence(text):
    return text[0].upper() + text[1:]


def write_csv(path, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["question", "answer"])
        writer.writerows((question, sentence(answer)) for question, answer, _ in rows("learn"))


def write_lines(path, objects):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in objects)


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": sentence(answer)}]}


def sharegpt(question, answer):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": sentence(answer)}]}


def write_notes(folder):
    """The same facts told as prose, a file a kind."""
    folder.mkdir(exist_ok=True)
    for number, kind in enumerate(KINDS, 1):
        told = [sentence(kind["answer"].format(subject=subject, fact=fact)) for subject, fact in kind["facts"].items()]
        lines = [f"Notes of the shop, page {number}.", ""] + told + ["", "Whoever works here should know this by heart.", ""]
        (folder / f"page_{number}.txt").write_text("\n".join(lines), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    write_csv(folder / "comma.csv")
    write_csv(folder / "semicolon.csv", delimiter=";")
    write_csv(folder / "bom.csv", encoding="utf-8-sig")
    write_csv(folder / "cp1252.csv", delimiter=";", encoding="cp1252")
    learnt = [(question, answer) for question, answer, _ in rows("learn")]
    alpaca = [{"instruction": question, "input": "", "output": sentence(answer)} for question, answer in learnt]
    (folder / "alpaca.json").write_text(json.dumps(alpaca, ensure_ascii=False, indent=1), encoding="utf-8")
    write_lines(folder / "chat.jsonl", (chat(*row) for row in learnt))
    write_lines(folder / "sharegpt.jsonl", (sharegpt(*row) for row in learnt))
    try:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pylist([sharegpt(*row) for row in learnt])
        pyarrow.parquet.write_table(table, folder / "sharegpt.parquet")
    except ImportError:
        print("sharegpt.parquet: left out, pyarrow is not installed")
    write_notes(folder / "notes")
    write_lines(folder / "trained.jsonl", ({"prompt": q, "fact": fact} for q, _, fact in rows("learn")))
    write_lines(folder / "unseen.jsonl", ({"prompt": q, "fact": fact} for q, _, fact in rows("ask")))
    print(f"{folder}: {len(learnt)} rows of {len(learnt) // 4} facts, and {len(learnt) // 2} questions that are in none of them")


if __name__ == "__main__":
    main()
