"""Makes tests/goldens/export: tiny Gemma 3 models, adapters as PEFT saves them, and PEFT's merge of each.

Made with torch 2.15.0, transformers 5.23.0, peft 0.21.2 (`versions.json` says with which the committed files were).

    python scripts/make_export_goldens.py tests/goldens/export
"""

import json
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

TEXT = dict(
    vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=4, query_pre_attn_scalar=4, sliding_window=4, max_position_embeddings=32,
    layer_types=["sliding_attention", "full_attention"], pad_token_id=0, bos_token_id=2, eos_token_id=1,
)
VISION = dict(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
    vision_use_head=False,
)
KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "lora": dict(r=2, lora_alpha=4, target_modules=KINDS),
    "rslora": dict(r=4, lora_alpha=2, target_modules=["q_proj", "down_proj"], use_rslora=True, lora_dropout=0.1),
    "dora": dict(r=2, lora_alpha=3, target_modules=["v_proj", "up_proj"], use_dora=True),
    "patterns": dict(
        r=2, lora_alpha=4, target_modules="all-linear", exclude_modules=["o_proj"], init_lora_weights="gaussian",
        rank_pattern={"q_proj": 3, r"layers\.1\.mlp\..*": 1}, alpha_pattern={"layers.0.self_attn.v_proj": 9},
    ),
}
# Adapters on some layers; of a module that is named by its whole path PEFT does not ask in which layer it is.
ON_LAYERS = {
    "layers": dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "down_proj", "model.layers.0.mlp.up_proj"], layers_to_transform=[1],
        layers_pattern=["blocks", "layers"], rank_pattern={"down_proj": 1}, alpha_pattern={"layers.1.self_attn.q_proj": 3},
    ),
    "layer": dict(r=2, lora_alpha=3, target_modules=["v_proj"], layers_to_transform=0),
}
SCOPED = r"model\.language_model\.layers\.\d+\.(self_attn\.q_proj|mlp\.up_proj)"


def text_model():
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**TEXT))


def multimodal_model():
    config = transformers.Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, boi_token_index=13, eoi_token_index=14,
        image_token_index=15, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def randomise(module, std):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)


def make(out, name, build, adapters):
    base = build()
    randomise(base, 0.3)
    base.save_pretrained(out / name)
    adapt(out, name, type(base), adapters)


def adapt(out, name, of, adapters):
    for adapter, settings in adapters.items():
        torch.manual_seed(len(adapter))
        folder = out / f"{name}-{adapter}"
        model = of.from_pretrained(out / name)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_magnitude" in key:
                    parameter.mul_(torch.empty_like(parameter).uniform_(0.8, 1.2))
                elif "lora_B" in key:
                    parameter.normal_(std=0.2)
        model.peft_config["default"].base_model_name_or_path = f"tiny/{name}"
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()
        merged = PeftModel.from_pretrained(of.from_pretrained(out / name), folder).merge_and_unload()
        merged.save_pretrained(out / "tmp")
        changed = {k: v for k, v in load_file(out / "tmp/model.safetensors").items() if "_proj.weight" in k}
        save_file({k: v for k, v in changed.items() if "vision" not in k}, out / f"{name}-{adapter}-merged.safetensors")
        shutil.rmtree(out / "tmp")


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    make(out, "text", text_model, ADAPTERS)
    make(out, "multimodal", multimodal_model, {"lora": dict(r=2, lora_alpha=4, target_modules=SCOPED)})
    adapt(out, "text", transformers.Gemma3ForCausalLM, ON_LAYERS)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    (out / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


main()
