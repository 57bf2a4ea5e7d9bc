#!/usr/bin/env python3
"""Makes tests/goldens/gemma3n: a tiny random Gemma 3n language model with what transformers and PEFT compute on it.

usage: make_gemma3n_goldens.py [OUT]      (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0)

  model/              config.json, model.safetensors (bf16; computed with in f32): every parameter random, norms included
  adapter/            a PEFT adapter with B != 0 on `all-linear`
  golden.safetensors  row.<i>.input_ids, row.<i>.labels; per variant (base, lora): logits, loss; of lora what each part of
                      each layer gives; grad.<PEFT key>: d loss / d parameter; train.logits: the base in train() mode,
                      where transformers clamps AltUp's coefficients; all of the tokens that are no padding
  meta.json           versions, and how far transformers' f32 is from its own f64
Everything is f32, eager attention, one thread, in eval() mode but for train.logits. The first row is twice as long as the
sliding window, the second is padded; `altup_coef_clip` is small enough to clamp something.
"""
import json, os, shutil, sys
import peft, safetensors, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/gemma3n"
S, F = "sliding_attention", "full_attention"
SHAPE = dict(vocab_size=64, vocab_size_per_layer_input=56, hidden_size=32, hidden_size_per_layer_input=8,
             intermediate_size=[24, 40, 24, 24, 32, 24, 24], num_hidden_layers=7, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, sliding_window=5, layer_types=[S, S, F, S, S, F, S],
             num_kv_shared_layers=3, laurel_rank=4, altup_coef_clip=0.1, max_position_embeddings=64,
             activation_sparsity_pattern=[0.95, 0.7, 0.0, 0.0, 0.0, 0.0, 0.5], pad_token_id=0, eos_token_id=1, bos_token_id=2)
LENGTHS = [10, 7]
EVERY = [0, 4, 6]  # layers whose AltUp predictions are kept


def randomize(model, g):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 and "correct_output_scale" not in name:
                p.add_(0.1 * torch.randn(p.shape, generator=g))
            elif p.ndim == 1:
                p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
            elif "embed_tokens" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))
            else:
                size = 0.2 if "_coefs" in name else 1.0  # larger ones make any rounding large, layer by layer
                p.copy_(size * torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
            p.copy_(p.bfloat16().float())


def unpadded(tensor):
    """Rows of tokens that are no padding, of `[.., batch, tokens, width]`."""
    return torch.cat([tensor[..., i, :n, :] for i, n in enumerate(LENGTHS)], -2).detach().clone().contiguous()


def run(model, inputs, out, prefix, details):
    undo = []
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    text = base.model
    if details:
        def keep(name):
            def tap(_, __, output):
                out[f"{prefix}.{name}"] = unpadded(output[0] if isinstance(output, tuple) else output)
            return tap
        for i, layer in enumerate(text.layers):
            parts = {"": layer, ".laurel": layer.laurel, ".self_attn": layer.self_attn, ".mlp": layer.mlp}
            undo += [m.register_forward_hook(keep(f"layers.{i}{part}")).remove for part, m in parts.items()]
            if i in EVERY:
                predict = layer.altup.predict
                def kept(hidden, predict=predict, i=i):
                    result = predict(hidden)
                    out[f"{prefix}.layers.{i}.altup.predict"] = unpadded(result)
                    return result
                layer.altup.predict = kept
                undo.append(lambda layer=layer: layer.altup.__dict__.pop("predict"))
        def first(_, args):
            out[f"{prefix}.streams"] = unpadded(args[0])
        undo.append(text.layers[0].register_forward_pre_hook(first).remove)
        project = text.project_per_layer_inputs
        def projected(*args, **kwargs):
            result = project(*args, **kwargs)
            out[f"{prefix}.per_layer_inputs"] = unpadded(result.flatten(-2))
            return result
        text.project_per_layer_inputs = projected
        undo.append(lambda: text.__dict__.pop("project_per_layer_inputs"))
        undo.append(text.norm.register_forward_hook(keep("norm")).remove)
    o = model(**inputs, use_cache=False)
    for f in undo:
        f()
    out[f"{prefix}.logits"], out[f"{prefix}.loss"] = unpadded(o.logits), o.loss.detach().clone()
    return o.loss


shutil.rmtree(OUT, ignore_errors=True)
g = torch.Generator().manual_seed(31)
model = Gemma3nForCausalLM(Gemma3nTextConfig(**SHAPE, attn_implementation="eager")).eval()
randomize(model, g)
model.tie_weights()
model.to(torch.bfloat16).save_pretrained(f"{OUT}/model")
load = lambda dtype: Gemma3nForCausalLM.from_pretrained(f"{OUT}/model", dtype=dtype, attn_implementation="eager")
model = load(torch.float32).eval()

T = max(LENGTHS)
ids = torch.randint(3, 64, (len(LENGTHS), T), generator=g)  # some beyond the per-layer table
ids[:, 0] = 2
mask = torch.tensor([[int(t < n) for t in range(T)] for n in LENGTHS])
ids[mask == 0] = 0
labels = ids.clone()
labels[mask == 0] = -100
labels[:, :3] = -100
inputs = dict(input_ids=ids, attention_mask=mask, labels=labels)
golden = {}
for i, n in enumerate(LENGTHS):
    golden[f"row.{i}.input_ids"], golden[f"row.{i}.labels"] = ids[i, :n].clone(), labels[i, :n].clone()

with torch.no_grad():
    run(model, inputs, golden, "base", False)
    wide = {}
    run(load(torch.float64).eval(), inputs, wide, "base", False)
    noise = ((wide["base.logits"] - golden["base.logits"]).abs().max() / golden["base.logits"].abs().max()).item()
    trained = {}
    run(load(torch.float32).train(), inputs, trained, "train", False)
    golden["train.logits"] = trained["train.logits"]

adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, bias="none", target_modules="all-linear", task_type="CAUSAL_LM"))
with torch.no_grad():
    for name, p in adapted.named_parameters():
        if "lora_A" in name:
            p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
        if "lora_B" in name:
            p.copy_(0.2 * torch.randn(p.shape, generator=g))
adapted.save_pretrained(f"{OUT}/adapter")
adapted.eval()
run(adapted, inputs, golden, "lora", True).backward()
for name, p in adapted.named_parameters():
    if "lora_" in name:
        golden[f"grad.{name.replace('.default', '')}"] = p.grad.contiguous()
save_file(golden, f"{OUT}/golden.safetensors")
os.remove(f"{OUT}/adapter/README.md")
versions = dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__, safetensors=safetensors.__version__)
json.dump(dict(versions=versions, relative_noise_f32_against_f64=noise), open(f"{OUT}/meta.json", "w"), indent=1)
print(noise, {k: v.item() for k, v in golden.items() if k.endswith("loss")}, (golden["train.logits"] - golden["base.logits"]).abs().max())
