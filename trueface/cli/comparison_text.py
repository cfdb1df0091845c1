"""Text of a comparison: the exact report of the original system, followed by our own.

The original printed percentages with two decimals and 0 where a measure is not defined, and its
confusion matrix as pandas prints a frame. Programs that parse such reports still work.
"""

from collections.abc import Iterator, Mapping, Sequence

from trueface.cli.text_tables import align_columns, escape_unprintable, format_with_interval, frame
from trueface.evaluation.comparison import (
    PROBABILITIES,
    Comparison,
    ComparisonInput,
    Contrast,
    PairedTests,
)
from trueface.evaluation.estimate import Estimate, Over, classes_text
from trueface.evaluation.estimates import SourceTest
from trueface.evaluation.measurement import CONSTANT, METRICS, Report
from trueface.evaluation.significance import DeLong, McNemar

LABELS = ("Real", "Fake")
SMALLEST = 1e-300  # least p: below it the arithmetic has no numbers

Confusion = Sequence[Sequence[int]]


def text(comparison: Comparison) -> str:
    """Return the whole report of a comparison, without a last line end."""
    before, after = comparison.whole.before, comparison.whole.after
    blocks = [warned] if (warned := list(_warnings(comparison))) else []
    if before is not None and after is not None:
        blocks += [
            performance(comparison.before.title, before.confusion),
            performance(comparison.after.title, after.confusion),
            net_difference(before.confusion, after.confusion),
        ]
    blocks += [
        _tests(comparison.paired, comparison.unpaired),
        _intervals(comparison.whole),
        _parts("Subset", comparison.subsets),
    ]
    if len(comparison.modifiers) > 1:
        blocks.append(_parts("Modifier", comparison.modifiers))
    if notes := list(_notes(comparison)):
        blocks.append(["### Notes ###", *notes])
    return "\n\n".join("\n".join(block) for block in blocks)


def _warnings(comparison: Comparison) -> Iterator[str]:
    """Yield what makes all that follows worth little."""
    for side, report in (
        (comparison.before, comparison.whole.before),
        (comparison.after, comparison.whole.after),
    ):
        if PROBABILITIES in side.notes:
            yield f"Warning: {escape_unprintable(side.title)}: {PROBABILITIES}."
        if report is not None and (answer := constant_prediction_note(report.confusion)):
            yield (
                f"Warning: {escape_unprintable(side.title)} is a constant predictor: {answer}. Its measures are the "
                "shares of the classes."
            )


def constant_prediction_note(confusion: Confusion) -> str:
    """Return a note on a model that calls (nearly) all images real or fake, otherwise ""."""
    (tn, fp), (fn, tp) = confusion
    total, fakes = tn + fp + fn + tp, fp + tp
    share = max(fakes, total - fakes) / total if total else 0.0
    if share <= CONSTANT or not (tn + fp and fn + tp):
        return ""
    images = "every image" if share == 1 else f"{share:.1%} of the images"
    return f"it calls {images} {'fake' if 2 * fakes > total else 'real'}"


def performance(title: str, confusion: Confusion) -> list[str]:
    """Return the original's block of one model.

    Args:
        title: as in "### Performance <title> ###".
        confusion: rows true real, fake; columns predicted.
    """
    values = confusion_rates(confusion)
    return [
        f"### Performance {escape_unprintable(title)} ###",
        *(f"{name}: {value:.2%}" for name, value in values.items()),
        "Confusion Matrix:",
        *frame(confusion, LABELS, LABELS),
    ]


def net_difference(first_counts: Confusion, second_counts: Confusion) -> list[str]:
    """Return the original's block of differences, of values that are not rounded yet."""
    first, second = confusion_rates(first_counts), confusion_rates(second_counts)
    return [
        "### Net Difference (After - Before) ###",
        *(f"{name} Difference: {second[name] - first[name]:.2%}" for name in first),
    ]


def confusion_rates(confusion: Confusion) -> dict[str, float]:
    """Return the original's four measures; one that is not defined is 0, as it was there."""
    (tn, fp), (fn, tp) = confusion
    return {
        "Accuracy": _share(tn + tp, tn + fp + fn + tp),
        "Precision": _share(tp, tp + fp),
        "Recall": _share(tp, tp + fn),
        "F1 Score": _share(2 * tp, 2 * tp + fp + fn),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _tests(paired_tests: PairedTests | None, unpaired_reason: str | None) -> list[str]:
    if paired_tests is None:
        return ["### Paired Tests ###", f"None: {unpaired_reason}."]
    pairs = paired_tests.pairs
    lines = [
        f"### Paired Tests on {len(pairs)} Images ###",
        f"McNemar: {_mcnemar(paired_tests.mcnemar)}",
        f"DeLong: {paired_tests.reason if paired_tests.delong is None else _delong(paired_tests.delong)}",
        "McNemar and DeLong treat images as independent. They are valid for these sources only.",
        f"By source, {_sources(paired_tests)}: "
        + "; ".join(
            _describe_source_test(name, test) for name, test in paired_tests.by_source.items()
        ),
        f"Images are paired by {pairs.joined_by}",
    ]
    if pairs.only_first or pairs.only_second:
        lines[-1] += f"; left out: {pairs.only_first} only before, {pairs.only_second} only after"
    if pairs.doubt is not None:
        lines.append(f"Doubtful: {pairs.doubt}")
    return lines


def _mcnemar(test: McNemar) -> str:
    chi2 = "" if test.chi2 is None else f" = {test.chi2:.2f}"
    method = test.method.replace("chi²", f"chi²{chi2}", 1)
    return (
        f"{_p(test.p)} ({method}; right only before: {test.only_first}, only after: "
        f"{test.only_second})"
    )


def _delong(test: DeLong) -> str:
    areas = f"AUC {test.first:.4f} before, {test.second:.4f} after"
    if test.p is None:
        return f"{areas}; no p: {test.reason}"
    return f"{_p(test.p)} ({areas}; z = {0.0 if test.z is None else test.z:.2f})"


def _sources(paired_tests: PairedTests) -> str:
    return " and ".join(
        text.removesuffix(" source").removesuffix(" sources").replace(" source (", " (")
        for text in classes_text(paired_tests.sources, paired_tests.over)
    )


def _describe_source_test(name: str, test: SourceTest) -> str:
    metric = METRICS[name]
    subject = metric.heading
    if test.alike:
        return f"{subject} does not differ"
    if test.p is None:
        change = format_with_interval(test.difference, metric.factor)
        return f"{subject} changes equally in every source; over images by {change}"
    return f"{subject} {_p(test.p)} (t, {test.freedom:.1f} degrees of freedom)"


def _p(value: float) -> str:
    return f"p = {value:.3g}" if value > SMALLEST else f"p < {SMALLEST:g}"


def _intervals(whole: Contrast) -> list[str]:
    rows: list[tuple[str, ...]] = [("", "Before", "After", "Difference")]
    for name, metric in METRICS.items():
        title = f"{metric.title} %" if metric.percent else metric.title
        cells = (
            _find_metric(whole.before, name),
            _find_metric(whole.after, name),
            whole.difference[name],
        )
        rows.append((title, *(format_with_interval(cell, metric.factor) for cell in cells)))
    how = "both models on the same images" if whole.same_images else "each model on its own images"
    lines = [f"### 95% Intervals ({how}) ###", *align_columns(rows)]
    reports = [report for report in (whole.before, whole.after) if report]
    if below := " ".join(dict.fromkeys(map(_scope, reports))).strip():
        lines.append(below)
    if any(report.has_two_sources for report in reports):
        units = {
            unit.capitalize()
            for report in reports
            for measure in report.by_images.values()
            for unit in measure.over.values()
        }
        title = f"### 95% Intervals over {' and '.join(sorted(units))} of These Sources ###"
        lines += ["", title, *_image_interval_lines(whole)]
    return lines


def _image_interval_lines(whole: Contrast) -> list[str]:
    """Return the table of intervals over images, of classes that have two sources."""
    rows: list[tuple[str, ...]] = [("", "Before", "After")]
    for name, metric in METRICS.items():
        title = f"{metric.title} %" if metric.percent else metric.title
        measures = (_find_metric(report, name) for report in (whole.before, whole.after))
        cells = (None if measure is None else measure.by_images for measure in measures)
        rows.append((title, *(format_with_interval(cell, metric.factor) for cell in cells)))
    return align_columns(rows)


def _scope(report: Report) -> str:
    """Return what the intervals are for, if a class has few sources."""
    few = report.few_sources
    if not few:
        return ""
    levels = set(report.over.values())
    if levels == {Over.SOURCES}:
        scope = "Intervals are for new sources."
    elif Over.SOURCES in levels:
        scope = (
            "Intervals are for new sources of a class that has several, and only for new images or videos of "
            "the other class's source."
        )
    else:
        scope = f"Intervals are for new {' and '.join(sorted(levels))} of these sources only."
    return f"Sources: {few}. {scope} With so few sources or images, they may be too narrow."


def _parts(title: str, parts: Mapping[str, Contrast]) -> list[str]:
    rows: list[tuple[str, ...]] = [(title, "Images", "Before", "After", "Difference")]
    for name, part in parts.items():
        counts = [report.n for report in (part.before, part.after) if report is not None]
        images = str(counts[0]) if len(set(counts)) == 1 else "/".join(map(str, counts))
        cells = (
            _find_metric(part.before, "accuracy"),
            _find_metric(part.after, "accuracy"),
            part.difference["accuracy"],
        )
        rows.append(
            (escape_unprintable(name), images, *(format_with_interval(cell, 100) for cell in cells))
        )
    return [f"### Accuracy in % by {title} ###", *align_columns(rows)]


def _find_metric(report: Report | None, name: str) -> Estimate | None:
    return None if report is None else report.metrics.get(name)


def _notes(comparison: Comparison) -> Iterator[str]:
    sides = (comparison.before, comparison.whole.before), (comparison.after, comparison.whole.after)
    for compared, report in sides:
        yield from (f"{compared.title}: {note}" for note in _notes_of(compared, report))


def _notes_of(comparison: ComparisonInput, report: Report | None) -> Iterator[str]:
    yield from (note for note in comparison.notes if note != PROBABILITIES)  # said at the beginning
    if report is None:
        return
    if report.verdict:
        yield f"verdict: {report.verdict}"
    by_reason: dict[str, list[str]] = {}
    for name, reason in report.reasons.items():
        by_reason.setdefault(reason, []).append(METRICS[name].title)
    for reason, names in by_reason.items():
        yield f"not defined because {reason}: {', '.join(names)}"
