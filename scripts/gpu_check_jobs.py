"""The runs of gpu_check.py: models of random weights, rows of random tokens, recipes, and what a run of one amounts to."""

import json
import random
import shutil
import statistics
import sys
from pathlib import Path

import make_random_model
from gpu_check_tools import Failed, Skip, read_json, run, sha256

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/goldens/multimodal3n"
RANK = 16
# A row with a picture and a sound: tokens of media with what begins and ends them, and all; so many rows fill a bin of 2,048.
MEDIA_TOKENS, MEDIA_ROW, MEDIA_ROWS = 1 + 258 + 190, 512, 4
# Layers and words of the small model that curves are drawn with.
SMALL, TINY = (6, 1024), (2, 512)


class Job:
    """A target: a published shape, how its weights are held and multiplied, and the card that it is meant for."""

    def __init__(self, size, config, card_gb, quantization, compute_dtype, media=False):
        self.size, self.config, self.card_gb, self.media = size, ROOT / f"configs/models/{config}.json", card_gb, media
        self.quantization, self.compute_dtype = quantization, compute_dtype

    @property
    def words(self):
        products = "what is fastest" if self.compute_dtype == "auto" else self.compute_dtype
        return f"{self.size} in {'bf16' if self.quantization == 'none' else self.quantization}, products in {products}"


JOBS = {
    job.size: job
    for job in (
        Job("1b", "gemma-3-1b", 16, "nf4", "f16"),
        Job("4b", "gemma-3-4b", 24, "none", "bf16"),
        Job("12b", "gemma-3-12b", 80, "none", "bf16"),
        Job("3n", "gemma-3n-e2b", 16, "nf4", "f16", media=True),
        # Where the card is too small for the others.
        Job("270m", "gemma-3-270m", 4, "none", "auto"),
    )
}


class Shape:
    """How large a job is run: rows of so many tokens, steps, and what is cut from the model."""

    def __init__(self, tiny):
        self.batch, self.length = (2, 64) if tiny else (2, 2048)
        self.warm_up, self.steps = (1, 2) if tiny else (3, 10)
        self.layers, self.vocabulary = (3, 2048) if tiny else (None, None)
        # Each bin of a batch is packed of two rows.
        self.rows = [self.length * 3 // 4, self.length // 4]


def make(check, folder, command, limit, wanted_bytes):
    """Makes a model by one of our scripts, or takes the one that is there; its configuration."""
    if not (folder / "made").exists():
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if wanted_bytes * 1.05 > free:
            have = f"{wanted_bytes / 1e9:.1f} GB of disk are needed in {folder.parent}, {free / 1e9:.1f} GB are free"
            raise Skip(f"{have}: name another folder with --work")
        report = run([check.python, *command], check.within(limit))
        if report.error:
            raise Failed(f"the model was not made: {report.error}")
        (folder / "made").write_text("")
    return read_json(next(path for path in (folder / "config.json", folder / "model/config.json") if path.exists()))


def model_bytes(config):
    return sum(2 * make_random_model.math.prod(shape) for _, shape in make_random_model.shapes(config))


def small_model(check):
    """A few layers in the shape of the 270M, and its configuration."""
    layers, words = TINY if check.tiny else SMALL
    config, folder = ROOT / "configs/models/gemma-3-270m.json", check.folder / f"models/small-{layers}"
    command = [ROOT / "scripts/make_random_model.py", config, folder, "--layers", layers, "--vocabulary", words]
    return folder, make(check, folder, command, 120, model_bytes(make_random_model.text_config(config, layers, words)))


def job_model(check, job, shape):
    """The model of a job: its folder, the configuration of its text, and what stands in for its media, in words."""
    cut = [word for flag, n in (("--layers", shape.layers), ("--vocabulary", shape.vocabulary)) if n for word in (flag, n)]
    text = make_random_model.text_config(job.config, shape.layers, shape.vocabulary)
    missing = missing_media(check) if job.media else None
    with_media = job.media and not missing
    kind = "-media" if with_media else "-tiny" if check.tiny else ""
    folder = check.folder / "models" / (job.size + kind)
    maker = "make_random_media_model.py" if with_media else "make_random_model.py"
    if with_media:
        cut = ["--rows", MEDIA_ROWS, "--words", MEDIA_ROW - MEDIA_TOKENS]
    # The towers of a Gemma 3n, of which its configuration says little, take some 2 GB.
    wanted = model_bytes(text) + (2e9 if with_media else 0)
    make(check, folder, [ROOT / "scripts" / maker, job.config, folder, *cut], 240, wanted)
    return (folder / "model" if with_media else folder), text, missing


def missing_media(check):
    """Why pictures and sounds are left out; None where they are not."""
    if check.tiny:
        return "tiny sizes have no towers: the step `media` has them"
    report = run([check.python, "-c", "import torch, transformers, timm"], check.within(60))
    said = (report.error or "").strip().splitlines()
    return f"text alone, since a model with towers needs torch, transformers and timm to be made: {said[-1]}" if said else None


def token_rows(path, vocabulary, lengths, count):
    """Rows of random tokens, all supervised."""
    source = random.Random(7)
    with open(path, "w") as file:
        for number in range(count):
            ids = [source.randrange(3, vocabulary) for _ in range(lengths[number % len(lengths)])]
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def write_recipe(path, out, base, rows, batch, length, steps, model=None, packing=True, row_format="tokens", lr="1.0e-3"):
    """A recipe, in JSON, which is YAML."""
    recipe = {
        "model": {"base": str(base), "dtype": "bf16", **(model or {})},
        "adapter": {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"},
        "data": {"train": [{"path": str(rows), "format": row_format}], "max_length": length, "packing": packing},
        "training": {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 1,
            "max_steps": steps,
            "learning_rate": float(lr),
            "seed": 7,
        },
        "output": {"dir": str(out), "report_to": ["jsonl"], "save_steps": 1000000},
    }
    path.write_text(json.dumps(recipe, indent=2) + "\n")


class Trained:
    """What a run left behind, also where it was ended before its end."""

    def __init__(self, report, out):
        lines = (out / "metrics.jsonl").read_text().splitlines() if (out / "metrics.jsonl").exists() else []
        steps = [json.loads(line) for line in lines if line.endswith("}")]
        self.report, self.error = report, report.error
        self.steps = [step for step in steps if "loss" in step]
        self.summary = read_json(out / "summary.json", {})
        self.adapter_sha256 = sha256(out / "adapter/adapter_model.safetensors")

    @property
    def losses(self):
        return [step["loss"] for step in self.steps]


def train(check, recipe, out, device, limit, binary=None, env=None, cwd=None, before=()):
    """Trains a recipe in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    command = [*before, binary or check.binary, "train", recipe, "--device", device]
    return Trained(run(command, check.within(limit), env=env, cwd=cwd, watch_memory=device != "cpu"), out)


def seen_keys(config, lengths):
    """Keys that a token sees on average, summed over the layers, where rows of these lengths are packed."""
    window, layers = config["sliding_window"], config["num_hidden_layers"]
    every = config.get("sliding_window_pattern") or 6
    kinds = config.get("layer_types") or ["full" if (at + 1) % every == 0 else "sliding" for at in range(layers)]

    def mean(window):
        return sum(min(at + 1, window) for n in lengths for at in range(n)) / sum(lengths)

    return sum(mean(window) if kind.startswith("sliding") else mean(max(lengths)) for kind in kinds)


def flops_per_token(config, lengths, recomputed, supervised=1.0):
    """Floating-point operations of a training step for a token, adapter on every linear layer: docs/gpu.md has the formula."""
    linear = [
        shape
        for name, shape in make_random_model.shapes(config)
        if len(shape) == 2 and "embed_tokens" not in name
    ]
    base = sum(out * into for out, into in linear)
    adapter = sum(RANK * (out + into) for out, into in linear)
    scores = config["num_attention_heads"] * config["head_dim"] * seen_keys(config, lengths)
    # Only where a token is supervised.
    head = supervised * config["vocab_size"] * config["hidden_size"]
    # Forward; the gradient of what comes in, of the adapter too its own, of scores and values both factors'.
    forward = 2 * base + 2 * adapter + 4 * scores
    backward = 2 * base + 4 * adapter + 8 * scores
    return {"needed": forward + backward + 4 * head, "done": forward * (2 if recomputed else 1) + backward + 4 * head}


def estimate(check, recipe, device):
    """What the program foresees for a recipe: its JSON, or why there is none."""
    report = run([check.binary, "estimate", recipe, "--no-probe", "--json", "--device", device], check.within(60))
    try:
        return json.loads(report.out), None
    except ValueError:
        return None, report.error or "it printed no JSON"


def prepare(check, job):
    """Model, rows and recipe of a job: its name, recipe, folder of output, shape, and what is known of it before it runs."""
    shape = Shape(check.tiny)
    base, text, missing = job_model(check, job, shape)
    rows, recipe, out = (check.folder / f"job-{job.size}.{kind}" for kind in ("rows.jsonl", "yaml", "out"))
    lengths, batch = shape.rows, shape.batch
    steps = shape.warm_up + shape.steps
    if job.media and not missing:
        # The same pictures and sounds in each row of a batch: towers look at a file once.
        rows, lengths = base.parent / "batch.jsonl", [MEDIA_ROW] * MEDIA_ROWS
        rows.write_text(batch * (base.parent / "rows.jsonl").read_text())
    else:
        token_rows(rows, text["vocab_size"], lengths, 2 * batch * steps)
    # A CPU knows no f16, and whether it has bf16 is not what is asked here.
    model = {"quantization": job.quantization, "compute_dtype": "f32" if check.device == "cpu" else job.compute_dtype}
    write_recipe(recipe, out, base, rows, batch, shape.length, steps, model)
    known = {"size": job.size, "batch": batch, "seq": shape.length, "layers": text["num_hidden_layers"], "tiny": check.tiny}
    known.update(quantization=job.quantization, steps_wanted=steps, media=job.media and not missing, media_reason=missing)
    return recipe, out, shape, base, known, (text, lengths)


def measured(trained, shape):
    """Rates and memory of a run."""
    # Where it was ended early, the steps after the first say something still.
    after = trained.steps[shape.warm_up :] or trained.steps[1:]
    summary, report = trained.summary, trained.report
    rates = [step["tokens_per_second"] for step in after if step.get("tokens_per_second")]
    return {
        "steps": len(trained.steps),
        "tokens_per_step": trained.steps[-1]["tokens"] if trained.steps else None,
        "supervised": trained.steps[-1]["supervised_tokens"] / trained.steps[-1]["tokens"] if trained.steps else None,
        "tok_s": statistics.median(rates) if rates else None,
        "tok_s_of_steps": [round(step["tokens_per_second"] or 0, 1) for step in trained.steps],
        "first_loss": trained.losses[0] if trained.losses else None,
        "last_loss": trained.losses[-1] if trained.losses else None,
        "compute_dtype": summary.get("compute_dtype"),
        "device": summary.get("device"),
        "peak_device_mib": report.peak_device_mib,
        "peak_device_bytes": summary.get("peak_device_bytes"),
        "peak_rss_bytes": summary.get("peak_rss_bytes"),
        "estimated_bytes": summary.get("estimated_bytes"),
        "peak_over_estimate": summary.get("peak_over_estimate"),
        "adapter_sha256": trained.adapter_sha256,
        "losses": trained.losses,
        "wall_s": report.seconds,
        "error": trained.error,
    }


if __name__ == "__main__":
    sys.exit("this is a part of gpu_check.py")
