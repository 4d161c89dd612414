# A small image that serves an exported model on a CPU, without torch (docs/serving.md):
#
#   mpfgvc export runs/mushrooms -o mushrooms.onnx
#   docker build -t mpfgvc-runtime .
#   docker run -p 8000:8000 -e MPFGVC_TOKEN -v $PWD/mushrooms.onnx:/model.onnx:ro mpfgvc-runtime
#
# The packages are installed in a first stage, so neither pip nor the sources add to the image.
FROM python:3.12-slim AS build
WORKDIR /source
COPY runtime ./runtime
COPY src ./src
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir './runtime[serve]'

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 mpfgvc
COPY --from=build /venv /venv
USER mpfgvc
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mpfgvc-runtime", "serve", "/model.onnx", "--host", "0.0.0.0"]
