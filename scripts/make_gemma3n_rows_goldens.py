#!/usr/bin/env python3
"""Makes tests/goldens/multimodal3n: a tiny random Gemma 3n that sees and hears, rows with pictures and sounds, and what
transformers makes of them.

usage: make_gemma3n_rows_goldens.py [OUT]      (made with torch 2.15.0, transformers 5.23.0, timm 1.0.31, pillow 13.0.0)

  model/              a whole model folder: config.json, model.safetensors (bf16; computed with in f32), the tiny tokenizer of
                      tests/goldens/tokenizer with the words of a Gemma 3n, processor_config.json
  media/              what the rows name
  rows.jsonl          conversations with pictures, sounds, both, none
  golden.safetensors  of row <i>: row.<i>.input_ids, row.<i>.logits of the last tokens, row.<i>.pixel_values,
                      row.<i>.input_features.<k> of each sound, heard alone
"""
import copy
import json
import math
import shutil
import struct
import sys
import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from timm.models._efficientnet_builder import decode_arch_def
from transformers import (AutoTokenizer, Gemma3nAudioConfig, Gemma3nAudioFeatureExtractor, Gemma3nConfig,
                          Gemma3nForConditionalGeneration, Gemma3nProcessor, Gemma3nTextConfig, Gemma3nVisionConfig)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

torch.set_num_threads(1)
HERE = Path(__file__).resolve().parent.parent
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "tests/goldens/multimodal3n")
S, F = "sliding_attention", "full_attention"
SIDE, SOFT, HEARD, BINS, LAST = 64, 4, 6, 16, 12
IMAGES = dict(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
SOUNDS = dict(boa_token="<start_of_audio>", eoa_token="<end_of_audio>", audio_token="<audio_soft_token>")
BLOCKS = [["er_r1_k3_s2_e4_c8", "er_r1_k3_s1_e2_c8"],
          ["uir_r1_a3_k5_s2_e2_c8", "uir_r1_a5_k0_p3_s1_e1_c8"],
          ["uir_r1_a3_k0_s2_e2_c8", "mqa_r1_k3_h2_v2_s1_d4_c8", "uir_r1_a0_k0_s1_e2_c8"],
          ["uir_r1_a0_k0_p3_s2_e2_c8", "mqa_r1_k3_h2_s1_d4_c8", "uir_r1_a0_k0_s1_e1_c8"]]


def make_tokenizer(folder):
    tokenizer = json.loads((HERE / "tests/goldens/tokenizer/tokenizer.json").read_text())
    config = json.loads((HERE / "tests/goldens/tokenizer/tokenizer_config.json").read_text())
    for i, name in enumerate(SOUNDS.values()):
        tokenizer["added_tokens"].append(dict(id=513 + i, content=name, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True))
    old = "{%- if item['type'] == 'image' -%}\n                {{ '<start_of_image>' }}"
    new = ("{%- if item['type'] == 'audio' -%}\n                {{ '<audio_soft_token>' }}\n"
           "            {%- elif item['type'] == 'image' -%}\n                {{ '<image_soft_token>' }}")
    assert old in config["chat_template"]
    config.update(chat_template=config["chat_template"].replace(old, new), processor_class="Gemma3nProcessor", **IMAGES, **SOUNDS,
                  extra_special_tokens={**IMAGES, **SOUNDS})
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return AutoTokenizer.from_pretrained(folder)


def make_config(ids):
    # The words of pictures begin at `<end_of_image>`, those of sounds at `<start_of_audio>`.
    vision_words, audio_words, end = ids(IMAGES["eoi_token"]), ids(SOUNDS["boa_token"]), 520
    text = Gemma3nTextConfig(vocab_size=end, vocab_size_per_layer_input=vision_words, hidden_size=16, hidden_size_per_layer_input=4,
                             intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                             sliding_window=8, layer_types=[S, F, S, F], num_kv_shared_layers=2, laurel_rank=4,
                             max_position_embeddings=1024, activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0], pad_token_id=0,
                             eos_token_id=1, bos_token_id=2)
    args = dict(block_args=decode_arch_def(BLOCKS), stem_size=8, msfa_output_resolution=2)
    vision = Gemma3nVisionConfig(model_args=copy.deepcopy(args), vocab_size=audio_words - vision_words, vocab_offset=vision_words,
                                 num_classes=0, label_names=[])
    audio = Gemma3nAudioConfig(vocab_size=end - audio_words, vocab_offset=audio_words, input_feat_size=BINS, hidden_size=16,
                               conf_num_attention_heads=2, conf_attention_chunk_size=4, conf_attention_context_left=5,
                               conf_num_hidden_layers=1, conf_conv_kernel_size=3, sscp_conv_channel_size=[4, 2])
    named = {f"{name}_id": ids(word) for name, word in {**IMAGES, **SOUNDS}.items()}
    return args, Gemma3nConfig(text_config=text, vision_config=vision, audio_config=audio, vision_soft_tokens_per_image=SOFT,
                               audio_soft_tokens_per_image=HEARD, eos_token_id=[1, 9], **named)


def randomize(model):
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            normal = torch.randn(p.shape, generator=g)
            if "layer_scale" in name:
                p.copy_(0.3 + 0.1 * normal)
            elif "per_dim_scale" in name:
                p.copy_(0.5 * normal)
            elif p.ndim <= 1:
                p.copy_((1 if "norm" in name or ".bn" in name or "scale" in name else 0) + 0.1 * normal)
            elif "embed" in name and "projection" not in name:
                p.copy_(0.3 * normal)
            else:
                p.copy_((0.2 if "_coefs" in name else 1.0) * normal / p[0].numel() ** 0.5)
            p.copy_(p.bfloat16().float())


def make_media(into):
    into.mkdir(parents=True)
    disc = Image.new("RGB", (80, 50), (240, 240, 230))
    ImageDraw.Draw(disc).ellipse((20, 5, 60, 45), fill=(30, 90, 200))
    disc.save(into / "disc.png")
    stripes = Image.new("RGB", (33, 64))
    stripes.putdata([((9 * x) % 256, (4 * y) % 256, 128) for y in range(64) for x in range(33)])
    stripes.save(into / "stripes.png")
    for name, secs, tones in [("low", 0.31, [220, 330]), ("long", 0.83, [440, 1760, 3000])]:
        n = int(secs * 16000)
        t = np.arange(n) / 16000
        wave_ = sum(np.sin(2 * math.pi * f * t) for f in tones) / len(tones) * np.minimum(1, 8 * t / secs) * 0.6
        with wave.open(str(into / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, n, "NONE", ""))
            file.writeframes(struct.pack(f"<{n}h", *(wave_ * 32767).astype(int)))


def samples(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def image(name):
    return {"type": "image", "image": f"media/{name}"}


def audio(name):
    return {"type": "audio", "audio": f"media/{name}"}


def text(words):
    return {"type": "text", "text": words}


ROWS = [
    [("user", [image("disc.png"), text("What is this?")]), ("assistant", "A disc.")],
    [("user", [audio("low.wav"), text("What is said?")]), ("assistant", "Nothing, it hums.")],
    [("user", "Neither."), ("assistant", "None.")],
    [("user", [text("Both:"), audio("long.wav"), image("stripes.png"), text("and"), audio("low.wav")]), ("assistant", "Yes."),
     ("user", [text("Again"), image("disc.png")]), ("assistant", "A disc.")],
]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    model_dir = OUT / "model"
    tokenizer = make_tokenizer(model_dir)
    make_media(OUT / "media")
    args, config = make_config(tokenizer.convert_tokens_to_ids)
    net = Gemma3nForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    randomize(net)
    net.tie_weights()
    net.config.vision_config.model_args = copy.deepcopy(args)  # timm's builder changed them in place
    net.save_pretrained(model_dir)
    saved = load_file(model_dir / "model.safetensors")
    save_file({k: v.bfloat16().contiguous() for k, v in saved.items()}, model_dir / "model.safetensors", {"format": "pt"})
    images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_normalize=False, resample=2)
    sounds = Gemma3nAudioFeatureExtractor(feature_size=BINS, min_frequency=125.0, max_frequency=7600.0)
    processor = Gemma3nProcessor(sounds, images, tokenizer, chat_template=tokenizer.chat_template, audio_seq_length=HEARD, image_seq_length=SOFT)
    keep = {name: (model_dir / name).read_bytes() for name in ["tokenizer.json", "tokenizer_config.json"]}
    processor.save_pretrained(model_dir)
    for name, content in keep.items():
        (model_dir / name).write_bytes(content)
    (model_dir / "chat_template.jinja").unlink(missing_ok=True)
    golden = {}
    with open(OUT / "rows.jsonl", "w") as file:
        for i, turns in enumerate(ROWS):
            messages = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"messages": messages}) + "\n")
            shown, pictures, clips = [], [], []
            for message in messages:
                content = message["content"]
                content = [text(content)] if isinstance(content, str) else content
                pictures += [Image.open(OUT / p["image"]).convert("RGB") for p in content if p["type"] == "image"]
                clips += [samples(OUT / p["audio"]) for p in content if p["type"] == "audio"]
                shown.append({**message, "content": [p if p["type"] == "text" else {"type": p["type"]} for p in content]})
            rendered = processor.apply_chat_template(shown, tokenize=False)
            inputs = processor(text=[rendered], images=[pictures] if pictures else None, audio=clips or None, add_special_tokens=False, return_tensors="pt")
            # Each clip is heard alone: beside a longer one it would be padded.
            alone = [sounds(clip, return_tensors="pt") for clip in clips]
            given = {k: inputs[k] for k in ["input_ids", "attention_mask", "pixel_values"] if k in inputs}
            with torch.no_grad():
                if alone:
                    heard = [net.model.get_audio_features(a["input_features"], ~a["input_features_mask"].bool(), return_dict=True) for a in alone]
                    given = embed(net, given, heard)
                logits = net(**given).logits[0]
            golden[f"row.{i}.input_ids"] = inputs["input_ids"][0]
            golden[f"row.{i}.logits"] = logits[-LAST:].contiguous()
            if pictures:
                golden[f"row.{i}.pixel_values"] = inputs["pixel_values"].contiguous()
            for k, a in enumerate(alone):
                golden[f"row.{i}.input_features.{k}"] = a["input_features"][0].contiguous()
    save_file(golden, OUT / "golden.safetensors")


def embed(net, given, heard):
    """The arguments of a forward pass in which the sounds are embedded already, each heard alone."""
    features = []
    padding = net.model.embed_audio(input_ids=torch.tensor([[net.config.text_config.vocab_size - 1]]))
    for out in heard:
        rows, mask = out.pooler_output, out.audio_mel_mask
        rows = torch.where(mask.unsqueeze(-1), padding, rows)
        missing = HEARD - rows.shape[1]
        features.append(torch.cat([rows, padding.expand(1, missing, -1)], 1))
    class Given:
        pass

    # `input_features` with one row a clip: what the model would make of it is replaced by what was heard.
    def replaced(*_, **__):
        out = Given()
        out.pooler_output = torch.stack([f[0] for f in features])
        out.audio_mel_mask = torch.zeros(out.pooler_output.shape[:2], dtype=torch.bool)
        return out

    net.model.get_audio_features = replaced
    count = len(features)
    return {**given, "input_features": torch.zeros(count, 4, BINS), "input_features_mask": torch.ones(count, 4, dtype=torch.bool)}


main()
