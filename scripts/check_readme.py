#!/usr/bin/env python3
"""Walks README.md and docs/: what they say of this repository is so, and every number there has a command that prints it.

    cargo build
    python3 scripts/check_readme.py [--tool target/debug/gemma-tune]

Quick commands are run and their numbers compared: rows of the sample data, the table of what fits, examples with their output. Of
the others it is checked that they exist and know their options. Needs Python 3.8 and nothing else. Prints one line per check, then
every problem at once.
"""

import argparse
import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = "README.md"
# What a sentence needs for its numbers to be measurements, not settings.
UNITS = r"tokens/s|tokens per second|[GMK]i?B|GFLOP/s|ms|s|min|%"
MEASURED = re.compile(rf"(?<![\w.-])\d[\d.,]* ?(?:{UNITS})(?![\w/])")
# Programs whose presence beside a number makes it one that can be measured again.
PROGRAMS = ("gemma-tune", "cargo", "python3 scripts/", "scripts/")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tool", default="target/debug/gemma-tune")
args = parser.parse_args()
problems = []


def say(page, what):
    problems.append(f"{page}: {what}")


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def pages():
    """The name and text of each page."""
    paths = [README, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
    return [(path, read(path)) for path in paths]


@functools.lru_cache(None)
def output(*command):
    """What a command prints to stdout, in the repository's root; None where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def tool(*words):
    return output(str(Path(args.tool).resolve()), *words)


def prose(text):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", re.sub(r"^    .*$", "", text, flags=re.M), flags=re.M | re.S)


def spans(text):
    """The words in backticks."""
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose(text))]


def section(text, heading):
    """The lines below a heading, up to the next."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not found:
        raise SystemExit(f"error: {README} has no section `{heading}`")
    return found.group(1)


def rows(text):
    """The cells of each row of the tables in a text, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    is_rule = [row[0].startswith("--") for row in cells] + [False]
    return [row for at, row in enumerate(cells) if not is_rule[at] and not is_rule[at + 1]]


def check_links():
    """Links lead somewhere, and paths in backticks exist."""
    tops = {path.name for path in ROOT.iterdir() if path.name not in ("target", "out", "models", ".git")}
    for page, text in pages():
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose(text)):
            if "://" not in target and not ((ROOT / page).parent / target).exists():
                say(page, f"the link `{target}` leads nowhere")
        for span in spans(text):
            for word in span.split():
                if "/" in word and word.split("/")[0] in tops and not list(ROOT.glob(word.strip("/."))):
                    say(page, f"there is no `{word}`")
                if re.fullmatch(r"(ops|nn|jobs|train)/\w+", word) and not list(ROOT.glob(f"src/{word}*")):
                    say(page, f"there is no `src/{word}`")


def check_sample_data():
    """The rows of the sample data are as many as check_data.py counts."""
    said = output(sys.executable, "scripts/check_data.py")
    if said is None:
        return say("data", "scripts/check_data.py fails")
    counted = dict(re.findall(r"(data/\S+): (\d+) rows", said))
    text = read(README)
    numbers = {"eight": "8"}
    for number, what in re.findall(r"(\w+)\s+(?:conversations|questions) of `(data/[^`]+)`", text):
        if numbers.get(number, number) != counted.get(what):
            say(README, f"{what} has {counted.get(what)} rows, not {number}")
    for name, number in re.findall(r"^\| `(\w+\.jsonl)` \| (\d+) \|", read("data/README.md"), re.M):
        if number != counted.get(f"data/{name}"):
            say("data/README.md", f"{name} has {counted.get(f'data/{name}')} rows, not {number}")


def check_sizes():
    """The download and the compiler are those of the scripts and the manifest."""
    text = read(README)
    model_bytes = int(re.search(r"^MODEL_BYTES = ([\d_]+)", read("scripts/fetch_gemma_270m.py"), re.M).group(1))
    if f"({model_bytes / 1e6:.0f} MB," not in text:
        say(README, f"the download has {model_bytes / 1e6:.0f} MB")
    rust = re.search(r'^rust-version = "([\d.]+)"', read("Cargo.toml"), re.M).group(1)
    if not re.search(rf"Rust {re.escape(rust)}\b", text):
        say(README, f"does not say that Rust {rust} is needed")


def check_verbs():
    """The table of verbs is that of `--help`."""
    listed = re.findall(r"^  (\w+) ", tool("--help").split("Commands:")[1].split("Options:")[0], re.M)
    verbs = [spans(row[0])[0].split()[0] for row in rows(section(read(README), "Verbs"))]
    if set(verbs) != set(listed) - {"help"}:
        say(README, f"verbs are {sorted(listed)}, the table has {sorted(set(verbs))}")


def check_keys():
    """The table of keys is that of `recipe schema`."""
    schema = json.loads(tool("recipe", "schema"))["properties"]
    table = rows(section(read(README), "The recipe"))
    table = {(spans(row[0]) or ["extends"])[0]: spans(re.sub(r"\(each .*?\)", "", row[1])) for row in table}
    if sorted(table) != sorted(schema):
        say(README, f"sections are {sorted(schema)}, the table has {sorted(table)}")
    for name, known in schema.items():
        known = known.get("items", known)  # of a list what its items have
        keys, named = set(known.get("properties", {})), set(table.get(name, ()))
        if name != "extends" and keys != named:
            say(README, f"`{name}` lacks {sorted(keys - named)}, and has {sorted(named - keys)}, which are no keys")
    source = schema["data"]["properties"]["train"]["anyOf"][1]["properties"]
    if f"(each a list of {', '.join(f'`{key}`' for key in source)})" not in read(README):
        say(README, f"a source of rows has the keys {list(source)}")


def check_formats():
    """The table of formats is that of the schema, and its files have such rows."""
    schema = json.loads(tool("recipe", "schema"))["properties"]["data"]["properties"]["format"]
    known = re.findall(r'"(?:const|enum)": (\[[^]]*\]|"\w+")', json.dumps(schema))
    known = {word for words in known for word in re.findall(r"\w+", words)}
    table = rows(section(read(README), "Your own data"))
    if {spans(row[0])[0] for row in table} != known - {"auto"}:
        say(README, f"formats are {sorted(known)}")
    for form, example, files in table:
        asked = re.findall(r'[{ ]"(\w+)": [^]]*?(?=, "|\}`|$)', example)
        for file in spans(files):
            text = read(file)
            row = json.loads(text)[0] if file.endswith(".json") else json.loads(text.splitlines()[0])
            if asked[0] not in row:
                say(README, f"{file} has no `{asked[0]}`, as {form} asks for")


def check_what_fits():
    """Each cell of the table is what `estimate` prints."""
    for recipe, *cells in rows(section(read(README), "What fits where")):
        settings = [(q, n) for q in ("none", "nf4_double") for n in (512, 2048)]
        for cell, (quantization, length) in zip(cells, settings):
            overrides = ["--set", f"model.quantization={quantization}", "--set", f"data.max_length={length}"]
            said = tool("estimate", recipe.strip("`"), "--no-probe", *overrides) or ""
            if f"\nMemory: about {cell} (" not in f"\n{said}":
                say(README, f"{recipe} with {quantization} and {length} tokens: {cell} is not what `estimate` prints")


def check_examples():
    """Lines that stand below `$ gemma-tune ..` are in what it prints; the times of a probe are the machine's."""
    for page, text in pages():
        for command, shown in re.findall(r"^    \$ gemma-tune (.*)\n((?:    .*\n)+)", text, re.M):
            words = shlex.split(command) + (["--no-probe"] if command.startswith("estimate") else [])
            said = tool(*words) or ""
            for line in shown.splitlines():
                if line.strip() not in ("", "..") and "Time on" not in line and line.strip() not in said:
                    say(page, f"`gemma-tune {command}` does not print `{line.strip()}`")


def check_dependencies():
    """The table of dependencies is that of Cargo.toml."""
    manifest = read("Cargo.toml")
    tables = re.findall(r"^\[(?:dev-|target\..*\.)?dependencies\]\n(.*?)(?=^\[|\Z)", manifest, re.M | re.S)
    crates = re.findall(r"^([\w-]+) =", "\n".join(tables), re.M)
    cells = [re.sub(r" \(.*\)", "", row[0]) for row in rows(section(read(README), "Dependencies"))]
    named = [name for cell in cells for name in cell.split(", ")]
    for name in sorted(set(crates) ^ set(named)):
        say(README, f"`{name}` is " + ("not in the table of dependencies" if name in crates else "no dependency"))
    if len(named) != len(set(named)):
        say(README, "a dependency stands in two rows")


def first_sentence(path):
    """Of a Rust file's own page."""
    lines = [line[3:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("//!")]
    page = " ".join(lines[: lines.index("")] if "" in lines else lines)
    return re.split(r"\.(?:\s|$)", page, maxsplit=1)[0]


def check_tree():
    """The tree has every folder there is, and of each room in `src` the first sentence of its page."""
    tree, folder = {}, []
    for indent, name, words in re.findall(r"^    ( *)(\S+) +(.*)$", section(read(README), "The tree"), re.M):
        folder[len(indent) // 2 :] = [name.rstrip("/")]
        tree["/".join(folder)] = words
    for path in tree:
        if not (ROOT / path).exists():
            say(README, f"the tree has `{path}`, which is not there")
    ignored = {line.strip("/\n") for line in read(".gitignore").splitlines()} | {".git"}
    tops = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ignored | {".ci"}]
    # A folder beside a file of its name is that file's.
    rooms = [path for path in (ROOT / "src").iterdir() if path.name not in ("lib.rs", "main.rs")]
    rooms = [room for room in rooms if room.is_file() or not room.with_suffix(".rs").exists()]
    # Below the rooms, the rooms of their own.
    rooms += [path.parent for path in (ROOT / "src/jobs").glob("*/mod.rs")]
    for name in tops:
        if name not in tree:
            say(README, f"the tree lacks `{name}/`")
    for room in rooms:
        path = str(room.relative_to(ROOT))
        words = first_sentence(room / "mod.rs" if room.is_dir() else room)
        if tree.get(path) != words:
            say(README, f"the tree's words on `{path}` are not those of its page: {words}")


@functools.lru_cache(None)
def options(*command):
    """The options that a command's `--help` names; None where there is no such command."""
    said = tool(*command[1:], "--help") if command[0] == "gemma-tune" else output(sys.executable, command[0], "--help")
    return said and set(re.findall(r"(?<![\w-])--[a-z][\w-]*", said))


def check_command(page, command):
    """A command's program is there, and knows its options."""
    words = re.sub(r"[\[\]]|\.\.+", " ", command.replace("python3 ", "")).split()
    given = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word)}
    if words[0].startswith("scripts/"):
        script = ROOT / words[0]
        if not script.exists():
            return say(page, f"`{command}`: there is no {words[0]}")
        known = options(words[0]) if script.suffix == ".py" and "add_argument" in read(words[0]) else None
        unknown = given - known if known is not None else {word for word in given if word not in script.read_text()}
    elif words[0] == "gemma-tune":
        verbs = [word for word in words[1:3] if re.fullmatch(r"[a-z][a-z|-]*", word)]
        forms = [[]]
        for verb in verbs:
            forms = [form + [one] for form in forms for one in verb.split("|")]
        known = [options("gemma-tune", *form) for form in forms]
        if None in known:
            return say(page, f"`{command}`: there is no such verb")
        unknown = given - set().union(*known)
    else:
        return
    if unknown:
        say(page, f"`{command}` does not know {sorted(unknown)}")


def commands(text):
    """The commands of a page, in backticks or in blocks."""
    block = [re.sub(r"\s+#.*", "", line).strip().lstrip("$ ") for line in re.findall(r"^    (.*)$", text, re.M)]
    found = [line for line in spans(text) + block if line.startswith(PROGRAMS)]
    return [line for line in found if (" " in line or line.startswith("scripts/")) and not line.split()[0].endswith("/")]


def check_commands():
    """Every command on a page can be run as it stands there."""
    for page, text in pages():
        for command in commands(text):
            check_command(page, command)
    # The table of verbs, whose commands leave the program's name out.
    for row in rows(section(read(README), "Verbs")):
        check_command(README, f"gemma-tune {spans(row[0])[0]}")


def check_options_of_the_bench():
    """The options in the table of steps are options of bench.py, and their keys keys of a recipe."""
    for row in rows(section(read("docs/performance.md"), "Training steps")):
        given = spans(row[-1])[0] if spans(row[-1]) else ""
        check_command("docs/performance.md", f"scripts/bench.py {given}")
        for key in re.findall(r"--set (\S+)", given):
            if tool("recipe", "show", "recipes/quickstart.yaml", "--set", key) is None:
                say("docs/performance.md", f"`--set {key}` is no key of a recipe")


def check_numbers():
    """A section with measured numbers has a command, and so has each row of a table that has a column for it."""
    for page, text in pages():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
            for row in rows(table) if table.splitlines()[0].endswith("| command |") else ():
                if not (spans(row[-1]) and spans(row[-1])[0].startswith(PROGRAMS)):
                    say(page, f"the row `{row[0]}` has no command")
        for part in re.split(r"^#+ ", text, flags=re.M)[1:]:
            measured = MEASURED.findall(part)
            if measured and not any(line.startswith(PROGRAMS) for line in commands(part) + spans(part)):
                say(page, f"`{part.splitlines()[0]}` has the numbers {measured[:3]} and no command")


def main():
    if not Path(args.tool).exists():
        print(f"error: there is no {args.tool}\nhint: cargo build, or --tool", file=sys.stderr)
        return 2
    for name, check in list(globals().items()):
        if name.startswith("check_") and name != "check_command":
            before = len(problems)
            check()
            print(f"{name[6:].replace('_', ' ')}: {'ok' if len(problems) == before else 'wrong'}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
