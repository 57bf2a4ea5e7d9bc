#!/usr/bin/env python3
"""Makes tests/goldens/gemma3n_vision: a tiny random Gemma 3n with the tower that looks at pictures, and what transformers,
timm and PEFT compute on it.

usage: make_gemma3n_vision_goldens.py [OUT]
(made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, timm 1.0.30, safetensors 0.8.0)

  model/              config.json, model.safetensors (bf16; computed with in f32): every parameter random, norms and layer
                      scales included. The tower has a block of every kind, as few channels as timm makes, and the width
                      that timm gives every such tower
  adapter/            a PEFT adapter with B != 0 on q_proj and v_proj of the layers and on the projection of pictures
  golden.safetensors  row.<i>.input_ids, row.<i>.labels, row.<i>.pixel_values (bf16,
                      in [0, 1], one size within a row); what each part of the
                      tower gives for the picture of row 1, whose sides are no powers of two; per variant (base, lora)
                      and row: embed_vision, logits; loss over all rows; grad.<PEFT key>
  meta.json           versions, and how far transformers' f32 is from its own f64
Everything is f32, eager attention, one thread, in eval() mode. Row 0 has two pictures, row 1 has one, row 2 none, but the
word that stands after a picture.
"""
import copy, json, os, re, shutil, sys
import peft, safetensors, timm, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from timm.models._efficientnet_builder import decode_arch_def
from transformers import Gemma3nAudioConfig, Gemma3nConfig, Gemma3nForConditionalGeneration, Gemma3nTextConfig, Gemma3nVisionConfig

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/gemma3n_vision"
S, F = "sliding_attention", "full_attention"
WORDS = 60  # of text; then two of pictures, then two of sounds
BOI, EOI, IMAGE = WORDS - 1, WORDS, WORDS + 1
TEXT = dict(vocab_size=WORDS + 4, vocab_size_per_layer_input=WORDS, hidden_size=8, hidden_size_per_layer_input=4,
            intermediate_size=12, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=4,
            sliding_window=6, layer_types=[S, F, S, F], num_kv_shared_layers=2, laurel_rank=2, max_position_embeddings=64,
            activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0], pad_token_id=0, eos_token_id=1, bos_token_id=2)
BLOCKS = [["er_r1_k3_s2_e4_c8", "er_r1_k3_s1_e2_c8"],
          ["uir_r1_a3_k5_s2_e2_c8", "uir_r1_a5_k0_p3_s1_e1_c8"],
          ["uir_r1_a3_k0_s2_e2_c8", "mqa_r1_k3_h2_v2_s1_d4_c8", "uir_r1_a0_k0_s1_e2_c8"],
          ["uir_r1_a0_k0_p3_s2_e2_c8", "mqa_r1_k3_h2_s1_d4_c8", "uir_r1_a0_k0_s1_e1_c8"]]
ARGS = dict(block_args=decode_arch_def(BLOCKS), stem_size=8, msfa_output_resolution=2)
SOFT = 4  # tokens of a picture
PICTURES = [(2, 64, 32), (1, 40, 56), None]


def config():
    vision = Gemma3nVisionConfig(model_args=copy.deepcopy(ARGS), vocab_size=2, vocab_offset=WORDS, num_classes=0, label_names=[])
    audio = Gemma3nAudioConfig(vocab_size=2, vocab_offset=WORDS + 2, input_feat_size=8, hidden_size=8, conf_num_attention_heads=2,
                               conf_attention_chunk_size=4, conf_attention_context_left=5, conf_num_hidden_layers=1,
                               sscp_conv_channel_size=[4, 2])
    return Gemma3nConfig(text_config=Gemma3nTextConfig(**TEXT), vision_config=vision, audio_config=audio,
                         vision_soft_tokens_per_image=SOFT, audio_soft_tokens_per_image=3, boi_token_id=BOI, eoi_token_id=EOI,
                         image_token_id=IMAGE, boa_token_id=WORDS - 2, eoa_token_id=WORDS + 2, audio_token_id=WORDS + 3)


def randomize(model, g):
    normal = lambda p: torch.randn(p.shape, generator=g)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_scale" in name:
                p.copy_(0.3 + 0.1 * normal(p))
            elif p.ndim <= 1 and ("norm" in name or ".bn" in name):
                p.copy_(1 + 0.1 * normal(p))
            elif p.ndim <= 1:
                p.add_(0.1 * normal(p))
            elif "embed" in name and "projection" not in name:
                p.copy_(0.3 * normal(p))
            else:
                p.copy_((0.2 if "_coefs" in name else 1.0) * normal(p) / p[0].numel() ** 0.5)
            p.copy_(p.bfloat16().float())


def load(dtype):
    model = Gemma3nForConditionalGeneration.from_pretrained(f"{OUT}/model", dtype=dtype, attn_implementation="eager")
    return model.eval()


def picture_block(count):
    return sum(([BOI] + [IMAGE] * SOFT + [EOI] for _ in range(count)), [])


def rows(g):
    made = []
    for picture in PICTURES:
        words = torch.randint(3, WORDS - 2, (9,), generator=g).tolist()
        block = picture_block(picture[0]) if picture else [EOI]
        ids = [2] + words[:3] + block + words[3:]
        labels = [-100 if i < 3 or token >= WORDS - 2 else token for i, token in enumerate(ids)]
        pixels = torch.rand((picture[0], 3, *picture[1:]), generator=g).bfloat16().float() if picture else None
        made.append((torch.tensor(ids), torch.tensor(labels), pixels))
    return made


def run(model, rows, out, prefix, parts):
    kept = {}
    def keep(name):
        def tap(_, __, output):
            kept[name] = output.detach().clone()
        return tap
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    taps = [base.model.embed_vision.register_forward_hook(keep("embed_vision"))]
    tower = base.model.vision_tower.timm_model
    named = [(n, m) for n, m in tower.named_modules() if re.fullmatch(r"conv_stem|blocks\.\d+\.\d+|msfa", n)]
    taps += [module.register_forward_hook(keep(name)) for name, module in named]
    losses, supervised = 0.0, 0
    for i, (ids, labels, pixels) in enumerate(rows):
        kept.clear()
        pixels = None if pixels is None else pixels.to(base.dtype)
        logits = model(input_ids=ids[None], pixel_values=pixels, use_cache=False).logits[0]
        out[f"{prefix}.row.{i}.logits"] = logits.detach().clone()
        if pixels is not None:
            # Asked last for soft tokens: one row for each of all pictures.
            out[f"{prefix}.row.{i}.embed_vision"] = kept["embed_vision"].flatten(0, 1)
        if parts and i == 1:
            for name, _ in named:
                # Cells one after the other, each with its channels.
                out[f"tower.{name}"] = kept[name][0].flatten(1).T.contiguous()
        losses = losses + torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
        supervised += (labels[1:] != -100).sum().item()
    for tap in taps:
        tap.remove()
    loss = losses / supervised
    out[f"{prefix}.loss"] = loss.detach().clone()
    return loss


shutil.rmtree(OUT, ignore_errors=True)
torch.manual_seed(0)
g = torch.Generator().manual_seed(47)
settings = config()
settings._attn_implementation = "eager"
model = Gemma3nForConditionalGeneration(settings).eval()
randomize(model, g)
model.tie_weights()
model.config.vision_config.model_args = ARGS  # timm changes the one that it is given
model.to(torch.bfloat16).save_pretrained(f"{OUT}/model")
model, made, golden = load(torch.float32), rows(g), {}
for i, (ids, labels, pixels) in enumerate(made):
    golden[f"row.{i}.input_ids"], golden[f"row.{i}.labels"] = ids.clone(), labels.clone()
    if pixels is not None:
        golden[f"row.{i}.pixel_values"] = pixels.bfloat16()
with torch.no_grad():
    run(model, made, golden, "base", True)
    wide = {}
    run(load(torch.float64), made, wide, "base", False)
    gaps = [(wide[k] - golden[k]).abs().max() / golden[k].abs().max() for k in wide if k.endswith("logits")]
targets = r".*language_model.*\.(q_proj|v_proj)|.*embed_vision\.embedding_projection"
adapted = get_peft_model(model, LoraConfig(r=1, lora_alpha=2, lora_dropout=0.0, bias="none", target_modules=targets, task_type="CAUSAL_LM"))
with torch.no_grad():
    for name, p in adapted.named_parameters():
        if "lora_A" in name:
            p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
        if "lora_B" in name:
            p.copy_(0.2 * torch.randn(p.shape, generator=g))
adapted.save_pretrained(f"{OUT}/adapter")
adapted.eval()
run(adapted, made, golden, "lora", False).backward()
for name, p in adapted.named_parameters():
    if "lora_" in name:
        golden[f"grad.{name.replace('.default', '')}"] = p.grad.contiguous()
save_file(golden, f"{OUT}/golden.safetensors")
os.remove(f"{OUT}/adapter/README.md")
versions = {m.__name__: m.__version__ for m in (torch, transformers, peft, timm, safetensors)}
json.dump(dict(versions=versions, relative_noise_f32_against_f64=max(gaps).item()), open(f"{OUT}/meta.json", "w"), indent=1)
print(max(gaps).item(), {k: v.item() for k, v in golden.items() if k.endswith("loss")}, sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(OUT) for f in fs))
