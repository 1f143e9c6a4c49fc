# The app on a CPU. Build: docker build -t resnet_hub .
# Run, with nothing writable but /tmp: docker run --read-only --tmpfs /tmp -p 7860:7860 resnet_hub [app.py's flags]
FROM python:3.12-slim

WORKDIR /app
COPY requirements.txt ./
# One command for both, so that pip chooses a torchvision that fits.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements.txt
COPY app.py LICENSE ./
COPY resnet_hub ./resnet_hub
COPY training/results ./training/results

# State: downloads from the Hub and uploads, all below /tmp. Mount a volume at /tmp/hub to keep the downloads.
ENV HOME=/tmp HF_HOME=/tmp/hub GRADIO_TEMP_DIR=/tmp/uploads MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
# A new volume takes this folder's owner.
RUN install -d -o 10001 -g 10001 /tmp/hub
USER 10001:10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:7860/healthz', timeout=5)"]
ENTRYPOINT ["python", "app.py"]
