"""What a comparison of purifiers says in words; the adaptive number decides."""

from collections.abc import Iterator, Sequence

from trueface.report.generation.rows import Row
from trueface.report.svg import number

NONE = "none"  # nothing done
RIVALS = ("jpeg@75", "jpeg75")  # what needs neither training nor a network
HALF = 0.5


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the sentences of a table of purifiers; plain text, to be escaped."""
    unpurified = next((row for row in rows if row.name == NONE), None)
    damage = None if unpurified is None else unpurified.mean("mse")
    purifiers = [row for row in rows if row.name != NONE]
    if not purifiers:
        return
    yield from _adaptive(purifiers, damage)
    yield from _halved(purifiers, damage)
    yield from _against_rival(purifiers)
    yield from _pictures(purifiers, unpurified)


def _adaptive(purifiers: Sequence[Row], damage: float | None) -> Iterator[str]:
    known = [(mse, row) for row in purifiers if (mse := row.mean("mse_adaptive")) is not None]
    unknown = [row.name for row in purifiers if row.mean("mse_adaptive") is None]
    if known:
        known.sort(key=lambda pair: pair[0])
        mse, best = known[0]
        of = "" if damage is None else f" of {_short(damage)} without purification"
        yield (
            f"Against an attack that knows the purifier, {best.name} leaves the least damage: MSE "
            f"{_short(mse)}{of}. The verdict rests on this number."
        )
        useless = [row.name for mse, row in known if damage is not None and mse >= damage]
        if useless:
            yield (
                "Against an attack that knows them these leave as much damage as no purification: "
                f"{', '.join(useless)}."
            )
    if unknown:
        yield f"No verdict, as no adaptive attack was run: {', '.join(unknown)}."


def _halved(purifiers: Sequence[Row], damage: float | None) -> Iterator[str]:
    if damage is None:
        return
    halved = {
        key: [
            row.name
            for row in purifiers
            if (mse := row.mean(key)) is not None and mse < HALF * damage
        ]
        for key in ("mse", "mse_adaptive")
    }
    for key, words in (
        ("mse", "an attack that does not know the purifier"),
        ("mse_adaptive", "one that does"),
    ):
        if any(row.mean(key) is not None for row in purifiers):
            yield f"The damage of {words} is at least halved by: {', '.join(halved[key]) or 'none'}."


def _against_rival(purifiers: Sequence[Row]) -> Iterator[str]:
    """Yield who restores more than JPEG at no higher price, by both numbers."""
    rival = next((row for row in purifiers if row.name in RIVALS), None)
    price = None if rival is None else rival.mean("price_clean")
    if rival is None or price is None:
        return
    for key, words in (("mse_adaptive", "adaptive"), ("mse", "non-adaptive")):
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
        if (psnr := row.mean("psnr")) is not None and psnr > before + 1
    ]
    yield (
        f"By more than 1 dB nearer to the original picture than the disrupted one ({before:.1f} dB): "
        f"{', '.join(closer) or 'none; what is broken is the pattern of the attack'}."
    )


def _short(value: float) -> str:
    return number(float(f"{value:.3g}"))
