#!/usr/bin/env python3
"""Draws the pictures of data/charts: bar charts and receipts, with a question about each. Needs Pillow.

usage: make_charts.py [FOLDER]      (default: data/charts; made with pillow 12.2.0)

  pictures/*.png     what was drawn, 224 pixels wide
  charts.jsonl       rows to learn from, in the `messages` format
  charts_eval.jsonl  rows to evaluate on, about pictures that are not among those
  charts_preference.jsonl, charts_preference_eval.jsonl    the same as pairs: what is rejected is right of another picture
"""
import json
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "data/charts")
COLOURS = {"red": (205, 55, 50), "blue": (50, 90, 200), "green": (60, 150, 70), "orange": (235, 145, 40), "purple": (130, 70, 160)}
GOODS = ["bread", "milk", "apples", "coffee", "soap", "rice", "paper", "tea"]


def font(size):
    return ImageFont.load_default(size)


def chart(rng, path):
    names = rng.sample(list(COLOURS), 4)
    heights = rng.sample(range(2, 10), 4)
    image = Image.new("RGB", (224, 168), "white")
    draw = ImageDraw.Draw(image)
    draw.line((24, 8, 24, 144, 216, 144), fill="black", width=2)
    for i, (name, height) in enumerate(zip(names, heights)):
        x = 38 + 46 * i
        draw.rectangle((x, 144 - 14 * height, x + 28, 143), fill=COLOURS[name])
        draw.text((x + 14, 156), name, fill="black", anchor="mm", font=font(11))
        draw.text((x + 14, 136 - 14 * height), str(height), fill="black", anchor="mm", font=font(11))
    image.quantize(32).save(path, optimize=True)
    order = sorted(zip(heights, names))
    return [("Which bar is the tallest?", f"The {order[-1][1]} one, with {order[-1][0]}."),
            ("Which bar is the shortest?", f"The {order[0][1]} one, with {order[0][0]}.")]


def receipt(rng, path):
    goods = rng.sample(GOODS, 3)
    cents = [rng.randrange(60, 990) for _ in goods]
    image = Image.new("RGB", (224, 168), (250, 248, 240))
    draw = ImageDraw.Draw(image)
    draw.text((112, 16), "CORNER SHOP", fill="black", anchor="mm", font=font(16))
    money = lambda c: f"{c // 100}.{c % 100:02d}"
    for i, (name, c) in enumerate(zip(goods, cents)):
        draw.text((20, 40 + 24 * i), name, fill="black", font=font(14))
        draw.text((204, 40 + 24 * i), money(c), fill="black", anchor="ra", font=font(14))
    draw.line((20, 116, 204, 116), fill="black")
    draw.text((20, 126), "TOTAL", fill="black", font=font(16))
    draw.text((204, 126), money(sum(cents)), fill="black", anchor="ra", font=font(16))
    image.quantize(16).save(path, optimize=True)
    return [("What is the total?", money(sum(cents))), ("What was bought?", ", ".join(goods))]


def pairs(rows):
    """Each row beside an answer to the same question about the next picture of which that is another one."""
    question = lambda row: row["messages"][0]["content"][1]["text"]
    made = []
    for at, row in enumerate(rows):
        asked, chosen = row["messages"]
        others = [other["messages"][1] for other in rows[at + 1 :] + rows[:at] if question(other) == question(row)]
        rejected = next(other for other in others if other != chosen)
        made.append({"prompt": [asked], "chosen": [chosen], "rejected": [rejected]})
    return made


def main():
    (OUT / "pictures").mkdir(parents=True, exist_ok=True)
    rng = random.Random(11)
    for name, charts, receipts in [("charts", 8, 6), ("charts_eval", 2, 2)]:
        rows = []
        for draw, kind, count in [(chart, "chart", charts), (receipt, "receipt", receipts)]:
            for i in range(count):
                file = f"{kind}{'_eval' if name.endswith('eval') else ''}_{i + 1}.png"
                for question, answer in draw(rng, OUT / "pictures" / file):
                    parts = [{"type": "image", "image": f"pictures/{file}"}, {"type": "text", "text": question}]
                    rows.append({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]})
        for file, made in [(name, rows), (name.replace("charts", "charts_preference"), pairs(rows))]:
            (OUT / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))


main()
