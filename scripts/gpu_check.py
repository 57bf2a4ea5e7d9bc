#!/usr/bin/env python3
"""First contact with a GPU, in half an hour: what computes there, how fast, in what memory, and what does not work.

    scripts/gpu_check.sh target/release/gemma-tune [--tests TEST_BINARY] [--reference scripts/gpu_reference.py]

A plan of steps, the most informative first. Each runs in a process of its own with a time limit; what it finds is in the JSON as soon
as it is found, and whatever becomes of it, the next one runs. Nothing is built or downloaded. Needs Python 3.8 alone; docs/gpu.md says
how to read what comes out. The JSON's path is on stdout, a table on stderr. Exit codes: 0 no step failed, 1 one did, 2 the arguments
are wrong.
"""

import argparse
import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import gpu_check_steps as steps
import gpu_check_table as table
from gpu_check_jobs import JOBS, ROOT
from gpu_check_tools import Failed, Skip, is_special, last_json, read_json, run, tail, write_json

# For a step to keep what it has before it is ended: so many seconds, and of a short one so much.
MARGIN_SECS, MARGIN = 3, 0.25
# A step that would have less is left out.
LEAST_SECS = 1
SOFTWARE = re.compile(r"llvmpipe|lavapipe|swiftshader|software", re.I)


class Step:
    """A part of the plan: its name, the most seconds it may take, and what it does."""

    def __init__(self, name, limit, work, *given):
        self.name, self.limit, self.work, self.given = name, limit, work, given

    @property
    def about(self):
        about = self.work.__doc__.splitlines()[0]
        return f"{about[:-1]}: {JOBS[self.given[0]].words}" if self.given and self.given[0] in JOBS else about


def plan():
    """All steps, the most informative first: does it compute, is it right, how fast are the targets, where does the time go."""
    pairs = ((Step(f"job-{size}", 480, steps.job, size), Step(f"reference-{size}", 320, steps.reference, size)) for size in JOBS)
    jobs = [step for pair in pairs for step in pair]
    return [
        Step("machine", 60, steps.machine),
        Step("doctor", 300, steps.doctor),
        Step("curve", 420, steps.curve),
        *jobs[:2],
        Step("equal", 420, steps.equal),
        Step("profile", 300, steps.profile),
        Step("media", 240, steps.media),
        *jobs[2:],
        Step("operations", 900, steps.operations),
        Step("memcheck", 600, steps.sanitizer, "memcheck"),
        Step("autotune", 600, steps.autotune),
        Step("ncu", 420, steps.ncu),
        Step("racecheck", 600, steps.sanitizer, "racecheck"),
    ]


class Check:
    """What a step knows: the arguments, what the steps before it found, and how long it may take."""

    def __init__(self, state, name, limit):
        self.arguments, self.steps = state["arguments"], state["steps"]
        self.binary, self.tests, self.asked = (self.arguments[key] for key in ("binary", "tests", "device"))
        self.folder, self.python = Path(state["folder"]), sys.executable
        self.kept, self.file = {}, Path(state["folder"]) / f"{name}.json"
        self.until = time.monotonic() + limit - min(MARGIN_SECS, MARGIN * limit)
        self._device = None

    def keep(self, **found):
        """Notes what was found, at once."""
        self.kept.update(found)
        write_json(self.file, self.kept)

    def left(self):
        return self.until - time.monotonic()

    def within(self, limit):
        return max(min(limit, self.left()), 0.1)

    def result(self, name):
        return self.steps.get(name, {}).get("result") or {}

    def status(self, name):
        return self.steps.get(name, {}).get("status")

    @property
    def hardware(self):
        """The device with what it calls itself."""
        return (self.result("doctor").get("report") or {}).get("device") or self.asked

    @property
    def device(self):
        """As in --device: the one that `auto` means, where the program says so."""
        if self._device is None:
            self._device = self.hardware.split(" ")[0]
            if self._device == "auto":
                ask = [self.binary, "estimate", ROOT / "recipes/sft_270m.yaml", "--no-probe", "--json", "--device", "auto"]
                said = last_json(run(ask, self.within(60)).out)
                self._device = said.get("device", "auto").split(" ")[0] if isinstance(said, dict) else "auto"
        if self._device == "cpu" and self.asked != "cpu":
            raise Skip("there is no GPU: `auto` took the CPU")
        return self._device

    @property
    def tiny(self):
        """Whether sizes are those of a device without speed."""
        return self.arguments["tiny"] or self.device == "cpu" or bool(SOFTWARE.search(self.hardware))

    def card_bytes(self):
        """The GPU's memory, by nvidia-smi or CUDA's driver; None where neither says."""
        if self.device.split(":")[0] not in ("cuda", "auto"):
            return None
        at, found = int((self.device.split(":") + ["0"])[1] or 0), self.result("machine")
        devices = (found.get("cuda") or {}).get("devices") or []
        if at < len(devices):
            return devices[at]["bytes"]
        gpus = (found.get("nvidia_smi") or {}).get("gpus") or []
        mib = gpus[at].get("memory.total", "") if at < len(gpus) else ""
        return int(mib) * 2**20 if mib.isdigit() else None

    def need_a_trained_step(self):
        """Skips what trains where the small model could not train a single step: each of them would fail the same way, and slowly."""
        if self.status("curve") and not self.result("curve").get("trained"):
            told = self.steps["doctor" if self.status("doctor") == "failed" else "curve"]
            raise Skip(f"no step of the small model ran on {self.device}: {told.get('reason')}")

    def first_job(self):
        """The first job that ran to its end: its step's name, and its result."""
        done = (f"job-{size}" for size in JOBS if self.status(f"job-{size}") == "done")
        name = next(done, None)
        return name, self.result(name) if name else None


def run_step(step, state, limit):
    """Within the step's own process: the work, and how it ended."""
    check = Check(state, step.name, limit)
    ended = {"status": "done", "reason": None}
    try:
        step.work(check, *step.given)
    except Skip as skip:
        ended = {"status": "skipped", "reason": str(skip)}
    except Failed as failure:
        ended = {"status": "failed", "reason": str(failure)}
    except Exception:
        ended = {"status": "failed", "reason": "this script failed: " + tail(traceback.format_exc(), 4)}
    write_json(check.folder / f"{step.name}.ended.json", ended)


class Plan:
    """The plan as it is carried out."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.started = arguments, folder, time.monotonic()
        self.child, self.interrupted = None, False
        given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
        given["cwd"] = os.getcwd()
        self.state = {
            "format": 2,
            "started": now(),
            "finished": None,
            "seconds": None,
            "interrupted": False,
            "exit": None,
            "arguments": given,
            "folder": str(folder),
            "steps": {},
        }

    def left(self):
        return self.arguments.minutes * 60 - (time.monotonic() - self.started)

    def write(self):
        self.state["seconds"] = round(time.monotonic() - self.started, 1)
        if not is_special(self.arguments.output) or self.state["finished"]:
            write_json(self.arguments.output, self.state)

    def end_child(self):
        """Ends whatever a step has started: all of it is in the step's own group."""
        if self.child:
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except OSError:
                pass
            self.child.wait()

    def carry_out(self, step):
        """Runs a step in a process of its own, and takes over what it found, whatever became of it."""
        limit = min(step.limit, self.arguments.step_seconds or step.limit, self.left())
        entry = {"status": "running", "reason": None, "about": step.about, "limit_s": round(limit, 1)}
        entry.update(seconds=None, result=None)
        self.state["steps"][step.name] = entry
        if self.interrupted or limit < LEAST_SECS:
            spent = f"the time of {self.arguments.minutes:g} minutes is spent (--minutes)"
            entry.update(status="skipped", reason="interrupted" if self.interrupted else spent, seconds=0, limit_s=None)
            return entry
        self.write()
        state, log = self.folder / "state.json", self.folder / f"{step.name}.log"
        found, how = self.folder / f"{step.name}.json", self.folder / f"{step.name}.ended.json"
        for before in filter(Path.exists, (found, how)):
            before.unlink()
        write_json(state, self.state)
        # Without site's packages, which a step does not use, and which may be slow to find.
        command = [sys.executable, "-S", str(Path(__file__).resolve()), "--run-step", step.name, str(state), str(limit)]
        started, reason = time.monotonic(), None
        with open(log, "w") as said:
            # In our folder, where no settings of cubecl or burn lie, and where their caches go with the rest.
            streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
            self.child = subprocess.Popen(command, cwd=self.folder, start_new_session=True, **streams)
            try:
                self.child.wait(limit)
            except subprocess.TimeoutExpired:
                reason = f"ended at its limit of {limit:.0f} s"
            except KeyboardInterrupt:
                self.interrupted, reason = True, "interrupted"
        self.end_child()
        code, self.child = self.child.returncode, None
        entry["result"] = read_json(found)
        died = f"its process died with code {code}: {tail(log.read_text(errors='replace'), 4)}"
        ended = None if reason else read_json(how)
        entry.update(ended or {"status": "failed", "reason": reason or died}, seconds=round(time.monotonic() - started, 1))
        return entry

    def order(self, chosen):
        """The steps in their order: where the device is wrong or dead, its operations one by one come before all that trains."""
        waiting = list(chosen)
        while waiting:
            broken = self.state["steps"].get("doctor", {}).get("status") == "failed"
            first = next((step for step in waiting if broken and step.name == "operations"), waiting[0])
            waiting.remove(first)
            yield first, waiting

    def tidy(self, step, waiting):
        """Takes a model from the disk that no later step needs. That of the first job that ran is what others repeat."""
        size = step.name.split("-", 1)[1] if step.name.startswith(("job-", "reference-")) else None
        if self.arguments.work or size is None or f"reference-{size}" in [other.name for other in waiting]:
            return
        done = [other for other in JOBS if self.state["steps"].get(f"job-{other}", {}).get("status") == "done"]
        if done[:1] != [size]:
            for kind in ("", "-media", "-tiny"):
                shutil.rmtree(self.folder / "models" / f"{size}{kind}", ignore_errors=True)

    def run(self, chosen):
        for step, waiting in self.order(chosen):
            table.say(f"{step.name}: {step.about}")
            entry = self.carry_out(step)
            table.say(f"{step.name}: {table.line(step.name, entry)}")
            self.tidy(step, waiting)
            self.write()
        failed = any(entry["status"] == "failed" for entry in self.state["steps"].values())
        self.state.update(finished=now(), interrupted=self.interrupted, exit=1 if failed or self.interrupted else 0)
        self.write()
        return self.state["exit"]


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def parse(words):
    names = [step.name for step in plan()]
    form, steps_are = argparse.RawDescriptionHelpFormatter, "steps: " + ", ".join(names)
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__, formatter_class=form, epilog=steps_are)
    add = parser.add_argument
    add("binary", help="the gemma-tune that is checked")
    add("other", nargs="?", metavar="REFERENCE", help="the same as --reference")
    add("--device", default="auto", help="as in gemma-tune train --device; cpu, and a software adapter, make sizes tiny")
    add("--minutes", type=float, default=30, help="for all steps together")
    add("--only", action="append", metavar="STEP", help="this step, and others where it is repeated; `machine` always runs")
    add("--sizes", help="of the jobs only these, as 1b,4b")
    add("--output", default="gpu_check.json", type=Path)
    add("--tests", help="a test binary with the device's feature: cargo test --lib --no-run --features ..")
    add("--reference", help="prints a JSON with `tok_s` for --size S --batch B --seq N, as scripts/gpu_reference.py")
    add("--autotune-binary", help="a build with the feature `autotune` too")
    peak = os.environ.get("PEAK_TFLOPS") or None
    add("--peak-tflops", type=float, default=peak, help="the card's in dense products of a job's numbers, from its data sheet")
    add("--work", type=Path, help="a folder for models and logs, which stay for the next run; 30 GB and more with the 12B")
    add("--tiny", action="store_true", help="tiny sizes on any device")
    add("--step-seconds", type=float, help="no step takes longer than this")
    arguments = parser.parse_args(words)
    arguments.reference = arguments.reference or arguments.other
    for what in ("binary", "tests", "reference", "autotune_binary"):
        path = getattr(arguments, what)
        if path is None:
            continue
        if not os.path.isfile(path) or (what != "reference" and not os.access(path, os.X_OK)):
            parser.error(f"there is no {'script' if what == 'reference' else 'program'} `{path}`: build it, or name another one")
        setattr(arguments, what, os.path.realpath(path))
    only = [name for names in arguments.only or [] for name in names.split(",")]
    # Sizes that are no job's are passed over, as is a job whose card this one is not.
    sizes = arguments.sizes.split(",") if arguments.sizes else list(JOBS)
    for name in only:
        if name not in names:
            parser.error(f"there is no step `{name}`: steps are {', '.join(names)}")
    if not os.path.isdir(os.path.dirname(os.path.realpath(arguments.output))):
        parser.error(f"there is no folder for `{arguments.output}`")
    del arguments.other
    named = [step for step in plan() if not only or step.name in [*only, "machine"]]
    return arguments, [step for step in named if not step.given or step.given[0] not in JOBS or step.given[0] in sizes]


def main(words):
    if words[:1] == ["--run-step"]:
        step = next(step for step in plan() if step.name == words[1])
        run_step(step, read_json(words[2]), float(words[3]))
        return 0
    arguments, chosen = parse(words)

    def stop(*_):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup the plan goes on when the terminal goes.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        # Prepared data and what towers say are no part of the user's cache.
        os.environ["GEMMA_TUNE_CACHE"] = str(folder / "cache")
        done = Plan(arguments, folder)
        try:
            code = done.run(chosen)
        except KeyboardInterrupt:
            done.end_child()
            done.state.update(finished=now(), interrupted=True, exit=1)
            done.write()
            code = 1
    table.show(done.state)
    print(arguments.output.resolve() if not is_special(arguments.output) else arguments.output)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
