"""Makes tests/goldens/gguf: block vectors of every readable type, and a tiny complete Gemma 3 GGUF.

    python scripts/make_gguf_goldens.py

Made with gguf 0.19.0, numpy 2.4.6, safetensors 0.8.0, Python 3.11.

blocks.safetensors   per type `<type>.bytes` (u8) and `<type>.values` (f32), as gguf.quants.dequantize gives them
tiny-gemma3.gguf     6 layers (5 sliding, 1 full), every readable type somewhere, a sentencepiece-like vocabulary
tiny-gemma3.json     per tensor, under its Hugging Face name: shape, type, CRC-32 of the little-endian f32 values in
                     Hugging Face's convention (norms minus 1), and the first values
"""

import json
import zlib
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, TokenType
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "goldens" / "gguf"

# Byte offsets of the f16 scales in the blocks that gguf only reads: they must stay finite; every other byte may be anything.
K_SCALES = {T.Q2_K: (80, 82), T.Q3_K: (108,), T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,), T.IQ4_XS: (0,)}
TYPES = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, *K_SCALES]


def stored(rng, kind, rows, columns, std=0.05):
    """Bytes [rows, bytes per row] of a random matrix: quantised where gguf can, else random valid blocks."""
    if kind not in K_SCALES:
        values = (rng.standard_normal((rows, columns)) * std).astype(np.float32)
        return np.ascontiguousarray(quantize(values, kind)).view(np.uint8).reshape(rows, -1)
    size, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // size, block_bytes), dtype=np.uint8)
    for offset in K_SCALES[kind]:
        scales = (rng.standard_normal(len(blocks)) * std / 500).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def values_of(raw, kind):
    typed = raw.view({T.F32: np.float32, T.F16: np.float16}.get(kind, np.uint8))
    return np.asarray(dequantize(typed, kind), dtype=np.float32)


def make_blocks():
    rng = np.random.default_rng(7)
    tensors = {}
    for kind in TYPES:
        size, block_bytes = GGML_QUANT_SIZES[kind]
        columns = max(size, 32) * (4 if size <= 32 else 1)
        raw = stored(rng, kind, 3, columns, std=2.0)
        if kind not in (T.F32, T.F16, T.BF16):
            # A zero, a negative and a subnormal scale.
            offset = K_SCALES.get(kind, (0,))[0]
            raw.reshape(-1, block_bytes)[:3, offset : offset + 2] = (
                np.array([0.0, -0.125, 6e-8], dtype=np.float16).view(np.uint8).reshape(3, 2)
            )
        tensors[f"{kind.name}.bytes"] = raw
        tensors[f"{kind.name}.values"] = values_of(raw, kind)
    save_file(tensors, OUT / "blocks.safetensors")


def vocabulary():
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    tokens = [(t, -1000.0, TokenType.CONTROL) for t in special]
    tokens += [(f"<0x{b:02X}>", -1000.0, TokenType.BYTE) for b in range(256)]
    tokens.append(("\n", -1000.0, TokenType.USER_DEFINED))
    pieces = ["\u2581", *"abcdefghijklmnopqrstuvwxyz.,!?", "th", "the", "\u2581the", "er", "in", "on", "\u00e9", "\u4f60"]
    tokens += [(t, -float(i), TokenType.NORMAL) for i, t in enumerate(pieces)]
    tokens += [(f"<unused{i}>", -1000.0, TokenType.USER_DEFINED) for i in range(320 - len(tokens))]
    return tokens


def make_model():
    rng = np.random.default_rng(11)
    d, f, heads, kv_heads, head_dim, layers = 32, 256, 2, 1, 16, 6
    tokens = vocabulary()
    w = GGUFWriter(OUT / "tiny-gemma3.gguf", "gemma3")
    w.add_name("tiny")
    w.add_context_length(128)
    w.add_embedding_length(d)
    w.add_block_count(layers)
    w.add_feed_forward_length(f)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(1000000.0)
    w.add_sliding_window(16)
    w.add_array("test.nested", [[1, 2], [3, 4]])
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([t for t, _, _ in tokens])
    w.add_token_scores([s for _, s, _ in tokens])
    w.add_token_types([int(k) for _, _, k in tokens])
    w.add_pad_token_id(0)
    w.add_eos_token_id(1)
    w.add_bos_token_id(2)
    w.add_unk_token_id(3)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(False)
    w.add_chat_template("{{ bos_token }}")

    expected = {}

    def add(gguf_name, hf_name, kind, shape):
        norm = len(shape) == 1
        if norm:
            raw = (1 + rng.standard_normal((1, *shape)) * 0.1).astype(np.float32).view(np.uint8)
        else:
            raw = stored(rng, kind, *shape)
        values = values_of(raw, kind).reshape(shape)
        if norm:
            values = values - np.float32(1.0)
        if kind in (T.F32, T.F16):
            w.add_tensor(gguf_name, raw.view(np.float32 if kind == T.F32 else np.float16).reshape(shape))
        else:
            w.add_tensor(gguf_name, raw, raw_dtype=kind)
        values = np.ascontiguousarray(values, dtype="<f4")
        expected[hf_name] = {
            "type": kind.name,
            "shape": list(shape),
            "crc32": zlib.crc32(values.tobytes()),
            "first": [float(v) for v in values.ravel()[:4]],
        }

    add("token_embd.weight", "model.embed_tokens.weight", T.Q8_0, (len(tokens), d))
    down = [T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.F16]
    for i, kind in enumerate(down):
        gguf, hf = f"blk.{i}.", f"model.layers.{i}."
        add(gguf + "attn_norm.weight", hf + "input_layernorm.weight", T.F32, (d,))
        add(gguf + "attn_q.weight", hf + "self_attn.q_proj.weight", T.Q5_0, (heads * head_dim, d))
        add(gguf + "attn_k.weight", hf + "self_attn.k_proj.weight", T.Q4_1, (kv_heads * head_dim, d))
        add(gguf + "attn_v.weight", hf + "self_attn.v_proj.weight", T.BF16, (kv_heads * head_dim, d))
        add(gguf + "attn_q_norm.weight", hf + "self_attn.q_norm.weight", T.F32, (head_dim,))
        add(gguf + "attn_k_norm.weight", hf + "self_attn.k_norm.weight", T.F32, (head_dim,))
        add(gguf + "attn_output.weight", hf + "self_attn.o_proj.weight", T.F32, (d, heads * head_dim))
        add(gguf + "post_attention_norm.weight", hf + "post_attention_layernorm.weight", T.F32, (d,))
        add(gguf + "ffn_norm.weight", hf + "pre_feedforward_layernorm.weight", T.F32, (d,))
        add(gguf + "ffn_gate.weight", hf + "mlp.gate_proj.weight", T.Q4_0, (f, d))
        add(gguf + "ffn_up.weight", hf + "mlp.up_proj.weight", T.Q5_1, (f, d))
        add(gguf + "ffn_down.weight", hf + "mlp.down_proj.weight", kind, (d, f))
        add(gguf + "post_ffw_norm.weight", hf + "post_feedforward_layernorm.weight", T.F32, (d,))
    add("output_norm.weight", "model.norm.weight", T.F32, (d,))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    (OUT / "tiny-gemma3.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    make_blocks()
    make_model()
