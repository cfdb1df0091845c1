"""The tables of fairness: methods with their gaps, the other measures over groups, and the rates of each group."""

from collections.abc import Sequence

from trueface.evaluation.fairness import (
    LOWER,
    SHOWN,
    TARGET,
    Comparability,
    FairnessMethod,
)
from trueface.evaluation.group_rates import (
    AREA_GAP,
    GAP,
    MEASURES,
    OF_BOTH,
    PERCENT,
    RATES,
    GroupRow,
    GroupTable,
    digits_of,
    unit_of,
)
from trueface.evaluation.over_seeds import NO_VALUE, seeds_text
from trueface.report.study_table import Heading, StudyEntry, StudyRow, StudyTable

AT_COMMON = f"FPR {PERCENT * TARGET:g} % of validation"
GAP_AT_COMMON = f"FPR gap at {TARGET:.0%} FPR"
GROUP_INTERVALS = "95 % intervals over images"  # rates and AUC have the same scope
FURTHER = tuple(name for name in MEASURES if name not in SHOWN)


def verdict(method: FairnessMethod) -> str:
    """Return the verdict of a method for the leaderboard."""
    if method.comparability is Comparability.CONSTANT:
        constant = sum(row.table.constant for row in method.rows)
        every = constant == len(method.rows)
        return "constant" if every else f"constant in {constant} of {len(method.rows)} seeds"
    parts = []
    if method.comparability is Comparability.LOWER_AUC:
        parts = [LOWER if method.auc else "no AUC, not comparable"]
    seeds, few = len(method.rows), ""
    if method.agreeing < seeds:
        few = f" (in {method.agreeing} of {seeds} seeds alone)"
    undefined = [f"{title} undefined" for title in method.undefined]
    return "; ".join([*parts, f"{method.verdict}{few}", *undefined])


def methods_table(
    methods: Sequence[FairnessMethod], *, common: bool = True, rank: bool = False
) -> StudyTable:
    """Return AUC and gaps of methods on one dataset by one grouping.

    Args:
        methods: in the order of the rows.
        common: with the gap at a common FPR.
        rank: with the rank by FPR gap.
    """
    head = [
        Heading("method"),
        Heading("seeds"),
        Heading("AUC"),
        Heading("AUC of the worst group", plain="AUC of worst group"),
        *(Heading(MEASURES[name], "%") for name in SHOWN),
    ]
    if common:
        head.append(
            Heading(MEASURES[GAP], "%", plain=f"{GAP_AT_COMMON} %", below=f"at {AT_COMMON}")
        )
    if rank:
        head.append(Heading("rank"))
    head.append(Heading("verdict", plain="", is_text=True))
    return StudyTable.of_rows(head, (_method(each, common, rank) for each in methods))


def _method(method: FairnessMethod, common: bool, rank: bool) -> StudyRow:
    worst = {row.table.worst.name for row in method.rows if row.table.worst}
    why_not = method.why_not.removeprefix(f"{LOWER}: ")
    auc = method.rows[0].auc if len(method.rows) == 1 else None
    entries = [
        StudyEntry(seeds_text(len(method.rows), method.missing)),
        StudyEntry(method.auc, below=() if auc is None else (auc.ends_text(".3f"),)),
        StudyEntry(
            method.worst_auc,
            note=method.groups_note(AREA_GAP),
            below=tuple(worst) if len(worst) == 1 else (),
        ),
        *(_gap(method, name) for name in SHOWN),
    ]
    if common:
        entries.append(_gap(method, GAP, common=True))
    if rank:
        entries.append(StudyEntry(NO_VALUE if method.rank is None else str(method.rank)))
    reason = f"AUC {why_not}" if why_not else ""
    entries.append(StudyEntry(verdict(method), plain=_short_verdict(method), reason=reason))
    is_comparable = method.comparability is Comparability.COMPARABLE
    return StudyRow(
        method.name,
        tuple(entries),
        model=method.model,
        kind="method" if is_comparable else "reference",
    )


def _short_verdict(method: FairnessMethod) -> str:
    """Return the verdict with the facts that limit all gaps."""
    words = [str(method.verdict), *(f"{title} undefined" for title in method.undefined)]
    if method.comparability is Comparability.CONSTANT:
        words = ["constant"]
    if method.why_not:
        words.append(method.why_not.partition(":")[0])
    return ", ".join(words)


def _gap(method: FairnessMethod, name: str, *, common: bool = False) -> StudyEntry:
    return StudyEntry(
        method.measure(name, common=common),
        digits_of(name),
        floor=method.floor(name, common=common),
        note=method.groups_note(name, common=common),
    )


def further_table(methods: Sequence[FairnessMethod]) -> StudyTable:
    """Return the measures over groups that `methods_table` leaves out."""
    return StudyTable.of_rows(
        (Heading("method"), *(Heading(MEASURES[name], unit_of(name)) for name in FURTHER)),
        (
            StudyRow(each.name, tuple(_gap(each, name) for name in FURTHER), model=each.model)
            for each in methods
        ),
    )


def groups_table(table: GroupTable, rates: Sequence[str]) -> StudyTable:
    """Return the counts of each group and these of its `RATES`, and those of all images."""
    head = (
        Heading("group"),
        Heading("real", plain="reals"),
        Heading("fake", plain="fakes"),
        *(Heading(RATES[rate], "" if rate == OF_BOTH else "%") for rate in rates),
    )
    return StudyTable.of_rows(
        head, (_group(group, rates) for group in (*table.groups, table.overall))
    )


def _group(group: GroupRow, rates: Sequence[str]) -> StudyRow:
    return StudyRow(
        group.name,
        (
            StudyEntry(str(group.reals)),
            StudyEntry(str(group.fakes)),
            *(StudyEntry(group.rates.get(rate), 3 if rate == OF_BOTH else 1) for rate in rates),
        ),
    )
