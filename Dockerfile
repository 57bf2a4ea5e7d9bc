# gemma-tune for the CPU:  docker build -t gemma-tune .
# A GPU of NVIDIA's:        docker build -t gemma-tune:cuda -f deploy/cuda.Dockerfile .
FROM rust:1.95-slim-bookworm AS build
# C and C++ for mimalloc, zstd and what else is bundled. Versions follow the image, which is of one day.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The folder of builds stays in the builder's cache, so a second build compiles what has changed.
RUN --mount=type=cache,target=/build/target --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --locked --features postgres && cp target/release/gemma-tune /gemma-tune

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home gemma && install -d -m 1777 /models /workspace
COPY --from=build /gemma-tune /usr/local/bin/gemma-tune
COPY LICENSE /usr/local/share/gemma-tune/LICENSE
# By number, so that Kubernetes sees that it is not root.
USER 10001
# Models of the Hub are kept in /models; recipes, data and runs are mounted at /workspace.
ENV HF_HOME=/models
VOLUME ["/models", "/workspace"]
WORKDIR /workspace
EXPOSE 8080
# SIGTERM finishes answers, and saves what is trained.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gemma-tune"]
CMD ["--help"]
