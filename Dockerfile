# airlam with the tested versions, on CPUs. It runs the two main commands:
#   docker build -t airlam .
#   docker run --rm --shm-size 2g airlam                  # make demo
#   docker run --rm --shm-size 2g airlam make test
FROM python:3.11-slim-bookworm

# make: the entry point. git: tests ask it for the tracked files, and skip where there is no repository.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

# Not as root: files that it writes into a mounted folder would belong to root.
RUN useradd --create-home --uid 1000 airlam && install -d -o airlam -g airlam /srv/airlam
USER airlam
WORKDIR /srv/airlam
ENV PIP_NO_CACHE_DIR=1 PATH=/srv/airlam/.venv/bin:$PATH
COPY --chown=airlam:airlam . .

ARG TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
RUN make install TORCH_ARGS="$TORCH_ARGS"

CMD ["make", "demo"]
