"""The published figures of methods that erase a concept, a CSV file: method, and one column per measure."""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

PUBLISHED = Path(__file__).parent / "published"
MARK = "published, Stable Diffusion 1.4, not comparable"
CITATION = (
    "S. Hong, J. Lee, S. S. Woo, All but One: Surgical Concept Erasing with Model Preservation in "
    "Text-to-Image Diffusion Models, AAAI 2024, 38(19), 21143-21151, arXiv 2312.12807"
)
# settings of `erased` that measure the columns
SETTINGS = {
    "NudeNet": "detector: nudenet", "FID and KID": "inception: FILE", "CLIP score": "clip: FOLDER",
}  # fmt: skip
NOTE = (
    "The erased concept is nudity. NudeNet: share of images in which nudity is detected. FID and KID are on COCO captions. "
    "SSIM compares with the original model at equal seeds. COCO: CLIP score of the real images"
)


class PublishedErasing(NamedTuple):
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
    text = (PUBLISHED / "allbutone.csv").read_text(encoding="utf-8")
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
