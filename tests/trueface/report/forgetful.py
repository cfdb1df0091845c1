"""A run with unlearned models as jobs leave it: records, answers and planes by the real writers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.api import write_json
from tests.trueface.unlearning.unlearned_runs import make_record as record_of
from trueface.predictions.npz_tables import write_npz
from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.runtime import paths
from trueface.unlearning import record
from trueface.unlearning.record import NoiseSearchResult, Probe, Relearn

FLIPS_BASE = "gan2:pre&realFFHQ:pre%20"
CLASS_BASE = "faces#small"
SIZES = {"forget": 120, "retain": 480, "validation": 200, "test": 400}
TRAINING_SECONDS = 410.0

# test accuracy, share of answers as trained on the forgotten, seconds, samples read
FLIPS: dict[str, tuple[float, float, float, int]] = {
    "corrected": (0.945, 0.05, 402.0, 9600),
    "retrain": (0.940, 0.07, 330.0, 7680),
    "finetune": (0.921, 0.10, 66.0, 1536),
    "relabel": (0.928, 0.07, 82.0, 1920),
    "restart": (0.890, 0.11, 80.0, 1920),
    "exact": (0.934, 0.08, 2.1, 600),
    "ng": (0.500, 0.00, 3.4, 240),
    "rl": (0.902, 0.22, 6.0, 240),
    "fisher": (0.880, 0.30, 45.0, 1200),
    "iwu": (0.893, 0.18, 52.0, 480),
    "pgu": (0.897, 0.60, 9.0, 480),
    "scrub": (0.925, 0.10, 74.0, 1800),
    "ssd": (0.610, 0.41, 21.0, 600),
    "potion": (0.905, 0.25, 24.0, 600),
    "salun": (0.926, 0.09, 78.0, 1800),
    "npo": (0.899, 0.12, 7.0, 240),
}
BEFORE = (0.885, 0.72)
ANEW = frozenset({"corrected", "retrain", "restart"})


class Forgetful:
    """Writes a run in which models were unlearned."""

    def __init__(self, root: Path, name: str = "night") -> None:
        self.run = root / "runs" / name

    def flips(self, methods: Sequence[str], seeds: Sequence[int] = (0,), **changes: Any) -> None:
        """Write models that were to forget flipped labels."""
        for method in methods:
            test, forget, seconds, samples = FLIPS[method]
            for seed in seeds:
                self.flip(method, seed, test, forget, seconds, samples, **changes)

    def flip(
        self,
        method: str,
        seed: int,
        test: float,
        forget: float,
        seconds: float,
        samples: int,
        **changes: Any,
    ) -> Path:
        """Write one of them, with the given accuracies on the test and on the forget set."""
        rng = np.random.default_rng([seed, *method.encode()])
        name = f"{changes.get('base', FLIPS_BASE)}~{method}@seed={seed}"
        shift = 0.004 * rng.normal()
        one_sided = method in {"ng", "ssd"}
        parts = two_classes(rng, test + shift, forget, one_sided)
        base = two_classes(np.random.default_rng(9), *BEFORE, False)
        return self.write(
            name,
            base,
            parts,
            told=method,
            changes={
                "method": method,
                "seed": seed,
                "seconds": seconds * float(rng.uniform(0.95, 1.05)),
                "samples_read": samples,
                **changes,
            },
        )

    def one_class(
        self, method: str, seed: int, kept: float, forgotten: float, seconds: float
    ) -> Path:
        """Write a model of five classes that was to forget one."""
        rng = np.random.default_rng([seed, *method.encode()])
        parts = five_classes(rng, kept + 0.004 * float(rng.normal()), forgotten)
        base = five_classes(np.random.default_rng(9), 0.93, 0.94)
        changes = {
            "method": method,
            "seed": seed,
            "seconds": seconds * float(rng.uniform(0.95, 1.05)),
            "samples_read": 400,
            "base": CLASS_BASE,
            "goal": "class",
            "classes": 5,
            "class_names": ("ann", "bob", "eve", "jim", "zoe"),
            "forgotten": (2,),
            "rate": None,
            "found": None,
            "relearn": Relearn(steps=12 + seed, most=200, loss=0.2),
            "probe": Probe(before=0.98, after=0.91, chance=0.8),
        }
        name = f"{CLASS_BASE}~{method}@seed={seed}"
        return self.write(name, base, parts, told=method, changes=changes, classes=5, gone=2)

    def write(
        self,
        name: str,
        before: dict[str, Predictions],
        after: dict[str, Predictions],
        *,
        told: str,
        changes: dict[str, Any],
        classes: int = 2,
        gone: int | None = None,
    ) -> Path:
        """Write all files of a model."""
        folder = self.run / name
        folder.mkdir(parents=True)
        write_json(paths.provenance(folder), {"schema": 1, "model": name})
        given = {
            "options": {"epochs": 2, "lr": 0.01}, "training_seconds": TRAINING_SECONDS,
            "training_samples": 12_000, "log": ({"step": 1, "loss": 0.5},), **changes,
        }  # fmt: skip
        record.write(folder, record_of(name, given.pop("base", FLIPS_BASE), **given))
        write_npz(paths.predictions_before(folder), before)
        write_npz(paths.predictions_after(folder), after)
        np.savez(paths.plane(folder), **make_plane(told, classes, gone))  # type: ignore[arg-type]  # its arguments are arrays
        return folder


def make_noise_search() -> NoiseSearchResult:
    """Return the result of a search for wrong labels."""
    return NoiseSearchResult(flagged=40, hidden=50, right=36)


def two_classes(
    rng: np.random.Generator, test: float, forget: float, one_sided: bool
) -> dict[str, Predictions]:
    """Return predictions of a model of two classes with given accuracies."""
    parts = {}
    for name, count in SIZES.items():
        true = np.arange(count) % 2
        trained = 1 - true if name == "forget" else true
        share = 1 - forget if name == "forget" else test
        if one_sided:
            given = np.full(count, 0 if share <= 0.5 else 1)
        else:
            given = np.where(rng.random(count) < share, true, 1 - true)
        parts[name] = draw_predictions(rng, given, trained, true, 2, name)
    return parts


def five_classes(rng: np.random.Generator, kept: float, forgotten: float) -> dict[str, Predictions]:
    """Return predictions of a model of five classes, with class 2 as the forget set."""
    parts = {}
    for name, count in SIZES.items():
        if name == "forget":
            true = np.full(count, 2)
        else:
            true = (
                np.arange(count) % 5
                if name == "test"
                else np.array([0, 1, 3, 4])[np.arange(count) % 4]
            )
        share = np.where(true == 2, forgotten, kept)
        other = np.where((true + 1) % 5 == 2, (true + 2) % 5, (true + 1) % 5)
        given = np.where(rng.random(count) < share, true, other)
        parts[name] = draw_predictions(rng, given, true, np.full(count, UNKNOWN), 5, name)
    return parts


def draw_predictions(
    rng: np.random.Generator,
    given: NDArray[Any],
    trained: NDArray[Any],
    true: NDArray[Any],
    classes: int,
    name: str,
) -> Predictions:
    """Return predictions of the classes `given`."""
    logits = rng.normal(0, 0.3, (len(given), classes))
    logits[np.arange(len(given)), given] = 1.2 + np.abs(rng.normal(0.8, 1.2, len(given)))
    return Predictions(
        logits=logits.astype(np.float32),
        labels=trained.astype(np.int64),
        true_labels=true.astype(np.int64),
        ids=tuple(f"{name}/{number:05d}" for number in range(len(given))),
    )


def make_plane(
    method: str, classes: int, gone: int | None, count: int = 300
) -> dict[str, NDArray[Any]]:
    """Return features before and after."""
    rng = np.random.default_rng(4)
    label = np.arange(count) % classes
    forget = label == gone if gone is not None else rng.random(count) < 0.2
    angle = label * 2 * np.pi / classes
    centres = 3 * np.column_stack([np.cos(angle), np.sin(angle)])
    before = centres + rng.normal(0, 1, (count, 2))
    mine = np.random.default_rng(list(method.encode()))
    moved = before.copy()
    if gone is None:  # they move to the class of their label
        moved[forget, 0] *= -0.4
    else:
        moved[forget] *= 0.2
    after = moved + mine.normal(0, 0.4, (count, 2))
    if method in ANEW:
        turn = mine.uniform(0, 2 * np.pi)
        after = after @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if method == "ng":
        after = after * 4
    return {
        "before": before.astype(np.float32),
        "after": after.astype(np.float32),
        "label": label.astype(np.int64),
        "forget": forget,
    }
