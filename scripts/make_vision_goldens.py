#!/usr/bin/env python3
"""Makes tests/goldens/vision: a tiny random multimodal Gemma 3 with what transformers and PEFT compute on it.

usage: make_vision_goldens.py [OUT]        (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0)

  model/            config.json, model.safetensors: every parameter random, norms and biases included
  text/, all/       a PEFT adapter with B != 0 on the language model, and one on the tower as well
  golden.safetensors  pixel_values, input_ids, labels, attention_mask; per variant (base, text, all): logits, loss, the
                    output of every layer of the language model, and of the base's tower and projector;
                    grad.<variant>.<PEFT key>
  versions.json

Everything is f32, eager attention, one thread. A picture has 9 soft tokens and a window holds 6. The first row has two
pictures, with nothing but their marks between them, the second one picture and padding.
"""
import json, os, re, shutil, sys
import peft, safetensors, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/vision"
V, TOKENS, SIDE, R = 64, 9, 24, 2
TEXT = dict(vocab_size=V, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, sliding_window=6, query_pre_attn_scalar=24, max_position_embeddings=128,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}},
            pad_token_id=0, eos_token_id=1, bos_token_id=2)
VISION = dict(hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
              patch_size=4, layer_norm_eps=1e-5, vision_use_head=False)
BOI, EOI, IMAGE = V - 3, V - 2, V - 1
PROJECTIONS = r"(self_attn|mlp)\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
LANGUAGE = rf".*language_model.*layers\.\d+\.{PROJECTIONS}"
TARGETS = {"text": LANGUAGE, "all": LANGUAGE + r"|.*vision_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"}
TAPS = {"base": r"(layers\.\d+|vision_tower|multi_modal_projector)$", "text": r"language_model\.layers\.\d+$",
        "all": r"language_model\.layers\.\d+$"}


def randomize(model, g):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=g))
            elif "embed_tokens" in name or "position" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(torch.randn(p.shape, generator=g) / p[0].numel() ** 0.5)


def make_inputs(g):
    words = lambda n: torch.randint(3, V - 3, (n,), generator=g).tolist()
    picture = [BOI] + [IMAGE] * TOKENS + [EOI]
    rows = [[2] + words(3) + picture + picture + words(6), [2] + words(6) + picture + words(7)]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    labels = ids.clone()
    labels[(mask == 0) | (ids >= BOI)] = -100
    labels[:, :2] = -100
    pixels = torch.rand(3, 3, SIDE, SIDE, generator=g) * 2 - 1
    return dict(input_ids=ids, attention_mask=mask, labels=labels, pixel_values=pixels,
                token_type_ids=(ids == IMAGE).long())


def run(model, inputs, out, prefix):
    hooks = []
    for name, module in model.named_modules():
        tail = name.removeprefix("base_model.model.").removeprefix("model.")
        if re.search(TAPS[prefix], tail):
            def tap(_, __, output, tail=tail):
                output = output[0] if isinstance(output, tuple) else output
                out[f"{prefix}.{tail}"] = getattr(output, "last_hidden_state", output).detach().clone()
            hooks.append(module.register_forward_hook(tap))
    o = model(**inputs, use_cache=False)
    for h in hooks:
        h.remove()
    out[f"{prefix}.logits"], out[f"{prefix}.loss"] = o.logits.detach().clone(), o.loss.detach().clone()
    return o.loss


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=TOKENS, boi_token_index=BOI,
                          eoi_token_index=EOI, image_token_index=IMAGE)
    model = Gemma3ForConditionalGeneration(config).float()
    randomize(model, g)
    model.tie_weights()
    model.save_pretrained(f"{OUT}/model")
    load = lambda: Gemma3ForConditionalGeneration.from_pretrained(
        f"{OUT}/model", dtype=torch.float32, attn_implementation="eager").train()
    inputs = make_inputs(g)
    out = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    run(load(), inputs, out, "base")
    for variant, targets in TARGETS.items():
        pm = get_peft_model(load(), LoraConfig(r=R, lora_alpha=4, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                                               target_modules=targets))
        with torch.no_grad():
            for name, p in pm.named_parameters():
                if "lora_A" in name:
                    p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
                if "lora_B" in name:
                    p.copy_(0.2 * torch.randn(p.shape, generator=g))
        pm.peft_config["default"].base_model_name_or_path = "tiny/vision"
        pm.save_pretrained(f"{OUT}/{variant}")
        os.remove(f"{OUT}/{variant}/README.md")
        run(pm, inputs, out, variant).backward()
        for name, p in pm.named_parameters():
            if p.grad is not None and "lora_" in name:
                out[f"grad.{variant}.{name.replace('.default', '')}"] = p.grad
    save_file({k: v.contiguous() for k, v in out.items()}, f"{OUT}/golden.safetensors")
    versions = {m.__name__: m.__version__ for m in (torch, transformers, peft, safetensors)}
    with open(f"{OUT}/versions.json", "w") as f:
        f.write(json.dumps(versions, indent=1) + "\n")
    print({k: v.item() for k, v in out.items() if k.endswith(".loss")})


main()
