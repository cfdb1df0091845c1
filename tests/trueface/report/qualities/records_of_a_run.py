"""Records as `trueface qualities --json` prints them, of made-up methods and seeds."""

from collections.abc import Mapping, Sequence

from launcher.api import Json
from trueface.training.qualities.collaboration import CollaborationMeasured

QUALITIES = ("raw", "jpeg75", "jpeg50", "half+jpeg30")
DATA = "gan:pre&real:pre"


def record(
    model: str,
    areas: Sequence[float | None],
    *,
    against: str = "",
    worst: tuple[float, float, float] | None = None,
) -> dict[str, Json]:
    """Return one record.

    Args:
        model: its ID.
        areas: AUC at each of QUALITIES.
        against: ID of the reference.
        worst: difference at the worst quality, with the ends of its interval.
    """
    known = [area for area in areas if area is not None]
    difference: dict[str, Json] | None = None
    if worst is not None:
        ends = dict(zip(("difference", "low", "high"), worst, strict=True))
        difference = {"model": against, "worst": {**ends}}
    return {
        "model": model,
        "data": DATA,
        "qualities": [_quality(name, area) for name, area in zip(QUALITIES, areas, strict=True)],
        "mean": sum(known) / len(known),
        "worst": min(known),
        "worst_quality": QUALITIES[list(areas).index(min(known))],
        "pooled": sum(known) / len(known) - 0.01,
        "against": difference,
    }


def epochs(between: float, permuted: float, share: float) -> list[Mapping[str, Json]]:
    """Return what a training logged of its collaboration, the same in each of three epochs."""
    return [
        CollaborationMeasured(
            epoch=number,
            term=-between,
            nhsic=between,
            nhsic_permuted=permuted,
            gradient_share=share,
        ).record
        for number in (1, 2, 3)
    ]


def _quality(name: str, area: float | None) -> Json:
    ends: dict[str, Json] = {"auc_low": None, "auc_high": None}
    if area is not None:
        ends = {"auc_low": area - 0.02, "auc_high": area + 0.02}
    return {
        "quality": name,
        "n_real": 400,
        "n_fake": 400,
        "auc": area,
        **ends,
        "acc": None if area is None else area - 0.05,
        "mean_real": -1.0,
        "mean_fake": 1.0,
    }
