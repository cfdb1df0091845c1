"""The option `--page` of both verbs: the same rows as one HTML page."""

from pathlib import Path

import click

page_option = click.option(
    "--page",
    metavar="OUT",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an HTML page that needs no other file; a report in the same folder links to "
    "one with the verb's name.",
)
