"""The arithmetic of networks: float32, or half precision with float32 weights."""

from contextlib import AbstractContextManager

import torch

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """Return the context in which a network computes in `precision`: fp32, bf16 or fp16."""
    half = HALVES.get(precision)
    kind = device.partition(":")[0]
    return torch.autocast(kind, dtype=half or torch.bfloat16, enabled=half is not None)
