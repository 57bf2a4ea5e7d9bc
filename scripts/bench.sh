#!/usr/bin/env bash
# Whole runs against the tools that are installed here, as ratios: steps against PEFT, conversations against TRL, decoding against llama.cpp.
#
#     scripts/bench.sh MODEL_FOLDER [GGUF] > bench.json
#
# Builds the release binary first. PYTHON names the interpreter that has the other tools; what is missing is left out. Close
# everything else: the tools run one after the other, and each wants all cores. Operations alone: cargo bench.
set -euo pipefail
[ $# -ge 1 ] || {
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(realpath "$1")
gguf=${2:+$(realpath "$2")}
python=${PYTHON:-python3}
cd "$here"
cargo build --release --quiet

bench() { "$python" "scripts/$1" --tool target/release/gemma-tune "${@:2}"; }
{
    bench bench.py --model "$folder" --length 512
    bench bench.py --model "$folder" --length 512 --set model.dtype=bf16 --without-peft
    bench bench.py --model "$folder" --length 256 --set model.quantization=nf4_double --without-peft
    bench bench_chat.py --model "$folder"
    if [ -n "$gguf" ]; then
        bench bench_generate.py --model "$gguf"
    fi
} | "$python" -c '
import json, sys
text, at, found, decoder = sys.stdin.read(), 0, [], json.JSONDecoder()
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    value, at = decoder.raw_decode(text, at)
    found.append(value)
print(json.dumps(found, indent=1))'
