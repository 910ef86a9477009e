# The program in a container: `docker compose up` (docker-compose.yml), or by itself:
#
#   docker build -t video-analysis .
#   docker run --rm --init -p 127.0.0.1:8000:8000 -v video-data:/data -e VIDEO_ANALYSIS_AUTH=off video-analysis

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/video-analysis
WORKDIR /build
COPY requirements.lock ./
RUN /opt/video-analysis/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: \
      -r requirements.lock
COPY pyproject.toml README.md ./
COPY eventsourcing eventsourcing
COPY monolith monolith
RUN /opt/video-analysis/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
# Copied volumes keep these owners: whoever runs the image as another user makes the folders his own.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin video-analysis \
    && mkdir /data /shared \
    && chown video-analysis:video-analysis /data /shared \
    && chmod 0700 /data /shared
COPY --from=build /opt/video-analysis /opt/video-analysis
ENV PATH=/opt/video-analysis/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    VIDEO_ANALYSIS_DATA_DIR=/data \
    VIDEO_ANALYSIS_HOST=0.0.0.0 \
    VIDEO_ANALYSIS_LOG_FORMAT=json
WORKDIR /data
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8000 1935
# Reading its events may take long after an update: until then nobody is told that it is unhealthy.
HEALTHCHECK --interval=15s --timeout=10s --start-period=15m --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready', timeout=8)"]
ENTRYPOINT ["video-analysis"]
CMD ["serve"]
