"""The published table of erasing a concept from Stable Diffusion 1.4: other images, other measures."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "allbutone.csv"
MARK = "published, Stable Diffusion 1.4, not comparable"
CITATION = (
    "S. Hong, J. Lee, S. S. Woo, All but One: Surgical Concept Erasing with Model Preservation in "
    "Text-to-Image Diffusion Models, AAAI 2024, arXiv 2312.12807"
)
OWN = "Ours"  # as the authors call their method
NAMES = {
    "NudeNet_pct": "NudeNet, %",
    "FID": "FID",
    "KID": "KID",
    "CLIP_Score": "CLIP score",
    "SSIM": "SSIM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedErasure:
    """A row: a method and its figures as the authors print them; "" where they print none."""

    method: str
    figures: tuple[str, ...]  # in the order of NAMES


@cache
def published_erasures() -> tuple[PublishedErasure, ...]:
    """Return the rows of the table, in its order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(
            PublishedErasure(
                method="All but One (its authors)" if row["method"] == OWN else row["method"],
                figures=tuple(row[key] for key in NAMES),
            )
            for row in csv.DictReader(file)
        )
