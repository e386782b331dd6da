# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target edge .     API, scheduler, migrations, Flower: no torch
#   docker build --target worker .   the same and torch, for workers
#
# Build arguments of the worker image:
#   DEVICE=cpu|gpu       gpu takes torch as the default package index has it (with CUDA on Linux)
#   TORCH_CPU_INDEX=URL  with DEVICE=cpu, where torch's CPU-only wheels are: a far smaller image
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt pyproject.toml setup.cfg README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations
RUN pip install -c constraints.txt '.[flower,s3,tracing]'

FROM build AS build-worker
ARG DEVICE=cpu
ARG TORCH_CPU_INDEX=
RUN if [ "$DEVICE" = cpu ] && [ -n "$TORCH_CPU_INDEX" ]; \
    then pip install -c constraints.txt --index-url "$TORCH_CPU_INDEX" torch; \
    else pip install -c constraints.txt torch; fi
RUN pip install -c constraints.txt '.[torch,examples,flower,s3,tracing]'

FROM python:${PYTHON_VERSION}-slim AS runtime
RUN useradd --system --uid 10001 --create-home headrace \
    && install -d -o headrace -g headrace -m 700 /var/lib/headrace/storage
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
USER headrace
EXPOSE 8000

FROM runtime AS edge
COPY --from=build /venv /venv
CMD ["gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:application"]

FROM runtime AS worker
COPY --from=build-worker /venv /venv
CMD ["celery", "-A", "workers.celery_app", "worker", "-Q", "cpu.interactive", "-E"]
