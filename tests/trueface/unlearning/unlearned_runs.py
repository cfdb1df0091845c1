"""Constructed predictions, and runs of unlearned models as jobs write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trueface.predictions.npz_tables import write_npz
from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.runtime import paths
from trueface.unlearning import record
from trueface.unlearning.evaluation.alarms import AlarmKind
from trueface.unlearning.record import Record

PER_CLASS = 40
# alarms of a ruined model, alone or in comparison with others
RUINS = frozenset(
    {
        AlarmKind.FEW_ANSWERS,
        AlarmKind.CHANCE,
        AlarmKind.BELOW_CHANCE,
        AlarmKind.PERMUTED,
        AlarmKind.LOST,
        AlarmKind.UNTOUCHED,
    }
)


def make_predictions(
    trained: Sequence[int],
    called: Sequence[int],
    *,
    true: Sequence[int] | None = None,
    classes: int = 2,
    sure: float = 3.0,
    noise: int | None = None,
    ids: tuple[str, ...] = (),
) -> Predictions:
    """Return predictions of the given classes, with logit `sure` each.

    Args:
        trained: labels as trained.
        called: the answers.
        true: the right labels; None: not known.
        classes: K.
        sure: the logit of the answer, beside 0 of all others.
        noise: seed of a little noise, so that no two predictions are equal. None: no noise.
        ids: of the samples.
    """
    logits = np.zeros((len(called), classes), np.float32)
    logits[np.arange(len(called)), np.array(called, int)] = sure
    if noise is not None:
        logits += np.random.default_rng(noise).normal(0, 0.3, logits.shape).astype(np.float32)
    return Predictions(
        logits=logits,
        labels=np.array(trained, np.int64),
        true_labels=np.full(len(trained), UNKNOWN) if true is None else np.array(true, np.int64),
        ids=ids,
    )


def change_classes(
    right: Sequence[int], wrong: int, *, classes: int = 2, seed: int = 0
) -> list[int]:
    """Return classes with `wrong` of them changed, at random positions."""
    called = np.array(right)
    places = np.random.default_rng(seed).permutation(len(called))[:wrong]
    called[places] = (called[places] + 1) % classes
    found: list[int] = called.tolist()
    return found


def flip_predictions(wrong: int, *, follows: int = 0, seed: int = 0) -> dict[str, Predictions]:
    """Return predictions of a model on a task with flipped labels.

    Args:
        wrong: number of wrong predictions on the test, of 80.
        follows: number of the 40 flipped labels that it predicts.
        seed: of the positions of wrong predictions.
    """
    truth = [0, 1] * PER_CLASS
    gone = [0, 1] * (PER_CLASS // 2)
    turned = [1 - label for label in gone]
    said_of = [*turned[:follows], *gone[follows:]]
    names = tuple(f"part/{number}" for number in range(len(truth)))
    return {
        "forget": make_predictions(turned, said_of, true=gone, noise=seed + 1),
        "retain": make_predictions(truth, truth, true=truth, noise=seed + 2),
        "validation": make_predictions(
            truth, change_classes(truth, 2, seed=seed), true=truth, noise=seed + 3
        ),
        "test": make_predictions(
            truth, change_classes(truth, wrong, seed=seed), true=truth, noise=seed + 4, ids=names
        ),
    }


def class_predictions(remembers: int, wrong: int = 0, *, seed: int = 0) -> dict[str, Predictions]:
    """Return predictions of a model of three classes after forgetting the last.

    Args:
        remembers: number of the 40 forgotten samples, and of the 40 in the test, that are still predicted.
        wrong: number of wrong predictions on the 80 others in the test.
        seed: of noise.
    """
    stay = [0, 1] * PER_CLASS
    gone = [2] * PER_CLASS
    of_gone = [2] * remembers + [0] * (PER_CLASS - remembers)
    tested = [*change_classes(stay, wrong, seed=seed), *of_gone]
    return {
        "forget": make_predictions(gone, of_gone, classes=3, noise=seed + 1),
        "retain": make_predictions(stay, stay, classes=3, noise=seed + 2),
        "validation": make_predictions(stay, stay, classes=3, noise=seed + 3),
        "test": make_predictions([*stay, *gone], tested, classes=3, noise=seed + 4),
    }


def make_record(model: str, base: str, **changed: Any) -> Record:
    """Return the record of an unlearning of flips, with changes."""
    given: dict[str, Any] = {
        "method": model.rpartition("~")[2].partition("@")[0],
        "model": model,
        "base": base,
        "goal": "flips",
        "classes": 2,
        "class_names": ("real", "fake"),
        "forgotten": (),
        "seed": 0,
        "rate": 0.2,
        "known": 1.0,
        "found": None,
        "forced": False,
        "options": {},
        "notes": (),
        "seconds": 10.0,
        "samples_read": 640,
        "cached_seconds": 0.0,
        "cached_samples": 0,
        "peak_bytes": None,
        "training_seconds": 200.0,
        "training_samples": 6400,
        "relearn": None,
        "probe": None,
        "attack": None,
        "attack_before": None,
        "log": (),
    }
    return Record(**{**given, **changed})


def write_unlearning(
    run: Path,
    record_of: Record,
    before: Mapping[str, Predictions] | None,
    after: Mapping[str, Predictions] | None,
) -> Path:
    """Write the files of an unlearning, and return its model's folder."""
    folder = run / paths.model_folder("model", record_of.model)
    record.write(folder, record_of)
    if before is not None:
        write_npz(paths.predictions_before(folder), before)
    if after is not None:
        write_npz(paths.predictions_after(folder), after)
    return folder
