"""Folders and rows as the jobs `restored` and `erased` leave them, of made-up purifiers and methods."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import PIL.Image

from launcher.api import Json, write_json
from trueface.evaluation.over_seeds import MethodRow, summarize_seeds
from trueface.generators.erasing.study import CURVES, ErasedMethod, erased_methods
from trueface.generators.purification.study import RestoredFolder, restored_folders
from trueface.generators.report.erasing_page import Erasing

Record = Mapping[str, Json]

SIDE = 16
CONCEPTS = ("cross", "disc", "square")
PURIFIERS: tuple[tuple[str, float, float | None, float | None, float], ...] = (
    # label, mse, mse_adaptive, price on clean images, PSNR
    ("none", 0.117, 0.19, 0.0, 33.8),
    ("jpeg@75", 0.0069, 0.061, 0.0072, 33.1),
    ("ddpm@10", 0.0321, 0.0581, 0.0022, 33.2),
    ("oneshot@20", 0.009, 0.03, 0.0021, 33.5),
    ("blur@1.5", 0.0273, None, 0.012, 29.0),
)
METHODS: tuple[tuple[str, float, float, float, float | None], ...] = (
    # method, erased, anchor, others, recovery
    ("teacher", 1.0, 0.0, 1.0, 1.0),
    ("abo", 0.0, 1.0, 0.97, 0.97),
    ("esd-u", 0.62, 0.28, 1.0, 1.0),
    ("uce", 0.0, 1.0, 0.6, 0.33),
    ("retrain", 0.08, 0.92, 1.0, None),
)


def purifier_rows() -> list[dict[str, Json]]:
    """Return the rows of `restored`."""
    return [
        {
            "method": name,
            "mse": mse,
            "mse_sd": 0.002,
            "mse_adaptive": adaptive,
            "price_clean": price,
            "psnr": psnr,
            "ssim": 0.93,
            "share": min(mse * 8, 1),
            "net_calls": 10 if name.startswith("ddpm") else 0,
            "seconds": 0.0123,
            "mse_pgd_grey": mse,
            "mse_pgd_away": 2 * mse,
            "mse_adaptive_pgd_grey": adaptive,
            "frechet": 12.3,
            "features": "slim18",
            "verdict": "broken by the adaptive attack" if adaptive and adaptive > 0.05 else "",
            "seeds": 3,
        }
        for name, mse, adaptive, price, psnr in PURIFIERS
    ]


def attack_rows() -> list[dict[str, Json]]:
    """Return the attacks, the random control first."""
    rows = (
        ("random", "", 0.005),
        ("fgsm", "grey", 0.05),
        ("pgd", "grey", 0.117),
        ("pgd", "away", 0.3),
    )
    return [
        {
            "attack": name,
            "target": target,
            "over": "own",
            "eps": 0.05,
            "linf": 0.0510,
            "rms": 0.041,
            "mse": mse,
            "share": min(mse * 8, 1),
            "ratio": mse / 0.005,
            "seeds": 3,
        }
        for name, target, mse in rows
    ]


def restored_run(run: Path) -> list[RestoredFolder]:
    """Write folders of `restored` with their tiles."""
    for name, mse, _, _, psnr in PURIFIERS:
        for target in ("grey", "away"):
            folder = run / "made" / f"restored@target={target},purifier={name.replace('@', '')}"
            measures: dict[str, Json] = {
                "purifier": name,
                "attack": "pgd",
                "target": target,
                "over": "own",
                "adaptive": False,
                "through": "",
                "eps": 0.05,
                "seed": 1,
                "attack_seed": 1,
                "translator": "labelled:A",
                "images": 64,
                "net_calls": 0.0,
                "seconds": 0.001,
                "summary": {"mse": mse, "share": 0.5, "psnr": psnr, "ssim": 0.9},
                "unpurified": {"mse": 0.117},
                "delta": {"linf": 0.047, "rms": 0.04},
                "features": {"network": "random"},
            }
            _write(folder, "restored", measures)
            _picture(folder / "grid.png", rows=4, columns=7)
    return restored_folders(sorted((run / "made").glob("restored@*")))


def method_rows() -> list[dict[str, Json]]:
    """Return the rows of `erased`."""
    return [
        {
            "method": name,
            "erased": erased,
            "anchor": anchor,
            "others": others,
            "others_sd": 0.02,
            "ssim": 0.92,
            "feature_distance": 10.4,
            "frechet": 136.2,
            "frechet_floor": 0.19,
            "null_drift": 0.0013,
            "recovery": recovery,
            "recovery_floor": 0.35,
            "recovery_ceiling": 1.0,
            "verdict": "hidden, not erased" if name == "abo" else "",
            "seconds": 3.04,
            "seeds": 3,
        }
        for name, erased, anchor, others, recovery in METHODS
    ]


def erased_run(run: Path) -> list[ErasedMethod]:
    """Write folders of `erased` with samples and curves, of two seeds."""
    for name, erased, anchor, others, recovery in METHODS:
        for seed in (1, 2):
            folder = run / "made" / f"erased@method={name},seed={seed}"
            measures: dict[str, Json] = {
                "schema": 1,
                "method": name,
                "concept": "cross",
                "anchor": "disc",
                "seed": seed,
                "measures": {"erased": erased, "anchor": anchor, "others": others},
                "class_names": [*CONCEPTS],
                "recovery": _curve(recovery or 0.3),
                "recovery_floor": _curve(0.3),
                "recovery_ceiling": _curve(1.0),
            }
            _write(folder, "erased", measures)
            _picture(folder / "samples.png", rows=len(CONCEPTS), columns=4)
    methods = {each.row.name: each for each in erased_methods((run / "made").glob("erased@*"))}
    return [methods[name] for name, *_ in METHODS]


def rows(records: Sequence[Record]) -> list[MethodRow]:
    """Return records as rows of a study."""
    return [
        MethodRow(
            str(record.get("method", record.get("attack"))),
            record,
            {
                key: summarize_seeds([value])
                for key, value in record.items()
                if isinstance(value, float)
            },
        )
        for record in records
    ]


def erasing(records: Sequence[Record], measured: Sequence[ErasedMethod] = ()) -> Erasing:
    """Return a study of methods with these records; curves and samples are those that were measured."""
    bare = ErasedMethod(MethodRow("", {}), "", "disc", dict.fromkeys(CURVES, ()), {})
    of = zip_longest(rows(records), measured, fillvalue=bare)
    return Erasing(
        "study",
        [
            method._replace(row=row, concept=row.text("concept"))
            for row, method in of
            if isinstance(row, MethodRow) and isinstance(method, ErasedMethod)
        ],
    )


def _curve(most: float) -> list[Json]:
    return [
        {
            "images": images,
            "steps": steps,
            "rate": most * (1 - 0.6 / images) * (1 - 5 / (steps + 5)),
        }
        for images in (1, 5, 25)
        for steps in (10, 50, 250)
    ]


def _write(folder: Path, kind: str, measures: dict[str, Json]) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "made.json", {"kind": kind, "settings": {}})
    write_json(folder / "metrics.json", measures)


def _picture(path: Path, *, rows: int, columns: int) -> None:
    """Write tiles whose red is their row and whose green is their column."""
    levels: Sequence[Sequence[tuple[int, int, int]]] = [
        [(40 * row + 10, 30 * column + 10, 90) for column in range(columns)] for row in range(rows)
    ]
    pixels = np.asarray(levels, dtype=np.uint8).repeat(SIDE, 0).repeat(SIDE, 1)
    PIL.Image.fromarray(pixels).save(path)
