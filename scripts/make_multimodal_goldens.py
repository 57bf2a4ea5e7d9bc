#!/usr/bin/env python3
"""Makes tests/goldens/multimodal: a tiny random Gemma 3 that sees, rows with pictures, and what transformers makes of them.

usage: make_multimodal_goldens.py [OUT]      (made with torch 2.15.0, transformers 5.23.0, pillow 12.2.0)

  model/              a whole model folder: config.json, model.safetensors (bf16; computed with in f32), the tiny tokenizer of
                      tests/goldens/tokenizer, processor_config.json
  pictures/           what the rows name
  rows.jsonl          conversations with none, one or several pictures
  golden.safetensors  of row <i>: row.<i>.input_ids, row.<i>.logits of the last tokens, row.<i>.pixel_values; the same under pan.<i> with pan and scan
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import (AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration,
                          Gemma3Processor)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

torch.set_num_threads(1)
HERE = Path(__file__).resolve().parent.parent
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "tests/goldens/multimodal")
SIDE, TOKENS = 32, 4
LIMITS = dict(pan_and_scan_min_crop_size=16, pan_and_scan_max_num_crops=4, pan_and_scan_min_ratio_to_activate=1.2)
LAST = 12  # tokens whose logits are kept


def randomize(model):
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if "embed" in name and p.ndim == 2 else p.shape[-1] ** -0.5
            value = torch.randn(p.shape, generator=g) * (0.1 if p.ndim == 1 else scale)
            if p.ndim == 1 and "norm" in name and "vision_tower" in name and name.endswith("weight"):
                value += 1  # layer norms of the tower; Gemma's own are 1 + w
            p.copy_(value.bfloat16().float())


def model(tokenizer):
    text = dict(vocab_size=520, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=1, head_dim=16, sliding_window=8, query_pre_attn_scalar=16, max_position_embeddings=2048,
                layer_types=["sliding_attention", "full_attention"], bos_token_id=2, eos_token_id=1, pad_token_id=0)
    vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
                  patch_size=8, num_channels=3, vision_use_head=False)
    ids = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=TOKENS, image_token_index=ids("<image_soft_token>"),
                          boi_token_index=ids("<start_of_image>"), eoi_token_index=ids("<end_of_image>"), eos_token_id=[1, 9])
    model = Gemma3ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    randomize(model)
    model.tie_weights()
    return model


def pictures(into):
    into.mkdir(parents=True, exist_ok=True)
    red = Image.new("RGB", (48, 40), "white")
    ImageDraw.Draw(red).ellipse((8, 4, 40, 36), fill=(200, 30, 40))
    red.save(into / "red.png")
    wide = Image.new("RGB", (96, 32), (20, 60, 120))
    draw = ImageDraw.Draw(wide)
    for i in range(6):
        draw.rectangle((16 * i, 4 * i, 16 * i + 9, 4 * i + 9), fill=(40 * i, 255 - 30 * i, 90))
    wide.save(into / "wide.png")
    grey = Image.new("L", (20, 31))
    grey.putdata([(7 * x + 5 * y) % 256 for y in range(31) for x in range(20)])
    grey.save(into / "grey.jpg", quality=90)


def part(path):
    return {"type": "image", "image": f"pictures/{path}"}


def text(words):
    return {"type": "text", "text": words}


ROWS = [
    [("user", [part("red.png"), text("What is this?")]), ("assistant", [text("A red disc.")])],
    [("user", "No picture."), ("assistant", "None.")],
    [("user", [text("Compare"), part("wide.png"), text(" with "), part("grey.jpg"), text("!")]), ("assistant", "Wide, then grey."),
     ("user", [text("And this? "), part("red.png")]), ("assistant", "A disc.")],
    [("system", "Be brief."), ("user", [part("grey.jpg")]), ("assistant", "Grey.")],
]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    pictures(OUT / "pictures")
    tokenizer = AutoTokenizer.from_pretrained(HERE / "tests/goldens/tokenizer")
    image_processor = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_seq_length=TOKENS, **LIMITS, do_pan_and_scan=False)
    processor = Gemma3Processor(image_processor, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=TOKENS)
    net = model(tokenizer)
    net.save_pretrained(OUT / "model")
    state = {k: v.bfloat16() for k, v in net.state_dict().items() if k != "lm_head.weight"}
    processor.save_pretrained(OUT / "model")
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(HERE / "tests/goldens/tokenizer" / name, OUT / "model" / name)
    (OUT / "model/chat_template.jinja").unlink(missing_ok=True)
    from safetensors.torch import load_file
    saved = load_file(OUT / "model/model.safetensors")
    save_file({k: v.bfloat16().contiguous() for k, v in saved.items()}, OUT / "model/model.safetensors", {"format": "pt"})
    config = json.loads((OUT / "model/config.json").read_text())
    (OUT / "model/config.json").write_text(json.dumps(config, indent=1))
    golden = {}
    with open(OUT / "rows.jsonl", "w") as file:
        for i, turns in enumerate(ROWS):
            messages = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"messages": messages}) + "\n")
            for name, pan in [("row", False), ("pan", True)]:
                shown, images = [], []
                for message in messages:
                    content = message["content"]
                    if isinstance(content, str):
                        content = [text(content)]
                    for piece in content:
                        if piece["type"] == "image":
                            images.append(Image.open(OUT / piece["image"]).convert("RGB"))
                    shown.append({**message, "content": [{"type": "image"} if p["type"] == "image" else p for p in content]})
                rendered = processor.apply_chat_template(shown, tokenize=False)
                assert rendered.startswith("<bos>")
                inputs = processor(text=rendered, images=images or None, do_pan_and_scan=pan, **LIMITS, add_special_tokens=False, return_tensors="pt")
                with torch.no_grad():
                    logits = net(**inputs).logits[0]
                golden[f"{name}.{i}.input_ids"] = inputs["input_ids"][0]
                golden[f"{name}.{i}.logits"] = logits[-LAST:].contiguous()
                if images:
                    golden[f"{name}.{i}.pixel_values"] = inputs["pixel_values"].contiguous()
    save_file(golden, OUT / "golden.safetensors")


main()
