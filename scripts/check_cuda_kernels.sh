#!/usr/bin/env bash
# Compiles the kernels of a build with `cuda-nvrtc` for NVIDIA GPUs where there is none: a driver that computes nothing (cuda_stub.c)
# takes the place of the real one, so that NVRTC compiles what a GPU would run. Says nothing about results or speed.
# usage: check_cuda_kernels.sh BINARY [CAPABILITY ...]    compute capabilities as 75 (T4), 80 (A100), 89 (4090), 90 (H100), 120 (5090:
#        NVRTC 12.8 or newer)
# With TESTS=TEST_BINARY (cargo test --release --lib --no-run --features cuda-nvrtc) also that products of any sizes can be set up.
# Needs a C compiler, and CUDA_PATH: a folder with include/ and lib/libnvrtc.so, of a CUDA toolkit or of NVIDIA's pip packages
# nvidia-cuda-nvrtc, -runtime, -crt and -cccl unpacked over one another. Where there is a ptxas (on PATH, below CUDA_PATH, or named by
# PTXAS), also what each kernel keeps in memory for want of registers.
set -euo pipefail

stop() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 2
}
[ -x "${1:-}" ] || stop 'no binary' 'cargo build --release --features cuda-nvrtc'
command -v cc >/dev/null || stop 'no C compiler' 'install gcc or clang'
[ -e "${CUDA_PATH:-}/include/cuda_bf16.h" ] || stop 'no CUDA headers' 'set CUDA_PATH; the first lines of this script say to what'
binary=$(realpath "$1")
root=$(realpath "$(dirname "$0")/..")
shift
[ $# -ge 1 ] || set -- 75 80 89 90 120

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Not under the name libcuda.so.1: NVRTC looks for that itself, and wants more of it.
cc -shared -fPIC -O1 -o "$work/libcuda.so" "$root/scripts/cuda_stub.c"
library=$(find "$CUDA_PATH"/ -name 'libnvrtc.so*' | sort | head -n 1)
[ -n "$library" ] || stop "no libnvrtc below $CUDA_PATH" 'install the toolkit, or the pip package nvidia-cuda-nvrtc'
ln -s "$(realpath "$library")" "$work/libnvrtc.so"
ptxas=${PTXAS:-$(command -v ptxas || find "$CUDA_PATH"/ -name ptxas -type f | head -n 1)}
library_folder=$(dirname "$(realpath "$library")")
export LD_LIBRARY_PATH=$work:$library_folder:${LD_LIBRARY_PATH:-} CUDA_STUB_MODULES=$work/modules

# Assembles all modules for a capability, and names the kernels that spill.
spills() {
    local module target
    for module in "$work"/modules/*.ptx; do
        # What it was compiled for, which may be more than the capability: sm_90a, whose instructions no later one has.
        target=$(sed -n 's/^\.target \(sm_[0-9a-z]*\).*/\1/p' "$module" | head -n 1)
        "$ptxas" -arch="${target:-sm_$1}" -v -o /dev/null "$module" >"$module.txt" 2>&1 || echo "error: $module" >>"$module.txt"
    done
    cat "$work"/modules/*.txt | awk -v capability="$1" '
        /Compiling entry function/ { split($0, quoted, "\047"); name = quoted[2]; sub(/_[0-9a-f]+$/, "", name); is_kernel = 1 }
        /bytes spill stores/ && is_kernel {
            is_kernel = 0
            kernels++
            for (i = 2; i <= NF; i++) if ($i == "bytes" && $(i + 1) == "spill" && $(i + 2) ~ /^stores/) bytes = $(i - 1)
            if (bytes > 0) { spilling++; of[name]++; if (bytes > most[name]) most[name] = bytes }
        }
        /^error/ { failed++ }
        /fatal|: error/ { if (!said++) print capability ": " $0 }
        END {
            printf "%s: %d kernels assembled, %d of them spill\n", capability, kernels, spilling
            if (failed) printf "%s: ptxas refused %d of them\n", capability, failed
            for (name in most) printf "%s: %d of %s, at most %d bytes\n", capability, of[name], name, most[name]
            exit failed > 0
        }'
}

# A kernel that cannot be compiled gives way to a simpler one, and the run goes on: here that is a failure.
refused() {
    grep -ioE -m 1 'compilation error\].*' <<<"$said" | cut -c 1-300
}

failed=0
for capability in "$@"; do
    export CUDA_STUB_CAPABILITY=$capability
    rm -rf "$work/modules" && mkdir "$work/modules"
    # Nothing is computed, so the self-check must find wrong numbers: any other complaint is a kernel that does not compile or launch.
    said=$("$binary" doctor --device cuda 2>&1) || true
    if ! grep -q 'disagrees with the CPU' <<<"$said" || refused >/dev/null; then
        printf '%s: the self-check:\n%s\n' "$capability" "$(refused || cat <<<"$said")"
        failed=1
    fi
    for recipe in sft_270m sft_4b t4_sft_4b; do
        said=$("$binary" estimate "$root/recipes/$recipe.yaml" --device cuda 2>&1) || true
        if ! grep -q 'tokens per second' <<<"$said" || refused >/dev/null; then
            printf '%s: a layer of %s:\n%s\n' "$capability" "$recipe" "$(refused || cat <<<"$said")"
            failed=1
        fi
    done
    if [ -n "${TESTS:-}" ] && ! said=$("$TESTS" no_number_of_tokens_and_no_rank_ends_a_run 2>&1); then
        printf '%s: products of any sizes:\n%s\n' "$capability" "$said"
        failed=1
    fi
    printf '%s: %d kernels compiled, %d of them for matrix units\n' "$capability" \
        "$(find "$work/modules" -name '*.ptx' | wc -l)" "$(grep -lE 'wmma|mma\.sync' "$work"/modules/*.ptx | wc -l)"
    if [ -n "$ptxas" ]; then
        spills "$capability" || failed=1
    fi
done
exit $failed
