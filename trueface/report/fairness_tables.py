"""The tables of fairness: methods with their gaps, the other measures over groups, and the rates of each group."""

from collections.abc import Iterator, Mapping, Sequence

from trueface.evaluation.estimate import Estimate
from trueface.evaluation.fairness import (
    LOWER,
    SHOWN,
    TARGET,
    Comparability,
    FairnessMethod,
    FairnessRow,
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
from trueface.report.study_table import (
    Column,
    StudyEntry,
    StudyRow,
    StudyTable,
    decimals,
)
from trueface.runtime.files import Json

AT_COMMON = f"FPR {PERCENT * TARGET:g} % of validation"
GAP_AT_COMMON = f"FPR gap at {TARGET:.0%} FPR"
GROUP_INTERVALS = "95 % intervals over"  # rates and AUC have the same scope
NO_INTERVAL = "no interval is computed for this measure"
NO_REASONS: Mapping[str, str] = {}  # never changed
FURTHER = tuple(name for name in MEASURES if name not in SHOWN)


def verdict(method: FairnessMethod) -> str:
    """Return the verdict of a method for the leaderboard."""
    if method.comparability is Comparability.CONSTANT:
        constant = sum(row.table.constant for row in method.rows)
        every = constant == len(method.rows)
        return "constant" if every else f"constant in {constant} of {len(method.rows)} seeds"
    parts = []
    if method.comparability is Comparability.LOWER_AUC:
        parts = [method.why_not.partition(":")[0] if method.auc else "no AUC, not comparable"]
    seeds, few = len(method.rows), ""
    if method.agreeing < seeds:
        few = f" (in {method.agreeing} of {seeds} seeds alone)"
    undefined = [f"{title} undefined" for title in method.undefined_measures]
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
        Column("method"),
        Column("seeds"),
        Column("AUC", key="auc"),
        Column("AUC of the worst group", plain="AUC of worst group", key="worst_group_auc"),
        *map(_measure, SHOWN),
    ]
    if common:
        gap = _measure(GAP)._replace(plain=f"{GAP_AT_COMMON} %", below=f"at {AT_COMMON}")
        head.append(gap._replace(key=f"{GAP}_at_common_fpr"))
    if rank:
        head.append(Column("rank"))
    head.append(Column("verdict", plain="", key="verdict", is_text=True))
    rows = (_method(each, common, rank) for each in methods)
    return StudyTable.of_rows(head, rows, title=_title(methods), facts=_facts(methods))


def _title(methods: Sequence[FairnessMethod]) -> str:
    """Return the set of images and the grouping of methods that are compared."""
    return " by ".join(methods[0].comparison_key).lstrip() if methods else ""


def _measure(name: str) -> Column:
    """Return the column of a measure over groups."""
    return Column(MEASURES[name], unit_of(name), key=name, form=decimals(digits_of(name)))


def _facts(methods: Sequence[FairnessMethod]) -> Mapping[str, str]:
    """Return what methods that are compared have in common."""
    return dict(zip(("data", "by"), methods[0].comparison_key, strict=True)) if methods else {}


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
    reason = f"AUC {why_not}" if why_not != method.why_not else why_not
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
    words = [str(method.verdict), *(f"{title} undefined" for title in method.undefined_measures)]
    if method.comparability is Comparability.CONSTANT:
        words = ["constant"]
    if method.why_not:
        words.append(method.why_not.partition(":")[0])
    return ", ".join(words)


def _gap(method: FairnessMethod, name: str, *, common: bool = False) -> StudyEntry:
    return StudyEntry(
        method.measure(name, common=common),
        floor=method.floor(name, common=common),
        note=method.groups_note(name, common=common),
    )


def further_table(methods: Sequence[FairnessMethod]) -> StudyTable:
    """Return the measures over groups that `methods_table` leaves out."""
    return StudyTable.of_rows(
        (Column("method"), *map(_measure, FURTHER)),
        (
            StudyRow(each.name, tuple(_gap(each, name) for name in FURTHER), model=each.model)
            for each in methods
        ),
        title=f"all measures over groups, {_title(methods)}",
        facts=_facts(methods),
    )


def groups_table(table: GroupTable, rates: Sequence[str]) -> StudyTable:
    """Return the counts of each group and these of its `RATES`, and those of all images."""
    head = (
        Column("group"),
        Column("real", plain="reals", key="n_real"),
        Column("fake", plain="fakes", key="n_fake"),
        *map(_rate, rates),
    )
    return StudyTable.of_rows(
        head, (_group(group, rates) for group in (*table.groups, table.overall))
    )


def _rate(name: str) -> Column:
    """Return the column of a rate of a group."""
    if name == OF_BOTH:
        return Column(RATES[name], key=name)
    return Column(RATES[name], "%", key=name, form=decimals(1))


def _group(group: GroupRow, rates: Sequence[str], why: Mapping[str, str] = NO_REASONS) -> StudyRow:
    values = (StudyEntry(group.rates.get(rate), why=why.get(rate, "")) for rate in rates)
    counts = StudyEntry(str(group.reals)), StudyEntry(str(group.fakes))
    return StudyRow(group.name, (*counts, *values))


def model_groups_table(row: FairnessRow) -> StudyTable:
    """Return all rates of the groups of one model."""
    named = ", ".join(filter(None, (row.model, row.data)))
    title = f"{named} by {row.by}, with {GROUP_INTERVALS} {row.unit}".lstrip()
    facts = {"model": row.model, "data": row.data, "by": row.by}
    return groups_table(row.table, tuple(RATES))._replace(title=title, facts=facts)


def model_tables(row: FairnessRow) -> Iterator[StudyTable]:
    """Yield all numbers of one model: its AUC, the measures over groups with their floors, the rates of groups."""
    alone = FairnessMethod(row.model, row.model, (row,))
    shared: dict[str, Json] = {
        "model": row.model,
        "data": row.data,
        "by": row.by,
        "verdict": _short_verdict(alone),
    }
    if row.auc is not None:
        auc = StudyRow("", (StudyEntry(row.auc),))
        yield StudyTable((Column("group"), Column("AUC", key="auc")), (auc,), facts=shared)
    for table in filter(None, (row.table, row.common)):
        facts: dict[str, Json] = {**shared, "threshold": table.threshold}
        reasons = {(each.group, each.rate): each.reason for each in table.undefined}
        columns, entries = zip(*_measure_entries(table, reasons), strict=True)
        yield StudyTable((Column("group"), *columns), (StudyRow("", entries),), facts=facts)
        rates = groups_table(table, tuple(RATES))
        rows = (
            _group(
                group, tuple(RATES), {rate: reasons.get((group.name, rate), "") for rate in RATES}
            )
            for group in table.groups
        )
        yield rates._replace(rows=tuple(rows), facts=facts)


def _measure_entries(
    table: GroupTable, reasons: Mapping[tuple[str, str], str]
) -> Iterator[tuple[Column, StudyEntry]]:
    for name, value in table.measures.items():
        column, floor = _measure(name), table.floor.get(name)
        measure = table.intervals.get(name)
        if measure is None and value is not None:
            measure = Estimate(value=value, why=NO_INTERVAL)
        yield column, StudyEntry(measure, why=reasons.get(("", name), ""))
        if floor is not None:
            yield column._replace(key=f"{name}_floor"), StudyEntry(floor.p95)
            yield column._replace(key=f"{name}_floor_mean"), StudyEntry(floor.mean)
        yield column._replace(key=f"{name}_groups"), StudyEntry(table.groups_with(name))
