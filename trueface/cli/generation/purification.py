"""`trueface purification`: what the purifiers of a run restore, and at which price."""

import json
from pathlib import Path

import click

from trueface.audit.reading.model_folders import found_folder
from trueface.cli.studies import page_option, tests_of_run
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json

EXAMPLES = """\b
Examples:
  trueface purification purification
  trueface purification purification --page runs/purification/purification.html
  trueface purification runs/purification --json
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@page_option
def purification(run: str, *, as_json: bool, page: Path | None) -> None:
    """Show the attacks and purifiers of RUN, a name below runs/ or a path.

    A purifier is judged by the damage that an attack leaves which knows it (mse_adaptive), and by its
    price: what it does to clean images. The random control tells an attack from noise.
    """
    run_folder = found_folder(run)
    # torch takes seconds to import; help and wrong names must not wait for it
    from trueface.cli.generation.text import (
        PURIFIERS,
        attack_lines,
        method_lines,
        rows_of_kind,
        verdict_lines,
    )
    from trueface.evaluation.restored import RULE, attack_rows
    from trueface.report.generation.purification_page import (
        Purification,
        sentences,
        write_purification_page,
    )
    from trueface.report.generation.rows import detectors, made_folders, rows_of

    restored = made_folders(run_folder, "restored")
    rows = rows_of_kind("restored", run_folder, restored)
    attacks = attack_rows(run_folder, [made.name for made in restored])
    tested = detectors(run_folder, _results(run_folder))
    if page is not None:
        whole = Purification(
            name=run_folder.name,
            rows=rows,
            attacks=attacks,
            restored=restored,
            detectors=tested,
            rule=RULE,
        )
        write_purification_page(whole, page)
    methods = rows_of(rows)
    if as_json:
        record = {
            "schema": 1,
            "run": run_folder.name,
            "purifiers": rows,
            "attacks": attacks,
            "detectors": [each.record for each in tested],
            "rule": RULE,
            "verdict": list(sentences(methods)),
        }
        click.echo(json.dumps(record))
        return
    lines = [f"purification {run_folder.name}", "", *method_lines(methods, PURIFIERS), ""]
    lines += [*attack_lines(attacks), "", *verdict_lines(sentences(methods))]
    click.echo("\n".join(lines))


def _results(run_folder: Path) -> list[dict[str, Json]]:
    """Return the rows of the run's detectors; none where it tested none."""
    from trueface.evaluation.results import table

    try:
        _, tests = tests_of_run(str(run_folder))
    except DataError:
        return []
    return table(run_folder, tests)
