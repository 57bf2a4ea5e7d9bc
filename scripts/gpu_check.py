#!/usr/bin/env python3
"""The work of gpu_check.sh: doctor, a loss curve against the CPU, and a bench. Needs Python 3 alone."""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CURVE_STEPS = 20
BENCH_STEPS = 10
WARM_UP_STEPS = 3
BATCH, LENGTH = 4, 2048


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def device_mib(pid):
    """Device memory of a process in units of 2^20 bytes, as nvidia-smi sees it; None where it does not."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.splitlines()
        return sum(int(line.split(",")[1]) for line in lines if line.split(",")[0].strip() == str(pid)) or None
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None


def run(command, **options):
    """Runs a command; its exit code, output, seconds, and peak device memory."""
    started, peak = time.monotonic(), None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def watch():
        nonlocal peak
        while process.poll() is None:
            used = device_mib(process.pid)
            peak = max(peak or 0, used) if used else peak
            time.sleep(0.25)

    watcher = threading.Thread(target=watch, daemon=True)
    if shutil.which("nvidia-smi"):
        watcher.start()
    out, err = process.communicate()
    tail = err.strip().splitlines()[-5:]
    return {
        "exit": process.returncode,
        "out": out,
        "error": "\n".join(tail) if process.returncode else None,
        "seconds": round(time.monotonic() - started, 1),
        "peak_device_mib": peak,
    }


def make_model(folder, size, *more):
    config = ROOT / f"configs/models/gemma-3-{size}.json"
    subprocess.run([sys.executable, ROOT / "scripts/make_random_model.py", config, folder, *more], check=True)
    return json.loads((folder / "config.json").read_text())


def train(binary, work, model, device, vocabulary, steps, batch, length, name, compute_dtype="auto"):
    """Trains on random tokens, all supervised; the run's report, its steps and its summary."""
    source = random.Random(7)
    rows = work / f"{name}.rows.jsonl"
    with open(rows, "w") as file:
        for _ in range(steps * batch):
            ids = [source.randrange(3, vocabulary) for _ in range(length)]
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")
    recipe, out = work / f"{name}.yaml", work / f"{name}.out"
    recipe.write_text(
        f"model: {{base: {model}, dtype: bf16, compute_dtype: {compute_dtype}}}\n"
        "adapter: {r: 16, lora_alpha: 32, target_modules: all-linear}\n"
        f"data: {{train: [{{path: {rows}, format: tokens}}], max_length: {length}, packing: false}}\n"
        f"training: {{per_device_train_batch_size: {batch}, gradient_accumulation_steps: 1, max_steps: {steps},"
        " learning_rate: 1.0e-3, seed: 7}\n"
        f"output: {{dir: {out}, report_to: [jsonl]}}\n"
    )
    report = run([binary, "train", str(recipe), "--device", device])
    metrics = out / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    summary = out / "summary.json"
    summary = json.loads(summary.read_text()) if summary.exists() else {}
    return report, [line for line in lines if "loss" in line], summary


def curve(binary, work, device):
    """Losses of a small model on the CPU, and on the device in f32 and in what it multiplies fastest."""
    model = work / "small"
    config = make_model(model, "270m", "--layers", "6", "--vocabulary", "1024")
    runs = {"cpu": ("cpu", "auto"), "f32": (device, "f32"), "fastest": (device, "auto")}
    result = {"error": None, "largest_relative_difference": {}}
    for name, (where, compute_dtype) in runs.items():
        report, steps, _ = train(
            binary, work, model, where, config["vocab_size"], CURVE_STEPS, 2, 64, f"curve-{name}", compute_dtype
        )
        losses = [step["loss"] for step in steps]
        gaps = [abs(a - b) / abs(b) for a, b in zip(losses, result.get("cpu", losses))]
        result[name] = losses
        result["largest_relative_difference"][name] = max(gaps) if len(gaps) == CURVE_STEPS else None
        result["error"] = result["error"] or report["error"]
    return result


def flops_per_token(config):
    """Of the forward pass and the input gradients: the base is frozen. Attention's scores and the adapter are not counted."""
    d, f, e = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    h, g = config["num_attention_heads"], config["num_key_value_heads"]
    layer = 2 * d * h * e + 2 * d * g * e + 3 * d * f
    return 4 * (config["num_hidden_layers"] * layer + config["vocab_size"] * d)


def bench(binary, work, device, size, reference):
    """Tokens per second and memory of one published shape."""
    folder = work / size
    config = make_model(folder, size)
    steps_wanted = BENCH_STEPS + WARM_UP_STEPS
    words, name = config["vocab_size"], f"bench-{size}"
    report, steps, summary = train(binary, work, folder, device, words, steps_wanted, BATCH, LENGTH, name)
    shutil.rmtree(folder)
    rates = [step["tokens_per_second"] for step in steps[WARM_UP_STEPS:]]
    rate = statistics.median(rates) if rates else None
    tflops = rate * flops_per_token(config) / 1e12 if rate else None
    peak = float(os.environ["PEAK_TFLOPS"]) if os.environ.get("PEAK_TFLOPS") else None
    result = {
        "size": size,
        "batch": BATCH,
        "seq": LENGTH,
        "tok_s": rate,
        "peak_device_mib": report["peak_device_mib"],
        "peak_device_bytes": summary.get("peak_device_bytes"),
        "peak_over_estimate": summary.get("peak_over_estimate"),
        "tflops": tflops,
        "utilisation": tflops / peak if tflops and peak else None,
        "error": report["error"],
        "reference": None,
    }
    if reference:
        other = run([sys.executable, reference, "--size", size, "--batch", str(BATCH), "--seq", str(LENGTH)])
        lines = other["out"].strip().splitlines()
        try:
            result["reference"] = json.loads(lines[-1])
        except (IndexError, ValueError):
            result["reference"] = {"error": other["error"]}
        ours, theirs = rate, result["reference"].get("tok_s")
        result["speed_ratio"] = ours / theirs if ours and theirs else None
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=lambda path: str(Path(path).resolve()))
    parser.add_argument("reference", nargs="?")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", default="gpu_check.json", type=Path)
    parser.add_argument("--tests", help="a test binary with the device's feature: cargo test --no-run --features ..")
    parser.add_argument("--sizes", default="270m,1b,4b", type=lambda text: [size for size in text.split(",") if size])
    arguments = parser.parse_args()

    say("doctor")
    report = run([arguments.binary, "doctor", "--json", "--device", arguments.device])
    doctor = json.loads(report["out"]) if report["out"] else None
    result = {"doctor": doctor, "doctor_error": report["error"], "tests": None, "curve": None, "bench": []}
    if arguments.tests:
        say("tests of the operations")
        tests = run([arguments.tests, "ops::tests", "jobs::self_check", "device::open"])
        result["tests"] = {"exit": tests["exit"], "said": tests["out"].strip().splitlines()[-30:]}
    if doctor:
        device = doctor["device"].split(" ")[0]
        say(f"loss curve on {device} and on the CPU")
        with tempfile.TemporaryDirectory() as work:
            result["curve"] = curve(arguments.binary, Path(work), device)
            for size in arguments.sizes:
                say(f"bench {size}")
                result["bench"].append(bench(arguments.binary, Path(work), device, size, arguments.reference))
                arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    say(f"wrote {arguments.output}")
    return 1 if report["exit"] else 0


if __name__ == "__main__":
    sys.exit(main())
