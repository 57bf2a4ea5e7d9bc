"""What the steps of gpu_check.py share: commands with a time limit, files that appear whole, and what other programs print, read."""

import csv
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

# How much of what a program said is kept with its failure.
TAIL_LINES = 8
# Between asking a program to stop and ending it.
GRACE_SECS = 3


class Skip(Exception):
    """A step that cannot be done here, and why."""


class Failed(Exception):
    """A step that was done and went wrong, and how."""


def write_json(path, value):
    """Writes a file whole or not at all; into what is no regular file (a pipe, a device) it writes, and never replaces it."""
    text = json.dumps(value, indent=2) + "\n"
    path = Path(os.path.realpath(path))
    if is_special(path):
        path.write_text(text)
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


def is_special(path):
    """Whether a name is there and no regular file."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def read_json(path, default=None):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return default


def sha256(path):
    """The hash of a file, or None where there is none."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def tail(text, lines=TAIL_LINES):
    """The last lines of a text, each cut to a readable length."""
    return "\n".join(line[:400] for line in text.strip().splitlines()[-lines:])


def last_json(text):
    """The JSON that a program printed: all of it, or its last line."""
    for part in (text, (text.strip().splitlines() or [""])[-1]):
        try:
            return json.loads(part)
        except ValueError:
            pass
    return None


class Ran:
    """What became of a command."""

    def __init__(self, code, out, err, seconds, limit, killed, peak_device_mib):
        self.code, self.out, self.err, self.seconds = code, out, err, round(seconds, 1)
        self.limit, self.killed, self.peak_device_mib = limit, killed, peak_device_mib

    @property
    def error(self):
        """Why it is no success; None where it is one."""
        if self.killed:
            said = tail(self.err or self.out, 3)
            return f"ended at its limit of {self.limit:.0f} s" + (f"; it had said: {said}" if said else "")
        if self.code:
            how = f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
            return f"{how}: {tail(self.err or self.out) or 'nothing was said'}"
        return None


def device_mib(pid):
    """Device memory of a process in units of 2^20 bytes, as nvidia-smi sees it; None where it does not."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout.splitlines()
        return sum(int(line.split(",")[1]) for line in lines if line.split(",")[0].strip() == str(pid)) or None
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None


def run(command, limit, env=None, cwd=None, watch_memory=False):
    """Runs a command for so many seconds at most. It stays in the step's process group, which ends with the step."""
    started, peak, killed = time.monotonic(), [None], False
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        except OSError as error:
            return Ran(127, "", f"{command[0]}: {error.strerror}", 0, limit, False, None)

        def watch():
            while process.poll() is None:
                used = device_mib(process.pid)
                peak[0] = max(peak[0] or 0, used) if used else peak[0]
                time.sleep(0.25)

        if watch_memory and shutil.which("nvidia-smi"):
            threading.Thread(target=watch, daemon=True).start()
        try:
            process.wait(max(limit, 0.1))
        except subprocess.TimeoutExpired:
            killed = True
            process.terminate()
            try:
                process.wait(GRACE_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        seconds = time.monotonic() - started
        return Ran(process.returncode, out.read(), err.read(), seconds, limit, killed, peak[0])


UNITS_US = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6}


def read_profile(lines):
    """Launches and microseconds by kernel, from what cubecl's profiling logs: a line `| 12.3µs | name` for each launch.

    Its summaries are tables, whose lines end in a bar; they tell of the same launches, and are passed over.
    """
    kernels, unmeasured = {}, 0
    for line in lines:
        found = re.match(r"\| (?:([\d.]+)(ns|us|µs|μs|ms|s)|(not measured)) *\| (.*\S)\s*$", line)
        if not found or found.group(4).endswith("|"):
            continue
        entry = kernels.setdefault(found.group(4), {"name": found.group(4), "launches": 0, "us": 0.0})
        entry["launches"] += 1
        if found.group(3):
            unmeasured += 1
        else:
            entry["us"] += float(found.group(1)) * UNITS_US[found.group(2)]
    total = sum(entry["us"] for entry in kernels.values())
    ordered = sorted(kernels.values(), key=lambda entry: -entry["us"])
    for entry in ordered:
        entry["share"] = round(entry["us"] / total, 4) if total else None
        entry["us"] = round(entry["us"], 1)
    launches = sum(entry["launches"] for entry in ordered)
    return {"launches": launches, "unmeasured": unmeasured, "total_us": round(total, 1), "kernels": ordered}


def read_ncu(text):
    """The rows of ncu's `--csv --page raw`: below its own talk a heading, a row of units, and a row for each launch."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    rows = list(csv.DictReader(lines[start:]))
    metrics = [name for name in (rows[0] if rows else {}) if name and ("__" in name)]
    number = lambda cell: float(cell.replace(",", "")) if re.fullmatch(r"[\d.,]+", cell or "") else None
    units = {name: rows[0][name] for name in metrics} if rows and not rows[0]["ID"] else {}
    launches = [row for row in rows if row["ID"]]
    return [
        {"name": row.get("Kernel Name", "")[:120], **{f"{m} {units.get(m, '')}".strip(): number(row[m]) for m in metrics}}
        for row in launches
    ]


def list_tests(text):
    """Names of a Rust test binary's `--list`."""
    return [line[: -len(": test")] for line in text.splitlines() if line.endswith(": test")]
