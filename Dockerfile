# A small image that serves a model on a CPU (docs/serving.md):
#
#   docker build -t mpfgvc --build-arg TORCH_INDEX=ADDRESS .
#   docker run -p 8000:8000 -e MPFGVC_TOKEN -v $PWD/runs/mushrooms:/model:ro mpfgvc
#
# ADDRESS is the package index of PyTorch's CPU builds, as pytorch.org/get-started names it. Without it the image has
# the libraries for GPUs, too, and is 3 GB larger. The packages are installed in a first stage, so neither pip nor the
# sources add to the image.
FROM python:3.12-slim AS build
ARG TORCH_INDEX=
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
RUN python -m venv /venv \
    && grep -E '^(torch|torchvision)==' constraints.txt > torch.txt \
    && /venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
    && /venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve]'

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 mpfgvc
COPY --from=build /venv /venv
USER mpfgvc
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mpfgvc", "serve", "/model", "--host", "0.0.0.0"]
