"""Records as `trueface fairness --json` prints them, of made-up methods and seeds."""

from collections.abc import Sequence

import numpy as np

from launcher.api import Json

INTERSEC = tuple(f"{sex}-{race}" for sex in ("male", "nonmale") for race in ("asian", "white", "black", "others"))  # fmt: skip
COLUMNS = {"gender": ("male", "nonmale"), "intersec": INTERSEC}
DATA = "forged:pre"
REALS = FAKES = 150


def record(
    model: str,
    by: str = "gender",
    *,
    fpr: Sequence[float] = (20.0, 20.0),
    tpr: Sequence[float] = (80.0, 80.0),
    auc: float = 0.8,
    floor: float = 9.0,
    verdict: str = "above chance",
    comparable: bool = True,
    constant: bool = False,
    common: bool = True,
    undefined: Sequence[tuple[str, str, str]] = (),
) -> dict[str, Json]:
    """Return one record; rates are by group, and follow no answers."""
    point = _point(COLUMNS[by], fpr, tpr, auc, floor, undefined)
    at_common: dict[str, Json] = {"reason": "no training kept its answers on validation"}
    if common:
        lower = [rate / 2 for rate in fpr]
        at_common = {"target": 10.0, **_point(COLUMNS[by], lower, tpr, auc, floor, undefined)}
    return {
        "model": model,
        "data": DATA,
        "by": by,
        "auc": auc,
        "auc_low": auc - 0.02,
        "auc_high": auc + 0.02,
        "worst_group": COLUMNS[by][0],
        "worst_group_auc": auc - 0.03,
        "constant": constant,
        "comparable": comparable,
        "verdict": verdict,
        "attributes": ["faces.csv"],
        "at_common_fpr": at_common,
        **point,
    }


def _point(
    names: Sequence[str],
    fpr: Sequence[float],
    tpr: Sequence[float],
    auc: float,
    floor: float,
    undefined: Sequence[tuple[str, str, str]],
) -> dict[str, Json]:
    gone = {(group, rate) for group, rate, _ in undefined}
    groups: list[Json] = []
    for name, false, true in zip(names, fpr, tpr, strict=True):
        rates = {
            "fpr": false,
            "tpr": true,
            "acc": (100 - false + true) / 2,
            "positive": (false + true) / 2,
        }
        group: dict[str, Json] = {"name": name, "n_real": REALS, "n_fake": FAKES, "auc": auc - 0.01}
        for rate, value in rates.items():
            missing = (name, rate) in gone
            group[rate] = None if missing else value
            group[f"{rate}_low"] = None if missing else max(value - 6.5, 0)
            group[f"{rate}_high"] = None if missing else min(value + 6.5, 100)
        groups.append(group)
    mean = {"fpr": float(np.mean(fpr)), "tpr": float(np.mean(tpr))}
    gap = max(fpr) - min(fpr)
    sums = {"f_fpr": sum(abs(rate - mean["fpr"]) for rate in fpr)}
    sums["f_eo"] = sums["f_fpr"] + sum(abs(rate - mean["tpr"]) for rate in tpr)
    point: dict[str, Json] = {
        "overall": {"n_real": REALS * len(names), "n_fake": FAKES * len(names), **mean,
                    "acc": 70.0, "positive": 45.0, "auc": auc},
        "groups": groups,
        "undefined": [{"group": g, "rate": r, "reason": why} for g, r, why in undefined],
        "fpr_gap": gap,
        "fpr_gap_floor": floor,
        "tpr_gap": max(tpr) - min(tpr),
        "tpr_gap_floor": floor * 0.8,
    }  # fmt: skip
    for name, factor in (("f_fpr", 1.8), ("f_eo", 3.5)):
        point |= {name: sums[name], f"{name}_floor": floor * factor}
    for name in ("f_oae", "f_dp", "f_meo", "auc_gap"):
        point |= {name: gap * 0.7, f"{name}_floor": floor}
    return point
