#!/usr/bin/env python3
"""Checks that the plan of gpu_check.sh survives what it is made for: programs that fail, hang, crash, or kill the step that runs them.

usage: check_gpu_check.py       needs Python 3 alone, and takes some seconds: the programs are small scripts that it writes
"""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu_check
import gpu_check_jobs as jobs
import gpu_check_steps as steps
from gpu_check_tools import Skip, list_tests, read_ncu, read_profile, run, write_json

HERE = Path(__file__).resolve().parent
problems = []

# Says that it is a software adapter, and trains: a loss falls, and an adapter is left.
GOOD = """
import json, pathlib, sys
verb = sys.argv[1]
if verb == "--version": print("fake 1")
if verb == "doctor": print(json.dumps({"device": "wgpu:0 (llvmpipe)", "devices": [{"name": "wgpu:0", "problem": None}]}))
if verb == "train":
    recipe = json.loads(pathlib.Path(sys.argv[2]).read_text())
    out = pathlib.Path(recipe["output"]["dir"])
    (out / "adapter").mkdir(parents=True)
    (out / "adapter/adapter_model.safetensors").write_text("the same")
    lines = [json.dumps({"loss": 3 - step / 10, "tokens": 64, "supervised_tokens": 64, "tokens_per_second": 8.0}) for step in range(5)]
    (out / "metrics.jsonl").write_text("\\n".join(lines))
    (out / "summary.json").write_text("{}")
"""
BROKEN = "import sys; sys.exit('error: it is broken')"
HANGS = """
import os, pathlib, signal, sys, time
pathlib.Path(sys.argv[0] + ".pid").write_text(str(os.getpid()))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
KILLS = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
TESTS = """
import os, sys, time
if "--list" in sys.argv: print("ops::tests::good: test\\nops::tests::bad: test\\nops::tests::crash: test\\nother::one: test")
elif "ops::tests::bad" in sys.argv: sys.exit(101)
elif "ops::tests::crash" in sys.argv: os.abort()
else: print("test result: ok. 1 passed; 0 failed")
"""


def expect(what, is_so, found=None):
    if not is_so:
        problems.append(f"{what}: {json.dumps(found, default=str)[:600]}")


def program(folder, name, text):
    """A program that is a Python script."""
    path = Path(folder) / name
    path.write_text(f"#!{sys.executable} -S\n{text}")
    path.chmod(0o755)
    return path


def is_alive(path):
    """Whether the program that noted its number still runs a moment later: one that waits to be buried does not."""
    for _ in range(100):
        try:
            done = subprocess.run(["ps", "-o", "stat=", "-p", path.read_text()], capture_output=True, text=True).stdout
        except OSError:
            return False
        if not done.strip() or done.startswith("Z"):
            return False
        time.sleep(0.02)
    return True


def plan(folder, name, binary, *more):
    """Runs a plan; its exit code and its JSON."""
    output = Path(folder) / f"{name}.json"
    command = [sys.executable, "-S", HERE / "gpu_check.py", binary, "--output", output, *more]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=folder)
    expect(f"{name}: stdout is the JSON's path", done.stdout.strip() == str(output), done.stdout + done.stderr[-600:])
    return done.returncode, json.loads(output.read_text()) if output.exists() else {"steps": {}}


def good(folder):
    code, said = plan(folder, "good", program(folder, "good", GOOD), "--only", "doctor,media,profile,memcheck,job-1b", "--sizes", "4b")
    ended = {name: entry["status"] for name, entry in said["steps"].items()}
    wanted = {"machine": "done", "doctor": "done", "media": "done", "profile": "failed", "memcheck": "skipped"}
    expect("a good program passes, and what wrote no profile fails", ended == wanted and code == 1, said["steps"])
    expect("a device is named as doctor names it", said["steps"]["media"]["result"]["difference"] == 0, said["steps"]["media"])


def broken(folder):
    tests = program(folder, "tests", TESTS)
    code, said = plan(folder, "broken", program(folder, "broken", BROKEN), "--tests", tests, "--only", "doctor,media,operations", "--device", "cuda")
    expect("a broken program ends in 1", code == said["exit"] == 1 and said["finished"], said)
    for name in ("doctor", "media"):
        expect(f"{name} says what it said", "it is broken" in said["steps"][name]["reason"], said["steps"][name])
    expect("operations come first where doctor fails", list(said["steps"])[2] == "operations", list(said["steps"]))
    found = said["steps"]["operations"]["result"]
    expect("each test alone", (found["passed"], found["failed"], len(found["tests"])) == (1, 2, 3), found)
    expect("a crash is a signal", "signal 6" in found["tests"]["ops::tests::crash"]["reason"], found)


def hangs(folder):
    binary = program(folder, "hangs", HANGS)
    code, said = plan(folder, "hangs", binary, "--only", "doctor,memcheck", "--step-seconds", "1.5", "--device", "vulkan")
    doctor = said["steps"]["doctor"]
    expect("a program that hangs is ended", code == 1 and doctor["status"] == "failed" and "its limit" in doctor["reason"], doctor)
    expect("the step after it runs", said["steps"]["memcheck"]["status"] != "running", said["steps"]["memcheck"])
    expect("nothing is left of it", not is_alive(Path(f"{binary}.pid")))


def kills(folder):
    code, said = plan(folder, "kills", program(folder, "kills", KILLS), "--only", "doctor,autotune")
    doctor = said["steps"]["doctor"]
    expect("a step that dies has failed", code == 1 and "its process died with code -9" in doctor["reason"], doctor)
    expect("and the next one runs", "autotune" in said["steps"] and said["finished"], said["steps"])


def is_stopped(folder):
    binary, output = program(folder, "stopped", HANGS), Path(folder) / "stopped.json"
    command = [sys.executable, "-S", HERE / "gpu_check.py", binary, "--output", output, "--only", "doctor"]
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    noted = Path(f"{binary}.pid")
    until = time.monotonic() + 30
    while time.monotonic() < until and not (noted.exists() and noted.read_text()):
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    code = child.wait(30)
    said = json.loads(output.read_text())
    expect("a plan that is stopped says so", code == 1 and said["interrupted"], said)
    expect("and leaves nothing behind", not is_alive(noted))


def arguments(folder):
    binary = program(folder, "any", GOOD)
    for words in (["nothing"], [binary, "--only", "no-such-step"], [binary, "--tests", "nothing"], [binary, "--output", "no/where.json"]):
        command = [sys.executable, "-S", HERE / "gpu_check.py", *map(str, words)]
        code = subprocess.run(command, capture_output=True, cwd=folder).returncode
        expect(f"{words[1:] or words} end in 2", code == 2, code)


def commands(folder):
    ran = run([program(folder, "exits", BROKEN)], 20)
    expect("an exit code is told", ran.error == "exit code 1: error: it is broken", ran.error)
    expect("a program that is not there is told", "No such file" in run([Path(folder) / "absent"], 5).error)


def files(folder):
    path, link = Path(folder) / "real.json", Path(folder) / "link.json"
    link.symlink_to(path)
    write_json(link, {"a": 1})
    expect("a link stays one", link.is_symlink() and json.loads(path.read_text()) == {"a": 1})
    write_json("/dev/null", {"a": 1})
    expect("a device stays one", not Path("/dev/null").is_file())


def readers(_):
    lines = ["| 12.5µs     | rms_norm", "| 1.5ms      | matmul", "| 500ns      | rms_norm", "| not measured | matmul", "Executing x"]
    table = ["|⎺⎺⎺| ", "| Name | Duration | Num Computed | Ratio |", "| rms_norm | 13µs | 2 | 1 % |", "| 13µs | rms_norm | 2 | 1 % |"]
    found = read_profile(lines + table)
    kernels = [(kernel["name"], kernel["launches"], kernel["us"]) for kernel in found["kernels"]]
    expect("cubecl's profile is read", kernels == [("matmul", 2, 1500.0), ("rms_norm", 2, 13.0)] and found["unmeasured"] == 1, found)
    text = '==PROF== Connected\n"ID","Kernel Name","gpu__time_duration.sum"\n"","","ns"\n"0","matmul","1,234"\n'
    expect("ncu's rows are read", read_ncu(text) == [{"name": "matmul", "gpu__time_duration.sum ns": 1234.0}], read_ncu(text))
    expect("no rows are none", read_ncu("==ERROR== ERR_NVGPUCTRPERM") == [])
    expect("tests are listed", list_tests("a::b: test\na::bench: bench\n\n1 test, 1 benchmark\n") == ["a::b"])
    expect("curves differ by their largest gap", steps.gaps([1.0, 2.2], [1.0, 2.0]) - 0.1 < 1e-12 and steps.gaps([1.0], [1.0, 2.0]) is None)


def operations(_):
    config = jobs.make_random_model.text_config(HERE.parent / "configs/models/gemma-3-1b.json", 6, 100)
    config.update(hidden_size=8, intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=2)
    # Five layers see (1 + 2 + 2 + 2) / 4 keys on average, the sixth (1 + 2 + 3 + 4) / 4.
    expect("keys are counted", jobs.seen_keys(config, [4]) == 5 * 1.75 + 2.5, jobs.seen_keys(config, [4]))
    base, adapter = 6 * (64 + 32 + 32 + 64 + 3 * 128), 6 * 16 * (16 + 12 + 12 + 16 + 3 * 24)
    scores, head = 8 * 11.25, 800
    forward, both = 2 * base + 2 * adapter + 4 * scores, 4 * base + 6 * adapter + 12 * scores + 4 * head
    found = jobs.flops_per_token(config, [4], True)
    expect("operations are counted", found == {"needed": both, "done": both + forward}, found)
    found = jobs.flops_per_token(config, [4], False, 0.5)
    expect("the head's only where something is learnt", found == {"needed": both - 2 * head, "done": both - 2 * head}, found)
    names = [step.name for step in gpu_check.plan()]
    expect("steps have names of their own", len(names) == len(set(names)) and all(step.about for step in gpu_check.plan()))


def cards(_):
    class Check:
        tiny = False

        def __init__(self, size):
            self.card_bytes = lambda: size

    def skips(size, job):
        try:
            return steps.card(Check(size), jobs.JOBS[job]) is None
        except Skip:
            return True

    # A T4 as its driver counts it, a 4090, an H100; a device that does not tell.
    for size, wanted in ((15_843_721_216, ["1b", "3n"]), (25_386_352_640, ["1b", "4b", "3n"]), (84_973_518_848, ["1b", "4b", "12b", "3n"])):
        found = [job for job in jobs.JOBS if job != "270m" and not skips(size, job)]
        expect(f"jobs of a card of {size} bytes", found == wanted, found)
    expect("a device that does not tell its memory is asked otherwise", not skips(None, "12b"))


def main():
    checks = [cards, good, broken, hangs, kills, is_stopped, arguments, commands, files, readers, operations]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(len(checks)) as pool:
        folder = os.path.realpath(folder)
        for check, done in [(check, pool.submit(check, folder)) for check in checks]:
            try:
                done.result()
            except Exception as error:
                expect(check.__name__, False, f"{type(error).__name__}: {error}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print("gpu_check.sh survives" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
