#!/usr/bin/env bash
# First contact with a GPU: checks and measures a built gemma-tune there, step by step, and writes one JSON; builds nothing, downloads
# nothing. Needs Python 3 alone. docs/gpu.md says how to run it and how to read what comes out.
# usage: gpu_check.sh BINARY [--device auto] [--minutes 30] [--tests TEST_BINARY] [--reference SCRIPT] [--only STEP] [--output FILE] [..]
set -euo pipefail
python=${PYTHON:-python3}
command -v "$python" >/dev/null || {
    printf 'error: %s is not installed\nhint: install Python 3, or name it: PYTHON=/path/to/python3\n' "$python" >&2
    exit 2
}
exec "$python" "$(dirname "$0")/gpu_check.py" "$@"
