#!/usr/bin/env python3
"""Writes a model with random weights in the shape of a published Gemma 3, or of the language model of a Gemma 3n, for benches:
nothing is downloaded, nothing is learnt.

usage: make_random_model.py CONFIG.json FOLDER [--layers N] [--vocabulary N]
CONFIG.json is one of configs/models/, or any config.json of a Gemma 3 or 3n; make_random_media_model.py adds the towers. Needs
Python 3 alone.
"""

import argparse
import array
import json
import math
import random
import struct
import sys
from pathlib import Path

# A prime, so that no two rows of a matrix start at the same value of the repeated block.
BLOCK = 65521
CHUNK_BYTES = 1 << 24


def bf16_block(deviation):
    """Normal values as bf16 bits, rounded toward zero."""
    source = random.Random(1)
    bits = (struct.unpack("<I", struct.pack("<f", source.gauss(0, deviation)))[0] >> 16 for _ in range(BLOCK))
    block = array.array("H", bits)
    if sys.byteorder == "big":
        block.byteswap()
    return block.tobytes()


def shapes(config):
    """Every tensor's name and shape."""
    return shapes_of_3n(config) if config["model_type"] == "gemma3n_text" else shapes_of_3(config)


def feed_forward(d, f):
    return {"mlp.gate_proj": [f, d], "mlp.up_proj": [f, d], "mlp.down_proj": [d, f]}


def norms(d):
    names = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    return {name: [d] for name in names}


def shapes_of_3(config):
    d, f, e = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    h, g = config["num_attention_heads"], config["num_key_value_heads"]
    yield "model.embed_tokens.weight", [config["vocab_size"], d]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, shape in {
            "self_attn.q_proj": [h * e, d],
            "self_attn.k_proj": [g * e, d],
            "self_attn.v_proj": [g * e, d],
            "self_attn.o_proj": [d, h * e],
            "self_attn.q_norm": [e],
            "self_attn.k_norm": [e],
            **feed_forward(d, f),
            **norms(d),
        }.items():
            yield f"{at}.{name}.weight", shape
    yield "model.norm.weight", [d]


def shapes_of_3n(config):
    d, e, p = config["hidden_size"], config["head_dim"], config["hidden_size_per_layer_input"]
    q, kv = config["num_attention_heads"] * e, config["num_key_value_heads"] * e
    streams, rank, layers = config["altup_num_inputs"], config["laurel_rank"], config["num_hidden_layers"]
    yield "model.embed_tokens.weight", [config["vocab_size"], d]
    yield "model.embed_tokens_per_layer.weight", [config["vocab_size_per_layer_input"], layers * p]
    yield "model.per_layer_model_projection.weight", [layers * p, d]
    yield "model.per_layer_projection_norm.weight", [p]
    for stream in range(streams - 1):
        yield f"model.altup_projections.{stream}.weight", [d, d]
        yield f"model.altup_unembed_projections.{stream}.weight", [d, d]
    for layer in range(layers):
        at, f = f"model.layers.{layer}", config["intermediate_size"][layer]
        # The last layers read the keys and values of earlier ones.
        makes_keys = layer < layers - config["num_kv_shared_layers"]
        yield f"{at}.altup.correct_output_scale", [d]
        for name, shape in {
            "altup.correction_coefs": [streams, streams],
            "altup.modality_router": [streams, d],
            "altup.prediction_coefs": [streams * streams, streams],
            "altup.router_norm": [d],
            "laurel.linear_left": [rank, d],
            "laurel.linear_right": [d, rank],
            "laurel.post_laurel_norm": [d],
            "self_attn.q_proj": [q, d],
            **({"self_attn.k_proj": [kv, d], "self_attn.v_proj": [kv, d], "self_attn.k_norm": [e]} if makes_keys else {}),
            "self_attn.o_proj": [d, q],
            "self_attn.q_norm": [e],
            **feed_forward(d, f),
            "per_layer_input_gate": [p, d],
            "per_layer_projection": [d, p],
            "post_per_layer_input_norm": [d],
            **norms(d),
        }.items():
            yield f"{at}.{name}.weight", shape
    yield "model.norm.weight", [d]


def cut_layers(text, n):
    """Leaves the first layers of a text configuration."""
    text["num_hidden_layers"] = n
    for key in ("layer_types", "intermediate_size", "activation_sparsity_pattern"):
        if isinstance(text.get(key), list):
            text[key] = text[key][:n]
    if "num_kv_shared_layers" in text:
        text["num_kv_shared_layers"] = min(text["num_kv_shared_layers"], n // 3)


def text_config(path, layers=None, vocabulary=None):
    """The text part of a config.json, with what a multimodal release leaves to transformers' defaults."""
    config = json.loads(Path(path).read_text())
    config = config.get("text_config", config)
    if config.get("model_type") == "gemma3n_text":
        config = {**config, "architectures": ["Gemma3nForCausalLM"], "tie_word_embeddings": True}
    else:
        config = with_defaults_of_3(config)
    if vocabulary:
        config.update({key: vocabulary for key in ("vocab_size", "vocab_size_per_layer_input") if key in config})
    if layers:
        cut_layers(config, layers)
    return config


def with_defaults_of_3(config):
    defaults = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "max_position_embeddings": 131072,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    }
    return {**defaults, **config, "architectures": ["Gemma3ForCausalLM"]}


def write(path, named):
    """Writes bf16 tensors of these names and shapes, none of which is in memory as a whole."""
    header, at, tensors = {}, 0, []
    for name, shape in named:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        tensors.append((shape, size))
        at += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    blocks = {}
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape, size in tensors:
            # Matrices and kernels keep the size of what they multiply; norms are close to 1 + 0, biases to 0.
            deviation = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
            if deviation not in blocks:
                blocks[deviation] = bf16_block(deviation) * (CHUNK_BYTES // (2 * BLOCK))
            block = memoryview(blocks[deviation])
            while size:
                size -= file.write(block[: min(size, len(block))])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--vocabulary", type=int)
    arguments = parser.parse_args()
    config = text_config(arguments.config, arguments.layers, arguments.vocabulary)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    write(arguments.folder / "model.safetensors", shapes(config))


if __name__ == "__main__":
    main()
