# One image for every process of the service. The command selects the process: `sensorium api`, `sensorium worker train`.
#
# TORCH_INDEX: the wheel index of torch, for a CPU build or for one CUDA version. By default pip uses its own index. Its
# wheel for x86-64 Linux is a CUDA build, which runs with and without a GPU and takes several gigabytes.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/sensorium
ENV PATH=/opt/sensorium/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1
WORKDIR /source
COPY requirements-image.txt ./
RUN pip install --quiet --require-hashes --requirement requirements-image.txt
COPY pyproject.toml ./
ARG TORCH_INDEX=
RUN pip install --quiet ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} "$(python -c 'import tomllib; \
  print(*[each for each in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] if each.startswith("torch")])')" \
  # headers and tests of torch, which the service does not use
  && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch" \
  && rm -rf include share/cmake test bin/*test* bin/protoc* lib/*.a
COPY README.md LICENSE ./
COPY models models
COPY service service
COPY worker worker
COPY migrations migrations
# The C++ kernels are compiled for several x86 processor generations, because the image may run on any of them.
RUN pip install --quiet --no-deps --no-build-isolation . \
  && cd / && python "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/models/ops/build.py" \
  && pip uninstall --quiet --yes hatchling editables pip \
  && python -m compileall -q -j 0 -x py312_intrinsics /opt/sensorium/lib

FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends tini && rm -rf /var/lib/apt/lists /var/cache/apt \
  && groupadd --gid 10001 sensorium \
  && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sensorium \
  && install --directory --mode 0700 --owner sensorium --group sensorium /var/lib/sensorium /secrets/sensorium \
  && install --directory --mode 0755 --owner sensorium --group sensorium /secrets/postgres /secrets/redis
COPY --from=build /opt/sensorium /opt/sensorium
ARG GIT_REVISION=
ENV PATH=/opt/sensorium/bin:$PATH \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONSAFEPATH=1 \
  PYTHONUNBUFFERED=1 \
  SENSORIUM_GIT_REVISION=${GIT_REVISION} \
  SENSORIUM_HOME=/var/lib/sensorium \
  SENSORIUM_HOST=0.0.0.0 \
  SENSORIUM_LOG_JSON=true \
  SENSORIUM_METRICS_HOST=0.0.0.0
LABEL org.opencontainers.image.title="Sensorium" \
  org.opencontainers.image.description="Trains and serves multimodal generative models that stay useful when modalities are missing." \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.revision=${GIT_REVISION}
USER 10001:10001
WORKDIR /var/lib/sensorium
VOLUME /var/lib/sensorium
EXPOSE 8000 9100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "service.http.health_check"]
ENTRYPOINT ["tini", "--"]
CMD ["sensorium", "api"]
