"""`trueface qualities`: the models of a run on the same images in several qualities."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from trueface.cli.studies import STANDARD_OUTPUT, page_option, tests_of_run, write_csv
from trueface.cli.text_tables import aligned, shown
from trueface.evaluation.intervals import Measure
from trueface.evaluation.qualities import SUMMARIES, QualityRow
from trueface.evaluation.score_tables import without_seed
from trueface.runtime.errors import DataError

NOTHING = "–"
CSV_HEADER = ("model", "data", "quality", "measure", "value", "low", "high")
Place = tuple[str, tuple[str, ...]]  # set of images and qualities


def text(name: str, rows: Sequence[QualityRow]) -> str:
    """Return tables of AUC and of mean scores by quality, and the differences to the reference."""
    lines = [
        f"qualities {shown(name)}: AUC, ± over seeds; of one seed its 95 % interval over images"
    ]
    for place in dict.fromkeys(map(_place, rows)):
        methods: dict[str, list[QualityRow]] = {}
        for row in rows:
            if _place(row) == place:
                methods.setdefault(without_seed(row.model), []).append(row)
        data, names = place
        lines += ["", shown(data), "", *_areas(methods, names)]
        lines += [
            "",
            "mean probability of a fake, of reals / of fakes",
            "",
            *_scores(methods, names),
        ]
        lines += _notes(methods)
    return "\n".join(lines)


def document(name: str, rows: Sequence[QualityRow]) -> dict[str, Any]:
    """Return all of it as one JSON object."""
    return {"schema": 1, "run": name, "models": [row.record for row in rows]}


def csv_rows(rows: Sequence[QualityRow]) -> Iterator[tuple[object, ...]]:
    """Yield a line for each number; `quality` is empty for those over qualities."""
    for row in rows:
        head = (row.model, row.data)
        for each in row.qualities:
            yield (*head, each.name, "auc", *_bounds(each.auc))
            yield (*head, each.name, "acc", *_bounds(each.accuracy))
            yield (*head, each.name, "mean_real", each.real_score, "", "")
            yield (*head, each.name, "mean_fake", each.fake_score, "", "")
        for name in SUMMARIES:
            yield (*head, "", name, *_bounds(row.summaries[name]))
        if row.against is not None:
            for name, change in (*row.against.summaries.items(), *row.against.qualities.items()):
                quality = "" if name in SUMMARIES else name
                measure = f"{name if name in SUMMARIES else 'auc'}_minus_{row.against.model}"
                yield (*head, quality, measure, change.value, change.low, change.high)


def _place(row: QualityRow) -> Place:
    return row.data, tuple(each.name for each in row.qualities)


def _areas(methods: Mapping[str, Sequence[QualityRow]], names: Sequence[str]) -> list[str]:
    listed = [("method", "seeds", *names, *SUMMARIES)]
    for method, rows in methods.items():
        columns = [[row.qualities[at].auc for row in rows] for at in range(len(names))]
        columns += [[row.summaries[name] for row in rows] for name in SUMMARIES]
        listed.append((shown(method), str(len(rows)), *map(_over_seeds, columns)))
    return aligned(listed)


def _scores(methods: Mapping[str, Sequence[QualityRow]], names: Sequence[str]) -> list[str]:
    listed = [("method", *names)]
    for method, rows in methods.items():
        cells = []
        for at in range(len(names)):
            reals = [row.qualities[at].real_score for row in rows]
            fakes = [row.qualities[at].fake_score for row in rows]
            cells.append(f"{_mean(reals)} / {_mean(fakes)}")
        listed.append((shown(method), *cells))
    return aligned(listed)


def _notes(methods: Mapping[str, Sequence[QualityRow]]) -> list[str]:
    lines = []
    for method, rows in methods.items():
        against = rows[0].against
        if against is not None:
            for name, change in against.summaries.items():
                lines.append(
                    f"{shown(method)} - {shown(against.model)}, {name}: {100 * change.value:+.1f} "
                    f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}] points: {change.word}"
                )
        elif rows[0].why_not:
            lines.append(f"{shown(method)}: {shown(rows[0].why_not)}")
    left_out = {row.left_out for rows in methods.values() for row in rows if row.left_out}
    lines += [f"left out: {count} images without every quality" for count in sorted(left_out)]
    return ["", *lines] if lines else []


def _over_seeds(measures: Sequence[Measure | None]) -> str:
    known = [measure for measure in measures if measure is not None]
    if len(known) < len(measures):
        return NOTHING
    if len(known) == 1:
        (only,) = known
        return f"{only.value:.3f} [{only.low:.3f}, {only.high:.3f}]"
    values = [measure.value for measure in known]
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.2f}" if known else NOTHING


def _bounds(measure: Measure | None) -> tuple[object, object, object]:
    return ("", "", "") if measure is None else (measure.value, measure.low, measure.high)


EXAMPLES = """\b
Examples:
  trueface qualities quality
  trueface qualities quality --against real --qualities raw,jpeg75,jpeg50
  trueface qualities quality --page runs/quality/qualities.html
  trueface qualities runs/quality --json
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option(
    "--against",
    metavar="MODEL",
    default="",
    help="Reference: ID of a model, or that without its seed; the others are compared with it.",
)
@click.option(
    "--qualities",
    "names",
    metavar="NAME[,…]",
    default="",
    help="Qualities in their order.  [default: all, raw first]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@page_option
@click.option(
    "--csv", "csv_out", metavar="OUT", help="Write a long table, one number a line; - prints it."
)
def qualities(
    run: str,
    *,
    against: str,
    names: str,
    as_json: bool,
    csv_out: str | None,
    page: Path | None,
) -> None:
    """Show the models of RUN, a name below runs/ or a path, on each quality of their test images.

    A quality is the corruption of a test (`corrupt: [none, jpeg75, jpeg50]`); raw is none. mean and
    worst are over qualities; pooled is one AUC of all qualities together, lower than the mean where
    scores shift with the quality. Intervals are 95 % over images, the same for all qualities and
    models, and over seeds where there are three. Models whose names differ in their seed alone are repetitions.
    """
    run_folder, tests = tests_of_run(run)
    # scipy takes a second to import; help and wrong names must not wait for it
    from trueface.evaluation.qualities import quality_rows

    chosen = [word.strip() for word in names.split(",") if word.strip()]
    rows = quality_rows(run_folder, tests, reference=against, qualities=chosen)
    if not rows:
        raise DataError(
            f"no model of {run_folder.name} was tested on the same images in two qualities: write "
            "`corrupt: [none, jpeg75, jpeg50]` into the tests of its task file"
        )
    if csv_out is not None:
        write_csv(csv_out, CSV_HEADER, csv_rows(rows))
    if page is not None:
        # jinja2 and Pillow are not needed otherwise
        from trueface.report.qualities.page import write_quality_page

        write_quality_page(rows, page, name=run_folder.name, run=run_folder)
    if as_json:
        click.echo(json.dumps(document(run_folder.name, rows)))
    elif csv_out != STANDARD_OUTPUT:
        click.echo(text(run_folder.name, rows))
