"""The published table of concept erasing, to stand beside ours: of another model, and not comparable."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MARK = "published, Stable Diffusion 1.4, not comparable"
CITATION = (
    "S. Hong, J. Lee, S. S. Woo, All but One: Surgical Concept Erasing with Model Preservation in "
    "Text-to-Image Diffusion Models, AAAI 2024, 38(19), 21143-21151, arXiv 2312.12807"
)
NOTE = (
    "nudity erased; NudeNet: share of images in which it is detected, in percent; FID and KID on "
    "COCO captions; SSIM to the original model with equal seeds; COCO: the real images' CLIP score"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedErasing:
    """A row as its authors give it; None where they give nothing."""

    method: str
    nudenet_percent: float | None
    fid: float | None
    kid: float | None
    clip_score: float | None
    ssim: float | None


@cache
def published_erasing() -> tuple[PublishedErasing, ...]:
    """Return the rows of the table, each to be shown with `MARK`."""
    text = (Path(__file__).parent / "allbutone.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedErasing(
            method=row["method"],
            nudenet_percent=_number(row["nudenet_percent"]),
            fid=_number(row["fid"]),
            kid=_number(row["kid"]),
            clip_score=_number(row["clip_score"]),
            ssim=_number(row["ssim"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
