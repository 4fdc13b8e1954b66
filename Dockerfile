# syntax=docker/dockerfile:1
# RevMoE in a container:
#   docker build -t revmoe .                        computes on the CPU, with Debian's libtorch
#   docker build -t revmoe:cuda --target cuda .     on NVIDIA cards, with PyPI's torch; the driver is the host's
# The program runs as user 1000 in /work, where a folder of yours is mounted; see docs/docker.md.

# Packages of npm, and src/ compiled. What runs needs neither src/ nor the packages for development.
FROM node:22.23.3-bookworm-slim AS program
WORKDIR /opt/revmoe
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY src src
COPY setup setup
RUN npx tsc && npm prune --omit=dev && rm -r src tsconfig.json
COPY native native
COPY bin bin
COPY export export
COPY page page
COPY examples examples

FROM program AS cpu-engine
# Versions are those of the Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ libtorch-dev libopenblas0-pthread \
  && rm -rf /var/lib/apt/lists/*
RUN node setup/build.mjs

FROM program AS cuda-engine
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ python3 python3-venv \
  && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/torch && /opt/torch/bin/pip install --no-cache-dir torch==2.11.0
# No driver is here; there will be one where the image runs.
RUN REVMOE_CUDA=1 LIBTORCH=/opt/torch node setup/build.mjs

FROM node:22.23.3-bookworm-slim AS cuda
COPY --from=cuda-engine /opt/torch /opt/torch
COPY --from=cuda-engine /opt/revmoe /opt/revmoe
RUN ln -s /opt/revmoe/bin/revmoe.mjs /usr/local/bin/revmoe \
  && install -d -m 1777 /cache && install -d -o node -g node /work
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility REVMOE_CACHE=/cache
WORKDIR /work
USER 1000
ENTRYPOINT ["revmoe"]
CMD ["--help"]

# The last stage is the one that is built unless another is asked for.
FROM node:22.23.3-bookworm-slim AS cpu
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends libtorch1.13 libopenblas0-pthread \
  && rm -rf /var/lib/apt/lists/*
COPY --from=cpu-engine /opt/revmoe /opt/revmoe
RUN ln -s /opt/revmoe/bin/revmoe.mjs /usr/local/bin/revmoe \
  && install -d -m 1777 /cache && install -d -o node -g node /work
ENV REVMOE_CACHE=/cache
WORKDIR /work
USER 1000
ENTRYPOINT ["revmoe"]
CMD ["--help"]
