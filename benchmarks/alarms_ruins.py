"""Ruins of an honest model, as another last layer would make them, in several degrees.

Logits are a linear function of the last layer. So a dominating bias, permuted rows and noise on the features
can be computed exactly as changes of the logits.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trueface.predictions.predictions import Logits, Predictions
from trueface.unlearning.evaluation.alarms import AlarmKind
from trueface.unlearning.evaluation.measures import PredictionsBySplit

Change = Callable[[Logits], Logits]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruin:
    """A way to ruin a model, to one degree."""

    kind: str
    degree: str
    sorts: frozenset[AlarmKind]  # alarms of which one at least must be raised
    parts: PredictionsBySplit


def ruins(honest: PredictionsBySplit, before: PredictionsBySplit, seed: int) -> Iterator[Ruin]:
    """Yield the ruins of a model.

    Args:
        honest: its answers.
        before: those of the model that it was made from.
        seed: Seed of the random draws.
    """
    rng = np.random.default_rng(seed)
    classes = honest["test"].logits.shape[1]
    spread = float(np.concatenate([part.logits for part in honest.values()]).std()) or 1.0
    for share in (1.0, 0.995):
        yield _ruin("constant", f"{share:.1%} of the answers", {AlarmKind.CONSTANT, AlarmKind.SHARE},
                    honest, lambda logits, share=share: _mostly(logits, share))  # type: ignore[misc]  # fmt: skip
    if classes > 3:
        for count in (2, 3):
            some = rng.permutation(classes)[:count]
            yield _ruin("few classes", f"{count} of {classes}", {AlarmKind.FEW_ANSWERS, AlarmKind.LOST}, honest,
                        lambda logits, some=some: _only(logits, some, spread))  # type: ignore[misc]  # fmt: skip
    for degree in ("weights drawn anew", "noise 30 times as large"):
        yield _ruin("chance", degree, {AlarmKind.CHANCE, AlarmKind.BELOW_CHANCE, AlarmKind.LOST}, honest,
                    lambda logits, whole=degree[0] == "w": _noise(logits, rng, 0 if whole else 1, 30 * spread))  # type: ignore[misc]  # fmt: skip
    known = len(np.unique(honest["retain"].right_classes))
    for count in sorted({2, min(4, known), known}):
        names = _permutation(np.unique(honest["retain"].right_classes), classes, count, rng)
        yield _ruin("labels permuted", f"{count} of {known}", {AlarmKind.PERMUTED, AlarmKind.BELOW_CHANCE, AlarmKind.LOST}, honest,
                    lambda logits, names=names: logits[:, names])  # type: ignore[misc]  # fmt: skip
    for points in (10, 20, 30):
        ruined = _lossy(honest, before, points / 100, rng)
        if ruined is not None:
            yield Ruin(
                kind="kept accuracy lost", degree=f"{points} points", parts=ruined,
                sorts=frozenset({AlarmKind.LOST, AlarmKind.CHANCE, AlarmKind.BELOW_CHANCE}),
            )  # fmt: skip
    for value in (math.nan, math.inf):
        for part in ("test", "forget"):
            yield _broken(honest, part, value)
    for noise in (0.0, 1e-6, 1e-3):
        yield _ruin("untouched", f"noise of {noise:g}" if noise else "to the bit", {AlarmKind.UNTOUCHED},
                    before, lambda logits, noise=noise: _noise(logits, rng, 1, noise * spread))  # type: ignore[misc]  # fmt: skip


def _ruin(
    kind: str, degree: str, sorts: set[AlarmKind], parts: PredictionsBySplit, change: Change
) -> Ruin:
    changed = {
        name: replace(part, logits=change(part.logits).astype(np.float32))
        for name, part in parts.items()
    }
    return Ruin(kind=kind, degree=degree, sorts=frozenset(sorts), parts=changed)


def _mostly(logits: Logits, share: float) -> Logits:
    """Return logits in which a bias makes nearly all predictions the first class."""
    margin = logits.max(1) - logits[:, 0]
    bias = np.quantile(margin, share) if share < 1 else margin.max()
    biased = logits.copy()
    biased[:, 0] += bias + 1e-3
    return biased


def _only(logits: Logits, some: NDArray[np.int64], spread: float) -> Logits:
    masked = logits - 100 * spread
    masked[:, some] = logits[:, some]
    return masked


def _noise(logits: Logits, rng: np.random.Generator, kept: float, size: float) -> Logits:
    noise = (size or float(kept == 0)) * rng.normal(size=logits.shape)
    return (kept * logits + noise).astype(np.float32)


def _permutation(
    known: NDArray[np.int64], classes: int, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return a naming of all classes in which `count` of the known ones have another's name."""
    chosen = rng.permutation(known)[:count]
    names = np.arange(classes)
    names[chosen] = np.roll(chosen, 1)
    return names


def _lossy(
    honest: PredictionsBySplit, before: PredictionsBySplit, loss: float, rng: np.random.Generator
) -> PredictionsBySplit | None:
    """Return answers that are right that much less often than before; None of too little skill."""
    test, then = honest["test"], before["test"]
    kept_rows = np.isin(test.right_classes, honest["retain"].right_classes)
    had = float((then.predicted_classes == then.right_classes)[kept_rows].mean())
    has = float((test.predicted_classes == test.right_classes)[kept_rows].mean())
    share = 1 - (had - loss) / max(has, 1e-9)  # fraction of the right answers that are made wrong
    if had - loss < 1 / test.logits.shape[1] or share <= 0:
        return None
    return {name: _wronged(part, share, rng) for name, part in honest.items()}


def _wronged(part: Predictions, share: float, rng: np.random.Generator) -> Predictions:
    """Return answers of which a share of the right ones is wrong: another class has their logit."""
    labels, logits = part.right_classes, part.logits.copy()
    hits = np.flatnonzero(logits.argmax(1) == labels)
    for row in rng.permutation(hits)[: round(share * len(hits))]:
        other = int(rng.choice(np.delete(np.arange(logits.shape[1]), labels[row])))
        logits[row, [labels[row], other]] = logits[row, [other, labels[row]]]
    return replace(part, logits=logits)


def _broken(honest: PredictionsBySplit, part: str, value: float) -> Ruin:
    logits = honest[part].logits.copy()
    logits[0, 0] = value
    parts: Mapping[str, Predictions] = {**honest, part: replace(honest[part], logits=logits)}
    return Ruin(
        kind="not finite",
        degree=f"one {value} in {part}",
        sorts=frozenset({AlarmKind.BROKEN}),
        parts=parts,
    )


def kinds(some: Sequence[Ruin]) -> list[str]:
    """Return the kinds of ruins in their order."""
    return list(dict.fromkeys(ruin.kind for ruin in some))
