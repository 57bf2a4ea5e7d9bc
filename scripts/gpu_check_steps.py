"""The steps of gpu_check.py. Each runs in a process of its own: it keeps what it finds as it finds it, and raises what stops it."""

import re
import shutil
from pathlib import Path

import gpu_check_jobs as jobs
import gpu_check_machine as machine_facts
from gpu_check_jobs import JOBS, GOLDEN, Shape
from gpu_check_tools import Failed, Skip, last_json, list_tests, read_ncu, read_profile, run, sha256, tail

NCU_METRICS = (
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
)
NCU_LAUNCHES = 60
# Tests that run no kernel of a GPU.
ON_THE_CPU = ("ops::cpu::", "ops::plain::")


def machine(check):
    """The machine, its drivers, and the program that is checked."""
    check.keep(program={"path": check.binary, "sha256": sha256(check.binary), "bytes": Path(check.binary).stat().st_size})
    check.keep(system=machine_facts.system(), disk_free_bytes=shutil.disk_usage(check.folder).free)
    check.keep(vulkan=machine_facts.vulkan_drivers(), nvidia_smi=machine_facts.nvidia_smi())
    check.keep(tools={name: shutil.which(name) for name in ("compute-sanitizer", "ncu", "nsys")})
    # Last, since a driver can hang, and the program too: what came before is kept then.
    check.keep(cuda=machine_facts.cuda())
    version = run([check.binary, "--version"], check.within(20))
    check.keep(version=version.out.strip() or None, version_error=version.error)


def doctor(check):
    """The program's own check of its devices against the CPU."""
    report = run([check.binary, "doctor", "--json", "--device", check.asked], check.within(300), watch_memory=True)
    said = last_json(report.out)
    check.keep(report=said, seconds_taken=report.seconds, said=tail(report.err, 20) or None)
    if report.error:
        raise Failed(report.error)
    if said is None:
        raise Failed("it printed no JSON")
    if check.asked == "auto" and said["device"].startswith("cpu"):
        raise Failed("there is no GPU: `auto` took the CPU (--device cpu runs this plan there, with tiny sizes)")


def operations(check):
    """Each test of an operation in a process of its own, those that reach the device first."""
    if not check.tests:
        raise Skip("no test binary: --tests, of `cargo test --no-run` with the device's feature")
    listed = run([check.tests, "--list"], check.within(60), cwd=jobs.ROOT)
    names = [name for name in list_tests(listed.out) if name.startswith(("ops::", "jobs::self_check", "device::open"))]
    if listed.error or not names:
        raise Failed(listed.error or "it lists no test of an operation")
    names.sort(key=lambda name: (name.startswith(ON_THE_CPU), not name.startswith("ops::")))
    done = {}
    for name in names:
        if check.left() < 5:
            done[name] = {"status": "not run", "reason": "the step's time is spent"}
            continue
        # In the checkout, as cargo would start it.
        command = [check.tests, "--exact", name, "--test-threads=1", "--nocapture"]
        report = run(command, check.within(90), cwd=jobs.ROOT, watch_memory=True)
        passed = not report.error and "1 passed" in report.out
        done[name] = {"status": "passed" if passed else "failed", "seconds": report.seconds}
        if not passed:
            said = report.error or "no test of this name ran"
            done[name].update(reason=said, said=tail(report.out + report.err, 20))
        check.keep(tests=done, **counts(done))
    check.keep(tests=done, **counts(done))
    if any(test["status"] == "failed" for test in done.values()):
        raise Failed("failed: " + ", ".join(name for name, test in done.items() if test["status"] == "failed"))


def counts(done):
    return {kind.replace(" ", "_"): sum(t["status"] == kind for t in done.values()) for kind in ("passed", "failed", "not run")}


def small_recipe(check, name, compute_dtype, steps):
    folder, config = jobs.small_model(check)
    batch, length = 2, 64
    rows, recipe, out = (check.folder / f"{name}.{kind}" for kind in ("rows.jsonl", "yaml", "out"))
    jobs.token_rows(rows, config["vocab_size"], [length], batch * steps)
    model = {"compute_dtype": compute_dtype}
    jobs.write_recipe(recipe, out, folder, rows, batch, length, steps, model, packing=False)
    return recipe, out


def gaps(losses, wanted):
    """The largest relative difference of two curves of the same length."""
    if not wanted or len(losses) != len(wanted):
        return None
    return max(abs(a - b) / abs(b) for a, b in zip(losses, wanted))


def curve(check):
    """Losses of a small model on the device in f32 and in what it multiplies fastest, against the CPU's."""
    steps = 5 if check.tiny else 20
    kept = {"steps_wanted": steps, "largest_relative_difference": {}, "adapter_sha256": {}, "errors": {}, "trained": False}
    # The device first: what it cannot do needs no comparison.
    for name, device, dtype in (("fastest", check.device, "auto"), ("f32", check.device, "f32"), ("cpu", "cpu", "f32")):
        if name == "cpu" and not kept["trained"]:
            break
        recipe, out = small_recipe(check, f"curve-{name}", dtype, steps)
        trained = jobs.train(check, recipe, out, device, 150)
        kept[name], kept["errors"][name] = trained.losses, trained.error
        kept["adapter_sha256"][name] = trained.adapter_sha256
        kept["trained"] = kept["trained"] or (name != "cpu" and bool(trained.losses))
        check.keep(**kept)
    for name in ("fastest", "f32"):
        kept["largest_relative_difference"][name] = gaps(kept[name], kept.get("cpu"))
    check.keep(**kept)
    if any(kept["errors"].values()):
        raise Failed("; ".join(f"{name}: {error}" for name, error in kept["errors"].items() if error))


def media(check):
    """A tiny model that sees and hears, on rows with text, a picture, a sound and both, against the CPU."""
    if not GOLDEN.exists():
        raise Skip(f"{GOLDEN} is not there")
    steps, losses = 5, {}
    for name, device in (("device", check.device), ("cpu", "cpu")):
        recipe, out = check.folder / f"media-{name}.yaml", check.folder / f"media-{name}.out"
        rows, model = GOLDEN / "rows.jsonl", {"quantization": "nf4", **({"compute_dtype": "f32"} if name == "cpu" else {})}
        jobs.write_recipe(recipe, out, GOLDEN / "model", rows, 2, 512, steps, model, row_format="messages")
        trained = jobs.train(check, recipe, out, device, 120)
        losses[name] = trained.losses
        check.keep(losses=losses, difference=gaps(losses["device"], losses.get("cpu")))
        if trained.error:
            raise Failed(f"{name}: {trained.error}")


def job(check, size):
    """A target on its card: rates, memory against the estimate, operations a second."""
    target = JOBS[size]
    check.need_a_trained_step()
    check.keep(what=target.words, size=size, **card(check, target))
    larger = check.first_job()[0]
    if size == "270m" and larger:
        raise Skip(f"it is for cards that are too small for the others, and {larger} ran")
    recipe, out, shape, _, known, (text, lengths) = jobs.prepare(check, target)
    check.keep(**known)
    foreseen, why = jobs.estimate(check, recipe, check.device)
    check.keep(estimate=foreseen, estimate_error=why)
    if foreseen and foreseen.get("fits") is False and check.card_bytes() is None:
        wanted, free = foreseen["memory_bytes"] / 1e9, (foreseen.get("available_bytes") or 0) / 1e9
        raise Skip(f"it would take {wanted:.1f} GB of {free:.1f} GB, says estimate")
    before = machine_facts.smi("memory.used")
    trained = jobs.train(check, recipe, out, check.device, 420)
    result = jobs.measured(trained, shape)
    recomputed = (foreseen or {}).get("activation_checkpointing")
    rated = rates(check, result, text, lengths, recomputed)
    check.keep(device_used_before_mib=before, recomputed=recomputed, **result, **rated)
    if trained.error:
        raise Failed(trained.error)


def card(check, target):
    """Skips a job whose card this one is not."""
    have = check.card_bytes()
    # A card of 16 GB has 15 GiB and more, by whichever unit it is sold.
    if have is not None and not check.tiny and have < 0.97 * target.card_gb * 1e9:
        raise Skip(f"it is meant for a card of {target.card_gb} GB, this one has {have / 1e9:.1f} GB")
    return {"card_gb": target.card_gb, "card_bytes": have}


def rates(check, result, text, lengths, recomputed):
    """Operations a second: those that the mathematics needs, and those that are done."""
    tok_s = result["tok_s"]
    if tok_s is None or recomputed is None:
        return {"flops_per_token": None, "needed_tflops": None, "tflops": None, "utilisation": None}
    each = jobs.flops_per_token(text, lengths, recomputed, result["supervised"])
    tflops, peak = tok_s * each["done"] / 1e12, check.arguments["peak_tflops"]
    needed = tok_s * each["needed"] / 1e12
    return {"flops_per_token": each, "needed_tflops": needed, "tflops": tflops, "utilisation": tflops / peak if peak else None}


def reference(check, size):
    """The same shape by another program, on the same card in the same hour."""
    script = check.arguments["reference"]
    if not script:
        raise Skip("no --reference")
    ours = check.result(f"job-{size}")
    if not ours.get("tok_s"):
        raise Skip(f"job-{size} measured nothing to compare with")
    if ours.get("media"):
        raise Skip("the reference knows rows of text alone")
    base = jobs.job_model(check, JOBS[size], Shape(check.tiny))[0]
    given = {
        "REFERENCE_MODEL": str(base),
        "REFERENCE_QUANTIZATION": JOBS[size].quantization,
        "REFERENCE_COMPUTE_DTYPE": ours.get("compute_dtype") or JOBS[size].compute_dtype,
        "REFERENCE_RECOMPUTE": "1" if ours.get("recomputed") else "0",
        "REFERENCE_STEPS": str(ours["steps_wanted"]),
        "REFERENCE_DEVICE": check.device,
    }
    command = [check.python, script, "--size", size, "--batch", ours["batch"], "--seq", ours["seq"]]
    report = run(command, check.within(300), env=given, cwd=check.arguments["cwd"], watch_memory=True)
    said = last_json(report.out)
    check.keep(reference=said, given=given, peak_device_mib=report.peak_device_mib)
    if report.error or not isinstance(said, dict):
        raise Failed(report.error or "it printed no JSON")
    theirs = said.get("tok_s")
    memory = [peak(ours), said.get("peak_device_bytes") or (report.peak_device_mib or 0) * 2**20 or None]
    check.keep(
        speed_ratio=ours["tok_s"] / theirs if theirs else None,
        memory_ratio=memory[0] / memory[1] if all(memory) else None,
        share_of_gemm=ours["tflops"] / said["gemm_tflops"] if said.get("gemm_tflops") and ours.get("tflops") else None,
    )
    if said.get("error"):
        raise Failed(str(said["error"]))


def peak(result):
    """Bytes that a run took of a device; of main memory on a CPU."""
    return result.get("peak_device_bytes") or (result.get("peak_device_mib") or 0) * 2**20 or result.get("peak_rss_bytes")


def equal(check):
    """The same run again: are the bytes the same? Of the small model, and of the first job that ran."""
    different = []
    before = check.result("curve")
    if (before.get("fastest") or []) and not before["errors"]["fastest"]:
        recipe, out = small_recipe(check, "curve-fastest", "auto", before["steps_wanted"])
        again = jobs.train(check, recipe, out, check.device, 120)
        different += compare(check, "small", before["fastest"], before["adapter_sha256"]["fastest"], again)
    name, ours = check.first_job()
    if name:
        recipe, out = jobs.prepare(check, JOBS[ours["size"]])[:2]
        again = jobs.train(check, recipe, out, check.device, 300)
        different += compare(check, name, ours["losses"], ours["adapter_sha256"], again)
    if not check.kept:
        raise Skip("neither the curve nor a job ran to its end: there is nothing to repeat")
    if different:
        raise Failed("; ".join(different))


def compare(check, name, losses, digest, again):
    """Whether two runs left the same bytes, and at which step they parted."""
    apart = next((at + 1 for at, (a, b) in enumerate(zip(losses, again.losses)) if a != b), None)
    same = digest is not None and digest == again.adapter_sha256
    found = {"same_adapter": same, "adapter_sha256": [digest, again.adapter_sha256], "first_step_apart": apart}
    check.keep(**{name: {**found, "largest_relative_difference": gaps(again.losses, losses), "error": again.error}})
    if again.error:
        return [f"{name}: {again.error}"]
    return [] if same else [f"{name}: two equal runs left different adapters"]


def profile(check):
    """Time by kernel, as cubecl measures it: each launch by itself, so that the run as a whole is slower."""
    if check.device == "cpu":
        raise Skip("the CPU runs no kernels of cubecl")
    name, recipe, out, folder = short_run(check, "profile", 2)
    # Read from the folder that the program starts in. The environment's CUBECL_DEBUG_LOG would log every kernel's source too.
    log = folder / "profile.log"
    logger = f'[profiling.logger]\nlevel = "basic"\nfile = "{log}"\nappend = false\n'
    (folder / "cubecl.toml").write_text(logger)
    env = {"CUBECL_DEBUG_OPTION": "profile"}
    trained = jobs.train(check, recipe, out, check.device, 280, env=env, cwd=folder)
    found = read_profile(open(log, errors="replace")) if log.exists() else None
    steps = len(trained.steps)
    check.keep(of=name, steps=steps, error=trained.error, **(found or {}))
    if found:
        check.keep(kernels=found["kernels"][:60], kernels_in_all=len(found["kernels"]))
    if trained.error:
        raise Failed(trained.error)
    if not found or not found["launches"]:
        raise Failed("cubecl logged no launch")


def short_run(check, name, steps):
    """A few steps of the first job that ran, or of the small model where none did: its name, recipe, output and own folder."""
    check.need_a_trained_step()
    folder = check.folder / name
    folder.mkdir(exist_ok=True)
    first, ours = check.first_job()
    if first:
        recipe = jobs.prepare(check, JOBS[ours["size"]])[0]
        content = jobs.read_json(recipe)
    else:
        first = "small"
        content = jobs.read_json(small_recipe(check, name, "auto", steps)[0])
    content["training"]["max_steps"] = steps
    content["output"]["dir"] = str(folder / "out")
    (folder / "recipe.yaml").write_text(jobs.json.dumps(content))
    return first, folder / "recipe.yaml", folder / "out", folder


def autotune(check):
    """The first job with kernels chosen by trial, against those that we choose."""
    other = check.arguments["autotune_binary"]
    if not other:
        check.keep(tok_s=None, ratio=None)
        raise Skip("the program has no switch for it: --autotune-binary names a build with the feature `autotune`")
    name, ours = check.first_job()
    if not name:
        raise Skip("no job ran to its end: there is nothing to compare with")
    recipe, out, shape = jobs.prepare(check, JOBS[ours["size"]])[:3]
    trained = jobs.train(check, recipe, out, check.device, 500, binary=other)
    result = jobs.measured(trained, shape)
    ratio = ours["tok_s"] / result["tok_s"] if result["tok_s"] else None
    check.keep(of=name, tok_s=result["tok_s"], ours_tok_s=ours["tok_s"], ratio=ratio, tok_s_of_steps=result["tok_s_of_steps"])
    if trained.error:
        raise Failed(trained.error)


def cuda_tool(check, name):
    """Skips what needs CUDA, or a tool that is not there; the tool's path."""
    if not check.device.startswith(("cuda", "auto")):
        raise Skip(f"{name} is for CUDA, the device is {check.device}")
    path = shutil.which(name)
    if not path:
        raise Skip(f"{name} is not installed (it comes with the CUDA toolkit)")
    return path


def sanitizer(check, tool):
    """NVIDIA's compute-sanitizer on the self-check, which launches every kind of kernel."""
    path = cuda_tool(check, "compute-sanitizer")
    command = [path, "--tool", tool, "--target-processes", "all", check.binary, "doctor", "--device", check.device]
    report = run(command, check.within(600))
    lines = [line for line in (report.out + report.err).splitlines() if line.startswith("=========")]
    summary = next((line.strip("= ") for line in reversed(lines) if "SUMMARY" in line), None)
    check.keep(tool=tool, summary=summary, first_lines=lines[:40], exit=report.code, seconds_taken=report.seconds)
    if report.killed or summary is None:
        raise Failed(report.error or "it printed no summary")
    if not re.search(r"\b0 (errors|hazards)", summary):
        raise Failed(summary)


def ncu(check):
    """NVIDIA's profiler of single kernels on a stretch of launches within a step."""
    path = cuda_tool(check, "ncu")
    name, recipe, out, folder = short_run(check, "ncu", 2)
    skip = (check.result("profile").get("launches") or 0) // 2
    before = [path, "--csv", "--page", "raw", "--target-processes", "all", "--launch-skip", skip]
    before += ["--launch-count", NCU_LAUNCHES, "--metrics", ",".join(NCU_METRICS)]
    trained = jobs.train(check, recipe, out, check.device, 400, cwd=folder, before=before)
    launches = read_ncu(trained.report.out)
    check.keep(of=name, launches_skipped=skip, launches=launches)
    if not launches:
        raise Failed(trained.error or "it measured no launch: " + tail(trained.report.out + trained.report.err))
