#!/usr/bin/env python3
"""Makes tests/goldens/gemma3n_audio: a tiny random Gemma 3n that hears, with what transformers and PEFT compute on it.

usage: make_gemma3n_audio_goldens.py [OUT] (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0, timm 1.0.31)

  model/              config.json, model.safetensors (bf16; computed with in f32): every parameter random, norms included;
                      language model, audio tower and its embedder, no vision
  adapter/            a PEFT adapter with B != 0 on the seven projections of the language model, on every linear layer of
                      the tower, and on the embedder's projection
  golden.safetensors  row.<i>.input_ids, row.<i>.labels, row.<i>.clip.<k> [frames, bins]; per variant (base, lora) logits of
                      all rows, loss; of lora, for the first clip, what each part of the tower gives; grad.<PEFT key>
  meta.json           versions, and how far transformers' f32 is from its own f64: logits, and all gradients together

Everything is f32, eager attention, one thread, in eval() mode. Every clip is heard alone: beside a longer one transformers
would let it look at padding. The tower sees one row ahead, kernels and strides are no squares, one clip fills all of its
tokens and the others not; a row without a clip has a word of the tower's.
"""
import copy, json, os, shutil, sys
import peft, safetensors, timm, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from timm.models._efficientnet_builder import decode_arch_def
from transformers import Gemma3nConfig, Gemma3nForConditionalGeneration

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/gemma3n_audio"
S, F = "sliding_attention", "full_attention"
WORDS, BINS, TOKENS = 40, 9, 5  # then 4 words of pictures and 6 of sounds
VISION, AUDIO = WORDS, WORDS + 4
BOA, EOA, CLIP = WORDS - 1, AUDIO, AUDIO + 1
TEXT = dict(vocab_size=WORDS + 10, vocab_size_per_layer_input=WORDS, hidden_size=16, hidden_size_per_layer_input=4,
            intermediate_size=[24, 20, 24], num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
            sliding_window=6, layer_types=[S, F, S], num_kv_shared_layers=1, laurel_rank=4, max_position_embeddings=128,
            activation_sparsity_pattern=[0.9, 0.0, 0.0], pad_token_id=0, eos_token_id=1, bos_token_id=2)
TOWER = dict(vocab_size=6, vocab_offset=AUDIO, input_feat_size=BINS, hidden_size=12, rms_norm_eps=1e-4,
             conf_attention_chunk_size=3, conf_attention_context_left=4, conf_attention_context_right=1,
             conf_attention_logit_cap=2.0, conf_num_attention_heads=2, conf_num_hidden_layers=2, conf_conv_kernel_size=3,
             conf_reduction_factor=3, conf_residual_weight=0.4, gradient_clipping=1.8, sscp_conv_channel_size=[5, 3],
             sscp_conv_group_norm_eps=1e-2, sscp_conv_kernel_size=[[3, 4], [2, 3]], sscp_conv_stride_size=[[2, 1], [1, 2]])
FRAMES = [[23], [8, 30], []]
PARTS = ["conv_0", "conv_1", "subsample_conv_projection", "ffw_layer_start", "attn", "attention", "lconv1d",
         "ffw_layer_end", "conformer.0", "conformer.1", "audio_tower"]
TARGETS = (r".*language_model.*layers\.\d+\.(self_attn|mlp)\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
           r"|.*audio_tower.*\.(q_proj|k_proj|v_proj|pos_proj|post|ffw_layer_1|ffw_layer_2|linear_start|linear_end"
           r"|input_proj_linear)|.*embed_audio\.embedding_projection")


def randomize(model, g):
    with torch.no_grad():
        for name, p in model.named_parameters():
            draw = lambda: torch.randn(p.shape, generator=g)
            if "per_dim_scale" in name:
                p.copy_(0.5 * draw())
            elif p.ndim == 1:
                p.copy_(1 + 0.2 * draw())
            elif "embed_tokens" in name or name.endswith("embedding.weight"):
                p.copy_(0.3 * draw())
            else:
                size = 0.2 if "_coefs" in name else 1.0  # larger ones make any rounding large, layer by layer
                p.copy_(size * draw() / p[0].numel() ** 0.5)
            p.copy_(p.bfloat16().float())


def config():
    # Pictures play no part: the smallest network that can be built.
    blocks = decode_arch_def([["er_r1_k3_s2_e4_c16"], ["uir_r1_a0_k0_s1_e1_c16"], ["uir_r1_a0_k0_s1_e1_c16"],
                              ["uir_r1_a0_k0_s1_e1_c16"]])
    vision = dict(architecture="mobilenetv5_300m_enc", model_args=dict(block_args=blocks, stem_size=8), hidden_size=16,
                  vocab_size=4, vocab_offset=VISION, num_classes=0, label_names=[])
    return Gemma3nConfig(text_config=TEXT, audio_config=TOWER, vision_config=vision, audio_soft_tokens_per_image=TOKENS,
                         boi_token_id=WORDS - 2, eoi_token_id=VISION, image_token_id=VISION + 1, boa_token_id=BOA,
                         eoa_token_id=EOA, audio_token_id=CLIP)


def make_rows(g):
    words = lambda n: torch.randint(3, WORDS - 2, (n,), generator=g).tolist()
    clip = [BOA] + [CLIP] * TOKENS + [EOA]
    ids = [[2] + words(3) + clip + words(4), [2] + words(2) + clip + words(1) + clip + words(3),
           [2] + words(4) + [EOA, AUDIO + 3] + words(2)]
    rows = []
    for row, frames in zip(ids, FRAMES):
        row = torch.tensor(row)
        labels = torch.where(row >= BOA, -100, row)
        labels[:2] = -100
        rows.append((row, labels, [2 * torch.randn(n, BINS, generator=g) for n in frames]))
    return rows


def logits_of(model, row):
    ids, _, clips = row
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    dtype = base.lm_head.weight.dtype
    if not clips:
        return model(input_ids=ids[None], use_cache=False).logits[0]
    # Each clip by itself, in place of all at once.
    hear = type(base.model).get_audio_features

    def heard(features, mask, **kwargs):
        alone = [hear(base.model, clip[None].to(dtype), torch.zeros(1, len(clip), dtype=torch.bool), return_dict=True)
                 for clip in clips]
        most = max(o.pooler_output.shape[1] for o in alone)
        grow = lambda x: torch.nn.functional.pad(x, (0, 0, 0, most - x.shape[1]))
        absent = lambda o: torch.nn.functional.pad(o.audio_mel_mask, (0, most - o.audio_mel_mask.shape[1]), value=True)
        alone[0].pooler_output, alone[0].audio_mel_mask = (torch.cat([grow(o.pooler_output) for o in alone]),
                                                           torch.cat([absent(o) for o in alone]))
        return alone[0]
    base.model.get_audio_features = heard
    longest = max(map(len, clips))
    features = torch.zeros(len(clips), longest, BINS, dtype=dtype)
    mask = torch.ones(len(clips), longest, dtype=torch.bool)
    o = model(input_ids=ids[None], input_features=features, input_features_mask=mask, use_cache=False)
    del base.model.get_audio_features
    return o.logits[0]


def run(model, rows):
    logits = [logits_of(model, row) for row in rows]
    supervised = sum((labels[1:] != -100).sum() for _, labels, _ in rows)
    losses = [torch.nn.functional.cross_entropy(x[:-1], labels[1:], ignore_index=-100, reduction="sum")
              for x, (_, labels, _) in zip(logits, rows)]
    return torch.cat(logits), sum(losses) / supervised


shutil.rmtree(OUT, ignore_errors=True)
torch.manual_seed(0)
# Of this seed no token's feed-forward output nearly cancels, which would leave a few digits of every gradient: f32 is 2e-6 from f64.
g = torch.Generator().manual_seed(43)
model = Gemma3nForConditionalGeneration(config()).eval()
model.set_attn_implementation("eager")
randomize(model, g)
model.tie_weights()
rows = make_rows(g)
golden = {}
for i, (ids, labels, clips) in enumerate(rows):
    golden[f"row.{i}.input_ids"], golden[f"row.{i}.labels"] = ids, labels
    for k, clip in enumerate(clips):
        golden[f"row.{i}.clip.{k}"] = clip

os.makedirs(f"{OUT}/model")
kept = {n: p.bfloat16().contiguous() for n, p in model.state_dict().items()
        if "vision" not in n and n != "lm_head.weight"}
save_file(kept, f"{OUT}/model/model.safetensors", metadata={"format": "pt"})
model.config.vision_config.model_args = None  # timm leaves objects of Python's there
stated = json.loads(model.config.to_json_string())
stated.update(architectures=["Gemma3nForConditionalGeneration"], vision_config=None)
with open(f"{OUT}/model/config.json", "w") as f:
    f.write(json.dumps(stated, indent=1, sort_keys=True) + "\n")

with torch.no_grad():
    logits, loss = run(model, rows)
    golden["base.logits"], golden["base.loss"] = logits, loss
    wide_rows = [(ids, labels, [clip.double() for clip in clips]) for ids, labels, clips in rows]
    wide, _ = run(copy.deepcopy(model).double(), wide_rows)
    noise = ((wide - logits).abs().max() / logits.abs().max()).item()

adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, bias="none", target_modules=TARGETS,
                                           task_type="CAUSAL_LM"))
with torch.no_grad():
    for name, p in adapted.named_parameters():
        if "lora_A" in name:
            p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
        if "lora_B" in name:
            p.copy_(0.2 * torch.randn(p.shape, generator=g))
adapted.peft_config["default"].base_model_name_or_path = "tiny/gemma3n_audio"
adapted.save_pretrained(f"{OUT}/adapter")
os.remove(f"{OUT}/adapter/README.md")
adapted.eval()

# What the parts give, of the first clip alone.
tower, clip = adapted.get_base_model().model.audio_tower, rows[0][2][0]
hooks = []
for name, module in [("audio_tower", tower), *tower.named_modules()]:
    if any(name == part or name.endswith("." + part) for part in PARTS) or name.endswith(("conformer.0", "conformer.1")):
        def tap(_, __, output, name=name):
            x = getattr(output, "last_hidden_state", output)[0].detach()
            golden[f"lora.{name}"] = x.permute(1, 2, 0) if ".conv_" in name else x.flatten(1)
        hooks.append(module.register_forward_hook(tap))
with torch.no_grad():
    heard = adapted.get_base_model().model.get_audio_features(clip[None], torch.zeros(1, len(clip), dtype=torch.bool), return_dict=True)
    golden["lora.embed_audio"] = heard.pooler_output[0]
for hook in hooks:
    hook.remove()

gradients = lambda model: torch.cat([p.grad.double().flatten() for n, p in model.named_parameters() if "lora_" in n])
wide = copy.deepcopy(adapted).double()
run(wide, wide_rows)[1].backward()
logits, loss = run(adapted, rows)
golden["lora.logits"], golden["lora.loss"] = logits.detach(), loss.detach()
loss.backward()
noise_of_gradients = ((gradients(adapted) - gradients(wide)).norm() / gradients(wide).norm()).item()
for name, p in adapted.named_parameters():
    if "lora_" in name:
        golden[f"grad.{name.replace('.default', '')}"] = p.grad
save_file({k: v.contiguous().clone() for k, v in golden.items()}, f"{OUT}/golden.safetensors")
versions = {m.__name__: m.__version__ for m in (torch, transformers, peft, safetensors, timm)}
json.dump(dict(versions=versions, relative_noise_f32_against_f64=noise,
               relative_noise_of_gradients=noise_of_gradients), open(f"{OUT}/meta.json", "w"), indent=1)
for name in ("golden.safetensors", "model/model.safetensors", "adapter/adapter_model.safetensors"):
    os.chmod(f"{OUT}/{name}", 0o644)
print(noise, {k: v.item() for k, v in golden.items() if k.endswith("loss")})
