# verl's public image with verl and this package in it: docker build -t verl-efficiency .
# Another base: --build-arg IMAGE=verlai/verl:TAG (the tags are on Docker Hub; the image brings torch, vLLM and flash-attn, not verl).
ARG IMAGE=verlai/verl:vllm017.latest
FROM ${IMAGE}
COPY . /opt/verl-efficiency
# The image's torch stays: a dependency that asks for another one is an error here, not a surprise in a run.
RUN python3 -m pip list --format=freeze | grep -iE '^(torch|vllm|transformers|numpy)==' > /tmp/image.txt \
    && python3 -m pip install --no-cache-dir --constraint /tmp/image.txt verl==0.9.1 "TransferQueue>=0.1.10" /opt/verl-efficiency \
    && verl-efficiency doctor --no-ray
