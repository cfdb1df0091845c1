"""A comparison as JSON: the measures of both models, their differences, and the tests."""

from dataclasses import asdict

from trueface.evaluation.comparison.compare import Comparison, Contrast, Paired
from trueface.evaluation.measurement import Report
from trueface.evaluation.metric_registry import METRICS
from trueface.evaluation.source_intervals import sources_json
from trueface.runtime.files import Json

SCHEMA = 1  # of `document`


def document(comparison: Comparison) -> dict[str, Json]:
    """Return a comparison as JSON; a difference is after minus before, fractions are in 0 … 1."""
    whole = _contrast_json(comparison.whole)
    for which, given in (("before", comparison.before), ("after", comparison.after)):
        inputs: dict[str, Json] = {
            "title": given.title,
            "files": [str(file) for file in given.files],
            "notes": [*given.notes],
        }
        whole[which] = {**inputs, **_report_json(getattr(comparison.whole, which))}
    return {
        "schema": SCHEMA,
        **whole,
        "paired": _paired_json(comparison.paired, comparison.unpaired),
        "subsets": {name: _contrast_json(part) for name, part in comparison.subsets.items()},
        "modifiers": {name: _contrast_json(part) for name, part in comparison.modifiers.items()},
    }


def _paired_json(paired: Paired | None, unpaired: str | None) -> dict[str, Json]:
    if paired is None:
        return {"images": 0, "reason": unpaired}
    return {
        "images": len(paired.pairs),
        "joined_by": paired.pairs.joined_by,
        "only_before": paired.pairs.only_first,
        "only_after": paired.pairs.only_second,
        "doubt": paired.pairs.doubt,
        "mcnemar": asdict(paired.mcnemar),
        "delong": None if paired.delong is None else asdict(paired.delong),
        "reason": paired.reason,
        "sources": sources_json(paired.sources),
        "by_source": {name: asdict(test) for name, test in paired.by_source.items()},
    }


def _contrast_json(contrast: Contrast) -> dict[str, Json]:
    reports = {"before": contrast.before, "after": contrast.after}
    return {
        **{
            name: None if report is None else _report_json(report)
            for name, report in reports.items()
        },
        "difference": {
            name: None if value is None else asdict(value)
            for name, value in contrast.difference.items()
        },
        "same_images": contrast.same_images,
    }


def _report_json(report: Report) -> dict[str, Json]:
    whole = {**asdict(report), "sources": sources_json(report.sources)}
    measures = whole.pop("metrics")
    first = {key: whole.pop(key) for key in ("n", "sources")}
    return {**first, **{name: measures.get(name) for name in METRICS}, **whole}
