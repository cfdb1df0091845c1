"""JPEG files decoded on the card (nvJPEG through torchvision) and on one core of the CPU."""

import io
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.measurements.images import files
from benchmarks.gpu.measurements.networks import rate
from trueface.data.loading.decoding import decode

SIDES = (256, 512, 1024)
COUNT = 64  # files at a time
SECONDS = 1.0  # for each figure


def measure(bench: Bench) -> None:
    """Compare speeds and pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's decoders are deprecated since 0.29
        _measure(bench)


def _measure(bench: Bench) -> None:
    seconds = 0.05 if bench.rehearsal else SECONDS
    for side in SIDES if not bench.rehearsal else (64,):
        paths = files(bench.path, side, bench.size(COUNT, 4))
        encoded = [torch.from_numpy(np.fromfile(path, np.uint8)) for path in paths]
        bench.row(
            f"{side} px JPEG", rate(lambda e=encoded: on_card(e, bench.device), seconds),  # type: ignore[misc]
            "images/s", one_core=rate(lambda p=paths: on_core(p), seconds),  # type: ignore[misc]
            pillow_on_one_core=rate(lambda e=encoded: pillow(e), seconds),  # type: ignore[misc]
            cores=bench.cores,
        )  # fmt: skip
        there = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=bench.device)
        far = max(_difference(a, decode(path)) for a, path in zip(there, paths, strict=True))
        bench.row(
            f"{side} px JPEG: largest difference of a pixel", far, "of 255",
            note="exact" if far == 0 else "not exact: the product decodes on the CPU",
        )  # fmt: skip


def on_card(encoded: list[Tensor], device: str) -> int:
    """Decode on the device."""
    decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
    return len(encoded)


def on_core(paths: list[Path]) -> int:
    """Decode as the laboratory does, and copy nothing."""
    for path in paths:
        decode(path)
    return len(paths)


def pillow(encoded: list[Tensor]) -> int:
    """Decode as the original did."""
    for content in encoded:
        with PIL.Image.open(io.BytesIO(content.numpy().tobytes())) as file:
            file.convert("RGB")
    return len(encoded)


def _difference(there: Tensor, here: Tensor) -> int:
    return int((there.cpu().int() - here.int()).abs().max())
