"""The table of purifiers: a row each, of all that the jobs `restored` of a run have measured. No torch here.

A run measures a purifier on images of several attacks and targets, with several seeds, on images of
an attack that went through it (adaptive), and on originals, which is its price. A seed's value is the mean over
attacks and targets, a row's the mean over seeds. Random signs, the control, are no attack and stay out; so do
attacks whose images nothing but `none` purified, which have a table of their own, `attack_rows`.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name

METRICS = "metrics.json"  # in a folder that `restored` makes
MADE = "made"  # in a run's folder: where such folders lie
NONE = "none"  # the purifier that leaves images as they are
USUAL_EPS = 0.05  # of attacks, which is not told in words
CONTROL = "random"
ENOUGH = 0.5  # of the unpurified error: a purifier that leaves no more restores
RULE = (
    "a purifier restores if the mean squared error of the generator's outputs is at most half of that "
    "without a purifier, under the worse of two attacks: one that does not know it, and one that goes "
    "through it"
)
FURTHER = ("share", "psnr", "ssim", "frechet", "l1", "linf")  # measures besides mse

Facts = Mapping[str, Json]
Row = dict[str, Json]


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[Row]:
    """Return a row a purifier, `none` first, in the order of the folders.

    Args:
        run_folder: runs/<run>.
        tests: ("", name of a made folder) pairs; those without metrics, not done yet, are left out.

    Returns:
        Rows with the keys method, mse (of the generator's outputs under attacks that do not know the
        purifier), mse_adaptive, price_clean, net_calls, seconds (an image), verdict, share, psnr and ssim
        (of the purified images against the originals), frechet, l1, linf (of the outputs again), features (the
        network of frechet), images, seeds, attacks, gradient (through which the adaptive attack
        went: exact, or identity), mse_<target> and mse_adaptive_<target>; with two seeds or more
        <key>_sd, the standard deviation over them. What was not measured is None; the price of `none`
        is 0, as it changes nothing.
    """
    measured = _read(run_folder, (name for _, name in tests))
    labels = list(dict.fromkeys(str(facts["purifier"]) for facts in measured))
    labels.sort(key=lambda label: label != NONE)  # stable
    plain = {
        label: [m for m in measured if m["purifier"] == label and _is_plain(m)] for label in labels
    }
    purified = {_aim(m) for label in labels if label != NONE for m in plain[label]}
    if purified:
        plain[NONE] = [m for m in plain.get(NONE, ()) if _aim(m) in purified]
    attacks = {m["attack"] for group in plain.values() for m in group}
    return [
        _row(
            label,
            plain[label],
            [m for m in measured if m["purifier"] == label],
            named=len(attacks) > 1,
        )
        for label in labels
    ]


def attack_rows(run_folder: Path, names: Iterable[str]) -> list[Row]:
    """Return a row an attack on images that nothing purified, the control first.

    Args:
        run_folder: runs/<run>.
        names: of folders that `restored` made.

    Returns:
        Rows with the keys attack, target, over, eps, rms, linf, mse, share, ratio (of mse to the control's of
        the same eps; None without one) and seeds.
    """
    groups: dict[tuple[str, str, str, float], list[Facts]] = {}
    for facts in _read(run_folder, names):
        if facts["purifier"] == NONE and facts["attack"] and not facts["through"]:
            is_control = facts["attack"] == CONTROL
            aim = ("", "") if is_control else (str(facts["target"]), str(facts["over"]))
            key = (str(facts["attack"]), *aim, _number(facts["eps"]) or 0.0)
            groups.setdefault(key, []).append(facts)
    rows = [_attack_row(key, group) for key, group in groups.items()]
    control = {row["eps"]: _number(row["mse"]) for row in rows if row["attack"] == CONTROL}
    for row in rows:
        usual, reached = control.get(row["eps"]), _number(row["mse"])
        row["ratio"] = reached / usual if usual and reached is not None else None
    return sorted(rows, key=lambda row: row["attack"] != CONTROL)


def _attack_row(key: tuple[str, str, str, float], group: Sequence[Facts]) -> Row:
    attack, target, over, eps = key
    return {
        "attack": attack,
        "target": target,
        "over": over,
        "eps": eps,
        "rms": _mean(_number(_part(facts, "delta").get("rms")) for facts in group),
        "linf": max(_number(_part(facts, "delta").get("linf")) or 0.0 for facts in group),
        "mse": _mean(_number(_part(facts, "summary").get("mse")) for facts in group),
        "share": _mean(_number(_part(facts, "summary").get("share")) for facts in group),
        "seeds": len({facts["attack_seed"] for facts in group}),
    }


def _read(run_folder: Path, names: Iterable[str]) -> list[Facts]:
    read = (read_json(run_folder / MADE / model_folder_name(name) / METRICS) for name in names)
    return [facts for facts in read if isinstance(facts, dict) and "purifier" in facts]


def _is_plain(facts: Facts) -> bool:
    """Tell whether the images were disrupted by who knows no purifier."""
    return facts["attack"] not in {"", CONTROL} and not facts["through"]


def _row(label: str, plain: Sequence[Facts], measured: Sequence[Facts], *, named: bool) -> Row:
    adaptive = [m for m in measured if m["adaptive"]] or (plain if label == NONE else [])
    clean = [m for m in measured if not m["attack"] and label != NONE]
    used = plain or adaptive or clean or measured
    row: Row = {"method": label}
    _put(row, "mse", plain, _of_summary("mse"))
    _put(row, "mse_adaptive", adaptive, _of_summary("mse"))
    _put(row, "price_clean", clean, _of_summary("mse"))
    if label == NONE:
        row["price_clean"] = 0.0
    row["net_calls"] = _mean(_number(facts["net_calls"]) for facts in used)
    row["seconds"] = _mean(_number(facts["seconds"]) for facts in used)
    row["verdict"] = _verdict(label, plain, adaptive)
    for name in FURTHER:
        _put(row, name, plain, _of_summary(name))
    row["features"] = next((_part(facts, "features").get("network") for facts in used), None)
    row["images"] = max((int(_number(facts["images"]) or 0) for facts in used), default=0)
    row["seeds"] = len({_replicate(facts) for facts in used})
    row["attacks"] = ", ".join(dict.fromkeys(_aim(facts) for facts in plain))
    row["gradient"] = next((facts.get("gradient") for facts in adaptive), None) or None
    for prefix, group in (("mse_", plain), ("mse_adaptive_", adaptive)):
        for aim in dict.fromkeys(_aim(facts, named=named) for facts in group):
            same = [facts for facts in group if _aim(facts, named=named) == aim]
            _put(row, prefix + aim.replace(" ", "_"), same, _of_summary("mse"))
    return row


def _verdict(label: str, plain: Sequence[Facts], adaptive: Sequence[Facts]) -> str:
    """Return what a row says, by `RULE`.

    The error without a purifier is that of the attack that does not know it: of the same images, and for
    an adaptive attack, which may have fewer images, of the same targets.
    """
    if label == NONE:
        return "nothing is purified"
    if not plain:
        return "not measured on disrupted images"
    if not _restores(plain, plain):
        return "does not restore"
    if not adaptive:
        return "adaptive: not measured"
    aims = {_aim(facts) for facts in adaptive}
    alike = [facts for facts in plain if _aim(facts) in aims]
    if not _restores(adaptive, alike or plain):
        return "broken by the adaptive attack"
    return "restores under the adaptive attack"


def _restores(purified: Sequence[Facts], unpurified: Sequence[Facts]) -> bool:
    left = _mean(_number(_part(facts, "summary").get("mse")) for facts in purified)
    whole = _mean(_number(_part(facts, "unpurified").get("mse")) for facts in unpurified)
    return left is not None and whole is not None and left <= ENOUGH * whole


def _aim(facts: Facts, *, named: bool = True) -> str:
    """Return an attack in words: its target, and what is not usual of it; `named`: its name, too."""
    words = [str(facts["attack"])] if named else []
    words.append(str(facts["target"]))
    if facts["over"] != "own":
        words.append(str(facts["over"]))
    if facts["eps"] != USUAL_EPS:
        words.append(f"eps {facts['eps']}")
    return " ".join(words)


def _put(row: Row, name: str, group: Sequence[Facts], value: Callable[[Facts], Json]) -> None:
    """Put the mean over seeds into a row, and their standard deviation where there are several."""
    by_seed: dict[object, list[float | None]] = {}
    for facts in group:
        by_seed.setdefault(_replicate(facts), []).append(_number(value(facts)))
    values = [mean for mean in map(_mean, by_seed.values()) if mean is not None]
    row[name] = _mean(values)
    if len(values) > 1:
        row[f"{name}_sd"] = statistics.stdev(values)


def _replicate(facts: Facts) -> tuple[Json, ...]:
    return facts["seed"], facts["attack_seed"], facts["translator"]


def _of_summary(name: str) -> Callable[[Facts], Json]:
    return lambda facts: _part(facts, "summary").get(name)


def _part(facts: Facts, name: str) -> Facts:
    part = facts.get(name)
    return part if isinstance(part, dict) else {}


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return statistics.fmean(measured) if measured else None


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) else None
