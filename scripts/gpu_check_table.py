"""What a person sees of gpu_check.py: a line for each step, on stderr."""

import sys


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def shown(value, form="{:.3g}"):
    return "?" if value is None else form.format(value)


def machine(found):
    gpus = (found.get("nvidia_smi") or {}).get("gpus") or []
    names = [f"{gpu.get('name')}, driver {gpu.get('driver_version')}" for gpu in gpus]
    cuda = found.get("cuda") or {}
    names = names or [f"{device['name']}, {device['capability']}" for device in cuda.get("devices") or []]
    dotted = lambda version: ".".join(map(str, version)) if version else "?"
    versions = [
        f"CUDA {dotted(cuda['driver'].get('cuda_version'))}" if cuda.get("driver") else None,
        f"NVRTC {dotted(cuda['nvrtc'].get('version'))}" if cuda.get("nvrtc") else None,
    ]
    return "; ".join(filter(None, [*(names or ["no NVIDIA GPU"]), *versions, cuda.get("problem")]))


def doctor(found):
    return (found.get("report") or {}).get("device")


def curve(found):
    gaps = [(name, gap) for name, gap in (found.get("largest_relative_difference") or {}).items() if gap is not None]
    return "from the CPU's: " + ", ".join(f"{name} {gap:.1e}" for name, gap in gaps) if gaps else None


def job(found):
    if not found.get("tok_s"):
        return None
    words = [f"{found['tok_s']:.0f} tokens/s", f"{shown(found.get('tflops'))} TFLOP/s"]
    words += [f"{found['utilisation']:.1%} of the card"] if found.get("utilisation") else []
    words += [f"peak {shown(found.get('peak_over_estimate'))} of the estimate", f"in {found.get('compute_dtype')}"]
    words += ["text alone"] if found.get("media_reason") else []
    return ", ".join(words)


def reference(found):
    theirs = (found.get("reference") or {}).get("tok_s")
    ratios = f"we {shown(found.get('speed_ratio'))} of it in {shown(found.get('memory_ratio'))} of its memory"
    return f"{theirs:.0f} tokens/s there, {ratios}" if theirs else None


def equal(found):
    return ", ".join(f"{name}: {'same bytes' if each.get('same_adapter') else 'other bytes'}" for name, each in found.items())


def profile(found):
    kernels = found.get("kernels") or []
    most = ", ".join(f"{kernel['name'][:40]} {shown(kernel['share'], '{:.0%}')}" for kernel in kernels[:3])
    return f"{found['launches']} launches of {found['kernels_in_all']} kernels: {most}" if kernels else None


def operations(found):
    return f"{found['passed']} passed, {found['failed']} failed, {found['not_run']} not run" if "passed" in found else None


def sanitizer(found):
    return found.get("summary")


def media(found):
    return f"from the CPU's: {found['difference']:.1e}" if found.get("difference") is not None else None


def autotune(found):
    return f"ours is {shown(found['ratio'])} of it" if found.get("ratio") else None


def ncu(found):
    return f"{len(found['launches'])} launches measured" if found.get("launches") else None


OF = {"memcheck": sanitizer, "racecheck": sanitizer}


def line(name, entry):
    """How a step ended, and the one thing that it found."""
    of = OF.get(name) or globals().get(name.split("-")[0])
    try:
        found = of(entry["result"] or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        found = None
    reason = (entry["reason"] or "").replace("\n", " ")
    parts = [found if found != reason else None, reason[:300]]
    return f"{entry['status']} in {shown(entry['seconds'], '{:.0f}')} s" + "".join(f" · {part}" for part in parts if part)


def show(state):
    """The whole plan, once it is over."""
    width = max(len(name) for name in state["steps"])
    print("", file=sys.stderr)
    for name, entry in state["steps"].items():
        print(f"{name:<{width}}  {line(name, entry)}", file=sys.stderr)
    kinds = [entry["status"] for entry in state["steps"].values()]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("done", "failed", "skipped") if kind in kinds)
    print(f"\n{counted}, in {state['seconds']:.0f} s; docs/gpu.md says how to read the JSON", file=sys.stderr)
