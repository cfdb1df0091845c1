"""What a comparison of purifiers says in words; the adaptive number decides."""

from collections.abc import Iterator, Sequence

from trueface.report.generation.rows import Row
from trueface.report.json_fields import text_of
from trueface.report.svg import number

NONE = "none"  # nothing done
RIVALS = ("jpeg@75", "jpeg75")  # what needs neither training nor a network
ADAPTIVE = "mse_adaptive"
CLOSER_DB = 1.0  # by so much a picture must come nearer to the original to be told


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the sentences of a table of purifiers; plain text, to be escaped."""
    unpurified = next((row for row in rows if row.name == NONE), None)
    purifiers = [row for row in rows if row.name != NONE]
    if not purifiers:
        return
    yield from _adaptive(purifiers, unpurified)
    yield from _verdicts(purifiers)
    yield from _against_rival(purifiers)
    yield from _pictures(purifiers, unpurified)


def aims(row: Row, prefix: str) -> list[str]:
    """Return the attacks and targets of which a row has a number of their own.

    Args:
        row: of a purifier.
        prefix: "mse_" or "mse_adaptive_".
    """
    return [
        key.removeprefix(prefix)
        for key in row.record
        if key.startswith(prefix)
        and not key.endswith("_sd")
        and (prefix != "mse_" or not key.startswith(ADAPTIVE))
        and row.mean(key) is not None
    ]


def _adaptive(purifiers: Sequence[Row], unpurified: Row | None) -> Iterator[str]:
    known = [(mse, row) for row in purifiers if (mse := row.mean(ADAPTIVE)) is not None]
    unknown = [row.name for row in purifiers if row.mean(ADAPTIVE) is None]
    if known:
        known.sort(key=lambda pair: pair[0])
        mse, best = known[0]
        damage = _unpurified(best, unpurified)
        of = "" if damage is None else f" of {_short(damage)} without purification"
        yield (
            f"Against an attack that knows the purifier, {best.name} leaves the least damage: MSE "
            f"{_short(mse)}{of}. The verdict rests on this number."
        )
        useless = [
            row.name
            for mse, row in known
            if (before := _unpurified(row, unpurified)) is not None and mse >= before
        ]
        if useless:
            yield (
                "An attack that knows them does as much damage as without purification: "
                f"{', '.join(useless)}."
            )
    if unknown:
        yield f"No verdict, as no adaptive attack was run: {', '.join(unknown)}."


def _unpurified(row: Row, unpurified: Row | None) -> float | None:
    """Return the damage without purification, by the attacks that were run against a purifier."""
    if unpurified is None:
        return None
    same = [unpurified.mean(f"mse_{aim}") for aim in aims(row, f"{ADAPTIVE}_")]
    known = [value for value in same if value is not None]
    if same and len(known) == len(same):
        return sum(known) / len(known)
    return unpurified.mean("mse")


def _verdicts(purifiers: Sequence[Row]) -> Iterator[str]:
    """Yield what the measures themselves say of the purifiers, by the same words together."""
    names: dict[str, list[str]] = {}
    for row in purifiers:
        names.setdefault(text_of(row.record, "verdict"), []).append(row.name)
    for words, of in names.items():
        if words:
            yield f"{words[:1].upper()}{words[1:]}: {', '.join(of)}."


def _against_rival(purifiers: Sequence[Row]) -> Iterator[str]:
    """Yield who restores more than JPEG at no higher price, by both numbers."""
    rival = next((row for row in purifiers if row.name in RIVALS), None)
    price = None if rival is None else rival.mean("price_clean")
    if rival is None or price is None or len(purifiers) < 2:
        return
    for key, words in ((ADAPTIVE, "adaptive"), ("mse", "non-adaptive")):
        bound = rival.mean(key)
        if bound is None:
            continue
        better = [
            f"{row.name} (MSE {_short(mse)}, price {_short(cost)})"
            for row in purifiers
            if (mse := row.mean(key)) is not None
            and (cost := row.mean("price_clean")) is not None
            and mse < bound
            and cost <= price
        ]
        head = f"{rival.name} ({words} MSE {_short(bound)}, price {_short(price)})"
        if better:
            yield f"Better than {head} at no higher price on clean images: {', '.join(better)}."
        else:
            yield f"No purifier is better than {head} at no higher price on clean images."


def _pictures(purifiers: Sequence[Row], unpurified: Row | None) -> Iterator[str]:
    """Yield whether the pictures themselves come closer to the originals, or only the outputs."""
    before = None if unpurified is None else unpurified.mean("psnr")
    if before is None:
        return
    closer = [
        row.name
        for row in purifiers
        if (psnr := row.mean("psnr")) is not None and psnr > before + CLOSER_DB
    ]
    yield (
        f"By more than 1 dB nearer to the original picture than the disrupted one ({before:.1f} dB): "
        f"{', '.join(closer) or 'none; what is broken is the pattern of the attack'}."
    )


def _short(value: float) -> str:
    return number(float(f"{value:.3g}"))
