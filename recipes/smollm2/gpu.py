"""Tokens of a micro-batch for ``recipes/smollm2.sh`` on a GPU, by its free memory: ``python recipes/smollm2/gpu.py JOBS``."""

import sys

STEP = 4096  # tokens
BYTES_PER_STEP = 7e9  # of a micro-batch; the vocabulary is large
BYTES_OF_AN_ARM = 5e9  # all else: weights, optimizer, rollout
MOST = 4 * STEP  # a step of 32 × 8 rollouts has about 30,000 tokens


def tokens_per_gpu(free_bytes: float, jobs: int) -> int:
    """The most tokens, up to :data:`MOST`, that fit while ``jobs`` arms share ``free_bytes``. With more, the CPU holds up less.

    Raises:
        ValueError: an arm does not fit with :data:`STEP` tokens.

    >>> [tokens_per_gpu(gigabytes * 1e9, jobs) for gigabytes, jobs in ((24, 1), (48, 4), (80, 4), (140, 4))]
    [8192, 4096, 8192, 16384]
    """
    steps = int((free_bytes / jobs - BYTES_OF_AN_ARM) // BYTES_PER_STEP)
    if steps < 1:
        least = BYTES_OF_AN_ARM + BYTES_PER_STEP
        fit = int(free_bytes // least)
        advice = f"take JOBS={fit}" if fit else "take a GPU with more free memory"
        raise ValueError(
            f"JOBS={jobs}: an arm needs about {least / 1e9:.0f} GB, and {free_bytes / 1e9:.0f} GB are free; {advice}"
        )
    return min(MOST, steps * STEP)


def main() -> None:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("GPUS: PyTorch sees no GPU; GPUS=0 trains on the CPU")
    try:
        print(tokens_per_gpu(torch.cuda.mem_get_info()[0], int(sys.argv[1])))
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
