"""Makes the binary seeds of tests/fuzz/seeds (the text ones are written by hand). Needs nothing but Python.

    python scripts/make_fuzz_seeds.py tests/fuzz/seeds
"""

import json
import struct
import sys
from pathlib import Path

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
CODES = {UINT8: "B", INT8: "b", UINT16: "H", INT16: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?",
         UINT64: "Q", INT64: "q", FLOAT64: "d"}
F32, F16, Q8_0, Q4_K = 0, 1, 8, 12


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def plain(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + CODES[kind], value)


def entry(key, kind, value, of=None):
    if kind != ARRAY:
        return text(key) + struct.pack("<I", kind) + plain(kind, value)
    items = b"".join(plain(of, item) for item in value)
    return text(key) + struct.pack("<IIQ", ARRAY, of, len(value)) + items


def gguf(version, metadata, tensors, alignment=32):
    infos, data = b"", b""
    for name, shape, kind, size in tensors:
        data += b"\0" * (-len(data) % alignment)
        infos += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", kind, len(data))
        data += bytes(i % 7 for i in range(size))
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)) + b"".join(metadata) + infos
    return head + b"\0" * (-len(head) % alignment) + data


def safetensors(tensors, metadata=None):
    header, at = ({"__metadata__": metadata} if metadata else {}), 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(at)


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def thrift(fields):
    """A struct in Thrift's compact protocol: a list of (number, value), values being int (i32), ("i64", int), bytes,
    lists of structs, ints or bytes, or structs as lists of pairs."""
    out, last = b"", 0
    for number, value in fields:
        kind, body = thrift_value(value)
        out, last = out + bytes([(number - last) << 4 | kind]) + body, number
    return out + b"\0"


def thrift_value(value):
    if isinstance(value, tuple):
        return 6, varint(value[1] << 1)
    if isinstance(value, int):
        return 5, varint(value << 1)
    if isinstance(value, bytes):
        return 8, varint(len(value)) + value
    if isinstance(value, dict):
        return 12, thrift(value.items())
    kinds = {thrift_value(item)[0] for item in value}
    return 9, bytes([len(value) << 4 | kinds.pop()]) + b"".join(thrift_value(item)[1] for item in value)


def parquet(columns, is_text=True):
    """One row group, one plain page a column, all values required texts."""
    rows = len(next(iter(columns.values())))
    data, chunks = b"PAR1", []
    for name, values in columns.items():
        page = b"".join(struct.pack("<I", len(value)) + value for value in values)
        header = thrift({1: 0, 2: len(page), 3: len(page), 5: {1: rows, 2: 0, 3: 3, 4: 3}}.items())
        start, size = len(data), len(header) + len(page)
        data += header + page
        chunks.append({2: ("i64", start), 3: {1: 6, 2: [0], 3: [name.encode()], 4: 0, 5: ("i64", rows), 6: ("i64", size),
                                              7: ("i64", size), 9: ("i64", start)}})
    leaf = lambda name: {1: 6, 3: 0, 4: name.encode(), **({6: 0} if is_text else {})}
    schema = [{4: b"schema", 5: len(columns)}] + [leaf(name) for name in columns]
    group = {1: chunks, 2: ("i64", len(data)), 3: ("i64", rows)}
    footer = thrift({1: 1, 2: schema, 3: ("i64", rows), 4: [group]}.items())
    return data + footer + struct.pack("<I", len(footer)) + b"PAR1"


def main():
    out = Path(sys.argv[1])
    kinds = [entry(f"kind.{kind}", kind, 1) for kind in CODES]
    kinds += [entry(f"list.{kind}", ARRAY, [0, 1, 1], kind) for kind in CODES]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581a", "<0x41>"]
    vocabulary = [
        entry("general.architecture", STRING, "gemma3"),
        entry("general.alignment", UINT32, 32),
        entry("tokenizer.ggml.model", STRING, "llama"),
        entry("tokenizer.ggml.tokens", ARRAY, tokens, STRING),
        entry("tokenizer.ggml.scores", ARRAY, [-1000.0, 0.0, 0.0, 0.0, -1.5, 0.0], FLOAT32),
        entry("tokenizer.ggml.token_type", ARRAY, [3, 3, 3, 2, 1, 6], INT32),
        entry("tokenizer.ggml.bos_token_id", UINT32, 2),
        entry("tokenizer.ggml.add_space_prefix", BOOL, False),
        entry("tokenizer.chat_template", STRING, "{{ bos_token }}"),
    ]
    tensors = [
        ("token_embd.weight", [32, 6], Q8_0, 6 * 34),
        ("blk.0.attn_q.weight", [256, 2], Q4_K, 2 * 144),
        ("blk.0.attn_norm.weight", [8], F32, 32),
        ("output_norm.weight", [3], F16, 6),
    ]
    seeds = {
        "gguf/kinds": gguf(3, kinds, []),
        "gguf/model": gguf(3, vocabulary, tensors),
        "gguf/version2": gguf(2, vocabulary[:3], tensors[2:]),
        "safetensors_header/model": safetensors(
            [("model.norm.weight", "F32", [4], 16), ("model.embed_tokens.weight", "BF16", [3, 4], 24)], {"format": "pt"}
        ),
        "safetensors_header/adapter": safetensors(
            [("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "F16", [2, 3], 12), ("scalar", "I64", [], 8)]
        ),
        "safetensors_header/empty": safetensors([]),
        "parquet_rows/texts": parquet({"prompt": [b"a", b"bc"], "completion": [b"", "\u00e9".encode()], "unused": [b"x", b"y"]}),
        "parquet_rows/bytes": parquet({"text": [b"a", b"\xff\xfe"]}, is_text=False),
    }
    for name, data in seeds.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)


main()
