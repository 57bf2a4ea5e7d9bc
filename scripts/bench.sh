#!/usr/bin/env bash
# Every measured number of docs/performance.md, in its order, and the other tools' where they are installed here: steps against PEFT,
# conversations against TRL, decoding against llama.cpp.
#
#     scripts/bench.sh MODEL_FOLDER [GGUF] > bench.json
#
# Builds the release binary first. PYTHON names the interpreter that has the other tools; what is missing is left out. Close
# everything else: the tools run one after the other, and each wants all cores. Operations alone: cargo bench.
set -euo pipefail
[ $# -ge 1 ] || {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(realpath "$1")
gguf=${2:+$(realpath "$2")}
python=${PYTHON:-python3}
cd "$here"
cargo build --release --quiet

bench() { "$python" "scripts/$1" --tool target/release/gemma-tune "${@:2}"; }
steps() { # steps MODEL TOKENS ROWS RECOMPUTED [OPTION..]
    bench bench.py --model "$1" --length "$2" --batch "$3" --set "training.activation_checkpointing=$4" "${@:5}"
}
nf4=(--set model.dtype=bf16 --set model.quantization=nf4_double)
{
    steps "$folder" 512 1 false
    steps "$folder" 512 1 true --without-peft
    steps "$folder" 512 4 true --without-peft
    steps "$folder" 512 1 false --set model.dtype=bf16 --without-peft
    steps "$folder" 512 4 true --set model.dtype=bf16 --without-peft
    steps "$folder" 256 1 false "${nf4[@]}"
    steps "$folder" 256 1 true "${nf4[@]}" --without-peft
    if [ -n "$gguf" ]; then
        steps "$gguf" 512 1 true --set model.dtype=bf16 --set model.quantization=as_stored --without-peft
    fi
    bench bench_chat.py --model "$folder" --rows 48
    if [ -n "$gguf" ]; then
        bench bench_generate.py --model "$gguf"
        bench bench_start.py --model "$gguf"
    fi
    for tokens in 512 1024 2048 4096 8192; do
        steps "$folder" "$tokens" 1 false --steps 2 --without-peft
    done
} | "$python" -c '
import json, sys
text, at, found, decoder = sys.stdin.read(), 0, [], json.JSONDecoder()
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    value, at = decoder.raw_decode(text, at)
    found.append(value)
print(json.dumps(found, indent=1))'
