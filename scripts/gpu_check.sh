#!/usr/bin/env bash
# Checks and measures a built gemma-tune on a GPU, and writes one JSON; builds nothing, downloads nothing.
# usage: gpu_check.sh BINARY [REFERENCE_BENCH] [--tests TEST_BINARY] [--device auto] [--output gpu_check.json] [--sizes 270m,1b,4b]
# REFERENCE_BENCH is a Python script that prints one JSON for `--size S --batch B --seq N`, run on the same card in the same call.
# PEAK_TFLOPS, the card's rate for dense products, turns rates into a utilisation. Needs Python 3; what cannot be measured is null.
set -euo pipefail
python=${PYTHON:-python3}
command -v "$python" >/dev/null || {
    printf 'error: %s is not installed\nhint: install Python 3, or name it: PYTHON=/path/to/python3\n' "$python" >&2
    exit 2
}
exec "$python" "$(dirname "$0")/gpu_check.py" "$@"
