#!/usr/bin/env bash
# The newcomer's first command: fetches the real Gemma 3 270M, builds gemma-tune, fine-tunes the model on the conversations in
# data/marlow.jsonl, and prints the same questions answered by the base and by the tuned model.
# Needs Rust and Python 3 with pip. It writes to models/, target/ and out/quickstart/ only. Running it again is fine.
set -euo pipefail
cd "$(dirname "$0")/.."

recipe=recipes/quickstart.yaml
model=models/gemma-3-270m-q4_k_m.gguf
run=out/quickstart
max_tokens=64
python=${PYTHON:-python3}
tool=${CARGO_TARGET_DIR:-target}/release/gemma-tune

say() { printf '\n== %s\n' "$*" >&2; }
need() {
    command -v "$1" >/dev/null || {
        printf 'error: %s is not installed\nhint: %s\n' "$1" "$2" >&2
        exit 2
    }
}

need cargo 'install Rust from https://rustup.rs'
need "$python" 'install Python 3, or name it: PYTHON=/path/to/python3 scripts/quickstart.sh'

say 'model'
"$python" scripts/fetch_gemma_270m.py

say 'build (some minutes the first time)'
cargo build --release --locked

started=$SECONDS
if [ -e "$run" ]; then
    say "removing the earlier run in $run"
    rm -rf "$run"
fi

say "train $recipe"
status=0
"$tool" train "$recipe" || status=$?
if [ "$status" -eq 3 ]; then
    printf 'Stopped with a checkpoint. To go on: %s train %s --resume\n' "$tool" "$recipe" >&2
fi
[ "$status" -eq 0 ] || exit "$status"

say 'the same questions to the base and to the tuned model'
answer() { # answer NAME [OPTION..]: writes $run/NAME.jsonl
    local name=$1
    shift
    "$tool" generate --model "$model" "$@" --input data/prompts.jsonl --output "$run/$name.jsonl" --max-tokens "$max_tokens"
}
answer base
answer tuned --adapter "$run/adapter"

"$python" scripts/side_by_side.py "$run" "$((SECONDS - started))"
