# syntax=docker/dockerfile:1.10
# An image for each kind of process, from one file:
#   docker build --target api .        gunicorn
#   docker build --target sender .     calls receivers of webhooks, and nothing else
#   docker build --target scheduler .  scheduler, clerk, scaler, Flower, migrations, headracectl
#   docker build --target worker .     runs models
# Each holds what its lock in requirements/ names, by hash, and our own wheel.
#
# Build arguments of the worker image:
#   DEVICE=cpu|gpu       gpu takes torch as the default package index has it (with CUDA on Linux); the machine brings
#                        the driver
#   TORCH_CPU_INDEX=URL  with DEVICE=cpu, where torch's CPU-only wheels are: a far smaller image. Without it, DEVICE=cpu
#                        takes torch from the default index as well
ARG PYTHON_VERSION=3.11.14

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH

FROM build AS wheel
COPY requirements/build.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM build AS build-api
COPY requirements/api.txt requirements/
RUN pip install --require-hashes -r requirements/api.txt
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-deps --no-index /wheels/*.whl

FROM build AS build-sender
COPY requirements/sender.txt requirements/
RUN pip install --require-hashes -r requirements/sender.txt
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-deps --no-index /wheels/*.whl

FROM build AS build-scheduler
COPY requirements/scheduler.txt requirements/
RUN pip install --require-hashes -r requirements/scheduler.txt
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-deps --no-index /wheels/*.whl

FROM build AS build-worker
ARG DEVICE=cpu
ARG TORCH_CPU_INDEX=
COPY requirements/worker.txt requirements/worker-cuda.txt requirements/
RUN if [ "$DEVICE" = cpu ] && [ -n "$TORCH_CPU_INDEX" ]; \
    then pip install --require-hashes -r requirements/worker.txt --extra-index-url "$TORCH_CPU_INDEX"; \
    else pip install --require-hashes -r requirements/worker-cuda.txt; fi
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-deps --no-index /wheels/*.whl

FROM python:${PYTHON_VERSION}-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --create-home headrace \
    && install -d -o headrace -g headrace -m 700 /var/lib/headrace/storage
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
# By number, so that Kubernetes can see that it is not root.
USER 10001

FROM runtime AS api
COPY --from=build-api /venv /venv
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-m", "app.probe", "/livez"]
CMD ["gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:application"]

FROM runtime AS sender
COPY --from=build-sender /venv /venv
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s \
    CMD ["sh", "-c", "celery -A workers.webhooks.celery_app inspect ping --timeout 5 -d sender@$(hostname)"]
CMD ["celery", "-A", "workers.webhooks.celery_app", "worker", "-n", "sender@%h", "-Q", "webhooks", "-c", "1", "-E", "--without-mingle", "--without-gossip"]

# These two run under names that differ; compose.yaml says how the health of each is checked.
FROM runtime AS scheduler
COPY --from=build-scheduler /venv /venv
CMD ["python", "-m", "workers.maintenance"]

FROM runtime AS worker
COPY --from=build-worker /venv /venv
CMD ["celery", "-A", "workers.celery_app", "worker", "-n", "worker@%h", "-Q", "cpu.interactive", "-E", "--without-mingle", "--without-gossip"]
