#!/usr/bin/env python3
"""Makes tests/goldens/model/*: tiny random Gemma 3 checkpoints with what transformers and PEFT compute on them.

usage: make_model_goldens.py [OUT]        (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0)

Each case is a folder:
  model/            config.json, model.safetensors: every parameter random, norms included
  adapter/          a PEFT adapter with B != 0
  golden.safetensors  input_ids, labels, attention_mask; per variant (base, lora): logits, loss, layer activations;
                    grad.<PEFT key>: d loss / d parameter
Everything is f32, eager attention, one thread. Sequences are longer than the sliding window, the second row is padded.
"""
import json, os, shutil, sys
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/model"
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPE = dict(vocab_size=320, hidden_size=48, intermediate_size=80, num_hidden_layers=7, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, sliding_window=8, query_pre_attn_scalar=24,
             max_position_embeddings=256, pad_token_id=0, eos_token_id=1, bos_token_id=2)
SCALED = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
          "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
CASES = {
    "lora": (dict(), dict()),
    "rslora_scaled_rope": (dict(rope_parameters=SCALED, num_key_value_heads=1), dict(use_rslora=True)),
    "dora": (dict(), dict(use_dora=True)),
}


def randomize(model, g):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=g))
            elif "embed" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)


def run(model, inputs, out, prefix):
    hooks = []
    for name, module in model.named_modules():
        tail = name.removeprefix("base_model.model.")
        if tail.startswith("model.layers.") and tail.count(".") == 2:
            def tap(_, __, output, tail=tail):
                out[f"{prefix}.{tail}"] = (output[0] if isinstance(output, tuple) else output).detach().clone()
            hooks.append(module.register_forward_hook(tap))
    o = model(**inputs, use_cache=False)
    for h in hooks:
        h.remove()
    out[f"{prefix}.logits"], out[f"{prefix}.loss"] = o.logits.detach().clone(), o.loss.detach().clone()
    return o.loss


for seed, (case, (shape, lora)) in enumerate(CASES.items()):
    folder = f"{OUT}/{case}"
    shutil.rmtree(folder, ignore_errors=True)
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = Gemma3TextConfig(**{**SHAPE, **shape})
    config._attn_implementation = "eager"
    model = Gemma3ForCausalLM(config).float()
    randomize(model, g)
    model.tie_weights()
    model.save_pretrained(f"{folder}/model")
    ids = torch.randint(3, SHAPE["vocab_size"], (2, 24), generator=g)
    ids[:, 0] = 2
    mask, labels = torch.ones_like(ids), ids.clone()
    mask[1, -6:], ids[1, -6:] = 0, 0
    labels[mask == 0], labels[:, :4] = -100, -100
    inputs = dict(input_ids=ids, attention_mask=mask, labels=labels)
    out = dict(inputs)
    run(model, inputs, out, "base")
    pm = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                                          target_modules=SEVEN, **lora))
    with torch.no_grad():
        for name, p in pm.named_parameters():
            if "lora_A" in name:
                p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
            if "lora_B" in name:
                p.copy_(0.2 * torch.randn(p.shape, generator=g))
            if "magnitude" in name:
                p.mul_(1 + 0.1 * torch.randn(p.shape, generator=g))
    pm.save_pretrained(f"{folder}/adapter")
    os.remove(f"{folder}/adapter/README.md")
    run(pm, inputs, out, "lora").backward()
    for name, p in pm.named_parameters():
        if p.grad is not None and "lora_" in name:
            key = name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
            out[f"grad.{key}"] = p.grad
    save_file({k: v.contiguous() for k, v in out.items()}, f"{folder}/golden.safetensors")
    print(case, out["base.loss"].item(), out["lora.loss"].item())
