"""Findings on groups of people: labels that depend on them, too few images, gaps beyond chance."""

from collections.abc import Iterator, Mapping

from trueface.audit.check import check
from trueface.audit.finding import WARNING, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import UNTESTED, Groups, Model, dependence
from trueface.data.attribute_table import FEW, UNKNOWN, Cells

DEPENDENT = 0.1  # Cramér's V from which on a group tells the class; a small effect by Cohen
BEYOND = 2.0  # times its floor: a gap that is near it may be one of other test images
MOST = 12  # groups that a finding names
NO_ATTRIBUTES = "no setting `attributes` names the groups of its images"


@check("group-tells-label", "labels that depend on the group in training")
def dependent_labels(model: Model) -> Iterator[Outcome]:
    """Find training images whose group tells their class: the detector may learn the group."""
    groups = model.groups
    if groups is None or not groups.train:
        yield _untrained(groups)
        return
    values = {by: dependence(cells) for by, cells in groups.train.items()}
    clear = {by: value for by, value in values.items() if value > DEPENDENT}
    if not clear:
        return
    strongest = max(clear, key=lambda by: clear[by])
    yield Finding(
        severity=WARNING,
        sentence=f"in training the class depends on the group: {strongest}, Cramér's V "
        f"{clear[strongest]:.2f}",
        advice="balance the training by group and class, or weight it (fair: reweight), and compare "
        "the gaps of the two (trueface fairness)",
        evidence={
            **{f"Cramér's V, {by}": round(value, 3) for by, value in clear.items()},
            **_table(groups.train[strongest]),
        },
    )


@check("few-of-a-group", f"fewer than {FEW} test images of a class in a group")
def few_of_a_group(model: Model) -> Iterator[Outcome]:
    """Find groups of a test whose rates are hardly known."""
    groups = model.groups
    if groups is None or not groups.tests:
        yield _unmeasured(model)
        return
    yield from _partly(groups)
    evidence: dict[str, int | float | str] = {}
    for test in groups.tests:
        few = _few(test.cells)
        if few:
            evidence[f"{test.by}, {test.data}"] = _listed(few)
    if evidence:
        yield Finding(
            severity=WARNING,
            sentence=f"the test has groups with fewer than {FEW} images of a class: at that number "
            "a rate is known to ± 18 points",
            advice="test on more images of these groups, or read their rates with their intervals",
            evidence=evidence,
        )


@check("gap-above-floor", f"an FPR gap of more than {BEYOND:g} times its floor")
def gap_above_floor(model: Model) -> Iterator[Outcome]:
    """Find gaps between groups that shuffled groups do not have."""
    groups = model.groups
    if groups is None or not groups.tests:
        yield _unmeasured(model)
        return
    yield from _partly(groups)
    evidence: dict[str, int | float | str] = {}
    for test in groups.tests:
        if test.gap is None or test.floor is None:
            reason = f"{test.data}: fewer than two groups of {test.by} have real images with finite logits"
            yield Gap(reason=reason)
        elif test.gap > BEYOND * test.floor:
            evidence[f"{test.by}, {test.data}"] = (
                f"{test.gap:.1f} points; 95 % of shuffles are below {test.floor:.1f}"
            )
    if evidence:
        yield Finding(
            severity=WARNING,
            sentence="real images of some groups are called fake far more often than those of others",
            advice="look at the groups (trueface fairness), and at the labels of each in training",
            evidence=evidence,
        )


@check("untrained-group", "test images of a group that is not in training")
def untrained_group(model: Model) -> Iterator[Outcome]:
    """Find groups of a test of which the training had no image."""
    groups = model.groups
    if groups is None or not groups.train:
        yield _untrained(groups)
        return
    if not groups.tests:
        yield _unmeasured(model)
        return
    evidence: dict[str, int | float | str] = {}
    for test in groups.tests:
        trained = groups.train.get(test.by)
        if trained is None:
            continue
        new = {
            name: counts
            for name, counts in test.cells.counts.items()
            if name not in trained.counts and name != UNKNOWN
        }
        if new:
            evidence[f"{test.by}, {test.data}"] = _listed(new)
    if evidence:
        yield Finding(
            severity=WARNING,
            sentence="groups of the test have no image in training",
            advice="add images of them to the training, or say that the model is new to them",
            evidence=evidence,
        )


def _untrained(groups: Groups | None) -> Outcome:
    if groups is None:
        return NotApplicable(reason=NO_ATTRIBUTES)
    return Gap(reason=groups.train_trouble or "the table of attributes has no column of groups")


def _unmeasured(model: Model) -> Outcome:
    if model.groups is None:
        return NotApplicable(reason=NO_ATTRIBUTES)
    if not model.tests:
        return Gap(reason=UNTESTED)
    return Gap(reason=model.groups.test_trouble or "no test names images whose groups are known")


def _partly(groups: Groups) -> Iterator[Gap]:
    """Yield why some of several tests could not be looked at."""
    if groups.test_trouble:
        yield Gap(reason=groups.test_trouble)


def _few(cells: Cells) -> dict[str, tuple[int, int]]:
    """Return the groups with fewer than `FEW` images of a class that the test has at all."""
    there = [any(column) for column in zip(*cells.counts.values(), strict=True)]
    return {
        name: counts
        for name, counts in cells.counts.items()
        if name != UNKNOWN
        and min(count for count, any_ in zip(counts, there, strict=True) if any_) < FEW
    }


def _table(cells: Cells) -> dict[str, str]:
    """Return a row for each group; of many the largest."""
    rows = sorted(cells.counts.items(), key=lambda row: -sum(row[1]))
    shown = {name: f"{real} real, {fake} fake" for name, (real, fake) in rows[:MOST]}
    left = len(rows) - len(shown)
    return {**shown, **({"further groups": str(left)} if left > 0 else {})}


def _listed(cells: Mapping[str, tuple[int, int]]) -> str:
    texts = [f"{name} {real} real and {fake} fake" for name, (real, fake) in cells.items()]
    more = f" and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return f"{', '.join(texts[:MOST])}{more}"
