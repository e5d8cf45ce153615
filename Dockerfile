# docker build -t varfm .                              runs on the CPU
# docker build -t varfm:cuda --build-arg TORCH=cuda .  runs on NVIDIA GPUs too
#
# docker run --rm -v "$PWD:/data" -v varfm-cache:/cache varfm score in.vcf.gz -f ref.fa -o out.vcf.gz
# docker run --rm varfm bash -c 'varfm models list | head'

# Any Debian with Python 3.11 or newer as `python` and the module venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder

ARG TORCH=cpu
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN python -m venv /opt/varfm
ENV PATH=/opt/varfm/bin:$PATH

# First and alone: PyTorch's own index has the builds without CUDA, which are ten times smaller.
# TORCH_INDEX names a mirror of it where that index cannot be reached.
RUN case "$TORCH" in \
      cpu) pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch==${TORCH_VERSION}" ;; \
      cuda) pip install --no-cache-dir "torch==${TORCH_VERSION}" ;; \
      *) echo "TORCH is '$TORCH'. Use cpu or cuda." >&2; exit 1 ;; \
    esac

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY varfm ./varfm
# The package lies in this folder, so there is no version to pin; the lower bounds stand in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[all]'


FROM ${BASE}

ARG BASE
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="varfm" \
      org.opencontainers.image.description="Score the variants of a VCF with published DNA sequence models" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="$BASE"

# bash and ps are what Nextflow needs in a container. Their versions are those of the pinned Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash procps \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 varfm \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home --home-dir /home/varfm --shell /bin/bash varfm \
    && mkdir /cache /data \
    && chown varfm:varfm /cache /data \
    && chmod 1777 /cache /home/varfm

COPY --from=builder /opt/varfm /opt/varfm
COPY docker/entrypoint.sh /usr/local/bin/varfm-entrypoint

# USER stands in for the name that a user id given with `docker run --user` does not have.
ENV PATH=/opt/varfm/bin:$PATH \
    HOME=/home/varfm \
    USER=varfm \
    VARFM_CACHE=/cache \
    HF_HOME=/cache/huggingface \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 10001:10001
WORKDIR /data
VOLUME ["/cache"]
ENTRYPOINT ["/usr/local/bin/varfm-entrypoint"]
CMD ["--help"]
