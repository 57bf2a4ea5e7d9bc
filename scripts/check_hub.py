#!/usr/bin/env python3
"""Holds the tests' Hub against the `huggingface_hub` package, and what `gemma-tune push` brought there against it.

The Hub of `tests/it/hub` is a stand-in on this machine. It is honest as far as the package can upload through it what it
then downloads; `push` is right as far as the package lists and downloads, byte by byte, what was pushed, and reads the
card as a card of the Hub.

    pip install huggingface_hub
    python3 scripts/check_hub.py
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests/goldens/export"
BASE = "google/gemma-3-1b-it"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--tool", default=ROOT / "target/debug/gemma-tune", type=pathlib.Path, help="the program")
parser.add_argument("--tests", type=pathlib.Path, help="the integration tests' binary; built where it is not named")
parser.add_argument("--megabytes", default=0, type=int, help="also push a file of this size, and say what memory it took")
args = parser.parse_args()


def tests_binary():
    """The binary of the integration tests."""
    if args.tests:
        return args.tests
    said = subprocess.run(["cargo", "test", "--no-run", "--test", "it"], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=True)
    return ROOT / re.search(r"\((\S+/it-\w+)\)", said.stderr).group(1)


@contextlib.contextmanager
def stand_in(folder):
    """A running stand-in: its address and a token."""
    file = folder / "address"
    environment = {**os.environ, "GEMMA_TUNE_STAND_IN": str(file)}
    command = [tests_binary(), "--ignored", "--exact", "push::serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while not (file.exists() and file.read_text()):
        if process.poll() is not None:
            sys.exit("error: the stand-in does not start")
        time.sleep(0.05)
    try:
        yield file.read_text().split()
    finally:
        file.unlink()
        process.wait(10)


def files(folder):
    """The bytes of the files of a folder, hidden ones left out."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not any(part.startswith(".") for part in name.split("/"))}


def check(what, holds, detail=""):
    print(f"{what}: {'ok' if holds else 'WRONG'}")
    if not holds:
        sys.exit(f"error: {what} {detail}")


def push(environment, *words):
    """What `push --json` says, or its exit code and what it said instead."""
    command = [args.tool, "push", *map(str, words), "--json"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True)
    return json.loads(said.stdout) if said.returncode == 0 else (said.returncode, said.stderr)


def main():
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = pathlib.Path(temporary)
        os.environ["HF_HOME"] = str(folder / "home")
        os.environ.pop("HF_HUB_OFFLINE", None)
        url, token = stack.enter_context(stand_in(folder))
        os.environ["HF_ENDPOINT"] = url
        import huggingface_hub
        from huggingface_hub import HfApi, ModelCard, snapshot_download

        print(f"huggingface_hub {huggingface_hub.__version__} at {url}")
        api = HfApi(endpoint=url, token=token)
        environment = {**os.environ, "HF_TOKEN": token}

        # The package through the stand-in.
        check("the package knows who it is", api.whoami()["name"] == "ann")
        theirs, numbers = folder / "theirs", random.Random(7)
        (theirs / "deep").mkdir(parents=True)
        (theirs / "small.txt").write_text("small\n")
        (theirs / "empty.txt").write_text("")
        (theirs / "deep/whole.gguf").write_bytes(b"GGUF" + numbers.randbytes(300_000))
        (theirs / "model.safetensors").write_bytes(numbers.randbytes(3_500_000))
        api.create_repo("ann/theirs", private=True)
        api.create_repo("ann/theirs", exist_ok=True)
        api.upload_folder(repo_id="ann/theirs", folder_path=theirs)
        listed = set(api.list_repo_files("ann/theirs")) - {".gitattributes"}
        check("the package lists what it uploaded", listed == set(files(theirs)), listed)
        came = snapshot_download("ann/theirs", endpoint=url, token=token, local_dir=folder / "came")
        check("the package downloads what it uploaded", files(pathlib.Path(came)) == files(theirs))

        # What we push, as the package sees it.
        adapter = folder / "adapter"
        adapter.mkdir()
        for path in (GOLDENS / "text-lora").iterdir():
            (adapter / path.name).write_bytes(path.read_bytes())
        (adapter / "optimizer.pt").write_text("x")
        (adapter / ".secret").write_text("x")
        said = push(environment, adapter, "--repo", "ann/ours", "--base-model", BASE)
        check("an adapter is pushed", isinstance(said, dict), said)
        listed = set(api.list_repo_files("ann/ours")) - {".gitattributes"}
        check("the package lists what we pushed", listed == set(said["pushed"]), listed)
        came = files(pathlib.Path(snapshot_download("ann/ours", endpoint=url, token=token, local_dir=folder / "ours")))
        same = [name for name, data in files(adapter).items() if came.get(name) == data]
        check("the package downloads our weights byte by byte", "adapter_model.safetensors" in same, same)
        config = json.loads(came["adapter_config.json"])
        check("the configuration names the base on the Hub", config["base_model_name_or_path"] == BASE, config)
        card = ModelCard.load(folder / "ours/README.md").data
        read = (card.base_model, card.library_name, card.license, "lora" in card.tags)
        check("the package reads the card", read == (BASE, "peft", "gemma", True), read)
        entries = {entry.path: entry for entry in api.list_repo_tree("ann/ours", recursive=True)}
        stated = entries["adapter_model.safetensors"].lfs.sha256
        weights = (adapter / "adapter_model.safetensors").read_bytes()
        check("the hash of the weights is theirs", stated == hashlib.sha256(weights).hexdigest())

        # The same files in parts.
        parts = folder / "parts"
        parts.mkdir()
        (parts / "big.gguf").write_bytes(b"GGUF" + numbers.randbytes(5_300_000))
        (parts / "small.gguf").write_bytes(b"GGUF" + numbers.randbytes(70_000))
        said = push(environment, parts, "--repo", "parts", "--base-model", BASE)
        check("files in parts are pushed", isinstance(said, dict), said)
        came = files(pathlib.Path(snapshot_download("ann/parts", endpoint=url, token=token, local_dir=folder / "p")))
        check("the package downloads them byte by byte", all(came[n] == d for n, d in files(parts).items()))

        # Each other's work.
        said = push(environment, parts, "--repo", "ann/theirs", "--base-model", BASE)
        check("another's model is not replaced", said[0] == 2 and "holds a model" in said[1], said)
        api.upload_folder(repo_id="ann/shared", folder_path=parts) if api.create_repo("ann/shared") else None
        said = push(environment, parts, "--repo", "ann/shared", "--base-model", BASE, "--yes")
        check("what the package brought is not sent again", set(said["unchanged"]) == set(files(parts)), said)

        if args.megabytes:
            with open(parts / "huge.gguf", "wb") as file:
                file.write(b"GGUF")
                for _ in range(args.megabytes):
                    file.write(numbers.randbytes(1 << 20))
            command = [args.tool, "push", str(parts), "--repo", "ann/parts", "--base-model", BASE]
            process = subprocess.Popen(command, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            check(f"a file of {args.megabytes} MB is pushed in {usage.ru_maxrss / 1000:.0f} MB of memory", status == 0)


if __name__ == "__main__":
    main()
