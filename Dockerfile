# `search serve` in a container; see docs/serve.md.
#
#     docker build -t icre .                            # for a CPU
#     docker build -t icre --build-arg FAISS=gpu .      # for a GPU (run with --gpus all)
#
# torch from the package index has CUDA inside and runs on CPUs too. Where an index with builds for
# CPUs alone is at hand, `--build-arg PIP_EXTRA_INDEX_URL=...` makes the image smaller.
FROM python:3.11-slim

# cpu or gpu: the extra of setup.py, and with it faiss-cpu or faiss-gpu
ARG FAISS=cpu
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /opt/icre
COPY requirements.txt setup.py pyproject.toml README.md LICENSE ./
COPY configs configs
COPY projects/ICRE/icre projects/ICRE/icre
COPY projects/SynthVI/synthvi projects/SynthVI/synthvi
# requirements.txt only says which versions; fastreid's own pins exist for no supported Python
RUN pip install --no-deps fastreid==1.4.0 \
    && pip install --constraint requirements.txt ".[serve,$FAISS]" \
    && useradd --create-home --uid 10001 icre \
    && mkdir /gallery /model /uploads \
    && chown icre /gallery /uploads

USER icre
WORKDIR /home/icre
EXPOSE 8000
VOLUME ["/gallery", "/uploads"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Tokens come from the environment (ICRE_TOKENS) or a mounted file (--tokens): without any, an
# address that others reach is refused. Options after the image's name replace those of CMD.
ENTRYPOINT ["icre", "search", "serve", "/gallery"]
CMD ["--host", "0.0.0.0", "--weights", "/model/model.pth"]
