#!/usr/bin/env python3
"""Times LoRA training steps of transformers + PEFT in the shape of a job of gpu_check.sh, and prints one JSON.

    scripts/gpu_check.sh target/release/gemma-tune --reference scripts/gpu_reference.py
    python3 scripts/gpu_reference.py --size 1b --batch 2 --seq 2048 --model FOLDER [--quantization nf4] [--compute-dtype f16]

LoRA r=16 on all seven projections, random tokens, all supervised, AdamW, gradients clipped at 1; SDPA attention. What gpu_check.sh knows
beside the size comes in variables (REFERENCE_MODEL, _QUANTIZATION, _COMPUTE_DTYPE, _RECOMPUTE, _STEPS, _DEVICE), which options
overrule. Needs torch, transformers, peft, and for NF4 bitsandbytes. `gemm_tflops` is the rate of large products here: the ceiling
that both programs have in practice.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time


def given(name, default=None):
    return os.environ.get(f"REFERENCE_{name}", default)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", required=True, help="named in what is printed")
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--seq", type=int, required=True)
parser.add_argument("--model", default=given("MODEL"), help="a Hugging Face folder")
parser.add_argument("--quantization", default=given("QUANTIZATION", "none"), choices=["none", "nf4"])
parser.add_argument("--compute-dtype", default=given("COMPUTE_DTYPE", "bf16"), choices=["bf16", "f16", "f32"])
parser.add_argument("--recompute", default=given("RECOMPUTE", "1"), choices=["0", "1"], help="gradient checkpointing")
parser.add_argument("--steps", type=int, default=int(given("STEPS", "13")))
parser.add_argument("--device", default=given("DEVICE", "cuda"))
args = parser.parse_args()
if not args.model:
    parser.error("name a --model")

try:
    import peft
    import torch
    import transformers
except ImportError as error:
    sys.exit(f"error: {error}\nhint: pip install torch transformers peft bitsandbytes, or leave --reference out")

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
WARM_UP = 3
device = torch.device("cuda" if args.device == "auto" else args.device)
on_gpu = device.type == "cuda"
dtype = DTYPES[args.compute_dtype]


def wait():
    if on_gpu:
        torch.cuda.synchronize(device)


def gemm_tflops(size=8192 if on_gpu else 512, runs=8):
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(runs):
        wait()
        start = time.perf_counter()
        a @ b
        wait()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e12


def model():
    options = {"dtype": dtype if args.quantization == "none" else torch.bfloat16, "attn_implementation": "sdpa"}
    if args.quantization == "nf4":
        # Of Gemma 3n transformers clamps what mixes the streams as it trains, which packed numbers cannot be; nor do we pack it.
        whole = ["lm_head", "prediction_coefs", "correction_coefs", "modality_router"]
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=whole
        )
    base = transformers.AutoModelForCausalLM.from_pretrained(args.model, device_map={"": device}, **options)
    base.config.use_cache = False
    if args.recompute == "1":
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = peft.get_peft_model(base, peft.LoraConfig(r=16, lora_alpha=32, target_modules=names, task_type="CAUSAL_LM"))
    # As ours: the adapter and its optimiser in f32.
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned.train()


def main():
    result = {"size": args.size, "batch": args.batch, "seq": args.seq, "quantization": args.quantization, "tok_s": None, "error": None}
    result.update(compute_dtype=args.compute_dtype, recomputed=args.recompute == "1", gemm_tflops=gemm_tflops())
    result["versions"] = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    seconds, losses = [], []
    try:
        tuned = model()
        trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        draw, words = random.Random(7), tuned.config.get_text_config().vocab_size
        for _ in range(args.steps):
            rows = [[draw.randrange(3, words) for _ in range(args.seq)] for _ in range(args.batch)]
            wait()
            start = time.perf_counter()
            ids = torch.tensor(rows, device=device)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss = tuned(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            wait()
            seconds.append(time.perf_counter() - start)
    except Exception as error:  # out of memory among them: what was measured until then stands
        result["error"] = f"{type(error).__name__}: {error}"[:500]
    after = seconds[WARM_UP:] or seconds[1:]
    if after:
        result["tok_s"] = args.batch * args.seq / statistics.median(after)
    result.update(steps=len(seconds), losses=losses, peak_device_bytes=torch.cuda.max_memory_reserved(device) if on_gpu else None)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
