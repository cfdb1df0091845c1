"""`trueface erasing`: what the diffusers of a run forgot of a concept, and what can be recovered."""

import json
from pathlib import Path

import click

from trueface.audit.reading.model_folders import found_folder
from trueface.cli.studies import page_option

EXAMPLES = """\b
Examples:
  trueface erasing erasing
  trueface erasing erasing --page runs/erasing/erasing.html
  trueface erasing runs/erasing --json
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@page_option
def erasing(run: str, *, as_json: bool, page: Path | None) -> None:
    """Show the erasing methods of RUN, a name below runs/ or a path.

    erased is how often the concept is still drawn at its name, others how well the remaining ones are;
    recovery is how often an attacker with real images gets it back, to be read between its floor and
    ceiling.
    """
    run_folder = found_folder(run)
    # torch takes seconds to import; help and wrong names must not wait for it
    from trueface.cli.generation.text import METHODS, method_lines, rows_of_kind, verdict_lines
    from trueface.erasing.measures.record import RULE
    from trueface.report.generation.erasing_page import Erasing, sentences, write_erasing_page
    from trueface.report.generation.rows import made_folders, rows_of

    erased = made_folders(run_folder, "erased")
    rows = rows_of_kind("erased", run_folder, erased)
    if page is not None:
        whole = Erasing(name=run_folder.name, rows=rows, erased=erased, rule=RULE)
        write_erasing_page(whole, page)
    methods = rows_of(rows)
    if as_json:
        record = {
            "schema": 1,
            "run": run_folder.name,
            "methods": rows,
            "rule": RULE,
            "verdict": list(sentences(methods)),
        }
        click.echo(json.dumps(record))
        return
    lines = [f"erasing {run_folder.name}", "", *method_lines(methods, METHODS), ""]
    click.echo("\n".join([*lines, *verdict_lines(sentences(methods))]))
