"""Small made-up faces with groups, and tables of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from trueface.data.forging.blending import Pixels
from trueface.data.forging.faces import Face
from trueface.data.forging.settings import ForgeSettings

SIDE = 48
HEADER = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label,split"
# by the number of the intersection: the flags of a row
FLAGS = [
    (male, *(1 if place == race else -1 for place in range(3)))
    for male in (1, -1)
    for race in range(4)
]


def a_face(number: int, side: int = SIDE) -> Pixels:
    """Return smooth colours, (side, side, 3)."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(small).resize((side, side), PIL.Image.Resampling.BICUBIC))


def row(number: int, group: int, split: str) -> str:
    """Return a row of a table."""
    flags = ",".join(map(str, FLAGS[group]))
    return f"images/{number:03d}.png,0,{flags},{group},{split}"


def a_table(folder: Path, groups: Sequence[int], counts: dict[str, int]) -> Path:
    """Write a table and its images: so many faces of each list in each group."""
    rows: list[tuple[int, int, str]] = []
    for group in groups:
        for split, count in counts.items():
            rows += [(len(rows) + number, group, split) for number in range(count)]
    return written(folder, [row(*each) for each in rows])


def written(folder: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    """Write a table, and the images of its rows that are not there."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = list(rows)
    for line in lines:
        path = folder / line.partition(",")[0]
        if path.suffix == ".png" and not path.exists():
            PIL.Image.fromarray(a_face(int(path.stem))).save(path)
    table = folder / "faces.csv"
    table.write_text("\n".join([header, *lines]) + "\n")
    return table


def settings(**more: Any) -> ForgeSettings:
    """Return the settings of a set."""
    return ForgeSettings.model_validate({"data_root": "made", "faces": "faces.csv", **more})


def people(**counts: int) -> dict[str, list[Face]]:
    """Return faces of the training list by group: `people(male_asian=4)`."""
    groups: dict[str, list[Face]] = {}
    for name, count in counts.items():
        gender, race = name.split("_")
        group = f"{gender}-{race}"
        groups[group] = [
            Face(
                file=Path(f"{group}-{number}.png"),
                path=f"{group}-{number}",
                split="train",
                columns={"gender": gender, "race": race, "intersec": group},
                named_in="faces.csv:1",
            )
            for number in range(count)
        ]
    return groups
