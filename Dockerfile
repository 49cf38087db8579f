# Two images: `spark` (master, workers) and `airflow` (which also runs Spark's driver, so it holds both environments).
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Versions follow the pinned base image's Debian release, which keeps only the newest of each package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 50000 --user-group tuning
ENV PYTHONUNBUFFERED=1

FROM base AS tools
WORKDIR /build
COPY requirements/uv.txt requirements/build.txt ./
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement uv.txt
ENV UV_NO_CONFIG=1 UV_NO_CACHE=1 UV_LINK_MODE=copy

FROM tools AS spark-environment
ARG SPARK_LOCK=spark.txt
COPY requirements/${SPARK_LOCK} spark-lock.txt
RUN /opt/uv/bin/uv venv --relocatable --python "$(command -v python3)" /opt/spark-env \
    && /opt/uv/bin/uv pip install --python /opt/spark-env --no-deps --require-hashes --only-binary :all: \
       --no-binary pyspark --compile-bytecode --build-constraints build.txt --requirement spark-lock.txt

FROM tools AS airflow-environment
# Airflow's own metadata lives in MySQL here, and for that it accepts mysqlclient only, which has no wheel.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libmariadb-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/airflow.txt requirements/mysqlclient.txt ./
RUN /opt/uv/bin/uv venv --relocatable --python "$(command -v python3)" /opt/airflow-env \
    && /opt/uv/bin/uv pip install --python /opt/airflow-env --no-deps --require-hashes --only-binary :all: \
       --compile-bytecode --requirement airflow.txt \
    && /opt/uv/bin/uv pip install --python /opt/airflow-env --no-deps --require-hashes --no-binary mysqlclient \
       --build-constraints build.txt --requirement mysqlclient.txt

FROM base AS spark
COPY --from=spark-environment /opt/spark-env /opt/spark-env
COPY init/spark /opt/tuning/init/spark
RUN ln -s /opt/spark-env/lib/python3.*/site-packages/pyspark /opt/spark \
    && install --directory --owner tuning --group tuning /opt/tuning/state
# container.sh writes the configuration folder, which holds the cluster's secret.
ENV SPARK_HOME=/opt/spark SPARK_CONF_DIR=/home/tuning/spark-conf TUNING_SPARK_ENV=/opt/spark-env \
    PYSPARK_PYTHON=/opt/spark-env/bin/python TUNING_STATE=/opt/tuning/state
USER 50000
WORKDIR /opt/tuning/state
ENTRYPOINT ["tini", "--", "/opt/tuning/init/spark/container.sh"]

FROM spark AS airflow
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner tuning --group tuning /opt/tuning/airflow \
       /opt/tuning/airflow/logs /opt/tuning/exports
COPY --from=airflow-environment /opt/airflow-env /opt/airflow-env
COPY init/airflow /opt/tuning/init/airflow
# What target databricks sends to a cluster.
COPY init/databricks /opt/tuning/init/databricks
COPY requirements/databricks* /opt/tuning/requirements/
ENV AIRFLOW_HOME=/opt/tuning/airflow PATH=/opt/tuning/init/spark/bin:/opt/airflow-env/bin:$PATH \
    PYTHONPATH=/opt/tuning/jobs TUNING_EXPORTS=/opt/tuning/exports
USER 50000
WORKDIR /opt/tuning
ENTRYPOINT ["tini", "--", "/opt/tuning/init/airflow/container.sh"]
CMD ["version"]
