# The hub as an image: one command, `curbstop`, for web, worker, ingest and the schema. The database and the broker are
# images of their own (docker-compose.yml).
FROM python:3.11-slim-bookworm AS packages
COPY requirements-image.lock /tmp/
RUN python -m venv /opt/curbstop \
 && /opt/curbstop/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements-image.lock

FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin curbstop
COPY --from=packages /opt/curbstop /opt/curbstop
WORKDIR /app
COPY LICENSE ./
COPY adapters ./adapters
COPY gis ./gis
COPY hub ./hub
COPY mobile_api ./mobile_api
ENV PATH=/opt/curbstop/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Compiled once here, because the containers run on a read-only file system.
RUN PYTHONDONTWRITEBYTECODE= python -m compileall -q hub adapters gis mobile_api \
 && printf '#!/bin/sh\nexec python -P -m hub.cli "$@"\n' > /usr/local/bin/curbstop && chmod 755 /usr/local/bin/curbstop
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["curbstop"]
CMD ["serve", "--host", "0.0.0.0"]
