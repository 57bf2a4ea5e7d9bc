#!/usr/bin/env python3
"""Makes tests/goldens/quant/: what bitsandbytes makes of a few matrices, and a tiny model that it saved quantised.

usage: make_quant_goldens.py [OUT]
(made with bitsandbytes 0.50.2, torch 2.15.0 on a processor with AVX2, transformers 5.23.0, safetensors 0.8.0)

blocks.safetensors  per matrix CASE: `CASE.input`; `CASE.nf4.*` and `CASE.nf4_double.*` with the packed codes, the state of
                    the scales and the dequantised values; `CASE.int8.*` with codes and absolute maxima of the
                    rows; `mean.*`: a vector and its mean
FORM/               for FORM nf4 and nf4_double: config.json and model.safetensors of a Gemma 3 as
                    `save_pretrained` writes it after quantising, with one projection left as it was
FORM.safetensors    the dequantised projections of that model under their names
"""
import os, shutil, sys
import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, Gemma3ForCausalLM, Gemma3TextConfig

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/quant"
g = torch.Generator().manual_seed(5)


def normal(*shape):
    return torch.randn(*shape, generator=g)


def blocks():
    spread = normal(48, 96) * torch.exp(2 * normal(48, 1))  # rows, and so scales, of very different size
    cases = {
        "whole": normal(24, 128),
        "odd": normal(13, 33),
        "zeros": torch.cat([torch.zeros(2, 64), normal(2, 64)]),
        "even": torch.full((3, 64), -0.5),
        "spread": spread,
        "rounded": normal(16, 64).bfloat16().float(),
        "long": normal(64, 272),  # two blocks of scales
        "short": normal(1, 7),
    }
    out = {}
    for name, w in cases.items():
        out[f"{name}.input"] = w
        for form, double in (("nf4", False), ("nf4_double", True)):
            packed, state = F.quantize_4bit(w, blocksize=64, compress_statistics=double, quant_type="nf4")
            key = f"{name}.{form}"
            out[f"{key}.packed"], out[f"{key}.absmax"] = packed, state.absmax
            out[f"{key}.values"] = F.dequantize_4bit(packed, state)
            if double:
                out[f"{key}.scales"], out[f"{key}.map"] = state.state2.absmax, state.state2.code
                out[f"{key}.offset"] = state.offset.reshape(1)
        if name != "zeros":  # bitsandbytes divides by the zero
            out[f"{name}.int8.codes"], out[f"{name}.int8.absmax"], _ = F.int8_vectorwise_quant(w)
    maxima = normal(5003).abs()
    out["mean.input"], out["mean.mean"] = maxima, maxima.mean().reshape(1)
    save_file({k: v.contiguous().clone() for k, v in out.items()}, f"{OUT}/blocks.safetensors")


def model(form, double):
    folder, plain = f"{OUT}/{form}", f"{OUT}/plain"
    config = Gemma3TextConfig(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=1,
                              num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=8,
                              query_pre_attn_scalar=16, max_position_embeddings=64,
                              layer_types=["sliding_attention"])
    torch.manual_seed(1)
    source = Gemma3ForCausalLM(config).float()
    with torch.no_grad():
        for p in source.parameters():
            p.copy_(0.2 * normal(*p.shape))
    source.bfloat16().save_pretrained(plain)
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
                                      bnb_4bit_compute_dtype=torch.float32,
                                      llm_int8_skip_modules=["lm_head", "model.layers.0.mlp.down_proj"])
    quantised = Gemma3ForCausalLM.from_pretrained(plain, quantization_config=quantization, dtype=torch.bfloat16,
                                                  device_map="cpu")
    shutil.rmtree(folder, ignore_errors=True)
    quantised.save_pretrained(folder)
    values = {}
    for name, module in quantised.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            state.dtype = torch.float32  # else rounded to bf16 at the end
            values[f"{name}.weight"] = F.dequantize_4bit(module.weight.data, state).contiguous()
    save_file(values, f"{OUT}/{form}.safetensors")
    shutil.rmtree(plain)
    for extra in ("generation_config.json", "README.md"):
        if os.path.exists(f"{folder}/{extra}"):
            os.remove(f"{folder}/{extra}")
    print(form, len(values), os.path.getsize(f"{folder}/model.safetensors"))


os.makedirs(OUT, exist_ok=True)
blocks()
model("nf4", False)
model("nf4_double", True)
