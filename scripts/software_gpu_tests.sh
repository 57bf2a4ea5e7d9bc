#!/usr/bin/env bash
# Runs the tests that know devices (operations, self-check) with the feature `wgpu` on a software graphics adapter, so that the code
# for GPUs is tested where there is none. Slow; equal is the point.
# Needs Rust and Mesa's llvmpipe: apt-get install mesa-vulkan-drivers. It installs nothing, and writes to its own target folder.
set -euo pipefail
cd "$(dirname "$0")/.."

stop() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 2
}
command -v cargo >/dev/null || stop 'cargo is not installed' 'install Rust from https://rustup.rs'
driver=$(find /usr/share/vulkan/icd.d /etc/vulkan/icd.d -name 'lvp_icd*.json' 2>/dev/null | head -n 1 || true)
[ -n "$driver" ] || stop 'no software adapter found' 'on Debian and Ubuntu: apt-get install mesa-vulkan-drivers'

# Only that adapter, also where there is a real GPU.
export VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/software-gpu}
cargo test --features wgpu --lib -- --nocapture device::open jobs::self_check ops::gpu ops::roundoff ops::tests
cargo test --features wgpu --test it -- fidelity
