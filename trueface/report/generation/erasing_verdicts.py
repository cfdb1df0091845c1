"""What a comparison of erasing methods says in words."""

from collections.abc import Iterator, Sequence

from trueface.erasing.measures.record import LEAST_ERASED, NOT_ERASED, TEACHER
from trueface.report.generation.rows import Row, has_several, rows_of
from trueface.report.json_fields import text_of
from trueface.report.svg import number

OTHERS_LOSS = 0.05  # of the accuracy of other concepts
DRAWN = 0.9  # a teacher that draws a concept less often has nothing to erase
RECOGNISED = 0.95  # of held-out real images: a classifier that knows fewer says little of samples
PENALTY = "penalty"  # a setting of All but One


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the sentences of a table of erasing methods, of each concept its own; plain text, to be escaped."""
    records = [row.record for row in rows]
    if not has_several(records):
        yield from _of_concept(rows)
        return
    for concept in dict.fromkeys(text_of(record, "concept") for record in records):
        of = rows_of([record for record in records if text_of(record, "concept") == concept])
        yield from (f"{concept}: {sentence}" for sentence in _of_concept(of))


def _of_concept(rows: Sequence[Row]) -> Iterator[str]:
    yield from _classifier(rows)
    teacher = next((row for row in rows if row.name == TEACHER), None)
    methods = [row for row in rows if row.name != TEACHER]
    if teacher is not None:
        yield from _teacher(teacher)
        yield from _erased(methods, teacher)
    yield from _verdicts(methods)
    yield from _penalty(methods)
    yield from _recovered(methods)


def is_erased(row: Row, teacher: Row) -> bool:
    """Tell whether a concept is drawn at most a fifth as often as by the teacher."""
    rate, before = row.mean("erased"), teacher.mean("erased")
    return rate is not None and before is not None and rate <= LEAST_ERASED * before


def keeps_others(row: Row, teacher: Row) -> bool:
    """Tell whether the other concepts are drawn nearly as well as by the teacher."""
    others, before = row.mean("others"), teacher.mean("others")
    return others is not None and before is not None and others >= before - OTHERS_LOSS


def _classifier(rows: Sequence[Row]) -> Iterator[str]:
    known = [rate for row in rows if (rate := row.mean("classifier_accuracy")) is not None]
    if known and min(known) < RECOGNISED:
        yield (
            f"The classifier recognises {100 * min(known):.0f} % of real images that it was not trained "
            f"on, less than {100 * RECOGNISED:.0f} %: the rates below are in part its own mistakes."
        )


def _teacher(teacher: Row) -> Iterator[str]:
    rate, others = teacher.mean("erased"), teacher.mean("others")
    if rate is None:
        return
    rest = "" if others is None else f", the other concepts in {100 * others:.0f} %"
    yield f"The teacher draws the concept in {100 * rate:.0f} % of its samples{rest}."
    if rate < DRAWN:
        yield f"That is less than {100 * DRAWN:.0f} %: there is little to erase, and the rows below say little."


def _erased(methods: Sequence[Row], teacher: Row) -> Iterator[str]:
    known = [row for row in methods if row.mean("erased") is not None]
    if not known:
        return
    erased = [row for row in known if is_erased(row, teacher)]
    kept = [row.name for row in erased if keeps_others(row, teacher)]
    lost = [row.name for row in erased if not keeps_others(row, teacher)]
    drawn = [f"{row.name} ({row.mean('erased'):.2f})" for row in known if row not in erased]
    yield (
        "No longer drawn at its name (at most a fifth of the teacher's rate), others within .05: "
        f"{', '.join(kept) or 'none'}."
    )
    if lost:
        yield f"No longer drawn, but other concepts suffer: {', '.join(lost)}."
    if drawn:
        yield f"Still drawn: {', '.join(drawn)}."


def _verdicts(methods: Sequence[Row]) -> Iterator[str]:
    """Yield what the measures themselves say of the methods, by the same words together."""
    names: dict[str, list[str]] = {}
    for row in methods:
        names.setdefault(text_of(row.record, "verdict"), []).append(row.name)
    for words, of in names.items():
        if words and words != NOT_ERASED:  # of which it is said how often they draw it
            yield f"{words[:1].upper()}{words[1:]}: {', '.join(of)}."


def _penalty(methods: Sequence[Row]) -> Iterator[str]:
    """Yield what the penalty on the null token is worth, where a method was run without it."""
    for row in methods:
        method, settings = _parts(row.name)
        if not _is_zero(settings.pop(PENALTY, "")):
            continue
        drift = row.mean("null_drift")
        for other in methods:
            name, others = _parts(other.name)
            with_it = not _is_zero(others.pop(PENALTY, ""))
            held = other.mean("null_drift")
            if (name, others) == (method, settings) and with_it and drift and held is not None:
                yield (
                    f"Without its penalty {method} moves the null token's score by {_short(drift)}, "
                    f"with it by {_short(held)}: {_short(held / drift)} of that."
                )


def _parts(name: str) -> tuple[str, dict[str, str]]:
    """Return a method and its settings: "abo@scope=all,penalty=0"."""
    method, _, variant = name.partition("@")
    pairs = (word.partition("=") for word in variant.split(",") if word)
    return method, {key: value for key, _, value in pairs}


def _is_zero(text: str) -> bool:
    return text in {"0", "0.0"}


def _recovered(methods: Sequence[Row]) -> Iterator[str]:
    floors = [row.mean("recovery_floor") for row in methods]
    known = [floor for floor in floors if floor is not None]
    if not known and any(row.mean("recovery") is not None for row in methods):
        yield "Recovery has no floor here: no model that never saw the concept was attacked alike."
    ceilings = [c for row in methods if (c := row.mean("recovery_ceiling")) is not None]
    if known and ceilings and min(known) >= DRAWN * max(ceilings):
        yield (
            f"Even a model that never saw the concept is steered to it at {number(round(min(known), 3))}: "
            "with so many images and steps recovery tells no method from another."
        )


def _short(value: float) -> str:
    return number(float(f"{value:.3g}"))
