# gemma-tune for GPUs of NVIDIA's:  docker build -t gemma-tune:cuda -f deploy/cuda.Dockerfile .
# Kernels are compiled by the image's NVRTC when they are first used, and kept in /cache. The toolkit must not be newer than the host's
# driver: `--build-arg CUDA=12.6.3` for older ones.
ARG CUDA=13.0.1
FROM rust:1.95-slim-bookworm AS build
ARG CUDA
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The bindings take the toolkit's version as MMmm0, and load its libraries when they run: the build needs no toolkit.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN --mount=type=cache,target=/build/target --mount=type=cache,target=/usr/local/cargo/registry \
    CUDARC_CUDA_VERSION="$(printf '%d%02d0' "${CUDA%%.*}" "$(cut -d. -f2 <<< "$CUDA")")" \
    cargo build --release --locked --features cuda-nvrtc,kernel-cache && cp target/release/gemma-tune /gemma-tune

# The toolkit's headers are part of what NVRTC compiles, hence `devel`.
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home gemma && install -d -m 1777 /models /workspace /cache
COPY --from=build /gemma-tune /usr/local/bin/gemma-tune
COPY LICENSE /usr/local/share/gemma-tune/LICENSE
USER 10001
ENV HF_HOME=/models XDG_CACHE_HOME=/cache CUDA_PATH=/usr/local/cuda
VOLUME ["/models", "/workspace", "/cache"]
WORKDIR /workspace
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["gemma-tune"]
CMD ["--help"]
