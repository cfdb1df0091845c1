"""What a comparison of methods says in words: whose gap is more than chance, and who may be compared."""

from collections.abc import Iterable, Iterator, Sequence

from trueface.evaluation.fairness.rows import Verdict
from trueface.report.fairness.content import Comparison, Method, Standing
from trueface.report.over_seeds import OverSeeds, shown

GAP = "fpr_gap"
LOWER = "lower AUC, not comparable"
CONSTANT = "constant"
_SENTENCES = {
    str(Verdict.ABOVE): "The FPR gap is above chance",
    str(Verdict.NEAR): "The FPR gap is near its floor, at most twice as large",
    str(Verdict.WITHIN): "The FPR gap is not above chance",
}


def sentences(comparison: Comparison) -> Iterator[str]:
    """Yield the sentences of one test and column; plain text, to be escaped."""
    yield from _chance(comparison)
    yield from _comparable(comparison)
    for standing, words in (
        (Standing.LOWER_AUC, "Lower AUC, not comparable (a gap says little without equal AUC)"),
        (Standing.CONSTANT, "Constant, so without any gap and without any use"),
    ):
        methods = [method for method in comparison.of(standing) if method.auc]
        if methods:
            yield f"{words}: {_names(methods)}."
    without = [method.name for method in comparison.methods if not method.auc]
    if without:
        yield f"Without an AUC, as all images are of one class: {'; '.join(without)}."
    columns = {cell for method in comparison.methods for cell in _undefined(method)}
    if columns:
        number = f"{len(columns)} rate{'s are' if len(columns) > 1 else ' is'}"
        yield f"{number} not defined, and listed below the groups."
    yield from _notes(comparison)


def _notes(comparison: Comparison) -> Iterator[str]:
    rows = [row for method in comparison.methods for row in method.rows]
    ungrouped = max((row.ungrouped for row in rows), default=0)
    if ungrouped:
        yield f"Left out: {ungrouped} images without a group."
    for note in dict.fromkeys(row.note for row in rows if row.note):
        yield f"{note[:1].upper()}{note[1:]}."


def verdict(method: Method) -> str:
    """Return what the ladder says of a method."""
    if method.standing is Standing.CONSTANT:
        constant = sum(row.constant for row in method.rows)
        every = constant == len(method.rows)
        return CONSTANT if every else f"{CONSTANT} in {constant} of {len(method.rows)} seeds"
    parts = []
    if method.standing is Standing.LOWER_AUC:
        parts = [LOWER if method.auc else "no AUC, not comparable"]
    few = "" if method.agreeing == len(method.rows) else f" ({_of_seeds(method)})"
    return "; ".join([*parts, f"{method.verdict}{few}"])


def _of_seeds(method: Method) -> str:
    return f"by themselves {method.agreeing} of {len(method.rows)} seeds"


def _chance(comparison: Comparison) -> Iterator[str]:
    sound = [method for method in comparison.methods if method.standing is not Standing.CONSTANT]
    for word, sentence in _SENTENCES.items():
        methods = [method for method in sound if method.verdict == word]
        if methods:
            yield f"{sentence}: {'; '.join(map(_gap, methods))}."
    others = [method.name for method in sound if method.verdict not in _SENTENCES]
    if others:
        yield f"The FPR gap is not defined: {'; '.join(others)}."


def _comparable(comparison: Comparison) -> Iterator[str]:
    methods = comparison.comparable
    if len(methods) < 2:
        if len(comparison.methods) > 1:
            yield "No two methods are alike enough in AUC for their gaps to be compared."
        return
    yield f"Comparable by AUC: {_names(methods)}."
    gaps = [(gap, method) for method in methods if (gap := method.gap(GAP)) is not None]
    if len(gaps) < 2:
        return
    gaps.sort(key=lambda pair: pair[0].mean)
    (least, first), (second, other) = gaps[:2]
    clause = f"The smallest mean FPR gap among these is that of {first.name}, {shown(least, 1)}"
    if _overlap(least, second):
        spread = (
            "one seed cannot tell it" if least.sd is None else "the seeds' spread does not tell it"
        )
        clause += f"; {spread} from that of {other.name}, {shown(second, 1)}"
    yield f"{clause}."


def _overlap(first: OverSeeds, second: OverSeeds) -> bool:
    if first.sd is None or second.sd is None:
        return True
    return first.mean + first.sd >= second.mean - second.sd


def _gap(method: Method) -> str:
    floor = method.floor(GAP)
    against = "" if floor is None else f" (floor {floor.mean:.1f})"
    return f"{method.name} {shown(method.gap(GAP), 1)}{against}"


def _undefined(method: Method) -> Iterable[str]:
    return (cell for point in method.points() for cell in point.undefined)


def _names(methods: Sequence[Method]) -> str:
    return "; ".join(f"{method.name} (AUC {shown(method.auc, 3)})" for method in methods)
